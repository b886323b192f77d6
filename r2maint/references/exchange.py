"""What the stored text of one cell becomes when elements in it are exchanged. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from r2maint.references import jsontext
from r2maint.references.columns import ColumnKind
from r2maint.references.reading import Reference


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrite:
    """One element to exchange."""

    reference: Reference
    new: str
    key: str = ""
    """The key `new` means."""
    sha256: str = ""
    extra: Mapping[str, int | None] = field(default_factory=dict, hash=False)
    """Further columns of the row that follow: field -> value (an image's width and height)."""


class Swapped(str, Enum):
    """How one rewrite ended; only DONE changed anything."""

    DONE = "done"
    CHANGED = "changed"
    """Somebody edited the element since it was read: their value stays."""
    GONE = "gone"
    """The row, or its model, is no longer there."""
    TOO_LONG = "too_long"
    """The new value does not fit its column."""
    BUSY = "busy"
    """The row stayed locked."""
    REFUSED = "refused"
    """A constraint, trigger or policy of the database does not allow the new value."""


def exchange(
    kind: ColumnKind, text: str | None, rewrites: list[Rewrite]
) -> tuple[str, dict[Rewrite, Swapped]]:
    """Return the cell's new text, and how those rewrites end that do not go into it.

    Those are CHANGED, or DONE where the element already is what it should become.
    """
    if text is None:
        return "", dict.fromkeys(rewrites, Swapped.CHANGED)
    chosen: dict[tuple[str, str], Rewrite] = {}
    for rewrite in rewrites:
        chosen.setdefault((rewrite.reference.path, rewrite.reference.value), rewrite)
    edits = [(path, old, rewrite.new) for (path, old), rewrite in chosen.items()]
    if kind in (ColumnKind.JSON, ColumnKind.ARRAY):
        new, applied = _apply_json(text, edits)
    else:
        new, applied = _apply_whole(text, edits)
    made = {rewrite for rewrite, is_made in zip(chosen.values(), applied, strict=True) if is_made}
    rest = [rewrite for rewrite in rewrites if rewrite not in made]
    return new, {rewrite: _lost_or_there(kind, text, rewrite) for rewrite in rest}


def _apply_json(text: str, edits: list[jsontext.Edit]) -> tuple[str, list[bool]]:
    try:
        return jsontext.apply(text, edits)
    except ValueError:
        return text, [False] * len(edits)


def _apply_whole(text: str, edits: list[jsontext.Edit]) -> tuple[str, list[bool]]:
    applied = [not path and old == text for path, old, _ in edits]
    return next((new for _, old, new in edits if old == text), text), applied


def _lost_or_there(kind: ColumnKind, text: str, rewrite: Rewrite) -> Swapped:
    """Return DONE where the element already is what it should become."""
    if kind in (ColumnKind.JSON, ColumnKind.ARRAY):
        try:
            values = jsontext.values_at(text, rewrite.reference.path)
        except ValueError:
            values = []
    else:
        values = [text]
    return Swapped.DONE if rewrite.new in values else Swapped.CHANGED
