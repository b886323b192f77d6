"""Objects kept because another one is named: thumbnails and other renditions. Pure.

A pattern says what the rendition is called, with `*` for any text and one of
    {stem} {name}            file name of the original without and with extension; the pattern is
                             relative to the original's directory
    {path_stem} {path}       the same with the directories, for renditions kept elsewhere
A pattern without any of them keeps whatever it matches.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from r2maint.keytext import identity

PRESETS = {
    # https://easy-thumbnails.readthedocs.io/ "namers": photo.jpg.100x100_q85.jpg
    "easy_thumbnails": ("{name}.*",),
    # https://sorl-thumbnail.readthedocs.io/ names its files by a hash of their options.
    "sorl": ("cache/*",),
    # https://django-imagekit.readthedocs.io/: CACHE/images/dir/photo/<hash>.jpg
    "imagekit": ("CACHE/images/{path_stem}/*",),
    # https://django-versatileimagefield.readthedocs.io/: __sized__/dir/photo-thumbnail-9x9-70.jpg
    "versatileimagefield": ("__sized__/{path_stem}-*", "__filtered__/{path_stem}__*"),
}

_PART = re.compile(r"\{(stem|name|path_stem|path)\}|(\*)")

HasNamed = Callable[[str], bool]
"""Whether something names an object whose key, or whose key without extension, is this."""


class Derivations:
    """The configured patterns, ready to be asked about keys."""

    def __init__(self, patterns: Iterable[str]) -> None:
        every = [one for pattern in patterns for one in PRESETS.get(pattern, (pattern,))]
        self._patterns = [_Pattern(identity(one)) for one in every]

    def is_kept(self, key: str, has_named: HasNamed) -> bool:
        """Tell whether `key` is a rendition of something named."""
        name = identity(key)
        return any(pattern.is_kept(name, has_named) for pattern in self._patterns)


class _Pattern:
    """One pattern, cut behind its first placeholder: the original may end wherever the tail fits.

    "{stem}-*" may mean any part of "my-nice-photo-200x200-crop.webp" that ends before a hyphen.
    """

    def __init__(self, pattern: str) -> None:
        cut = next((match.end() for match in _PART.finditer(pattern) if match[1]), 0)
        self._head = re.compile(_expression(pattern[:cut], group=True), re.S) if cut else None
        self._tail = re.compile(_expression(pattern[cut:]), re.S)

    def is_kept(self, key: str, has_named: HasNamed) -> bool:
        if self._head is None:
            return self._tail.fullmatch(key) is not None
        for end in range(len(key), 0, -1):
            if not self._tail.fullmatch(key, end):
                continue
            head = self._head.fullmatch(key, 0, end)
            if head and has_named((head.groupdict().get("dir") or "") + head["original"]):
                return True
        return False


def _expression(pattern: str, *, group: bool = False) -> str:
    text, last, start = "", 0, ""
    for match in _PART.finditer(pattern):
        in_place = match[1] in ("stem", "name")
        any_text = ".*" if match[2] else "[^/]+" if in_place else ".+"
        named = group and not match[2]
        start = "(?P<dir>(?:.*/)?)" if named and in_place else start
        text += re.escape(pattern[last : match.start()])
        text += f"(?P<original>{any_text})" if named else any_text
        last = match.end()
    return start + text + re.escape(pattern[last:])
