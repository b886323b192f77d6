"""Delete what a plan calls orphans, in the order that loses nothing.

Copy everything into quarantine, write the manifest, read the whole keep set again, look at each
object once more, delete in batches, read the keep set a third time, and restore what is named by
then. Everything is journalled before it happens, and an interrupted run goes on under its own id.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from r2maint.bucket import Bucket, StoredObject
from r2maint.conf import Config
from r2maint.control import Control
from r2maint.errors import Stopped
from r2maint.journal import journal
from r2maint.journal.journal import Journal
from r2maint.journal.sightings import Sightings
from r2maint.models import Run
from r2maint.purge import bucket_owner
from r2maint.purge.copy_to_quarantine import Copier, Kept, without_copy
from r2maint.purge.delete import OrphanDeleter, fate
from r2maint.purge.journal_steps import Steps
from r2maint.purge.plan import circumstances
from r2maint.purge.recheck_before_delete import (
    Lifted,
    agree,
    find_named,
    require_no_brake,
    require_same_sources,
)
from r2maint.purge.restore_named import Restorer
from r2maint.purge.result import PurgeOutcome, PurgePlan, outcome_of
from r2maint.purge.verdict import PurgeAction, PurgeItem
from r2maint.quarantine.manifest import Quarantined, new_token, write_manifest
from r2maint.scratch.spool import Spool


def apply_purge(
    plan: PurgePlan,
    config: Config,
    bucket: Bucket,
    run: Journal,
    *,
    control: Control | None = None,
) -> PurgeOutcome:
    """Delete the plan's orphans and return what happened; may delete less, never more.

    Raises: Refused while a brake holds, LeaseHeld when the lease is lost, DatabaseError or
    BucketError when something cannot be read as a whole; nothing is deleted after that, and
    applying a new plan goes on with the run.
    """
    require_no_brake(plan.refusals)
    steps = Steps(run=run, bucket=bucket)
    deletion = _Deletion(plan, config, bucket, run, control or Control(), steps)
    return deletion.run_to_end()


@dataclass(slots=True)
class _Deletion:
    """One execution of a purge."""

    plan: PurgePlan
    config: Config
    bucket: Bucket
    run: Journal
    control: Control
    steps: Steps
    standing: bucket_owner.Standing = field(default_factory=bucket_owner.Standing)
    locked: int = 0
    changed: int = 0
    stopped: Stopped | None = None

    def run_to_end(self) -> PurgeOutcome:
        self._agree()
        self.steps.settle_interrupted()
        fates: Spool[PurgeItem] = Spool()
        entries = Spool.of(self._quarantined(fates))
        fates.extend(self._deleted(entries))
        restored = self._restored()
        if self.stopped is None:
            self._remember_baseline()
            bucket_owner.settle(self.bucket, self.standing)
        return outcome_of(
            self.plan,
            self.steps,
            fates,
            restored=restored,
            locked=self.locked,
            changed=self.changed,
            stopped=self.stopped,
        )

    # Before

    def _agree(self) -> None:
        """Make sure once more, now under the lease, that bucket and database belong together."""
        planned, options = self.plan.standing, self.plan.options
        lifted = Lifted(adopt=options.adopt, overrides=options.overrides)
        self.standing = agree(self.bucket, planned, self.run, lifted)
        if planned.is_first and self.standing.owner_id:
            owner_id, sources = self.standing.owner_id, self.plan.reading.sources
            seen = Sightings(self.bucket.name, self.plan.circumstances, journal.now())
            seen.carry_over(circumstances(self.config, owner_id, sources))

    # Copy, delete, restore

    def _quarantined(self, fates: Spool[PurgeItem]) -> Iterator[Quarantined]:
        """Yield what is in quarantine now, once the manifest is to be written of it."""
        if self.plan.options.hard:
            yield from map(without_copy, self._orphans())
            return
        copier = Copier(steps=self.steps, token=self.steps.token() or new_token())
        for one in copier.copy(self._orphans()):
            if isinstance(one, Kept):
                action = PurgeAction.FAIL if one.failed else PurgeAction.KEPT
                fates.extend([fate(one.item, action, one.reason)])
            else:
                yield one

    def _orphans(self) -> Iterator[StoredObject]:
        label = "Deleting" if self.plan.options.hard else "Copying to quarantine"
        orphans = self.plan.orphans()
        try:
            yield from self.control.track(orphans, label, self.plan.counts.get("orphans", 0))
        except Stopped as reason:
            # Nothing is deleted yet: the next execution finds these copies and goes on.
            self.stopped = reason

    def _deleted(self, entries: Spool[Quarantined]) -> Iterator[PurgeItem]:
        """Delete what is still unnamed and unchanged; yield what became of each orphan."""
        if self.stopped or not len(entries):
            return
        if not self.plan.options.hard:
            write_manifest(self.bucket, self.steps.token(), self.run.run_id, entries)
        try:
            objects = (one.object for one in entries)
            named, reading = find_named(self.config, self.bucket, objects, control=self.control)
        except Stopped as reason:
            self.stopped = reason
            return
        require_same_sources(self.plan.reading, reading)
        deleter = OrphanDeleter(steps=self.steps, control=self.control, named=named)
        yield from deleter.delete(entries)
        self.locked, self.stopped = deleter.locked, deleter.stopped
        self.changed = deleter.changed

    def _restored(self) -> dict[str, PurgeItem]:
        restorer = Restorer(steps=self.steps, config=self.config, control=self.control)
        if self.stopped is None or self.stopped.reason != "signal":
            try:
                restorer.restore_named(self.plan.reading)
            except Stopped as reason:
                self.stopped = reason
        return restorer.restored

    # After

    def _remember_baseline(self) -> None:
        row = Run.objects.using(journal.home()).get(pk=self.run.run_id)
        row.options = {**row.options, "baseline": self.plan.baseline.as_dict()}
        row.save(using=journal.home(), update_fields=["options"])
