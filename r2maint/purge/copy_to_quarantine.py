"""Copy what is to be deleted into quarantine, many objects at once, each written down before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import NamedTuple

from r2maint.bucket import Copy, Headers, ObjectInfo, Result, StoredObject, r2_limits
from r2maint.errors import BucketError, NoSuchKey, ObjectRejected, PreconditionFailed
from r2maint.journal.entries import Entry
from r2maint.models import ChangeKind
from r2maint.purge import journal_steps
from r2maint.purge.journal_steps import Steps, step
from r2maint.quarantine.manifest import MAX_COPY_BYTES, Quarantined, copy_key, quarantined
from r2maint.scratch.batches import batched

_CHANGED = "It changed since it was listed."
_TOO_LARGE = "It is too large to copy into quarantine (over 4.995 GiB); --hard deletes it."


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """An object that cannot be copied, and so is not deleted."""

    item: StoredObject
    reason: str
    failed: bool
    """The bucket refused; otherwise the object is simply not what it was, or too large."""


class _Begun(NamedTuple):
    item: StoredObject
    entry: Entry


@dataclass(slots=True, kw_only=True)
class Copier:
    """Copies objects into one quarantine."""

    steps: Steps
    token: str
    begun: dict[str, _Begun] = field(default_factory=dict)
    """By key: written down, and not yet known to be copied."""
    ready: list[Quarantined | Kept] = field(default_factory=list)
    """What needs no copying, or cannot be copied."""

    def copy(self, orphans: Iterable[StoredObject]) -> Iterator[Quarantined | Kept]:
        """Copy each object, pinned to its listed ETag; yield what came of each, some batches late.

        The server keeps the headers, which a HEAD of the copy tells; the storage class is sent
        again. One Class A request and one Class B each.
        """
        results = self.steps.bucket.copy_many(self._intended(orphans))
        with closing(results):  # type: ignore[type-var]
            for batch in batched(results, journal_steps.BATCH):
                yield from self._settled(batch)
                yield from self._taken()
        yield from self._taken()

    def _taken(self) -> list[Quarantined | Kept]:
        taken, self.ready = self.ready, []
        return taken

    def _intended(self, orphans: Iterable[StoredObject]) -> Iterator[Copy]:
        """Yield the copies, a batch at a time, each after its line is in the journal."""
        for batch in batched(orphans, journal_steps.BATCH):
            fresh = self._without_copy([item for item in batch if self._can_be_copied(item)])
            begun = [_Begun(item, self._step(item)) for item in fresh]
            self.steps.run.intend(entry for _, entry in begun)
            self.begun |= {each.item.key: each for each in begun}
            for item, entry in begun:
                yield Copy(
                    source=item.key,
                    target=entry.new,
                    if_match=item.etag,
                    storage_class=item.storage_class,
                )

    def _step(self, item: StoredObject) -> Entry:
        return step(ChangeKind.QUARANTINE, item, copy_key(self.token, item))

    def _can_be_copied(self, item: StoredObject) -> bool:
        if item.size > MAX_COPY_BYTES:
            self.ready.append(Kept(item=item, reason=_TOO_LARGE, failed=False))
        return item.size <= MAX_COPY_BYTES

    def _without_copy(self, batch: list[StoredObject]) -> list[StoredObject]:
        """Return the objects that no earlier execution of this run has copied; keep the others."""
        if not self.steps.run.resumed:
            return batch
        heads = self.steps.bucket.head_many(copy_key(self.token, item) for item in batch)
        fresh = []
        for item, found in zip(batch, heads, strict=True):
            if found.value is not None and _is_copy(item, found.value):
                self.ready.append(_looked_at(item, found.value))
            else:
                fresh.append(item)
        return fresh

    def _settled(self, batch: list[Result[Copy, ObjectInfo]]) -> list[Quarantined | Kept]:
        begun = [self.begun.pop(result.request.source) for result in batch]
        ends = [_end(each.item, result) for each, result in zip(begun, batch, strict=True)]
        self.steps.settle(
            [each.entry for each in begun], [isinstance(end, Quarantined) for end in ends]
        )
        return ends


def without_copy(item: StoredObject) -> Quarantined:
    """Return the entry of an object that is deleted without a copy."""
    return quarantined(item, "", Headers(storage_class=item.storage_class))


def _end(item: StoredObject, result: Result[Copy, ObjectInfo]) -> Quarantined | Kept:
    if isinstance(result.error, PreconditionFailed):
        return Kept(item=item, reason=_CHANGED, failed=False)
    if isinstance(result.error, NoSuchKey):
        return Kept(item=item, reason="It is gone already.", failed=False)
    if result.value is None:
        return Kept(item=item, reason=_told(result.error), failed=True)
    if result.value.size != item.size:
        reason = f"Its copy has {result.value.size} bytes in place of {item.size}."
        return Kept(item=item, reason=reason, failed=True)
    return _looked_at(item, result.value)


def _looked_at(item: StoredObject, copy: ObjectInfo) -> Quarantined | Kept:
    """Return the entry of an object whose copy could be put back as it was."""
    try:
        r2_limits.stored_headers(item.key, copy.headers)
    except ObjectRejected as error:
        return Kept(item=item, reason=error.message, failed=True)
    return quarantined(item, copy.key, copy.headers)


def _is_copy(item: StoredObject, copy: ObjectInfo) -> bool:
    is_alike = copy.headers.storage_class == item.storage_class and copy.size == item.size
    return is_alike and r2_limits.is_pinned(copy.etag, item.etag)


def _told(error: BucketError | None) -> str:
    return error.message if error else "The bucket gave no answer."
