"""Text files line by line, however long a line is: a bundle may be one line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from r2maint.conf import Config

_CHUNK = 1 << 20
"""Characters of a line read at once."""
OVERLAP = 4096
"""Longer than an address or a key."""


def shown(path: Path, config: Config) -> str:
    """Return a path as reports name it: relative to BASE_DIR where it is below it."""
    is_inside = path.is_relative_to(config.base_dir)
    return str(path.relative_to(config.base_dir) if is_inside else path)


def iter_lines(file: TextIO) -> Iterator[tuple[int, str, int]]:
    """Yield (line from 1, text, end) with "/" for the "\\/" of JSON.

    A long line comes in pieces. What begins before `end` is whole in its piece, and the next piece
    begins there.
    """
    number, carried = 1, ""
    while piece := file.readline(_CHUNK):
        text = carried + piece.replace("\\/", "/")
        is_whole = len(piece) < _CHUNK or piece.endswith("\n")
        end = len(text) if is_whole else len(text) - OVERLAP
        yield number, text, end
        carried = "" if is_whole else text[end:]
        number += is_whole
