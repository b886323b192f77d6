"""The steps of one purge in the journal: written before they are taken, and found again later."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from operator import attrgetter

from django.db.models import QuerySet

from r2maint.bucket import Bucket, StoredObject
from r2maint.errors import NoSuchKey
from r2maint.journal import journal
from r2maint.journal.entries import Entry
from r2maint.journal.journal import Journal
from r2maint.models import Change, ChangeKind, ChangeState
from r2maint.quarantine.manifest import PREFIX
from r2maint.scratch.batches import batched

BATCH = 1000
"""Objects between two looks at the lease; as many as one request deletes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """What one run wrote down, in whatever execution."""

    run: Journal
    bucket: Bucket

    def changes(self, kind: str, *states: str) -> QuerySet[Change]:
        """Return the changes of a kind; in any state if none is given."""
        rows: QuerySet[Change] = Change.objects.using(journal.home()).filter(
            run_id=self.run.run_id, kind=kind
        )
        return rows.filter(state__in=states) if states else rows

    def token(self) -> str:
        """Return the quarantine of this run; "" when no execution has begun one."""
        first = self.changes(ChangeKind.QUARANTINE).order_by("pk").first()
        return first.new.removeprefix(PREFIX).partition("/")[0] if first else ""

    def settle_interrupted(self) -> None:
        """Find out what became of what a killed execution was about to do."""
        copies = self.changes(ChangeKind.QUARANTINE, ChangeState.INTENDED)
        for batch in batched(in_order(copies), BATCH):
            heads = self.bucket.head_many(change.new for change in batch)
            self.settle(batch, [one.value is not None for one in heads])
        deletions = self.changes(ChangeKind.DELETE, ChangeState.INTENDED)
        for batch in batched(in_order(deletions), BATCH):
            self.settle_unsure(batch)

    def settle(self, changes: Collection[Change | Entry], done: list[bool]) -> None:
        """Record which changes were made and which were not."""
        for state in (ChangeState.DONE, ChangeState.CONFLICT):
            is_done = state == ChangeState.DONE
            ended = (c for c, each in zip(changes, done, strict=True) if each is is_done)
            self.run.settle(ended, state)

    def settle_unsure(self, deletions: Collection[Change | Entry]) -> set[str]:
        """Look what became of deletions; return the keys that are gone."""
        return settle_unsure(self.run, self.bucket, deletions, attrgetter("old"))


def settle_unsure(
    run: Journal,
    bucket: Bucket,
    removals: Collection[Change | Entry],
    name_of: Callable[[Change | Entry], str],
) -> set[str]:
    """Look what became of removals nobody vouches for; return the names that are gone.

    What cannot be told either stays INTENDED: it can be restored and undone like the others.
    """
    results = list(bucket.head_many(map(name_of, removals)))
    gone = {one.request for one in results if isinstance(one.error, NoSuchKey)}
    there = {one.request for one in results if one.value is not None}
    run.settle((one for one in removals if name_of(one) in gone), ChangeState.DONE)
    run.settle((one for one in removals if name_of(one) in there), ChangeState.CONFLICT)
    return gone


def step(kind: str, item: StoredObject, copy: str) -> Entry:
    """Return the line of a step that concerns one version of an object, and its copy."""
    return Entry(kind=kind, old=item.key, new=copy, key=item.key, etag=item.etag, bytes=item.size)


def in_order(rows: QuerySet[Change]) -> Iterator[Change]:
    """Yield changes by primary key, some at a time; they may be settled meanwhile."""
    last = 0
    while page := list(rows.filter(pk__gt=last).order_by("pk")[: 2 * BATCH]):
        yield from page
        last = page[-1].pk
