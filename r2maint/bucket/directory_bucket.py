"""A bucket in a directory, so that every command runs with no account and no network.

    index.sqlite3      one row an object: exact key, size, ETag, upload time, headers, blob name
    blobs/ab/ab12...   the bytes of listed objects, never changed once written
    loose/             bytes on their way in or out

Every blob in `blobs/` is listed; one whose row is not surely there is in `loose/`, where readers
look too. So a kill at any point leaves a file in `loose/` at most, which a later writer puts back
or, once it is a day old and unlisted, removes. The index decides every condition inside one SQLite
transaction, so conditional writes hold between processes. Not for network file systems: SQLite's
locks need a local one.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TypeVar

from r2maint.bucket import r2_limits
from r2maint.bucket.directory_bucket_files import Blobs
from r2maint.bucket.list_guard import guarded, guarded_page
from r2maint.bucket.protocol import (
    Copy,
    Download,
    Expiry,
    Headers,
    ObjectInfo,
    Page,
    PendingUpload,
    Result,
    StoredObject,
    Upload,
    require_size,
)
from r2maint.errors import (
    BucketError,
    BucketUnreachable,
    ConfigError,
    NoSuchBucket,
    NoSuchKey,
    PreconditionFailed,
)

INDEX = "index.sqlite3"
PAGE_SIZE = 1000
LOOSE_SECONDS = 24 * 3600
"""How long an unlisted blob stays: longer than any writer needs to list it."""

_APPLICATION_ID = 0x52324D42  # "R2MB"
_LOCK_SECONDS = 60
_ANOTHER = "Name another directory in BUCKET."
_SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
    key BLOB PRIMARY KEY, size INTEGER NOT NULL, etag TEXT NOT NULL, modified_at INTEGER NOT NULL,
    headers TEXT NOT NULL, blob TEXT NOT NULL UNIQUE
) WITHOUT ROWID
"""
_COLUMNS = "key, size, etag, modified_at, headers, blob"

R = TypeVar("R")
V = TypeVar("V")
Row = tuple[bytes, int, str, int, str, str]


def system_clock() -> datetime:
    """Return the time of this machine, aware UTC."""
    return datetime.now(UTC)


class DirectoryBucket:
    """Objects in a directory; see the module's docstring for the layout.

    A directory that is empty, or absent while its parent exists, is an empty bucket; the first
    write makes it. Reading writes nothing.
    Raises: NoSuchBucket without a parent directory, ConfigError for a directory of other files.
    """

    def __init__(
        self,
        path: Path,
        *,
        name: str = "",
        clock: Callable[[], datetime] = system_clock,
    ) -> None:
        self.path = path
        self.name = name or f"file:{path}"
        self._clock = clock
        self._blobs = Blobs(path)
        self._swept = False
        _require_bucket(path)

    def now(self) -> datetime:
        return self._clock()

    def list_pages(
        self, prefix: str = "", *, start_after: str = ""
    ) -> Iterator[list[StoredObject]]:
        return guarded(self._pages(prefix.encode(), start_after.encode()), prefix, start_after)

    def list_page(self, *, start_after: str) -> Page:
        return guarded_page(next(self._pages(b"", start_after.encode())), start_after)

    def _pages(self, prefix: bytes, start_after: bytes) -> Iterator[Page]:
        position = start_after
        while True:
            with self._index() as index, self._translated():
                rows = _select_page(index, prefix, position)
            truncated = len(rows) > PAGE_SIZE
            objects = [_stored_object(row) for row in rows[:PAGE_SIZE]]
            token = objects[-1].key if truncated else ""
            yield Page(objects, truncated, token)
            if not truncated:
                return
            position = token.encode()

    def expiries(self) -> tuple[Expiry, ...]:
        return ()

    def list_uploads(self, prefix: str = "") -> Iterator[PendingUpload]:
        return iter(())

    def measure_uploads(
        self, uploads: Iterable[PendingUpload]
    ) -> Iterator[Result[PendingUpload, int]]:
        # Whatever is put here is put whole: no upload ever waits for more.
        for upload in uploads:
            error = NoSuchKey(f"The upload is over: {upload.key!r}.")
            yield Result(request=upload, error=error)

    def abort_uploads(
        self, uploads: Iterable[PendingUpload]
    ) -> Iterator[Result[PendingUpload, None]]:
        return (Result(request=upload) for upload in uploads)

    def head_many(self, keys: Iterable[str]) -> Iterator[Result[str, ObjectInfo]]:
        return self._many(keys, lambda index, key: _info(_find(index, key)))

    def get_many(
        self, keys: Iterable[str], *, max_bytes: int | None = None
    ) -> Iterator[Result[str, Download]]:
        return self._many(keys, partial(self._get, max_bytes))

    def peek_many(self, keys: Iterable[str], *, count: int) -> Iterator[Result[str, bytes]]:
        def act(index: sqlite3.Connection, key: str) -> bytes:
            with self._open(index, key)[1] as source:
                return source.read(count)

        return self._many(keys, act)

    def download(self, key: str, path: Path, *, max_bytes: int | None = None) -> ObjectInfo:
        with self._index() as index, self._translated():
            row, source = self._open(index, key)
        with source, path.open("wb") as target:
            require_size(key, row[1], max_bytes)
            shutil.copyfileobj(source, target)
        return _info(row)

    def put_many(self, uploads: Iterable[Upload]) -> Iterator[Result[Upload, ObjectInfo]]:
        return self._many(uploads, self._put, write=True)

    def copy_many(self, copies: Iterable[Copy]) -> Iterator[Result[Copy, ObjectInfo]]:
        return self._many(copies, self._copy, write=True)

    def delete_many(
        self, keys: Iterable[str], *, permit: Callable[[], object] = bool
    ) -> Iterator[Result[str, None]]:
        remaining = iter(keys)
        while batch := list(islice(remaining, PAGE_SIZE)):
            permit()
            with self._index(write=True) as index, self._translated():
                self._delete(index, batch)
            yield from (Result(request=key) for key in batch)

    def _many(
        self,
        requests: Iterable[R],
        act: Callable[[sqlite3.Connection, R], V],
        *,
        write: bool = False,
    ) -> Iterator[Result[R, V]]:
        with self._index(write=write) as index:
            for request in requests:
                yield self._result(index, request, act)

    def _result(
        self, index: sqlite3.Connection, request: R, act: Callable[[sqlite3.Connection, R], V]
    ) -> Result[R, V]:
        try:
            with self._translated():
                return Result(request=request, value=act(index, request))
        except BucketError as error:
            if error.ends_run:
                raise
            return Result(request=request, error=error)

    # Reading

    def _get(self, max_bytes: int | None, index: sqlite3.Connection, key: str) -> Download:
        row, source = self._open(index, key)
        with source:
            require_size(key, row[1], max_bytes)
            return Download(info=_info(row), body=source.read())

    def _open(self, index: sqlite3.Connection, key: str) -> tuple[Row, BinaryIO]:
        """Return the object's row and its open blob."""
        row = _find(index, key)
        while (source := self._blobs.open(row[5])) is None:
            # The object may have been replaced since its row was read.
            missing, row = row[5], _find(index, key)
            if row[5] == missing:
                raise BucketError(f"The bytes of an object are gone: {key!r} in {self.name}.")
        return row, source

    # Writing

    def _put(self, index: sqlite3.Connection, upload: Upload) -> ObjectInfo:
        r2_limits.require_key(upload.key)
        headers = r2_limits.stored_headers(upload.key, upload.headers)
        _require_condition(index, upload)
        name, digest = self._blobs.write_upload(upload)
        row = self._row(upload.key, digest.size, digest.md5, headers, name)
        try:
            r2_limits.require_expected(upload, digest.sha256)
            self._store(index, row, lambda: _require_condition(index, upload))
        except BucketError:
            self._blobs.discard(name)
            raise
        return _info(row)

    def _copy(self, index: sqlite3.Connection, copy: Copy) -> ObjectInfo:
        r2_limits.require_key(copy.target)
        source, file = self._open(index, copy.source)
        with file:
            if source[2] != copy.if_match:
                raise PreconditionFailed(f"The object changed since it was read: {copy.source!r}.")
            own = replace(_info(source).headers, storage_class=copy.storage_class)
            headers = r2_limits.stored_headers(copy.target, copy.headers or own)
            name = self._blobs.write_copy(file)
        row = self._row(copy.target, source[1], source[2], headers, name)
        self._store(index, row, lambda: None)
        return _info(row)

    def _row(self, key: str, size: int, etag: str, headers: Headers, blob: str) -> Row:
        # Whole seconds, rounded down, as the Last-Modified of a HEAD has them.
        seconds = int(self.now().timestamp())
        text = json.dumps({**asdict(headers), "metadata": dict(headers.metadata)})
        return key.encode(), size, etag, seconds, text, blob

    def _store(self, index: sqlite3.Connection, row: Row, require: Callable[[], None]) -> None:
        """List `row`, whose blob is loose, in the place of what its key had."""
        with _transaction(index):
            require()
            old = self._loosen(index, row[0])
            index.execute(f"INSERT OR REPLACE INTO objects ({_COLUMNS}) VALUES (?,?,?,?,?,?)", row)
        self._blobs.settle(row[5])
        for name in old:
            self._blobs.discard(name)

    def _delete(self, index: sqlite3.Connection, keys: list[str]) -> None:
        encoded = [key.encode() for key in keys if r2_limits.can_exist(key)]
        with _transaction(index):
            old = [name for key in encoded for name in self._loosen(index, key)]
            index.executemany("DELETE FROM objects WHERE key = ?", ((key,) for key in encoded))
        for name in old:
            self._blobs.discard(name)

    def _loosen(self, index: sqlite3.Connection, key: bytes) -> list[str]:
        """Put the blob of `key`, if it has one, aside; return its name."""
        found = index.execute("SELECT blob FROM objects WHERE key = ?", (key,))
        names = [name for (name,) in found]
        for name in names:
            self._blobs.loosen(name)
        return names

    def _sweep(self, index: sqlite3.Connection) -> None:
        """Put back listed blobs that a killed writer left loose; remove old unlisted ones."""
        oldest = system_clock().timestamp() - LOOSE_SECONDS
        for name, written_at in self._blobs.found_loose():
            with _transaction(index):
                listed = index.execute("SELECT 1 FROM objects WHERE blob = ?", (name,)).fetchone()
                if listed:
                    self._blobs.settle(name)
                elif written_at < oldest:
                    self._blobs.discard(name)

    # The index

    @contextmanager
    def _index(self, *, write: bool = False) -> Iterator[sqlite3.Connection]:
        with self._translated():
            index = self._connect(write)
        with closing(index):
            yield index

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise BucketUnreachable(
                f"The bucket's directory cannot be used: {self.name} ({error}).",
                "Check its permissions, its free space and that its disk is mounted.",
            ) from error

    def _connect(self, write: bool) -> sqlite3.Connection:
        path = self.path / INDEX
        if not path.exists() or path.stat().st_size == 0:
            _require_bucket(self.path)
            if not write:
                return _prepared(sqlite3.connect(":memory:", check_same_thread=False))
            self.path.mkdir(exist_ok=True)
        index = sqlite3.connect(
            path, timeout=_LOCK_SECONDS, isolation_level=None, check_same_thread=False
        )
        if write and not self._swept:
            self._swept = True
            # The index comes first: rooms without one are no bucket to another process.
            _prepared(index)
            self._blobs.prepare()
            self._sweep(index)
        return index


def _prepared(index: sqlite3.Connection) -> sqlite3.Connection:
    # At once: whoever reads meanwhile finds an empty file or a whole index.
    with _transaction(index):
        index.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        index.execute(_SCHEMA)
    return index


def _require_bucket(path: Path) -> None:
    if not path.parent.is_dir():
        raise NoSuchBucket(
            f"The bucket's directory does not exist: {str(path)!r}.",
            f"Make its parent directory ({str(path.parent)!r}), or correct BUCKET.",
        )
    if path.exists() and not path.is_dir():
        raise ConfigError(f"The bucket is a file, not a directory: {str(path)!r}.", _ANOTHER)
    if (path / INDEX).exists():
        _require_own_index(path / INDEX)
    elif path.exists() and any(path.iterdir()) and not (path / INDEX).exists():
        # Looked for twice, because another thread or process may have just begun it.
        raise ConfigError(
            f"The directory holds files and is no bucket: {str(path)!r}.",
            "A directory bucket keeps its own layout; name an empty directory in BUCKET.",
        )


def _require_own_index(path: Path) -> None:
    if path.stat().st_size == 0:
        return  # Another process is just making it.
    try:
        with closing(sqlite3.connect(path, timeout=_LOCK_SECONDS)) as index:
            (found,) = index.execute("PRAGMA application_id").fetchone()
    except sqlite3.Error as error:
        raise ConfigError(
            f"The bucket's index cannot be read: {str(path)!r} ({error}).", _ANOTHER
        ) from error
    if found != _APPLICATION_ID:
        raise ConfigError(f"The file is no bucket index: {str(path)!r}.", _ANOTHER)


@contextmanager
def _transaction(index: sqlite3.Connection) -> Iterator[None]:
    index.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        index.execute("ROLLBACK")
        raise
    index.execute("COMMIT")


def _select_page(index: sqlite3.Connection, prefix: bytes, position: bytes) -> list[Row]:
    """Return one row more than a page holds, if there is one, past `position`."""
    # No byte of UTF-8 is 0xFF, so this is above every key that starts with the prefix.
    end = prefix + b"\xff"
    if position >= prefix:
        where, low = "key > ?", position
    else:
        where, low = "key >= ?", prefix
    return index.execute(
        f"SELECT {_COLUMNS} FROM objects WHERE {where} AND key < ? ORDER BY key LIMIT ?",
        (low, end, PAGE_SIZE + 1),
    ).fetchall()


def _find(index: sqlite3.Connection, key: str) -> Row:
    if r2_limits.can_exist(key):
        sql = f"SELECT {_COLUMNS} FROM objects WHERE key = ?"
        row: Row | None = index.execute(sql, (key.encode(),)).fetchone()
        if row is not None:
            return row
    raise NoSuchKey(f"The object does not exist: {key!r}.")


def _require_condition(index: sqlite3.Connection, upload: Upload) -> None:
    if not (upload.if_absent or upload.if_match):
        return
    row = index.execute("SELECT etag FROM objects WHERE key = ?", (upload.key.encode(),)).fetchone()
    if upload.if_absent and row is not None:
        raise PreconditionFailed(f"The key is taken: {upload.key!r}.")
    if upload.if_match and (row is None or row[0] != upload.if_match):
        raise PreconditionFailed(f"The object changed since it was read: {upload.key!r}.")


def _info(row: Row) -> ObjectInfo:
    return ObjectInfo(
        key=row[0].decode(),
        size=row[1],
        etag=row[2],
        modified_at=datetime.fromtimestamp(row[3], UTC),
        headers=Headers(**json.loads(row[4])),
    )


def _stored_object(row: Row) -> StoredObject:
    modified_at = datetime.fromtimestamp(row[3], UTC)
    return StoredObject(row[0].decode(), row[1], row[2], modified_at, _storage_class(row[4]))


@lru_cache(maxsize=256)
def _storage_class(headers: str) -> str:
    return str(json.loads(headers)["storage_class"])
