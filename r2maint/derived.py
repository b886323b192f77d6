"""Objects kept because another one is named: thumbnails and other renditions. Pure.

A pattern says what the rendition is called, with `*` for any text and one of
    {stem} {name}            file name of the original without and with extension; the pattern is
                             relative to the original's directory
    {path_stem} {path}       the same with the directories, for renditions kept elsewhere
A pattern without any of them keeps whatever it matches.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

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
        self._patterns = [re.compile(form, re.S) for one in every for form in _forms(one)]

    def is_kept(self, key: str, has_named: HasNamed) -> bool:
        """Tell whether `key` is a rendition of something named."""
        for pattern in self._patterns:
            match = pattern.fullmatch(key)
            if match is None:
                continue
            found = match.groupdict()
            if "original" not in found or has_named((found.get("dir") or "") + found["original"]):
                return True
        return False


def _forms(pattern: str) -> Iterator[str]:
    """Yield the pattern as expressions: the original's name as long and as short as can be."""
    for any_text in (".+", ".+?"):
        yield _expression(pattern, any_text)


def _expression(pattern: str, any_text: str) -> str:
    kinds = {match[1] for match in _PART.finditer(pattern)}
    in_place = bool(kinds & {"stem", "name"})
    text, last = "", 0
    for match in _PART.finditer(pattern):
        text += re.escape(pattern[last : match.start()])
        if match[2]:
            text += ".*"
        elif "(?P<original>" in text:
            text += "(?P=original)"
        else:
            text += f"(?P<original>{_flat(any_text) if in_place else any_text})"
        last = match.end()
    return ("(?P<dir>(?:.*/)?)" if in_place else "") + text + re.escape(pattern[last:])


def _flat(any_text: str) -> str:
    return any_text.replace(".", "[^/]", 1)
