"""Which local files of a finished migration could be removed today; writes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from r2maint.bucket import Bucket
from r2maint.conf import Config
from r2maint.control import Control
from r2maint.errors import UsageError
from r2maint.journal import journal
from r2maint.journal.run_facts import find_run
from r2maint.keepset.local_names import FileNames
from r2maint.keepset.read_texts import KeepSet, Reading
from r2maint.keys import Addresses
from r2maint.local_files.read_file import UnusableSource
from r2maint.local_files.restore_file import (
    MovedFile,
    find_original,
    hash_file,
    head_faults,
    read_faults,
)
from r2maint.migrate.moved_files import iter_moved
from r2maint.migrate.remove_local.found_names import MovedNames
from r2maint.migrate.remove_local.result import (
    GONE,
    Removal,
    RemovalAction,
    RemovalItem,
    count_items,
)
from r2maint.models import RunState
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
    require_finished(run_id, bucket)
    remover = Remover(config, addresses, bucket, control)
    with MovedNames(remover.names) as found:
        moved = control.track(iter_moved(run_id, addresses), "Hashing", unit="file")
        looked = Spool.of(map(remover.look, moved))
        reading = remover.read_names(found, looked)
        items = Spool.of(remover.judge(looked, found))
    return Removal(
        run_id=run_id, items=items, counts=count_items(items), reading_notes=reading.notes
    )


def require_finished(run_id: str, bucket: Bucket) -> None:
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


@dataclass(slots=True)
class Remover:
    """Looks at files, objects and names. Removes nothing."""

    config: Config
    addresses: Addresses
    bucket: Bucket
    control: Control
    names: FileNames = field(init=False)

    def __post_init__(self) -> None:
        self.names = FileNames.from_config(self.config, self.addresses)

    def look(self, original: MovedFile) -> RemovalItem:
        """Return the file as it is now: to be removed as far as it alone can tell."""
        item = RemovalItem(original=original, action=RemovalAction.REMOVE)
        try:
            real = find_original(original.path, self.config)
            stat = real.stat()
            item = replace(item, real=real, bytes=stat.st_size, modified_ns=stat.st_mtime_ns)
            item = replace(item, sha256=hash_file(real))
        except UnusableSource as unusable:
            return kept(item, GONE if unusable.reason == "missing" else unusable.reason)
        except OSError:
            return kept(item, "unreadable")
        return item if item.sha256 == original.sha256 else kept(item, "changed")

    def read_names(self, found: MovedNames, items: Iterable[RemovalItem]) -> Reading:
        """Look for these files and their objects in the whole keep set."""
        found.look_for(filter(is_wanted, items))
        return KeepSet(self.config, self.bucket, now=journal.now()).read(
            found.file_finder(),
            found.take,
            object_keys=self._object_keys,
            part=found.object_part(),
            control=self.control,
        )

    def _object_keys(self) -> Iterator[str]:
        for page in self.bucket.list_pages():
            yield from (item.key for item in page)

    def judge(self, items: Iterable[RemovalItem], found: MovedNames) -> Iterator[RemovalItem]:
        """Yield each item with what the keep set and a HEAD of its object make of it."""
        for some in batched(self.control.track(items, "Judging", unit="file"), BATCH):
            batch = self._told_apart(some)
            faults = head_faults(self.bucket, [item.original for item in wanted_of(batch)])
            for item in batch:
                yield self._judged(item, next(faults) if is_wanted(item) else "", found)

    def _told_apart(self, batch: Sequence[RemovalItem]) -> list[RemovalItem]:
        """Return the items; of other bytes than their object's, those it was made from are told."""
        changed = [item for item in batch if item.reason == "changed"]
        files = [replace(item.original, sha256=item.sha256) for item in changed]
        faults = dict(zip(changed, head_faults(self.bucket, files), strict=True))
        return [
            kept(item, "reencoded") if faults.get(item) == "reencoded" else item for item in batch
        ]

    def _judged(self, item: RemovalItem, fault: str, found: MovedNames) -> RemovalItem:
        if not is_wanted(item):
            return item
        reason = "named" if found.is_file_named(item) else fault
        if not reason and not found.is_object_named(item):
            reason = "object_unnamed"
        return kept(item, reason) if reason else item

    def prove(self, items: list[RemovalItem], found: MovedNames) -> list[RemovalItem]:
        """Return the items as they are at this moment: names, then objects, files last."""
        items = [self._judged(item, "", found) for item in items]
        faults = read_faults(self.bucket, [item.original for item in wanted_of(items)])
        items = [
            self._judged(item, next(faults) if is_wanted(item) else "", found) for item in items
        ]
        return [self._look_again(item) for item in items]

    def _look_again(self, item: RemovalItem) -> RemovalItem:
        if not is_wanted(item):
            return item
        again = self.look(item.original)
        # Names were looked for below the root as it was then.
        moved = is_wanted(again) and again.real != item.real
        return kept(again, "changed") if moved else again


def kept(item: RemovalItem, reason: str) -> RemovalItem:
    return replace(item, action=RemovalAction.KEEP, reason=reason)


def is_wanted(item: RemovalItem) -> bool:
    return item.action is RemovalAction.REMOVE


def wanted_of(items: Iterable[RemovalItem]) -> list[RemovalItem]:
    return list(filter(is_wanted, items))
