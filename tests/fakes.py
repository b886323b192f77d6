"""A bucket in memory that behaves as R2 does where S3, moto and Cloudflare's emulator do not."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unicodedata import normalize

from r2maint.bucket import r2_limits
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
    LeaseHeld,
    NoSuchKey,
    ObjectLocked,
    PreconditionFailed,
)

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
START = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


class FakeClock:
    """A clock that stands still until it is moved."""

    def __init__(self, at: datetime = START) -> None:
        self.at = at

    def __call__(self) -> datetime:
        return self.at

    def move(self, by: timedelta) -> None:
        self.at += by


@dataclass(frozen=True, slots=True)
class Stored:
    info: ObjectInfo
    body: bytes


class R2Fake:
    """R2's own semantics.

    Two spellings of a key with one NFC form are one object, shown as last uploaded and listed in the
    order of the NFC form; deletes know no condition; copies are pinned by ETag and never keep the
    source's class; locked objects can be neither replaced nor deleted; with
    `one_write_a_second`, a second write of a key within a second fails.

    `before` is called with ("put", key), ("copy", source), ("delete", key), ("head", key),
    ("get", key) or ("list", start of the page) before the request takes effect; what it raises is the
    request's answer, and it may change the bucket, as another client would at that moment.
    """

    def __init__(
        self,
        name: str = "fake",
        *,
        clock: Callable[[], datetime] | None = None,
        page_size: int = 1000,
        one_write_a_second: bool = False,
    ) -> None:
        self.name = name
        self.clock = clock or FakeClock()
        self.page_size = page_size
        self.one_write_a_second = one_write_a_second
        self.locked_prefixes: set[str] = set()
        self.uploads: list[PendingUpload] = []
        self.parts: dict[str, int] = {}
        """Bytes of the parts of an upload, by its id."""
        self.calls: list[tuple[str, str]] = []
        self.before: Callable[[str, str], None] = lambda operation, key: None
        self.objects: dict[str, Stored] = {}
        """By identity: the NFC form of the key."""
        self._last_write: dict[str, datetime] = {}
        self._lock = threading.RLock()

    # What tests arrange and look at

    def add(
        self,
        key: str,
        body: bytes = b"x",
        *,
        age: timedelta = timedelta(0),
        headers: Headers | None = None,
    ) -> ObjectInfo:
        """Store an object as if it had been uploaded `age` ago."""
        return self._write(key, body, headers or Headers(), self.now() - age)

    def begin_upload(self, key: str, size: int = 0, *, age: timedelta = timedelta(0)) -> None:
        """Leave an unfinished upload as if it had been begun `age` ago."""
        number = f"upload-{len(self.parts)}"
        self.parts[number] = size
        self.uploads.append(PendingUpload(key=key, upload_id=number, initiated_at=self.now() - age))

    def keys(self) -> list[str]:
        """Every key as listed, in UTF-8 byte order."""
        return sorted(stored.info.key for stored in self.objects.values())

    def body(self, key: str) -> bytes:
        return self.objects[normalize("NFC", key)].body

    # The protocol

    def now(self) -> datetime:
        return self.clock().replace(microsecond=0)

    def list_pages(
        self, prefix: str = "", *, start_after: str = ""
    ) -> Iterator[list[StoredObject]]:
        return guarded(self._pages(prefix, start_after), prefix, start_after)

    def list_page(self, *, start_after: str) -> Page:
        return guarded_page(next(self._pages("", start_after)), start_after)

    def _pages(self, prefix: str, start_after: str) -> Iterator[Page]:
        position, prefix = normalize("NFC", start_after), normalize("NFC", prefix)
        while True:
            self._call("list", position)
            with self._lock:
                names = sorted(n for n in self.objects if n.startswith(prefix) and n > position)
                page = [_listed(self.objects[name].info) for name in names[: self.page_size]]
            truncated = len(names) > self.page_size
            position = names[self.page_size - 1] if truncated else ""
            yield Page(page, truncated, position)
            if not truncated:
                return

    def expiries(self) -> tuple[Expiry, ...]:
        return ()

    def list_uploads(self, prefix: str = "") -> Iterator[PendingUpload]:
        self._call("list uploads", prefix)
        return iter([upload for upload in self.uploads if upload.key.startswith(prefix)])

    def measure_uploads(
        self, uploads: Iterable[PendingUpload]
    ) -> Iterator[Result[PendingUpload, int]]:
        return self._many("measure", uploads, lambda upload: upload.key, self._measure)

    def abort_uploads(
        self, uploads: Iterable[PendingUpload]
    ) -> Iterator[Result[PendingUpload, None]]:
        return self._many("abort", uploads, lambda upload: upload.key, self._abort)

    def _measure(self, upload: PendingUpload) -> int:
        if upload not in self.uploads:
            raise NoSuchKey(f"The upload is over: {upload.key!r}.")
        return self.parts[upload.upload_id]

    def _abort(self, upload: PendingUpload) -> None:
        self.uploads = [each for each in self.uploads if each != upload]

    def head_many(self, keys: Iterable[str]) -> Iterator[Result[str, ObjectInfo]]:
        return self._many("head", keys, lambda key: key, lambda key: self._find(key).info)

    def get_many(
        self, keys: Iterable[str], *, max_bytes: int | None = None
    ) -> Iterator[Result[str, Download]]:
        def act(key: str) -> Download:
            stored = self._find(key)
            require_size(key, len(stored.body), max_bytes)
            return Download(info=stored.info, body=stored.body)

        return self._many("get", keys, lambda key: key, act)

    def peek_many(self, keys: Iterable[str], *, count: int) -> Iterator[Result[str, bytes]]:
        def act(key: str) -> bytes:
            return self._find(key).body[:count]

        return self._many("get", keys, lambda key: key, act)

    def download(self, key: str, path: Path, *, max_bytes: int | None = None) -> ObjectInfo:
        self._call("get", key)
        stored = self._find(key)
        require_size(key, len(stored.body), max_bytes)
        path.write_bytes(stored.body)
        return stored.info

    def put_many(self, uploads: Iterable[Upload]) -> Iterator[Result[Upload, ObjectInfo]]:
        return self._many("put", uploads, lambda upload: upload.key, self._put)

    def copy_many(self, copies: Iterable[Copy]) -> Iterator[Result[Copy, ObjectInfo]]:
        return self._many("copy", copies, lambda copy: copy.source, self._copy)

    def delete_many(
        self, keys: Iterable[str], *, permit: Callable[[], object] = bool
    ) -> Iterator[Result[str, None]]:
        permit()
        return self._many("delete", keys, lambda key: key, self._delete)

    # How it behaves

    def _many(self, operation, requests, key_of, act):
        for request in requests:
            try:
                self._call(operation, key_of(request))
                with self._lock:
                    result = Result(request=request, value=act(request))
            except BucketError as error:
                if error.ends_run:
                    raise
                result = Result(request=request, error=error)
            yield result

    def _call(self, operation: str, key: str) -> None:
        self.calls.append((operation, key))
        self.before(operation, key)

    def _find(self, key: str) -> Stored:
        try:
            return self.objects[normalize("NFC", key)]
        except KeyError:
            raise NoSuchKey(f"The object does not exist: {key!r}.") from None

    def _put(self, upload: Upload) -> ObjectInfo:
        r2_limits.require_key(upload.key)
        headers = r2_limits.stored_headers(upload.key, upload.headers)
        present = self.objects.get(normalize("NFC", upload.key))
        if upload.if_absent and present:
            raise PreconditionFailed(f"The key is taken: {upload.key!r}.")
        if upload.if_match and (present is None or present.info.etag != upload.if_match):
            raise PreconditionFailed(f"The object changed: {upload.key!r}.")
        r2_limits.measure(upload)
        body = upload.body if isinstance(upload.body, bytes) else upload.body.read_bytes()
        self._require_writable(upload.key)
        return self._write(upload.key, body, headers, self.now())

    def _copy(self, copy: Copy) -> ObjectInfo:
        source = self._find(copy.source)
        if source.info.etag != copy.if_match:
            raise PreconditionFailed(f"The object changed: {copy.source!r}.")
        own = replace(source.info.headers, storage_class=copy.storage_class)
        headers = r2_limits.stored_headers(copy.target, copy.headers or own)
        self._require_writable(copy.target)
        return self._write(copy.target, source.body, headers, self.now(), source.info.etag)

    def _delete(self, key: str) -> None:
        identity = normalize("NFC", key)
        if identity in self.objects:
            self._require_unlocked(key)
            del self.objects[identity]

    def _require_unlocked(self, key: str) -> None:
        if any(key.startswith(prefix) for prefix in self.locked_prefixes):
            raise ObjectLocked(f"A bucket lock protects the object: {key!r}.")

    def _require_writable(self, key: str) -> None:
        identity = normalize("NFC", key)
        if identity in self.objects:
            self._require_unlocked(key)
        last = self._last_write.get(identity)
        if self.one_write_a_second and last and self.now() - last < timedelta(seconds=1):
            raise BucketError(f"PutObject failed: {key!r} (TooManyRequests).")

    def _write(
        self, key: str, body: bytes, headers: Headers, at: datetime, etag: str = ""
    ) -> ObjectInfo:
        info = ObjectInfo(
            key=key,
            size=len(body),
            etag=etag or hashlib.md5(body).hexdigest(),
            modified_at=at.replace(microsecond=0),
            headers=headers,
        )
        identity = normalize("NFC", key)
        self.objects[identity] = Stored(info, body)
        self._last_write[identity] = self.now()
        return info


def _listed(info: ObjectInfo) -> StoredObject:
    return StoredObject(
        info.key, info.size, info.etag, info.modified_at, info.headers.storage_class
    )


def fail_on(
    operation: str, *keys: str, error: Callable[[], BucketError] | None = None
) -> Callable[[str, str], None]:
    """Return a `before` that fails `operation` on these keys (on every key if none is named)."""

    def before(called: str, key: str) -> None:
        if called == operation and (not keys or key in keys):
            raise error() if error else BucketUnreachable("The endpoint does not answer: fake.")

    return before


class LostLease:
    """A lease that is another's after so many checks."""

    def __init__(self, checks: int) -> None:
        self.checks = checks

    def check(self) -> None:
        self.checks -= 1
        if self.checks < 0:
            raise LeaseHeld("Another run holds the lease.")


def stored(key: str, size: int = 1) -> StoredObject:
    return StoredObject(key, size, f"etag of {key}", AT)
