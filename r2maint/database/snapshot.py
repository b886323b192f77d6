"""Reads whole tables as text, all of one database as they were at one moment; memory flat."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

from django.db import Error as DjangoDatabaseError
from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from r2maint.database.connections import is_test_transaction, require_file, session_settings
from r2maint.database.text_table import TextTable
from r2maint.errors import DatabaseError

CHUNK = 2**20
"""Characters handed over at once, about."""
OVERLAP = 2**14
"""More than the longest key, escaped twice: what two pieces of one long cell share."""
SEPARATOR = "\0"
"""Stands between two cells of one text: no database keeps it in a text."""

_ROWS = 2000
_FETCHED = 100
"""Rows taken from MariaDB at once, however large they are."""
_MARIADB = {
    "max_statement_time": 0,
    "net_write_timeout": 3600,
    "wait_timeout": 28800,
    "idle_transaction_timeout": 0,
    "idle_readonly_transaction_timeout": 0,
    "sql_select_limit": 2**64 - 1,
    # A node of a cluster first takes in what the others committed.
    "wsrep_sync_wait": 1,
}
"""A site's limits are meant for its requests, not for reading a whole table."""


@contextmanager
def open_snapshot(alias: str) -> Iterator[BaseDatabaseWrapper]:
    """Give a connection on which every read sees the same moment.

    Inside a transaction of the caller's the moment is as good as that transaction's isolation.
    Raises: DatabaseError for whatever the database refuses while it is open.
    """
    require_file(alias)
    connection = connections[alias]
    try:
        with _frozen(connection):
            yield connection
    except DjangoDatabaseError as error:
        # The driver's own message may quote a connection string or a value.
        raise DatabaseError(
            f"The database cannot be read as a whole: {alias!r} ({type(error).__name__}).",
            "Nothing was decided from it. Repair it, or give what is no reference and the reason in"
            " R2MAINT['NOT_REFERENCES'].",
        ) from error


@contextmanager
def _frozen(connection: BaseDatabaseWrapper) -> Iterator[None]:
    connection.ensure_connection()
    if connection.vendor == "sqlite":
        with _sqlite_transaction(connection):
            yield
    elif connection.in_atomic_block:
        yield
    elif connection.vendor == "mysql":
        with session_settings(connection, _MARIADB), transaction.atomic(using=connection.alias):
            _execute(connection, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            _execute(connection, "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
            yield
    else:
        with transaction.atomic(using=connection.alias):
            _execute(connection, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            # A site's limits are meant for its requests, not for reading a whole table.
            _execute(connection, "SET LOCAL statement_timeout = 0")
            _execute(connection, "SET LOCAL idle_in_transaction_session_timeout = 0")
            yield


@contextmanager
def _sqlite_transaction(connection: BaseDatabaseWrapper) -> Iterator[None]:
    if connection.in_atomic_block or not connection.get_autocommit():
        yield
        return
    # Not `atomic`: with the option transaction_mode it may take the lock of writers.
    _execute(connection, "BEGIN DEFERRED")
    try:
        yield
    finally:
        _execute(connection, "ROLLBACK")


@contextmanager
def _sqlite_bytes(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Let text come as bytes: cells that are no UTF-8 are read too, and none is decoded twice."""
    if connection.vendor != "sqlite":
        yield
        return
    raw = connection.connection
    before, raw.text_factory = raw.text_factory, bytes
    try:
        yield
    finally:
        raw.text_factory = before


def iter_cells(connection: BaseDatabaseWrapper, table: TextTable) -> Iterator[tuple[str, str, int]]:
    """Yield (column, cells joined with NUL, how many cells), about a mebibyte at a time."""
    for rows in iter_batches(connection, table):
        counted = ""
        for column, values in zip(table.columns, zip(*rows, strict=True), strict=True):
            cells = [value for value in values if value]
            if cells:
                yield column, joined(cells), 0 if column == counted else len(cells)
                counted = column


def iter_batches(
    connection: BaseDatabaseWrapper, table: TextTable
) -> Iterator[list[tuple[Any, ...]]]:
    """Yield the rows as the driver gives them, some thousand at a time; `joined` makes text."""
    with _sqlite_bytes(connection):
        yield from _iter_batches(connection, table)


def split(text: str) -> Iterator[str]:
    """Yield `text` in pieces of bearable size that share `OVERLAP` characters."""
    if len(text) <= 2 * CHUNK:
        yield text
        return
    for start in range(0, len(text), CHUNK):
        yield text[start : start + CHUNK + OVERLAP]


def _iter_batches(
    connection: BaseDatabaseWrapper, table: TextTable
) -> Iterator[list[tuple[Any, ...]]]:
    rows: list[tuple[Any, ...]] = []
    size = 0
    with _open_cursor(connection) as cursor:
        cursor.execute(table.sql)
        for row in _iter_rows(connection, cursor):
            rows.append(row)
            size += sum(map(len, filter(None, row)))
            if size >= CHUNK or len(rows) >= _ROWS:
                yield rows
                rows, size = [], 0
    if rows:
        yield rows


@contextmanager
def _open_cursor(connection: Any) -> Iterator[Any]:
    """Give a cursor whose rows stay on the server until they are taken, where there is a server."""
    if connection.vendor == "mysql":
        with _unbuffered(connection) as cursor:
            yield cursor
    elif connection.vendor == "postgresql":
        # The snapshot's transaction outlives it.
        with connection.chunked_cursor() as cursor:
            yield cursor
    else:
        with connection.cursor() as cursor:
            yield cursor


@contextmanager
def _unbuffered(connection: Any) -> Iterator[Any]:
    """Give such a cursor of MariaDB.

    Closing it before the last row would still take all of them from the server, so an early end
    costs the connection instead.
    """
    kind = connection.Database.cursors.SSCursor
    cursor = connection.make_cursor(connection.connection.cursor(kind))
    try:
        yield cursor
    except BaseException:
        if not is_test_transaction(connection.alias):
            connection.close()
        raise
    cursor.close()


def _iter_rows(connection: BaseDatabaseWrapper, cursor: Any) -> Iterator[tuple[Any, ...]]:
    if connection.vendor != "mysql":
        return iter(cursor)
    # Its driver takes four times as long to give rows one by one.
    return chain.from_iterable(iter(lambda: tuple(cursor.fetchmany(_FETCHED)), ()))


def joined(cells: Iterable[Any]) -> str:
    """Return some cells of one column, none of them empty, as one text."""
    values = list(cells)
    if isinstance(values[0], str):
        return SEPARATOR.join(values)
    return b"\0".join(map(bytes, values)).decode("utf-8", "replace")


def _execute(connection: BaseDatabaseWrapper, sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)
