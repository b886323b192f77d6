"""Plan which objects of the bucket nothing names.

1. List the bucket, as it is at one moment of its own clock.
2. Read the whole database second, so that an upload in between, whose row follows, is never taken
   for an orphan: it is not in the listing.
3. Judge every object that nothing names: managed, protected, derived, too young, seen orphaned by
   an earlier run.
4. Compare the counts with those of the last accepted run: each brake that holds is a refusal.

`apply` carries a plan out.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice

from r2maint.bucket import Bucket, StoredObject
from r2maint.conf import Config
from r2maint.control import Control
from r2maint.errors import DatabaseError, InvalidListing
from r2maint.journal import journal
from r2maint.journal.baselines import Baseline, last_baseline, remember_names
from r2maint.journal.sightings import BATCH, Sightings
from r2maint.keepset.find_keys import FoundNames
from r2maint.keepset.model_defaults import MODEL_DEFAULTS
from r2maint.keepset.read_texts import KeepSet, Reading, storage_locations
from r2maint.keys import identity
from r2maint.models import Change, ChangeKind
from r2maint.object_index.objects import Inventory
from r2maint.pricing import Prices, load_prices
from r2maint.purge.brakes import SHOWN_CLASSES, UNTRUSTED, Findings, find_refusals
from r2maint.purge.bucket_owner import KEY as MARKER
from r2maint.purge.bucket_owner import Standing, read_standing
from r2maint.purge.cost import PurgeCost, forecast
from r2maint.purge.excluded_sources import weigh_omissions
from r2maint.purge.judge import PurgeJudge, derivations_of
from r2maint.purge.key_classes import ClassIndex, class_of, compare_with_names
from r2maint.purge.key_owners import possible_owners
from r2maint.purge.overview import NOTHING, Amount, PurgeTally
from r2maint.purge.report import closing_notes, lifecycle_notes, reading_notes
from r2maint.purge.result import AS_CONFIGURED, PurgeOptions, PurgePlan
from r2maint.purge.verdict import UNNAMED, PurgeAction, PurgeItem, PurgeVerdict
from r2maint.quarantine.manifest import is_own
from r2maint.rendering import Refusal
from r2maint.scratch.batches import batched
from r2maint.scratch.spool import Spool

COMMAND = "purge_orphans"
_EXAMPLES = 20
"""Keys of a class whose ids are looked up: chance finds no row for each of them."""


def plan_purge(
    config: Config,
    bucket: Bucket,
    options: PurgeOptions = AS_CONFIGURED,
    *,
    now: datetime | None = None,
    remembers: bool = True,
    control: Control | None = None,
) -> PurgePlan:
    """Return what a purge would delete and every brake that holds; deletes nothing.

    A complete plan remembers what it saw orphaned in r2maint's own table, unless `remembers` is
    False, as it must be when `now` is another clock's. `now` is the bucket's time unless given.
    Raises: BucketError, DatabaseError or ConfigError when anything could not be
    read as a whole, Stopped when asked to stop.
    """
    journal.require_tables([journal.home()])
    control = control or Control()
    now = now or bucket.now()
    with Inventory() as inventory, ClassIndex() as classes:
        planner = _Planner(
            config, bucket, options, now, control, inventory, classes, remembers=remembers
        )
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
    classes: ClassIndex
    counts: Counter[str] = field(default_factory=Counter)
    stored: Counter[str] = field(default_factory=Counter)
    removed: Counter[str] = field(default_factory=Counter)
    removals: Counter[str] = field(default_factory=Counter)
    own: Amount = NOTHING
    judge: PurgeJudge = field(init=False)
    tally: PurgeTally = field(init=False)
    prices: Prices = field(init=False)
    has_marker: bool = False
    remembers: bool = True

    def __post_init__(self) -> None:
        self.judge = PurgeJudge(self.config, self.options, self.now, self.inventory)
        self.tally = PurgeTally(self.prefixes)
        self.prices = load_prices(self.config.prices)

    @property
    def prefixes(self) -> tuple[str, ...]:
        return self.judge.prefixes

    def plan(self) -> PurgePlan:
        pages = self._without_own(self.bucket.list_pages())
        listed = self.inventory.add_objects(pages, control=self.control)
        keep_set = KeepSet(self.config, self.bucket, now=self.now)
        reading = self._read(keep_set)
        run = journal.find_unfinished(COMMAND, self.bucket.name, {})
        unfinished = str(run.pk) if run else ""
        self.inventory.discard_absent(_deleted_by(unfinished))
        standing = read_standing(self.bucket, listed=self.has_marker)
        last = last_baseline(COMMAND, self.bucket.name)
        managed = self.inventory.totals(self.prefixes)
        self.counts.update(
            objects=listed.count, bytes=listed.bytes, unmanaged=listed.count - managed.count
        )
        found = self._found(managed.count, reading, standing)
        circumstances = self._circumstances(standing, reading)
        trusted = not UNTRUSTED & {one.brake for one in self._refusals(found, last)}
        sightings = open_sightings(
            self.bucket.name, circumstances, self.now, standing, self.options
        )
        items = Spool.of(self._items(sightings, remember=trusted and self.remembers))
        self.counts["kept"] = managed.count - self.counts["unnamed"]
        found = replace(found, unnamed=self.counts["bare"], orphans=self.counts["orphans"])
        found = self._with_classes(found, items)
        if trusted and not standing.fault:
            remember_names(last, found.baseline.names)
        unmanaged = Amount(listed.count - managed.count, listed.bytes - managed.bytes)
        made = PurgePlan(
            options=self.options,
            items=items,
            counts=self.counts,
            refusals=self._refusals(found, last),
            notes=tuple(self._notes(reading, standing)),
            stored=self.stored,
            removed=self.removed,
            prices=self.prices,
            baseline=found.baseline,
            standing=standing,
            circumstances=circumstances,
            reading=reading,
            unfinished=unfinished,
            managed=managed.count,
            overview=self.tally.overview({"unmanaged": unmanaged, "own": self.own}),
            forecast=self._forecast(listed.count, reading),
            omissions=weigh_omissions(self.config, keep_set, _unnamed(items), control=self.control),
        )
        return replace(made, notes=(*made.notes, *closing_notes(made)))

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

    # Looking

    def _without_own(self, pages: Iterable[list[StoredObject]]) -> Iterator[list[StoredObject]]:
        # Keys come in order, so that only pages around ".r2maint/" need a closer look.
        for page in pages:
            for item in page:
                self.stored[item.storage_class] += item.size
            if page and page[0].key <= ".r2maint0" and page[-1].key >= ".r2maint/":
                page = list(self._set_aside(page))
            yield page

    def _set_aside(self, page: Iterable[StoredObject]) -> Iterator[StoredObject]:
        for item in page:
            if is_own(item.key):
                self.has_marker |= item.key == MARKER
                self.own = self.own.plus(1, item.size)
            else:
                yield item

    def _read(self, keep_set: KeepSet) -> Reading:
        """Look for every managed key in everything that can name one."""
        finder = self.inventory.finder(self.prefixes, storage_locations(self.config))
        reading = keep_set.read(finder, self._take, object_keys=self._keys, control=self.control)
        require_cells(reading)
        return reading

    def _take(self, source: str, found: FoundNames) -> None:
        self.inventory.add_names(found.names)
        self.inventory.add_absent(found.absent)

    def _keys(self) -> Iterator[str]:
        return (item.key for item in self.inventory.iter_objects())

    def _found(self, managed: int, reading: Reading, standing: Standing) -> Findings:
        return Findings(
            prefixes=len(self.config.managed_prefixes),
            managed=managed,
            named=self.inventory.count_names(),
            absent=self.inventory.count_absent(),
            unnamed=0,
            orphans=0,
            names=reading.named,
            identity_fault=standing.fault,
        )

    def _with_classes(self, found: Findings, items: Iterable[PurgeItem]) -> Findings:
        """Return the findings with the classes of keys that names are of, and are not of."""
        pages, count = self.inventory.iter_names(), found.named
        unnamed, named = compare_with_names(self.classes.due(), pages, count)
        owners = {
            each.name: possible_owners(_keys_of(each.name, items))
            for each in unnamed[:SHOWN_CLASSES]
        }
        return replace(found, classes=unnamed, named_classes=named, owners=owners)

    # Judging

    def _items(self, sightings: Sightings, *, remember: bool) -> Iterator[PurgeItem]:
        # The whole bucket and every source were read, whatever --prefix and --limit act on: what is
        # seen orphaned counts for the next run.
        unnamed = self.inventory.iter_unnamed(self.prefixes)
        for batch in batched(self.control.track(unnamed, "Judging"), BATCH):
            self.counts["unnamed"] += len(batch)
            items = self.judge.judge(batch, sightings)
            bare = [one.object for one in items if one.verdict in UNNAMED]
            self.counts["bare"] += len(bare)
            if remember:
                sightings.record(bare)
            told = [one for item in items if (one := self._counted(item))]
            due = [one.object.key for one in told if one.action is PurgeAction.PLAN]
            self.classes.add([one.key for one in bare], due)
            yield from told
        if remember:
            sightings.forget_others()
        if self.options.everything:
            yield from self._unmanaged()

    def _counted(self, item: PurgeItem) -> PurgeItem | None:
        """Return the item as it is acted on, None when --prefix leaves it out."""
        if not identity(item.object.key).startswith(identity(self.options.prefix)):
            self.tally.leave("outside_prefix", item.object)
            return None
        item = self._limited(item)
        self.tally.add(item)
        if item.action is PurgeAction.PLAN:
            self.counts["orphans"] += 1
            self.counts["orphan_bytes"] += item.object.size
            self.removed[item.object.storage_class] += item.object.size
            self.removals[item.object.storage_class] += 1
        elif item.verdict is not PurgeVerdict.ORPHAN:
            self.counts[item.verdict.value] += 1
        return item

    def _limited(self, item: PurgeItem) -> PurgeItem:
        limit = self.options.limit
        if item.action is not PurgeAction.PLAN or limit is None or self.counts["orphans"] < limit:
            return item
        return item._replace(action=PurgeAction.KEPT, reason="Nothing names it; over --limit.")

    def _unmanaged(self) -> Iterator[PurgeItem]:
        reason = "It is below no managed prefix."
        for item in self.inventory.iter_objects():
            if not self.judge.is_managed(item.key):
                yield PurgeItem(item, PurgeVerdict.UNMANAGED, PurgeAction.KEPT, reason)

    # Telling

    def _refusals(self, found: Findings, last: Baseline) -> tuple[Refusal, ...]:
        every = find_refusals(
            found, last, max_delete=self.options.max_delete, adopt=self.options.adopt
        )
        return tuple(one for one in every if one.brake not in self.options.overrides)

    def _circumstances(self, standing: Standing, reading: Reading) -> str:
        """Return a digest of everything under which an orphan was seen."""
        return circumstances(self.config, standing.owner_id, reading.sources)

    def _forecast(self, listed: int, reading: Reading) -> PurgeCost:
        read = (count for source, count in reading.cells.items() if source.startswith("object:"))
        return forecast(
            self.removals,
            self.removed,
            listed=listed,
            read=sum(read),
            hard=self.options.hard,
            prices=self.prices,
        )

    def _notes(self, reading: Reading, standing: Standing) -> Iterator[str]:
        yield from reading.notes
        yield from standing.warnings
        yield from reading_notes(self.config, reading, now=self.now, here=journal.now())
        yield from lifecycle_notes(
            self.bucket,
            lambda prefix: self.inventory.totals((prefix,), named=True).count,
            undo_window=self.config.undo_window,
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
    """Return a digest of identity, settings and sources: sightings count only under the same.

    Of the settings, those that decide what is found: not GRACE, which only counts days, and not
    PUBLIC_URL and ALIASES, because a key is found under any host.
    """
    extra = config.extra_references
    settings = (
        config.bucket,
        sorted(config.managed_prefixes),
        sorted(config.protected),
        derivations_of(config).texts,
        (sorted(extra.files), sorted(extra.callables), sorted(extra.objects)),
        sorted(config.not_references),
        sorted((label, name) for label, rules in config.fields.items() for name in rules),
    )
    # Model defaults are always read: sightings made before they were go on counting.
    others = sorted(source for source in sources if source != MODEL_DEFAULTS)
    text = json.dumps([owner_id, settings, others])
    return hashlib.sha256(text.encode()).hexdigest()


def _unnamed(items: Iterable[PurgeItem]) -> Iterator[StoredObject]:
    return (item.object for item in items if item.verdict in UNNAMED)


def _keys_of(name: str, items: Iterable[PurgeItem]) -> list[str]:
    """Return some keys of a class."""
    keys = (item.object.key for item in items if class_of(item.object.key) == name)
    return list(islice(keys, _EXAMPLES))


def _deleted_by(run_id: str) -> Iterator[str]:
    """Yield what an interrupted run has deleted: if it is named by now, the run restores it."""
    rows = Change.objects.using(journal.home()).filter(run_id=run_id, kind=ChangeKind.DELETE)
    return rows.values_list("old", flat=True).iterator() if run_id else iter(())
