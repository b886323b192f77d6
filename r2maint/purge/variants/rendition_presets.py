"""What the renditions of well-known apps are called, by the settings of these apps. Pure.

Each preset returns patterns of `derived`. Sources: easy_thumbnails/files.py get_thumbnail_name and
namers.py (2.10), sorl/thumbnail/base.py (13.4), imagekit/cachefiles/namers.py (6.1),
versatileimagefield/utils.py (3.1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

Given = Mapping[str, Any]

APPS = {
    "easy_thumbnails": "easy_thumbnails",
    "sorl": "sorl.thumbnail",
    "imagekit": "imagekit",
    "versatileimagefield": "versatileimagefield",
}
"""Preset -> the app it is for, as INSTALLED_APPS names it."""

SQUEEZING = frozenset({"versatileimagefield"})
"""Presets of apps that leave spaces out: of "a b.jpg" it makes "__sized__/ab-thumbnail-9x9.jpg"."""

_HEX = "[0-9a-f]"
_BASE64 = "[A-Za-z0-9_-]"
_NAMERS = {
    "easy_thumbnails.namers.hashed": (_BASE64 * 12 + ".*",),
    "easy_thumbnails.namers.source_hashed": (f"{_BASE64 * 12}_*_{_BASE64 * 8}.*",),
}
"""Names that do not tell their original."""
_SPEC_NAMERS = ("source_name_as_path", "source_name_dot_hash", "hash")


def _easy_thumbnails(given: Given) -> Iterator[str]:
    # photo.jpg.100x100_q85.jpg
    yield "{name}.*"
    basedir, subdir, prefix = (_text(given, f"THUMBNAIL_{name}") for name in _EASY)
    where = f"{_folder(basedir)}{{dir}}{_folder(subdir)}{prefix.replace('%(opts)s', '*')}"
    yield f"{where}{{name}}.*"
    if "%(opts)s" in basedir + subdir:
        yield f"{where}{{name}}"
        yield f"{where}{{stem}}@2x*"
    for pattern in _NAMERS.get(_text(given, "THUMBNAIL_NAMER"), ()):
        yield where + pattern


_EASY = ("BASEDIR", "SUBDIR", "PREFIX")


def _sorl(given: Given) -> Iterator[str]:
    # cache/1a/2b/1a2b….jpg, a hash of options and original
    yield "cache/*"
    prefix = _text(given, "THUMBNAIL_PREFIX", "cache/")
    yield f"{prefix}*" if prefix else f"{_HEX * 2}/{_HEX * 2}/{_HEX * 32}*"


def _imagekit(given: Given) -> Iterator[str]:
    # CACHE/images/dir/photo/<hash>.jpg, of a spec; CACHE/images/<hash>.jpg, of another generator
    yield "CACHE/images/{path_stem}/*"
    folder = _folder(_text(given, "IMAGEKIT_CACHEFILE_DIR", "CACHE/images"))
    yield f"{folder}{{path_stem}}/*"
    yield f"{folder}{{path_stem}}.*"
    yield f"{folder}{_HEX * 32}*"
    namers = ("IMAGEKIT_SPEC_CACHEFILE_NAMER", "IMAGEKIT_CACHEFILE_NAMER")
    known = {"", *(f"imagekit.cachefiles.namers.{name}" for name in _SPEC_NAMERS)}
    if folder and not {_text(given, name) for name in namers} <= known:
        yield f"{folder}*"


def _versatileimagefield(given: Given) -> Iterator[str]:
    # __sized__/dir/photo-thumbnail-9x9-70.jpg, dir/__filtered__/photo__invert__.jpg, and both
    own = given.get("VERSATILEIMAGEFIELD_SETTINGS")
    own = own if isinstance(own, Mapping) else {}
    sized = _folder(_text(own, "sized_directory_name", "__sized__"))
    filtered = _folder(_text(own, "filtered_directory_name", "__filtered__"))
    placeholder = _folder(_text(own, "placeholder_directory_name", "__placeholder__"))
    for folder in dict.fromkeys(("__sized__/", sized)):
        yield f"{folder}{{path_stem}}-*"
        yield f"{folder}{{dir}}{filtered}{{stem}}__*"
        if placeholder:
            yield f"{folder}{placeholder}*"
    for folder in dict.fromkeys(("__filtered__/", filtered)):
        yield f"{folder}{{path_stem}}__*"
        yield f"{{dir}}{folder}{{stem}}__*"
    if placeholder:
        yield f"{placeholder}*"


PRESETS: Mapping[str, Callable[[Given], Iterator[str]]] = {
    "easy_thumbnails": _easy_thumbnails,
    "sorl": _sorl,
    "imagekit": _imagekit,
    "versatileimagefield": _versatileimagefield,
}


def _text(given: Given, name: str, default: str = "") -> str:
    value = given.get(name, default)
    return value if isinstance(value, str) else default


def _folder(path: str) -> str:
    """Return a directory with its "/"; options of a thumbnail in it may be anything."""
    bare = path.replace("%(opts)s", "*").removeprefix("./").strip("/")
    return f"{bare}/" if bare else ""
