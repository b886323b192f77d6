"""The project's databases: which ones, what tables they have, and their failures as ours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from django.db import Error as DjangoDatabaseError
from django.db import connections, transaction

from r2maint.errors import DatabaseError, UsageError
from r2maint.options import suggest

LOCK_TIMEOUT = "1s"
_LOCKED = {"55P03", "40001", "40P01", "57014", 1205, 1213, 3572}
"""lock_not_available, serialization_failure, deadlock_detected, query_canceled; MySQL's like."""


def iter_aliases(named: Sequence[str] = ()) -> Iterator[str]:
    """Yield the aliases named, or else all: each database once, and no read-only replica.

    Raises: UsageError for an alias that is not configured.
    """
    for alias in named:
        if alias not in connections:
            hint = suggest(alias, list(connections))
            raise UsageError(f"--database names no database: {alias!r}.", hint)
    seen: set[object] = set()
    for alias in sorted(named or connections, key=lambda alias: alias != "default"):
        identity = _identity(alias)
        if identity not in seen and (named or not _is_replica(alias)):
            seen.add(identity)
            yield alias


def _identity(alias: str) -> object:
    given = connections[alias].settings_dict
    if given["NAME"] in ("", ":memory:"):
        return alias
    return tuple(str(given.get(name) or "") for name in ("ENGINE", "HOST", "PORT", "NAME"))


def _is_replica(alias: str) -> bool:
    connection = connections[alias]
    if connection.vendor != "postgresql":
        return False
    with reading(alias), connection.cursor() as cursor:
        cursor.execute("SELECT pg_is_in_recovery()")
        return bool(cursor.fetchone()[0])


def table_names(alias: str) -> set[str]:
    """Return the tables and views the connection sees without naming a schema."""
    with reading(alias):
        return set(connections[alias].introspection.table_names(include_views=True))


@contextmanager
def reading(alias: str, table: str = "") -> Iterator[None]:
    """Turn what the driver raises inside into a DatabaseError naming database and table."""
    try:
        yield
    except DjangoDatabaseError as error:
        what = f"table {table!r} in database {alias!r}" if table else f"database {alias!r}"
        raise DatabaseError(f"Cannot be read: {what} ({_why(error)}).", _hint(error)) from error


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


@contextmanager
def short_transaction(alias: str) -> Iterator[None]:
    """READ COMMITTED, so that an UPDATE sees what was committed since; waits briefly for locks."""
    connection = connections[alias]
    is_own = not is_test_transaction(alias)
    with transaction.atomic(using=alias):
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                if is_own:  # only the first statement of a transaction may set it
                    cursor.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
                cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
        yield


def is_contention(error: DjangoDatabaseError) -> bool:
    """Tell whether another writer is in the way, so that trying again may succeed."""
    first = error.args[0] if error.args else ""
    is_sqlite = isinstance(first, str) and " is locked" in first
    return is_sqlite or first in _LOCKED or sql_state(error) in _LOCKED


def sql_state(error: DjangoDatabaseError) -> str:
    """Return PostgreSQL's code of an error, "" on other databases."""
    cause = error.__cause__
    return getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None) or ""
