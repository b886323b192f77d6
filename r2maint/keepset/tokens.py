"""The words of a text that name a key, and nothing else of the text. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from r2maint.keepset.spellings import iter_guesses, iter_spellings
from r2maint.keys.text import identity, redact

_REST = r"//[^\s\"'<>`?#\\]+)$"
# The last address that begins before the key: another one may stand right before it.
_ADDRESSES = tuple(
    re.compile(f".*{start}{_REST}", re.IGNORECASE | re.S) for start in ("((?:https?|s3):", "(")
)
_LONGEST = 2048


class Token(NamedTuple):
    """How a text names a key."""

    text: str
    """Without credentials, escapes undone; "" where only the whole of several cells names it."""
    shape: str
    """ "url", "path" (with a "/" before it) or "name"."""
    is_escaped: bool
    """It is written with escapes: percent, HTML, JSON."""


def token_of(text: str, name: str) -> Token:
    """Return what in `text` names the key whose identity is `name`: from the host to its end.

    Neither the query nor anything around it is part of it.
    """
    bounded = re.compile(rf"(?<![0-9A-Za-z]){re.escape(name)}(?![0-9A-Za-z])")
    for number, spelled in enumerate(_views(text)):
        if name in spelled:
            match = bounded.search(spelled)
            start = match.start() if match else spelled.index(name)
            return _token(spelled[max(0, start - _LONGEST) : start], name, bool(number))
    return Token("", "name", True)


def _views(text: str) -> Iterator[str]:
    for spelling in iter_spellings(text):
        yield identity(spelling)
        yield from map(identity, iter_guesses(spelling))


def _token(before: str, name: str, is_escaped: bool) -> Token:
    address = next(filter(None, (each.match(before) for each in _ADDRESSES)), None)
    if address and before.endswith("/"):
        return Token(redact(address[1] + name), "url", is_escaped)
    if before.endswith("/"):
        return Token(f"/{name}", "path", is_escaped)
    return Token(name, "name", is_escaped)
