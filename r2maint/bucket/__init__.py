"""Buckets: one protocol, two kinds (R2 or another S3 server, and a directory).

In: a `Config` says which bucket. Out: `open_bucket` gives a `Bucket` that lists, reads, writes,
copies and deletes by exact keys; every failure is a `BucketError`. Only this package imports boto3.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from r2maint.bucket.directory_bucket import DirectoryBucket
from r2maint.bucket.protocol import (
    IMMUTABLE,
    Bucket,
    Copy,
    Download,
    Expiry,
    Headers,
    ObjectInfo,
    PendingUpload,
    Result,
    StoredObject,
    Upload,
)
from r2maint.errors import NoSuchKey

if TYPE_CHECKING:
    from r2maint.conf import Config

R = TypeVar("R")
V = TypeVar("V")

__all__ = [
    "IMMUTABLE",
    "Bucket",
    "Copy",
    "DirectoryBucket",
    "Download",
    "Expiry",
    "Headers",
    "ObjectInfo",
    "PendingUpload",
    "Result",
    "StoredObject",
    "Upload",
    "get",
    "head",
    "open_bucket",
    "put",
]


def open_bucket(config: Config, *, workers: int = 8, rate: float | None = None) -> Bucket:
    """Return the configured bucket; nothing is sent or made yet.

    `workers` requests at once, `rate` requests a second at most. The directory of a `file:` bucket
    may be absent; the first write makes it.
    Raises: ConfigError when no bucket or no connection is configured, NoSuchBucket for a directory
    whose parent is missing.
    """
    if config.bucket.startswith("file:"):
        path = Path(config.bucket.removeprefix("file:"))
        return DirectoryBucket(path, name=_directory_name(path, config.base_dir))
    # Settings are Django's, which processes that only ask URLs do without.
    from r2maint.conf import require_connection

    connection = require_connection(config)
    # The SDK takes a third of a second to import, and a directory bucket needs none of it.
    from r2maint.bucket.r2 import R2Bucket

    return R2Bucket(config.bucket, connection, workers=workers, rate=rate)


def _directory_name(path: Path, base_dir: Path) -> str:
    """Return "file:media" for a directory below the project, the whole path for any other."""
    inside = path.is_relative_to(base_dir) and path != base_dir
    return f"file:{path.relative_to(base_dir).as_posix() if inside else path}"


def head(bucket: Bucket, key: str) -> ObjectInfo | None:
    """Return what is stored under `key`, or None; raises any other BucketError."""
    try:
        return _only(bucket.head_many([key]))
    except NoSuchKey:
        return None


def get(bucket: Bucket, key: str, *, max_bytes: int | None = None) -> Download:
    """Return one object whole; raises NoSuchKey, ObjectTooLarge and any other BucketError."""
    return _only(bucket.get_many([key], max_bytes=max_bytes))


def put(bucket: Bucket, upload: Upload) -> ObjectInfo:
    """Store one upload; raises PreconditionFailed and any other BucketError."""
    return _only(bucket.put_many([upload]))


def _only(results: Iterator[Result[R, V]]) -> V:
    (result,) = results
    if result.error is not None:
        raise result.error
    assert result.value is not None
    return result.value
