"""The files of a directory bucket: written durably, never changed, put aside before they go."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from r2maint.bucket import r2_limits
from r2maint.bucket.protocol import Upload


class Blobs:
    """The rooms `blobs/` for listed bytes and `loose/` for bytes on their way in or out."""

    def __init__(self, path: Path) -> None:
        self._blobs = path / "blobs"
        self._loose = path / "loose"

    def prepare(self) -> None:
        """Make the room that new blobs are written in."""
        self._loose.mkdir(exist_ok=True)

    def open(self, name: str) -> BinaryIO | None:
        """Return the open blob, readable even if it is deleted now; None when there is none."""
        # The first room once more: its writer may be moving it from the second to the first.
        for path in (self._settled(name), self._loose / name, self._settled(name)):
            with suppress(FileNotFoundError):
                return path.open("rb")
        return None

    def write_upload(self, upload: Upload) -> tuple[str, r2_limits.Digest]:
        """Write a loose blob; return its name and digest.

        Raises: ObjectRejected when the upload's file cannot be read, OSError for any other file.
        """
        if isinstance(upload.body, bytes):
            return self._write(upload.body), r2_limits.measure_bytes(upload.body)
        try:
            source = upload.body.open("rb")
        except OSError as error:
            raise r2_limits.unreadable(upload.body, error) from error
        with source:
            name = self.write_copy(source)
        return name, r2_limits.measure_file(self._loose / name)

    def write_copy(self, source: BinaryIO) -> str:
        """Write a loose blob with the bytes of `source`; return its name."""
        name = uuid.uuid4().hex
        with durable(self._loose / name) as target:
            shutil.copyfileobj(source, target)
        return name

    def _write(self, body: bytes) -> str:
        name = uuid.uuid4().hex
        with durable(self._loose / name) as target:
            target.write(body)
        return name

    def settle(self, name: str) -> None:
        """Move a blob that is listed now to where listed ones are."""
        target = self._settled(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        # Another writer may have replaced or deleted the object since; then its blob is gone.
        with suppress(FileNotFoundError):
            (self._loose / name).replace(target)

    def loosen(self, name: str) -> None:
        """Move a blob that will not be listed any more to where `found_loose` finds it."""
        with suppress(FileNotFoundError):
            self._settled(name).replace(self._loose / name)

    def discard(self, name: str) -> None:
        """Remove a blob that is not listed."""
        # In this order: its writer may be moving it from the first to the second.
        (self._loose / name).unlink(missing_ok=True)
        self._settled(name).unlink(missing_ok=True)

    def found_loose(self) -> list[tuple[str, float]]:
        """Return the name of each loose blob and when it was written, in seconds since 1970."""
        with os.scandir(self._loose) as entries:
            found = list(entries)
        ages = []
        for entry in found:
            with suppress(FileNotFoundError):
                ages.append((entry.name, entry.stat().st_mtime))
        return ages

    def _settled(self, name: str) -> Path:
        return self._blobs / name[:2] / name


@contextmanager
def durable(path: Path) -> Iterator[BinaryIO]:
    """Open a file to write, and leave only when its bytes and its name are on the disk."""
    with path.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    if os.name == "posix":
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
