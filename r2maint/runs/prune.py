"""Remove the journal of runs that ended long ago and that nothing needs any more.

What goes with it: the undo of those runs, `--remove-local` of a migration, and the memory of which
source lies under which key. Rows of unfinished runs, of runs inside UNDO_WINDOW or with copies in
quarantine, and of the run the brakes compare with stay whatever their age.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from r2maint.bucket import Bucket
from r2maint.conf import Config
from r2maint.control import Control
from r2maint.errors import Stopped
from r2maint.journal import journal
from r2maint.journal.baselines import last_baseline
from r2maint.journal.journal import UNFINISHED, Journal
from r2maint.models import Change, ChangeKind, Run
from r2maint.quarantine.manifest import quarantine_of
from r2maint.rendering import Refusal, format_count
from r2maint.scratch.spool import Spool

_BATCH = 500
_PURGE = "purge_orphans"


class PrunedRun(NamedTuple):
    """One run that ended, and what becomes of its journal."""

    run_id: str
    command: str
    finished_at: datetime | None
    changes: int
    action: str
    """ "prune", "keep" or "pruned"."""
    reason: str

    def as_dict(self) -> dict[str, Any]:
        return self._asdict()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruning:
    """A pruning as planned, or as it went."""

    items: Spool[PrunedRun]
    counts: Mapping[str, int]
    cutoff: datetime
    """What ended later stays."""
    applied: bool = False
    refusals: tuple[Refusal, ...] = ()
    stopped: Stopped | None = None

    @property
    def has_work(self) -> bool:
        return bool(self.counts.get("to_prune"))

    @property
    def findings(self) -> bool:
        return False

    @property
    def question(self) -> str:
        runs = format_count(self.counts["to_prune"], "run")
        changes = format_count(self.counts["changes"], "change")
        return f"Remove the journal of {runs} ({changes})?"

    @property
    def notes(self) -> tuple[str, ...]:
        if not self.has_work:
            return ()
        return (
            "What is removed from the journal cannot be undone any more, nor can the local files of"
            " such a migration be removed by --remove-local.",
        )

    def summary(self) -> dict[str, int]:
        return {
            name: self.counts.get(name, 0) for name in ("to_prune", "changes", "kept", "pruned")
        }


def plan_pruning(
    config: Config,
    bucket: Bucket,
    older_than: timedelta,
    *,
    now: datetime | None = None,
    control: Control,
) -> Pruning:
    """Return which runs' journal could be removed today; writes nothing.

    One Class A request for each old run of a purge. Raises: BucketError when it cannot be told
    whether copies of a run are in quarantine.
    """
    journal.require_tables([journal.home()])
    at = now or journal.now()
    keeper = _Keeper.of(bucket, at - max(older_than, config.undo_window))
    runs = Run.objects.using(journal.home()).filter(finished_at__lte=at - older_than)
    items = Spool.of(
        _planned(run, keeper)
        for run in control.track(list(runs.order_by("id")), "Looking at runs", unit="run")
    )
    counts = Counter({"to_prune": 0, "kept": 0, "changes": 0})
    for item in items:
        counts["to_prune" if item.action == "prune" else "kept"] += 1
        counts["changes"] += item.changes if item.action == "prune" else 0
    return Pruning(items=items, counts=counts, cutoff=keeper.cutoff)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Keeper:
    """Knows why the journal of a run stays."""

    bucket: Bucket
    cutoff: datetime
    baseline: str
    """The run the next purge is measured by."""
    subjects: frozenset[str]
    """Runs that an unfinished one is about."""

    @classmethod
    def of(cls, bucket: Bucket, cutoff: datetime) -> _Keeper:
        unfinished = Run.objects.using(journal.home()).filter(state__in=UNFINISHED)
        options = list(unfinished.values_list("options", flat=True))
        about = {str(each.get(name)) for each in options for name in ("undo", "remove_local")}
        return cls(
            bucket=bucket,
            cutoff=cutoff,
            baseline=last_baseline(_PURGE, bucket.name).run_id,
            subjects=frozenset(about),
        )

    def reason(self, run: Run) -> str:
        """Return why it stays, or ""."""
        if run.state in UNFINISHED:
            return "It is unfinished."
        if run.bucket != self.bucket.name:
            return "It wrote to another bucket."
        if run.finished_at is None or run.finished_at > self.cutoff:
            return "It is inside UNDO_WINDOW."
        if run.pk == self.baseline:
            return "The next purge is measured by it."
        if run.pk in self.subjects:
            return "An unfinished run is about it."
        if self._has_copies(run):
            return "Copies of it are in quarantine: empty that first."
        return ""

    def _has_copies(self, run: Run) -> bool:
        lines = Change.objects.using(journal.home()).filter(
            run_id=run.pk, kind__in=[ChangeKind.QUARANTINE, ChangeKind.DELETE]
        )
        first = lines.exclude(new="").order_by("pk").first()
        if first is None:
            return False
        return next(self.bucket.list_pages(f"{quarantine_of(first.new)}/"), None) is not None


def _planned(run: Run, keeper: _Keeper) -> PrunedRun:
    reason = keeper.reason(run)
    changes = sum(
        Change.objects.using(alias).filter(run_id=run.pk).count()
        for alias in journal.journal_aliases()
    )
    action = "keep" if reason else "prune"
    return PrunedRun(run.pk, run.command, run.finished_at, changes, action, reason)


def apply_pruning(plan: Pruning, bucket: Bucket, run: Journal, *, control: Control) -> Pruning:
    """Remove the journal of what the plan names and still may go; return what happened.

    A run goes after the last of its changes, so that an interrupted pruning takes it up again.
    Raises: BucketError, LeaseHeld; DatabaseError.
    """
    stops: list[Stopped] = []
    items = Spool.of(_pruned(plan, bucket, run, control, stops))
    counts = {**plan.counts, "pruned": sum(item.action == "pruned" for item in items)}
    stopped = stops[0] if stops else None
    return replace(plan, items=items, counts=counts, applied=True, stopped=stopped)


def _pruned(
    plan: Pruning, bucket: Bucket, run: Journal, control: Control, stops: list[Stopped]
) -> Iterator[PrunedRun]:
    # Under the lease no run begins or goes on: what is found now holds until the end.
    keeper = _Keeper.of(bucket, plan.cutoff)
    for item in plan.items:
        if stop := control.stop():
            stops.append(stop)
            return
        yield _prune(item, keeper, run) if item.action == "prune" else item


def _prune(item: PrunedRun, keeper: _Keeper, journal_run: Journal) -> PrunedRun:
    found = Run.objects.using(journal.home()).filter(pk=item.run_id).first()
    if found is None:
        return item._replace(action="pruned")
    if reason := keeper.reason(found):
        return item._replace(action="keep", reason=reason)
    journal_run.check_lease()
    for alias in journal.journal_aliases():
        lines = Change.objects.using(alias).filter(run_id=item.run_id)
        while batch := list(lines.order_by("pk").values_list("pk", flat=True)[:_BATCH]):
            Change.objects.using(alias).filter(pk__in=batch).delete()
    found.delete(using=journal.home())
    return item._replace(action="pruned")
