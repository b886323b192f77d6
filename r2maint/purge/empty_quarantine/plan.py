"""Empty the quarantine: remove, for good, old copies of objects that nothing names.

A copy is often the last there is of its object, so it goes as carefully as an object does: only
under the same brakes, only after the whole keep set was read again under the lease, and only if its
key is not named by then, whether or not the object is back. A manifest goes after the last of its
copies, so that it can undo whatever is left. Copies of unfinished runs stay.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from r2maint.bucket import Bucket, StoredObject
from r2maint.conf import Config
from r2maint.control import Control
from r2maint.errors import BucketError
from r2maint.journal import journal
from r2maint.journal.baselines import last_baseline
from r2maint.keepset.find_keys import FoundNames
from r2maint.keepset.read_texts import KeepSet, Reading, storage_locations
from r2maint.keys import identity
from r2maint.object_index.objects import Inventory, outermost
from r2maint.pricing import load_prices
from r2maint.purge.brakes import Findings, find_refusals
from r2maint.purge.bucket_owner import Standing, read_standing
from r2maint.purge.empty_quarantine.keep_reasons import holds_copies, reason_to_stay, spared_runs
from r2maint.purge.empty_quarantine.result import (
    MAX_RUNS,
    Emptying,
    EmptyingItem,
    EmptyingOptions,
    RunTally,
)
from r2maint.purge.judge import PurgeJudge
from r2maint.purge.plan import COMMAND, require_cells
from r2maint.purge.recheck_before_delete import iter_keys
from r2maint.purge.result import AS_CONFIGURED
from r2maint.purge.verdict import PurgeAction
from r2maint.quarantine.copies import Copied, CopyIndex
from r2maint.quarantine.manifest import PREFIX, Manifest, find_manifests, is_own, read_manifest
from r2maint.rendering import Refusal
from r2maint.scratch.batches import batched
from r2maint.scratch.spool import Spool

ABOUT = {"empty_quarantine": True}
"""What tells such a run from other runs of the command."""
DEFAULT_AGE = timedelta(days=30)

_BATCH = 500
_AS_CONFIGURED = EmptyingOptions()
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


def plan_emptying(
    config: Config,
    bucket: Bucket,
    options: EmptyingOptions = _AS_CONFIGURED,
    *,
    now: datetime | None = None,
    control: Control | None = None,
) -> Emptying:
    """Return which copies could be removed from quarantine today; writes nothing.

    Lists the bucket and reads the whole keep set once. `now` is the bucket's time unless given.
    Raises: BucketError, DatabaseError or ConfigError when anything could not be read as a whole,
    Stopped.
    """
    journal.require_tables([journal.home()])
    with Inventory() as inventory, CopyIndex() as copies:
        planner = _Planner(
            config, bucket, options, now or bucket.now(), control or Control(), inventory, copies
        )
        return planner.plan()


@dataclass(slots=True)
class _Planner:
    """One plan on its way."""

    config: Config
    bucket: Bucket
    options: EmptyingOptions
    now: datetime
    control: Control
    inventory: Inventory
    """The listing, and then the objects that only quarantine holds."""
    copies: CopyIndex
    counts: Counter[str] = field(default_factory=Counter)
    stored: Counter[str] = field(default_factory=Counter)
    freed: Counter[str] = field(default_factory=Counter)
    runs: dict[str, RunTally] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    goes: list[datetime] = field(default_factory=list)
    """When the oldest and the youngest of what goes were made."""
    back: int = 0
    """Keys that only quarantine holds, and something names."""

    @property
    def older_than(self) -> timedelta:
        given = self.options.older_than
        return max(DEFAULT_AGE, self.config.undo_window) if given is None else given

    @property
    def prefixes(self) -> tuple[str, ...]:
        return outermost(self.config.managed_prefixes or ("",))

    def plan(self) -> Emptying:
        manifests = self._list()
        spared = spared_runs(self.bucket.name)
        old = tuple(
            one for one in manifests if self._is_old(one.written_at) and one.run_id not in spared
        )
        managed = self.inventory.totals(self.prefixes).count
        only_here = Spool.of(self._only_here())
        self.inventory.add_objects(batched(only_here, _BATCH), control=self.control)
        reading = self._read(only_here)
        self.back = sum(self.inventory.is_named(item.key) for item in only_here)
        standing = read_standing(self.bucket)
        items = Spool.of(self._items(spared))
        self._count_leftovers(old)
        return Emptying(
            options=self.options,
            older_than=self.older_than,
            items=items,
            counts=self.counts,
            runs=tuple(sorted(self.runs.values(), key=lambda run: run.made_at)),
            manifests=old,
            stored=self.stored,
            freed=self.freed,
            prices=load_prices(self.config.prices),
            standing=standing,
            reading=reading,
            refusals=self._refusals(reading, standing, managed),
            remarks=(*self.remarks, *self._remarks()),
            oldest_at=min(self.goes, default=None),
            youngest_at=max(self.goes, default=None),
            is_resumed=journal.find_unfinished(COMMAND, self.bucket.name, ABOUT) is not None,
        )

    def _is_old(self, made_at: datetime) -> bool:
        return made_at + self.older_than <= self.now

    # Looking

    def _list(self) -> list[Manifest]:
        """List the bucket, read every manifest, and return those that can be read."""
        self.inventory.add_objects(self._without_own(), control=self.control)
        readable = list(filter(None, map(self._read_manifest, find_manifests(self.bucket))))
        self.copies.add_journal()
        self.copies.add_originals(self.inventory.iter_objects())
        return readable

    def _without_own(self) -> Iterator[list[StoredObject]]:
        for page in self.bucket.list_pages():
            for item in page:
                self.stored[item.storage_class] += item.size
            self.copies.add_copies(item for item in page if item.key.startswith(PREFIX))
            yield [item for item in page if not is_own(item.key)]

    def _read_manifest(self, manifest: Manifest) -> Manifest | None:
        self.control.check()
        try:
            run_id, entries = read_manifest(self.bucket, manifest.key)
            # Spooled: what a damaged one tells before it breaks off counts for nothing.
            spooled = Spool.of(entries)
        except BucketError as error:
            if error.ends_run:
                raise
            self.remarks.append(f"{error.message} It stays.")
            return None
        self.copies.add_entries(run_id, manifest.written_at, spooled)
        return replace(manifest, run_id=run_id)

    def _only_here(self) -> Iterator[StoredObject]:
        for one in self.copies:
            if one.key and not self.inventory.has_object(one.key):
                yield StoredObject(one.key, one.copy.size, one.copy.etag, _NEVER)

    def _read(self, only_here: Spool[StoredObject]) -> Reading:
        prefixes = {*self.prefixes, *self._further_prefixes(only_here)}
        finder = self.inventory.finder(prefixes, storage_locations(self.config))
        keep_set = KeepSet(self.config, self.bucket, now=self.now)
        reading = keep_set.read(
            finder,
            self._take,
            object_keys=lambda: iter_keys(self.bucket),
            control=self.control,
        )
        require_cells(reading)
        return reading

    def _take(self, source: str, found: FoundNames) -> None:
        self.inventory.add_names(found.names)
        self.inventory.add_absent(found.absent)

    def _further_prefixes(self, items: Spool[StoredObject]) -> Iterator[str]:
        """Yield what covers the keys that are managed no longer."""
        for item in items:
            name = identity(item.key)
            if not name.startswith(self.prefixes):
                head, slash, _ = name.partition("/")
                yield head + slash

    def _refusals(self, reading: Reading, standing: Standing, managed: int) -> tuple[Refusal, ...]:
        found = Findings(
            # What is managed has no say in what was quarantined before.
            prefixes=len(self.prefixes),
            managed=managed + self.counts["copies"],
            named=self.inventory.count_names() - self.back,
            absent=self.inventory.count_absent() + self.back,
            unnamed=0,
            orphans=0,
            names=reading.named,
            identity_fault=standing.fault,
        )
        last = last_baseline(COMMAND, self.bucket.name)
        lifted = self.options.lifted
        every = find_refusals(found, last, max_delete=None, adopt=lifted.adopt)
        return tuple(one for one in every if one.brake not in lifted.overrides)

    # Judging

    def _items(self, spared: Mapping[str, str]) -> Iterator[EmptyingItem]:
        judge = PurgeJudge(self.config, AS_CONFIGURED, self.now, self.inventory)
        prefix = identity(self.options.prefix)
        for one in self.control.track(self.copies, "Judging", unit="copy"):
            if identity(one.key).startswith(prefix):
                yield self._counted(self._judge(one, spared, judge))

    def _judge(self, one: Copied, spared: Mapping[str, str], judge: PurgeJudge) -> EmptyingItem:
        due_at = one.made_at + self.older_than
        kept = ""
        if one.run_id in spared:
            kept = spared[one.run_id]
        elif not one.is_known:
            kept = "Nobody knows what it is a copy of."
            self.counts["unknown"] += 1
        elif not self._is_old(one.made_at):
            kept = "It is too young."
        elif reason := reason_to_stay(one.key, judge):
            kept = reason
            self.counts["named"] += 1
        action = PurgeAction.KEPT if kept else PurgeAction.PLAN
        reason = kept or "It is old, and nothing names its object."
        return EmptyingItem(one.copy, one.key, one.run_id, one.made_at, action, reason, due_at)

    def _counted(self, item: EmptyingItem) -> EmptyingItem:
        limit = self.options.limit
        if (
            item.action is PurgeAction.PLAN
            and limit is not None
            and self.counts["to_remove"] >= limit
        ):
            item = item._replace(action=PurgeAction.KEPT, reason="It is over --limit.")
        self.counts["copies"] += 1
        self.counts["bytes"] += item.copy.size
        if item.action is PurgeAction.PLAN:
            self.counts["to_remove"] += 1
            self.counts["to_remove_bytes"] += item.copy.size
            self.freed[item.copy.storage_class] += item.copy.size
            self.goes = [min([*self.goes, item.made_at]), max([*self.goes, item.made_at])]
        else:
            self.counts["kept"] += 1
        if item.run_id in self.runs or len(self.runs) < MAX_RUNS:
            tally = RunTally(item.run_id, item.made_at)
            self.runs.setdefault(item.run_id, tally).add(item)
        return item

    def _count_leftovers(self, old: Sequence[Manifest]) -> None:
        """Count the manifests that a killed emptying left without a copy."""
        if not self.options.prefix:
            self.counts["manifests"] = sum(
                not holds_copies(self.bucket, one.key, self.copies) for one in old
            )

    def _remarks(self) -> Iterator[str]:
        window = self.config.undo_window
        if self.older_than < window:
            yield (
                f"--older-than is shorter than UNDO_WINDOW ({window.days} days): runs inside it"
                " lose what an undo of them would restore."
            )
        yield "What is removed from quarantine cannot be restored."
