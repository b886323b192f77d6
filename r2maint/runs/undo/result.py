"""An undo as planned, or as it went: one item a change. Values only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from r2maint.errors import Stopped
from r2maint.journal.run_facts import ChangeFacts
from r2maint.keys import identity
from r2maint.local_files.restore_file import MovedFile
from r2maint.models import Change, ChangeKind
from r2maint.rendering import Refusal, format_count
from r2maint.scratch.spool import Spool


class UndoAction(StrEnum):
    """What becomes of one change."""

    UNDO = "undo"
    """A value goes back."""
    RESTORE = "restore"
    """A quarantined object or a removed file goes back."""
    SKIP = "skip"
    """Edited or deleted since: it stays as it is."""
    KEPT = "kept"
    """The object is there already: the run never took it, or it is back."""
    FAIL = "fail"
    """What the old value names cannot be proved to exist, or the removed file cannot come back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoItem:
    """One change to take back, newest first."""

    change: Change
    action: UndoAction
    reason: str = ""
    original: MovedFile | None = None
    """A local file that comes back first: what the old value names, or the one removed."""

    def as_dict(self) -> dict[str, Any]:
        facts = ChangeFacts(change=self.change).as_dict()
        return {"action": self.action.value, "reason": self.reason or None, **facts}


@dataclass(frozen=True, slots=True, kw_only=True)
class Only:
    """Narrows an undo to single objects; without any, all of a run goes back."""

    prefix: str = ""
    keys: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.prefix or self.keys)

    def allows(self, change: Change) -> bool:
        """Tell whether a change is about one of these objects."""
        named = {identity(key) for key in (change.key, change.old_key) if key}
        if self.keys and not named & {identity(key) for key in self.keys}:
            return False
        return not self.prefix or any(key.startswith(identity(self.prefix)) for key in named)


@dataclass(frozen=True, slots=True, kw_only=True)
class Undo:
    """An undo as planned, or as it went."""

    run_id: str
    items: Spool[UndoItem]
    applied: bool = False
    stopped: Stopped | None = None
    refusals: tuple[Refusal, ...] = ()
    restored: int = 0
    """Objects the run brought out of quarantine."""
    has_uploads: bool = False
    """The run stored objects of its own."""
    only: Only = field(default_factory=Only)
    is_lost: bool = False
    """The bucket's manifest alone knows the run."""

    def counts(self) -> Counter[UndoAction]:
        return Counter(item.action for item in self.items)

    @property
    def has_work(self) -> bool:
        counts = self.counts()
        return bool(counts[UndoAction.UNDO] or counts[UndoAction.RESTORE])

    @property
    def findings(self) -> bool:
        counts = self.counts()
        return bool(counts[UndoAction.FAIL] or counts[UndoAction.SKIP])

    @property
    def question(self) -> str:
        counts = self.counts()
        noun = "file" if self._is_of_files else "object"
        return (
            f"Put back {format_count(counts[UndoAction.UNDO], 'value')} and"
            f" {format_count(counts[UndoAction.RESTORE], noun)} of run {self.run_id}?"
        )

    @property
    def _is_of_files(self) -> bool:
        return any(item.change.kind == ChangeKind.REMOVE for item in self.items)

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(self._notes())

    def _notes(self) -> Iterator[str]:
        rewrites = (item for item in self.items if item.change.kind == ChangeKind.REWRITE)
        if any(item.original for item in rewrites):
            yield "Local files that values name again come back from the bucket first."
        if self.has_uploads:
            yield "Objects the run uploaded stay in the bucket; purge_orphans takes them in time."
        if self.is_lost:
            yield (
                "This database does not know the run: the objects of the bucket's manifest come"
                " back, and no value of any row."
            )
        if self.restored:
            yield (
                f"What the run brought out of quarantine stays in the bucket:"
                f" {format_count(self.restored, 'object')}. purge_orphans takes what nothing names."
            )

    def summary(self) -> dict[str, Any]:
        counts = self.counts()
        names = ("undone", "restored") if self.applied else ("to_undo", "to_restore")
        return {
            "run": self.run_id,
            names[0]: counts[UndoAction.UNDO],
            names[1]: counts[UndoAction.RESTORE],
            "skipped": counts[UndoAction.SKIP],
            "failed": counts[UndoAction.FAIL],
            **({"already_there": counts[UndoAction.KEPT]} if self.is_lost else {}),
        }
