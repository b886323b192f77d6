"""Strings inside JSON text: where each one stands, and how to exchange one and nothing else.

Decoding and encoding again would change what people stored: spacing, `\\/`, raw Arabic, duplicate
keys, decimals longer than a float. So the text is scanned, and only the characters of one string
token are ever replaced. Accepts exactly what `json.loads` accepts (NaN and Infinity too), at any
depth.

Source: RFC 8259 (JSON), RFC 6901 (JSON pointer).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from json.decoder import scanstring  # type: ignore[attr-defined]  # json.loads's own, in C
from typing import NamedTuple

Edit = tuple[str, str, str]
"""(pointer, old value, new value)."""
Cut = tuple[int, int, str]
"""(start, end, new text) of a part of one value."""

_SPACE = r"[ \t\n\r]*"
_PLAIN = r'"([^"\\\x00-\x1f]*)"'
_LITERAL = r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?|true|false|null|NaN|-?Infinity"
_VALUE = re.compile(rf'{_SPACE}(?:(["\[{{])|{_LITERAL})')
_NEXT = re.compile(rf"{_SPACE}([,\]}}])")
_CLOSE = {mark: re.compile(rf"{_SPACE}\{mark}") for mark in "]}"}
_QUOTE = re.compile(rf'{_SPACE}"')
_COLON = re.compile(rf"{_SPACE}:")
_END = re.compile(rf"{_SPACE}\Z")
_HIGH, _LOW = r"\\u[dD][89abAB][0-9a-fA-F]{2}", r"\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_CHARACTER = re.compile(rf"{_HIGH}{_LOW}|\\u[0-9a-fA-F]{{4}}|\\.|.", re.DOTALL)
_PLAIN_STRING = re.compile(_PLAIN)
_PLAIN_LIST = re.compile(
    rf"{_SPACE}\[{_SPACE}{_PLAIN}(?:{_SPACE},{_SPACE}{_PLAIN})*{_SPACE}\]{_SPACE}\Z"
)

_AS_BEFORE: Mapping[tuple[str, str], Sequence[str]] = {}


class JsonString(NamedTuple):
    """One string value; object keys are not values."""

    pointer: str
    """Duplicate keys share one."""
    start: int
    """Index of the opening quote."""
    end: int
    """Index after the closing quote."""
    value: str


class _Place:
    """An open list or object, and which of its members is at hand."""

    __slots__ = ("closer", "index", "name", "prefix")

    def __init__(self, prefix: str, closer: str) -> None:
        self.prefix = prefix
        self.closer = closer
        self.index = 0
        self.name = ""

    def pointer(self) -> str:
        return f"{self.prefix}/{self.index if self.closer == ']' else self.name}"


def strings(raw: str) -> Iterator[JsonString]:
    """Yield every string value of one JSON document, in the order of the text.

    Text after the last token taken is not checked. Raises: ValueError where the text is not JSON.
    """
    if _PLAIN_LIST.match(raw):  # most cells: a list of URLs without any escape
        for index, found in enumerate(_PLAIN_STRING.finditer(raw)):
            yield JsonString(f"/{index}", found.start(), found.end(), found[1])
    else:
        yield from _scan(raw)


def plain_list(raw: str) -> list[str]:
    """Return the values of a list of strings without any escape, most of all cells; [] of others.

    Their pointers are "/0", "/1" and so on.
    """
    return _PLAIN_STRING.findall(raw) if _PLAIN_LIST.match(raw) else []


def _scan(raw: str) -> Iterator[JsonString]:
    stack: list[_Place] = []
    position = 0
    while position >= 0:
        found = _match(_VALUE, raw, position)
        position = found.end()
        if found[1] == '"':
            value, end = scanstring(raw, position, True)
            yield JsonString(stack[-1].pointer() if stack else "", position - 1, end, value)
            position = _next_member(raw, end, stack)
        elif found[1] is None:
            position = _next_member(raw, position, stack)
        else:
            prefix = stack[-1].pointer() if stack else ""
            stack.append(_Place(prefix, "]" if found[1] == "[" else "}"))
            position = _first_member(raw, position, stack)


def _first_member(raw: str, position: int, stack: list[_Place]) -> int:
    """Return where the first value of the list or object just opened begins, or what follows it."""
    place = stack[-1]
    if closed := _CLOSE[place.closer].match(raw, position):
        stack.pop()
        return _next_member(raw, closed.end(), stack)
    return position if place.closer == "]" else _read_name(raw, position, place)


def _next_member(raw: str, position: int, stack: list[_Place]) -> int:
    """Return where the value after the one that ends at `position` begins, or -1 at the end."""
    while stack:
        found = _match(_NEXT, raw, position)
        place, position = stack[-1], found.end()
        if found[1] == ",":
            place.index += 1
            return position if place.closer == "]" else _read_name(raw, position, place)
        if found[1] != place.closer:
            raise ValueError(f"Not JSON: {found[1]!r} before character {position}.")
        stack.pop()
    _match(_END, raw, position)
    return -1


def _read_name(raw: str, position: int, place: _Place) -> int:
    name, position = scanstring(raw, _match(_QUOTE, raw, position).end(), True)
    place.name = name.replace("~", "~0").replace("/", "~1")
    return _match(_COLON, raw, position).end()


def _match(pattern: re.Pattern[str], raw: str, position: int) -> re.Match[str]:
    found = pattern.match(raw, position)
    if found is None:
        raise ValueError(f"Not JSON: character {position}.")
    return found


class Applied(NamedTuple):
    """What some edits made of a text."""

    text: str
    found: list[bool]
    """For each edit whether it still applied."""
    tokens: dict[tuple[str, str], list[str]]
    """By (pointer, old value) the tokens that were exchanged, where their spelling is not the one
    that an edit back would choose."""


def replace(raw: str, edits: Sequence[Edit]) -> str | None:
    """Return `raw` with each edit's token exchanged, or None when one of them is not there."""
    applied = apply(raw, edits)
    return applied.text if all(applied.found) else None


def apply(
    raw: str, edits: Sequence[Edit], spelled: Mapping[tuple[str, str], Sequence[str]] = _AS_BEFORE
) -> Applied:
    """Return `raw` with the edits that still apply.

    An edit applies to every token at its pointer whose value is its old value (several where keys
    are duplicated). All other characters stay. `spelled` gives the new tokens of some edits as
    `Applied.tokens` had them. Raises: ValueError when `raw` is not JSON.
    """
    wanted = {(pointer, old): new for pointer, old, new in edits}
    tokens: dict[tuple[str, str], list[str]] = {}
    pieces: list[str] = []
    copied = 0
    for token in strings(raw):
        element = (token.pointer, token.value)
        if element in wanted:
            like = raw[token.start : token.end]
            mine = tokens.setdefault(element, [])
            given = spelled.get(element, ())[len(mine) : len(mine) + 1]
            mine.append(like)
            pieces += raw[copied : token.start], _token(wanted[element], like, *given)
            copied = token.end
    pieces.append(raw[copied:])
    found = [(pointer, old) in tokens for pointer, old, _ in edits]
    odd = {each: some for each, some in tokens.items() if _is_odd(each[1], wanted[each], some)}
    return Applied("".join(pieces), found, odd)


def _token(value: str, like: str, given: str = "") -> str:
    """Return a value as a JSON string: as it is given, if that means it, else like another one."""
    try:
        is_meant = bool(given) and json.loads(given) == value
    except ValueError:
        is_meant = False
    return given if is_meant else _encode(value, like)


def _is_odd(old: str, new: str, tokens: Sequence[str]) -> bool:
    """Tell whether a token of the old value is spelled unlike what an edit back would make."""
    return any(_encode(old, _encode(new, token)) != token for token in set(tokens))


def apply_cuts(raw: str, cuts: Mapping[int, Sequence[Cut]]) -> str:
    """Return `raw` with parts of string values exchanged, and every other character as it was.

    `cuts` goes by `Token.start`; each cut speaks of the decoded value, in order. Raises: ValueError
    when `raw` is not JSON.
    """
    pieces: list[str] = []
    copied = 0
    for token in strings(raw):
        if wanted := cuts.get(token.start):
            like = raw[token.start : token.end]
            at = _offsets(like)
            for start, end, new in wanted:
                pieces += raw[copied : token.start + at[start]], _encode(new, like)[1:-1]
                copied = token.start + at[end]
    pieces.append(raw[copied:])
    return "".join(pieces)


def _offsets(token: str) -> list[int]:
    """Return where in a token each character of its value begins, and where the last one ends."""
    units = _CHARACTER.finditer(token, 1, len(token) - 1)
    return [*(unit.start() for unit in units), len(token) - 1]


def values_at(raw: str, pointer: str) -> list[str]:
    """Return the string values at one pointer; several where keys are duplicated."""
    return [token.value for token in strings(raw) if token.pointer == pointer]


def is_same(one: str, other: str) -> bool:
    """Tell whether two texts differ in nothing but how their string values are escaped."""
    if one == other:
        return True
    try:
        return list(_without_escapes(one)) == list(_without_escapes(other))
    except ValueError:
        return False


def _without_escapes(raw: str) -> Iterator[str]:
    """Yield what stands before each string value, the value itself, and what stands at the end."""
    copied = 0
    for token in strings(raw):
        yield raw[copied : token.start]
        yield token.value
        copied = token.end
    yield raw[copied:]


def _encode(value: str, like: str) -> str:
    """Return `value` as a JSON string escaped the way the token `like` is."""
    text = json.dumps(value, ensure_ascii=like.isascii())
    return text.replace("/", "\\/") if "\\/" in like else text
