"""One row and what becomes of it in one transaction: what swaps are made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from typing import Any, NamedTuple

from django.db.models.query import QuerySet

from r2maint.journal.entries import Entry
from r2maint.keys import Kind
from r2maint.models import SPELLING, ChangeKind, ChangeState
from r2maint.references.cell_text import (
    StoredText,
    Swap,
    can_update_together,
    update_row,
    update_rows,
)
from r2maint.references.column import Column
from r2maint.references.edit_cell import Rewrite, Swapped, exchange
from r2maint.references.reference import Shape

ATTEMPTS = 3
"""For one row that is locked, or that others keep editing."""


class RewriteOutcome(NamedTuple):
    """How one rewrite ended."""

    rewrite: Rewrite
    how: Swapped
    detail: str = ""
    """Of a REFUSED one, what the database stored instead, as far as that is known."""

    @property
    def reason(self) -> str:
        return f"{self.how.value}: {self.detail}" if self.detail else self.how.value


@dataclass(slots=True, kw_only=True)
class RowRewrite:
    """The rewrites of one row, and what its cells hold."""

    database: str
    model: str
    pk: Any
    columns: dict[str, Column] = field(default_factory=dict)
    pending: list[Rewrite] = field(default_factory=list)
    cells: dict[str, str | None] | None = None
    """Stored text by field; None when the row is gone."""
    extra: dict[str, Any] = field(default_factory=dict)
    """What `Rewrite.extra` is about to replace."""
    settled: list[RewriteOutcome] = field(default_factory=list)

    def settle(self, outcomes: Mapping[Rewrite, Swapped]) -> None:
        self.settled += [RewriteOutcome(rewrite, outcomes[rewrite]) for rewrite in self.pending]
        self.pending = []

    def refuse(self, details: Mapping[Rewrite, str]) -> None:
        self.settled += [
            RewriteOutcome(each, Swapped.REFUSED, details[each]) for each in self.pending
        ]
        self.pending = []

    def settle_all(self, outcome: Swapped) -> None:
        self.settle(dict.fromkeys(self.pending, outcome))


def read_rows(rows: list[RowRewrite], *, lock: bool = False) -> None:
    """Fill in what the cells of these rows of one model hold now."""
    if not rows:
        return
    columns = {name: column for row in rows for name, column in row.columns.items()}
    extra = sorted({name for row in rows for each in row.pending for name in each.extra})
    first = next(iter(columns.values()))
    query: QuerySet[Any] = QuerySet(first.model_class, using=first.database)
    query = query.filter(pk__in=[row.pk for row in rows]).order_by()
    query = query.select_for_update() if lock else query
    found = query.values_list("pk", *map(StoredText, columns.values()), *extra)
    by_pk = {pk: values for pk, *values in found}
    for row in rows:
        values = by_pk.get(row.pk)
        row.cells = None if values is None else dict(zip(columns, values, strict=False))
        row.extra = dict(zip(extra, (values or [])[len(columns) :], strict=False))


def update_together(steps: Iterable[Step]) -> dict[Step, bool]:
    """Write rows that swap the same cells in one statement; tell of each whether that was done."""
    done: dict[Step, bool] = {}
    fit = [step for step in steps if step.texts and step.is_plain]
    for _, group in groupby(fit, key=lambda step: (step.row.model, tuple(step.texts))):
        same = list(group)
        columns = [same[0].row.columns[name] for name in same[0].texts]
        if len(same) > 1 and can_update_together(columns):
            written = update_rows(columns, [step.swap for step in same])
            done.update((step, step.row.pk in written) for step in same)
    return done


class Step:
    """What becomes of one row in one attempt; forgotten when the transaction fails."""

    def __init__(self, row: RowRewrite) -> None:
        self.row = row
        self.outcomes: dict[Rewrite, Swapped] = {}
        self.entries: dict[Rewrite, Entry] = {}
        self.texts: dict[str, str] = {}
        """New text by field."""
        self.is_sent = self.is_written = False
        """Whether an UPDATE was sent, and whether the row holds `texts` now as far as it says."""
        self.made: dict[Rewrite, list[bool]] = {}
        self.spelled: dict[Rewrite, list[str]] = {}
        self._decide(row.pending)

    @property
    def open(self) -> list[Rewrite]:
        return [rewrite for rewrite in self.row.pending if rewrite not in self.outcomes]

    @property
    def is_plain(self) -> bool:
        """Whether no further column of the row follows."""
        return not any(rewrite.extra for rewrite in self.row.pending)

    @property
    def swap(self) -> Swap:
        return Swap(self.row.pk, self.row.cells or {}, self.texts)

    def journal(self, run_id: str, at: datetime) -> Iterable[Entry]:
        """Return a line for each rewrite that is to be made, and for each that lost already."""
        for rewrite in self.row.pending:
            outcome = self.outcomes.get(rewrite)
            if outcome not in _NOTHING_TO_TELL and rewrite not in self.entries:
                entry = _entry(rewrite, self.row)
                entry.run_id, entry.at = run_id, at
                entry.state = ChangeState.CONFLICT if outcome else ChangeState.DONE
                entry.made = self.made.get(rewrite, [])
                entry.extra |= self._spelling(rewrite)
                self.entries[rewrite] = entry
        return self.entries.values()

    def write(self, *, is_done: bool | None = None) -> None:
        """Update the row; when it is no longer as it was read, decide anew on what is there.

        `is_done` tells how a first attempt ended that was made already.
        """
        for _ in range(ATTEMPTS):
            rewrites = self.open
            if not rewrites:
                return
            self.is_sent = True
            if self._update(rewrites) if is_done is None else is_done:
                self.is_written = True
                self.outcomes.update(dict.fromkeys(rewrites, Swapped.DONE))
                return
            is_done = None
            read_rows([self.row], lock=True)
            self._decide(rewrites)
        # The row is as it was read and locked, and still the database leaves it alone.
        self.outcomes.update(dict.fromkeys(self.open, Swapped.REFUSED))

    @property
    def must_be_there(self) -> bool:
        """Whether the row is to be read back: it was written, or is gone since it was."""
        return self.is_written or (self.is_sent and Swapped.GONE in self.outcomes.values())

    def lost(self) -> list[Entry]:
        """Return the lines of rewrites that were to be made and were not."""
        lost = [
            entry
            for rewrite, entry in self.entries.items()
            if entry.state == ChangeState.DONE and self.outcomes[rewrite] is not Swapped.DONE
        ]
        for entry in lost:
            entry.state = ChangeState.CONFLICT
        return lost

    def _spelling(self, rewrite: Rewrite) -> dict[str, list[list[str]]]:
        tokens = self.spelled.get(rewrite)
        return {SPELLING: [tokens, []]} if tokens else {}

    def moved(self) -> list[Entry]:
        """Return the lines whose occurrences are others since the row was read again."""
        moved = []
        for rewrite, entry in self.entries.items():
            made = self.made.get(rewrite, [])
            extra = {k: v for k, v in entry.extra.items() if k != SPELLING}
            extra |= self._spelling(rewrite)
            if entry.state == ChangeState.DONE and (entry.made, entry.extra) != (made, extra):
                entry.made, entry.extra = made, extra
                moved.append(entry)
        return moved

    def _update(self, rewrites: list[Rewrite]) -> bool:
        extra = {name: value for each in rewrites for name, value in each.extra.items()}
        return update_row(self.row.columns, self.swap, extra)

    def _decide(self, rewrites: list[Rewrite]) -> None:
        self.texts, self.spelled = {}, {}
        if self.row.cells is None:
            self.outcomes.update(dict.fromkeys(rewrites, Swapped.GONE))
            return
        for name, column in self.row.columns.items():
            mine = [rewrite for rewrite in rewrites if rewrite.reference.field == name]
            result = exchange(column, self.row.cells[name], mine)
            self.outcomes.update(result.settled)
            self.made.update(result.made)
            self.spelled.update(result.spelled)
            if len(result.settled) < len(set(mine)):
                self.texts[name] = result.text


_NOTHING_TO_TELL = (Swapped.DONE, Swapped.TOO_LONG, Swapped.REFUSED)
"""Ends, known before anything is written, of which the journal has no line."""


def _entry(rewrite: Rewrite, row: RowRewrite) -> Entry:
    at = rewrite.reference
    return Entry(
        kind=ChangeKind.REWRITE,
        database=at.database,
        model=at.model,
        row=at.pk,
        field=at.field,
        path=at.path,
        shape=at.shape.value if at.shape is Shape.EMBEDDED else "",
        old=at.value,
        new=rewrite.new,
        old_key=at.target.key if at.target.kind is Kind.BUCKET else "",
        key=rewrite.key,
        sha256=rewrite.sha256,
        extra={name: [row.extra.get(name), value] for name, value in rewrite.extra.items()},
    )
