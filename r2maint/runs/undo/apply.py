"""Take a run back: values by compare-and-swap, deleted objects from quarantine, removed files.

Where somebody edited since, their value stays. No value comes back before what it names is proved
to exist, or brought back, and nothing is overwritten. An undo is a run of its own, which cannot be
undone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from r2maint.bucket import Bucket
from r2maint.conf import Config
from r2maint.control import Control
from r2maint.errors import Stopped
from r2maint.journal.entries import Entry
from r2maint.journal.journal import Journal, home, journal_aliases
from r2maint.keys import Addresses
from r2maint.local_files.restore_file import MovedFile
from r2maint.models import Change, ChangeKind, ChangeState, Run, RunState
from r2maint.quarantine.lost_runs import HEADERS
from r2maint.quarantine.manifest import restore_all
from r2maint.references.rewrite import swap
from r2maint.runs.undo.judge_changes import (
    ACTIVE,
    ENDS,
    ChangeId,
    UndoJudge,
    change_id,
    is_journalled,
    way_back,
)
from r2maint.runs.undo.plan import BATCH, iter_reversible, run_to_undo
from r2maint.runs.undo.prove_targets import Prover
from r2maint.runs.undo.result import Undo, UndoAction, UndoItem
from r2maint.scratch.batches import batched
from r2maint.scratch.spool import Spool


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
    judge = UndoJudge.of(run_to_undo(plan.run_id, bucket), config, addresses, bucket)
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
    return not plan.only or next(iter_reversible(plan.run_id, bucket), None) is None


def _undone(
    plan: Undo, judge: UndoJudge, journal: Journal, control: Control, stops: list[Stopped]
) -> Iterator[UndoItem]:
    with control.progress(len(plan.items), "Undoing", "change") as advance:
        for batch in batched(plan.items, BATCH):
            if stop := control.stop():
                stops.append(stop)
                return
            yield from _undo_batch(batch, judge, journal)
            advance(len(batch))


def _undo_batch(batch: list[UndoItem], judge: UndoJudge, journal: Journal) -> list[UndoItem]:
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


def _file_step(original: MovedFile) -> Entry:
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
    swapped = swap(dict.fromkeys(rewrites.values()), journal, control=Control())
    outcomes = {each.rewrite: each for each in swapped}
    ends: dict[ChangeId, UndoItem] = {}
    for item in items:
        outcome = outcomes[rewrites[change_id(item.change)]]
        action, reason = ENDS[outcome.how]
        reason = _sentence(outcome.detail) or reason
        ends[change_id(item.change)] = replace(item, action=action, reason=reason)
    _mark([item.change for item in ends.values() if item.action is UndoAction.UNDO])
    return ends


def _sentence(detail: str) -> str:
    return f"{detail[:1].upper()}{detail[1:]}." if detail else ""


def _put_back(
    items: list[UndoItem], judge: UndoJudge, journal: Journal
) -> dict[ChangeId, UndoItem]:
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

    @property
    def etag(self) -> str:
        return str(self.item.change.etag)

    @property
    def headers(self) -> Mapping[str, Any]:
        """Those that a manifest tells; the journal leaves them to the copy."""
        return dict(self.item.change.extra.get(HEADERS, {}))

    def step(self) -> Entry:
        return Entry(
            kind=ChangeKind.RESTORE, key=self.key, old=self.copy, etag=self.etag, bytes=self.size
        )


def _mark(changes: list[Change]) -> None:
    for alias, group in groupby(sorted(changes, key=change_id), key=lambda c: str(c._state.db)):
        for ids in batched((change.pk for change in group), BATCH):
            Change.objects.using(alias).filter(pk__in=ids).update(state=ChangeState.UNDONE)
