"""Delete what a plan calls orphans, in the order that loses nothing.

Copy everything into quarantine, write the manifest, read the whole keep set again, look at each
object once more, delete in batches, read the keep set a third time, and restore what is named by
then. Everything is journalled before it happens, and an interrupted run goes on under its own id.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from r2maint import journal, keys
from r2maint.batching import batched
from r2maint.bucket import Bucket, StoredObject
from r2maint.conf import Config
from r2maint.control import Control
from r2maint.entries import Entry
from r2maint.errors import NoSuchKey, Refused, Stopped
from r2maint.inventory import Inventory
from r2maint.journal import Journal
from r2maint.keepset.keyfinder import Found
from r2maint.keepset.reading import KeepSet, Reading, storage_locations
from r2maint.models import Change, ChangeKind, ChangeState, Run
from r2maint.purge import identity
from r2maint.purge.items import SUMMARY, Action, PurgeItem, PurgePlan, Verdict
from r2maint.purge.plan import circumstances
from r2maint.purge.quarantine import (
    PREFIX,
    Kept,
    Quarantined,
    changed,
    copy_all,
    copy_key,
    new_token,
    restore,
    without_copy,
    write_manifest,
)
from r2maint.purge.sightings import Sightings
from r2maint.spool import Spool

BATCH = 500
"""Objects between two looks at the lease."""

_DELETED = (ChangeState.DONE, ChangeState.UNDONE)
_PERHAPS_DELETED = (ChangeState.DONE, ChangeState.INTENDED)
_KEPT_CELLS = 0.80
"""The part of the cells of the first reading that a later one must find."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PurgeOutcome:
    """What a purge did."""

    items: Spool[PurgeItem]
    counts: Mapping[str, int]
    saved_usd_per_month: Decimal
    """Of what this execution deleted, once no copies are left either."""
    notes: tuple[str, ...] = ()
    refusals: tuple[()] = ()
    stopped: Stopped | None = None
    has_work: bool = False

    def summary(self) -> dict[str, Any]:
        """Return the counts by the names of the contract; what was done counts the whole run."""
        counts = {name: self.counts.get(name, 0) for name in SUMMARY}
        return {**counts, "saved_usd_per_month": self.saved_usd_per_month}

    @property
    def findings(self) -> bool:
        return bool(self.counts.get("failed") or self.counts.get("cache_failed"))


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
    if plan.refusals:
        brakes = ", ".join(one.brake for one in plan.refusals)
        raise Refused(f"A brake holds: {brakes}.", plan.refusals[0].message)
    deletion = _Deletion(plan, config, bucket, run, control or Control())
    return deletion.run_to_end()


@dataclass(slots=True)
class _Deletion:
    """One execution of a purge."""

    plan: PurgePlan
    config: Config
    bucket: Bucket
    run: Journal
    control: Control
    restored: dict[str, PurgeItem] = field(default_factory=dict)
    """By key; few, because each was named while this run was under way."""
    standing: identity.Standing = field(default_factory=identity.Standing)
    stopped: Stopped | None = None

    def run_to_end(self) -> PurgeOutcome:
        self._agree()
        self._settle_interrupted()
        copied = Spool.of(self._quarantined())
        fates = Spool.of(self._fates(copied))
        self._restore_named()
        if self.stopped is None:
            self._remember_baseline()
            identity.settle(self.bucket, self.standing)
        return self._outcome(fates)

    # Before

    def _agree(self) -> None:
        """Make sure once more, now under the lease, that bucket and database belong together."""
        standing, planned = identity.read_standing(self.bucket), self.plan.standing
        if (standing.owner_id, standing.fault) != (planned.owner_id, planned.fault):
            raise Refused(
                "The bucket's marker changed since the plan.", "Run the same command again."
            )
        if standing.fault and not (self.plan.options.adopt or self._is_overridden()):
            raise Refused("A brake holds: identity.", f"It says: {standing.fault}. See --adopt.")
        self._check_lease()
        if not standing.fault:
            self.standing = identity.renew(self.bucket, standing)
        elif self.plan.options.adopt:
            self._adopt(standing)

    def _is_overridden(self) -> bool:
        return "identity" in self.plan.options.overrides

    def _adopt(self, standing: identity.Standing) -> None:
        adopted = identity.adopt(self.bucket, standing)
        if standing.is_first:
            now = circumstances(self.config, adopted.owner_id, self.plan.reading.sources)
            seen = Sightings(self.bucket.name, self.plan.circumstances, journal.now())
            seen.carry_over(now)

    def _settle_interrupted(self) -> None:
        """Find out what became of the deletions that a killed execution was about to make."""
        rows = self._changes(ChangeKind.DELETE, ChangeState.INTENDED)
        for batch in batched(_in_order(rows), BATCH):
            self._settle_unsure(batch)

    def _settle_unsure(self, deletions: Sequence[Change | Entry]) -> set[str]:
        """Look what became of deletions nobody vouches for; return the keys that are gone.

        What cannot be told either stays INTENDED: it can be restored and undone like the others.
        """
        results = list(self.bucket.head_many(change.old for change in deletions))
        gone = {one.request for one in results if isinstance(one.error, NoSuchKey)}
        there = {one.request for one in results if one.value is not None}
        self.run.settle((one for one in deletions if one.old in gone), ChangeState.DONE)
        self.run.settle((one for one in deletions if one.old in there), ChangeState.CONFLICT)
        return gone

    # Quarantine

    def _quarantined(self) -> Iterator[Quarantined | Kept]:
        orphans = self.control.track(
            self.plan.orphans(), "Copying to quarantine", self.plan.counts.get("orphans", 0)
        )
        if self.plan.options.hard:
            yield from map(without_copy, orphans)
            return
        token = self._token()
        try:
            for batch in batched(orphans, BATCH):
                yield from self._copied(batch, token)
        except Stopped as reason:
            # Nothing is deleted yet: the next execution finds these copies and goes on.
            self.stopped = reason

    def _copied(self, batch: list[StoredObject], token: str) -> list[Quarantined | Kept]:
        """Copy one batch; what an earlier execution has copied is copied again to the same key."""
        known = self._known_copies(batch)
        copies = {item.key: copy_key(token, item) for item in batch}
        fresh = [item for item in batch if copies[item.key] not in known]
        changes = {item.key: _quarantine(item, copies[item.key]) for item in fresh}
        self.run.intend(changes.values())
        results = list(copy_all(self.bucket, batch, token))
        copied = {one.key for one in results if isinstance(one, Quarantined)} & changes.keys()
        self.run.settle((changes[key] for key in copied), ChangeState.DONE)
        others = changes.keys() - copied
        self.run.settle((changes[key] for key in others), ChangeState.CONFLICT)
        return results

    def _token(self) -> str:
        """Return the quarantine of this run, which an earlier execution may have begun."""
        first = self._changes(ChangeKind.QUARANTINE).order_by("pk").first()
        return first.new.removeprefix(PREFIX).partition("/")[0] if first else new_token()

    def _known_copies(self, batch: list[StoredObject]) -> set[str]:
        """Return where an earlier execution of this run has put copies of these keys already."""
        if not self.run.resumed:
            return set()
        rows = self._changes(ChangeKind.QUARANTINE, ChangeState.DONE)
        rows = rows.filter(old__in=[item.key for item in batch])
        return set(rows.values_list("new", flat=True))

    # Deletion

    def _fates(self, copied: Spool[Quarantined | Kept]) -> Iterator[PurgeItem]:
        """Delete what is still unnamed and unchanged; yield what became of each orphan."""
        entries = Spool.of(one for one in copied if isinstance(one, Quarantined))
        for one in copied:
            if isinstance(one, Kept):
                yield _fate(one.item, Action.FAIL if one.failed else Action.KEPT, one.reason)
        if self.stopped or not len(entries):
            return
        if not self.plan.options.hard:
            write_manifest(self.bucket, self._token(), self.run.run_id, entries)
        try:
            with Inventory() as inventory:
                reading = self._read_again(inventory, (one.object for one in entries))
                self._require_same_sources(reading)
                for batch in batched(self.control.track(entries, "Deleting", len(entries)), BATCH):
                    yield from self._delete_batch(batch, inventory)
        except Stopped as reason:
            self.stopped = reason

    def _delete_batch(self, batch: list[Quarantined], inventory: Inventory) -> Iterator[PurgeItem]:
        wanted = []
        for one, result in zip(batch, self.bucket.head_many(e.key for e in batch), strict=True):
            if inventory.is_named(one.key):
                yield _fate(one.object, Action.KEPT, "Something names it since the plan.")
            elif isinstance(result.error, NoSuchKey):
                yield _fate(one.object, Action.KEPT, "It is gone already.")
            elif result.error is not None or result.value is None:
                yield _fate(one.object, Action.FAIL, str(result.error))
            elif changed(one.object, result.value):
                yield _fate(one.object, Action.KEPT, "It changed since it was listed.")
            else:
                wanted.append(one)
        if wanted:
            yield from self._delete(wanted)

    def _delete(self, wanted: list[Quarantined]) -> Iterator[PurgeItem]:
        changes = {one.key: _deletion(one) for one in wanted}
        self.run.intend(changes.values())
        self._check_lease()
        results = self.bucket.delete_many(one.key for one in wanted)
        errors = {result.request: result.error for result in results if result.error}
        self.run.settle((changes[key] for key in changes.keys() - errors.keys()), ChangeState.DONE)
        # Without an answer that can be read, an object may be gone all the same.
        gone = self._settle_unsure([changes[key] for key in errors])
        for one in wanted:
            if one.key in errors and one.key not in gone:
                yield _fate(one.object, Action.FAIL, errors[one.key].message)
            else:
                yield _fate(one.object, Action.DELETE, "Nothing names it.")

    def _check_lease(self) -> None:
        if self.run.lease is not None:
            self.run.lease.check()

    # Reading again

    def _read_again(self, inventory: Inventory, objects: Iterable[StoredObject]) -> Reading:
        """Read the whole keep set for these objects alone."""
        inventory.add_objects(batched(objects, BATCH), control=self.control)

        def take(source: str, found: Found) -> None:
            inventory.add_names(found.names)

        keep_set = KeepSet(self.config, self.bucket, now=journal.now())
        return keep_set.read(
            inventory.finder(locations=storage_locations(self.config)),
            take,
            object_keys=self._object_keys,
            control=self.control,
        )

    def _object_keys(self) -> Iterator[str]:
        for page in self.bucket.list_pages():
            yield from (item.key for item in page)

    def _require_same_sources(self, reading: Reading) -> None:
        before = self.plan.reading
        for source, names in before.names.items():
            if names and reading.cells.get(source, 0) < _KEPT_CELLS * before.cells[source]:
                raise Refused(
                    f"A source holds far less than when the plan was made: {source}.",
                    "Nothing more is deleted. Find out what happened to it, then run again.",
                )

    def _restore_named(self) -> None:
        """Bring back what this run deleted, in any execution, and something names by now."""
        every = self._changes(ChangeKind.DELETE).exclude(state=ChangeState.CONFLICT)
        deletions = every.filter(state__in=_PERHAPS_DELETED)
        hurried = self.stopped is not None and self.stopped.reason == "signal"
        if hurried or not deletions.exists():
            return
        try:
            with Inventory() as inventory, self._time_to_finish():
                reading = self._read_again(inventory, map(_object_of, _in_order(deletions)))
                named = (
                    c for c in _in_order(every, newest_first=True) if inventory.is_named(c.old)
                )
                for change in _last_versions(named):
                    if change.state in _PERHAPS_DELETED:
                        self._restore(change)
                self._require_same_sources(reading)
        except Stopped as reason:
            self.stopped = reason

    @contextmanager
    def _time_to_finish(self) -> Iterator[None]:
        # Stopping here on time would leave deleted what was named meanwhile.
        deadline, self.control.deadline = self.control.deadline, None
        try:
            yield
        finally:
            self.control.deadline = deadline

    def _restore(self, change: Change) -> None:
        back = _entry(ChangeKind.RESTORE, _object_of(change), change.new)
        self.run.intend([back])
        result = restore(self.bucket, change.old, change.new)
        with transaction.atomic(using=journal.home()):
            self.run.settle([back], ChangeState.DONE if result.done else ChangeState.CONFLICT)
            if result.done:
                self.run.settle([change], ChangeState.UNDONE)
        action = Action.RESTORE if result.done else Action.FAIL
        reason = f"Something names it since it was deleted. {result.reason}".rstrip()
        self.restored[change.old] = _fate(_object_of(change), action, reason)

    # After

    def _remember_baseline(self) -> None:
        row = Run.objects.using(journal.home()).get(pk=self.run.run_id)
        row.options = {**row.options, "baseline": self.plan.baseline.as_dict()}
        row.save(using=journal.home(), update_fields=["options"])

    def _outcome(self, fates: Spool[PurgeItem]) -> PurgeOutcome:
        items = Spool.of(self._items(fates))
        deletions = self._changes(ChangeKind.DELETE)
        done = {
            "quarantined": self._changes(ChangeKind.QUARANTINE, ChangeState.DONE).count(),
            "deleted": deletions.filter(state__in=_DELETED).count(),
            "restored": self._changes(ChangeKind.RESTORE, ChangeState.DONE).count(),
            "failed": sum(item.action is Action.FAIL for item in items),
        }
        return PurgeOutcome(
            items=items,
            counts={**self.plan.counts, **done},
            saved_usd_per_month=self.plan.saving_of(_bytes_by_class(items)),
            notes=self.plan.notes,
            stopped=self.stopped,
        )

    def _items(self, fates: Spool[PurgeItem]) -> Iterator[PurgeItem]:
        """Yield what became of the orphans, then the plan's other items."""
        back = dict(self.restored)
        for item in fates:
            yield back.pop(item.object.key, item)
        yield from back.values()
        yield from (item for item in self.plan.items if item.action is not Action.PLAN)

    def _changes(self, kind: str, state: str | None = None) -> QuerySet[Change]:
        rows: QuerySet[Change] = Change.objects.using(journal.home()).filter(
            run_id=self.run.run_id, kind=kind
        )
        if state is not None:
            rows = rows.filter(state=state)
        return rows


def _bytes_by_class(items: Iterable[PurgeItem]) -> Counter[str]:
    """Return the bytes of what was deleted, by storage class."""
    deleted: Counter[str] = Counter()
    for item in items:
        if item.action is Action.DELETE:
            deleted[item.object.storage_class] += item.object.size
    return deleted


def _fate(item: StoredObject, action: Action, reason: str) -> PurgeItem:
    return PurgeItem(item, Verdict.ORPHAN, action, reason)


def _quarantine(item: StoredObject, copy: str) -> Entry:
    return _entry(ChangeKind.QUARANTINE, item, copy)


def _deletion(one: Quarantined) -> Entry:
    return _entry(ChangeKind.DELETE, one.object, one.copy)


def _entry(kind: str, item: StoredObject, copy: str) -> Entry:
    return Entry(kind=kind, old=item.key, new=copy, key=item.key, etag=item.etag, bytes=item.size)


def _object_of(change: Change) -> StoredObject:
    return StoredObject(change.old, change.bytes or 0, change.etag, change.at)


def _last_versions(newest_first: Iterable[Change]) -> Iterator[Change]:
    """Yield the last deletion of each key: what was uploaded again was perhaps deleted again."""
    seen: set[str] = set()
    for change in newest_first:
        if (name := keys.identity(change.old)) not in seen:
            seen.add(name)
            yield change


def _in_order(rows: QuerySet[Change], *, newest_first: bool = False) -> Iterator[Change]:
    """Yield changes by primary key, some at a time; they may be settled meanwhile."""
    order, beyond = ("-pk", "pk__lt") if newest_first else ("pk", "pk__gt")
    page = list(rows.order_by(order)[: 4 * BATCH])
    while page:
        yield from page
        page = list(rows.filter(**{beyond: page[-1].pk}).order_by(order)[: 4 * BATCH])
