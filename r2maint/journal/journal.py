"""What was done, written before it is done, so that every run can be shown, resumed and undone."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Protocol

from django.db import router

from r2maint import conf
from r2maint.database.aliases import iter_aliases
from r2maint.database.connections import (
    database_option,
    refuse_open_transaction,
    require_transactions,
    short_transaction,
    table_names,
)
from r2maint.errors import DatabaseError
from r2maint.journal.entries import Entry, insert_entries
from r2maint.models import (
    Change,
    ChangeKind,
    ChangeState,
    Encoding,
    Health,
    Identity,
    Run,
    RunState,
    Sighting,
    Snapshot,
)
from r2maint.scratch.batches import batched
from r2maint.signals import run_finished

UNFINISHED = (RunState.RUNNING, RunState.STOPPED)
NEWEST_FIRST = ("-started_at", "-id")
"""The order of runs: ids of one second sort at random."""
UNDO_COMMAND = "r2_runs"
"""The command whose runs are undos."""
REPAIR_COMMAND = "verify_urls"
"""The command whose runs mend values that were at fault."""
_SUBJECTS = ("undo", "remove_local", "empty_quarantine", "abort_uploads", "prune")
"""Options that say what another run than the command's usual one is about."""
_BATCH = 500


class HeldLease(Protocol):
    """The lease as the journal sees it: something to ask before each transaction."""

    def check(self) -> None:
        """Raise LeaseHeld when the lease is no longer ours."""


def now() -> datetime:
    """Return this machine's time, aware UTC: what journal rows are stamped with."""
    return datetime.now(tz=UTC)


def home() -> str:
    """Return the alias of the database that holds runs, sightings and the identity."""
    return str(router.db_for_write(Run))


def new_run_id(at: datetime) -> str:
    """Return an id that sorts by time: "20261123T161200Z-ab12cd"."""
    return f"{at:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


@dataclass(slots=True, kw_only=True)
class Journal:
    """The open record of one run."""

    run_id: str
    command: str
    bucket: str
    resumed: bool
    """An earlier, unfinished execution goes on under its own id."""
    lease: HeldLease | None = field(default=None, repr=False)
    """Set once it is held; asked before each transaction."""

    def intend(self, entries: Iterable[Entry]) -> None:
        """Write down what is about to happen to the bucket; committed when this returns.

        Each entry's `state` should be INTENDED. A database lost in the middle leaves whole batches
        of 500, never a deed without its line.
        """
        for batch in batched(entries, _BATCH):
            at = now()
            for entry in batch:
                entry.run_id, entry.at = self.run_id, at
            self._commit(batch)

    def settle(self, changes: Iterable[Change | Entry], state: ChangeState | str) -> None:
        """Record how changes written by `intend` ended."""
        for batch in batched([change.pk for change in changes], _BATCH):
            Change.objects.using(home()).filter(pk__in=batch).update(state=state)

    def finish(self, *, state: RunState | str, summary: Mapping[str, Any]) -> None:
        """Close the run; a state of STOPPED or RUNNING lets the same command go on with it.

        A run that ended meanwhile stays as it is: whoever lost the lease may wake up after another
        execution went on with the run and finished it.
        """
        mine = Run.objects.using(home()).filter(pk=self.run_id, state__in=UNFINISHED)
        if not mine.update(state=state, summary=dict(summary), finished_at=now()):
            return
        run_finished.send_robust(
            self.command, run_id=self.run_id, state=str(state), summary=dict(summary)
        )

    def check_lease(self) -> None:
        """Raise LeaseHeld when the run holds a lease that is no longer its own."""
        if self.lease is not None:
            self.lease.check()

    def _commit(self, batch: list[Entry]) -> None:
        self.check_lease()
        refuse_open_transaction(home())
        with short_transaction(home()):
            insert_entries(home(), batch)


def uploads_of(hashes: Iterable[str], bucket: str) -> dict[tuple[str, str], str]:
    """Return (source, SHA-256) -> the key under which an earlier run stored that source.

    Whether the object is still there is for the caller to see; at most some hundred at once.
    """
    uploads = Change.objects.using(home()).filter(kind=ChangeKind.UPLOAD, sha256__in=list(hashes))
    known = uploads.exclude(state=ChangeState.CONFLICT).exclude(old="").order_by("pk")
    lines = list(known.values_list("old", "sha256", "key", "run_id"))
    runs = Run.objects.using(home()).filter(pk__in={run_id for *_, run_id in lines}, bucket=bucket)
    here = set(runs.values_list("pk", flat=True)) if lines else set()
    return {(old, sha256): key for old, sha256, key, run_id in lines if run_id in here}


class StoredBytes(NamedTuple):
    """What a run wrote down of the bytes of one key."""

    key: str
    sha256: str
    """Hex; "" where only the ETag is known."""
    etag: str
    size: int
    """Bytes."""
    at: datetime


def iter_stored_bytes(bucket: str) -> Iterator[StoredBytes]:
    """Yield the bytes that runs stored in, or deleted from, this bucket; flat in memory."""
    runs = Run.objects.using(home()).filter(bucket=bucket)
    here = set(runs.values_list("pk", flat=True))
    kinds = [ChangeKind.UPLOAD, ChangeKind.QUARANTINE, ChangeKind.DELETE]
    for change in _iter_in_order(home(), {"kind__in": kinds, "bytes__gt": 0}):
        is_known = change.sha256 or change.etag
        if change.run_id in here and is_known and change.state != ChangeState.CONFLICT:
            yield StoredBytes(change.key, change.sha256, change.etag, change.bytes, change.at)


def open_journal(
    *, command: str, bucket: str, options: Mapping[str, Any], run_id: str = ""
) -> Journal:
    """Begin a run, or go on with the unfinished one of the same command and bucket.

    A run about something else goes on only about the same thing. `run_id` is what a new run is
    called, when the caller has told it to others already. `options` must be plain JSON values
    without secrets. Raises: DatabaseError when r2maint's tables are missing or a transaction is
    open.
    """
    require_tables([home()])
    refuse_open_transaction(home())
    unfinished = find_unfinished(command, bucket, options)
    if unfinished is not None:
        Run.objects.using(home()).filter(pk=unfinished.pk).update(
            state=RunState.RUNNING, finished_at=None, options=dict(options)
        )
        return Journal(run_id=unfinished.pk, command=command, bucket=bucket, resumed=True)
    at = now()
    run = Run(id=run_id or new_run_id(at), command=command, bucket=bucket, started_at=at)
    run.options = dict(options)
    run.save(using=home(), force_insert=True)
    return Journal(run_id=run.pk, command=command, bucket=bucket, resumed=False)


def find_unfinished(command: str, bucket: str, options: Mapping[str, Any]) -> Run | None:
    """Return the run that the next execution of a command goes on with; None when there is none.

    Of `options` those count that say what a run is about, such as the run to undo.
    """
    runs = Run.objects.using(home()).filter(command=command, bucket=bucket, state__in=UNFINISHED)
    about = [options.get(name) for name in _SUBJECTS]
    newest_first = runs.order_by(*NEWEST_FIRST)
    same = (run for run in newest_first if [*map(run.options.get, _SUBJECTS)] == about)
    return next(same, None)


def require_tables(databases: Iterable[str]) -> None:
    """Raise DatabaseError unless r2maint's tables are in every database named, with transactions.

    The home database needs all of them, every other one the table of changes.
    """
    everything = (Run, Change, Sighting, Health, Encoding, Snapshot, Identity)
    for alias in databases:
        models = everything if alias == home() else (Change,)
        own = {model._meta.db_table for model in models}
        missing = own - table_names(alias)
        if missing:
            raise DatabaseError(
                f"r2maint's tables are missing: database {alias!r}.",
                f"Run manage.py migrate r2maint{database_option(alias)}.",
            )
        require_transactions(alias, sorted(own))


def journal_aliases() -> list[str]:
    """Return the databases that hold r2maint's table of changes, the home database first.

    Each once, however many aliases it has, and no replica: what is found is also written to.
    """
    found = iter_aliases(excluded=conf.load().not_references)
    aliases = sorted(found, key=lambda alias: alias != home())
    return [alias for alias in aliases if Change._meta.db_table in table_names(alias)]


def iter_changes(run_id: str, *, newest_first: bool = False) -> Iterator[Change]:
    """Yield the changes of one run from every database, in order within each; flat in memory."""
    for alias in journal_aliases():
        yield from _iter_in_order(alias, {"run_id": run_id}, newest_first)


def _iter_in_order(
    alias: str, conditions: Mapping[str, Any], newest_first: bool = False
) -> Iterator[Change]:
    last: int | None = None
    while True:
        page = Change.objects.using(alias).filter(**conditions)
        if last is not None:
            page = page.filter(pk__lt=last) if newest_first else page.filter(pk__gt=last)
        changes = list(page.order_by("-pk" if newest_first else "pk")[: 4 * _BATCH])
        if not changes:
            return
        yield from changes
        last = changes[-1].pk


def kept_values(*, undo_window: timedelta, now: datetime) -> Iterator[str]:
    """Yield what the journal itself keeps alive, as texts and keys; see `kept_changes`."""
    for _, texts in kept_changes(undo_window=undo_window, now=now):
        yield from texts


def kept_changes(
    *, undo_window: timedelta, now: datetime
) -> Iterator[tuple[Change, tuple[str, ...]]]:
    """Yield each change that keeps something alive, with the texts and keys it keeps.

    Old values of rewrites inside the window, so that undo finds its objects, and the keys that hold
    the bytes of removed files; new keys and values of unfinished runs, whose rows may not name them
    yet. What was undone, and what an undo replaced, is not kept.
    """
    runs = Run.objects.using(home())
    undos = set(runs.filter(command=UNDO_COMMAND).values_list("pk", flat=True))
    inside: dict[str, Any] = {
        "at__gte": now - undo_window,
        "kind__in": [ChangeKind.REWRITE, ChangeKind.REMOVE],
    }
    open_runs = list(runs.filter(state__in=UNFINISHED).values_list("pk", flat=True))
    unfinished: dict[str, Any] = {
        "run_id__in": open_runs,
        "kind__in": [ChangeKind.REWRITE, ChangeKind.UPLOAD],
    }
    for alias in journal_aliases():
        for change in _iter_in_order(alias, inside):
            if change.run_id not in undos and change.state != ChangeState.UNDONE:
                is_file = change.kind == ChangeKind.REMOVE
                texts = (change.key,) if is_file else (change.old, change.old_key)
                yield change, tuple(filter(None, texts))
        for change in _iter_in_order(alias, unfinished):
            yield change, tuple(filter(None, (change.new, change.key)))
