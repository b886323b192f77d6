"""The other texts a text may stand for: escapes undone, and guesses at what was meant. Pure.

Texts hold many cells, separated by NUL, so that each step is one pass at C speed over the cells
that have something to undo.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Container, Iterable, Iterator
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from r2maint.database.snapshot import SEPARATOR

# JSON in JSON in an HTML attribute, or a URL in the query of a URL in JSON in HTML.
_DEPTH = 5
_PERCENT = re.compile("(?:%[0-9A-Fa-f]{2})+|(?:%u[0-9A-Fa-f]{4})+")
_BACKSLASH = re.compile(
    r"(?:\\u[0-9A-Fa-f]{4})+|\\U[0-9A-Fa-f]{8}|(?:\\x[0-9A-Fa-f]{2})+|\\u\{[0-9A-Fa-f]{1,6}\}"
    r"|(?:\\[0-3][0-7]{2})+|\\\r?\n[ \t]*|\\.",
    re.S,
)
# Quoted-printable: what mails are kept in. Source: RFC 2045, section 6.7.
_EQUALS = re.compile(r"=\r?\n|(?:=[0-9A-F]{2})+")
# What word processors and editors leave in an address that is copied from them.
_INVISIBLE = "\u00ad\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u2060\u2066\u2067\u2069\ufeff"
_NO_INVISIBLE = str.maketrans(dict.fromkeys(_INVISIBLE))
# As PostgreSQL writes the bytes in an array or a composite value.
_HEX_BYTES = re.compile(r"\\+x((?:[0-9A-Fa-f]{2}){2,})")
_NO_STEP = re.compile(r"(?<!:)(?:/\.?)+(?=/)")
_STEP_BACK = re.compile(r"/(?!\.\./)[^/\s\"'<>]+/\.\.(?=/)")
_SHORT = dict(zip("nrtbfv0", "\n\r\t\b\f\v ", strict=True))

Undos = tuple[tuple[str, Callable[[str], str]], ...]
"""What a text holds where there is something to undo, and what undoes it in one cell."""


def iter_spellings(text: str, undos: Undos | None = None) -> Iterator[str]:
    """Yield `text`, and each further text that undoing its escapes gives.

    A further text holds only the cells that changed. `undos` are those of `undos_for`.
    """
    undos = _UNDOS if undos is None else undos
    seen = {text}
    level = [text]
    yield text
    for _ in range(_DEPTH):
        level = [new for old in level for new in _undone(old, undos) if not _known(new, seen)]
        if not level:
            return
        yield from level


def undos_for(characters: Container[str]) -> Undos:
    """Return what must be undone to find keys that hold these characters."""
    return _UNDOS + tuple(
        undo for character, undos in _RARE.items() if character in characters for undo in undos
    )


def iter_guesses(text: str) -> Iterator[str]:
    """Yield what else a text may mean: a guess may name a key, and nothing is absent by one."""
    yield from filter(None, (_turned(text), _resolved(text), _visible(text)))


def _turned(text: str) -> str:
    """Return the cells that hold backslashes with slashes for them: paths written on Windows."""
    if "\\" not in text:
        return ""
    cells = SEPARATOR.join(cell for cell in text.split(SEPARATOR) if "\\" in cell)
    # Several are one that was escaped.
    while "\\\\" in cells:
        cells = cells.replace("\\\\", "\\")
    return cells.replace("\\", "/")


def _visible(text: str) -> str:
    """Return the cells that hold characters nobody sees without them."""
    if text.isascii() or not _has_invisible(text):
        return ""
    return SEPARATOR.join(filter(_has_invisible, text.split(SEPARATOR))).translate(_NO_INVISIBLE)


def _has_invisible(text: str) -> bool:
    return any(character in text for character in _INVISIBLE)


def _resolved(text: str) -> str:
    """Return the cells whose paths hold empty, "." or ".." segments, without these.

    Browsers and django-storages ask for such paths so.
    """
    # One quick look at everything: hardly any text holds one.
    if "/" not in text:
        return ""
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


def _undone(text: str, undos: Undos) -> Iterator[str]:
    for mark, undo in undos:
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
    if run[1] == "u":
        return _units(run.split("%u")[1:])
    return unquote_to_bytes(run).decode("utf-8", "replace")


def _undo_backslashes(text: str) -> str:
    return _BACKSLASH.sub(_backslash, text)


def _backslash(found: re.Match[str]) -> str:
    return _backslash_run(found[0])


@lru_cache(maxsize=4096)
def _backslash_run(run: str) -> str:
    kind, rest = run[1], run[2:]
    if kind in "\r\n":
        # The line goes on in the next one.
        return ""
    if len(run) == 2:
        return _SHORT.get(kind, kind)
    if kind.isdigit():
        return bytes(int(byte, 8) for byte in run[1:].split("\\")).decode("utf-8", "replace")
    if kind == "x":
        return _bytes_or_characters(bytes.fromhex(rest.replace("\\x", "")))
    if rest.startswith("{") or kind == "U":
        return _character(int(rest.strip("{}"), 16))
    return _units(rest.split("\\u"))


def _bytes_or_characters(given: bytes) -> str:
    """Return what "\\xc3\\xa9" means: in Python's bytes one character, in JavaScript two."""
    try:
        return given.decode()
    except UnicodeError:
        return given.decode("latin-1")


def _units(numbers: Iterable[str]) -> str:
    units = b"".join(int(number, 16).to_bytes(2, "little") for number in numbers)
    # Characters beyond the first plane are two escapes; half of one is no character.
    return units.decode("utf-16-le", "replace")


def _character(code: int) -> str:
    return "\ufffd" if 0xD800 <= code < 0xE000 or code > 0x10FFFF else chr(code)


def _undo_hex_bytes(text: str) -> str:
    return _HEX_BYTES.sub(lambda m: bytes.fromhex(m[1]).decode("utf-8", "replace"), text)


def _undo_equals(text: str) -> str:
    if "=3D" not in text and "=\n" not in text and "=\r\n" not in text:
        return text
    return _EQUALS.sub(_equals, text)


def _equals(found: re.Match[str]) -> str:
    if found[0][1] in "\r\n":
        return ""
    return bytes.fromhex(found[0].replace("=", "")).decode("utf-8", "replace")


_UNDOS: Undos = (
    ("\\", _undo_backslashes),
    ("\\x", _undo_hex_bytes),
    ("&", html.unescape),
    ("%", _undo_percent),
    ("=", _undo_equals),
    # Forms write "+" for a space. Undone always: it parts words, so that whether a key is found
    # would otherwise depend on whether another one holds a space.
    ("+", lambda text: text.replace("+", " ")),
)
_RARE: dict[str, Undos] = {
    # Editors write the kind that breaks no line.
    " ": (("\xa0", lambda text: text.replace("\xa0", " ")),),
    # CSV, SQL, YAML and PostgreSQL's composite values write quotes twice.
    '"': (('""', lambda text: text.replace('""', '"')),),
    "'": (("''", lambda text: text.replace("''", "'")),),
}
