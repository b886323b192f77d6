"""What the stored text of one cell becomes when elements in it are exchanged. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from r2maint.references import json_text
from r2maint.references.column import Column, ColumnKind
from r2maint.references.reference import Reference, Shape
from r2maint.references.urls_in_text import Passage, cut


# Without slots: rewrites are spooled by the million, and dicts are pickled in C.
@dataclass(frozen=True, kw_only=True)
class Rewrite:
    """One element to exchange."""

    reference: Reference
    new: str
    key: str = ""
    """The key `new` means."""
    sha256: str = ""
    extra: Mapping[str, int | None] = field(default_factory=dict)
    """Further columns of the row that follow: field -> value (an image's width and height)."""
    made: tuple[bool, ...] = ()
    """EMBEDDED: which of the occurrences are meant, as `Exchanged.made` has it; () means all."""
    spelled: tuple[str, ...] = ()
    """In JSON: the tokens of `new`, as `Exchanged.spelled` has them; () means like the old ones."""

    def __hash__(self) -> int:
        # Looked up many times, and the hash of every field takes longer than a comparison.
        return hash((self.reference.value, self.reference.pk, self.new))


class Swapped(StrEnum):
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
    """A constraint, trigger or policy of the database does not allow the new value or stores
    another one, or it would not stand as an address of its own in the text around it."""


@dataclass(slots=True, kw_only=True)
class Exchanged:
    """What a cell becomes."""

    text: str
    settled: dict[Rewrite, Swapped] = field(default_factory=dict)
    """How those rewrites end that do not go into `text`."""
    made: dict[Rewrite, list[bool]] = field(default_factory=dict)
    """EMBEDDED: of each occurrence of `new`, in order, whether the rewrite put it there.

    Rewrites count one after the other: undone in the opposite order, each finds what it left.
    """
    spelled: dict[Rewrite, list[str]] = field(default_factory=dict)
    """In JSON: the tokens of the old value as they stood, where a way back must know them."""


def exchange(column: Column, text: str | None, rewrites: list[Rewrite]) -> Exchanged:
    """Return the cell's new text, and what became of each rewrite.

    Those that do not go into it are CHANGED, or DONE where the element already is what it should
    become; addresses inside longer text may be TOO_LONG or REFUSED too.
    """
    if text is None:
        return Exchanged(text="", settled=dict.fromkeys(rewrites, Swapped.CHANGED))
    inside = [each for each in rewrites if each.reference.shape is Shape.EMBEDDED]
    whole = [each for each in rewrites if each.reference.shape is not Shape.EMBEDDED]
    result = _exchange_whole(column.kind, text, whole)
    for path in dict.fromkeys(each.reference.path for each in inside):
        _exchange_inside(result, column, path, [r for r in inside if r.reference.path == path])
    return result


def _exchange_whole(kind: ColumnKind, text: str, rewrites: list[Rewrite]) -> Exchanged:
    chosen: dict[tuple[str, str], Rewrite] = {}
    for rewrite in rewrites:
        chosen.setdefault((rewrite.reference.path, rewrite.reference.value), rewrite)
    applied = _apply(kind, text, chosen)
    made = {each for each, is_made in zip(chosen.values(), applied.found, strict=True) if is_made}
    rest = [rewrite for rewrite in rewrites if rewrite not in made]
    return Exchanged(
        text=applied.text,
        settled={rewrite: _lost_or_there(kind, text, rewrite) for rewrite in rest},
        spelled={chosen[element]: tokens for element, tokens in applied.tokens.items()},
    )


def _apply(
    kind: ColumnKind, text: str, chosen: Mapping[tuple[str, str], Rewrite]
) -> json_text.Applied:
    edits = [(path, old, rewrite.new) for (path, old), rewrite in chosen.items()]
    if kind not in (ColumnKind.JSON, ColumnKind.ARRAY):
        new = next((new for _, old, new in edits if old == text), text)
        return json_text.Applied(new, [not path and old == text for path, old, _ in edits], {})
    spelled = {each: rewrite.spelled for each, rewrite in chosen.items() if rewrite.spelled}
    try:
        return json_text.apply(text, edits, spelled)
    except ValueError:
        return json_text.Applied(text, [False] * len(edits), {})


def _lost_or_there(kind: ColumnKind, text: str, rewrite: Rewrite) -> Swapped:
    """Return DONE where the element already is what it should become."""
    values = elements_at(kind, text, rewrite.reference.path)
    return Swapped.DONE if rewrite.new in values else Swapped.CHANGED


def elements_at(kind: ColumnKind, text: str, path: str) -> list[str]:
    """Return the values at a path of a cell; of JSON with duplicate keys, several."""
    return [token.value for token in _elements(kind, text, path)]


def _elements(kind: ColumnKind, text: str, path: str) -> list[json_text.JsonString]:
    """Return what stands at a path: of JSON with duplicate keys, several."""
    if kind not in (ColumnKind.JSON, ColumnKind.ARRAY):
        return [json_text.JsonString("", 0, len(text), text)]
    try:
        return [token for token in json_text.strings(text) if token.pointer == path]
    except ValueError:
        return []


# Addresses inside longer text


def _exchange_inside(
    result: Exchanged, column: Column, path: str, rewrites: Iterable[Rewrite]
) -> None:
    """Exchange addresses in the elements at one path; all of them, or none that would not do."""
    elements = _elements(column.kind, result.text, path)
    passage = Passage([element.value for element in elements])
    made: dict[Rewrite, list[bool]] = {}
    for rewrite in dict.fromkeys(rewrites):
        old, new = rewrite.reference.value, rewrite.new
        if places := passage.exchange(old, new, rewrite.made):
            made[rewrite] = places
        else:
            is_done = passage.is_there(old, new)
            result.settled[rewrite] = Swapped.DONE if is_done else Swapped.CHANGED
    if objection := _objection(column, passage):
        result.settled |= dict.fromkeys(made, objection)
    elif made:
        result.made |= made
        result.text = _with_cuts(column.kind, result.text, elements, passage)


def _objection(column: Column, passage: Passage) -> Swapped | None:
    longest = max(map(len, passage.texts()), default=0)
    if column.max_length is not None and longest > column.max_length:
        return Swapped.TOO_LONG
    return None if passage.can_be_read_back() else Swapped.REFUSED


def _with_cuts(
    kind: ColumnKind, text: str, elements: list[json_text.JsonString], passage: Passage
) -> str:
    cuts = {token.start: each for token, each in zip(elements, passage.cuts(), strict=True)}
    if kind in (ColumnKind.JSON, ColumnKind.ARRAY):
        return json_text.apply_cuts(text, cuts)
    return cut(text, cuts[0])
