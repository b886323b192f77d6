"""Plan which objects of the bucket nothing names.

The bucket is listed first and the whole database read second, so that an upload in between, whose
row follows, is never taken for an orphan: it is not in the listing. What comes of a plan is in
`deletion`.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime

from r2maint import journal
from r2maint.batching import batched
from r2maint.bucket import Bucket, StoredObject
from r2maint.conf import Config
from r2maint.control import Control
from r2maint.errors import DatabaseError, InvalidListing
from r2maint.inventory import Inventory, Totals
from r2maint.keepset.keyfinder import Found
from r2maint.keepset.reading import KeepSet, Reading
from r2maint.keys import identity
from r2maint.models import Change, ChangeKind
from r2maint.pricing import Prices, load_prices
from r2maint.purge.brakes import UNTRUSTED, Baseline, Findings, find_refusals
from r2maint.purge.identity import KEY as MARKER
from r2maint.purge.identity import Standing, read_standing
from r2maint.purge.items import (
    AS_CONFIGURED,
    UNNAMED,
    Action,
    PurgeItem,
    PurgeOptions,
    PurgePlan,
    Verdict,
)
from r2maint.purge.judging import Judge
from r2maint.purge.quarantine import is_own
from r2maint.purge.sightings import BATCH, Sightings
from r2maint.report import Refusal
from r2maint.spool import Spool

COMMAND = "purge_orphans"


def plan_purge(
    config: Config,
    bucket: Bucket,
    options: PurgeOptions = AS_CONFIGURED,
    *,
    now: datetime | None = None,
    control: Control | None = None,
) -> PurgePlan:
    """Return what a purge would delete and every brake that holds; deletes nothing.

    A complete plan remembers what it saw orphaned in r2maint's own table. `now` is the bucket's
    time unless given. Raises: BucketError, DatabaseError or ConfigError when anything could not be
    read as a whole, Stopped when asked to stop.
    """
    journal.require_tables([journal.home()])
    control = control or Control()
    with Inventory() as inventory:
        planner = _Planner(config, bucket, options, now or bucket.now(), control, inventory)
        try:
            return planner.plan()
        except InvalidListing as error:
            return planner.refused(error)


@dataclass(slots=True)
class _Planner:
    """One plan on its way."""

    config: Config
    bucket: Bucket
    options: PurgeOptions
    now: datetime
    control: Control
    inventory: Inventory
    counts: Counter[str] = field(default_factory=Counter)
    stored: Counter[str] = field(default_factory=Counter)
    removed: Counter[str] = field(default_factory=Counter)
    judge: Judge = field(init=False)
    prices: Prices = field(init=False)
    has_marker: bool = False

    def __post_init__(self) -> None:
        self.judge = Judge(self.config, self.options, self.now, self.inventory)
        self.prices = load_prices(self.config.prices)

    @property
    def prefixes(self) -> tuple[str, ...]:
        return self.judge.prefixes

    def plan(self) -> PurgePlan:
        pages = self._without_own(self.bucket.list_pages())
        listed = self.inventory.add_objects(pages, control=self.control)
        reading = self._read()
        run = journal.find_unfinished(COMMAND, self.bucket.name, {})
        unfinished = str(run.pk) if run else ""
        self.inventory.discard_absent(_deleted_by(unfinished))
        standing = read_standing(self.bucket, listed=self.has_marker)
        last = self._last_baseline()
        managed = self._count(listed)
        found = Findings(
            prefixes=len(self.config.managed_prefixes),
            managed=managed,
            named=self.inventory.count_names(),
            absent=self.inventory.count_absent(),
            unnamed=0,
            orphans=0,
            names=reading.names,
            identity_fault=standing.fault,
        )
        circumstances = self._circumstances(standing, reading)
        trusted = not UNTRUSTED & {one.brake for one in self._refusals(found, last)}
        sightings = open_sightings(
            self.bucket.name, circumstances, self.now, standing, self.options
        )
        items = Spool.of(self._items(sightings, trusted))
        self.counts["kept"] = managed - self.counts["unnamed"]
        found = _with_orphans(found, self.counts)
        return PurgePlan(
            options=self.options,
            items=items,
            counts=self.counts,
            refusals=self._refusals(found, last),
            notes=(*reading.notes, *self._notes()),
            stored=self.stored,
            removed=self.removed,
            prices=self.prices,
            baseline=found.baseline,
            standing=standing,
            circumstances=circumstances,
            reading=reading,
            unfinished=unfinished,
        )

    def refused(self, error: InvalidListing) -> PurgePlan:
        """Return the plan of a listing that cannot be trusted: nothing, and the brake."""
        refusal = Refusal(brake="order", message=str(error), override="")
        return PurgePlan(
            options=self.options,
            items=Spool.of(()),
            counts={},
            refusals=(refusal,),
            notes=(),
            stored={},
            removed={},
            prices=self.prices,
            baseline=Baseline(),
            standing=Standing(),
            circumstances="",
            reading=Reading(cells={}, names={}, notes=(), hosts={}),
        )

    def _without_own(self, pages: Iterable[list[StoredObject]]) -> Iterator[list[StoredObject]]:
        # Keys come in order, so that only pages around ".r2maint/" need a closer look.
        for page in pages:
            for item in page:
                self.stored[item.storage_class] += item.size
            if page and page[0].key <= ".r2maint0" and page[-1].key >= ".r2maint/":
                self.has_marker |= any(item.key == MARKER for item in page)
                page = [item for item in page if not is_own(item.key)]
            yield page

    def _read(self) -> Reading:
        """Look for every managed key in everything that can name one."""
        finder = self.inventory.finder(self.prefixes)
        keep_set = KeepSet(self.config, self.bucket, now=self.now)
        reading = keep_set.read(finder, self._take, object_keys=self._keys, control=self.control)
        require_cells(reading)
        return reading

    def _take(self, source: str, found: Found) -> None:
        self.inventory.add_names(found.names)
        self.inventory.add_absent(found.absent)

    def _keys(self) -> Iterator[str]:
        return (item.key for item in self.inventory.iter_objects())

    def _count(self, listed: Totals) -> int:
        managed = self.inventory.totals(self.prefixes).count
        self.counts.update(
            objects=listed.count, bytes=listed.bytes, unmanaged=listed.count - managed
        )
        return managed

    def _items(self, sightings: Sightings, trusted: bool) -> Iterator[PurgeItem]:
        unnamed = self.inventory.iter_unnamed(self.prefixes)
        for batch in batched(self.control.track(unnamed, "Judging"), BATCH):
            self.counts["unnamed"] += len(batch)
            items = self.judge.judge(batch, sightings)
            bare = [one.object for one in items if one.verdict in UNNAMED]
            self.counts["bare"] += len(bare)
            if trusted:
                sightings.record(bare)
            for item in items:
                if identity(item.object.key).startswith(identity(self.options.prefix)):
                    yield self._counted(item)
        if trusted:
            sightings.forget_others()
        if self.options.everything:
            yield from self._unmanaged()

    def _counted(self, item: PurgeItem) -> PurgeItem:
        if item.verdict is not Verdict.ORPHAN:
            self.counts[item.verdict.value] += 1
            return item
        if self.options.limit is not None and self.counts["orphans"] >= self.options.limit:
            self.counts["over_limit"] += 1
            return item._replace(action=Action.KEPT, reason="Nothing names it; over --limit.")
        self.counts["orphans"] += 1
        self.counts["orphan_bytes"] += item.object.size
        self.removed[item.object.storage_class] += item.object.size
        return item

    def _unmanaged(self) -> Iterator[PurgeItem]:
        reason = "It is below no managed prefix."
        for item in self.inventory.iter_objects():
            if not self.judge.is_managed(item.key):
                yield PurgeItem(item, Verdict.UNMANAGED, Action.KEPT, reason)

    def _refusals(self, found: Findings, last: Baseline) -> tuple[Refusal, ...]:
        every = find_refusals(
            found, last, max_delete=self.options.max_delete, adopt=self.options.adopt
        )
        return tuple(one for one in every if one.brake not in self.options.overrides)

    def _last_baseline(self) -> Baseline:
        run = journal.last_accepted(COMMAND, self.bucket.name)
        return Baseline.read(run.options.get("baseline", {}) if run else {})

    def _circumstances(self, standing: Standing, reading: Reading) -> str:
        """Return a digest of everything under which an orphan was seen."""
        return circumstances(self.config, standing.owner_id, reading.sources)

    def _notes(self) -> Iterator[str]:
        if not self.options.second_look:
            yield "One look only: no earlier run has to have seen these objects orphaned."
        if self.options.hard:
            yield "No copies: what is deleted cannot be restored."
        elif self.counts["orphans"]:
            yield "Copies in quarantine are stored, and billed, until they are removed too."
        yield (
            "R2 cannot exclude that a writer replaces the same key between the last look at an"
            " object and its deletion."
        )


def open_sightings(
    bucket: str, circumstances: str, now: datetime, standing: Standing, options: PurgeOptions
) -> Sightings:
    """Return what earlier runs saw under `circumstances`, as far as it counts."""
    sightings = Sightings(bucket, circumstances, now)
    if standing.fault and not standing.is_first and "identity" not in options.overrides:
        # What was seen while the bucket was another database's proves nothing.
        sightings.disregard()
    return sightings


def require_cells(reading: Reading) -> None:
    """Raise DatabaseError when nothing at all was read."""
    if not any(reading.cells.values()):
        raise DatabaseError(
            "Nothing could be read that might name an object: every table is empty.",
            "Check DATABASES: this looks like an empty database.",
        )


def circumstances(config: Config, owner_id: str, sources: Iterable[str]) -> str:
    """Return a digest of identity, settings and sources: sightings count only under the same."""
    extra = config.extra_references
    settings = (
        config.bucket,
        config.managed_prefixes,
        config.protected,
        config.derived,
        (extra.files, extra.callables, extra.objects),
        sorted(config.not_references.items()),
    )
    text = json.dumps([owner_id, settings, sorted(sources)])
    return hashlib.sha256(text.encode()).hexdigest()


def _deleted_by(run_id: str) -> Iterator[str]:
    """Yield what an interrupted run has deleted: if it is named by now, the run restores it."""
    rows = Change.objects.using(journal.home()).filter(run_id=run_id, kind=ChangeKind.DELETE)
    return rows.values_list("old", flat=True).iterator() if run_id else iter(())


def _with_orphans(found: Findings, counts: Counter[str]) -> Findings:
    return replace(found, unnamed=counts["bare"], orphans=counts["orphans"])
