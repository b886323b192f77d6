"""The stored text of a cell: how each database shows it, and compares it byte for byte.

Django decodes JSON and compares decoded values, which never match other spellings of the same
document. Here the text is read as it is stored, and compared in a binary collation.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from django.db import connections
from django.db.models import Expression, F, Func, TextField

from r2maint.references.columns import Column, ColumnKind


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
        return f"BINARY {text} = %s"
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
    sets = [f"{quote(name)} = %s" for name in (*(name for name, _ in cells), *others)]
    conditions = [f"{quote(pk_column)} = %s"]
    conditions += [equals_sql(connection.vendor, quote(name), kind) for name, kind in cells]
    return f"UPDATE {quote(table)} SET {', '.join(sets)} WHERE {' AND '.join(conditions)}"


def can_update_together(columns: Iterable[Column]) -> bool:
    """Tell whether `update_rows` takes rows with these cells."""
    return all(
        connections[column.database].vendor == "postgresql" and column.kind is not ColumnKind.ARRAY
        for column in columns
    )


def update_rows(columns: Sequence[Column], rows: Sequence[Swap]) -> set[Any]:
    """Send one UPDATE for rows that swap the same cells; return the keys of those that did.

    A round trip for all of them, and each is compared as `update_row` compares it: PostgreSQL looks
    again at a row that another transaction changed while this one waited for it. A column whose
    type is not the model's own may refuse it: django.db.ProgrammingError.
    """
    first = columns[0]
    connection = connections[first.database]
    quote = connection.ops.quote_name
    options: Any = first.model_class._meta
    names = [column.field for column in columns]
    sets, conditions = [], [f"t.{quote(first.pk_column)} = v.pk"]
    for number, column in enumerate(columns):
        operand = f"t.{quote(column.column)}"
        # A cast to the column's type would cut text to its length, and spell json as jsonb does.
        cast = "::json" if column.kind is ColumnKind.JSON else ""
        sets.append(f"{quote(column.column)} = v.new{number}{cast}")
        compared = equals_sql("postgresql", operand, column.kind)
        conditions.append(compared.replace("%s", f"v.old{number}"))
    arrays = [f"%s::{options.pk.rel_db_type(connection)}[]", *["%s::text[]"] * 2 * len(names)]
    aliases = ["pk", *(f"{side}{n}" for n in range(len(names)) for side in ("old", "new"))]
    values: list[list[Any]] = [[options.pk.get_db_prep_value(r.pk, connection) for r in rows]]
    for name in names:
        values += [[row.old[name] for row in rows], [row.new[name] for row in rows]]
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {quote(first.table)} AS t SET {', '.join(sets)}"
            f" FROM unnest({', '.join(arrays)}) AS v({', '.join(aliases)})"
            f" WHERE {' AND '.join(conditions)} RETURNING t.{quote(first.pk_column)}",
            values,
        )
        return {options.pk.to_python(pk) for (pk,) in cursor.fetchall()}


def _parameter(column: Column, text: str) -> Any:
    return json.loads(text) if column.kind is ColumnKind.ARRAY else text
