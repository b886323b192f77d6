"""What a plan makes of an object, and what is done about it. Values only."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from r2maint.bucket import StoredObject


class PurgeVerdict(StrEnum):
    """What a plan makes of one object."""

    ORPHAN = "orphan"
    TOO_YOUNG = "too_young"
    WAITING = "waiting"
    """Not seen orphaned long enough ago by an earlier run."""
    PROTECTED = "protected"
    DERIVED = "derived"
    KIN = "kin"
    """An image beside a named object, as a variant of it would lie."""
    UNMANAGED = "unmanaged"
    NAMED = "named"
    """Of these two only --explain speaks."""
    ABSENT = "absent"


UNNAMED = frozenset({PurgeVerdict.ORPHAN, PurgeVerdict.TOO_YOUNG, PurgeVerdict.WAITING})


class PurgeAction(StrEnum):
    """What is done about one object."""

    PLAN = "plan"
    QUARANTINE = "quarantine"
    DELETE = "delete"
    RESTORE = "restore"
    KEPT = "kept"
    FAIL = "fail"


class PurgeItem(NamedTuple):
    """One object that nothing names, and what is made of it."""

    object: StoredObject
    verdict: PurgeVerdict
    action: PurgeAction
    reason: str
    due_at: datetime | None = None
    """When it may be deleted, if it is still an orphan then."""

    def as_dict(self) -> dict[str, Any]:
        return {
            "key": self.object.key,
            "bytes": self.object.size,
            "modified_at": self.object.modified_at,
            "verdict": self.verdict.value,
            "action": self.action.value,
            "due_at": self.due_at,
            "reason": self.reason,
        }
