"""The bucket's own time, also where its server sends no `Date`, as Cloudflare's local R2 does not.

There the time is read from an object written for it: its `LastModified`. Only a command that may
write does that; a plan takes the time of this machine, decides nothing by it, and says so.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from r2maint.bucket import head, put
from r2maint.bucket.protocol import Bucket, Headers, Upload
from r2maint.errors import BucketError, NoClock

PREFIX = ".r2maint/clock/"
"""What comes after it is unguessable: a public bucket serves it to whoever can name it."""
LOCAL_TIME = (
    "The bucket's server sends no Date: ages are counted by the clock of this machine here, and no"
    " orphan is remembered as seen. A command with --apply learns the bucket's time from an object"
    f" that it writes below {PREFIX} and removes again."
)

_HEADERS = Headers(content_type="application/octet-stream", cache_control="no-store")


def writers_time(bucket: Bucket) -> datetime:
    """Return the bucket's time: its Date or, without one, the time of an object written for it.

    One Class A request and, without a Date, one more and a Class B.
    """
    try:
        return bucket.now()
    except NoClock:
        return _time_of_new_object(bucket)


def _time_of_new_object(bucket: Bucket) -> datetime:
    key = f"{PREFIX}{secrets.token_hex(16)}"
    put(bucket, Upload(key=key, body=b"", headers=_HEADERS))
    try:
        written = head(bucket, key)
    finally:
        # An empty object that stays behind harms nothing.
        with suppress(BucketError):
            list(bucket.delete_many([key]))
    if written is None:
        raise NoClock(
            f"The bucket does not tell its time: {key!r} was written and is not there.",
            "A lifecycle rule or another program may have removed it; run again.",
        )
    return written.modified_at


@dataclass(slots=True)
class Clock:
    """What a command takes for the bucket's time."""

    bucket: Bucket
    may_write: bool
    is_local: bool = False
    """The last answer was the time of this machine: nothing may be decided or recorded by it."""

    def now(self) -> datetime:
        """Return the bucket's time; without its Date, a plan gets the time of this machine."""
        try:
            return writers_time(self.bucket) if self.may_write else self.bucket.now()
        except NoClock:
            if self.may_write:
                raise
            self.is_local = True
            return datetime.now(UTC)
