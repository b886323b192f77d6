"""What the database made of an UPDATE: rows are read again in the transaction that wrote them.

A trigger, a rule, a view or a column's type may store something else than what was sent, and no
UPDATE says so: RETURNING is evaluated before AFTER triggers.
Source: sqlite.org/lang_returning.html §3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any, NamedTuple

from django.db import connections
from django.db.models.query import QuerySet

from r2maint.keys import redact
from r2maint.references import json_text
from r2maint.references.cell_text import StoredText
from r2maint.references.column import Column, ColumnKind
from r2maint.references.edit_cell import Rewrite, elements_at
from r2maint.references.reference import Shape
from r2maint.references.rewrite_row import RowRewrite
from r2maint.scratch.batches import batched

_BATCH = 200
"""Rows of one SELECT: their keys are parameters."""
_SHOWN = 200
"""Characters of a value that came back: a trigger may have stored any length."""


class Held(NamedTuple):
    """A row and the stored texts that it must hold, by field."""

    row: RowRewrite
    texts: Mapping[str, str | None]


class Altered(NamedTuple):
    """A row that does not hold what it must, and what it holds."""

    row: RowRewrite
    cells: Mapping[str, str | None] | None
    """Stored text by field; None when the row is gone."""


def run_deferred_triggers(alias: str) -> None:
    """Have PostgreSQL run now what it would run at the commit, when nothing can be read back."""
    connection = connections[alias]
    if connection.vendor == "postgresql":
        connection.check_constraints()  # immediate, then deferred again


def find_altered(held: Iterable[Held]) -> list[Altered]:
    """Return the rows that hold something else; those of one model are read together."""
    altered: list[Altered] = []
    for _, group in groupby(held, key=lambda each: (each.row.database, each.row.model)):
        for batch in batched(group, _BATCH):
            found = _read(batch)
            for row, texts in batch:
                cells = found.get(row.pk)
                if cells is None or not all(
                    _is_same(row.columns[name], text, cells[name]) for name, text in texts.items()
                ):
                    altered.append(Altered(row, cells))
    return altered


def _read(held: Iterable[Held]) -> dict[Any, dict[str, str | None]]:
    columns = {name: column for row, _ in held for name, column in row.columns.items()}
    first = next(iter(columns.values()))
    query: QuerySet[Any] = QuerySet(first.model_class, using=first.database)
    query = query.filter(pk__in=[row.pk for row, _ in held]).order_by()
    found = query.values_list("pk", *map(StoredText, columns.values()))
    return {pk: dict(zip(columns, texts, strict=True)) for pk, *texts in found}


def _is_same(column: Column, meant: str | None, stored: str | None) -> bool:
    if meant == stored or meant is None or stored is None:
        return meant == stored
    # PostgreSQL writes jsonb and arrays with escapes of its own.
    has_own_escapes = column.kind in (ColumnKind.JSON, ColumnKind.ARRAY)
    if has_own_escapes and connections[column.database].vendor == "postgresql":
        return json_text.is_same(meant, stored)
    return False


def describe(rewrite: Rewrite, row: RowRewrite, altered: Iterable[Altered]) -> str:
    """Return what came back in place of a rewrite's new value, as a report may show it."""
    mine = next((each for each in altered if each.row is row), None)
    if mine is None:
        return "the database changed another row with it"
    if mine.cells is None:
        return "the database removed the row"
    at = rewrite.reference
    text = mine.cells.get(at.field)
    if text is None:
        return "the database stored NULL instead"
    if at.shape is Shape.EMBEDDED:
        return "the database stored another text instead"  # the rest of a text is nobody's business
    values = elements_at(row.columns[at.field].kind, text, at.path)
    if not values or rewrite.new in values:
        return "the database changed the row otherwise"
    return f"the database stored {redact(values[0])[:_SHOWN]!r} instead"
