"""A nameless temporary file that ends with the object it belongs to."""

from __future__ import annotations

import tempfile
import weakref
from contextlib import suppress
from typing import IO


def open_temporary_file(owner: object) -> IO[bytes]:
    """Return an empty file in the directory of `tempfile`, closed when `owner` ends."""
    file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed by the finalizer)
    weakref.finalize(owner, close_unwritten, file)
    return file


def close_unwritten(file: IO[bytes]) -> None:
    """Close a file whose content nobody wants any more: what a full disk did not take, neither.

    Closing writes what is still buffered, and a finalizer that fails prints a traceback.
    """
    with suppress(OSError):
        file.close()
