"""What would mend one reference, and what came of it. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from r2maint.bucket.protocol import StoredObject
from r2maint.keys import redact


class RepairKind(StrEnum):
    """What was wrong, as `--repair` names it."""

    ALIAS = "alias"
    """Another base of the bucket."""
    ENDPOINT = "endpoint"
    """The S3 endpoint."""
    PRESIGNED = "presigned"
    RESPELLED = "respelled"
    """Another spelling of an existing key."""
    QUARANTINED = "quarantined"
    """Absent, with a copy in quarantine."""
    MOVED = "moved"
    """Absent, with its very bytes under another key."""


OF_OTHERS = (RepairKind.RESPELLED, RepairKind.MOVED)
"""Kinds whose new value names another key than the old one."""


class RepairAction(StrEnum):
    """What becomes of a repair."""

    PLAN = "plan"
    DONE = "done"
    CHANGED = "changed"
    """Edited or deleted meanwhile: it stays as it is."""
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """How one reference is mended."""

    kind: RepairKind
    key: str
    """Of the object it names then."""
    new: str
    """The value it holds then, in the shape of the old one."""
    action: RepairAction = RepairAction.PLAN
    reason: str = ""
    """Why it cannot be done, or was not."""
    stored: StoredObject | None = None
    """The object as listed; None for one that is to be restored."""
    copy: str = ""
    """QUARANTINED: where its copy lies."""
    absent: tuple[str, ...] = ()
    """Keys the old value may mean: while one of them is there, the value stays."""

    def as_dict(self) -> dict[str, str | None]:
        return {
            "kind": self.kind.value,
            "key": self.key,
            "new": redact(self.new) or None,
            "action": self.action.value,
            "reason": self.reason or None,
        }


Counts = Mapping[tuple[RepairKind, RepairAction], int]
"""How many references of each kind a run would repair, repaired, or could not."""


def total(counts: Counts, *actions: RepairAction) -> int:
    """Return how many repairs came to one of these."""
    return sum(count for (_, action), count in counts.items() if action in actions)


def told(counts: Counts) -> str:
    """Return what a plan would repair, by kind: "2 alias, 1 moved"."""
    kinds = {kind: counts.get((kind, RepairAction.PLAN), 0) for kind in RepairKind}
    return ", ".join(f"{count:,} {kind.value}" for kind, count in kinds.items() if count)
