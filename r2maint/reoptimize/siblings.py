"""The key of a new version of an object: beside the old one, under a hash of its own. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable

from r2maint.keys import key_from_template

_EXT = re.compile(r"\.[A-Za-z0-9]{1,16}$")
_HASH = re.compile(r"\.[0-9a-f]{16}$")
_NAME = "{stem}.{hash}{ext}"


def sibling_key(key: str, *, sha256: str, ext: str, fits: Callable[[str], bool]) -> str:
    """Return "dir/stem.hash.ext" for an object "dir/stem.anything".

    The directory stays exactly as it is spelled; a hash that an earlier version carries is
    replaced. The stem is shortened until `fits(key)`. Raises: ValueError when nothing fits.
    """
    directory, slash, name = key.rpartition("/")
    directory += slash
    stem = _HASH.sub("", _EXT.sub("", name))

    def whole_fits(name: str) -> bool:
        return len((directory + name).encode()) <= 1024 and fits(directory + name)

    made = key_from_template(_NAME, {}, stem=stem, sha256=sha256, ext=ext, fits=whole_fits)
    return directory + made
