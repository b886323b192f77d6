"""Take a run back: values by compare-and-swap, deleted objects from quarantine.

Where somebody edited since, their value stays. No value comes back before what it names is proved
to exist, and nothing is overwritten. An undo is a run of its own, which cannot be undone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from itertools import groupby
from typing import Any, TypeVar

from django.db.models.query import QuerySet

from r2maint.batching import batched
from r2maint.bucket import Bucket
from r2maint.conf import Config
from r2maint.control import Control
from r2maint.databases import reading
from r2maint.errors import Stopped, UsageError
from r2maint.journal import UNDO_COMMAND, Journal, home, iter_changes
from r2maint.keys import Addresses, Kind, Target, Via
from r2maint.models import Change, ChangeKind, ChangeState, Run, RunState
from r2maint.purge.quarantine import restore
from r2maint.references import embedded, jsontext
from r2maint.references.cells import StoredText
from r2maint.references.columns import Column, ColumnKind, find_column
from r2maint.references.exchange import exchange
from r2maint.references.reading import Reference, Shape, target_of
from r2maint.references.swap import Rewrite, Swapped, swap
from r2maint.report import Refusal, format_count
from r2maint.runs import ChangeFacts, find_run
from r2maint.sources import UnusableSource, locate_file
from r2maint.spool import Spool

_BATCH = 200
_Id = tuple[str, int]
_T = TypeVar("_T")


class UndoAction(str, Enum):
    """What becomes of one change."""

    UNDO = "undo"
    """A value goes back."""
    RESTORE = "restore"
    """A quarantined object goes back."""
    SKIP = "skip"
    """Edited or deleted since: it stays as it is."""
    FAIL = "fail"
    """What the old value names cannot be proved to exist."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoItem:
    """One change to take back, newest first."""

    change: Change
    action: UndoAction
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        facts = ChangeFacts(change=self.change).as_dict()
        return {"action": self.action.value, "reason": self.reason or None, **facts}


@dataclass(frozen=True, slots=True, kw_only=True)
class Undo:
    """An undo as planned, or as it went."""

    run_id: str
    items: Spool[UndoItem]
    applied: bool = False
    stopped: Stopped | None = None
    refusals: tuple[Refusal, ...] = ()

    def counts(self) -> Counter[UndoAction]:
        return Counter(item.action for item in self.items)

    @property
    def has_work(self) -> bool:
        counts = self.counts()
        return bool(counts[UndoAction.UNDO] or counts[UndoAction.RESTORE])

    @property
    def findings(self) -> bool:
        counts = self.counts()
        return bool(counts[UndoAction.FAIL] or counts[UndoAction.SKIP])

    @property
    def question(self) -> str:
        counts = self.counts()
        return (
            f"Put back {format_count(counts[UndoAction.UNDO], 'value')} and"
            f" {format_count(counts[UndoAction.RESTORE], 'object')} of run {self.run_id}?"
        )

    @property
    def notes(self) -> tuple[str, ...]:
        if all(item.change.kind == ChangeKind.DELETE for item in self.items):
            return ()
        return ("Objects the run uploaded stay in the bucket; purge_orphans takes them in time.",)

    def summary(self) -> dict[str, Any]:
        counts = self.counts()
        names = ("undone", "restored") if self.applied else ("to_undo", "to_restore")
        return {
            "run": self.run_id,
            names[0]: counts[UndoAction.UNDO],
            names[1]: counts[UndoAction.RESTORE],
            "skipped": counts[UndoAction.SKIP],
            "failed": counts[UndoAction.FAIL],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prover:
    """Looks at what is there now: cells, files and objects. Writes nothing."""

    config: Config
    addresses: Addresses
    bucket: Bucket

    def judge(self, changes: list[Change]) -> list[UndoItem]:
        """Return what undoing each change would come to, in the same order."""
        cells = _current_cells(changes)
        inside = _outcomes_inside(changes, cells)
        items = [self._judge_one(change, cells, inside) for change in changes]
        return self._with_targets(items)

    def _judge_one(
        self, change: Change, cells: Mapping[_Id, str | None], inside: Mapping[_Id, Swapped]
    ) -> UndoItem:
        if change.kind == ChangeKind.DELETE:
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

    def _with_targets(self, items: list[UndoItem]) -> list[UndoItem]:
        targets = {
            _id(item.change): self._target(item.change)
            for item in items
            if item.action is UndoAction.UNDO
        }
        keys = {t.key for t in targets.values() if t is not None and t.kind is Kind.BUCKET}
        absent = self._absent(sorted(keys))
        for target in targets.values():
            if target is not None and target.key in absent and target.spellings:
                others = set(target.spellings)
                if self._absent(sorted(others)) != others:
                    absent.discard(target.key)
        return [self._proved(item, targets.get(_id(item.change)), absent) for item in items]

    def _target(self, change: Change) -> Target | None:
        column = find_column(change.database, change.model, change.field, self.config)
        if column is None:
            return None
        if _is_embedded(change):
            return embedded.locate(change.old, self.addresses)
        found = target_of(column, change.old, self.addresses)
        return found and found[1]

    def _absent(self, keys: list[str]) -> set[str]:
        """Return the keys that are not proved to be there."""
        return {result.request for result in self.bucket.head_many(keys) if result.value is None}

    def _proved(self, item: UndoItem, target: Target | None, absent: set[str]) -> UndoItem:
        if item.action is not UndoAction.UNDO:
            return item
        reason = _objection(target, absent)
        return replace(item, action=UndoAction.FAIL, reason=reason) if reason else item


def _objection(target: Target | None, absent: set[str]) -> str:
    """Return why the old value must not come back; "" when what it names exists."""
    if target is None:
        return "Its old value means nothing under today's settings; is LOCAL_MEDIA complete?"
    if target.kind is Kind.BUCKET and target.key in absent:
        return f"The bucket does not hold its old object: {target.key!r}."
    if target.kind is Kind.LOCAL and not _is_file(target):
        return f"There is no such local file: {target.key!r}."
    return ""


def _is_file(target: Target) -> bool:
    for path in (target.key, *target.spellings):
        try:
            assert target.root is not None
            locate_file(target.root, path)
        except UnusableSource:
            continue
        return True
    return False


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
    run_id: str, config: Config, addresses: Addresses, bucket: Bucket, *, control: Control
) -> Undo:
    """Return what undoing a run comes to today; writes nothing.

    One Class B request for each distinct object an old value names.
    Raises: UsageError for a run that does not exist, is an undo or wrote to another bucket.
    """
    run = find_run(run_id)
    if run.command == UNDO_COMMAND:
        raise UsageError(
            f"The run is an undo: {run_id}.", "Run the first command again to do it once more."
        )
    if run.bucket != bucket.name:
        raise UsageError(
            f"The run wrote to another bucket: {run.bucket!r}, and this is {bucket.name!r}.",
            "Undo it with the settings it was made with.",
        )
    prover = _Prover(config=config, addresses=addresses, bucket=bucket)
    changes = control.track(_reversible(run_id), "Looking at changes", unit="change")
    batches = _by_rows(changes, _row_of)
    return Undo(run_id=run_id, items=Spool.of(i for b in batches for i in prover.judge(b)))


def _by_rows(items: Iterable[_T], row_of: Callable[[_T], object]) -> Iterator[list[_T]]:
    """Yield batches that never part neighbours of one row: they are one UPDATE."""
    batch: list[_T] = []
    for _, group in groupby(items, key=row_of):
        batch += group
        if len(batch) >= _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _reversible(run_id: str) -> Iterator[Change]:
    for change in iter_changes(run_id, newest_first=True):
        is_over = change.state in (ChangeState.UNDONE, ChangeState.CONFLICT)
        if change.kind in (ChangeKind.REWRITE, ChangeKind.DELETE) and not is_over:
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

    The run is marked undone unless something failed or a stop came first.
    Raises: BucketError and DatabaseError that every further item would meet too; LeaseHeld.
    """
    prover = _Prover(config=config, addresses=addresses, bucket=bucket)
    stops: list[Stopped] = []
    items = Spool.of(_undone(plan, prover, journal, control, stops))
    outcome = Undo(
        run_id=plan.run_id, items=items, applied=True, stopped=stops[0] if stops else None
    )
    if not stops and not outcome.counts()[UndoAction.FAIL]:
        Run.objects.using(home()).filter(pk=plan.run_id).update(state=RunState.UNDONE)
    return outcome


def _undone(
    plan: Undo, prover: _Prover, journal: Journal, control: Control, stops: list[Stopped]
) -> Iterator[UndoItem]:
    with control.progress(len(plan.items), "Undoing", "change") as advance:
        for batch in _by_rows(plan.items, lambda item: _row_of(item.change)):
            if stop := control.stop():
                stops.append(stop)
                return
            yield from _undo_batch(batch, prover, journal)
            advance(len(batch))


def _undo_batch(batch: list[UndoItem], prover: _Prover, journal: Journal) -> list[UndoItem]:
    """Undo what the plan allows and what still can be proved; return how each item ended."""
    active = [item for item in batch if item.action in _ACTIVE]
    judged = {_id(i.change): i for i in prover.judge([item.change for item in active])}
    items = [judged.get(_id(item.change), item) for item in batch]
    ends = _swap_back([i.change for i in items if i.action is UndoAction.UNDO], journal)
    return [ends.get(_id(i.change)) or _put_back(i, prover.bucket, journal) for i in items]


def _swap_back(changes: list[Change], journal: Journal) -> dict[_Id, UndoItem]:
    """Exchange the new values for the old ones; mark the changes whose old value is there."""
    rewrites = {_id(change): _back(change) for change in changes}
    # A stop is heard between batches: here it would lose what became of this one.
    outcomes = dict(swap(dict.fromkeys(rewrites.values()), journal, control=Control()))
    ends: dict[_Id, UndoItem] = {}
    for change in changes:
        action, reason = _ENDS[outcomes[rewrites[_id(change)]]]
        ends[_id(change)] = UndoItem(change=change, action=action, reason=reason)
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


def _put_back(item: UndoItem, bucket: Bucket, journal: Journal) -> UndoItem:
    if item.action is not UndoAction.RESTORE:
        return item
    deleted = item.change
    step = Change(kind=ChangeKind.RESTORE, key=deleted.key, old=deleted.new, etag=deleted.etag)
    journal.intend([step])
    ended = restore(bucket, deleted.key, deleted.new)
    if not ended.done:
        journal.settle([step], ChangeState.CONFLICT)
        return replace(item, action=UndoAction.FAIL, reason=ended.reason)
    journal.settle([step], ChangeState.DONE)
    _mark([deleted])
    return replace(item, reason=ended.reason)


def _mark(changes: list[Change]) -> None:
    for alias, group in groupby(sorted(changes, key=_id), key=lambda c: str(c._state.db)):
        for ids in batched((change.pk for change in group), _BATCH):
            Change.objects.using(alias).filter(pk__in=ids).update(state=ChangeState.UNDONE)
