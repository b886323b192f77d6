"""Lines of the journal as they are written: values, and one INSERT for many of them.

What is read back is a `Change`. Making one takes ten times as long as making an entry, and
`bulk_create` prepares every value of every line by itself.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from dataclasses import field as field_of
from datetime import datetime
from itertools import chain
from typing import Any

from django.db import connections, models

from r2maint.models import Change, ChangeState
from r2maint.scratch.batches import batched

_BATCH = 500


@dataclass(slots=True, kw_only=True)
class Entry:
    """A `Change` that is to be written; see there what each field means."""

    kind: str
    pk: int | None = None
    """Known once it is written."""
    run_id: str = ""
    state: str = ChangeState.INTENDED
    database: str = ""
    model: str = ""
    row: str = ""
    field: str = ""
    path: str = ""
    shape: str = ""
    made: list[bool] = field_of(default_factory=list)
    old: str = ""
    new: str = ""
    old_key: str = ""
    key: str = ""
    sha256: str = ""
    etag: str = ""
    bytes: int | None = None
    extra: dict[str, Any] = field_of(default_factory=dict)
    at: datetime | None = None


def insert_entries(alias: str, entries: Sequence[Entry]) -> None:
    """Insert the lines, and learn the id of each: how it ended is written to it later."""
    connection = connections[alias]
    if not connection.features.can_return_rows_from_bulk_insert:
        for entry in entries:
            change = Change(**asdict(entry))
            change.save(using=alias, force_insert=True)
            entry.pk = change.pk
        return
    columns = [each for each in Change._meta.concrete_fields if not each.primary_key]
    by_column = connection.vendor == "postgresql"
    size = _BATCH if by_column else (connection.features.max_query_params or 10_000) // len(columns)
    for batch in batched(entries, size):
        given = [_values(connection, column, batch) for column in columns]
        with connection.cursor() as cursor:
            if by_column:
                # One array a column: a thousandth of the parameters to quote and to parse.
                cursor.execute(_insertion(connection, columns, _unnested(columns)), given)
            else:
                line = f"({', '.join(['%s'] * len(columns))})"
                lines = f"VALUES {', '.join([line] * len(batch))}"
                values = list(chain.from_iterable(zip(*given, strict=True)))
                cursor.execute(_insertion(connection, columns, lines), values)
            for entry, (pk,) in zip(batch, cursor.fetchall(), strict=True):
                entry.pk = pk


_Columns = Sequence["models.Field[Any, Any]"]


def _insertion(connection: Any, columns: _Columns, lines: str) -> str:
    quote = connection.ops.quote_name
    names = ", ".join(quote(column.column) for column in columns)
    table, pk = quote(Change._meta.db_table), quote(Change._meta.pk.column)
    return f"INSERT INTO {table} ({names}) {lines} RETURNING {pk}"


def _unnested(columns: _Columns) -> str:
    arrays = (f"%s::{_ARRAYS.get(column.get_internal_type(), 'text')}[]" for column in columns)
    return f"SELECT * FROM unnest({', '.join(arrays)})"


_ARRAYS = {"JSONField": "jsonb", "DateTimeField": "timestamptz", "BigIntegerField": "bigint"}


def _values(connection: Any, column: models.Field[Any, Any], entries: Sequence[Entry]) -> list[Any]:
    given = [getattr(entry, column.attname) for entry in entries]
    if isinstance(column, models.JSONField):
        # Most are empty, and say so in the same two characters.
        return [json.dumps(value) if value else str(value) for value in given]
    if isinstance(column, models.DateTimeField):
        prepared = {at: column.get_db_prep_save(at, connection) for at in set(given)}
        return [prepared[at] for at in given]
    return given
