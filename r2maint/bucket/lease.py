"""One writer per bucket: a lease that lives in the bucket itself.

The lease is the object `.r2maint/lease`. Who creates it, or replaces one that is released or 60
seconds old by the bucket's clock, holds it; replacing is conditional on the ETag, so of two that
try one wins. A thread replaces it every 20 seconds. Each holder's fencing token is larger than
every earlier one's; to keep the count, and because R2 has no conditional delete, a lease is
released by marking it, never by deleting it.
"""

from __future__ import annotations

import json
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import timedelta

from r2maint.bucket import get, head, put
from r2maint.bucket.clock import writers_time
from r2maint.bucket.own_objects import MAX_BYTES, read_fields
from r2maint.bucket.protocol import Bucket, Download, Headers, Upload
from r2maint.errors import (
    BucketError,
    LeaseHeld,
    NoSuchKey,
    ObjectTooLarge,
    PreconditionFailed,
)

KEY = ".r2maint/lease"
LASTS = timedelta(seconds=60)
RENEWED_EVERY = timedelta(seconds=20)

_MARGIN = 1 / 4
"""A lease with a smaller part left is renewed before it is relied on: what follows takes time."""
_HEADERS = Headers(content_type="application/json", cache_control="no-store")


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What the lease object says. A public bucket serves it, so no more than a colleague needs."""

    token: int
    holder: str
    """Random, one per holder."""
    run_id: str
    command: str
    host: str
    since: str
    """The bucket's time when the holder came, ISO 8601 UTC."""
    renewals: int = 0
    """Makes every version different, hence its ETag too."""
    released: bool = False

    def as_bytes(self) -> bytes:
        return json.dumps(asdict(self), sort_keys=True).encode()

    @classmethod
    def read(cls, body: bytes) -> Note:
        """Return the note in `body`; raises LeaseHeld when it is none."""
        try:
            return read_fields(cls, body)
        except ValueError as error:
            raise _unreadable() from error


class Lease:
    """A lease that is held; made by `hold_lease`. `check` may be called from any thread."""

    def __init__(
        self, bucket: Bucket, note: Note, etag: str, taken_at: tuple[float, float]
    ) -> None:
        self._bucket = bucket
        self._note = note
        self._etag = etag
        self._renewed_at = taken_at
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="r2maint-lease", daemon=True)

    @property
    def token(self) -> int:
        """The fencing token: larger than every earlier holder's."""
        return self._note.token

    def check(self) -> None:
        """Return if the lease is ours and lasts a while; one Class B request.

        Raises: LeaseHeld when another holder has taken it over; BucketError when nobody can tell.
        """
        with self._lock:
            if _elapsed_since(self._renewed_at) > (1 - _MARGIN) * LASTS.total_seconds():
                self._renew()
                return
            info = head(self._bucket, KEY)
            if info is None or info.etag != self._etag:
                self._take_note_of_own()

    def renew(self) -> None:
        """Start the 60 seconds anew; raises LeaseHeld when another holder has taken it over."""
        with self._lock:
            self._renew()

    def _renew(self) -> None:
        note = replace(self._note, renewals=self._note.renewals + 1)
        began = _now()
        try:
            self._etag = _write(self._bucket, note, if_match=self._etag)
        except PreconditionFailed:
            # Ours after all when the answer to an earlier renewal was lost.
            self._take_note_of_own()
            note = replace(self._note, renewals=self._note.renewals + 1)
            try:
                self._etag = _write(self._bucket, note, if_match=self._etag)
            except PreconditionFailed as error:
                raise self._lost() from error
        self._note, self._renewed_at = note, began

    def _take_note_of_own(self) -> None:
        """Learn the ETag of our own latest note; raise LeaseHeld if the latest is not ours."""
        found = _read(self._bucket)
        if found is None:
            raise self._deleted()
        if Note.read(found.body).holder != self._note.holder:
            raise self._lost()
        self._note, self._etag = Note.read(found.body), found.info.etag

    def _lost(self) -> LeaseHeld:
        return LeaseHeld(
            f"The lease on the bucket was lost: {self._bucket.name}.",
            "Another run took it over while this one did not renew it; run again when it is done.",
        )

    def _deleted(self) -> LeaseHeld:
        return LeaseHeld(
            f"The lease on the bucket was lost: {self._bucket.name}.",
            f"Somebody, or a lifecycle rule, deleted {KEY!r}; run again.",
        )

    def _keep(self) -> None:
        while not self._done.wait(RENEWED_EVERY.total_seconds()):
            # `check` tells the run; a failed renewal is tried again until the lease is lost.
            with suppress(BucketError, LeaseHeld):
                self.renew()

    def start(self) -> None:
        """Begin to renew in the background, until `release`."""
        self._thread.start()

    def release(self) -> None:
        """Let the next run in at once; a lease that is no longer ours is left alone."""
        self._done.set()
        self._thread.join()
        note = replace(self._note, renewals=self._note.renewals + 1, released=True)
        # Whatever fails here, the lease ends by itself within 60 seconds.
        with suppress(BucketError):
            _write(self._bucket, note, if_match=self._etag)


@contextmanager
def hold_lease(bucket: Bucket, *, run_id: str, command: str) -> Iterator[Lease]:
    """Hold the bucket's lease while the block runs.

    Raises: LeaseHeld when another run holds it, naming its command, host and beginning.
    """
    lease = _acquire(bucket, run_id=run_id, command=command)
    lease.start()
    try:
        yield lease
    finally:
        lease.release()


def _acquire(bucket: Bucket, *, run_id: str, command: str) -> Lease:
    found = _read(bucket)
    now = writers_time(bucket)
    earlier = None
    if found is not None:
        earlier = Note.read(found.body)
        left = found.info.modified_at + LASTS - now
        if not earlier.released and left > timedelta(0):
            raise _held(bucket, earlier, left)
    note = Note(
        token=earlier.token + 1 if earlier else 1,
        holder=uuid.uuid4().hex,
        run_id=run_id,
        command=command,
        host=socket.gethostname(),
        since=now.isoformat(),
    )
    taken_at = _now()
    try:
        etag = _write(bucket, note, if_match=found.info.etag if found else "")
    except PreconditionFailed as error:
        raise _beaten(bucket) from error
    return Lease(bucket, note, etag, taken_at)


def _read(bucket: Bucket) -> Download | None:
    try:
        return get(bucket, KEY, max_bytes=MAX_BYTES)
    except NoSuchKey:
        return None
    except ObjectTooLarge as error:
        raise _unreadable() from error


def _write(bucket: Bucket, note: Note, *, if_match: str) -> str:
    """Store the note over the one with this ETag ("" for none); return the new ETag."""
    upload = Upload(
        key=KEY,
        body=note.as_bytes(),
        headers=_HEADERS,
        if_absent=not if_match,
        if_match=if_match,
    )
    return put(bucket, upload).etag


def _unreadable() -> LeaseHeld:
    return LeaseHeld(
        f"The lease cannot be read: {KEY!r}.",
        "Another program, or another version of r2maint, may have written it; delete it if no run"
        " is under way.",
    )


def _held(bucket: Bucket, note: Note, left: timedelta) -> LeaseHeld:
    seconds = max(1, round(left.total_seconds()))
    return LeaseHeld(
        f"Another run is writing to the bucket {bucket.name}: {note.command} (run {note.run_id})"
        f" on {note.host} since {note.since}.",
        f"Wait until it is done. If it was killed, its lease ends in {seconds} seconds.",
    )


def _beaten(bucket: Bucket) -> LeaseHeld:
    return LeaseHeld(
        f"Another run has just begun to write to the bucket: {bucket.name}.",
        "Run again when it is done.",
    )


def _now() -> tuple[float, float]:
    return time.monotonic(), time.time()


def _elapsed_since(begin: tuple[float, float]) -> float:
    """Return the seconds passed, also those the machine slept, which only one clock counts."""
    return max(now - then for now, then in zip(_now(), begin, strict=True))
