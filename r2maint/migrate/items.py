"""What a migration is made of: one item per source, and what came of all of them. Values only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from r2maint.bucket import Headers, ObjectInfo
from r2maint.errors import Stopped
from r2maint.references.reading import Reference
from r2maint.references.swap import Rewrite
from r2maint.report import Refusal, format_bytes, format_count
from r2maint.spool import Spool

SUMMARY = (
    "references",
    "sources",
    "to_upload",
    "uploaded",
    "already_there",
    "to_rewrite",
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
    modified_ns: int = 0
    """When the source was last written, as it was hashed."""
    headers: Headers = field(default_factory=Headers)
    reason: str = ""
    references: tuple[Reference, ...] = ()
    rewrites: tuple[Rewrite, ...] = ()
    """For the references whose value changes; after an apply, for those whose value did."""
    changed: int = 0
    """Values that somebody else edited meanwhile, and that stayed."""
    refused: int = 0
    """Values that the database would not change; `reason` says why one of them."""

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
    local_media: tuple[str, ...] = ()
    """The URL prefixes of local media that were looked for."""
    applied: bool = False
    stopped: Stopped | None = None
    refusals: tuple[Refusal, ...] = ()

    @property
    def has_work(self) -> bool:
        return bool(self.counts["to_upload"] or self.counts["to_rewrite"])

    @property
    def findings(self) -> bool:
        return any(self.counts[name] for name in ("skipped", "failed", "changed", "refused"))

    @property
    def databases(self) -> frozenset[str]:
        """The aliases whose rows are to be rewritten."""
        return frozenset(each.reference.database for item in self.items for each in item.rewrites)

    @property
    def question(self) -> str:
        counts = self.counts
        return (
            f"Upload {format_count(counts['to_upload'], 'file')} ({format_bytes(counts['bytes'])})"
            f" and rewrite {format_count(counts['to_rewrite'], 'value')}?"
        )

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(_notes(self.counts, self.local_media))

    def summary(self) -> dict[str, int]:
        return {name: self.counts[name] for name in SUMMARY}


def _notes(counts: Mapping[str, int], local_media: tuple[str, ...]) -> Iterator[str]:
    if not local_media:
        yield (
            "No local media is known: MEDIA_URL and MEDIA_ROOT do not name any. Set LOCAL_MEDIA in"
            ' R2MAINT: {"/media/": "/srv/media"}.'
        )
    elif not counts["references"]:
        yield f"No value in scope names a file below {', '.join(local_media)} (LOCAL_MEDIA)."
    if counts["changed"]:
        yield f"{format_count(counts['changed'], 'value')} changed meanwhile and stayed."
    if counts["refused"]:
        refused = format_count(counts["refused"], "value")
        yield f"{refused} stayed because the database did not take the new one; see 'reason'."
    if counts["private_left"]:
        yield (
            f"{format_count(counts['private_left'], 'file')} of storages outside LOCAL_MEDIA stay"
            " private. Name their fields in FIELDS to move them."
        )
    if counts["embedded_left"]:
        yield (
            f"{format_count(counts['embedded_left'], 'address', 'addresses')} of local media inside"
            " longer text stay as they are."
        )


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
        counts["refused"] += item.refused
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
