"""What undoing a run comes to today; writes nothing.

1. Read the changes of the run that can go back, newest first; of a run that this database does not
   know, from the bucket's manifests.
2. Compare each with the cell as it is now: where somebody edited since, their value stays.
3. Prove that what each old value names exists, or can be brought back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

from r2maint.bucket import Bucket
from r2maint.conf import Config
from r2maint.control import Control
from r2maint.errors import UsageError
from r2maint.journal.journal import UNDO_COMMAND, home, iter_changes
from r2maint.journal.run_facts import PURGE_COMMAND, find_run, is_known
from r2maint.keys import Addresses
from r2maint.models import Change, ChangeKind, ChangeState, Run
from r2maint.quarantine.lost_runs import iter_lost_changes
from r2maint.runs.undo.judge_changes import UndoJudge
from r2maint.runs.undo.result import Only, Undo
from r2maint.scratch.spool import Spool

BATCH = 200
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
    run = run_to_undo(run_id, bucket)
    _require_reversible(run, bucket)
    judge = UndoJudge.of(run, config, addresses, bucket)
    changes = filter(only.allows, iter_reversible(run_id, bucket))
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


def run_to_undo(run_id: str, bucket: Bucket) -> Run:
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
        if len(batch) >= BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def iter_reversible(run_id: str, bucket: Bucket) -> Iterator[Change]:
    """Yield the changes of a run that can go back and have not yet, newest first."""
    if not is_known(run_id):
        yield from iter_lost_changes(bucket, run_id)
        return
    for change in iter_changes(run_id, newest_first=True):
        is_over = change.state in (ChangeState.UNDONE, ChangeState.CONFLICT)
        if change.kind in _REVERSIBLE and not is_over:
            yield change
