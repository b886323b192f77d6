"""What a purge is made of: options, one item an object, and the plan. Values only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any

from r2maint.bucket import StoredObject
from r2maint.errors import Stopped
from r2maint.journal.baselines import Baseline
from r2maint.keepset.read_texts import Reading
from r2maint.models import ChangeKind, ChangeState
from r2maint.pricing import Prices, storage_saving
from r2maint.purge.brakes import MaxDelete
from r2maint.purge.bucket_owner import Standing
from r2maint.purge.cost import PurgeCost
from r2maint.purge.excluded_sources import Omission
from r2maint.purge.journal_steps import Steps
from r2maint.purge.overview import Overview
from r2maint.purge.verdict import PurgeAction, PurgeItem
from r2maint.rendering import Refusal, format_bytes, format_count
from r2maint.scratch.spool import Spool

SUMMARY = (
    "objects",
    "bytes",
    "kept",
    "orphans",
    "orphan_bytes",
    "too_young",
    "waiting",
    "protected",
    "derived",
    "kin",
    "unmanaged",
    "quarantined",
    "deleted",
    "restored",
    "failed",
    "cache_purged",
    "cache_failed",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PurgeOptions:
    """What a caller asks of one purge."""

    grace: timedelta | None = None
    """None for the configured one."""
    second_look: bool = True
    max_delete: MaxDelete | None = None
    overrides: frozenset[str] = frozenset()
    """Names of brakes that do not hold this time."""
    adopt: bool = False
    hard: bool = False
    """Delete without a copy in quarantine."""
    prefix: str = ""
    """Act on nothing else; what counts as a reference stays the same."""
    limit: int | None = None
    everything: bool = False
    """List unmanaged objects too."""
    include_kin: bool = False
    """Judge images beside a named object as any other that nothing names."""


AS_CONFIGURED = PurgeOptions()


@dataclass(frozen=True, slots=True, kw_only=True)
class PurgePlan:
    """What a purge would do."""

    options: PurgeOptions
    items: Spool[PurgeItem]
    counts: Mapping[str, int]
    refusals: tuple[Refusal, ...]
    notes: tuple[str, ...]
    stored: Mapping[str, int]
    """Bytes of the whole bucket, by storage class."""
    removed: Mapping[str, int]
    """Of these, the orphans'."""
    prices: Prices
    baseline: Baseline
    standing: Standing
    circumstances: str
    reading: Reading
    uncached: tuple[str, ...] = ()
    """Ids of earlier purges whose deletions caches may still serve, if these are purged too."""
    unfinished: str = ""
    """Id of an interrupted purge that applying goes on with."""
    managed: int = 0
    """Objects below the managed prefixes."""
    overview: Overview = field(default_factory=Overview)
    forecast: PurgeCost = field(default_factory=PurgeCost)
    omissions: tuple[Omission, ...] = ()
    """One for each entry of NOT_REFERENCES."""
    stopped: None = None

    def summary(self) -> dict[str, Any]:
        """Return the counts by the names of the contract."""
        counts = {name: self.counts.get(name, 0) for name in SUMMARY}
        return {**counts, "saved_usd_per_month": self.saved_usd_per_month}

    @property
    def saved_usd_per_month(self) -> Decimal:
        """By how much the month's storage bill falls once no copies are left either."""
        return self.saving_of(self.removed)

    def saving_of(self, removed: Mapping[str, int]) -> Decimal:
        """Return the same for these bytes, by storage class."""
        return storage_saving(removed, stored=self.stored, prices=self.prices)

    @property
    def extra(self) -> dict[str, Any]:
        """Return the further keys of the document."""
        copied = 0 if self.options.hard else self.counts.get("orphan_bytes", 0)
        kept = Decimal(0) if self.options.hard else self.saved_usd_per_month
        return {
            "requests": self.forecast.as_dict(),
            # The bill falls by nothing while the copies are there, in the same storage class.
            "quarantine": {"bytes": copied, "usd_per_month": kept},
            **self.overview.as_dict(),
            "not_references": [one.as_dict() for one in self.omissions],
        }

    @property
    def has_work(self) -> bool:
        return bool(self.counts.get("orphans") or self.unfinished or self.uncached)

    @property
    def findings(self) -> bool:
        return False

    @property
    def question(self) -> str:
        count, size = self.counts.get("orphans", 0), self.counts.get("orphan_bytes", 0)
        what = f"{format_count(count, 'object')} ({format_bytes(size)})"
        deed = f"delete {what} for good" if self.options.hard else f"quarantine and delete {what}"
        if self.uncached and not (count or self.unfinished):
            return f"Purge the caches after {format_count(len(self.uncached), 'earlier run')}?"
        if self.unfinished:
            return f"Go on with {self.unfinished} and {deed}?"
        return f"{deed[0].upper()}{deed[1:]}?"

    def orphans(self) -> Iterator[StoredObject]:
        """Yield what applying the plan deletes."""
        return (item.object for item in self.items if item.action is PurgeAction.PLAN)


_DELETED = (ChangeState.DONE, ChangeState.UNDONE)


@dataclass(frozen=True, slots=True, kw_only=True)
class PurgeOutcome:
    """What a purge did."""

    items: Spool[PurgeItem]
    counts: Mapping[str, int]
    saved_usd_per_month: Decimal
    """Of what this execution deleted, once no copies are left either."""
    notes: tuple[str, ...] = ()
    refusals: tuple[()] = ()
    in_vain: int = 0
    """Objects that seemed to have changed since they were listed, where none was deleted."""
    stopped: Stopped | None = None
    has_work: bool = False

    def summary(self) -> dict[str, Any]:
        """Return the counts by the names of the contract; what was done counts the whole run."""
        counts = {name: self.counts.get(name, 0) for name in SUMMARY}
        return {**counts, "saved_usd_per_month": self.saved_usd_per_month}

    @property
    def findings(self) -> bool:
        counts = self.counts
        return bool(counts.get("failed") or counts.get("cache_failed") or self.in_vain)


def outcome_of(
    plan: PurgePlan,
    steps: Steps,
    fates: Iterable[PurgeItem],
    *,
    restored: Mapping[str, PurgeItem],
    locked: int,
    changed: int = 0,
    stopped: Stopped | None,
) -> PurgeOutcome:
    """Return what the plan came to."""
    freed: Counter[str] = Counter()
    failed = deleted = 0

    def counted() -> Iterator[PurgeItem]:
        nonlocal failed, deleted
        for item in _items(plan, fates, restored):
            failed += item.action is PurgeAction.FAIL
            if item.action is PurgeAction.DELETE:
                deleted += 1
                freed[item.object.storage_class] += item.object.size
            yield item

    items = Spool.of(counted())
    in_vain = 0 if deleted else changed
    done = {
        "quarantined": steps.changes(ChangeKind.QUARANTINE, ChangeState.DONE).count(),
        "deleted": steps.changes(ChangeKind.DELETE, *_DELETED).count(),
        "restored": steps.changes(ChangeKind.RESTORE, ChangeState.DONE).count(),
        "failed": failed,
    }
    return PurgeOutcome(
        items=items,
        counts={**plan.counts, **done},
        saved_usd_per_month=plan.saving_of(freed),
        notes=(*plan.notes, *_notes(locked, in_vain)),
        in_vain=in_vain,
        stopped=stopped,
    )


def _items(
    plan: PurgePlan, fates: Iterable[PurgeItem], restored: Mapping[str, PurgeItem]
) -> Iterator[PurgeItem]:
    """Yield what became of the orphans, then the plan's other items."""
    back = dict(restored)
    for item in fates:
        yield back.pop(item.object.key, item)
    yield from back.values()
    yield from (item for item in plan.items if item.action is not PurgeAction.PLAN)


def _notes(locked: int, in_vain: int) -> Iterator[str]:
    if in_vain:
        yield (
            f"Nothing was deleted: a HEAD tells another ETag, size or time than the listing of"
            f" {format_count(in_vain, 'object')}. Either each was uploaded again, or the server, or"
            " a proxy before it, changes what it tells; their copies stay in quarantine."
        )
    if locked:
        yield (
            f"Bucket lock rules kept {format_count(locked, 'object')}. Such a rule is seen and"
            " removed in Cloudflare's dashboard, under the bucket's settings; PROTECTED spares the"
            " next purge copying what it keeps."
        )
