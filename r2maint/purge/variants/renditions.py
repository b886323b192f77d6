"""Objects kept because another one is: thumbnails and other renditions. Pure.

A pattern says what the rendition is called, with `*`, `?` and `[…]` as in a shell and one of
    {stem} {name}            file name of the original without and with extension; the pattern is
                             relative to the original's directory, or has {dir} where that stands
    {path_stem} {path}       the same with the directories, for renditions kept elsewhere
A pattern without any of them keeps whatever it matches.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from r2maint.keys.text import identity
from r2maint.purge.variants.rendition_presets import PRESETS

_PART = re.compile(
    r"\{(stem|name|path_stem|path|dir)\}|(\*)|(\?)"
    # Brackets around a placeholder are a file's own.
    r"|(\[!?\]?(?:(?!\{(?:stem|name|path_stem|path|dir)\})[^\]])*\])"
)
_IN_PLACE = ("stem", "name")

HasOriginal = Callable[[str], bool]
"""Whether an object is kept whose key, or whose key without extension, is this."""


class Derivations:
    """Patterns, ready to be asked about keys."""

    def __init__(
        self,
        patterns: Iterable[str],
        given: Mapping[str, Any] | None = None,
        locations: Iterable[str] = ("",),
    ) -> None:
        """Take patterns and names of presets.

        `given` are the settings of the apps the presets are for, and `locations` the prefixes of
        storages: what a preset calls a name may stand below any of them, its original below any
        other.
        """
        bases = tuple(dict.fromkeys(("", *map(_base, locations))))
        self._patterns: list[_Pattern] = []
        for pattern in patterns:
            if pattern in PRESETS:
                found = PRESETS[pattern](given or {})
                self._patterns += [_Pattern(one, base, bases) for one in found for base in bases]
            else:
                self._patterns.append(_Pattern(pattern, "", ("",)))

    def __bool__(self) -> bool:
        return bool(self._patterns)

    @property
    def texts(self) -> tuple[str, ...]:
        """What they are made of, in order: the same texts keep the same objects."""
        return tuple(sorted({f"{one.base}{one.text}" for one in self._patterns}))

    def is_kept(self, key: str, has_original: HasOriginal) -> bool:
        """Tell whether `key` is a rendition of an object that is kept."""
        name = identity(key)
        return any(pattern.is_kept(name, has_original) for pattern in self._patterns)


class _Piece(NamedTuple):
    """What a pattern has before its original: text without "*", "*" or the directory."""

    kind: str
    text: re.Pattern[str]


class _Pattern:
    """One pattern, cut behind its original, which may end wherever the rest fits.

    "{stem}-*" may mean any part of "my-nice-photo-200x200-crop.webp" that ends before a hyphen, and
    a "*" or {dir} before the original any part that comes before it: each is tried.
    """

    def __init__(self, pattern: str, base: str, bases: tuple[str, ...]) -> None:
        self.text, self.base, self._bases = identity(pattern), base, bases
        first = next((m for m in _PART.finditer(self.text) if m[1] not in (None, "dir")), None)
        self._in_place = first is not None and first[1] in _IN_PLACE
        head = self.text[: first.start()] if first else ""
        if self._in_place and "{dir}" not in head:
            head = "{dir}" + head
        rest = self.text[first.end() :] if first else self.text
        original = ("[^/]+" if self._in_place else ".+") if first else ""
        self._pieces = tuple(_pieces(head)) if first else None
        self._tail = re.compile(_expression(rest), re.S)
        self._whole = re.compile(_expression(head) + original + _expression(rest), re.S)

    def is_kept(self, key: str, has_original: HasOriginal) -> bool:
        if not key.startswith(self.base):
            return False
        name = key[len(self.base) :]
        if not self._whole.fullmatch(name):
            return False
        if self._pieces is None:
            return True
        wanted = (base + original for original in self._originals(name) for base in self._bases)
        return any(map(has_original, wanted))

    def _originals(self, name: str) -> Iterator[str]:
        assert self._pieces is not None
        for end in range(len(name), 0, -1):
            if self._tail.fullmatch(name, end):
                yield from self._ways(name[:end], self._pieces, 0, "")

    def _ways(
        self, text: str, pieces: tuple[_Piece, ...], at: int, directory: str
    ) -> Iterator[str]:
        """Yield every original that `text` may end with, once `pieces` have taken what they may."""
        if not pieces:
            if at < len(text) and not (self._in_place and "/" in text[at:]):
                yield directory + text[at:]
            return
        piece, *others = pieces
        rest = tuple(others)
        if piece.kind == "text":
            if match := piece.text.match(text, at):
                yield from self._ways(text, rest, match.end(), directory)
            return
        for end in range(at, len(text)):
            if piece.kind == "*":
                yield from self._ways(text, rest, end, directory)
            elif end == at or text[end - 1] == "/":
                yield from self._ways(text, rest, end, text[at:end])


def _pieces(head: str) -> Iterator[_Piece]:
    for text in filter(None, re.split(r"(\*|\{dir\})", head)):
        kind = text.strip("{}") if text in ("*", "{dir}") else "text"
        yield _Piece(kind, re.compile(_expression(text), re.S))


def _base(location: str) -> str:
    return f"{identity(location).strip('/')}/" if location.strip("/") else ""


def _expression(pattern: str) -> str:
    text, last = "", 0
    for match in _PART.finditer(pattern):
        text += re.escape(pattern[last : match.start()])
        text += _PLACEHOLDERS.get(match[1], "") if match[1] else _wild(match)
        last = match.end()
    return text + re.escape(pattern[last:])


_PLACEHOLDERS = {
    "stem": "[^/]+",
    "name": "[^/]+",
    "path_stem": ".+",
    "path": ".+",
    "dir": "(?:.*/)?",
}


def _wild(match: re.Match[str]) -> str:
    if match[2]:
        return ".*"
    return "." if match[3] else _one_of(match[4])


def _one_of(text: str) -> str:
    """Return what matches one of some characters, or the text as it stands: keys hold brackets."""
    negated = text[1] == "!"
    inner = text[2:-1] if negated else text[1:-1]
    if not inner:
        return re.escape(text)
    # Brackets of the file's own may hold wildcards as well: "[*].webp".
    itself = rf"\[{_expression(text[1:-1])}\]"
    escaped = "".join(letter if letter == "-" else re.escape(letter) for letter in inner)
    one = f"[{'^' if negated else ''}{escaped}]"
    try:
        re.compile(one)
    except re.error:
        return itself
    return f"(?:{itself}|{one})"
