"""The stored text of a cell: how each database shows it, and compares it byte for byte.

Django decodes JSON and compares decoded values, which never match other spellings of the same
document. Here the text is read as it is stored, and compared in a binary collation.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

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


def update_row(
    columns: Mapping[str, Column],
    pk: Any,
    *,
    old: Mapping[str, str | None],
    new: Mapping[str, str],
    extra: Mapping[str, int | None],
) -> bool:
    """Send one UPDATE that sets `new` where the cells still hold `old`; True when they did.

    All mappings go by field name; `extra` are further columns, set without being compared.
    """
    column = columns[next(iter(new))]
    connection = connections[column.database]
    quote = connection.ops.quote_name
    options: Any = column.model_class._meta
    sets = [f"{quote(columns[name].column)} = %s" for name in new]
    sets += [f"{quote(options.get_field(name).column)} = %s" for name in extra]
    values = [_parameter(columns[name], text) for name, text in new.items()]
    values += [options.get_field(n).get_db_prep_save(v, connection) for n, v in extra.items()]
    conditions = [f"{quote(column.pk_column)} = %s"]
    conditions += [
        equals_sql(connection.vendor, quote(columns[name].column), columns[name].kind)
        for name in new
    ]
    compared = [options.pk.get_db_prep_value(pk, connection), *(old[name] for name in new)]
    statement = f"UPDATE {quote(column.table)} SET {', '.join(sets)}"
    statement += f" WHERE {' AND '.join(conditions)}"
    with connection.cursor() as cursor:
        cursor.execute(statement, [*values, *compared])
        return bool(cursor.rowcount)


def _parameter(column: Column, text: str) -> Any:
    return json.loads(text) if column.kind is ColumnKind.ARRAY else text
