"""Write many rows of r2maint's own tables at once, in place of what they held before."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, tzinfo
from functools import lru_cache
from itertools import chain
from typing import Any

from django.db import connections, models, transaction
from django.db.models.constants import OnConflict

from r2maint.models import UtcDateTimeField
from r2maint.scratch.batches import batched

PARAMETERS = 900
"""SQLite before 3.32 takes at most 999."""


@dataclass(frozen=True, slots=True)
class Upsert:
    """Rows of one table that are told apart by `unique`, and keep nothing of `updated`."""

    model: type[models.Model]
    unique: tuple[str, ...]
    fixed: tuple[str, ...]
    """Columns that follow from `unique`."""
    updated: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """The order of the values in a row."""
        return (*self.unique, *self.fixed, *self.updated)

    def write(self, alias: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """Insert or update all rows in one transaction.

        Given in the order of `unique`, two writers never wait for each other in a circle.
        """
        with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
            if connections[alias].vendor == "sqlite":
                # No way to a server: one row at a time costs less than one long statement.
                lazily: Any = rows  # sqlite3 takes any iterable; the stubs ask for a sequence
                cursor.executemany(_statement(alias, self, 1), lazily)
                return
            for batch in batched(rows, PARAMETERS // len(self.columns)):
                cursor.execute(_statement(alias, self, len(batch)), [*chain.from_iterable(batch)])


@lru_cache(maxsize=16)
def _statement(alias: str, upsert: Upsert, rows: int) -> str:
    ops, options = connections[alias].ops, upsert.model._meta
    row = f"({', '.join(['%s'] * len(upsert.columns))})"
    fields = [options.get_field(name) for name in upsert.columns]
    columns = ", ".join(map(ops.quote_name, upsert.columns))
    conflict = ops.on_conflict_suffix_sql(fields, OnConflict.UPDATE, upsert.updated, upsert.unique)
    return (
        f"INSERT INTO {ops.quote_name(options.db_table)} ({columns})"
        f" VALUES {', '.join([row] * rows)} {conflict}"
    )


def parameter(alias: str, time: datetime | None) -> Any:
    """Return a time as the driver of a database takes it."""
    return _adapted(alias, time, connections[alias].timezone)


@lru_cache(maxsize=4096)
def _adapted(alias: str, time: datetime | None, timezone: tzinfo | None) -> Any:
    # Settings decide by `timezone`, which a test may change.
    return UtcDateTimeField().get_db_prep_value(time, connections[alias])
