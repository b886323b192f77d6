"""What a removal is made of: one item per local file a migration moved. Values only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from r2maint.errors import Stopped
from r2maint.local_files.restore_file import MovedFile
from r2maint.rendering import Refusal, format_bytes, format_count
from r2maint.scratch.spool import Spool

SUMMARY = ("sources", "to_remove", "removed", "kept", "gone", "failed", "bytes")
GONE = "gone"
"""The reason of a file that is there no more."""


class RemovalAction(StrEnum):
    """What becomes of one local file."""

    REMOVE = "remove"
    KEEP = "keep"
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovalItem:
    """One local file a migration moved."""

    original: MovedFile
    action: RemovalAction
    reason: str = ""
    real: Path = field(default_factory=Path)
    """Where it lies, every link above LOCAL_MEDIA followed."""
    bytes: int = 0
    modified_ns: int = 0
    """When it was last written, as it was hashed."""
    sha256: str = ""
    """Of the file as it was hashed."""

    def as_dict(self) -> dict[str, Any]:
        return {
            "action": self.action.value,
            "source": str(self.original.path),
            "key": self.original.key,
            "bytes": self.bytes,
            "sha256": self.original.sha256,
            "reason": self.reason or None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """A removal as planned, or as it went."""

    run_id: str
    """The migration whose files these are."""
    items: Spool[RemovalItem]
    counts: Mapping[str, int]
    """What was done counts the whole run, in every execution."""
    reading_notes: tuple[str, ...] = ()
    applied: bool = False
    stopped: Stopped | None = None
    refusals: tuple[Refusal, ...] = ()

    @property
    def has_work(self) -> bool:
        return bool(self.counts["to_remove"])

    @property
    def findings(self) -> bool:
        return bool(self.counts["kept"] or self.counts["failed"])

    @property
    def question(self) -> str:
        files = format_count(self.counts["to_remove"], "local file")
        return (
            f"Remove {files} ({format_bytes(self.counts['bytes'])}) that run {self.run_id} moved?"
        )

    @property
    def notes(self) -> tuple[str, ...]:
        kept_items = (item for item in self.items if item.action is RemovalAction.KEEP)
        reasons = Counter(item.reason for item in kept_items if item.reason != GONE)
        kept = (
            f"{format_count(count, 'file')} kept: {_TOLD.get(reason, reason)}."
            for reason, count in sorted(reasons.items())
        )
        return (*kept, *self.reading_notes)

    def summary(self) -> dict[str, int]:
        return {name: self.counts[name] for name in SUMMARY}


_TOLD = {
    "named": "something names it by a path that may be this file's",
    "changed": "its bytes are not those that were moved",
    "linked": "a link leads to it, or it has a second name",
    "outside": "it is below no directory of LOCAL_MEDIA",
    "object_missing": "the bucket no longer holds its object",
    "object_differs": "its object holds other bytes",
    "object_unnamed": "nothing names its object any more, so a purge may take that",
    "object_unread": "its object could not be read",
    "reencoded": "its object is a re-encoded version, not the file itself",
}


def count_items(items: Iterable[RemovalItem]) -> Counter[str]:
    """Return the counts of what is planned, or of what one execution kept and could not do."""
    counts: Counter[str] = Counter()
    for item in items:
        counts["sources"] += 1
        if item.action is RemovalAction.REMOVE:
            counts["to_remove"] += 1
            counts["bytes"] += item.bytes
        elif item.action is RemovalAction.FAIL:
            counts["failed"] += 1
        else:
            counts["gone" if item.reason == GONE else "kept"] += 1
    return counts
