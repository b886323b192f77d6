"""What runs did to one key, by the journal, and when it was seen orphaned."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from unicodedata import normalize

from django.db.models import Q

from r2maint.bucket import Bucket
from r2maint.bucket.find import find_stored
from r2maint.journal import journal
from r2maint.journal.run_facts import ChangeFacts
from r2maint.keys import digest, identity, quote_key
from r2maint.models import Change, ChangeKind, ChangeState, Run, Sighting

MAX_EVENTS = 50
"""Of each database, the newest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One change of a run that concerns the key."""

    change: Change
    command: str
    has_copy: bool | None = None
    """Whether the copy is still in quarantine; None where there never was one."""

    def as_dict(self) -> dict[str, Any]:
        told = {"run_id": self.change.run_id, "command": self.command, "event": self.sentence}
        return {**told, **ChangeFacts(change=self.change).as_dict(), "has_copy": self.has_copy}

    @property
    def sentence(self) -> str:
        """What happened, in a few words."""
        by = f"by {self.command or 'a run'} {self.change.run_id}"
        told = f"{_DEEDS[self.change.kind]} {by}"
        if self.change.state == ChangeState.DONE:
            return told
        return f"{told} ({_STATES[self.change.state]})"

    @property
    def undo(self) -> str:
        return f"manage.py r2_runs {self.change.run_id} --undo"


_DEEDS: Mapping[str, str] = {
    ChangeKind.REWRITE: "value rewritten",
    ChangeKind.UPLOAD: "uploaded",
    ChangeKind.QUARANTINE: "copied into quarantine",
    ChangeKind.DELETE: "deleted",
    ChangeKind.RESTORE: "restored",
    ChangeKind.REMOVE: "local file removed",
}
_STATES: Mapping[str, str] = {
    ChangeState.INTENDED: "intended, and perhaps done",
    ChangeState.CONFLICT: "not done",
    ChangeState.UNDONE: "undone since",
}


def known_keys(keys: Iterable[str]) -> set[str]:
    """Return which of some keys runs wrote down or saw orphaned."""
    wanted = set(keys)
    found: set[str] = set()
    for alias in journal.journal_aliases():
        changes = Change.objects.using(alias)
        for name in ("key", "old_key"):
            rows = changes.filter(**{f"{name}__in": wanted})
            found.update(rows.values_list(name, flat=True).distinct())
    seen = Sighting.objects.using(journal.home()).filter(key_digest__in=map(digest, wanted))
    return wanted & (found | set(seen.values_list("key", flat=True)))


def find_history(key: str, bucket: Bucket) -> tuple[Event, ...]:
    """Return what runs on this bucket did to the key, newest first; one pass over the journal.

    One HEAD for each copy in quarantine.
    """
    changes = [change for alias in journal.journal_aliases() for change in _changes(alias, key)]
    runs = _runs({change.run_id for change in changes})
    here = [c for c in changes if c.run_id not in runs or runs[c.run_id].bucket == bucket.name]
    copies = {c.new for c in here if c.kind == ChangeKind.QUARANTINE and c.new}
    stored = find_stored(bucket, copies).objects
    return tuple(
        Event(
            change=change,
            command=runs[change.run_id].command if change.run_id in runs else "",
            has_copy=change.new in stored if change.new in copies else None,
        )
        for change in sorted(here, key=lambda change: change.at, reverse=True)
    )


def _changes(alias: str, key: str) -> Iterator[Change]:
    names = {key, normalize("NFC", key), normalize("NFD", key)}
    texts = names | {quote_key(name) for name in names}
    test = Q(key__in=names) | Q(old_key__in=names) | Q(new=key, kind=ChangeKind.QUARANTINE)
    for text in texts:
        # Under a host that is no address of the bucket, `old_key` says nothing.
        test |= Q(kind=ChangeKind.REWRITE, old__contains=text)
    for change in Change.objects.using(alias).filter(test).order_by("-pk")[:MAX_EVENTS]:
        # SQLite's LIKE takes capitals and small letters for the same.
        exact = (change.key, change.old_key, change.new)
        if names & set(exact) or any(text in change.old for text in texts):
            yield change


def _runs(ids: Iterable[str]) -> dict[str, Run]:
    runs = Run.objects.using(journal.home()).filter(pk__in=list(ids))
    return {run.pk: run for run in runs}


def stopped_naming(history: Iterable[Event], key: str) -> Event | None:
    """Return the newest change that gave up a value which named the key."""
    names = {identity(key), quote_key(key)}
    for event in history:
        change = event.change
        is_done = change.kind == ChangeKind.REWRITE and change.state == ChangeState.DONE
        is_old = change.old_key == key or any(name in change.old for name in names)
        if is_done and is_old and change.key != key:
            return event
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """When plans saw the object orphaned."""

    first_seen_at: datetime
    last_seen_at: datetime
    counts: bool
    """Under the circumstances of now, and of this very object: it is the first of two looks."""

    def as_dict(self) -> dict[str, Any]:
        return {
            "first_seen_at": self.first_seen_at,
            "last_seen_at": self.last_seen_at,
            "counts": self.counts,
        }


def find_sighting(
    bucket: str, key: str, *, etag: str, modified_at: datetime | None, circumstances: str
) -> Seen | None:
    """Return when plans saw the key orphaned; None when none did, or it was named since."""
    rows = Sighting.objects.using(journal.home())
    row: Sighting | None = rows.filter(bucket=bucket, key_digest=digest(key)).first()
    if row is None:
        return None
    then = (row.etag, row.modified_at, row.circumstances)
    return Seen(
        first_seen_at=row.first_seen_at,
        last_seen_at=row.last_seen_at,
        counts=then == (etag, modified_at, circumstances),
    )
