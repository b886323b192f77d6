"""Remove, for good, the copies that a plan found old and nothing names.

The whole keep set is read again under the lease; everything is journalled before it happens, and an
interrupted run goes on under its own id.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter

from django.db.models import QuerySet

from r2maint.bucket import Bucket, StoredObject
from r2maint.conf import Config
from r2maint.control import Control
from r2maint.errors import BucketError, Stopped
from r2maint.journal import journal
from r2maint.journal.entries import Entry
from r2maint.journal.journal import Journal
from r2maint.models import Change, ChangeKind, ChangeState
from r2maint.object_index.objects import Inventory
from r2maint.purge.bucket_owner import settle
from r2maint.purge.empty_quarantine.keep_reasons import holds_copies, reason_to_stay, spared_runs
from r2maint.purge.empty_quarantine.result import Emptying, EmptyingItem
from r2maint.purge.journal_steps import settle_unsure
from r2maint.purge.judge import PurgeJudge
from r2maint.purge.recheck_before_delete import (
    agree,
    read_again,
    require_no_brake,
    require_same_sources,
)
from r2maint.purge.result import AS_CONFIGURED
from r2maint.purge.verdict import PurgeAction
from r2maint.quarantine.copies import CopyIndex
from r2maint.quarantine.manifest import PREFIX, Manifest, is_manifest
from r2maint.scratch.batches import batched
from r2maint.scratch.spool import Spool

BATCH = 500
"""Copies between two looks at the lease."""


def apply_emptying(
    plan: Emptying,
    config: Config,
    bucket: Bucket,
    run: Journal,
    *,
    control: Control | None = None,
) -> Emptying:
    """Remove the copies of a plan that still may go; return what happened.

    Raises: Refused while a brake holds, LeaseHeld when the lease is lost, DatabaseError or
    BucketError when something cannot be read as a whole; nothing is removed after that, and
    applying a new plan goes on with the run.
    """
    require_no_brake(plan.refusals)
    return _Execution(plan, config, bucket, run, control or Control()).run_to_end()


@dataclass(slots=True)
class _Execution:
    """One execution of an emptying."""

    plan: Emptying
    config: Config
    bucket: Bucket
    run: Journal
    control: Control
    freed: Counter[str] = field(default_factory=Counter)
    stopped: Stopped | None = None

    def run_to_end(self) -> Emptying:
        standing = agree(self.bucket, self.plan.standing, self.run, self.plan.options.lifted)
        self._settle_interrupted()
        items = Spool.of(self._fates())
        if self.stopped is None:
            self._remove_manifests()
            settle(self.bucket, standing)
        return replace(
            self.plan,
            items=items,
            counts=self._counts(items),
            freed=self.freed,
            applied=True,
            stopped=self.stopped,
        )

    def _settle_interrupted(self) -> None:
        """Find out what became of the removals that a killed execution was about to make."""
        changes = journal.iter_changes(self.run.run_id)
        for batch in batched((c for c in changes if c.state == ChangeState.INTENDED), BATCH):
            self._settle_unsure(batch)

    def _settle_unsure(self, removals: Sequence[Change | Entry]) -> set[str]:
        """Look what became of removals; return the copies that are gone."""
        return settle_unsure(self.run, self.bucket, removals, attrgetter("new"))

    def _fates(self) -> Iterator[EmptyingItem]:
        """Remove what still may go; yield what became of each copy."""
        yield from (item for item in self.plan.items if item.action is not PurgeAction.PLAN)
        wanted = (item for item in self.plan.items if item.action is PurgeAction.PLAN)
        total = self.plan.counts.get("to_remove", 0)
        if not total:
            return
        try:
            with Inventory() as inventory:
                reading = read_again(
                    self.config, self.bucket, inventory, self._objects(), control=self.control
                )
                require_same_sources(self.plan.reading, reading)
                judge = PurgeJudge(self.config, AS_CONFIGURED, journal.now(), inventory)
                spared = spared_runs(self.bucket.name)
                for batch in batched(self.control.track(wanted, "Removing", total), BATCH):
                    yield from self._remove_batch(batch, spared, judge)
        except Stopped as reason:
            self.stopped = reason

    def _objects(self) -> Iterator[list[StoredObject]]:
        wanted = (item for item in self.plan.items if item.action is PurgeAction.PLAN)
        return batched((item.copy._replace(key=item.key) for item in wanted), BATCH)

    def _remove_batch(
        self, batch: list[EmptyingItem], spared: Mapping[str, str], judge: PurgeJudge
    ) -> Iterator[EmptyingItem]:
        wanted = []
        for item in batch:
            if reason := spared.get(item.run_id) or reason_to_stay(item.key, judge):
                yield item._replace(action=PurgeAction.KEPT, reason=reason)
            else:
                wanted.append(item)
        faults = self._remove({item.copy.key: _entry(item) for item in wanted})
        for item in wanted:
            if fault := faults.get(item.copy.key):
                yield item._replace(action=PurgeAction.FAIL, reason=fault.message)
            else:
                self.freed[item.copy.storage_class] += item.copy.size
                yield item._replace(action=PurgeAction.DELETE)

    def _remove(self, removals: dict[str, Entry]) -> dict[str, BucketError]:
        """Remove objects of the quarantine; return why some are there still."""
        if not removals:
            return {}
        self.run.intend(removals.values())
        results = self.bucket.delete_many(removals, permit=self.run.check_lease)
        faults = {result.request: result.error for result in results if result.error}
        done = (entry for name, entry in removals.items() if name not in faults)
        self.run.settle(done, ChangeState.DONE)
        # Without an answer that can be read, an object may be gone all the same.
        gone = self._settle_unsure([removals[name] for name in faults])
        return {name: fault for name, fault in faults.items() if name not in gone}

    def _remove_manifests(self) -> None:
        """Remove the old manifests whose copies are all gone, by a new listing."""
        with CopyIndex() as left:
            for page in self.bucket.list_pages(PREFIX):
                left.add_copies(page)
            spared = spared_runs(self.bucket.name)
            for one in self.plan.manifests:
                if one.run_id not in spared and not holds_copies(self.bucket, one.key, left):
                    self._remove({one.key: _manifest_entry(one)})

    def _counts(self, items: Spool[EmptyingItem]) -> Counter[str]:
        """Return the counts; what was removed counts every execution of the run."""
        counts = Counter(self.plan.counts)
        actions = Counter(item.action for item in items)
        counts["kept"], counts["failed"] = actions[PurgeAction.KEPT], actions[PurgeAction.FAIL]
        removed = discarded(self.run.run_id).values_list("new", flat=True)
        counts["removed"] = sum(not is_manifest(name) for name in removed.iterator())
        return counts


def discarded(run_id: str) -> QuerySet[Change]:
    """Return what an emptying removed from quarantine."""
    lines: QuerySet[Change] = Change.objects.using(journal.home()).filter(
        run_id=run_id, kind=ChangeKind.DISCARD, state=ChangeState.DONE
    )
    return lines


def _manifest_entry(one: Manifest) -> Entry:
    return Entry(kind=ChangeKind.DISCARD, new=one.key, row=one.run_id)


def _entry(item: EmptyingItem) -> Entry:
    return Entry(
        kind=ChangeKind.DISCARD,
        old=item.key,
        key=item.key,
        new=item.copy.key,
        etag=item.copy.etag,
        bytes=item.copy.size,
        row=item.run_id,
    )
