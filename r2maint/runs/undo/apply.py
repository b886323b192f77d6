"""Take a run back: values by compare-and-swap, deleted objects from quarantine, removed files.

Where somebody edited since, their value stays. No value comes back before what it names is proved
to exist, or brought back, and nothing is overwritten. An undo is a run of its own, which cannot be
undone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby

from r2maint.bucket import Bucket
from r2maint.conf import Config
from r2maint.control import Control
from r2maint.errors import Stopped, UsageError
from r2maint.journal.entries import Entry
from r2maint.journal.journal import UNDO_COMMAND, Journal, home, iter_changes, journal_aliases
from r2maint.keys import Addresses
from r2maint.local_files.restore_file import Original
from r2maint.models import Change, ChangeKind, ChangeState, Run, RunState
from r2maint.quarantine.lost_runs import iter_lost_changes
from r2maint.quarantine.manifest import restore_all
from r2maint.references.rewrite import swap
from r2maint.runs.plan import PURGE_COMMAND, find_run, is_known
from r2maint.runs.undo.judge_changes import (
    ACTIVE,
    ENDS,
    ChangeId,
    Judge,
    change_id,
    is_journalled,
    way_back,
)
from r2maint.runs.undo.prove_targets import Prover
from r2maint.runs.undo.result import Only, Undo, UndoAction, UndoItem
from r2maint.scratch.batches import batched
from r2maint.scratch.spool import Spool

_BATCH = 200
_EVERYTHING = Only()


def _row_of(change: Change) -> tuple[str, ...]:
    """Return what is the same for all changes of one row; an object is one of its own."""
    is_rewrite = change.kind == ChangeKind.REWRITE
    return (change.database, change.model, change.row) if is_rewrite else (change.key,)


def plan_undo(
    run_id: str,
    config: Config,
    addresses: Addresses,
    bucket: Bucket,
    *,
    only: Only = _EVERYTHING,
    control: Control,
) -> Undo:
    """Return what undoing a run comes to today; writes nothing.

    A run that this database does not know is read from the bucket's manifests. One Class B request
    for each distinct object an old value names, and two for each that was deleted.
    Raises: UsageError for a run that does not exist, cannot be undone or wrote to another bucket.
    """
    run = _find_run(run_id, bucket)
    _require_reversible(run, bucket)
    judge = Judge.of(run, config, addresses, bucket)
    changes = filter(only.allows, _reversible(run_id, bucket))
    batches = _by_rows(control.track(changes, "Looking at changes", unit="change"))
    items = Spool.of(i for b in batches for i in judge.judge(b))
    is_lost = not is_known(run_id)
    if is_lost and not len(items) and not only:
        raise UsageError(f"There is no run: {run_id!r}.", "manage.py r2_runs lists them.")
    return Undo(
        run_id=run_id,
        items=items,
        restored=_count(run_id, ChangeKind.RESTORE),
        has_uploads=bool(_count(run_id, ChangeKind.UPLOAD)),
        only=only,
        is_lost=is_lost,
    )


def _find_run(run_id: str, bucket: Bucket) -> Run:
    """Return the run; for one that this database does not know, what it must have been."""
    if is_known(run_id):
        return find_run(run_id)
    return Run(id=run_id, command=PURGE_COMMAND, bucket=bucket.name)


def _require_reversible(run: Run, bucket: Bucket) -> None:
    if run.command == UNDO_COMMAND and not run.options.get("prune"):
        raise UsageError(
            f"The run is an undo: {run.pk}.", "Run the first command again to do it once more."
        )
    for option, what in _FOR_GOOD.items():
        if run.options.get(option):
            raise UsageError(f"The run cannot be undone: {run.pk} {what} for good.")
    if run.bucket != bucket.name:
        raise UsageError(
            f"The run wrote to another bucket: {run.bucket!r}, and this is {bucket.name!r}.",
            "Undo it with the settings it was made with.",
        )


_FOR_GOOD = {
    "empty_quarantine": "removed copies",
    "abort_uploads": "aborted uploads",
    "prune": "removed journal rows",
}


def _count(run_id: str, kind: str) -> int:
    """Return how many changes of a kind a run made."""
    lines = Change.objects.using(home()).filter(run_id=run_id, kind=kind)
    return int(lines.filter(state=ChangeState.DONE).count())


_REVERSIBLE = (ChangeKind.REWRITE, ChangeKind.DELETE, ChangeKind.REMOVE)


def _by_rows(changes: Iterable[Change]) -> Iterator[list[Change]]:
    """Yield batches that never part neighbours of one row: one after the other they go back."""
    batch: list[Change] = []
    for _, group in groupby(changes, key=_row_of):
        batch += group
        if len(batch) >= _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _reversible(run_id: str, bucket: Bucket) -> Iterator[Change]:
    if not is_known(run_id):
        yield from iter_lost_changes(bucket, run_id)
        return
    for change in iter_changes(run_id, newest_first=True):
        is_over = change.state in (ChangeState.UNDONE, ChangeState.CONFLICT)
        if change.kind in _REVERSIBLE and not is_over:
            yield change


def apply_undo(
    plan: Undo,
    config: Config,
    addresses: Addresses,
    bucket: Bucket,
    journal: Journal,
    *,
    control: Control,
) -> Undo:
    """Put back what the plan says, proving each target once more; return what happened.

    The run is marked undone once something of it went back, unless something failed or is left, or
    a stop came first.
    Raises: BucketError and DatabaseError that every further item would meet too; LeaseHeld.
    """
    judge = Judge.of(_find_run(plan.run_id, bucket), config, addresses, bucket)
    stops: list[Stopped] = []
    items = Spool.of(_undone(plan, judge, journal, control, stops))
    stopped = stops[0] if stops else None
    outcome = replace(plan, items=items, applied=True, stopped=stopped)
    if not stops and not outcome.counts()[UndoAction.FAIL] and _is_undone(plan, bucket):
        Run.objects.using(home()).filter(pk=plan.run_id).update(state=RunState.UNDONE)
    return outcome


def _is_undone(plan: Undo, bucket: Bucket) -> bool:
    """Tell whether something of the run went back, in any execution, and nothing is left out."""
    marked = {"run_id": plan.run_id, "state": ChangeState.UNDONE}
    if not any(Change.objects.using(a).filter(**marked).exists() for a in journal_aliases()):
        return False
    return not plan.only or next(_reversible(plan.run_id, bucket), None) is None


def _undone(
    plan: Undo, judge: Judge, journal: Journal, control: Control, stops: list[Stopped]
) -> Iterator[UndoItem]:
    with control.progress(len(plan.items), "Undoing", "change") as advance:
        for batch in batched(plan.items, _BATCH):
            if stop := control.stop():
                stops.append(stop)
                return
            yield from _undo_batch(batch, judge, journal)
            advance(len(batch))


def _undo_batch(batch: list[UndoItem], judge: Judge, journal: Journal) -> list[UndoItem]:
    """Undo what the plan allows and what still can be proved; return how each item ended."""
    active = [item for item in batch if item.action in ACTIVE]
    judged = {change_id(i.change): i for i in judge.judge([item.change for item in active])}
    items = [judged.get(change_id(item.change), item) for item in batch]
    items = _with_files(items, judge.prover, journal)
    ends = _swap_back([i for i in items if i.action is UndoAction.UNDO], journal)
    ends |= _put_back([i for i in items if i.action is UndoAction.RESTORE], judge, journal)
    return [ends.get(change_id(item.change), item) for item in items]


def _with_files(items: list[UndoItem], prover: Prover, journal: Journal) -> list[UndoItem]:
    """Bring back the files these items need, each once; fail the items whose file does not come."""
    wanted = dict.fromkeys(item.original for item in items if item.original)
    steps = {original: _file_step(original) for original in wanted}
    journal.intend(steps.values())
    faults = {original: prover.bring_back(original) for original in wanted}
    for state, is_done in ((ChangeState.DONE, True), (ChangeState.CONFLICT, False)):
        journal.settle((steps[o] for o, fault in faults.items() if (not fault) is is_done), state)
    return [
        replace(item, action=UndoAction.FAIL, reason=fault)
        if item.original and (fault := faults[item.original])
        else item
        for item in items
    ]


def _file_step(original: Original) -> Entry:
    return Entry(
        kind=ChangeKind.RESTORE,
        key=original.key,
        old=str(original.path),
        sha256=original.sha256,
    )


def _swap_back(items: list[UndoItem], journal: Journal) -> dict[ChangeId, UndoItem]:
    """Exchange the new values for the old ones; mark the changes whose old value is there."""
    rewrites = {change_id(item.change): way_back(item.change) for item in items}
    # A stop is heard between batches: here it would lose what became of this one.
    outcomes = dict(swap(dict.fromkeys(rewrites.values()), journal, control=Control()))
    ends: dict[ChangeId, UndoItem] = {}
    for item in items:
        action, reason = ENDS[outcomes[rewrites[change_id(item.change)]]]
        ends[change_id(item.change)] = replace(item, action=action, reason=reason)
    _mark([item.change for item in ends.values() if item.action is UndoAction.UNDO])
    return ends


def _put_back(items: list[UndoItem], judge: Judge, journal: Journal) -> dict[ChangeId, UndoItem]:
    """Bring objects back out of quarantine; removed files came back before. Tell of each."""
    lost = [_Deleted(item) for item in items if item.change.kind == ChangeKind.DELETE]
    steps = [one.step() for one in lost]
    journal.intend(steps)
    # A stop is heard between batches: here it would lose what became of this one.
    results = list(restore_all(judge.prover.bucket, lost, control=Control()))
    pairs = list(zip(steps, results, strict=True))
    journal.settle((step for step, result in pairs if result.done), ChangeState.DONE)
    journal.settle((step for step, result in pairs if not result.done), ChangeState.CONFLICT)
    ends = {change_id(item.change): item for item in items}
    for one, result in zip(lost, results, strict=True):
        action = UndoAction.RESTORE if result.done else UndoAction.FAIL
        ends[change_id(one.item.change)] = replace(one.item, action=action, reason=result.reason)
    back = [item.change for item in ends.values() if item.action is UndoAction.RESTORE]
    _mark([change for change in back if is_journalled(change)])
    return ends


@dataclass(frozen=True, slots=True)
class _Deleted:
    """A deleted object, as what restores it wants to know it."""

    item: UndoItem

    @property
    def key(self) -> str:
        return str(self.item.change.key)

    @property
    def copy(self) -> str:
        return str(self.item.change.new)

    @property
    def size(self) -> int | None:
        size: int | None = self.item.change.bytes
        return size

    def step(self) -> Entry:
        etag = self.item.change.etag
        return Entry(
            kind=ChangeKind.RESTORE, key=self.key, old=self.copy, etag=etag, bytes=self.size
        )


def _mark(changes: list[Change]) -> None:
    for alias, group in groupby(sorted(changes, key=change_id), key=lambda c: str(c._state.db)):
        for ids in batched((change.pk for change in group), _BATCH):
            Change.objects.using(alias).filter(pk__in=ids).update(state=ChangeState.UNDONE)
