"""What was done: every run, and every change of one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from r2maint.errors import UsageError
from r2maint.journal import home, iter_changes, require_tables
from r2maint.keys import redact
from r2maint.models import Change, Run


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """One run as a list shows it."""

    run_id: str
    command: str
    bucket: str
    state: str
    started_at: datetime
    finished_at: datetime | None
    summary: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        return {
            "run_id": self.run_id,
            "command": self.command,
            "bucket": self.bucket,
            "state": self.state,
            "started_at": self.started_at,
            "finished_at": self.finished_at,
            "summary": dict(self.summary),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeFacts:
    """One change of a run, without the credentials its values may hold."""

    change: Change

    def as_dict(self) -> dict[str, Any]:
        change = self.change
        return {
            "kind": change.kind,
            "state": change.state,
            "database": change.database,
            "model": change.model,
            "pk": change.row,
            "field": change.field,
            "path": change.path,
            "old": redact(change.old),
            "new": redact(change.new),
            "key": change.key,
            "bytes": change.bytes,
            "at": change.at,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Runs, or the changes of one: nothing to apply."""

    items: Iterable[RunFacts] | Iterable[ChangeFacts]
    facts: Mapping[str, Any]
    is_of_runs: bool = False
    notes: tuple[str, ...] = ()
    has_work: bool = False

    def summary(self) -> dict[str, Any]:
        return dict(self.facts)


class _Again:
    """A sequence read from the database each time it is iterated."""

    def __init__(self, read: Callable[[], Iterator[Any]]) -> None:
        self._read = read

    def __iter__(self) -> Iterator[Any]:
        return self._read()


def list_runs() -> Listing:
    """Return every run, newest first."""
    require_tables([home()])
    runs = Run.objects.using(home()).order_by("-id")
    states = Counter(runs.values_list("state", flat=True))
    facts = {"runs": sum(states.values()), **{state: states[state] for state in sorted(states)}}
    return Listing(
        items=_Again(lambda: map(_run_facts, runs.iterator())),
        facts=facts,
        is_of_runs=True,
        notes=("r2_runs RUN shows what a run changed; r2_runs RUN --undo plans the way back.",)
        if states
        else (),
    )


def show_run(run_id: str) -> Listing:
    """Return one run and its changes, in the order they were made within each database."""
    run = find_run(run_id)
    facts = _run_facts(run).as_dict() | {"options": run.options}
    changes = _Again(lambda: (ChangeFacts(change=change) for change in iter_changes(run.pk)))
    return Listing(items=changes, facts=facts)


def find_run(run_id: str) -> Run:
    """Return the run of this id. Raises: UsageError when there is none."""
    require_tables([home()])
    run: Run | None = Run.objects.using(home()).filter(pk=run_id).first()
    if run is None:
        raise UsageError(f"There is no run: {run_id!r}.", "manage.py r2_runs lists them.")
    return run


def _run_facts(run: Run) -> RunFacts:
    return RunFacts(
        run_id=run.pk,
        command=run.command,
        bucket=run.bucket,
        state=run.state,
        started_at=run.started_at,
        finished_at=run.finished_at,
        summary=run.summary,
    )
