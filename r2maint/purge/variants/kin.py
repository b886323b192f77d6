"""Which unnamed images lie beside a named object as its variants do. Pure.

Image packages store variants that no row names: `photo/800w.webp`, `photo.large.jpg` and
`photo_thumb.jpg` beside a named `photo.jpg`. They are kept until somebody decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from r2maint.images.formats import type_of_name
from r2maint.keys import identity

_ENDS = re.compile(r"[/._-]")
_OWN_OUTPUT = re.compile(r"\.[0-9a-f]{16}(\.[A-Za-z0-9]{1,16})?")
"""What `migrate_media_to_r2` and `reoptimize` put behind the stem of what they store."""
_COLLISION = re.compile(r"_(?=[a-z0-9]*[A-Z])(?=[A-Z0-9]*[a-z])[A-Za-z0-9]{7}(\.[^/]*)?")
"""What Django puts behind the stem of a file whose name is taken; a word has one case.

Source: Storage.get_alternative_name in django/core/files/storage/base.py.
"""


def kin_starts(key: str) -> Iterator[str]:
    """Yield every key, without its extension, of which an image `key` may be a variant.

    As identities, the longest first. Nothing for what is no image by its name.
    """
    name = identity(key)
    if not type_of_name(name).startswith("image/"):
        return
    for end in reversed([match.start() for match in _ENDS.finditer(name)]):
        start, rest = name[:end], name[end:]
        # A "/" ends a whole stem; other marks stand inside the last segment.
        if rest[0] != "/" and "/" in rest:
            continue
        if start and start[-1] != "/" and not _is_other(rest):
            yield start


def _is_other(rest: str) -> bool:
    """Tell whether what follows a stem makes an object of its own, and no variant."""
    return bool(_OWN_OUTPUT.fullmatch(rest) or _COLLISION.fullmatch(rest))
