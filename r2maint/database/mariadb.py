"""Which columns of a MariaDB database can hold text, by its information schema.

Source: https://mariadb.com/kb/en/information-schema-tables/
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any

from django.apps import apps
from django.db import Error as DjangoDatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper

from r2maint.database.connections import error_code, fetch
from r2maint.database.text_table import Barred, TextTable
from r2maint.errors import DatabaseError

_NO_TEXT = """
'tinyint', 'smallint', 'mediumint', 'int', 'bigint', 'decimal', 'float', 'double', 'bit',
'date', 'time', 'datetime', 'timestamp', 'year', 'uuid', 'inet4', 'inet6', 'vector',
'geometry', 'point', 'linestring', 'polygon', 'multipoint', 'multilinestring', 'multipolygon',
'geometrycollection'
"""
"""Types that hold no free text; one that a later version adds is read."""
_CATALOGUE = f"""
SELECT t.TABLE_SCHEMA, t.TABLE_NAME, t.TABLE_TYPE, t.ENGINE, v.VIEW_DEFINITION,
       t.TABLE_SCHEMA = DATABASE(), c.COLUMN_NAME, c.CHARACTER_SET_NAME
  FROM information_schema.TABLES t
  JOIN information_schema.COLUMNS c USING (TABLE_SCHEMA, TABLE_NAME)
  LEFT JOIN information_schema.VIEWS v USING (TABLE_SCHEMA, TABLE_NAME)
 WHERE t.TABLE_SCHEMA IN ({{schemas}}) AND t.TABLE_TYPE <> 'SEQUENCE'
   AND c.DATA_TYPE NOT IN ({_NO_TEXT})
 ORDER BY t.TABLE_SCHEMA, t.TABLE_NAME, c.ORDINAL_POSITION
"""
_SCHEMA_TEXTS = {
    "SCHEMATA": ("SCHEMA_NAME", "SCHEMA_COMMENT"),
    "TABLES": ("TABLE_SCHEMA", "TABLE_COMMENT", "CREATE_OPTIONS"),
    "COLUMNS": (
        "TABLE_SCHEMA",
        "COLUMN_NAME",
        "COLUMN_TYPE",
        "COLUMN_DEFAULT",
        "COLUMN_COMMENT",
        "GENERATION_EXPRESSION",
    ),
    "STATISTICS": ("TABLE_SCHEMA", "INDEX_COMMENT"),
    "PARTITIONS": (
        "TABLE_SCHEMA",
        "PARTITION_EXPRESSION",
        "SUBPARTITION_EXPRESSION",
        "PARTITION_DESCRIPTION",
        "PARTITION_COMMENT",
    ),
    "VIEWS": ("TABLE_SCHEMA", "VIEW_DEFINITION"),
    "CHECK_CONSTRAINTS": ("CONSTRAINT_SCHEMA", "CHECK_CLAUSE"),
    "TRIGGERS": ("TRIGGER_SCHEMA", "ACTION_STATEMENT"),
    "ROUTINES": ("ROUTINE_SCHEMA", "ROUTINE_DEFINITION", "ROUTINE_COMMENT", "DTD_IDENTIFIER"),
    "PARAMETERS": ("SPECIFIC_SCHEMA", "DTD_IDENTIFIER", "PARAMETER_DEFAULT"),
    "EVENTS": ("EVENT_SCHEMA", "EVENT_DEFINITION", "EVENT_COMMENT"),
}
"""What a schema says: view of the information schema -> column with the schema, columns of text."""
_COLUMNS = """
SELECT TABLE_NAME, COLUMN_NAME FROM information_schema.COLUMNS
 WHERE TABLE_SCHEMA = 'information_schema'
"""
_BODILESS = """
SELECT 1 FROM information_schema.ROUTINES
 WHERE ROUTINE_SCHEMA IN ({schemas}) AND ROUTINE_BODY = 'SQL' AND ROUTINE_DEFINITION IS NULL
 LIMIT 1
"""
_GRANT = re.compile(r"GRANT (.+?) ON (?:\*|`((?:[^`]|``)+)`)\.\* TO ")
_ROUTINES = {"EXECUTE", "SHOW CREATE ROUTINE"}
"""Who has one of them in a schema sees that a routine is there."""
_ALL = {"TRIGGER", "EVENT", "EXECUTE"}
_IS_UTF8 = {None, "binary", "ascii", "utf8", "utf8mb3", "utf8mb4"}
_IS_WIDE = {"ucs2", "utf16", "utf16le", "utf32"}
_FROM = re.compile(r"\b(?:from|join)[\s(]+`((?:[^`]|``)+)`\.`", re.IGNORECASE)
_CALL = re.compile(r"`\(")
"""A stored function, as the server writes its call in the definition of a view."""
_NO_SUCH_TABLE = 1146


def list_mariadb(connection: BaseDatabaseWrapper) -> Iterator[TextTable | Barred]:
    """Yield the tables of the database, and of others that a model's `db_table` names.

    Versions of the past are read with a system-versioned table: somebody may bring them back.
    Views only repeat tables, unless they show those of another database. Raises: DatabaseError
    for MySQL, and where the user might not see every table.
    """
    _require_mariadb(connection)
    schemas = [fetch(connection, "SELECT DATABASE()")[0][0], *sorted(_named_schemas())]
    for schema in schemas:
        _require_sight(connection, schema)
    marks = ", ".join(["%s"] * len(schemas))
    rows = fetch(connection, _CATALOGUE.format(schemas=marks), schemas)
    for (schema, name, kind, engine, view), group in groupby(rows, key=itemgetter(0, 1, 2, 3, 4)):
        columns = list(group)
        table = _table(connection.alias, schema, name, kind, columns)
        if kind != "VIEW":
            yield table if engine == "InnoDB" else _barred(table, engine)
        elif _shows_others(view, schema):
            yield table
    said = TextTable(
        database=connection.alias,
        name="information_schema",
        columns=("sql",),
        sql=_definitions(connection, schemas),
        is_counted=False,
    )
    grants = list(_missing_grants(connection, schemas))
    yield _hidden(said, grants) if grants else said


def _missing_grants(connection: BaseDatabaseWrapper, schemas: list[str]) -> Iterator[str]:
    """Yield what the user lacks to see every trigger, event and routine.

    The information schema leaves out those of others, or shows them without their bodies.
    """
    sees_routines = _may_read_routines(connection)
    for schema in schemas:
        granted = _privileges(connection, schema)
        needed = [{"TRIGGER"}, {"EVENT"}, *([] if sees_routines else [_ROUTINES])]
        lacking = [min(any_of) for any_of in needed if not any_of & granted]
        if lacking:
            yield f"{', '.join(lacking)} ON {_quote(schema)}.*"
    marks = ", ".join(["%s"] * len(schemas))
    if not sees_routines and fetch(connection, _BODILESS.format(schemas=marks), schemas):
        yield "SELECT ON mysql.proc"


def _may_read_routines(connection: BaseDatabaseWrapper) -> bool:
    try:
        fetch(connection, "SELECT 1 FROM mysql.proc LIMIT 0")
    except DjangoDatabaseError:
        return False
    return True


def _privileges(connection: BaseDatabaseWrapper, schema: str) -> set[str]:
    """Return what the user may do in a whole schema, also by the roles that are in force."""
    found: set[str] = set()
    for (grant,) in fetch(connection, "SHOW GRANTS"):
        match = _GRANT.match(grant)
        if match and (match[2] is None or _is_like(schema, match[2].replace("``", "`"))):
            found |= set(match[1].split(", "))
    return found | _ALL if "ALL PRIVILEGES" in found else found


def _is_like(schema: str, pattern: str) -> bool:
    """Tell whether a name matches the pattern of a grant: "_" and "%", unless escaped."""
    parts = re.findall(r"\\.|.", pattern)
    wild = {"_": ".", "%": ".*"}
    return bool(re.fullmatch("".join(wild.get(p) or re.escape(p[-1]) for p in parts), schema))


def _hidden(table: TextTable, grants: list[str]) -> Barred:
    return Barred(
        table=table,
        reason="triggers, events or bodies of routines may be hidden from the user",
        hint=f"GRANT {' and '.join(grants)} to it",
    )


def _definitions(connection: BaseDatabaseWrapper, schemas: list[str]) -> str:
    """Return the statement that selects what the schemas say, as far as this version knows it."""
    known = set(fetch(connection, _COLUMNS))
    names = ", ".join("'" + schema.replace("'", "''") + "'" for schema in schemas)
    return " UNION ALL ".join(
        f"SELECT CONVERT({column} USING binary) FROM information_schema.{view}"
        f" WHERE {schema} IN ({names})"
        for view, (schema, *columns) in _SCHEMA_TEXTS.items()
        for column in columns
        if (view, column) in known
    )


def configured_source(connection: BaseDatabaseWrapper) -> str:
    """Say that the server is a replica by its configuration, whether or not its threads run."""
    if fetch(connection, "SELECT @@GLOBAL.gtid_slave_pos")[0][0]:
        return "The server is a replica by its gtid_slave_pos"
    try:
        rows = fetch(connection, "SHOW ALL SLAVES STATUS")
    except DjangoDatabaseError:
        return ""  # who may not ask knows the position alone
    return "The server is configured as a replica" if rows else ""


def mariadb_place(connection: BaseDatabaseWrapper) -> tuple[object, ...]:
    """Return the name of the database, which another server may have too."""
    return fetch(connection, "SELECT DATABASE()")[0]


def share_mariadb(one: BaseDatabaseWrapper, other: BaseDatabaseWrapper) -> bool:
    """Tell whether a lock that one connection takes is there for the other: one server."""
    name = [f"r2maint {secrets.token_hex(16)}"]
    fetch(one, "SELECT GET_LOCK(%s, 0)", name)
    try:
        return fetch(other, "SELECT IS_USED_LOCK(%s)", name) != [(None,)]
    finally:
        fetch(one, "SELECT RELEASE_LOCK(%s)", name)


def _require_mariadb(connection: Any) -> None:
    if not connection.mysql_is_mariadb:
        raise DatabaseError(
            f"MySQL cannot be searched for references, MariaDB can: {connection.alias!r}.",
            "If no row in it names an object, give the alias and the reason in"
            " R2MAINT['NOT_REFERENCES'].",
        )


def _named_schemas() -> set[str]:
    """Return what stands before the table in `db_table = "other`.`table"`."""
    tables = (model._meta.db_table for model in apps.get_models(include_auto_created=True))
    return {table.strip("`").partition("`.`")[0] for table in tables if "`.`" in table}


def _require_sight(connection: BaseDatabaseWrapper, schema: str) -> None:
    """Refuse unless the user may read whatever table there is.

    The information schema hides tables from those who may not see them. The server itself tells,
    roles and wildcards considered: it admits that a table is not there to those only who could
    read it.
    """
    try:
        fetch(connection, f"SELECT 1 FROM {_quote(schema)}.`r2maint: no such table`")
    except DjangoDatabaseError as error:
        if error_code(error) == _NO_SUCH_TABLE:
            return
        raise DatabaseError(
            f"Tables may be hidden from the user: database {schema!r} of {connection.alias!r}.",
            f"GRANT SELECT, SHOW VIEW ON {_quote(schema)}.* to it.",
        ) from error


def _table(
    alias: str, schema: str, name: str, kind: str, columns: list[tuple[Any, ...]]
) -> TextTable:
    read = [(column, sql) for *_, column, charset in columns for sql in _texts(column, charset)]
    versions = " FOR SYSTEM_TIME ALL" if kind == "SYSTEM VERSIONED" else ""
    is_own = columns[0][5]
    return TextTable(
        database=alias,
        name=name if is_own else f"{schema}.{name}",
        schema=schema,
        columns=tuple(column for column, _ in read),
        sql=f"SELECT {', '.join(sql for _, sql in read)}"
        f" FROM {_quote(schema)}.{_quote(name)}{versions}",
    )


def _texts(column: str, charset: str | None) -> Iterator[str]:
    """Yield the SQL that shows a column in UTF-8, whatever the connection's character set.

    A CAST would give NULL for a cell longer than max_allowed_packet. Where a column says latin1 and
    the like, its bytes are often UTF-8 that was written past the character set: both are read.
    """
    name = _quote(column)
    if charset not in _IS_UTF8:
        yield f"CONVERT(CONVERT({name} USING utf8mb4) USING binary)"
    if charset not in _IS_WIDE:
        yield f"CONVERT({name} USING binary)"


def _barred(table: TextTable, engine: str | None) -> Barred:
    return Barred(
        table=table,
        reason=f"engine {engine} cannot show it as it was at one moment",
        hint=f"ALTER TABLE {table.name} ENGINE=InnoDB",
    )


def _shows_others(definition: str | None, schema: str) -> bool:
    """Tell whether a view may show tables of other databases.

    Without SHOW VIEW it might, and so might one that calls a stored function.
    """
    if not definition or _CALL.search(definition):
        return True
    return any(found != schema for found in _FROM.findall(definition))


def _quote(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"
