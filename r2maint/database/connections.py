"""Connections to the project's databases: statements, transactions, and their failures as ours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from django.db import Error as DjangoDatabaseError
from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from r2maint.errors import DatabaseError

LOCK_TIMEOUT = timedelta(seconds=1)
_LOCKED = {"55P03", "40001", "40P01", "57014", 1205, 1213, 1020, 1969, 3572}
"""lock_not_available, serialization_failure, deadlock_detected, query_canceled; MariaDB's like.

Source: https://mariadb.com/kb/en/mariadb-error-code-reference/
"""


def is_replica(connection: BaseDatabaseWrapper) -> bool:
    """Tell whether the database only follows another one.

    On MariaDB one that may not be written to, or that replicates from another server. It tells
    that to any user, whatever their privileges.
    Source: https://mariadb.com/kb/en/replication-and-binary-log-status-variables/
    """
    if connection.vendor == "postgresql":
        return bool(fetch(connection, "SELECT pg_is_in_recovery()")[0][0])
    if connection.vendor == "mysql":
        follows = "SHOW GLOBAL STATUS WHERE Variable_name IN ('Slave_running', 'Slaves_running')"
        told = fetch(connection, "SELECT @@GLOBAL.read_only") + fetch(connection, follows)
        return any(str(row[-1]) not in ("0", "OFF") for row in told)
    return False


def fetch(
    connection: BaseDatabaseWrapper, sql: str, values: Sequence[Any] | None = None
) -> list[tuple[Any, ...]]:
    """Return the rows of one statement."""
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return list(cursor.fetchall())


def table_names(alias: str) -> set[str]:
    """Return the tables and views the connection sees without naming a schema."""
    with reading(alias):
        return set(connections[alias].introspection.table_names(include_views=True))


@contextmanager
def reading(alias: str, table: str = "") -> Iterator[None]:
    """Turn what the driver raises inside into a DatabaseError naming database and table."""
    require_file(alias)
    try:
        yield
    except DjangoDatabaseError as error:
        what = f"table {table!r} in database {alias!r}" if table else f"database {alias!r}"
        raise DatabaseError(f"Cannot be read: {what} ({_why(error)}).", _hint(error)) from error


def require_file(alias: str) -> None:
    """Raise DatabaseError where SQLite would create the file of a database by opening it.

    A relative NAME is another file in every working directory, and a new file names nothing.
    """
    if path := absent_file(alias):
        raise DatabaseError(
            f"The file of a database does not exist: {alias!r} ({str(path)!r}).",
            "Run where it is, or write its NAME in DATABASES as an absolute path. If it is new: Run"
            f" manage.py migrate{database_option(alias)}.",
        )


def absent_file(alias: str) -> Path | None:
    """Return the file that opening this alias would create; None where it creates none."""
    connection: Any = connections[alias]
    if connection.vendor != "sqlite" or connection.connection is not None:
        return None
    path = _sqlite_path(str(connection.settings_dict["NAME"]))
    if path is None or path.exists() or not path.parent.is_dir():
        return None
    return path.absolute()


def _sqlite_path(name: str) -> Path | None:
    """Return the file that a NAME means to SQLite; None for a database in memory.

    Source: https://www.sqlite.org/uri.html
    """
    if name.startswith("file:"):
        parts = urlsplit(name)
        options = parse_qs(parts.query)
        if "memory" in options.get("mode", ()) or "memdb" in options.get("vfs", ()):
            return None
        name = unquote(parts.path)
    return None if name in ("", ":memory:") else Path(name)


_PLAIN = ("database is locked", "unable to open database file", "file is not a database")
"""What SQLite says of a whole file. Other messages may quote a connection string or a value."""


def _why(error: DjangoDatabaseError) -> str:
    plain = (words for words in _PLAIN if words in str(error))
    return next(plain, type(error).__name__)


def _hint(error: DjangoDatabaseError) -> str:
    if is_contention(error):
        return "Another process holds it; run the command again."
    if _why(error) in _PLAIN:
        return "Check the file DATABASES names, its directory and their permissions."
    return "Check that the server is up and that every migration is applied."


def missing_table(alias: str, table: str) -> DatabaseError:
    """Return the error of a table that should be there."""
    return DatabaseError(
        f"A table is missing: {table!r} in database {alias!r}.",
        f"Run manage.py migrate{database_option(alias)}.",
    )


def database_option(alias: str) -> str:
    """Return the option of `manage.py migrate` that means this database."""
    return "" if alias == "default" else f" --database {alias}"


def refuse_open_transaction(alias: str) -> None:
    """Raise DatabaseError when what is written now could still be rolled back by a caller.

    The transaction that Django's TestCase wraps around a test does not count.
    """
    connection = connections[alias]
    blocks = connection.atomic_blocks
    is_open = not is_test_transaction(alias) if blocks else not connection.get_autocommit()
    if is_open:
        raise DatabaseError(
            f"A transaction is open: database {alias!r}.",
            "Call r2maint outside transaction.atomic() and ATOMIC_REQUESTS, with autocommit on.",
        )


def is_test_transaction(alias: str) -> bool:
    """Tell whether the innermost open transaction is the one around a Django test."""
    blocks = connections[alias].atomic_blocks
    return bool(blocks) and bool(getattr(blocks[-1], "_from_testcase", False))


def require_transactions(alias: str, tables: Iterable[str]) -> None:
    """Raise DatabaseError when what is written to one of these tables could not be rolled back.

    Also for MySQL, on which nothing was tried yet.
    """
    connection: Any = connections[alias]
    if connection.vendor != "mysql":
        return
    with reading(alias):
        is_mariadb = connection.mysql_is_mariadb
    if not is_mariadb:
        raise DatabaseError(
            f"MySQL is not supported, MariaDB is: database {alias!r}.",
            "Nothing was written to it.",
        )
    names = list(tables)
    sql = (
        "SELECT table_name, engine FROM information_schema.tables WHERE engine <> 'InnoDB'"
        f" AND table_schema = DATABASE() AND table_name IN ({', '.join(['%s'] * len(names))})"
    )
    with reading(alias):
        for name, engine in fetch(connection, sql, names):
            raise DatabaseError(
                f"A table has no transactions: {name!r} in database {alias!r} (engine {engine}).",
                f"Nothing was written to it. ALTER TABLE {name} ENGINE=InnoDB, then run again.",
            )


@contextmanager
def short_transaction(alias: str) -> Iterator[None]:
    """READ COMMITTED, so that an UPDATE sees what was committed since; waits briefly for locks."""
    connection = connections[alias]
    is_mariadb, is_own = connection.vendor == "mysql", not is_test_transaction(alias)
    with _short_waits(connection) if is_mariadb else nullcontext(), transaction.atomic(using=alias):
        if connection.vendor in ("postgresql", "mysql"):
            with connection.cursor() as cursor:
                if is_own:  # only the first statement of a transaction may set it
                    cursor.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
                if not is_mariadb:
                    milliseconds = int(LOCK_TIMEOUT.total_seconds() * 1000)
                    cursor.execute(f"SET LOCAL lock_timeout = {milliseconds}")
        yield


def _short_waits(connection: BaseDatabaseWrapper) -> Any:
    seconds = int(LOCK_TIMEOUT.total_seconds())
    modes = fetch(connection, "SELECT @@sql_mode")[0][0].split(",")
    return session_settings(
        connection,
        {
            "innodb_lock_wait_timeout": seconds,
            "lock_wait_timeout": seconds,
            # Without it MariaDB cuts what is too long for a column, and stores the rest.
            "sql_mode": ",".join(filter(None, {*modes, "STRICT_ALL_TABLES"})),
        },
    )


@contextmanager
def session_settings(
    connection: BaseDatabaseWrapper, wanted: Mapping[str, int | str]
) -> Iterator[None]:
    """Let variables of a session of MariaDB be these; those its version lacks are passed over."""
    marks = ", ".join(["%s"] * len(wanted))
    sql = (
        "SELECT LOWER(VARIABLE_NAME), VARIABLE_VALUE FROM information_schema.SESSION_VARIABLES"
        # Where the site limits how many rows come, only a limit of its own gives a query more.
        f" WHERE VARIABLE_NAME IN ({marks}) LIMIT {len(wanted)}"
    )
    before = {name: _number(value) for name, value in fetch(connection, sql, list(wanted))}
    changed = {name: wanted[name] for name, value in before.items() if value != wanted[name]}
    _set(connection, changed)
    try:
        yield
    finally:
        if connection.connection is not None:
            _set(connection, {name: before[name] for name in changed})


def _number(text: str) -> float | str:
    if text.isdecimal():
        return int(text)
    return float(text) if text.replace(".", "", 1).isdecimal() else text


def _set(connection: BaseDatabaseWrapper, values: Mapping[str, Any]) -> None:
    if values:
        assignments = ", ".join(f"SESSION {name} = %s" for name in values)
        with connection.cursor() as cursor:
            cursor.execute(f"SET {assignments}", list(values.values()))


def is_contention(error: DjangoDatabaseError) -> bool:
    """Tell whether another writer is in the way, so that trying again may succeed."""
    first = error.args[0] if error.args else ""
    is_sqlite = isinstance(first, str) and " is locked" in first
    return is_sqlite or error_code(error) in _LOCKED


def error_code(error: DjangoDatabaseError) -> str | int:
    """Return PostgreSQL's code of an error, MariaDB's number, or "" on other databases."""
    first = error.args[0] if error.args else ""
    if isinstance(first, int):
        return first
    cause = error.__cause__
    return getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None) or ""
