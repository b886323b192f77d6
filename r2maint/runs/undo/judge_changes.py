"""What of a run can be taken back now. Looks at cells, files and objects, and writes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from django.db.models.query import QuerySet

from r2maint.bucket import Bucket, ObjectInfo, Result
from r2maint.conf import Config
from r2maint.database.connections import reading
from r2maint.errors import NoSuchKey
from r2maint.journal.journal import REPAIR_COMMAND
from r2maint.keys import Addresses, Kind, Target, Via
from r2maint.models import SPELLING, Change, ChangeKind, Run
from r2maint.quarantine.manifest import GONE, NO_COPY, TAKEN, THERE
from r2maint.references import json_text
from r2maint.references.cell_text import StoredText
from r2maint.references.column import Column, ColumnKind
from r2maint.references.discover_columns import find_column
from r2maint.references.edit_cell import Rewrite, Swapped, exchange
from r2maint.references.reference import Reference, Shape
from r2maint.runs.undo.prove_targets import Proof, Prover
from r2maint.runs.undo.result import UndoAction, UndoItem

ChangeId = tuple[str, int]
"""Database and primary key of a change."""

ACTIVE = (UndoAction.UNDO, UndoAction.RESTORE)
"""Actions that an undo is still to carry out."""
ENDS = {
    Swapped.DONE: (UndoAction.UNDO, ""),
    Swapped.CHANGED: (UndoAction.SKIP, "It was edited since."),
    Swapped.GONE: (UndoAction.SKIP, "The row is gone."),
    Swapped.TOO_LONG: (UndoAction.FAIL, "Its old value no longer fits the column."),
    Swapped.BUSY: (UndoAction.FAIL, "The row stayed locked."),
    Swapped.REFUSED: (UndoAction.FAIL, "The row, or the text around it, refused its old value."),
}
"""How the swap of an old value ends, as what an undo did and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoJudge:
    """Looks at what is there now: cells, files and objects. Writes nothing."""

    prover: Prover
    is_of_repair: bool
    """What a repair replaced was at fault: it goes back as it was, whatever it names."""

    @classmethod
    def of(cls, run: Run, config: Config, addresses: Addresses, bucket: Bucket) -> UndoJudge:
        prover = Prover(config=config, addresses=addresses, bucket=bucket)
        return cls(prover=prover, is_of_repair=run.command == REPAIR_COMMAND)

    def judge(self, changes: list[Change]) -> list[UndoItem]:
        """Return what undoing each change would come to, in the same order."""
        cells = _current_cells(changes)
        inside = _outcomes_inside(changes, cells)
        items = [self._judge_one(change, cells, inside) for change in changes]
        return self._proved(self._with_copies(items))

    def _judge_one(
        self,
        change: Change,
        cells: Mapping[ChangeId, str | None],
        inside: Mapping[ChangeId, Swapped],
    ) -> UndoItem:
        if change.kind in (ChangeKind.DELETE, ChangeKind.REMOVE):
            return UndoItem(change=change, action=UndoAction.RESTORE)
        column = column_of(change)
        if column is None or change_id(change) not in cells:
            return UndoItem(change=change, action=UndoAction.SKIP, reason="The row is gone.")
        if is_embedded(change):
            action, reason = ENDS[inside[change_id(change)]]
            return UndoItem(change=change, action=action, reason=reason)
        values = _elements(column, cells[change_id(change)], change.path)
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
        active = [item.change for item in items if item.action in ACTIVE]
        proofs = iter(self.prover.prove(active))
        return [
            _with_proof(item, next(proofs)) if item.action in ACTIVE else item for item in items
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
        action = UndoAction.RESTORE if is_journalled(deleted) else UndoAction.KEPT
        return replace(item, action=action, reason=THERE)
    if copy is None:
        return replace(item, action=UndoAction.FAIL, reason=NO_COPY)
    if isinstance(copy.error, NoSuchKey):
        return replace(item, action=UndoAction.FAIL, reason=GONE)
    return item


def is_journalled(change: Change) -> bool:
    return change._state.db is not None


def _with_proof(item: UndoItem, proof: Proof) -> UndoItem:
    if proof.reason:
        return replace(item, action=UndoAction.FAIL, reason=proof.reason)
    return replace(item, original=proof.original)


def column_of(change: Change) -> Column | None:
    return find_column(change.database, change.model, change.field)


def _current_cells(changes: list[Change]) -> dict[ChangeId, str | None]:
    """Return the stored text of the cell of each change, by change; absent where the row is."""
    cells: dict[ChangeId, str | None] = {}
    rewrites = sorted((c for c in changes if c.kind == ChangeKind.REWRITE), key=_cell_of)
    for _, group in groupby(rewrites, key=_cell_of):
        same = list(group)
        column = column_of(same[0])
        if column is None:
            continue
        every: QuerySet[Any] = QuerySet(column.model_class, using=column.database)
        rows = every.filter(pk__in={change.row for change in same}).order_by()
        with reading(column.database, column.table):
            texts = {str(pk): text for pk, text in rows.values_list("pk", StoredText(column))}
        cells |= {change_id(change): texts[change.row] for change in same if change.row in texts}
    return cells


def _outcomes_inside(
    changes: list[Change], cells: Mapping[ChangeId, str | None]
) -> dict[ChangeId, Swapped]:
    """Return how the way back of addresses inside longer text would end, one after the other."""
    outcomes: dict[ChangeId, Swapped] = {}
    mine = [each for each in changes if is_embedded(each) and change_id(each) in cells]
    for _, group in groupby(sorted(mine, key=_place_of), key=_place_of):
        same = list(group)
        column = column_of(same[0])
        assert column is not None
        back = [way_back(change) for change in same]
        settled = exchange(column, cells[change_id(same[0])], back).settled
        for change, rewrite in zip(same, back, strict=True):
            outcomes[change_id(change)] = settled.get(rewrite, Swapped.DONE)
    return outcomes


def is_embedded(change: Change) -> bool:
    return str(change.shape) == Shape.EMBEDDED.value


def change_id(change: Change) -> ChangeId:
    """Return what tells changes of several databases apart."""
    return str(change._state.db), change.pk


def _cell_of(change: Change) -> tuple[str, str, str]:
    return change.database, change.model, change.field


def _place_of(change: Change) -> tuple[str, str, str, str]:
    return change.database, change.model, change.row, change.field


def _elements(column: Column, text: str | None, path: str) -> list[str]:
    if text is None:
        return []
    if column.kind not in (ColumnKind.JSON, ColumnKind.ARRAY):
        return [text]
    try:
        return json_text.values_at(text, path)
    except ValueError:
        return []


def way_back(change: Change) -> Rewrite:
    """Return the rewrite that takes a change back."""
    kind = Kind.BUCKET if change.key else Kind.EXTERNAL
    reference = Reference(
        database=change.database,
        model=change.model,
        pk=change.row,
        field=change.field,
        path=change.path,
        value=change.new,
        shape=Shape.EMBEDDED if is_embedded(change) else Shape.URL,
        target=Target(kind, Via.URL, change.key),
    )
    column = column_of(change)
    known = {each.name for each in column.model_class._meta.concrete_fields} if column else set()
    extra = {name: before for name, (before, _) in change.extra.items() if name in known}
    return Rewrite(
        reference=reference,
        new=change.old,
        key=change.old_key,
        extra=extra,
        made=tuple(change.made),
        spelled=tuple(change.extra.get(SPELLING, ((), ()))[0]),
    )
