"""Reads files that are mostly small with as few system calls as that takes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple


class Small(NamedTuple):
    """A file as it was when it was opened."""

    body: bytes | None
    """None for a file that is larger than asked for."""
    size: int
    """Bytes."""
    modified_ns: int
    """Since 1970."""


def read_small(path: str | Path, limit: int) -> Small:
    """Return a file of at most `limit` bytes whole, and of a larger one its size.

    Python's own `open` asks the system twice as often. Raises: OSError.
    """
    file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0))
    try:
        found = os.fstat(file)
        if found.st_size > limit:
            return Small(None, found.st_size, found.st_mtime_ns)
        body = os.read(file, found.st_size + 1)
        while len(body) != found.st_size and (more := os.read(file, limit + 1)):
            # It grew or shrank meanwhile, or the system gave less than it was asked for.
            body += more
    finally:
        os.close(file)
    return Small(body, len(body), found.st_mtime_ns)
