"""Keys of uploads: below a prefix that says something, and never one that was used before."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote

from r2maint.errors import StorageError
from r2maint.keys import key_from_template

_OWN = ".r2maint"


def unique_key(
    prefix: str, stem: str, *, sha256: str, ext: str, fits: Callable[[str], bool]
) -> str:
    """Return "prefix/stem.hash.ext", another one each time, also for the same bytes.

    An object that rows share could be purged before the second row is saved: only the lease keeps
    a purge away, and no web request can wait for that. Raises: StorageError "bad_prefix".
    """
    unique = hashlib.sha256(sha256.encode() + secrets.token_bytes(16)).hexdigest()
    template = prefix + "/{stem}.{hash}{ext}"
    try:
        return key_from_template(template, {}, stem=stem, sha256=unique, ext=ext, fits=fits)
    except ValueError as error:
        raise StorageError(
            f"No key can be made below the prefix {prefix!r}: {error}",
            "Write a shorter or simpler prefix, or pass the max_length of the column.",
            "bad_prefix",
        ) from error


def checked_prefix(prefix: str) -> str:
    """Return the prefix without "/" at its ends. Raises: StorageError "bad_prefix"."""
    bare = prefix.strip("/")
    segments = bare.split("/")
    is_odd = any(part in ("", ".", "..") or part != part.strip() for part in segments)
    if is_odd or segments[0] == _OWN or set(bare) & set("{}") or not bare.isprintable():
        raise StorageError(
            f"The prefix says nothing, or leads elsewhere: {prefix!r}.",
            "Write what the files are, such as 'submissions/QAD-000001/icons'.",
            "bad_prefix",
        )
    return bare


def stem_of_url(url: str) -> str:
    """Return what the last segment of a URL's path calls its file."""
    path = url.partition("#")[0].partition("?")[0]
    return stem_of(unquote(path.rstrip("/").rpartition("/")[2]))


def stem_of_file(file: Any) -> str:
    """Return what a path or a file object is called, "" for what has no name."""
    name = file if isinstance(file, (str, os.PathLike)) else getattr(file, "name", "")
    # A file object may be named by its descriptor, a number.
    return stem_of(os.fsdecode(name)) if isinstance(name, (str, bytes, os.PathLike)) else ""


def stem_of(name: str) -> str:
    """Return a file's name without its directory and extension."""
    return PurePosixPath(name.replace("\\", "/")).stem
