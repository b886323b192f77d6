"""Exchange cells by compare-and-swap on their stored text, journalled in the same transaction.

Before a transaction is committed its rows are read back: where the database made something else of
them, nothing was written. A concurrent edit wins, always: an UPDATE touches a row only while the
text is the one the new text was made from. Where another element or column was edited meanwhile,
the row is read again and the rewrite still applies to what is there now. `save()` is never called:
no hook of the project runs.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any

from django.db import DataError, IntegrityError, InternalError, NotSupportedError, ProgrammingError
from django.db import Error as DjangoDatabaseError

from r2maint.control import Control
from r2maint.database.connections import (
    error_code,
    is_contention,
    reading,
    refuse_open_transaction,
    require_transactions,
    short_transaction,
)
from r2maint.errors import DatabaseError
from r2maint.journal.entries import Entry, insert_entries
from r2maint.journal.journal import Journal, now, require_tables
from r2maint.models import Change, ChangeState
from r2maint.references.column import Column
from r2maint.references.discover_columns import find_column
from r2maint.references.edit_cell import Rewrite, Swapped
from r2maint.references.read_back import (
    Altered,
    Held,
    describe,
    find_altered,
    run_deferred_triggers,
)
from r2maint.references.reference import Shape
from r2maint.references.rewrite_row import (
    ATTEMPTS,
    RewriteOutcome,
    RowRewrite,
    Step,
    read_rows,
    update_together,
)
from r2maint.scratch.batches import batched
from r2maint.signals import rows_rewritten

MAX_ROWS = 200
"""Rows of one transaction."""
MAX_SECONDS = 0.2
"""What one transaction should take: the next one is cut to it."""
_PAUSE = 0.05
"""Seconds before a second attempt; twice as long before a third."""
_TOO_LONG = ("22001", 1406)
"""string_data_right_truncation of PostgreSQL, ER_DATA_TOO_LONG of MariaDB."""
_RAISED_FOR_ROW = ("P0", "38", "39", "44", "428C9", "55000")
"""Classes of PostgreSQL's codes: what triggers and check options raise about one row; the codes of
a generated column and of a view that takes no UPDATE."""
_RAISED_BY_MARIADB = (1265, 1366, 1369, 1644, 4025, 1906, 1288, 1348)
"""Truncated, no text of the column's character set, check option, SIGNAL, constraint; a generated
column, a view and a view's column that take no UPDATE."""
_RAISED_BY_SQLITE = ("cannot UPDATE generated column", "cannot modify ")
"""How its messages begin of a generated column and of a view."""


def swap(
    rewrites: Iterable[Rewrite], journal: Journal, *, control: Control
) -> Iterator[RewriteOutcome]:
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


def swap_all(rewrites: Iterable[Rewrite], journal: Journal, *, control: Control) -> Swapped:
    """Exchange every element, or none: return DONE, or why the first that would not do stayed.

    All rows are of one database, and written in one transaction; when none is, the journal has no
    line of them. Sends `rows_rewritten` and raises as `swap` does.
    """
    rows = sorted(_take_rows(iter(rewrites), sys.maxsize), key=_order)
    control.check()
    (database,) = {row.database for row in rows}
    _require_ready(rows, set())
    refuse_open_transaction(database)
    try:
        _announce(database, _commit_whole(database, rows, journal), journal)
    except _OneStays as stays:
        return stays.how
    return Swapped.DONE


def _require_ready(rows: Iterable[RowRewrite], ready: set[tuple[str, str]]) -> None:
    """Raise DatabaseError unless every table not in `ready` can be written to; add them to it."""
    used = {(row.database, column.table) for row in rows for column in row.columns.values()}
    for alias, group in groupby(sorted(used - ready), key=itemgetter(0)):
        require_tables([alias])
        require_transactions(alias, [table for _, table in group])
    ready |= used


# From rewrites to rows


def _take_rows(rewrites: Iterator[Rewrite], size: int) -> list[RowRewrite]:
    """Return the next rewrites, those of one row together, until `size` rows are full."""
    rows: dict[tuple[str, str, str], RowRewrite] = {}
    for rewrite in rewrites:
        at = rewrite.reference
        row = rows.setdefault(
            (at.database, at.model, at.pk),
            RowRewrite(database=at.database, model=at.model, pk=at.pk),
        )
        _add(row, rewrite)
        if len(rows) == size:
            break
    return list(rows.values())


def _add(row: RowRewrite, rewrite: Rewrite) -> None:
    at = rewrite.reference
    column = row.columns.get(at.field) or find_column(at.database, at.model, at.field)
    if column is None:
        row.settled.append(RewriteOutcome(rewrite, Swapped.GONE))
    elif _is_too_long(rewrite, column):
        row.settled.append(RewriteOutcome(rewrite, Swapped.TOO_LONG))
    else:
        row.columns[at.field] = column
        row.pk = column.model_class._meta.pk.to_python(at.pk)
        row.pending.append(rewrite)


def _is_too_long(rewrite: Rewrite, column: Column) -> bool:
    """Tell without the cell; of an address inside longer text, the whole text decides."""
    if column.max_length is None or rewrite.reference.shape is Shape.EMBEDDED:
        return False
    return len(rewrite.new) > column.max_length


def _order(row: RowRewrite) -> tuple[str, str, bool, Any]:
    """Order rows by primary key, as other writers do: that avoids deadlocks."""
    is_number = isinstance(row.pk, int)
    return row.database, row.model, is_number, row.pk if is_number else str(row.pk)


def _swap_rows(database: str, rows: list[RowRewrite], journal: Journal) -> None:
    refuse_open_transaction(database)
    _read(database, rows)
    _announce(database, _commit_together(database, rows, journal), journal)


def _read(database: str, rows: list[RowRewrite]) -> None:
    with reading(database):
        for _, group in groupby(rows, key=lambda row: row.model):
            for batch in batched((row for row in group if row.pending), MAX_ROWS):
                read_rows(batch)


# One transaction


def _commit_together(database: str, rows: list[RowRewrite], journal: Journal) -> list[Step]:
    """Write all rows in one transaction; when that fails, each row in one of its own."""
    for is_first in (True, False):
        try:
            return _commit(database, rows, journal, together=is_first)
        except ProgrammingError:
            # One statement for many rows says of what type each value is; that for one does not.
            continue
        except DjangoDatabaseError as error:
            _require_contained(database, error)
        except _NotAsWritten:
            pass
        break
    # A trigger of one row may change another: each has an eye on all of them.
    _read(database, rows)
    watched = {id(row): Held(row, row.cells) for row in rows if row.pending and row.cells}
    return [step for row in rows for step in _commit_alone(database, row, journal, watched)]


def _commit_alone(
    database: str, row: RowRewrite, journal: Journal, watched: dict[int, Held]
) -> list[Step]:
    """Write one row; of those that are watched no other may change with it."""
    for attempt in range(ATTEMPTS):
        others = [held for held in watched.values() if held.row is not row]
        try:
            steps = _commit(database, [row], journal, others=others)
        except _NotAsWritten as failure:
            if not _was_edited(database, row, failure.altered, watched):
                row.refuse({each: describe(each, row, failure.altered) for each in row.pending})
                return []
        except DjangoDatabaseError as error:
            _require_contained(database, error)
            if not is_contention(error):
                row.settle_all(_refusal(error))
                return []
            time.sleep(_PAUSE * 2**attempt)
            _read(database, [row])
        else:
            watched |= {id(row): Held(row, step.texts) for step in steps if step.is_written}
            return steps
    row.settle_all(Swapped.BUSY)
    return []


def _was_edited(
    database: str, row: RowRewrite, altered: list[Altered], watched: dict[int, Held]
) -> bool:
    """Tell whether it was others who removed this row, or changed those that are watched.

    All is as it was before our transaction, except for what they did.
    """
    if any(each.row is row for each in altered):
        _read(database, [row])
        return row.cells is None
    with reading(database):
        edited = find_altered(watched.values())
    for each in edited:
        del watched[id(each.row)]
    return bool(edited)


class _NotAsWritten(Exception):
    """Rows hold something else than what they must after this transaction."""

    def __init__(self, altered: list[Altered]) -> None:
        super().__init__()
        self.altered = altered


class _OneStays(Exception):
    """An element would stay as it is, so that all must."""

    def __init__(self, how: Swapped) -> None:
        super().__init__(how)
        self.how = how


def _commit_whole(database: str, rows: list[RowRewrite], journal: Journal) -> list[Step]:
    """Write all rows in one transaction. Raises: _OneStays when that was none."""
    _require_done(each.how for row in rows for each in row.settled)
    for attempt in range(ATTEMPTS):
        _read(database, rows)
        try:
            return _commit(database, rows, journal, whole=True, together=not attempt)
        except _NotAsWritten as failure:
            raise _OneStays(Swapped.REFUSED) from failure
        except DjangoDatabaseError as error:
            if isinstance(error, ProgrammingError) and not attempt:
                continue  # as in `_commit_together`
            _require_contained(database, error)
            if not is_contention(error):
                raise _OneStays(_refusal(error)) from error
            time.sleep(_PAUSE * 2**attempt)
    raise _OneStays(Swapped.BUSY)


def _require_done(outcomes: Iterable[Swapped]) -> None:
    for how in outcomes:
        if how is not Swapped.DONE:
            raise _OneStays(how)


def _commit(
    database: str,
    rows: list[RowRewrite],
    journal: Journal,
    *,
    whole: bool = False,
    together: bool = True,
    others: Iterable[Held] = (),
) -> list[Step]:
    """Journal these rows, then write them; nothing is settled unless both are committed.

    Nothing is committed unless these rows and `others` hold what they must: _NotAsWritten; with
    `whole` nothing is unless every element is what it should become: _OneStays. Without `together`
    each row is a statement of its own.
    """
    journal.check_lease()
    steps = [Step(row) for row in rows if row.pending]
    if whole:
        _require_done(how for step in steps for how in step.outcomes.values())
    at = now()
    entries = [entry for step in steps for entry in step.journal(journal.run_id, at)]
    if entries:
        with short_transaction(database):
            insert_entries(database, entries)
            written = update_together(steps) if together else {}
            for step in steps:
                step.write(is_done=written.get(step))
            if whole:
                _require_done(how for step in steps for how in step.outcomes.values())
            lost = [entry.pk for step in steps for entry in step.lost()]
            if lost:
                Change.objects.using(database).filter(pk__in=lost).update(
                    state=ChangeState.CONFLICT
                )
            for entry in [entry for step in steps for entry in step.moved()]:
                Change.objects.using(database).filter(pk=entry.pk).update(
                    made=entry.made, extra=entry.extra
                )
            _read_back(database, steps, others)
    for step in steps:
        step.row.settle(step.outcomes)
    return steps


def _read_back(database: str, steps: Iterable[Step], others: Iterable[Held]) -> None:
    """Raise _NotAsWritten unless all rows hold what they must, now that every trigger has run."""
    if any(step.is_sent for step in steps):
        run_deferred_triggers(database)
        held = [Held(step.row, step.texts) for step in steps if step.must_be_there]
        if altered := find_altered([*held, *others]):
            raise _NotAsWritten(altered)


# Afterwards


def _announce(database: str, steps: list[Step], journal: Journal) -> None:
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


def _written(step: Step) -> list[Entry]:
    return [entry for entry in step.entries.values() if entry.state == ChangeState.DONE]


def _refusal(error: DjangoDatabaseError) -> Swapped:
    return Swapped.TOO_LONG if error_code(error) in _TOO_LONG else Swapped.REFUSED


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
    return (
        isinstance(error, of_rows)
        or code.startswith(_RAISED_FOR_ROW)
        or str(error).startswith(_RAISED_BY_SQLITE)
    )
