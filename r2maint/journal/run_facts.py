"""What the journal knows of a run: whether, of which command, and how a list shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from r2maint.errors import UsageError
from r2maint.journal.journal import home, require_tables
from r2maint.keys import redact
from r2maint.models import Change, Run

PURGE_COMMAND = "purge_orphans"


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


def is_known(run_id: str) -> bool:
    """Tell whether this database knows the run."""
    require_tables([home()])
    return bool(Run.objects.using(home()).filter(pk=run_id).exists())


def find_run(run_id: str) -> Run:
    """Return the run of this id. Raises: UsageError when there is none."""
    require_tables([home()])
    run: Run | None = Run.objects.using(home()).filter(pk=run_id).first()
    if run is None:
        raise unknown_run(run_id)
    return run


def unknown_run(run_id: str) -> UsageError:
    return UsageError(f"There is no run: {run_id!r}.", "manage.py r2_runs lists them.")


def facts_of(run: Run) -> RunFacts:
    return RunFacts(
        run_id=run.pk,
        command=run.command,
        bucket=run.bucket,
        state=run.state,
        started_at=run.started_at,
        finished_at=run.finished_at,
        summary=run.summary,
    )
