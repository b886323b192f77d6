"""Remove the local files a finished migration moved: the second phase, long after the first.

A file goes only while the bucket holds its very bytes, something names its object, and nothing
names the file: it is hashed again, its object read again, and the whole keep set read before the
first removal and once more after the last one. What is named by then is brought back in the same
run. Directories stay.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from django.db.models import QuerySet, Sum

from r2maint.bucket import Bucket
from r2maint.conf import Config
from r2maint.control import Control
from r2maint.errors import Stopped
from r2maint.journal import journal
from r2maint.journal.entries import Entry
from r2maint.journal.journal import Journal
from r2maint.keys import Addresses
from r2maint.local_files.read_file import is_as_it_was
from r2maint.local_files.restore_file import MovedFile, bring_back
from r2maint.migrate.remove_local.found_names import MovedNames
from r2maint.migrate.remove_local.plan import (
    BATCH,
    Remover,
    is_wanted,
    kept,
    require_finished,
    wanted_of,
)
from r2maint.migrate.remove_local.result import (
    GONE,
    Removal,
    RemovalAction,
    RemovalItem,
    count_items,
)
from r2maint.models import Change, ChangeKind, ChangeState
from r2maint.scratch.batches import batched
from r2maint.scratch.spool import Spool


def apply_removal(
    plan: Removal,
    config: Config,
    addresses: Addresses,
    bucket: Bucket,
    run: Journal,
    *,
    control: Control,
) -> Removal:
    """Remove what the plan says and what still may go; return what happened.

    A stop request ends it between two batches; the next execution takes up the rest. Raises: what
    `plan_removal` raises, before anything more is removed; LeaseHeld.
    """
    require_finished(plan.run_id, bucket)
    execution = _Execution(plan, Remover(config, addresses, bucket, control), run)
    return execution.run_to_end()


@dataclass(slots=True)
class _Execution:
    """One execution of a removal."""

    plan: Removal
    remover: Remover
    run: Journal
    restored: dict[Path, RemovalItem] = field(default_factory=dict)
    """By real path; few, because each was named while this run was under way."""
    stopped: Stopped | None = None

    def run_to_end(self) -> Removal:
        self._settle_interrupted()
        fates = Spool.of(self._fates())
        self._restore_named()
        items = Spool.of(self._items(fates))
        return replace(
            self.plan,
            items=items,
            counts=self._counts(items),
            applied=True,
            stopped=self.stopped,
        )

    def _settle_interrupted(self) -> None:
        """Find out of each removal a killed execution began whether it came to it."""
        for batch in batched(self._removals(ChangeState.INTENDED), BATCH):
            there = [change for change in batch if os.path.lexists(change.old)]
            self.run.settle(there, ChangeState.CONFLICT)
            self.run.settle((c for c in batch if c not in there), ChangeState.DONE)

    def _fates(self) -> Iterator[RemovalItem]:
        """Remove what still may go; yield what became of each file."""
        try:
            with MovedNames(self.remover.names) as found:
                self.remover.read_names(found, self.plan.items)
                tracked = self.remover.control.track(
                    self.plan.items, "Removing", len(self.plan.items), unit="file"
                )
                for batch in batched(tracked, BATCH):
                    yield from self._remove_batch(self.remover.prove(batch, found))
        except Stopped as stop:
            self.stopped = stop

    def _remove_batch(self, items: list[RemovalItem]) -> list[RemovalItem]:
        entries = {item: _entry(ChangeKind.REMOVE, item) for item in wanted_of(items)}
        self.run.intend(entries.values())
        ends = {item: _unlink(item) for item in entries}
        for state, is_done in ((ChangeState.DONE, True), (ChangeState.CONFLICT, False)):
            ended = (entries[item] for item, end in ends.items() if is_wanted(end) is is_done)
            self.run.settle(ended, state)
        return [ends.get(item, item) for item in items]

    def _restore_named(self) -> None:
        """Bring back what this run removed, in any execution, and something names by now."""
        hurried = self.stopped is not None and self.stopped.reason == "signal"
        if hurried or not self._done().exists():
            return
        try:
            with MovedNames(self.remover.names) as found, self._time_to_finish():
                removals = self._removals(ChangeState.DONE)
                self.remover.read_names(found, map(_item_of, removals))
                for change in self._removals(ChangeState.DONE):
                    if found.is_file_named(_item_of(change)):
                        self._restore(change)
        except Stopped as stop:
            self.stopped = stop

    @contextmanager
    def _time_to_finish(self) -> Iterator[None]:
        # Stopping here on time would leave removed what was named meanwhile.
        control = self.remover.control
        deadline, control.deadline = control.deadline, None
        try:
            yield
        finally:
            control.deadline = deadline

    def _restore(self, change: Change) -> None:
        item = _item_of(change)
        back = _entry(ChangeKind.RESTORE, item)
        self.run.intend([back])
        fault = bring_back(self.remover.bucket, item.original, self.remover.config)
        self.run.settle([back], ChangeState.CONFLICT if fault else ChangeState.DONE)
        if fault:
            item = replace(item, action=RemovalAction.FAIL, reason=fault)
        else:
            self.run.settle([change], ChangeState.UNDONE)
            item = kept(item, "named")
        self.restored[item.real] = item

    def _items(self, fates: Spool[RemovalItem]) -> Iterator[RemovalItem]:
        back = dict(self.restored)
        for item in fates:
            yield back.pop(item.real, item)
        yield from back.values()

    def _counts(self, items: Spool[RemovalItem]) -> Mapping[str, int]:
        counts = count_items(items)
        counts["to_remove"] = self.plan.counts["to_remove"]
        counts["removed"] = self._done().count()
        counts["bytes"] = self._done().aggregate(size=Sum("bytes"))["size"] or 0
        return counts

    def _removals(self, state: str) -> Iterator[Change]:
        """Yield the removals of this run, some at a time; they may be settled meanwhile."""
        changes = journal.iter_changes(self.run.run_id)
        return (c for c in changes if (c.kind, c.state) == (ChangeKind.REMOVE, state))

    def _done(self) -> QuerySet[Change]:
        done: QuerySet[Change] = Change.objects.using(journal.home()).filter(
            run_id=self.run.run_id, kind=ChangeKind.REMOVE, state=ChangeState.DONE
        )
        return done


def _unlink(item: RemovalItem) -> RemovalItem:
    """Unlink a file that is still the one that was hashed; return how it ended."""
    if not is_as_it_was(item.real, size=item.bytes, modified_ns=item.modified_ns):
        return kept(item, "changed")
    try:
        item.real.unlink()
    except FileNotFoundError:
        return kept(item, GONE)
    except OSError:
        return replace(item, action=RemovalAction.FAIL, reason="undeletable")
    return item


def _entry(kind: str, item: RemovalItem) -> Entry:
    original = item.original
    return Entry(
        kind=kind,
        old=str(original.path),
        key=original.key,
        sha256=original.sha256,
        bytes=item.bytes,
    )


def _item_of(change: Change) -> RemovalItem:
    original = MovedFile(path=Path(change.old), key=change.key, sha256=change.sha256)
    return RemovalItem(
        original=original,
        action=RemovalAction.REMOVE,
        real=original.path.resolve(),
        bytes=change.bytes or 0,
    )
