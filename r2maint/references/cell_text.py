"""The stored text of a cell: how each database shows it, and compares it byte for byte.

Django decodes JSON and compares decoded values, which never match other spellings of the same
document. Here the text is read as it is stored, and compared in a binary collation.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple

from django.db import connections
from django.db.models import Expression, F, Func, TextField

from r2maint.references.column import Column, ColumnKind
from r2maint.scratch.batches import batched


def text_sql(vendor: str, operand: str, kind: ColumnKind) -> str:
    """Return the SQL that shows a cell's stored text; of an array, its JSON."""
    if vendor == "postgresql":
        whole = f"array_to_json({operand})" if kind is ColumnKind.ARRAY else operand
        return f"({whole})::text"
    if vendor == "mysql":
        return f"CONVERT({operand} USING utf8mb4)"
    return f"CAST({operand} AS TEXT)"


def equals_sql(vendor: str, operand: str, kind: ColumnKind) -> str:
    """Return the condition that a cell's stored text is, byte for byte, the parameter.

    A CAST keeps the column's collation on SQLite, so that NOCASE would be the comparison's.
    Source: sqlite.org/datatype3.html §7.1.
    """
    text = text_sql(vendor, operand, kind)
    if vendor == "postgresql":
        return f'{text} COLLATE "C" = %s'
    if vendor == "mysql":
        # BINARY, a CAST, would be NULL for a cell longer than max_allowed_packet.
        return f"CONVERT({text} USING binary) = %s"
    return f"{text} COLLATE BINARY = %s"


class StoredText(Func):
    """The stored text of a column, for `values_list`."""

    output_field = TextField()

    def __init__(self, column: Column) -> None:
        super().__init__(F(column.field))
        self.kind = column.kind

    def as_sql(  # type: ignore[override]
        self, compiler: Any, connection: Any, **extra: Any
    ) -> tuple[str, Any]:
        (operand,) = self.get_source_expressions()
        assert isinstance(operand, Expression)
        sql, params = compiler.compile(operand)
        return text_sql(connection.vendor, sql, self.kind), params


class Swap(NamedTuple):
    """The new texts of one row, and the old ones they were made from, by field name."""

    pk: Any
    old: Mapping[str, str | None]
    new: Mapping[str, str]


def update_row(columns: Mapping[str, Column], row: Swap, extra: Mapping[str, int | None]) -> bool:
    """Send one UPDATE that sets `new` where the cells still hold `old`; True when they did.

    `extra` are further columns, set without being compared.
    """
    names = tuple(row.new)
    column = columns[names[0]]
    connection = connections[column.database]
    options: Any = column.model_class._meta
    values = [_parameter(columns[name], text) for name, text in row.new.items()]
    values += [options.get_field(n).get_db_prep_save(v, connection) for n, v in extra.items()]
    compared = [
        options.pk.get_db_prep_value(row.pk, connection),
        *(row.old[name] for name in names),
    ]
    cells = tuple((columns[name].column, columns[name].kind) for name in names)
    others = tuple(options.get_field(name).column for name in extra)
    statement = _statement(column.database, column.table, column.pk_column, cells, others)
    with connection.cursor() as cursor:
        cursor.execute(statement, [*values, *compared])
        return bool(cursor.rowcount)


@lru_cache(maxsize=256)
def _statement(
    alias: str,
    table: str,
    pk_column: str,
    cells: tuple[tuple[str, ColumnKind], ...],
    others: tuple[str, ...],
) -> str:
    connection = connections[alias]
    quote = connection.ops.quote_name
    sets = [f"{quote(name)} = {_new_sql(quote(name), kind)}" for name, kind in cells]
    sets += [f"{quote(name)} = %s" for name in others]
    conditions = [f"{quote(pk_column)} = %s"]
    conditions += [equals_sql(connection.vendor, quote(name), kind) for name, kind in cells]
    return f"UPDATE {quote(table)} SET {', '.join(sets)} WHERE {' AND '.join(conditions)}"


def _new_sql(operand: str, kind: ColumnKind) -> str:
    """Return the SQL of a cell's new value, whose text is the parameter.

    An array keeps its bounds, which neither JSON nor a list of Python can say: "[0:1]={a,b}".
    """
    return f"(array_dims({operand}) || '=' || %s)::text[]" if kind is ColumnKind.ARRAY else "%s"


def can_update_together(columns: Iterable[Column]) -> bool:
    """Tell whether `update_rows` takes rows with these cells."""
    return all(_takes_many(connections[column.database], column.kind) for column in columns)


def _takes_many(connection: Any, kind: ColumnKind) -> bool:
    if connection.vendor == "postgresql":
        return kind is not ColumnKind.ARRAY
    # UPDATE FROM came to SQLite with 3.33, RETURNING with 3.35.
    has_both = bool(connection.features.can_return_rows_from_bulk_insert)
    return has_both and connection.vendor == "sqlite"


def update_rows(columns: Sequence[Column], rows: Sequence[Swap]) -> set[Any]:
    """Update many rows that swap the same cells at once; return the keys of those it did.

    Each is compared as `update_row` compares it: PostgreSQL looks again at a row that another
    transaction changed while this one waited for it. A column whose type is not the model's own may
    refuse it: django.db.ProgrammingError.
    """
    first = columns[0]
    connection = connections[first.database]
    options: Any = first.model_class._meta
    names = [column.field for column in columns]
    given = [
        (
            options.pk.get_db_prep_value(row.pk, connection),
            *(side[name] for name in names for side in (row.old, row.new)),
        )
        for row in rows
    ]
    by_array = connection.vendor == "postgresql"
    update = _update_by_arrays if by_array else _update_by_values
    return {options.pk.to_python(pk) for pk in update(connection, columns, given)}


_Given = Sequence[tuple[Any, ...]]
"""Of each row its key, and of each of its cells the old text and the new one."""


def _update_by_arrays(connection: Any, columns: Sequence[Column], given: _Given) -> list[Any]:
    pk: Any = columns[0].model_class._meta.pk
    arrays = [f"%s::{pk.rel_db_type(connection)}[]", *["%s::text[]"] * 2 * len(columns)]
    source = f"unnest({', '.join(arrays)}) AS {_aliases(columns)}"
    statement = _joined(connection, columns, source)
    with connection.cursor() as cursor:
        cursor.execute(statement, [list(values) for values in zip(*given, strict=True)])
        return [pk for (pk,) in cursor.fetchall()]


def _update_by_values(connection: Any, columns: Sequence[Column], given: _Given) -> list[Any]:
    updated: list[Any] = []
    width = len(given[0])
    line = f"({', '.join(['%s'] * width)})"
    with connection.cursor() as cursor:
        for batch in batched(given, connection.features.max_query_params // width):
            lines = ", ".join([line] * len(batch))
            values = f"WITH {_aliases(columns)} AS (VALUES {lines}) "
            cursor.execute(values + _joined(connection, columns, "v"), list(chain(*batch)))
            updated += [pk for (pk,) in cursor.fetchall()]
    return updated


def _aliases(columns: Sequence[Column]) -> str:
    names = [f"{side}{number}" for number in range(len(columns)) for side in ("old", "new")]
    return f"v({', '.join(['pk', *names])})"


def _joined(connection: Any, columns: Sequence[Column], source: str) -> str:
    """Return the UPDATE of the rows that `source`, named v, gives."""
    quote = connection.ops.quote_name
    is_postgres = connection.vendor == "postgresql"
    first = columns[0]
    pk = quote(first.pk_column)
    sets, conditions = [], [f"t.{pk} = v.pk"]
    for number, column in enumerate(columns):
        # A cast to the column's type would cut text to its length, and spell json as jsonb does.
        cast = "::json" if is_postgres and column.kind is ColumnKind.JSON else ""
        sets.append(f"{quote(column.column)} = v.new{number}{cast}")
        compared = equals_sql(connection.vendor, f"t.{quote(column.column)}", column.kind)
        conditions.append(compared.replace("%s", f"v.old{number}"))
    # SQLite's RETURNING knows the columns of the table alone, and not under its alias.
    returned = f"t.{pk}" if is_postgres else pk
    return (
        f"UPDATE {quote(first.table)} AS t SET {', '.join(sets)} FROM {source}"
        f" WHERE {' AND '.join(conditions)} RETURNING {returned}"
    )


def _parameter(column: Column, text: str) -> str:
    return _array_literal(json.loads(text)) if column.kind is ColumnKind.ARRAY else text


def _array_literal(value: list[Any] | str | None) -> str:
    """Return an array as PostgreSQL reads it from text.

    Source: https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO
    """
    if isinstance(value, list):
        return f"{{{','.join(map(_array_literal, value))}}}"
    if value is None:
        return "NULL"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
