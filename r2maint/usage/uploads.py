"""Uploads that were begun and never completed: no listing shows their parts, which are billed."""

from __future__ import annotations

from dataclasses import dataclass

from r2maint.bucket import Bucket
from r2maint.errors import InvalidListing, NoSuchKey, Unsupported


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """How many there are, and the bytes of the parts of those that could be measured."""

    uploads: int = 0
    bytes: int = 0
    unmeasured: int = 0


def measure_pending(bucket: Bucket, prefix: str) -> Pending | None:
    """Return the unfinished uploads below a prefix; None when the server cannot list them.

    One Class A request for 1,000 uploads, and one for 1,000 parts of each. Raises: BucketError.
    """
    uploads = size = unmeasured = 0
    try:
        for result in bucket.measure_uploads(bucket.list_uploads(prefix)):
            if isinstance(result.error, NoSuchKey):  # completed or aborted meanwhile
                continue
            uploads += 1
            unmeasured += result.value is None
            size += result.value or 0
    except (Unsupported, InvalidListing):
        return None
    return Pending(uploads=uploads, bytes=size, unmeasured=unmeasured)
