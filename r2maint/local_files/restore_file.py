"""Local files whose bytes the bucket holds: told apart from other bytes, and brought back.

Nothing is overwritten, no link is followed out of LOCAL_MEDIA, and a file gets its name only when
its bytes are proved.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from r2maint.bucket import Bucket, ObjectInfo
from r2maint.conf import Config
from r2maint.errors import BucketError, NoSuchKey
from r2maint.images import SOURCE_KEY
from r2maint.local_files.read_file import UnusableSource, locate_file

MAX_IN_MEMORY = 8 * 2**20
"""Bytes of an object that is read whole; larger ones pass through a temporary file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MovedFile:
    """A local file, there or not, and the object that holds its bytes."""

    path: Path
    """Absolute, as a run recorded it."""
    key: str
    sha256: str
    """Of the file, in hex."""


def find_original(path: Path, config: Config) -> Path:
    """Return the real path of a file that lies below LOCAL_MEDIA under this very name.

    Raises: UnusableSource "outside", "missing" or "unreadable"; "linked" when a link below the
    root leads to it, or when it has a second name.
    """
    root, relative = _below_media(path, config)
    real = locate_file(root, relative)
    if real != root / relative or real.stat().st_nlink > 1:
        raise UnusableSource("linked", f"{path} is not its only name")
    return real


def _below_media(path: Path, config: Config) -> tuple[Path, str]:
    """Return the real directory of LOCAL_MEDIA that `path` is spelled below, and the rest."""
    for _, root in config.local_media:
        for start in (root, root.resolve()):
            if path.is_relative_to(start):
                return root.resolve(), path.relative_to(start).as_posix()
    raise UnusableSource("outside", f"{path} is below no directory of LOCAL_MEDIA")


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file in hex. Raises: OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


# The object


def head_faults(bucket: Bucket, originals: Sequence[MovedFile]) -> Iterator[str]:
    """Yield why each object cannot hold its file's bytes, as far as a HEAD tells; "" if it may.

    One Class B request each. The words are those of `read_faults`.
    """
    for original, result in zip(
        originals, bucket.head_many(each.key for each in originals), strict=True
    ):
        if result.value is None:
            yield _fault_of(result.error)
        else:
            recorded = result.value.headers.metadata.get("sha256", "")
            yield _difference(original, result.value, recorded or original.sha256)


def read_faults(bucket: Bucket, originals: Sequence[MovedFile]) -> Iterator[str]:
    """Yield why each object does not hold its file's bytes, by reading it whole; "" if it does.

    "object_missing", "object_differs", "reencoded" (it was made from them), "object_unread".
    Two Class B requests each.
    """
    heads = list(bucket.head_many(each.key for each in originals))
    small = [head.request for head in heads if head.value and head.value.size <= MAX_IN_MEMORY]
    bodies = bucket.get_many(small)
    for original, head in zip(originals, heads, strict=True):
        if head.value is None:
            yield _fault_of(head.error)
        elif head.value.size <= MAX_IN_MEMORY:
            got = next(bodies)
            if got.value is None:
                yield _fault_of(got.error)
            else:
                digest = hashlib.sha256(got.value.body).hexdigest()
                yield _difference(original, got.value.info, digest)
        else:
            yield _fault_of_large(bucket, original)


def _fault_of_large(bucket: Bucket, original: MovedFile) -> str:
    with tempfile.TemporaryDirectory(prefix="r2maint-") as directory:
        path = Path(directory) / "object"
        try:
            info = bucket.download(original.key, path)
        except BucketError as error:
            if error.ends_run:
                raise
            return _fault_of(error)
        return _difference(original, info, hash_file(path))


def _fault_of(error: BucketError | None) -> str:
    return "object_missing" if isinstance(error, NoSuchKey) else "object_unread"


def _difference(original: MovedFile, info: ObjectInfo, digest: str) -> str:
    if digest == original.sha256:
        return ""
    source = info.headers.metadata.get(SOURCE_KEY)
    return "reencoded" if source == original.sha256 else "object_differs"


# The way back


def place_fault(original: MovedFile, config: Config) -> str:
    """Return why the file cannot have its path again; "" if it can, or has it.

    "path_taken" by other bytes, "outside" LOCAL_MEDIA, "root_missing", "unreadable".
    """
    try:
        root, relative = _below_media(original.path, config)
        if not root.is_dir():
            return "root_missing"
        if not (root / relative).resolve().is_relative_to(root):
            return "outside"
        if os.path.lexists(original.path):
            return "" if _is_there(original) else "path_taken"
    except UnusableSource as unusable:
        return unusable.reason
    except (OSError, RuntimeError):
        return "unreadable"
    return ""


def _is_there(original: MovedFile) -> bool:
    path = original.path
    return path.is_file() and not path.is_symlink() and hash_file(path) == original.sha256


def bring_back(bucket: Bucket, original: MovedFile, config: Config) -> str:
    """Write the file again from its object; return why not, "" when its bytes are there.

    It is downloaded beside its place into a hidden directory of its own, which a kill may leave
    behind, and gets its name once its SHA-256 is proved. The words are those of `place_fault` and
    `read_faults`, and "unwritable". Raises: BucketError that every other object would meet too.
    """
    if (fault := place_fault(original, config)) or os.path.lexists(original.path):
        return fault
    try:
        original.path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".r2maint-", dir=original.path.parent) as directory:
            return _fetch(bucket, original, Path(directory) / "object")
    except FileExistsError:
        return "path_taken"
    except OSError:
        return "unwritable"


def _fetch(bucket: Bucket, original: MovedFile, part: Path) -> str:
    try:
        info = bucket.download(original.key, part)
    except BucketError as error:
        if error.ends_run:
            raise
        return _fault_of(error)
    if fault := _difference(original, info, hash_file(part)):
        return fault
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    # Unlike a rename, a link fails where the name is taken.
    os.link(part, original.path)
    return ""
