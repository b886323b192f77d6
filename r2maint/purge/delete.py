"""Delete what has its copy: look at each object once more, write down, delete a batch at once.

The lease is asked right before each request that deletes, also before one that is tried again.
What a holder sent in the moment before it was stopped cannot be called back: a process that sleeps
between that question and the request, past the end of its lease, may delete one batch more. All
of it lies in quarantine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any

from r2maint.bucket import ObjectInfo, Result, StoredObject
from r2maint.bucket.r2_limits import is_pinned
from r2maint.control import Control
from r2maint.errors import AccessDenied, BucketError, NoSuchKey, ObjectLocked, Stopped
from r2maint.journal.entries import Entry
from r2maint.models import ChangeKind, ChangeState
from r2maint.purge import journal_steps
from r2maint.purge.journal_steps import Steps, step
from r2maint.purge.verdict import PurgeAction, PurgeItem, PurgeVerdict
from r2maint.quarantine.manifest import Quarantined, as_entry_headers
from r2maint.scratch.spool import Spool

_NO_COPY = (
    "Its copy in quarantine is gone, or is another one, so it stays. A lifecycle rule or another"
    " program may remove what is below .r2maint/."
)
_CHANGED = "It changed since it was listed."
_LOCKED = "A bucket lock rule keeps it; PROTECTED leaves such keys out of the next purge."


def fate(item: StoredObject, action: PurgeAction, reason: str) -> PurgeItem:
    """Return what became of an orphan."""
    return PurgeItem(item, PurgeVerdict.ORPHAN, action, reason)


@dataclass(slots=True, kw_only=True)
class OrphanDeleter:
    """Deletes quarantined objects."""

    steps: Steps
    control: Control
    named: frozenset[str]
    """Keys that something names since the plan."""
    stopped: Stopped | None = None
    locked: int = 0
    changed: int = 0
    """Objects that a HEAD found other than the listing."""
    waiting: list[Quarantined] = field(default_factory=list)
    """Unnamed and unchanged: the next batch."""

    def delete(self, entries: Spool[Quarantined]) -> Iterator[PurgeItem]:
        """Delete what is still unnamed and unchanged; yield what became of each object."""
        heads = self.steps.bucket.head_many(self._keys(entries))
        with closing(heads):  # type: ignore[type-var]
            # Not strict: a stop ends the heads early.
            for one, head in zip(entries, heads, strict=False):
                if kept := self._kept(one, head):
                    yield kept
                    continue
                self.waiting.append(one)
                if len(self.waiting) >= journal_steps.BATCH:
                    yield from self._delete_waiting()
        if self.stopped is None:
            yield from self._delete_waiting()

    def _keys(self, entries: Spool[Quarantined]) -> Iterator[str]:
        try:
            for one in self.control.track(entries, "Deleting", len(entries)):
                yield one.key
        except Stopped as reason:
            self.stopped = reason

    def _kept(self, one: Quarantined, head: Result[str, ObjectInfo]) -> PurgeItem | None:
        """Return the fate of an object that stays; None for one that may go."""
        item = one.object
        if one.key in self.named:
            return fate(item, PurgeAction.KEPT, "Something names it since the plan.")
        if isinstance(head.error, NoSuchKey):
            return fate(item, PurgeAction.KEPT, "It is gone already.")
        if head.error is not None or head.value is None:
            return fate(item, PurgeAction.FAIL, str(head.error))
        if _changed(item, head.value):
            self.changed += 1
            return fate(item, PurgeAction.KEPT, _CHANGED)
        if one.copy and not _has_all(one.headers, as_entry_headers(head.value.headers)):
            return fate(item, PurgeAction.FAIL, "Its copy lacks headers that it has.")
        return None

    def _delete_waiting(self) -> Iterator[PurgeItem]:
        waiting, self.waiting = self.waiting, []
        batch, lost = self._with_copy(waiting)
        yield from (fate(one.object, PurgeAction.FAIL, _NO_COPY) for one in lost)
        if not batch:
            return
        entries = {one.key: step(ChangeKind.DELETE, one.object, one.copy) for one in batch}
        self.steps.run.intend(entries.values())
        errors = self._send(entries)
        done = (entry for key, entry in entries.items() if key not in errors)
        self.steps.run.settle(done, ChangeState.DONE)
        # Without an answer that can be read, an object may be gone all the same.
        gone = self.steps.settle_unsure([entries[key] for key in errors]) if errors else set()
        for one in batch:
            error = None if one.key in gone else errors.get(one.key)
            yield self._ended(one.object, error)

    def _with_copy(self, batch: list[Quarantined]) -> tuple[list[Quarantined], list[Quarantined]]:
        """Return those whose copy is there as it was made, or that need none, and the others.

        A copy counts when the deletion is sent: a lifecycle rule or another program may have
        removed it since. One Class B request each.
        """
        copied = [one for one in batch if one.copy]
        heads = self.steps.bucket.head_many(one.copy for one in copied)
        pairs = zip(copied, heads, strict=True)
        lost = {one.key for one, head in pairs if not _is_kept(one, head.value)}
        return (
            [one for one in batch if one.key not in lost],
            [one for one in batch if one.key in lost],
        )

    def _send(self, entries: dict[str, Entry]) -> dict[str, BucketError]:
        """Delete the objects; return what the bucket did not vouch for."""
        try:
            results = self.steps.bucket.delete_many(entries, permit=self.steps.run.check_lease)
            return {one.request: one.error for one in results if one.error is not None}
        except AccessDenied:
            # Every later batch would be denied too. Reading is allowed: say what is still there.
            with suppress(BucketError):
                self.steps.settle_unsure(list(entries.values()))
            raise

    def _ended(self, item: StoredObject, error: BucketError | None) -> PurgeItem:
        if error is None:
            return fate(item, PurgeAction.DELETE, "Nothing names it.")
        if isinstance(error, ObjectLocked):
            self.locked += 1
            return fate(item, PurgeAction.KEPT, _LOCKED)
        return fate(item, PurgeAction.FAIL, error.message)


def _is_kept(one: Quarantined, copy: ObjectInfo | None) -> bool:
    """Tell whether a copy holds the object: its size, and its ETag where both are MD5s."""
    return copy is not None and copy.size == one.size and is_pinned(copy.etag, one.etag)


def _has_all(copy: Mapping[str, Any], own: Mapping[str, Any]) -> bool:
    """Tell whether nothing of an object's headers is lost; some servers add metadata to copies."""
    is_served_alike = {**own, "metadata": None} == {**copy, "metadata": None}
    return is_served_alike and own["metadata"].items() <= copy["metadata"].items()


def _changed(item: StoredObject, info: ObjectInfo) -> bool:
    """Tell whether an object is no longer the one that was listed."""
    # A HEAD tells whole seconds, cut off; a listing tells milliseconds, which may be rounded up.
    latest = item.modified_at.timestamp()
    seconds = {int(latest), int(latest - 0.001)}
    is_same = (item.etag, item.size) == (info.etag, info.size)
    return not (is_same and int(info.modified_at.timestamp()) in seconds)
