"""What a migration is made of: one item per source, and what came of all of them. Values only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from r2maint.errors import Stopped
from r2maint.images import Recipe
from r2maint.keys import redact
from r2maint.migrate.cost import MigrationCost
from r2maint.references.edit_cell import Rewrite
from r2maint.references.reference import JOINED_ON, Reference
from r2maint.rendering import Refusal, format_bytes, format_count
from r2maint.scratch.spool import Spool

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
    "external_left",
    "still_named",
)


class MigrationAction(StrEnum):
    """What a migration does with one source."""

    UPLOAD = "upload"
    REUSE = "reuse"
    SKIP = "skip"
    FAIL = "fail"


# Without slots: items are spooled by the million, and dicts are pickled in C.
@dataclass(frozen=True, kw_only=True)
class MigrationItem:
    """One source and every reference that names it."""

    action: MigrationAction
    source: str
    """The file's path, or the URL as the row has it."""
    is_remote: bool = False
    recipe: Recipe | None = None
    """How the picture is to be re-encoded on the way."""
    key: str = ""
    """"" while the bytes to be stored are not known."""
    url: str = ""
    bytes: int = 0
    sha256: str = ""
    """Of the source; once a re-encoded picture was made, of that."""
    modified_ns: int = 0
    """When a local source was last written, as it was hashed."""
    content_type: str = ""
    cache_control: str = ""
    marks: Mapping[str, str] = field(default_factory=dict)
    """Metadata of the object beside its hash."""
    reason: str = ""
    references: tuple[Reference, ...] = ()
    rewrites: tuple[Rewrite, ...] = ()
    """For the references whose value changes; after an apply, for those whose value did."""
    changed: int = 0
    """Values that somebody else edited meanwhile, and that stayed."""
    refused: int = 0
    """Values that the database would not change; `reason` says why one of them."""

    @property
    def is_open(self) -> bool:
        """Whether key and new values are known only once the bytes are at hand."""
        return self.action is MigrationAction.UPLOAD and not self.key

    @property
    def to_rewrite(self) -> int:
        """How many values are to change."""
        return len(self.references) if self.is_open else len(self.rewrites)

    @property
    def has_work(self) -> bool:
        return self.action is MigrationAction.UPLOAD or bool(self.rewrites)

    def as_dict(self) -> dict[str, Any]:
        new = {rewrite.reference: rewrite.new for rewrite in self.rewrites}
        return {
            "action": self.action.value,
            "source": redact(self.source) if self.is_remote else self.source,
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

    items: Spool[MigrationItem]
    counts: Mapping[str, int]
    forecast: MigrationCost
    databases: frozenset[str] = frozenset()
    """The aliases whose rows are to be rewritten."""
    local_media: tuple[str, ...] = ()
    """The URL prefixes of local media that were looked for."""
    absent_media: tuple[str, ...] = ()
    """Directories of local media that are not there."""
    joined: Mapping[str, int] = field(default_factory=dict)
    """Values left in columns that other tables join on, by "app.Model.field"."""
    set_on_update: tuple[str, ...] = ()
    """Columns of rows to be rewritten that the database sets with it, as "table.column"."""
    applied: bool = False
    stopped: Stopped | None = None
    refusals: tuple[Refusal, ...] = ()

    @property
    def has_work(self) -> bool:
        return bool(self.counts["to_upload"] or self.counts["to_rewrite"])

    @property
    def findings(self) -> bool:
        names = ("skipped", "failed", "changed", "refused", "still_named")
        return any(self.counts[name] for name in names)

    @property
    def question(self) -> str:
        counts = self.counts
        fetched = f", {counts['to_fetch']:,} of them fetched" if counts["to_fetch"] else ""
        return (
            f"Upload {format_count(counts['to_upload'], 'file')}"
            f" ({format_bytes(counts['bytes'])}{fetched})"
            f" and rewrite {format_count(counts['to_rewrite'], 'value')}?"
        )

    @property
    def extra(self) -> Mapping[str, Any]:
        return {"forecast": self.forecast.as_dict()}

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(_notes(self))

    def summary(self) -> dict[str, int]:
        return {name: self.counts[name] for name in SUMMARY}


def _notes(result: Migration) -> Iterator[str]:
    counts = result.counts
    if not result.local_media:
        yield (
            "No local media is known: MEDIA_URL and MEDIA_ROOT do not name any. Set LOCAL_MEDIA in"
            ' R2MAINT: {"/media/": "/srv/media"}.'
        )
    elif not counts["references"]:
        yield f"No value in scope names a file below {', '.join(result.local_media)} (LOCAL_MEDIA)."
    for directory in result.absent_media:
        yield f"A directory of local media is not there: {directory}. Is it mounted on this host?"
    if result.has_work and not result.applied:
        yield result.forecast.as_sentence()
    if result.set_on_update:
        yield (
            "The database itself sets these columns of each row that is rewritten (ON UPDATE), and"
            f" an undo does not set them back: {', '.join(result.set_on_update)}."
        )
    for name, count in sorted(result.joined.items()):
        yield (
            f"Left as before: {format_count(count, 'value')} of {name}, which name local media:"
            f" {JOINED_ON}. Rewrite both sides in one transaction of your own."
        )
    yield from _left(counts)


def _left(counts: Mapping[str, int]) -> Iterator[str]:
    """Yield what a migration leaves as it is, and how to change that."""
    if counts["changed"]:
        yield f"{format_count(counts['changed'], 'value')} changed meanwhile and stayed."
    if counts["refused"]:
        refused = format_count(counts["refused"], "value")
        yield f"{refused} stayed because the database did not take the new one; see 'reason'."
    if counts["still_named"]:
        yield (
            "Still named although it was moved: by"
            f" {format_count(counts['still_named'], 'value')}, written since or refused. Run the"
            " same command again."
        )
    if counts["private_left"]:
        yield (
            f"Left private: {format_count(counts['private_left'], 'file')} of storages whose"
            " address does not lead to the file through LOCAL_MEDIA. Name their fields in FIELDS to"
            " move them."
        )
    if counts["external_left"]:
        yield (
            f"Left as before: {format_count(counts['external_left'], 'external URL')} in fields"
            " that FIELDS names; --remote fetches what is public."
        )
    if counts["embedded_left"]:
        yield (
            f"Left as before: {format_count(counts['embedded_left'], 'address', 'addresses')} of"
            ' local media inside longer text; "text": True in FIELDS moves such addresses.'
        )


def count_item(counts: Counter[str], item: MigrationItem, *, applied: bool) -> MigrationItem:
    """Add an item to the counts and return it."""
    counts["sources"] += 1
    counts["references"] += len(item.references)
    counts["rewritten" if applied else "to_rewrite"] += item.to_rewrite
    counts["changed"] += item.changed
    counts["refused"] += item.refused
    counts[_OUTCOMES[item.action, applied]] += 1
    if item.action is MigrationAction.UPLOAD:
        counts["bytes"] += item.bytes
        counts["to_fetch"] += item.is_remote
    return item


_OUTCOMES = {
    (MigrationAction.UPLOAD, False): "to_upload",
    (MigrationAction.UPLOAD, True): "uploaded",
} | {
    (action, applied): name
    for action, name in (
        (MigrationAction.REUSE, "already_there"),
        (MigrationAction.SKIP, "skipped"),
        (MigrationAction.FAIL, "failed"),
    )
    for applied in (False, True)
}
