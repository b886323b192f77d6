"""Globs of the settings, compared with keys and file names that may hold brackets themselves. Pure.

"photo [1].png" is the name of a file and a glob for another one. Which was meant nobody can tell,
and a setting that keeps an object keeps both.
"""

from __future__ import annotations

import fnmatch
import re
from functools import lru_cache
from itertools import product

from r2maint.keys.text import identity

_BRACKETS = re.compile(r"(\[!?\]?[^\]]*\])")
_MAX_BRACKETS = 6
"""Each doubles the readings of a pattern."""


def matches_glob(key: str, pattern: str) -> bool:
    """Tell whether a key is the pattern itself, or matches it as a glob.

    Each pair of brackets may stand for one of some characters, and for itself.
    """
    name = identity(key)
    return name == identity(pattern) or any(
        fnmatch.fnmatchcase(name, reading) for reading in _readings(identity(pattern))
    )


@lru_cache(maxsize=1024)
def _readings(pattern: str) -> tuple[str, ...]:
    """Return the globs that a pattern may mean; with very many brackets, the two extreme ones."""
    literal = pattern.replace("[", "[[]")
    # Every second part is a pair of brackets.
    parts = _BRACKETS.split(pattern)
    if len(parts) > 2 * _MAX_BRACKETS + 1:
        return pattern, literal
    choices = [
        (part, part.replace("[", "[[]")) if number % 2 else (part,)
        for number, part in enumerate(parts)
    ]
    return tuple(dict.fromkeys((*map("".join, product(*choices)), literal)))
