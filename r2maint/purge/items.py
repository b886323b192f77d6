"""What a purge is made of: options, verdicts, one item an object, and the plan. Values only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, NamedTuple

from r2maint.bucket import StoredObject
from r2maint.keepset.reading import Reading
from r2maint.pricing import Prices, storage_saving
from r2maint.purge.brakes import Baseline, MaxDelete
from r2maint.purge.identity import Standing
from r2maint.report import Refusal, format_bytes, format_count
from r2maint.spool import Spool

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
    "unmanaged",
    "quarantined",
    "deleted",
    "restored",
    "failed",
    "cache_purged",
    "cache_failed",
)


class Verdict(str, Enum):
    """What a plan makes of one object."""

    ORPHAN = "orphan"
    TOO_YOUNG = "too_young"
    WAITING = "waiting"
    """Not seen orphaned long enough ago by an earlier run."""
    PROTECTED = "protected"
    DERIVED = "derived"
    UNMANAGED = "unmanaged"
    NAMED = "named"
    """Of these two only --explain speaks."""
    ABSENT = "absent"


UNNAMED = frozenset({Verdict.ORPHAN, Verdict.TOO_YOUNG, Verdict.WAITING})


class Action(str, Enum):
    """What is done about one object."""

    PLAN = "plan"
    QUARANTINE = "quarantine"
    DELETE = "delete"
    RESTORE = "restore"
    KEPT = "kept"
    FAIL = "fail"


class PurgeItem(NamedTuple):
    """One object that nothing names, and what is made of it."""

    object: StoredObject
    verdict: Verdict
    action: Action
    reason: str
    due_at: datetime | None = None
    """When it may be deleted, if it is still an orphan then."""

    def as_dict(self) -> dict[str, Any]:
        return {
            "key": self.object.key,
            "bytes": self.object.size,
            "modified_at": self.object.modified_at,
            "verdict": self.verdict.value,
            "action": self.action.value,
            "due_at": self.due_at,
            "reason": self.reason,
        }


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
        return (item.object for item in self.items if item.action is Action.PLAN)
