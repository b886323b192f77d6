"""What a migration is made of: one item per source, and what came of all of them. Values only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from r2maint.bucket import Headers, ObjectInfo
from r2maint.errors import Stopped
from r2maint.references import Reference
from r2maint.report import Refusal, format_bytes, format_count
from r2maint.spool import Spool
from r2maint.swap import Rewrite

SUMMARY = (
    "references",
    "sources",
    "to_upload",
    "uploaded",
    "already_there",
    "rewritten",
    "skipped",
    "failed",
    "bytes",
    "embedded_left",
)


class Action(str, Enum):
    """What a migration does with one source."""

    UPLOAD = "upload"
    REUSE = "reuse"
    SKIP = "skip"
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One source and every reference that names it."""

    action: Action
    source: str
    key: str = ""
    url: str = ""
    bytes: int = 0
    sha256: str = ""
    md5: str = ""
    headers: Headers = field(default_factory=Headers)
    reason: str = ""
    references: tuple[Reference, ...] = ()
    rewrites: tuple[Rewrite, ...] = ()
    """For the references whose value changes; after an apply, for those whose value did."""
    changed: int = 0
    """Values that somebody else edited meanwhile, and that stayed."""

    def as_dict(self) -> dict[str, Any]:
        new = {rewrite.reference: rewrite.new for rewrite in self.rewrites}
        return {
            "action": self.action.value,
            "source": self.source,
            "key": self.key or None,
            "url": self.url or None,
            "bytes": self.bytes,
            "sha256": self.sha256 or None,
            "reason": self.reason or None,
            "references": [
                reference.as_dict() | {"new": new.get(reference)} for reference in self.references
            ],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """A migration as planned, or as it went: one item per source."""

    items: Spool[Item]
    counts: Mapping[str, int]
    applied: bool = False
    stopped: Stopped | None = None
    refusals: tuple[Refusal, ...] = ()

    @property
    def has_work(self) -> bool:
        return bool(self.counts["to_upload"] or self.counts["to_rewrite"])

    @property
    def findings(self) -> bool:
        return bool(self.counts["skipped"] or self.counts["failed"] or self.counts["changed"])

    @property
    def question(self) -> str:
        counts = self.counts
        return (
            f"Upload {format_count(counts['to_upload'], 'file')} ({format_bytes(counts['bytes'])})"
            f" and rewrite {format_count(counts['to_rewrite'], 'value')}?"
        )

    @property
    def notes(self) -> tuple[str, ...]:
        if not self.counts["changed"]:
            return ()
        return (f"{format_count(self.counts['changed'], 'value')} changed meanwhile and stayed.",)

    def summary(self) -> dict[str, int]:
        return {name: self.counts[name] for name in SUMMARY}


def holds_same_bytes(stored: ObjectInfo, item: Item) -> bool:
    """Tell whether an object is the item's source: by SHA-256 where recorded, else by MD5."""
    if stored.size != item.bytes:
        return False
    recorded = stored.headers.metadata.get("sha256")
    return recorded == item.sha256 if recorded else stored.etag == item.md5


def count_items(items: Iterable[Item], *, applied: bool) -> Counter[str]:
    counts: Counter[str] = Counter()
    for item in items:
        counts["sources"] += 1
        counts["references"] += len(item.references)
        counts["rewritten" if applied else "to_rewrite"] += len(item.rewrites)
        counts["changed"] += item.changed
        counts[_OUTCOMES[item.action, applied]] += 1
        counts["bytes"] += item.bytes * (item.action is Action.UPLOAD)
    return counts


_OUTCOMES = {
    (Action.UPLOAD, False): "to_upload",
    (Action.UPLOAD, True): "uploaded",
} | {
    (action, applied): name
    for action, name in (
        (Action.REUSE, "already_there"),
        (Action.SKIP, "skipped"),
        (Action.FAIL, "failed"),
    )
    for applied in (False, True)
}
