"""What every bucket can do, and the values it speaks in. Knows no SDK and no file system."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Generic, NamedTuple, Protocol, TypeVar

from r2maint.errors import BucketError, ObjectTooLarge

R = TypeVar("R")
V = TypeVar("V")

IMMUTABLE = "public, max-age=31536000, immutable"
"""A key that holds the hash of its bytes never changes them, so caches may keep it for a year."""


class StoredObject(NamedTuple):
    """One line of a listing."""

    key: str
    size: int
    """Bytes."""
    etag: str
    """Without quotes."""
    modified_at: datetime
    """Aware UTC in whole seconds, as a HEAD tells it."""
    storage_class: str = "STANDARD"


class Page(NamedTuple):
    """One answer to a listing request."""

    objects: list[StoredObject]
    truncated: bool
    token: str
    """Where the next page begins; "" on the last one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Headers:
    """What is stored beside the bytes and served with them; "" where unset."""

    content_type: str = ""
    cache_control: str = ""
    content_disposition: str = ""
    content_encoding: str = ""
    content_language: str = ""
    expires: str = ""
    """An HTTP date."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    storage_class: str = "STANDARD"


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectInfo:
    """What a HEAD says of one object."""

    key: str
    size: int
    etag: str
    modified_at: datetime
    headers: Headers


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """One object, whole, in memory."""

    info: ObjectInfo
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Expiry:
    """A lifecycle rule that deletes objects: at `at`, or `days` after they were written."""

    name: str
    prefix: str = ""
    days: int = 0
    at: datetime | None = None

    def covers(self, key: str) -> bool:
        return key.startswith(self.prefix)

    def ends_at(self, stored: StoredObject) -> datetime:
        """Return when the rule deletes the object; it may take a day longer."""
        return self.at or stored.modified_at + timedelta(days=self.days)


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """Bytes to store under a new key.

    With neither condition the object is replaced whatever it is; every caller but the lease and the
    bucket marker leaves `if_absent` set (promise 5: nothing is overwritten).
    """

    key: str
    body: bytes | Path
    headers: Headers = field(default_factory=Headers)
    if_absent: bool = True
    if_match: str = ""
    """Replace only the object with this ETag; needs `if_absent=False`."""
    sha256: str = ""
    """Hex; when given, other bytes than these are ObjectRejected and nothing is stored."""
    progress: Callable[[int], None] | None = field(default=None, repr=False, compare=False)
    """Told, on another thread, how many bytes the server has after each part of a large body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """A server-side copy, pinned to the source's ETag."""

    source: str
    target: str
    if_match: str
    headers: Headers | None = None
    """Sent in place of the source's own; None leaves those to the server, all but the class."""
    storage_class: str = "STANDARD"
    """Of the copy, when it has the source's headers: no server keeps the class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingUpload:
    """A multipart upload that was begun and neither completed nor aborted."""

    key: str
    upload_id: str
    initiated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Result(Generic[R, V]):
    """How one request of many ended: `value`, or the error that concerns this object alone."""

    request: R
    value: V | None = None
    error: BucketError | None = None


def require_size(key: str, size: int, max_bytes: int | None) -> None:
    """Raise ObjectTooLarge for an object of more bytes than a caller wants to read."""
    if max_bytes is not None and size > max_bytes:
        raise ObjectTooLarge(f"The object is larger than {max_bytes:,} bytes: {key!r}.")


class Bucket(Protocol):
    """Listing in pages, everything else many at once.

    The `*_many` methods are lazy, send a bounded number of requests at once and yield a Result per
    request, in the order of the requests. An error about one object is in its Result; an error the
    next request would meet too (`BucketError.ends_run`) is raised.
    """

    name: str
    """As reports name it: "quran-apps", or "file:media"."""

    def now(self) -> datetime:
        """Return the bucket's own time, aware UTC: the `Date` of an answer.

        Raises: NoClock where the server sends none; `bucket/clock.py` knows what to do then.
        """

    def list_pages(
        self, prefix: str = "", *, start_after: str = ""
    ) -> Iterator[list[StoredObject]]:
        """Yield the objects whose key starts with `prefix`, in UTF-8 byte order, in pages.

        One Class A request a page of at most 1,000.
        Raises: InvalidListing for a page out of order, a repeated token or truncation without one;
        BucketError if any page fails. Whoever has consumed it all has the whole listing.
        """

    def list_page(self, *, start_after: str) -> Page:
        """Return the one page of the listing that begins after a key. One Class A request."""

    def list_uploads(self, prefix: str = "") -> Iterator[PendingUpload]:
        """Yield multipart uploads that were never completed. One Class A request a page.

        Raises: Unsupported by servers that cannot list them; InvalidListing.
        """

    def measure_uploads(
        self, uploads: Iterable[PendingUpload]
    ) -> Iterator[Result[PendingUpload, int]]:
        """Yield the bytes of the parts of each, or NoSuchKey where it is over. One Class A request
        for 1,000 parts."""

    def abort_uploads(
        self, uploads: Iterable[PendingUpload]
    ) -> Iterator[Result[PendingUpload, None]]:
        """Give up each upload and its parts; one that is over counts as aborted. Free."""

    def expiries(self) -> tuple[Expiry, ...]:
        """Return the lifecycle rules that delete objects. One Class B request.

        Raises: AccessDenied, for a token of objects alone; BucketError.
        """

    def head_many(self, keys: Iterable[str]) -> Iterator[Result[str, ObjectInfo]]:
        """Yield what is stored under each key, or NoSuchKey. One Class B request each."""

    def get_many(
        self, keys: Iterable[str], *, max_bytes: int | None = None
    ) -> Iterator[Result[str, Download]]:
        """Yield each object whole, or NoSuchKey. One Class B request each.

        The bytes are those that are stored, whatever Content-Encoding they have. An object of more
        than `max_bytes` is ObjectTooLarge, and no more than these are read.
        """

    def peek_many(self, keys: Iterable[str], *, count: int) -> Iterator[Result[str, bytes]]:
        """Yield the first `count` bytes of each object that holds any, or NoSuchKey.

        One Class B request each.
        """

    def download(self, key: str, path: Path, *, max_bytes: int | None = None) -> ObjectInfo:
        """Write one object to `path` as `get_many` reads it, streaming.

        Raises: NoSuchKey; ObjectTooLarge.
        """

    def put_many(self, uploads: Iterable[Upload]) -> Iterator[Result[Upload, ObjectInfo]]:
        """Store each upload; PreconditionFailed where its condition does not hold.

        The server checks the bytes against the checksum sent with them. One Class A request each.
        """

    def copy_many(self, copies: Iterable[Copy]) -> Iterator[Result[Copy, ObjectInfo]]:
        """Copy inside the bucket; PreconditionFailed where a source changed, NoSuchKey if gone.

        The value is what a HEAD of the copy says. One Class A request and one Class B each.
        """

    def delete_many(
        self, keys: Iterable[str], *, permit: Callable[[], object] = bool
    ) -> Iterator[Result[str, None]]:
        """Delete in batches of at most 1,000; a key that is absent counts as deleted.

        `permit` is asked right before each attempt of each request, and what it raises ends all.
        No error means that the bucket said so: a key its answer leaves out is a BucketError.
        """
