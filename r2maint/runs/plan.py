"""What was done: every run, and every change of one."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from r2maint.bucket import Bucket
from r2maint.errors import BucketError, ConfigError, R2MaintError
from r2maint.journal.journal import NEWEST_FIRST, home, iter_changes, require_tables
from r2maint.journal.run_facts import (
    PURGE_COMMAND,
    ChangeFacts,
    RunFacts,
    facts_of,
    find_run,
    is_known,
    unknown_run,
)
from r2maint.models import Change, ChangeKind, ChangeState, Run
from r2maint.quarantine.lost_runs import find_lost_runs, iter_lost_changes
from r2maint.quarantine.manifest import MANIFEST, Manifest
from r2maint.rendering import format_count
from r2maint.runs.result import LOST, RunListing
from r2maint.scratch.spool import Spool


class Unreached:
    """In the place of a bucket that cannot be opened: says so whenever it is asked anything."""

    def __init__(self, name: str, error: R2MaintError) -> None:
        self.name = name
        self._error = error

    def __getattr__(self, name: str) -> Any:
        raise self._error


class _Again:
    """A sequence read from the database each time it is iterated."""

    def __init__(self, read: Callable[[], Iterator[Any]]) -> None:
        self._read = read

    def __iter__(self) -> Iterator[Any]:
        return self._read()


def list_runs(bucket: Bucket | None = None) -> RunListing:
    """Return every run, newest first; with a bucket also those only its manifests tell of.

    A few Class A requests and one Class B a manifest. A bucket that cannot be read is told in a
    note.
    """
    require_tables([home()])
    runs = Run.objects.using(home()).order_by(*NEWEST_FIRST)
    states = Counter(runs.values_list("state", flat=True))
    notes = ["r2_runs RUN shows what a run changed; r2_runs RUN --undo plans the way back."]
    lost: list[RunFacts] = []
    try:
        known = frozenset(runs.values_list("pk", flat=True))
        if bucket is not None:
            lost = [_lost_facts(one, bucket.name) for one in find_lost_runs(bucket, known)]
    except (BucketError, ConfigError) as error:
        notes.append(f"Runs that only the bucket knows are not listed. {error}")
    if lost:
        states[LOST] = len(lost)
        notes.append(
            f"Known from the bucket's manifests alone: {format_count(len(lost), 'purge')}. Another"
            " database made them, or this one lost them."
        )
    facts = {"runs": sum(states.values()), **{state: states[state] for state in sorted(states)}}
    return RunListing(
        items=_Again(lambda: _newest_first(map(facts_of, runs.iterator()), lost)),
        facts=facts,
        is_of_runs=True,
        notes=tuple(notes) if states else tuple(notes[1:]),
    )


def _newest_first(known: Iterable[RunFacts], lost: Iterable[RunFacts]) -> Iterator[RunFacts]:
    return heapq.merge(known, lost, key=lambda run: run.run_id, reverse=True)


def show_run(run_id: str, bucket: Bucket | None = None) -> RunListing:
    """Return one run and its changes, in the order they were made within each database.

    With a bucket also a run that only its manifests tell of. Raises: UsageError for an unknown one.
    """
    if bucket is not None and not is_known(run_id):
        return _show_lost(run_id, bucket)
    run = find_run(run_id)
    facts = facts_of(run).as_dict() | {"options": run.options}
    changes = _Again(lambda: (ChangeFacts(change=change) for change in iter_changes(run.pk)))
    return RunListing(items=changes, facts=facts, notes=tuple(_notes_on(run)))


def _show_lost(run_id: str, bucket: Bucket) -> RunListing:
    changes = Spool.of(iter_lost_changes(bucket, run_id))
    if not len(changes):
        raise unknown_run(run_id)
    at = max(change.at for change in changes)
    facts = RunFacts(
        run_id=run_id,
        command=PURGE_COMMAND,
        bucket=bucket.name,
        state=LOST,
        started_at=at,
        finished_at=None,
        summary={},
    )
    note = "Known from the bucket's manifest alone; --undo restores its objects, and no values."
    items = _Again(lambda: (ChangeFacts(change=change) for change in changes))
    return RunListing(items=items, facts=facts.as_dict(), notes=(note,))


def _notes_on(run: Run) -> Iterator[str]:
    if gone := _count_discarded(run):
        yield (
            f"{format_count(gone, 'copy', 'copies')} of this run"
            f" {'was' if gone == 1 else 'were'} removed from quarantine, and cannot be restored."
        )


def _count_discarded(run: Run) -> int:
    """Return how many copies of a run were removed from quarantine since."""
    emptyings = [
        other.pk
        for other in Run.objects.using(home()).filter(command=run.command, bucket=run.bucket)
        if other.options.get("empty_quarantine")
    ]
    gone = Change.objects.using(home()).filter(
        run_id__in=emptyings, kind=ChangeKind.DISCARD, state=ChangeState.DONE, row=run.pk
    )
    # The manifests among them are of no object.
    return int(gone.exclude(new__contains=MANIFEST).count())


def _lost_facts(manifest: Manifest, bucket: str) -> RunFacts:
    return RunFacts(
        run_id=manifest.run_id,
        command=PURGE_COMMAND,
        bucket=bucket,
        state=LOST,
        started_at=manifest.written_at,
        finished_at=None,
        summary={},
    )
