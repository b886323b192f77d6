"""Where a report goes: a stream, or a file that is replaced only by a complete report."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


class Encodable:
    """A stream that takes any text: what its encoding lacks is written as an escape."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self.encoding = getattr(out, "encoding", None) or "utf-8"

    def write(self, text: str, /) -> object:
        encoded = text.encode(self.encoding, "backslashreplace")
        return self._out.write(encoded.decode(self.encoding))

    def isatty(self) -> bool:
        return self._out.isatty()


@contextmanager
def open_replacing(path: Path) -> Iterator[TextIO]:
    """Give a stream whose content takes the place of `path` on a clean exit, and none otherwise.

    A link is followed; a device or a pipe is written to as it is. Raises: OSError.
    """
    path = path.resolve()
    if path.exists() and not path.is_file() and not path.is_dir():
        with path.open("w", encoding="utf-8", newline="") as out:
            yield out
        return
    temporary = path.with_name(f".{path.name[:200]}.{secrets.token_hex(8)}.tmp")
    try:
        # newline="" keeps CSV's own line ends; "x" gives the mode the umask asks for.
        with temporary.open("x", encoding="utf-8", newline="") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def require_writable(path: Path) -> None:
    """Raise OSError when no report could be written to `path`: asked before the work, not after."""
    if path.is_dir():
        raise IsADirectoryError(21, "Is a directory", str(path))
    if not path.parent.is_dir():
        raise FileNotFoundError(2, "No such directory", str(path.parent))
    target = path if path.exists() else path.parent
    if not os.access(target, os.W_OK):
        raise PermissionError(13, "Permission denied", str(target))
