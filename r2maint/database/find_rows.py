"""In which rows of a table some text stands: primary keys by the catalogue, no model needed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from r2maint.database.snapshot import iter_batches, joined, split
from r2maint.database.text_table import TextTable

Names = Callable[[str], Iterable[str]]
"""Returns what a piece of text names."""
Texts = Callable[[str, str], Iterable[str]]
"""Given a column and some of its cells: the texts that are searched."""

_PRIVATE = re.compile(
    r"key|token|secret|passw|session|hash|auth|signature|mail|phone|user", re.IGNORECASE
)
"""Columns whose text may open a door or be somebody's name, such as the key of a session."""
_TEXT = ("char", "text", "clob", "bytea", "json")

_POSTGRESQL = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod)
  FROM pg_catalog.pg_index i
  JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey)
 WHERE i.indrelid = %s::regclass AND i.indisprimary
 ORDER BY array_position(i.indkey::int2[], a.attnum)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """One cell that names something."""

    column: str
    row: Mapping[str, str]
    """Primary key, column by column; else where the row lies ("ctid", "rowid"); {} for neither."""
    cell: str
    """Its whole text: for the search alone."""
    names: frozenset[str]


def find_cells(
    connection: BaseDatabaseWrapper,
    table: TextTable,
    columns: Sequence[str],
    names: Names,
    texts: Texts,
) -> Iterator[Hit]:
    """Yield the cells of these columns that name anything, in one pass over the table.

    Cells are searched many at once, and one by one only where something was found.
    """
    ids = _identifying(connection, table)
    selected = [f"{_cast(connection, sql)} AS r{at}" for at, sql in enumerate(ids.values())]
    wide = replace(
        table,
        columns=(*ids, *table.columns),
        sql=f"SELECT {', '.join([*selected, table.sql.removeprefix('SELECT ')])}",
    )
    every = enumerate(table.columns, len(ids))
    places = [(at, column) for at, column in every if column in columns]
    for rows in iter_batches(connection, wide):
        for at, column in places:
            held = [row for row in rows if row[at]]
            if held and _named(joined(row[at] for row in held), column, names, texts):
                yield from _hits(held, at, column, tuple(ids), names, texts)


def _hits(
    rows: list[tuple[Any, ...]],
    at: int,
    column: str,
    ids: tuple[str, ...],
    names: Names,
    texts: Texts,
) -> Iterator[Hit]:
    for row in rows:
        cell = joined([row[at]])
        if found := _named(cell, column, names, texts):
            told = [joined([value]) if value else "" for value in row[: len(ids)]]
            row_id = dict(zip(ids, told, strict=True))
            yield Hit(column=column, row=row_id, cell=cell, names=found)


def _named(text: str, column: str, names: Names, texts: Texts) -> frozenset[str]:
    pieces = (piece for each in texts(column, text) for piece in split(each))
    return frozenset().union(*map(names, pieces))


def _identifying(connection: BaseDatabaseWrapper, table: TextTable) -> dict[str, str]:
    """Return what tells a row from others: name -> SQL. Nothing private is among it."""
    if not table.is_counted:
        return {}  # the schema has no rows of its own
    keys = dict(_primary_key(connection, table))
    if keys and not any(map(_is_private, keys.items())):
        return {name: connection.ops.quote_name(name) for name in keys}
    if connection.vendor == "postgresql":
        return {"ctid": "ctid"}
    return {"rowid": "rowid"} if _has_rowid(connection, table) else {}


def _is_private(column: tuple[str, str]) -> bool:
    name, kind = column
    return any(word in kind.lower() for word in _TEXT) and bool(_PRIVATE.search(name))


def _primary_key(connection: BaseDatabaseWrapper, table: TextTable) -> Iterator[tuple[str, str]]:
    """Yield the columns of the primary key, in its order, with their types."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(_POSTGRESQL, [_origin(table).removeprefix("ONLY ")])
            yield from cursor.fetchall()
        elif connection.vendor == "sqlite":
            sql = "SELECT name, type FROM pragma_table_xinfo(%s) WHERE pk > 0 ORDER BY pk"
            cursor.execute(sql, [table.name])
            yield from cursor.fetchall()
        else:
            names = connection.introspection.get_primary_key_columns(cursor, table.name)
            # Of an unknown type: as if it were text.
            yield from ((name, "text") for name in names or ())


def _has_rowid(connection: BaseDatabaseWrapper, table: TextTable) -> bool:
    if connection.vendor != "sqlite":
        return False
    sql = "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = %s"
    with connection.cursor() as cursor:
        cursor.execute(sql, [table.name])
        row = cursor.fetchone()
    return row is None or not re.search(r"\bWITHOUT\s+ROWID\b", row[0], re.IGNORECASE)


def _origin(table: TextTable) -> str:
    return table.sql.rpartition(" FROM ")[2]


def _cast(connection: BaseDatabaseWrapper, sql: str) -> str:
    return f"CAST({sql} AS {'CHAR' if connection.vendor == 'mysql' else 'TEXT'})"
