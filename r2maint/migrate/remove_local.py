"""Remove the local files a finished migration moved: the second phase, long after the first.

A file goes only while the bucket holds its very bytes and nothing names it: the file is hashed
again, its object read again, and the whole keep set read before the first removal and once more
after the last one. What is named by then is brought back in the same run. Directories stay.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from django.db.models import QuerySet, Sum

from r2maint.bucket import Bucket, StoredObject
from r2maint.conf import Config
from r2maint.control import Control
from r2maint.errors import Stopped, UsageError
from r2maint.journal import journal
from r2maint.journal.entries import Entry
from r2maint.journal.journal import Journal
from r2maint.journal.run_facts import find_run
from r2maint.keepset.find_keys import Found
from r2maint.keepset.local_names import FileNames
from r2maint.keepset.read_texts import KeepSet, Reading
from r2maint.keys import Addresses
from r2maint.local_files.read_file import UnusableSource, is_as_it_was
from r2maint.local_files.restore_file import (
    Original,
    bring_back,
    find_original,
    hash_file,
    head_faults,
    read_faults,
)
from r2maint.migrate.moved_files import iter_moved
from r2maint.migrate.remove_local_result import (
    GONE,
    Removal,
    RemovalAction,
    RemovalItem,
    count_items,
)
from r2maint.models import Change, ChangeKind, ChangeState, RunState
from r2maint.object_index.objects import Inventory
from r2maint.scratch.batches import batched
from r2maint.scratch.spool import Spool

COMMAND = "migrate_media_to_r2"
BATCH = 100
"""Files between two looks at the lease."""


def plan_removal(
    run_id: str, config: Config, addresses: Addresses, bucket: Bucket, *, control: Control
) -> Removal:
    """Return which local files of a migration could be removed today; writes nothing.

    Hashes each file and reads the whole keep set once; one Class B request a file. Raises:
    UsageError unless the run is a finished migration into this bucket; DatabaseError, ConfigError
    or BucketError when something cannot be read as a whole; Stopped.
    """
    _require_finished(run_id, bucket)
    remover = _Remover(config, addresses, bucket, control)
    with Inventory() as inventory:
        moved = control.track(iter_moved(run_id, addresses), "Hashing", unit="file")
        looked = Spool.of(map(remover.look, moved))
        reading = remover.read_names(inventory, looked)
        items = Spool.of(remover.judge(looked, inventory))
    return Removal(
        run_id=run_id, items=items, counts=count_items(items), reading_notes=reading.notes
    )


def _require_finished(run_id: str, bucket: Bucket) -> None:
    run = find_run(run_id)
    if run.command != COMMAND or run.options.get("remove_local"):
        raise UsageError(
            f"The run moved no local files: {run_id} ({run.command}).",
            f"Give a run of {COMMAND}; manage.py r2_runs lists them.",
        )
    if run.bucket != bucket.name:
        raise UsageError(
            f"The run wrote to another bucket: {run.bucket!r}, and this is {bucket.name!r}.",
            "Remove its files with the settings it was made with.",
        )
    if run.state != RunState.FINISHED:
        raise UsageError(
            f"The run is not finished but {run.state}: {run_id}.",
            "Files are removed only after a migration that came to its end and stands.",
        )
    if journal.find_unfinished(journal.UNDO_COMMAND, bucket.name, {"undo": run_id}):
        raise UsageError(
            f"The run is being undone: {run_id}.", f"Finish it: r2_runs {run_id} --undo --apply."
        )


# Looking


@dataclass(slots=True)
class _Remover:
    """Looks at files, objects and names. Removes nothing."""

    config: Config
    addresses: Addresses
    bucket: Bucket
    control: Control
    names: FileNames = field(init=False)

    def __post_init__(self) -> None:
        self.names = FileNames.from_config(self.config, self.addresses)

    def look(self, original: Original) -> RemovalItem:
        """Return the file as it is now: to be removed as far as it alone can tell."""
        item = RemovalItem(original=original, action=RemovalAction.REMOVE)
        try:
            real = find_original(original.path, self.config)
            stat = real.stat()
            item = replace(item, real=real, bytes=stat.st_size, modified_ns=stat.st_mtime_ns)
            item = replace(item, sha256=hash_file(real))
        except UnusableSource as unusable:
            return _kept(item, GONE if unusable.reason == "missing" else unusable.reason)
        except OSError:
            return _kept(item, "unreadable")
        return item if item.sha256 == original.sha256 else _kept(item, "changed")

    def read_names(self, inventory: Inventory, items: Iterable[RemovalItem]) -> Reading:
        """Look for these files in the whole keep set; the inventory knows then which are named."""
        wanted = (
            StoredObject(self.names.name_of(item.real), item.bytes, "", _NEVER)
            for item in filter(_is_wanted, items)
        )
        inventory.add_objects(batched(wanted, BATCH), control=self.control)

        def take(source: str, found: Found) -> None:
            inventory.add_names(found.names)

        keep_set = KeepSet(self.config, self.bucket, now=journal.now())
        return keep_set.read(
            inventory.finder(),
            take,
            object_keys=self._object_keys,
            part=self.names,
            control=self.control,
        )

    def _object_keys(self) -> Iterator[str]:
        for page in self.bucket.list_pages():
            yield from (item.key for item in page)

    def is_named(self, item: RemovalItem, inventory: Inventory) -> bool:
        return inventory.is_named(self.names.name_of(item.real))

    def judge(self, items: Iterable[RemovalItem], inventory: Inventory) -> Iterator[RemovalItem]:
        """Yield each item with what the keep set and a HEAD of its object make of it."""
        for some in batched(self.control.track(items, "Judging", unit="file"), BATCH):
            batch = self._told_apart(some)
            faults = head_faults(self.bucket, [item.original for item in _wanted(batch)])
            for item in batch:
                yield self._judged(item, next(faults) if _is_wanted(item) else "", inventory)

    def _told_apart(self, batch: Sequence[RemovalItem]) -> list[RemovalItem]:
        """Return the items; of other bytes than their object's, those it was made from are told."""
        changed = [item for item in batch if item.reason == "changed"]
        files = [replace(item.original, sha256=item.sha256) for item in changed]
        faults = dict(zip(changed, head_faults(self.bucket, files), strict=True))
        return [
            _kept(item, "reencoded") if faults.get(item) == "reencoded" else item for item in batch
        ]

    def _judged(self, item: RemovalItem, fault: str, inventory: Inventory) -> RemovalItem:
        if not _is_wanted(item):
            return item
        reason = "named" if self.is_named(item, inventory) else fault
        return _kept(item, reason) if reason else item

    def prove(self, items: list[RemovalItem], inventory: Inventory) -> list[RemovalItem]:
        """Return the items as they are at this moment: names, then objects, files last."""
        items = [self._judged(item, "", inventory) for item in items]
        faults = read_faults(self.bucket, [item.original for item in _wanted(items)])
        items = [
            self._judged(item, next(faults) if _is_wanted(item) else "", inventory)
            for item in items
        ]
        return [self._look_again(item) for item in items]

    def _look_again(self, item: RemovalItem) -> RemovalItem:
        if not _is_wanted(item):
            return item
        found = self.look(item.original)
        # Names were looked for below the root as it was then.
        moved = _is_wanted(found) and found.real != item.real
        return _kept(found, "changed") if moved else found


_NEVER = datetime(1970, 1, 1, tzinfo=UTC)
"""Of a file in the inventory nothing counts but its name."""


def _kept(item: RemovalItem, reason: str) -> RemovalItem:
    return replace(item, action=RemovalAction.KEEP, reason=reason)


def _is_wanted(item: RemovalItem) -> bool:
    return item.action is RemovalAction.REMOVE


def _wanted(items: Iterable[RemovalItem]) -> list[RemovalItem]:
    return list(filter(_is_wanted, items))


# Removing


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
    _require_finished(plan.run_id, bucket)
    execution = _Execution(plan, _Remover(config, addresses, bucket, control), run)
    return execution.run_to_end()


@dataclass(slots=True)
class _Execution:
    """One execution of a removal."""

    plan: Removal
    remover: _Remover
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
            with Inventory() as inventory:
                self.remover.read_names(inventory, self.plan.items)
                tracked = self.remover.control.track(
                    self.plan.items, "Removing", len(self.plan.items), unit="file"
                )
                for batch in batched(tracked, BATCH):
                    yield from self._remove_batch(self.remover.prove(batch, inventory))
        except Stopped as stop:
            self.stopped = stop

    def _remove_batch(self, items: list[RemovalItem]) -> list[RemovalItem]:
        entries = {item: _entry(ChangeKind.REMOVE, item) for item in _wanted(items)}
        self.run.intend(entries.values())
        ends = {item: _unlink(item) for item in entries}
        for state, is_done in ((ChangeState.DONE, True), (ChangeState.CONFLICT, False)):
            ended = (entries[item] for item, end in ends.items() if _is_wanted(end) is is_done)
            self.run.settle(ended, state)
        return [ends.get(item, item) for item in items]

    def _restore_named(self) -> None:
        """Bring back what this run removed, in any execution, and something names by now."""
        hurried = self.stopped is not None and self.stopped.reason == "signal"
        if hurried or not self._done().exists():
            return
        try:
            with Inventory() as inventory, self._time_to_finish():
                removals = self._removals(ChangeState.DONE)
                self.remover.read_names(inventory, map(_item_of, removals))
                for change in self._removals(ChangeState.DONE):
                    if self.remover.is_named(_item_of(change), inventory):
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
            item = _kept(item, "named")
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
        return _kept(item, "changed")
    try:
        item.real.unlink()
    except FileNotFoundError:
        return _kept(item, GONE)
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
    original = Original(path=Path(change.old), key=change.key, sha256=change.sha256)
    return RemovalItem(
        original=original,
        action=RemovalAction.REMOVE,
        real=original.path.resolve(),
        bytes=change.bytes or 0,
    )
