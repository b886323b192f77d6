"""Which columns of a database can hold text, by its own catalogue and not by the models.

MariaDB's is read in `mariadb`. Source: https://www.sqlite.org/pragma.html#pragma_table_xinfo and
https://www.postgresql.org/docs/current/catalogs.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from r2maint.database.connections import fetch, is_replica
from r2maint.database.mariadb import list_mariadb, mariadb_id
from r2maint.database.text_table import Barred, TextTable
from r2maint.errors import DatabaseError


def list_tables(connection: BaseDatabaseWrapper) -> tuple[TextTable | Barred, ...]:
    """Return every table of the database; views, which only repeat tables, are left out.

    Materialized views, attached databases and the session's temporary tables are among them.

    Raises: DatabaseError for a replica and for a database this cannot read.
    """
    if is_replica(connection):
        raise DatabaseError(
            f"The database is a replica, which may lag behind: {connection.alias!r}.",
            "Run on the primary. If that is read through another alias, give this one and the"
            " reason in R2MAINT['NOT_REFERENCES'].",
        )
    lister = _LISTERS.get(connection.vendor)
    if lister is None:
        raise DatabaseError(
            f"The database cannot be searched for references: {connection.alias!r}"
            f" ({connection.display_name}).",
            "SQLite, PostgreSQL and MariaDB can be. If no row in it names an object, give the alias"
            " and the reason in R2MAINT['NOT_REFERENCES'].",
        )
    return tuple(lister(connection))


def database_id(connection: BaseDatabaseWrapper) -> tuple[object, ...]:
    """Return what two aliases of one database have in common."""
    if connection.vendor == "sqlite":
        # A database in memory has no path, and its name may be another one's too.
        return ("sqlite", fetch(connection, "PRAGMA database_list")[0][2] or connection.alias)
    if connection.vendor == "postgresql":
        return ("postgresql", *_postgresql_id(connection))
    if connection.vendor == "mysql":
        return ("mysql", *mariadb_id(connection))
    return (connection.alias,)


def _postgresql_id(connection: BaseDatabaseWrapper) -> tuple[object, ...]:
    """Return the same for a primary and its replicas, where the role may ask for that."""
    sql = "SELECT oid::text, datname FROM pg_database WHERE datname = current_database()"
    database = fetch(connection, sql)[0]
    if system := system_identifier(connection):
        return (system, *database)
    sql = "SELECT pg_postmaster_start_time()::text, current_setting('port')"
    return (*fetch(connection, sql)[0], *database)


def system_identifier(connection: BaseDatabaseWrapper) -> str:
    """Return what PostgreSQL calls its cluster; "" elsewhere and for a role that may not know."""
    allowed = "SELECT has_function_privilege('pg_control_system()', 'EXECUTE')"
    if connection.vendor != "postgresql" or not fetch(connection, allowed)[0][0]:
        return ""
    return str(fetch(connection, "SELECT system_identifier FROM pg_control_system()")[0][0])


def _list_sqlite(connection: BaseDatabaseWrapper) -> Iterator[TextTable]:
    for _, schema, _ in fetch(connection, "PRAGMA database_list"):
        yield from _list_sqlite_schema(connection, schema)
        # What the schema says: defaults, views, triggers.
        yield TextTable(
            database=connection.alias,
            name="sqlite_master" if schema == "main" else f"{schema}.sqlite_master",
            columns=("sql",),
            sql=f"SELECT sql FROM {_quote(schema)}.sqlite_master",
            is_counted=False,
        )


def _list_sqlite_schema(connection: BaseDatabaseWrapper, schema: str) -> Iterator[TextTable]:
    # The rows of virtual tables (full-text indexes) lie in ordinary ones, which are listed.
    sql = (
        f"SELECT name FROM {_quote(schema)}.sqlite_master WHERE type = 'table'"
        " AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND sql NOT LIKE 'CREATE VIRTUAL%'"
        " ORDER BY name"
    )
    for (name,) in fetch(connection, sql):
        pragma = f"PRAGMA {_quote(schema)}.table_xinfo({_quote(name)})"
        columns = tuple(column[1] for column in fetch(connection, pragma))
        selected = ", ".join(f"{_sqlite_text(column)} AS c{i}" for i, column in enumerate(columns))
        yield TextTable(
            database=connection.alias,
            name=name if schema == "main" else f"{schema}.{name}",
            columns=columns,
            sql=f"SELECT {selected} FROM {_quote(schema)}.{_quote(name)}",
        )


def _sqlite_text(column: str) -> str:
    # A declared type is advice to SQLite: any column may hold text. Bytes are taken as they are;
    # a cast would read them in the encoding of the database.
    name = _quote(column)
    return f"CASE WHEN typeof({name}) IN ('text', 'blob') THEN {name} END"


# Categories of https://www.postgresql.org/docs/current/catalog-pg-type.html that hold no free text:
# booleans, dates, enums, geometry, addresses, numbers, ranges, time spans and bits. Types that a
# project made itself (their ids begin at 16384) may hold text whatever their category.
_POSTGRESQL = """
WITH RECURSIVE plain AS (
    SELECT oid, oid AS base FROM pg_catalog.pg_type WHERE typtype <> 'd'
    UNION ALL
    SELECT d.oid, plain.base FROM pg_catalog.pg_type d JOIN plain ON d.typbasetype = plain.oid
)
SELECT n.nspname, c.relname, c.relkind::text,
       row_security_active(c.oid),
       has_schema_privilege(n.oid, 'USAGE'),
       has_table_privilege(c.oid, 'SELECT') OR has_column_privilege(c.oid, a.attnum, 'SELECT'),
       pg_table_is_visible(c.oid),
       a.attname, t.typname = 'bytea'
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  JOIN plain p ON p.oid = a.atttypid
  JOIN pg_catalog.pg_type t ON t.oid = p.base
  LEFT JOIN plain q ON q.oid = t.typelem AND t.typcategory = 'A'
  LEFT JOIN pg_catalog.pg_type e ON e.oid = q.base
 WHERE c.relkind IN ('r', 'p', 'f', 'm') AND NOT c.relispartition AND c.relispopulated
   AND (n.nspname NOT LIKE 'pg\\_%' OR n.oid = pg_my_temp_schema())
   AND n.nspname <> 'information_schema'
   AND NOT (coalesce(e.oid, t.oid) < 16384 AND coalesce(e.typcategory, t.typcategory)
            IN ('B', 'D', 'E', 'G', 'I', 'N', 'R', 'T', 'V'))
   AND coalesce(e.typname, t.typname) NOT IN
       ('uuid', 'tsvector', 'tsquery', 'vector', 'halfvec', 'sparsevec', 'geometry', 'geography')
 ORDER BY n.nspname, c.relname, a.attnum
"""


# What the schema says, except of the system itself.
_DEFINITIONS = """
SELECT pg_get_expr(adbin, adrelid) FROM pg_catalog.pg_attrdef
UNION ALL
SELECT pg_get_viewdef(oid) FROM pg_catalog.pg_class WHERE relkind IN ('v', 'm') AND oid >= 16384
UNION ALL
SELECT pg_get_constraintdef(oid) FROM pg_catalog.pg_constraint WHERE contype = 'c'
UNION ALL
SELECT pg_get_triggerdef(oid) FROM pg_catalog.pg_trigger WHERE NOT tgisinternal
UNION ALL
SELECT prosrc FROM pg_catalog.pg_proc WHERE oid >= 16384
"""
_LARGE_OBJECTS = "SELECT lo_get(oid) FROM pg_catalog.pg_largeobject_metadata"


def _list_postgresql(connection: BaseDatabaseWrapper) -> Iterator[TextTable | Barred]:
    rows = fetch(connection, _POSTGRESQL)
    for (schema, name), group in groupby(rows, key=itemgetter(0, 1)):
        columns = list(group)
        table = _postgresql_table(connection.alias, schema, name, columns)
        yield _barred(table, columns) or table
    alias = connection.alias
    yield TextTable(
        database=alias,
        name="pg_catalog.definitions",
        columns=("sql",),
        sql=_DEFINITIONS,
        is_counted=False,
    )
    if fetch(connection, "SELECT 1 FROM pg_catalog.pg_largeobject_metadata LIMIT 1"):
        yield TextTable(
            database=alias, name="pg_largeobject", columns=("data",), sql=_LARGE_OBJECTS
        )


def _postgresql_table(
    alias: str, schema: str, name: str, columns: list[tuple[Any, ...]]
) -> TextTable:
    # A partitioned table answers for its partitions; other children are tables of their own.
    only = "" if columns[0][2] in ("p", "m") else "ONLY "
    selected = ", ".join(
        _quote(column) if is_bytes else f"{_quote(column)}::text"
        for *_, column, is_bytes in columns
    )
    return TextTable(
        database=alias,
        name=name if columns[0][6] else f"{schema}.{name}",
        columns=tuple(column[7] for column in columns),
        sql=f"SELECT {selected} FROM {only}{_quote(schema)}.{_quote(name)}",
    )


def _barred(table: TextTable, columns: list[tuple[Any, ...]]) -> Barred | None:
    if not all(usage and select for _, _, _, _, usage, select, *_ in columns):
        hint = "GRANT SELECT on it to this role"
        return Barred(table=table, reason="the role may not read it", hint=hint)
    if any(column[3] for column in columns):
        hint = "Use a role with BYPASSRLS"
        return Barred(table=table, reason="row-level security hides rows of it", hint=hint)
    return None


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


_LISTERS: dict[str, Callable[[BaseDatabaseWrapper], Iterator[TextTable | Barred]]] = {
    "sqlite": _list_sqlite,
    "postgresql": _list_postgresql,
    "mysql": list_mariadb,
}
