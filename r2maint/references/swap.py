"""Exchange cells by compare-and-swap on their stored text, journalled in the same transaction.

A concurrent edit wins, always: an UPDATE touches a row only while the text is the one the new text
was made from. Where another element or column was edited meanwhile, the row is read again and the
rewrite still applies to what is there now. `save()` is never called: no hook of the project runs.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any

from django.db import (
    DataError,
    IntegrityError,
    InternalError,
    NotSupportedError,
    ProgrammingError,
)
from django.db import Error as DjangoDatabaseError
from django.db.models.query import QuerySet

from r2maint.control import Control
from r2maint.databases import (
    error_code,
    is_contention,
    reading,
    refuse_open_transaction,
    require_transactions,
    short_transaction,
)
from r2maint.entries import Entry, insert_entries
from r2maint.errors import DatabaseError
from r2maint.journal import Journal, now, require_tables
from r2maint.keys import Kind
from r2maint.models import Change, ChangeKind, ChangeState
from r2maint.references.cells import (
    StoredText,
    Swap,
    can_update_together,
    update_row,
    update_rows,
)
from r2maint.references.columns import Column, find_column
from r2maint.references.exchange import Rewrite, Swapped, exchange
from r2maint.references.reading import Shape
from r2maint.signals import rows_rewritten

__all__ = ["Rewrite", "Swapped", "swap"]

MAX_ROWS = 200
"""Rows of one transaction."""
MAX_SECONDS = 0.2
"""What one transaction should take: the next one is cut to it."""
ATTEMPTS = 3
"""For one row that is locked, or that others keep editing."""
_TOO_LONG = ("22001", 1406)
"""string_data_right_truncation of PostgreSQL, ER_DATA_TOO_LONG of MariaDB."""
_RAISED_FOR_ROW = ("P0", "38", "39", "44")
"""Classes of PostgreSQL's codes: what triggers and check options raise about one row."""
_RAISED_BY_MARIADB = (1265, 1366, 1369, 1644, 4025)
"""Truncated, no text of the column's character set, check option, SIGNAL, constraint."""


Outcome = tuple[Rewrite, Swapped]


@dataclass(slots=True, kw_only=True)
class _Row:
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
    settled: list[Outcome] = field(default_factory=list)

    def settle(self, outcomes: Mapping[Rewrite, Swapped]) -> None:
        self.settled += [(rewrite, outcomes[rewrite]) for rewrite in self.pending]
        self.pending = []

    def settle_all(self, outcome: Swapped) -> None:
        self.settle(dict.fromkeys(self.pending, outcome))


def swap(rewrites: Iterable[Rewrite], journal: Journal, *, control: Control) -> Iterator[Outcome]:
    """Exchange each element that still is what its reference says; yield how each ended.

    Lazy: rows are written as outcomes are taken, in transactions of at most 200 rows, ordered by
    primary key. All rewrites of a row in a batch are one UPDATE. A stop is heard between
    transactions. Sends `rows_rewritten` after each commit. Raises: DatabaseError when a transaction
    is open, r2maint's tables are missing, a table has no transactions or a database fails;
    LeaseHeld; Stopped.
    """
    size, ready = MAX_ROWS, set[tuple[str, str]]()
    rest = iter(rewrites)
    while rows := _take_rows(rest, size):
        control.check()
        _require_ready(rows, ready)
        began = time.monotonic()
        for database, group in groupby(sorted(rows, key=_order), key=lambda row: row.database):
            _swap_rows(database, list(group), journal)
        spent = (time.monotonic() - began) or MAX_SECONDS
        size = max(1, min(MAX_ROWS, 2 * size, int(size * MAX_SECONDS / spent)))
        for row in rows:
            yield from row.settled


def _require_ready(rows: Iterable[_Row], ready: set[tuple[str, str]]) -> None:
    """Raise DatabaseError unless every table not in `ready` can be written to; add them to it."""
    used = {(row.database, column.table) for row in rows for column in row.columns.values()}
    for alias, group in groupby(sorted(used - ready), key=itemgetter(0)):
        require_tables([alias])
        require_transactions(alias, [table for _, table in group])
    ready |= used


# From rewrites to rows


def _take_rows(rewrites: Iterator[Rewrite], size: int) -> list[_Row]:
    """Return the next rewrites, those of one row together, until `size` rows are full."""
    rows: dict[tuple[str, str, str], _Row] = {}
    for rewrite in rewrites:
        at = rewrite.reference
        row = rows.setdefault(
            (at.database, at.model, at.pk), _Row(database=at.database, model=at.model, pk=at.pk)
        )
        _add(row, rewrite)
        if len(rows) == size:
            break
    return list(rows.values())


def _add(row: _Row, rewrite: Rewrite) -> None:
    at = rewrite.reference
    column = row.columns.get(at.field) or find_column(at.database, at.model, at.field)
    if column is None:
        row.settled.append((rewrite, Swapped.GONE))
    elif _is_too_long(rewrite, column):
        row.settled.append((rewrite, Swapped.TOO_LONG))
    else:
        row.columns[at.field] = column
        row.pk = column.model_class._meta.pk.to_python(at.pk)
        row.pending.append(rewrite)


def _is_too_long(rewrite: Rewrite, column: Column) -> bool:
    """Tell without the cell; of an address inside longer text, the whole text decides."""
    if column.max_length is None or rewrite.reference.shape is Shape.EMBEDDED:
        return False
    return len(rewrite.new) > column.max_length


def _order(row: _Row) -> tuple[str, str, bool, Any]:
    """Order rows by primary key, as other writers do: that avoids deadlocks."""
    is_number = isinstance(row.pk, int)
    return row.database, row.model, is_number, row.pk if is_number else str(row.pk)


def _swap_rows(database: str, rows: list[_Row], journal: Journal) -> None:
    refuse_open_transaction(database)
    with reading(database):
        for _, group in groupby(rows, key=lambda row: row.model):
            _read([row for row in group if row.pending])
    _announce(database, _commit_together(database, rows, journal), journal)


def _read(rows: list[_Row], *, lock: bool = False) -> None:
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


# One transaction


def _commit_together(database: str, rows: list[_Row], journal: Journal) -> list[_Step]:
    """Write all rows in one transaction; when that fails, each row in one of its own."""
    try:
        return _commit(database, rows, journal)
    except ProgrammingError:
        # One statement for many rows says of what type each value is; that for one row does not.
        pass
    except DjangoDatabaseError as error:
        _require_contained(database, error)
    return [step for row in rows for step in _commit_alone(database, row, journal)]


def _commit_alone(database: str, row: _Row, journal: Journal) -> list[_Step]:
    for attempt in range(ATTEMPTS):
        try:
            return _commit(database, [row], journal)
        except DjangoDatabaseError as error:
            _require_contained(database, error)
            if not is_contention(error):
                is_too_long = error_code(error) in _TOO_LONG
                row.settle_all(Swapped.TOO_LONG if is_too_long else Swapped.REFUSED)
                return []
        time.sleep(0.05 * 2**attempt)
        with reading(database):
            _read([row] if row.pending else [])
    row.settle_all(Swapped.BUSY)
    return []


def _commit(database: str, rows: list[_Row], journal: Journal) -> list[_Step]:
    """Journal these rows, then write them; nothing is settled unless both are committed."""
    if journal.lease is not None:
        journal.lease.check()
    steps = [_Step(row) for row in rows if row.pending]
    at = now()
    entries = [entry for step in steps for entry in step.journal(journal.run_id, at)]
    if entries:
        with short_transaction(database):
            insert_entries(database, entries)
            together = _update_together(steps)
            for step in steps:
                step.write(is_done=together.get(step))
            lost = [entry.pk for step in steps for entry in step.lost()]
            if lost:
                Change.objects.using(database).filter(pk__in=lost).update(
                    state=ChangeState.CONFLICT
                )
            for entry in [entry for step in steps for entry in step.moved()]:
                Change.objects.using(database).filter(pk=entry.pk).update(made=entry.made)
    for step in steps:
        step.row.settle(step.outcomes)
    return steps


def _update_together(steps: Iterable[_Step]) -> dict[_Step, bool]:
    """Write rows that swap the same cells in one statement; tell of each whether that was done."""
    done: dict[_Step, bool] = {}
    fit = [step for step in steps if step.texts and step.is_plain]
    for _, group in groupby(fit, key=lambda step: (step.row.model, tuple(step.texts))):
        same = list(group)
        columns = [same[0].row.columns[name] for name in same[0].texts]
        if len(same) > 1 and can_update_together(columns):
            written = update_rows(columns, [step.swap for step in same])
            done.update((step, step.row.pk in written) for step in same)
    return done


class _Step:
    """What becomes of one row in one attempt; forgotten when the transaction fails."""

    def __init__(self, row: _Row) -> None:
        self.row = row
        self.outcomes: dict[Rewrite, Swapped] = {}
        self.entries: dict[Rewrite, Entry] = {}
        self.texts: dict[str, str] = {}
        """New text by field."""
        self.made: dict[Rewrite, list[bool]] = {}
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
                self.entries[rewrite] = entry
        return self.entries.values()

    def write(self, *, is_done: bool | None = None) -> None:
        """Update the row; when it is no longer as it was read, decide anew on what is there.

        `is_done` tells how a first attempt ended that was made already.
        """
        for _ in range(ATTEMPTS):
            rewrites = self.open
            if not rewrites or (self._update(rewrites) if is_done is None else is_done):
                self.outcomes.update(dict.fromkeys(rewrites, Swapped.DONE))
                return
            is_done = None
            _read([self.row], lock=True)
            self._decide(rewrites)
        # The row is as it was read and locked, and still the database leaves it alone.
        self.outcomes.update(dict.fromkeys(self.open, Swapped.REFUSED))

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

    def moved(self) -> list[Entry]:
        """Return the lines whose occurrences are others since the row was read again."""
        moved = []
        for rewrite, entry in self.entries.items():
            made = self.made.get(rewrite, [])
            if entry.state == ChangeState.DONE and entry.made != made:
                entry.made = made
                moved.append(entry)
        return moved

    def _update(self, rewrites: list[Rewrite]) -> bool:
        extra = {name: value for each in rewrites for name, value in each.extra.items()}
        return update_row(self.row.columns, self.swap, extra)

    def _decide(self, rewrites: list[Rewrite]) -> None:
        self.texts = {}
        if self.row.cells is None:
            self.outcomes.update(dict.fromkeys(rewrites, Swapped.GONE))
            return
        for name, column in self.row.columns.items():
            mine = [rewrite for rewrite in rewrites if rewrite.reference.field == name]
            result = exchange(column, self.row.cells[name], mine)
            self.outcomes.update(result.settled)
            self.made.update(result.made)
            if len(result.settled) < len(set(mine)):
                self.texts[name] = result.text


_NOTHING_TO_TELL = (Swapped.DONE, Swapped.TOO_LONG, Swapped.REFUSED)
"""Ends, known before anything is written, of which the journal has no line."""


def _entry(rewrite: Rewrite, row: _Row) -> Entry:
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


# Afterwards


def _announce(database: str, steps: list[_Step], journal: Journal) -> None:
    done = [step for step in steps if _written(step)]
    for _, group in groupby(done, key=lambda step: step.row.model):
        same = list(group)
        names = {entry.field for step in same for entry in _written(step)}
        rows_rewritten.send_robust(
            next(iter(same[0].row.columns.values())).model_class,
            using=database,
            pks=tuple(step.row.pk for step in same),
            fields=tuple(sorted(names)),
            run_id=journal.run_id,
        )


def _written(step: _Step) -> list[Entry]:
    return [entry for entry in step.entries.values() if entry.state == ChangeState.DONE]


def _require_contained(alias: str, error: DjangoDatabaseError) -> None:
    """Raise DatabaseError unless the failure concerns single rows."""
    if not _is_of_row(error) and not is_contention(error):
        raise DatabaseError(
            f"Cannot be written: database {alias!r} ({type(error).__name__}).",
            "Check that the server is up and that its user may update these tables.",
        ) from error


def _is_of_row(error: DjangoDatabaseError) -> bool:
    of_rows = (DataError, IntegrityError, InternalError, NotSupportedError)
    code = error_code(error)
    if isinstance(code, int):
        return isinstance(error, of_rows) or code in _RAISED_BY_MARIADB
    return isinstance(error, of_rows) or code.startswith(_RAISED_FOR_ROW)
