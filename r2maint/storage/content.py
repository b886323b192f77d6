"""What application code hands over, checked before anything is sent: size, type, every frame."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from r2maint.errors import StorageError
from r2maint.images import HEAD_BYTES, FileType, ImageError, Limits, inspect, sniff
from r2maint.local_files.read_file import MAX_IMAGE_BYTES, UnusableSource, read_source

SMALL_BYTES = 4 * 2**20
"""What is not larger is held in memory; anything else goes through a file."""
_CHUNK_BYTES = 2**20
UNKNOWN_TYPE = "application/octet-stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """What an upload may be."""

    images_only: bool = True
    max_bytes: int | None = None
    """None: 10 MiB for images, no limit for other files."""
    empty: bool = False
    decoded: bool = True
    """Whether pictures are decoded, every frame, before they are trusted."""

    def limit_of(self, kind: FileType | None) -> int | None:
        """Return the most bytes a file of this type may have, None for any number."""
        is_image = self.images_only or (kind is not None and kind.is_image)
        default = MAX_IMAGE_BYTES if is_image and self.decoded else None
        return default if self.max_bytes is None else self.max_bytes


AS_IT_IS = Accepted(images_only=False, empty=True, decoded=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """Bytes that may be sent."""

    body: bytes | Path
    size: int
    sha256: str
    type: FileType | None
    """By magic bytes; None where they are unknown."""
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def ext(self) -> str:
        return self.type.ext if self.type else ""

    @property
    def content_type(self) -> str:
        return self.type.content_type if self.type else UNKNOWN_TYPE

    def opened(self) -> BinaryIO:
        """Return the bytes as an open file."""
        return io.BytesIO(self.body) if isinstance(self.body, bytes) else self.body.open("rb")


@contextmanager
def read_content(file: Any, accepted: Accepted) -> Iterator[Content]:
    """Give the content of a path, bytes or a file object, which is read from its beginning.

    More than a few MiB are not held in memory, but for pictures, which are decoded.
    Raises: StorageError "unreadable", "empty", "too_large", "not_an_image" or a word of ImageError.
    """
    if isinstance(file, (bytes, bytearray, memoryview)):
        yield check_bytes(bytes(file), accepted)
    elif path := _path_of(file):
        yield _check_file(path, accepted)
    else:
        with tempfile.TemporaryDirectory(prefix="r2maint-") as directory:
            body = _copied(file, Path(directory) / "upload", accepted)
            if isinstance(body, Path):
                yield _check_file(body, accepted)
            else:
                yield check_bytes(body, accepted)


def check_bytes(body: bytes, accepted: Accepted) -> Content:
    """Return the content of bytes that are acceptable. Raises: StorageError."""
    kind = sniff(body[:HEAD_BYTES])
    if not body and not accepted.empty:
        raise StorageError("There is nothing to upload: 0 bytes.", reason="empty")
    _refuse_kind(kind, accepted)
    _refuse_size(len(body), accepted.limit_of(kind))
    if kind is not None and kind.is_image and accepted.decoded:
        _decode(body, accepted)
    return content_of(body, kind)


def content_of(
    body: bytes, kind: FileType | None, metadata: Mapping[str, str] | None = None
) -> Content:
    """Return the content of bytes that are known to be of this type."""
    digest = hashlib.sha256(body).hexdigest()
    return Content(body=body, size=len(body), sha256=digest, type=kind, metadata=metadata or {})


def _check_file(path: Path, accepted: Accepted) -> Content:
    try:
        with path.open("rb") as file:
            kind = sniff(file.read(HEAD_BYTES))
        size = path.stat().st_size
        _refuse_size(size, accepted.limit_of(kind))
        if size <= SMALL_BYTES or (kind is not None and kind.is_image and accepted.decoded):
            return check_bytes(path.read_bytes(), accepted)
        _refuse_kind(kind, accepted)
        source = read_source(path, images_only=False, max_bytes=size)
    except OSError as error:
        raise _unreadable(error.strerror or type(error).__name__) from error
    except UnusableSource as error:
        raise _unreadable(error.detail) from error
    return Content(body=path, size=source.size, sha256=source.sha256, type=source.type)


def _path_of(file: Any) -> Path | None:
    """Return the path of a file that is on this machine's disk as a whole."""
    if isinstance(file, (str, os.PathLike)):
        return Path(file)
    # Django's large uploads.
    found = getattr(file, "temporary_file_path", None)
    return Path(found()) if found else None


def _copied(file: Any, target: Path, accepted: Accepted) -> bytes | Path:
    """Return what a file object holds: the bytes of a small one, `target` with a large one's."""
    try:
        if file.seekable():
            file.seek(0)
        head = _read(file, SMALL_BYTES + 1)
        if len(head) <= SMALL_BYTES:
            return head
        kind, size = sniff(head[:HEAD_BYTES]), 0
        with target.open("wb") as copy:
            chunk = head
            while chunk:
                size += len(chunk)
                _refuse_size(size, accepted.limit_of(kind))
                copy.write(chunk)
                chunk = _read(file, _CHUNK_BYTES)
    except (OSError, ValueError) as error:
        raise _unreadable(str(error)) from error
    except AttributeError as error:
        raise _unreadable(f"{type(file).__name__} is no file") from error
    return target


def _read(file: Any, length: int) -> bytes:
    """Return `length` bytes, fewer only at the end; text as UTF-8, as Django writes it."""
    found = b""
    while len(found) < length and (chunk := file.read(length - len(found))):
        found += chunk.encode() if isinstance(chunk, str) else chunk
    return found


def _refuse_kind(kind: FileType | None, accepted: Accepted) -> None:
    if accepted.images_only and not (kind and kind.is_image):
        found = kind.content_type if kind else "unknown bytes"
        raise StorageError(
            f"Only images are accepted: {found}.",
            "Pass images_only=False where other files are meant.",
            "not_an_image",
        )


def _refuse_size(size: int, limit: int | None) -> None:
    if limit is not None and size > limit:
        raise StorageError(
            f"The file is too large: more than {limit:,} bytes.",
            "Pass a larger max_bytes where that is meant.",
            "too_large",
        )


def _decode(body: bytes, accepted: Accepted) -> None:
    try:
        inspect(body, limits=Limits(max_bytes=len(body)))
    except ImageError as error:
        # What no decoder here knows (SVG, HEIC) passes only where any file does.
        if error.reason != "unsupported" or accepted.images_only:
            raise


def _unreadable(why: str) -> StorageError:
    return StorageError(f"The file cannot be read: {why}.", reason="unreadable")
