"""The other texts a text may stand for: JSON, HTML, percent and hex escapes undone. Pure.

Texts hold many cells, separated by NUL, so that each step is one pass at C speed over the cells
that have something to undo.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from urllib.parse import unquote_to_bytes

SEPARATOR = "\0"

# JSON in JSON in an HTML attribute, or a URL in the query of a URL in JSON in HTML.
_DEPTH = 5
_PERCENT = re.compile("(?:%[0-9A-Fa-f]{2})+")
_BACKSLASH = re.compile(
    r"(?:\\u[0-9A-Fa-f]{4})+|\\U[0-9A-Fa-f]{8}|\\x[0-9A-Fa-f]{2}|\\u\{[0-9A-Fa-f]{1,6}\}"
    r"|(?:\\[0-3][0-7]{2})+|\\.",
    re.S,
)
# As PostgreSQL writes the bytes in an array or a composite value.
_HEX_BYTES = re.compile(r"\\+x((?:[0-9A-Fa-f]{2}){2,})")
_NO_STEP = re.compile(r"(?<!:)(?:/\.?)+(?=/)")
_STEP_BACK = re.compile(r"/(?!\.\./)[^/\s\"'<>]+/\.\.(?=/)")
_SHORT = dict(zip("nrtbfv0", "\n\r\t\b\f\v ", strict=True))

_Undo = tuple[str, Callable[[str], str]]


def iter_spellings(text: str, *, plus: bool = False) -> Iterator[str]:
    """Yield `text`, and each further text that undoing its escapes gives.

    A further text holds only the cells that changed. `plus` also reads "+" as a space, as forms
    write it.
    """
    seen = {text}
    level = [text]
    yield text
    for _ in range(_DEPTH):
        level = [new for old in level for new in _undone(old, plus) if not _known(new, seen)]
        if not level:
            return
        yield from level


def turned(text: str) -> str:
    """Return the cells that hold backslashes with slashes for them: paths written on Windows."""
    cells = (cell for cell in text.split(SEPARATOR) if "\\" in cell)
    return SEPARATOR.join(cells).replace("\\", "/") if "\\" in text else ""


def resolved(text: str) -> str:
    """Return the cells whose paths hold empty, "." or ".." segments, without these.

    Browsers and django-storages ask for such paths so.
    """
    # One quick look at everything: hardly any text holds one.
    if text.count("//") == text.count("://") and "/./" not in text and "/../" not in text:
        return ""
    cells = ((cell, _straight(cell)) for cell in text.split(SEPARATOR))
    return SEPARATOR.join(new for old, new in cells if new != old)


def _straight(cell: str) -> str:
    cell, last = _NO_STEP.sub("", cell), ""
    while cell != last:
        cell, last = _STEP_BACK.sub("", cell), cell
    return cell


def _known(text: str, seen: set[str]) -> bool:
    if text in seen:
        return True
    seen.add(text)
    return False


def _undone(text: str, plus: bool) -> Iterator[str]:
    for mark, undo in _UNDOS if plus else _UNDOS[:-1]:
        if mark not in text:
            continue
        changed = [
            new for old in text.split(SEPARATOR) if mark in old and (new := undo(old)) != old
        ]
        if changed:
            yield SEPARATOR.join(changed)


def _undo_percent(text: str) -> str:
    return _PERCENT.sub(_percent, text)


def _percent(found: re.Match[str]) -> str:
    return _percent_run(found[0])


@lru_cache(maxsize=4096)
def _percent_run(run: str) -> str:
    return unquote_to_bytes(run).decode("utf-8", "replace")


def _undo_backslashes(text: str) -> str:
    return _BACKSLASH.sub(_backslash, text)


def _backslash(found: re.Match[str]) -> str:
    return _backslash_run(found[0])


@lru_cache(maxsize=4096)
def _backslash_run(run: str) -> str:
    kind, rest = run[1], run[2:]
    if len(run) == 2:
        return _SHORT.get(kind, kind)
    if kind.isdigit():
        return bytes(int(byte, 8) for byte in run[1:].split("\\")).decode("utf-8", "replace")
    if rest.startswith("{") or kind in "xU":
        return _character(int(rest.strip("{}"), 16))
    units = b"".join(int(unit, 16).to_bytes(2, "little") for unit in run[2:].split("\\u"))
    # Characters beyond the first plane are two escapes; half of one is no character.
    return units.decode("utf-16-le", "replace")


def _character(code: int) -> str:
    return "\ufffd" if 0xD800 <= code < 0xE000 or code > 0x10FFFF else chr(code)


def _undo_hex_bytes(text: str) -> str:
    return _HEX_BYTES.sub(lambda m: bytes.fromhex(m[1]).decode("utf-8", "replace"), text)


def _undo_plus(text: str) -> str:
    return text.replace("+", " ")


_UNDOS: tuple[_Undo, ...] = (
    ("\\", _undo_backslashes),
    ("\\x", _undo_hex_bytes),
    ("&", html.unescape),
    ("%", _undo_percent),
    ("+", _undo_plus),
)
