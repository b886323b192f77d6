"""Take a run back: values by compare-and-swap, deleted objects from quarantine, removed files.

Where somebody edited since, their value stays. No value comes back before what it names is proved
to exist, or brought back, and nothing is overwritten. An undo is a run of its own, which cannot be
undone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from django.db.models.query import QuerySet

from r2maint.batching import batched
from r2maint.bucket import Bucket, ObjectInfo, Result
from r2maint.conf import Config
from r2maint.control import Control
from r2maint.databases import reading
from r2maint.entries import Entry
from r2maint.errors import NoSuchKey, Stopped, UsageError
from r2maint.journal import (
    REPAIR_COMMAND,
    UNDO_COMMAND,
    Journal,
    home,
    iter_changes,
    journal_aliases,
)
from r2maint.keys import Addresses, Kind, Target, Via
from r2maint.models import Change, ChangeKind, ChangeState, Run, RunState
from r2maint.originals import Original
from r2maint.purge.lostruns import iter_lost_changes
from r2maint.purge.quarantine import GONE, NO_COPY, TAKEN, THERE, restore_all
from r2maint.references import jsontext
from r2maint.references.cells import StoredText
from r2maint.references.columns import Column, ColumnKind, find_column
from r2maint.references.exchange import exchange
from r2maint.references.reading import Reference, Shape
from r2maint.references.swap import Rewrite, Swapped, swap
from r2maint.runs import PURGE_COMMAND, find_run, is_known
from r2maint.spool import Spool
from r2maint.targets import Proof, Prover
from r2maint.undone import Only, Undo, UndoAction, UndoItem

__all__ = ["Only", "Undo", "UndoAction", "UndoItem", "apply_undo", "plan_undo"]

_BATCH = 200
_EVERYTHING = Only()
_Id = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judge:
    """Looks at what is there now: cells, files and objects. Writes nothing."""

    prover: Prover
    is_of_repair: bool
    """What a repair replaced was at fault: it goes back as it was, whatever it names."""

    @classmethod
    def of(cls, run: Run, config: Config, addresses: Addresses, bucket: Bucket) -> _Judge:
        prover = Prover(config=config, addresses=addresses, bucket=bucket)
        return cls(prover=prover, is_of_repair=run.command == REPAIR_COMMAND)

    def judge(self, changes: list[Change]) -> list[UndoItem]:
        """Return what undoing each change would come to, in the same order."""
        cells = _current_cells(changes)
        inside = _outcomes_inside(changes, cells)
        items = [self._judge_one(change, cells, inside) for change in changes]
        return self._proved(self._with_copies(items))

    def _judge_one(
        self, change: Change, cells: Mapping[_Id, str | None], inside: Mapping[_Id, Swapped]
    ) -> UndoItem:
        if change.kind in (ChangeKind.DELETE, ChangeKind.REMOVE):
            return UndoItem(change=change, action=UndoAction.RESTORE)
        column = _column_of(change)
        if column is None or _id(change) not in cells:
            return UndoItem(change=change, action=UndoAction.SKIP, reason="The row is gone.")
        if _is_embedded(change):
            action, reason = _ENDS[inside[_id(change)]]
            return UndoItem(change=change, action=action, reason=reason)
        values = _elements(column, cells[_id(change)], change.path)
        if change.new not in values and change.old not in values:
            return UndoItem(change=change, action=UndoAction.SKIP, reason="It was edited since.")
        return UndoItem(change=change, action=UndoAction.UNDO)

    def _with_copies(self, items: list[UndoItem]) -> list[UndoItem]:
        """Return the items; of deleted objects, what copies and keys hold now decides."""
        lost = [item.change for item in items if item.change.kind == ChangeKind.DELETE]
        wanted = dict.fromkeys(key for c in lost for key in (c.key, c.new) if key)
        found = {result.request: result for result in self.prover.bucket.head_many(wanted)}
        return [
            _judge_copy(item, found) if item.change.kind == ChangeKind.DELETE else item
            for item in items
        ]

    def _proved(self, items: list[UndoItem]) -> list[UndoItem]:
        if self.is_of_repair:
            return items
        active = [item.change for item in items if item.action in _ACTIVE]
        proofs = iter(self.prover.prove(active))
        return [
            _with_proof(item, next(proofs)) if item.action in _ACTIVE else item for item in items
        ]


_Found = Mapping[str, Result[str, ObjectInfo]]


def _judge_copy(item: UndoItem, found: _Found) -> UndoItem:
    """Return what the object's key and its copy, as they are now, make of an item."""
    deleted = item.change
    there, copy = found[deleted.key].value, found.get(deleted.new)
    if there is not None:
        known = [(deleted.bytes, deleted.etag)]
        known += [(copy.value.size, copy.value.etag)] if copy and copy.value else []
        if (there.size, there.etag) not in known:
            return replace(item, action=UndoAction.FAIL, reason=TAKEN)
        # What a journal tells of is marked as undone; what no journal knows is simply there.
        action = UndoAction.RESTORE if _is_journalled(deleted) else UndoAction.KEPT
        return replace(item, action=action, reason=THERE)
    if copy is None:
        return replace(item, action=UndoAction.FAIL, reason=NO_COPY)
    if isinstance(copy.error, NoSuchKey):
        return replace(item, action=UndoAction.FAIL, reason=GONE)
    return item


def _is_journalled(change: Change) -> bool:
    return change._state.db is not None


def _with_proof(item: UndoItem, proof: Proof) -> UndoItem:
    if proof.reason:
        return replace(item, action=UndoAction.FAIL, reason=proof.reason)
    return replace(item, original=proof.original)


def _column_of(change: Change) -> Column | None:
    return find_column(change.database, change.model, change.field)


def _current_cells(changes: list[Change]) -> dict[_Id, str | None]:
    """Return the stored text of the cell of each change, by change; absent where the row is."""
    cells: dict[_Id, str | None] = {}
    rewrites = sorted((c for c in changes if c.kind == ChangeKind.REWRITE), key=_cell_of)
    for _, group in groupby(rewrites, key=_cell_of):
        same = list(group)
        column = _column_of(same[0])
        if column is None:
            continue
        every: QuerySet[Any] = QuerySet(column.model_class, using=column.database)
        rows = every.filter(pk__in={change.row for change in same}).order_by()
        with reading(column.database, column.table):
            texts = {str(pk): text for pk, text in rows.values_list("pk", StoredText(column))}
        cells |= {_id(change): texts[change.row] for change in same if change.row in texts}
    return cells


def _outcomes_inside(changes: list[Change], cells: Mapping[_Id, str | None]) -> dict[_Id, Swapped]:
    """Return how the way back of addresses inside longer text would end, one after the other."""
    outcomes: dict[_Id, Swapped] = {}
    mine = [each for each in changes if _is_embedded(each) and _id(each) in cells]
    for _, group in groupby(sorted(mine, key=_place_of), key=_place_of):
        same = list(group)
        column = _column_of(same[0])
        assert column is not None
        back = [_back(change) for change in same]
        settled = exchange(column, cells[_id(same[0])], back).settled
        for change, rewrite in zip(same, back, strict=True):
            outcomes[_id(change)] = settled.get(rewrite, Swapped.DONE)
    return outcomes


def _is_embedded(change: Change) -> bool:
    return str(change.shape) == Shape.EMBEDDED.value


def _id(change: Change) -> _Id:
    """Return what tells changes of several databases apart."""
    return str(change._state.db), change.pk


def _cell_of(change: Change) -> tuple[str, str, str]:
    return change.database, change.model, change.field


def _place_of(change: Change) -> tuple[str, str, str, str]:
    return change.database, change.model, change.row, change.field


def _row_of(change: Change) -> tuple[str, ...]:
    """Return what is the same for all changes of one row; an object is one of its own."""
    is_rewrite = change.kind == ChangeKind.REWRITE
    return (change.database, change.model, change.row) if is_rewrite else (change.key,)


def _elements(column: Column, text: str | None, path: str) -> list[str]:
    if text is None:
        return []
    if column.kind not in (ColumnKind.JSON, ColumnKind.ARRAY):
        return [text]
    try:
        return jsontext.values_at(text, path)
    except ValueError:
        return []


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
    judge = _Judge.of(run, config, addresses, bucket)
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
    judge = _Judge.of(_find_run(plan.run_id, bucket), config, addresses, bucket)
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
    plan: Undo, judge: _Judge, journal: Journal, control: Control, stops: list[Stopped]
) -> Iterator[UndoItem]:
    with control.progress(len(plan.items), "Undoing", "change") as advance:
        for batch in batched(plan.items, _BATCH):
            if stop := control.stop():
                stops.append(stop)
                return
            yield from _undo_batch(batch, judge, journal)
            advance(len(batch))


def _undo_batch(batch: list[UndoItem], judge: _Judge, journal: Journal) -> list[UndoItem]:
    """Undo what the plan allows and what still can be proved; return how each item ended."""
    active = [item for item in batch if item.action in _ACTIVE]
    judged = {_id(i.change): i for i in judge.judge([item.change for item in active])}
    items = [judged.get(_id(item.change), item) for item in batch]
    items = _with_files(items, judge.prover, journal)
    ends = _swap_back([i for i in items if i.action is UndoAction.UNDO], journal)
    ends |= _put_back([i for i in items if i.action is UndoAction.RESTORE], judge, journal)
    return [ends.get(_id(item.change), item) for item in items]


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


def _swap_back(items: list[UndoItem], journal: Journal) -> dict[_Id, UndoItem]:
    """Exchange the new values for the old ones; mark the changes whose old value is there."""
    rewrites = {_id(item.change): _back(item.change) for item in items}
    # A stop is heard between batches: here it would lose what became of this one.
    outcomes = dict(swap(dict.fromkeys(rewrites.values()), journal, control=Control()))
    ends: dict[_Id, UndoItem] = {}
    for item in items:
        action, reason = _ENDS[outcomes[rewrites[_id(item.change)]]]
        ends[_id(item.change)] = replace(item, action=action, reason=reason)
    _mark([item.change for item in ends.values() if item.action is UndoAction.UNDO])
    return ends


_ACTIVE = (UndoAction.UNDO, UndoAction.RESTORE)
_ENDS = {
    Swapped.DONE: (UndoAction.UNDO, ""),
    Swapped.CHANGED: (UndoAction.SKIP, "It was edited since."),
    Swapped.GONE: (UndoAction.SKIP, "The row is gone."),
    Swapped.TOO_LONG: (UndoAction.FAIL, "Its old value no longer fits the column."),
    Swapped.BUSY: (UndoAction.FAIL, "The row stayed locked."),
    Swapped.REFUSED: (UndoAction.FAIL, "The row, or the text around it, refused its old value."),
}


def _back(change: Change) -> Rewrite:
    kind = Kind.BUCKET if change.key else Kind.EXTERNAL
    reference = Reference(
        database=change.database,
        model=change.model,
        pk=change.row,
        field=change.field,
        path=change.path,
        value=change.new,
        shape=Shape.EMBEDDED if _is_embedded(change) else Shape.URL,
        target=Target(kind, Via.URL, change.key),
    )
    column = _column_of(change)
    known = {each.name for each in column.model_class._meta.concrete_fields} if column else set()
    extra = {name: before for name, (before, _) in change.extra.items() if name in known}
    return Rewrite(
        reference=reference,
        new=change.old,
        key=change.old_key,
        extra=extra,
        made=tuple(change.made),
    )


def _put_back(items: list[UndoItem], judge: _Judge, journal: Journal) -> dict[_Id, UndoItem]:
    """Bring objects back out of quarantine; removed files came back before. Tell of each."""
    lost = [_Deleted(item) for item in items if item.change.kind == ChangeKind.DELETE]
    steps = [one.step() for one in lost]
    journal.intend(steps)
    # A stop is heard between batches: here it would lose what became of this one.
    results = list(restore_all(judge.prover.bucket, lost, control=Control()))
    pairs = list(zip(steps, results, strict=True))
    journal.settle((step for step, result in pairs if result.done), ChangeState.DONE)
    journal.settle((step for step, result in pairs if not result.done), ChangeState.CONFLICT)
    ends = {_id(item.change): item for item in items}
    for one, result in zip(lost, results, strict=True):
        action = UndoAction.RESTORE if result.done else UndoAction.FAIL
        ends[_id(one.item.change)] = replace(one.item, action=action, reason=result.reason)
    back = [item.change for item in ends.values() if item.action is UndoAction.RESTORE]
    _mark([change for change in back if _is_journalled(change)])
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
    for alias, group in groupby(sorted(changes, key=_id), key=lambda c: str(c._state.db)):
        for ids in batched((change.pk for change in group), _BATCH):
            Change.objects.using(alias).filter(pk__in=ids).update(state=ChangeState.UNDONE)
