"""Which columns of an SQLite database can hold text, by its own catalogue.

Source: https://www.sqlite.org/pragma.html#pragma_table_xinfo
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from django.db.backends.base.base import BaseDatabaseWrapper

from r2maint.database.connections import fetch
from r2maint.database.text_table import TextTable, quote_name


def sqlite_place(connection: BaseDatabaseWrapper) -> tuple[object, ...]:
    """Return the files of the main and of the attached databases, as the file system knows them.

    Every other database in memory is one of its own, whatever its name.
    """
    rows = fetch(connection, "PRAGMA database_list")
    files = [(schema, file) for _, schema, file in rows if schema != "temp"]
    if not all(file for _, file in files):
        return (connection.alias,)
    return tuple((schema, os.stat(file).st_dev, os.stat(file).st_ino) for schema, file in files)


def list_sqlite(connection: BaseDatabaseWrapper) -> Iterator[TextTable]:
    """Yield the tables of the main and of every attached database, and the text of the schema."""
    for _, schema, _ in fetch(connection, "PRAGMA database_list"):
        yield from _list_sqlite_schema(connection, schema)
        # What the schema says: defaults, views, triggers.
        yield TextTable(
            database=connection.alias,
            name="sqlite_master" if schema == "main" else f"{schema}.sqlite_master",
            schema=schema,
            columns=("sql",),
            sql=f"SELECT sql FROM {quote_name(schema)}.sqlite_master",
            is_counted=False,
        )


def _list_sqlite_schema(connection: BaseDatabaseWrapper, schema: str) -> Iterator[TextTable]:
    # The rows of virtual tables (full-text indexes) lie in ordinary ones, which are listed.
    sql = (
        f"SELECT name FROM {quote_name(schema)}.sqlite_master WHERE type = 'table'"
        " AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND sql NOT LIKE 'CREATE VIRTUAL%'"
        " ORDER BY name"
    )
    for (name,) in fetch(connection, sql):
        pragma = f"PRAGMA {quote_name(schema)}.table_xinfo({quote_name(name)})"
        columns = tuple(column[1] for column in fetch(connection, pragma))
        selected = ", ".join(f"{_sqlite_text(column)} AS c{i}" for i, column in enumerate(columns))
        yield TextTable(
            database=connection.alias,
            name=name if schema == "main" else f"{schema}.{name}",
            schema=schema,
            columns=columns,
            sql=f"SELECT {selected} FROM {quote_name(schema)}.{quote_name(name)}",
        )


def _sqlite_text(column: str) -> str:
    # A declared type is advice to SQLite: any column may hold text. Bytes are taken as they are;
    # a cast would read them in the encoding of the database.
    name = quote_name(column)
    return f"CASE WHEN typeof({name}) IN ('text', 'blob') THEN {name} END"
