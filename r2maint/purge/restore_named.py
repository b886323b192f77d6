"""Bring back what a run deleted, in any execution, and something names by now."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from django.db import transaction

from r2maint.bucket import StoredObject
from r2maint.conf import Config
from r2maint.control import Control
from r2maint.journal import journal
from r2maint.keepset.read_texts import Reading
from r2maint.keys import identity
from r2maint.models import Change, ChangeKind, ChangeState
from r2maint.purge import journal_steps
from r2maint.purge.delete import fate
from r2maint.purge.journal_steps import Steps, step
from r2maint.purge.recheck_before_delete import find_named, require_same_sources
from r2maint.purge.verdict import PurgeAction, PurgeItem
from r2maint.quarantine.manifest import Quarantined, Restored, restore_all
from r2maint.scratch.batches import batched

_PERHAPS_DELETED = (ChangeState.DONE, ChangeState.INTENDED)


@dataclass(slots=True, kw_only=True)
class Restorer:
    """Reads the keep set a last time."""

    steps: Steps
    config: Config
    control: Control
    restored: dict[str, PurgeItem] = field(default_factory=dict)
    """By key; few, because each was named while this run was under way."""

    def restore_named(self, before: Reading) -> None:
        """Bring back what is named by now.

        Raises: Refused when a source holds far less than `before`; Stopped by a signal.
        """
        if not self.steps.changes(ChangeKind.DELETE, *_PERHAPS_DELETED).exists():
            return
        with self._time_to_finish():
            named, reading = find_named(
                self.config, self.steps.bucket, self._deleted(), control=self.control
            )
            for batch in batched(self._last_versions(named), journal_steps.BATCH):
                self._restore(batch)
            require_same_sources(before, reading)

    def _deleted(self) -> Iterator[StoredObject]:
        rows = self.steps.changes(ChangeKind.DELETE, *_PERHAPS_DELETED)
        columns = ("pk", "old", "bytes", "etag", "at")
        last = 0
        while page := list(rows.filter(pk__gt=last).order_by("pk").values_list(*columns)[:5000]):
            yield from (StoredObject(old, size or 0, etag, at) for _, old, size, etag, at in page)
            last = page[-1][0]

    def _last_versions(self, named: frozenset[str]) -> list[Change]:
        """Return the last deletion of each: what was uploaded again was perhaps deleted again."""
        every = self.steps.changes(ChangeKind.DELETE).exclude(state=ChangeState.CONFLICT)
        last: dict[str, Change] = {}
        for batch in batched(sorted(named), journal_steps.BATCH):
            for change in every.filter(old__in=batch):
                name = identity(change.old)
                if name not in last or last[name].pk < change.pk:
                    last[name] = change
        return [change for change in last.values() if change.state != ChangeState.UNDONE]

    @contextmanager
    def _time_to_finish(self) -> Iterator[None]:
        # Stopping here on time would leave deleted what was named meanwhile.
        deadline, self.control.deadline = self.control.deadline, None
        try:
            yield
        finally:
            self.control.deadline = deadline

    def _restore(self, deletions: list[Change]) -> None:
        backs = [step(ChangeKind.RESTORE, _object_of(one), one.new) for one in deletions]
        self.steps.run.intend(backs)
        entries = (_as_quarantined(one) for one in deletions)
        results = restore_all(self.steps.bucket, entries, control=self.control)
        for change, back, result in zip(deletions, backs, results, strict=True):
            with transaction.atomic(using=journal.home()):
                done = ChangeState.DONE if result.done else ChangeState.CONFLICT
                self.steps.run.settle([back], done)
                if result.done:
                    self.steps.run.settle([change], ChangeState.UNDONE)
            self.restored[change.old] = _fate(change, result)


def _fate(change: Change, result: Restored) -> PurgeItem:
    action = PurgeAction.RESTORE if result.done else PurgeAction.FAIL
    reason = f"Something names it since it was deleted. {result.reason}".rstrip()
    return fate(_object_of(change), action, reason)


def _object_of(change: Change) -> StoredObject:
    return StoredObject(change.old, change.bytes or 0, change.etag, change.at)


def _as_quarantined(change: Change) -> Quarantined:
    return Quarantined(
        key=change.old,
        copy=change.new,
        etag=change.etag,
        size=change.bytes or 0,
        modified_at=change.at.isoformat(),
        headers={},
    )
