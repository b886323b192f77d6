"""Which columns of a PostgreSQL database can hold text, by its own catalogue.

Source: https://www.postgresql.org/docs/current/catalogs.html
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from r2maint.database.connections import fetch
from r2maint.database.postgresql_schema import definitions
from r2maint.database.text_table import Barred, TextTable, quote_name

# Categories of https://www.postgresql.org/docs/current/catalog-pg-type.html that hold no free text:
# booleans, dates, enums, geometry, addresses, numbers, ranges, time spans and bits. Types that a
# project made itself (their ids begin at 16384) may hold text whatever their category and name;
# of an extension, those are known that hold numbers.
_NO_TEXT = """
    coalesce(e.oid, t.oid) < 16384
    AND (coalesce(e.typcategory, t.typcategory) IN ('B', 'D', 'E', 'G', 'I', 'N', 'R', 'T', 'V')
         OR coalesce(e.typname, t.typname) IN ('uuid', 'tsvector', 'tsquery'))
    OR EXISTS (SELECT FROM pg_catalog.pg_depend d
                 JOIN pg_catalog.pg_extension x ON x.oid = d.refobjid
                WHERE d.classid = 'pg_catalog.pg_type'::regclass AND d.deptype = 'e'
                  AND d.refclassid = 'pg_catalog.pg_extension'::regclass
                  AND d.objid = coalesce(e.oid, t.oid)
                  AND (x.extname, coalesce(e.typname, t.typname)) IN
                      (('vector', 'vector'), ('vector', 'halfvec'), ('vector', 'sparsevec'),
                       ('postgis', 'geometry'), ('postgis', 'geography')))
"""
_POSTGRESQL = f"""
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
 WHERE c.relkind IN ('r', 'p', 'f', 'm') AND c.relispopulated
   AND (NOT c.relispartition OR {{detached}})
   AND (n.nspname NOT LIKE 'pg\\_%' OR n.oid = pg_my_temp_schema())
   AND n.nspname <> 'information_schema'
   AND NOT ({_NO_TEXT})
 ORDER BY n.nspname, c.relname, a.attnum
"""


_DETACHED = (
    "EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid AND i.inhdetachpending)"
)
"""A partition that DETACH CONCURRENTLY began to detach: its parent shows no row of it any more.

From version 14 on.
"""
_LARGE_OBJECTS = "SELECT lo_get(oid) FROM pg_catalog.pg_largeobject_metadata"


_OWN_ID = "SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()"
_LOCK = f"""
SELECT 1 FROM pg_catalog.pg_locks
 WHERE locktype = 'advisory' AND granted AND objsubid = 2
   AND classid = (%s)::oid AND objid = (%s)::oid AND database = ({_OWN_ID})
"""


def list_postgresql(connection: BaseDatabaseWrapper) -> Iterator[TextTable | Barred]:
    """Yield the tables of every schema, the text of the schema itself, and large objects."""
    version = int(fetch(connection, "SELECT current_setting('server_version_num')")[0][0])
    detached = _DETACHED if version >= 140000 else "false"
    rows = fetch(connection, _POSTGRESQL.format(detached=detached))
    for (schema, name), group in groupby(rows, key=itemgetter(0, 1)):
        columns = list(group)
        table = _postgresql_table(connection.alias, schema, name, columns)
        yield _barred(table, columns) or table
    alias = connection.alias
    yield TextTable(
        database=alias,
        name="pg_catalog.definitions",
        schema="pg_catalog",
        columns=("sql",),
        sql=definitions(version),
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
        quote_name(column) if is_bytes else f"{quote_name(column)}::text"
        for *_, column, is_bytes in columns
    )
    return TextTable(
        database=alias,
        name=name if columns[0][6] else f"{schema}.{name}",
        schema=schema,
        columns=tuple(column[7] for column in columns),
        sql=f"SELECT {selected} FROM {only}{quote_name(schema)}.{quote_name(name)}",
    )


def _barred(table: TextTable, columns: list[tuple[Any, ...]]) -> Barred | None:
    if not all(usage and select for _, _, _, _, usage, select, *_ in columns):
        hint = "GRANT SELECT on it to this role"
        return Barred(table=table, reason="the role may not read it", hint=hint)
    if any(column[3] for column in columns):
        hint = "Use a role with BYPASSRLS"
        return Barred(table=table, reason="row-level security hides rows of it", hint=hint)
    return None


def postgresql_place(connection: BaseDatabaseWrapper) -> tuple[object, ...]:
    """Return the id of the database, which a copy has too, and where its bare names are found."""
    sql = f"SELECT ({_OWN_ID})::text, current_schemas(false)::text"
    return fetch(connection, sql)[0]


def share_postgresql(one: BaseDatabaseWrapper, other: BaseDatabaseWrapper) -> bool:
    """Tell whether a lock that one connection takes is there for the other: one database."""
    keys = [secrets.randbelow(2**31), secrets.randbelow(2**31)]
    # In a transaction, because a pool gives each one a connection to the server of its own.
    with transaction.atomic(using=one.alias):
        fetch(one, "SELECT pg_advisory_xact_lock(%s, %s)", keys)
        is_seen = bool(fetch(other, _LOCK, keys))
        # A rollback gives the lock back also where a transaction of the caller's goes on.
        transaction.set_rollback(True, using=one.alias)
    return is_seen


def subscription(connection: BaseDatabaseWrapper) -> str:
    """Say that another server fills tables of this database, enabled at the moment or not."""
    sql = f"SELECT 1 FROM pg_catalog.pg_subscription WHERE subdbid = ({_OWN_ID}) LIMIT 1"
    return "The database subscribes to tables of another" if fetch(connection, sql) else ""


def system_identifier(connection: BaseDatabaseWrapper) -> str:
    """Return what PostgreSQL calls its cluster; "" elsewhere and for a role that may not know."""
    allowed = "SELECT has_function_privilege('pg_control_system()', 'EXECUTE')"
    if connection.vendor != "postgresql" or not fetch(connection, allowed)[0][0]:
        return ""
    return str(fetch(connection, "SELECT system_identifier FROM pg_control_system()")[0][0])
