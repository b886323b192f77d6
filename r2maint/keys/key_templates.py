"""Keys for new objects: from a template, or beside the object of an earlier version. Pure.

Placeholders: {stem} {hash} {ext} of the source, {app_label} {model} {field} of the column, and
{pk} or any column or look-up ({author__username}) of the row.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache

DEFAULT_TEMPLATE = "{app_label}/{model}/{pk}/{field}/{stem}.{hash}{ext}"
MAX_KEY_BYTES = 1024
"""Source: developers.cloudflare.com/r2/platform/limits/"""
_HASH_DIGITS = 16
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_NAME = re.compile(r"[A-Za-z]\w*")
_SOURCE_NAMES = ("stem", "hash", "ext")
_COLUMN_NAMES = ("app_label", "model", "field")
_EXT = re.compile(r"(\.[A-Za-z0-9]{1,16})?")
_SIBLING = "{stem}.{hash}{ext}"
_SIBLING_EXT = re.compile(r"\.[A-Za-z0-9]{1,16}$")
_SIBLING_HASH = re.compile(r"\.[0-9a-f]{16}$")
_SEPARATORS = ".-_"
_CLEAN = re.compile(r"[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*")
"""What most names are made of, and what needs no cleaning."""
_INVISIBLE = {"\u034f", *map(chr, range(0xFE00, 0xFE10)), *map(chr, range(0xE0100, 0xE01F0))}
"""A joiner and the variation selectors; with the format characters (Cf), they are dropped."""


@lru_cache(maxsize=1024)
def check_template(template: str) -> None:
    """Raise ValueError for a template no key can be made of.

    It must hold {hash}, so that two sources never share a key.
    """
    names = _PLACEHOLDER.findall(template)
    if bad := [name for name in names if not _NAME.fullmatch(name)]:
        raise ValueError(f"{{{bad[0]}}} is no placeholder.")
    if set(_PLACEHOLDER.sub("", template)) & set("{}\\?#%"):
        raise ValueError("A brace, backslash, '?', '#' or '%' stands alone in it.")
    if "hash" not in names:
        raise ValueError("It needs {hash}, so that different contents never share a key.")
    if any(segment in ("", ".", "..") for segment in template.split("/")):
        raise ValueError("A segment of it is empty, '.' or '..'.")
    if template.startswith(".r2maint/"):
        raise ValueError("'.r2maint/' is r2maint's own.")


@lru_cache(maxsize=1024)
def row_names(template: str) -> tuple[str, ...]:
    """Return the placeholders that are columns or look-ups of the row, without {pk}."""
    names = dict.fromkeys(_PLACEHOLDER.findall(template))
    return tuple(name for name in names if _of_row(name) and name != "pk")


@lru_cache(maxsize=1024)
def shared_template(template: str) -> str:
    """Return the template for a source that several rows name: nothing of one row is in it."""
    segments = (_without_row(segment) for segment in template.split("/"))
    return "/".join(segment for segment in segments if segment)


def _of_row(name: str) -> bool:
    return name not in _SOURCE_NAMES and name not in _COLUMN_NAMES


def _without_row(segment: str) -> str:
    names = _PLACEHOLDER.findall(segment)
    if not any(_of_row(name) for name in names):
        return segment
    if not any(name in _SOURCE_NAMES for name in names):
        return ""
    cut = _PLACEHOLDER.sub(lambda found: "\0" if _of_row(found[1]) else found[0], segment)
    return re.sub(r"\0[.\-_]?", "", cut).strip("-_")


def key_from_template(
    template: str,
    values: Mapping[str, str],
    *,
    stem: str,
    sha256: str,
    ext: str,
    fits: Callable[[str], bool],
) -> str:
    """Return the key of a new object, in NFC.

    `values` hold the placeholders of column and row; none can add a "/" or an empty or ".."
    segment. `sha256` is the content's, in hex; `ext` is "" or ".png". The stem is shortened by
    whole characters until the key has at most 1,024 bytes and `fits(key)`; the hash never is.
    Raises: ValueError for a malformed template, an unknown placeholder, or when nothing fits.
    """
    check_template(template)
    if not re.fullmatch(r"[0-9a-f]{64}", sha256) or not _EXT.fullmatch(ext):
        raise ValueError("A key needs the content's SHA-256 in hex and an extension like '.png'.")
    fixed = {name: _clean(value) or "_" for name, value in values.items()}
    fixed.update(hash=sha256[:_HASH_DIGITS], ext=ext)
    for shortened in _shortened(_clean(stem)):
        key = _render(template, {**fixed, "stem": shortened})
        if len(key.encode()) <= MAX_KEY_BYTES and fits(key):
            return key
        if "{stem}" not in template:
            break
    raise ValueError("No key of this template is short enough.")


def _render(template: str, values: Mapping[str, str]) -> str:
    if not values["stem"]:
        template = re.sub(r"\{stem\}[.\-_]?", "", template)
    try:
        # A template that was checked has placeholders and no other braces.
        return unicodedata.normalize("NFC", template.format_map(values))
    except KeyError as missing:
        name = missing.args[0]
        raise ValueError(f"Nothing is known to put in place of {{{name}}}.") from missing


def _clean(text: str) -> str:
    """Return the text with letters and digits of every script, "-", "_" and "." only."""
    if _CLEAN.fullmatch(text):
        return text
    kept = (_kept(character) for character in unicodedata.normalize("NFC", text))
    joined = re.sub(r"-{2,}", "-", "".join(kept))
    return re.sub(r"\.{2,}", ".", joined).strip(_SEPARATORS)


def _kept(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Cf" or character in _INVISIBLE:
        return ""
    return character if category[0] in "LMN" or character in _SEPARATORS else "-"


def _shortened(stem: str) -> Iterator[str]:
    """Yield the stem, then every shorter one; letters keep or lose their marks whole."""
    for end in range(len(stem), 0, -1):
        if end == len(stem) or not unicodedata.combining(stem[end]):
            yield stem[:end].rstrip(_SEPARATORS)
    yield ""


def sibling_key(key: str, *, sha256: str, ext: str, fits: Callable[[str], bool]) -> str:
    """Return "dir/stem.hash.ext" for an object "dir/stem.anything".

    The directory stays exactly as it is spelled; a hash that an earlier version carries is
    replaced. The stem is shortened until `fits(key)`. Raises: ValueError when nothing fits.
    """
    directory, slash, name = key.rpartition("/")
    directory += slash
    stem = _SIBLING_HASH.sub("", _SIBLING_EXT.sub("", name))

    def whole_fits(name: str) -> bool:
        return len((directory + name).encode()) <= MAX_KEY_BYTES and fits(directory + name)

    made = key_from_template(_SIBLING, {}, stem=stem, sha256=sha256, ext=ext, fits=whole_fits)
    return directory + made
