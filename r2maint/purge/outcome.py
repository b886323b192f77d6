"""What a purge did: the counts of the whole run, and what became of each object."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from r2maint.errors import Stopped
from r2maint.models import ChangeKind, ChangeState
from r2maint.purge.items import SUMMARY, PurgePlan
from r2maint.purge.steps import Steps
from r2maint.purge.verdicts import Action, PurgeItem
from r2maint.rendering import format_count
from r2maint.scratch.spool import Spool

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
    stopped: Stopped | None = None
    has_work: bool = False

    def summary(self) -> dict[str, Any]:
        """Return the counts by the names of the contract; what was done counts the whole run."""
        counts = {name: self.counts.get(name, 0) for name in SUMMARY}
        return {**counts, "saved_usd_per_month": self.saved_usd_per_month}

    @property
    def findings(self) -> bool:
        return bool(self.counts.get("failed") or self.counts.get("cache_failed"))


def outcome_of(
    plan: PurgePlan,
    steps: Steps,
    fates: Iterable[PurgeItem],
    *,
    restored: Mapping[str, PurgeItem],
    locked: int,
    stopped: Stopped | None,
) -> PurgeOutcome:
    """Return what the plan came to."""
    freed: Counter[str] = Counter()
    failed = 0

    def counted() -> Iterator[PurgeItem]:
        nonlocal failed
        for item in _items(plan, fates, restored):
            failed += item.action is Action.FAIL
            if item.action is Action.DELETE:
                freed[item.object.storage_class] += item.object.size
            yield item

    items = Spool.of(counted())
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
        notes=(*plan.notes, *_notes(locked)),
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
    yield from (item for item in plan.items if item.action is not Action.PLAN)


def _notes(locked: int) -> Iterator[str]:
    if locked:
        yield (
            f"Bucket lock rules kept {format_count(locked, 'object')}. Such a rule is seen and"
            " removed in Cloudflare's dashboard, under the bucket's settings; PROTECTED spares the"
            " next purge copying what it keeps."
        )
