"""An emptying of the quarantine, as planned or as it went: one item a copy. Values only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from r2maint.bucket import StoredObject
from r2maint.errors import Stopped
from r2maint.keepset.read_texts import Reading
from r2maint.pricing import Prices, storage_saving
from r2maint.purge.bucket_owner import Standing
from r2maint.purge.recheck_before_delete import Lifted
from r2maint.purge.verdict import PurgeAction
from r2maint.quarantine.manifest import Manifest
from r2maint.rendering import Refusal, format_bytes, format_count
from r2maint.scratch.spool import Spool

MAX_RUNS = 1000
"""Runs that a report tells one by one."""

SUMMARY = ("copies", "bytes", "to_remove", "to_remove_bytes", "kept", "removed", "failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class EmptyingOptions:
    """What a caller asks of one emptying."""

    older_than: timedelta | None = None
    """None for 30 days, or UNDO_WINDOW where that is longer."""
    lifted: Lifted = field(default_factory=Lifted)
    prefix: str = ""
    """Act on copies of such keys only."""
    limit: int | None = None


class EmptyingItem(NamedTuple):
    """One copy in quarantine, and what is made of it."""

    copy: StoredObject
    key: str
    """Of what it is a copy; "" when nobody knows."""
    run_id: str
    """Of the run that made it; "" when nobody knows."""
    made_at: datetime
    """When the last manifest that holds it was written; without one, when it was copied."""
    action: PurgeAction
    reason: str
    due_at: datetime | None = None
    """When it is old enough."""

    def as_dict(self) -> dict[str, Any]:
        return {
            "key": self.key or None,
            "bytes": self.copy.size,
            "modified_at": self.made_at,
            "verdict": "quarantined",
            "action": self.action.value,
            "due_at": self.due_at,
            "reason": self.reason,
            "run": self.run_id or None,
            "copy": self.copy.key,
        }


@dataclass(slots=True)
class RunTally:
    """The copies of one run, counted."""

    run_id: str
    made_at: datetime
    """Of its newest copy."""
    copies: int = 0
    bytes: int = 0
    to_remove: int = 0
    to_remove_bytes: int = 0
    kept: int = 0

    def add(self, item: EmptyingItem) -> None:
        self.made_at = max(self.made_at, item.made_at)
        self.copies += 1
        self.bytes += item.copy.size
        if item.action is PurgeAction.PLAN:
            self.to_remove += 1
            self.to_remove_bytes += item.copy.size
        else:
            self.kept += 1

    def as_dict(self) -> dict[str, Any]:
        return {
            "run": self.run_id or None,
            "made_at": self.made_at,
            "copies": self.copies,
            "bytes": self.bytes,
            "to_remove": self.to_remove,
            "to_remove_bytes": self.to_remove_bytes,
            "kept": self.kept,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Emptying:
    """An emptying as planned, or as it went."""

    options: EmptyingOptions
    older_than: timedelta
    items: Spool[EmptyingItem]
    counts: Mapping[str, int]
    runs: tuple[RunTally, ...]
    """Oldest first."""
    manifests: tuple[Manifest, ...]
    """Old enough to go once they hold no copy any more."""
    stored: Mapping[str, int]
    """Bytes of the whole bucket, by storage class."""
    freed: Mapping[str, int]
    """Of these, what goes, or went."""
    prices: Prices
    standing: Standing
    reading: Reading
    refusals: tuple[Refusal, ...] = ()
    remarks: tuple[str, ...] = ()
    oldest_at: datetime | None = None
    """Of what goes."""
    youngest_at: datetime | None = None
    is_resumed: bool = False
    """An emptying was interrupted, and goes on."""
    applied: bool = False
    stopped: Stopped | None = None

    @property
    def has_work(self) -> bool:
        has_leftovers = bool(self.counts.get("manifests"))
        return bool(self.counts.get("to_remove")) or has_leftovers or self.is_resumed

    @property
    def findings(self) -> bool:
        return bool(self.counts.get("failed"))

    @property
    def question(self) -> str:
        count, size = self.counts.get("to_remove", 0), self.counts.get("to_remove_bytes", 0)
        copies = format_count(count, "copy", "copies")
        return f"Remove {copies} ({format_bytes(size)}) from quarantine for good?"

    @property
    def saved_usd_per_month(self) -> Decimal:
        return storage_saving(self.freed, stored=self.stored, prices=self.prices)

    def summary(self) -> dict[str, Any]:
        return {
            **{name: self.counts.get(name, 0) for name in SUMMARY},
            "oldest_at": self.oldest_at,
            "youngest_at": self.youngest_at,
            "saved_usd_per_month": self.saved_usd_per_month,
        }

    @property
    def extra(self) -> dict[str, Any]:
        return {"runs": [each.as_dict() for each in self.runs[:MAX_RUNS]]}

    @property
    def notes(self) -> tuple[str, ...]:
        return (*self.remarks, *self.reading.notes, *self._kept())

    def _kept(self) -> Iterator[str]:
        if named := self.counts.get("named"):
            copies = format_count(named, "copy is", "copies are")
            yield f"{copies} kept because something names the object: r2_runs RUN --undo restores."
        if unknown := self.counts.get("unknown"):
            copies = format_count(unknown, "copy is", "copies are")
            yield f"{copies} kept because no manifest and no journal tells what it is a copy of."
