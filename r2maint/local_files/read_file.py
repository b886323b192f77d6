"""Local files a migration copies: found below their root, checked, hashed."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from r2maint.bucket.small_files import read_small
from r2maint.images.formats import HEAD_BYTES, FileType, sniff

MAX_IMAGE_BYTES = 10 * 2**20
_CHUNK_BYTES = 2**20


class UnusableSource(Exception):
    """A file that must not be migrated; the reason is one of a report's words."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A local file as it was when it was hashed."""

    path: str
    size: int
    """Bytes."""
    sha256: str
    modified_ns: int
    """Since 1970."""
    type: FileType | None
    """By magic bytes; None where they are unknown."""


def locate_file(root: Path, relative: str) -> Path:
    """Return the real path of a file below `root`, every link followed.

    Raises: UnusableSource "outside" when it leaves the root, "missing" when there is none,
    "unreadable" when a directory on the way is closed.
    """
    return Path(Locator().locate(str(root), relative))


class Locator:
    """Finds many files below their roots; directories are resolved once each.

    For the length of one plan: what a directory's links lead to may change after it.
    """

    def __init__(self) -> None:
        self._directories: dict[str, str] = {}

    def locate(self, root: str, relative: str) -> str:
        """Return the real path of a file, as `locate_file` does. Raises: UnusableSource."""
        try:
            real = self._resolve(root, relative)
            if not _is_below(real, self._directory(root)):
                raise UnusableSource("outside", f"{relative!r} leaves {root}")
        except PermissionError as error:
            raise UnusableSource("unreadable", error.strerror or "") from error
        except FileNotFoundError as error:
            raise _lost(root, relative) from error
        except (OSError, ValueError) as error:
            # A name longer than the file system allows, a NUL byte, or a loop of links.
            raise UnusableSource("missing", f"no readable path for {relative!r}") from error
        return real

    def _resolve(self, root: str, relative: str) -> str:
        path = os.path.join(root, relative)
        parent, name = os.path.split(path)
        if name not in ("", ".", ".."):
            mode = os.lstat(path).st_mode
            if not stat.S_ISLNK(mode):
                return self._regular(os.path.join(self._directory(parent), name), mode)
        real = os.path.realpath(path, strict=True)
        return self._regular(real, os.stat(real).st_mode)

    def _regular(self, real: str, mode: int) -> str:
        if not stat.S_ISREG(mode):
            raise FileNotFoundError(real)
        return real

    def _directory(self, path: str) -> str:
        if path not in self._directories:
            self._directories[path] = os.path.realpath(path)
        return self._directories[path]


def _is_below(path: str, root: str) -> bool:
    return path == root or path.startswith(root if root.endswith(os.sep) else root + os.sep)


def _lost(root: str, relative: str) -> UnusableSource:
    """Return why there is no such file: what is outside the root is not looked at closer."""
    real = os.path.realpath(os.path.join(root, relative))
    if not _is_below(real, os.path.realpath(root)):
        return UnusableSource("outside", f"{relative!r} leaves {root}")
    return UnusableSource("missing", f"no file at {root}/{relative}")


def is_file(root: Path, relative: str) -> bool:
    """Tell whether there is a file below `root` that a migration could read."""
    try:
        locate_file(root, relative)
    except UnusableSource:
        return False
    return True


def read_source(path: str | Path, *, images_only: bool, max_bytes: int = MAX_IMAGE_BYTES) -> Source:
    """Hash one file, reading it once.

    `max_bytes` caps images only: other types are taken only where a setting names their field.
    Raises: UnusableSource "unreadable", "empty", "too_large" or "not_an_image".
    """
    try:
        small = read_small(path, _CHUNK_BYTES)
        if small.body is None:
            return _read_large(path, images_only=images_only, max_bytes=max_bytes)
    except OSError as error:
        raise UnusableSource("unreadable", error.strerror or "cannot be read") from error
    kind = accepted_type(small.body, small.size, images_only=images_only, max_bytes=max_bytes)
    return Source(
        path=str(path),
        size=small.size,
        sha256=hashlib.sha256(small.body).hexdigest(),
        modified_ns=small.modified_ns,
        type=kind,
    )


def _read_large(path: str | Path, *, images_only: bool, max_bytes: int) -> Source:
    with open(path, "rb", buffering=0) as file:
        found = os.fstat(file.fileno())
        chunk = file.read(_CHUNK_BYTES)
        kind = accepted_type(chunk, found.st_size, images_only=images_only, max_bytes=max_bytes)
        sha256, size = hashlib.sha256(), 0
        while chunk:
            sha256.update(chunk)
            size += len(chunk)
            chunk = file.read(_CHUNK_BYTES)
    return Source(
        path=str(path),
        size=size,
        sha256=sha256.hexdigest(),
        modified_ns=found.st_mtime_ns,
        type=kind,
    )


def md5_of(path: str | Path) -> str:
    """Return the MD5 of a file in hex: what an ETag may tell it by; "" when it cannot be read."""
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with open(path, "rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
    except OSError:
        return ""
    return digest.hexdigest()


def is_as_it_was(path: str | Path, *, size: int | None, modified_ns: int) -> bool:
    """Tell whether a file is, as far as its size and time tell, the one that was hashed.

    Without a size its time alone tells.
    """
    try:
        found = os.stat(path)
    except OSError:
        return False
    return size in (None, found.st_size) and found.st_mtime_ns == modified_ns


def accepted_type(
    head: bytes, size: int, *, images_only: bool, max_bytes: int = MAX_IMAGE_BYTES
) -> FileType | None:
    """Return the type of a source by its first bytes.

    Raises: UnusableSource "empty", "not_an_image" or, of images only, "too_large".
    """
    if not head:
        raise UnusableSource("empty", "0 bytes")
    kind = sniff(head[:HEAD_BYTES])
    is_image = kind is not None and kind.is_image
    if images_only and not is_image:
        raise UnusableSource("not_an_image", "its first bytes are no image's")
    if is_image and size > max_bytes:
        raise UnusableSource("too_large", f"more than {max_bytes} bytes")
    return kind
