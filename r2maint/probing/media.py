"""What a name's extension, a Content-Type and first bytes say of a file, and whether they agree."""

from __future__ import annotations

from functools import lru_cache

from r2maint.images.magic import FileType

_JPEG, _TIFF, _MP4 = "image/jpeg", "image/tiff", "video/mp4"
_NAMES = {
    **{".jpg": _JPEG, ".jpeg": _JPEG, ".jpe": _JPEG, ".jfif": _JPEG, ".pjpeg": _JPEG},
    **{".png": "image/png", ".apng": "image/png", ".gif": "image/gif", ".webp": "image/webp"},
    **{".avif": "image/avif", ".bmp": "image/bmp", ".tif": _TIFF, ".tiff": _TIFF},
    **{".ico": "image/x-icon", ".svg": "image/svg+xml", ".jxl": "image/jxl"},
    **{".heic": "image/heic", ".heif": "image/heif"},
    **{".mp3": "audio/mpeg", ".m4a": "audio/mp4", ".aac": "audio/aac", ".flac": "audio/flac"},
    **{".wav": "audio/wav", ".ogg": "audio/ogg", ".oga": "audio/ogg", ".opus": "audio/ogg"},
    **{".mp4": _MP4, ".m4v": _MP4, ".mov": "video/quicktime", ".webm": "video/webm"},
    **{".mkv": "video/x-matroska", ".avi": "video/x-msvideo", ".ogv": "video/ogg"},
    **{".pdf": "application/pdf", ".zip": "application/zip"},
    **{".woff": "font/woff", ".woff2": "font/woff2", ".otf": "font/otf", ".ttf": "font/ttf"},
}
_SAYS_NOTHING = frozenset(("", "application/octet-stream", "binary/octet-stream"))
_LONGEST = 255
"""Source: RFC 6838 §4.2. Servers may say anything, and reports repeat it."""
_SOUND = frozenset(("audio", "video"))
_ALMOST = (
    frozenset(("image/heic", "image/heif", "image/avif")),
    frozenset(("audio/mp4", _MP4, "video/quicktime")),
    frozenset(("audio/ogg", "video/ogg")),
    frozenset(("video/webm", "video/x-matroska")),
    frozenset(("audio/mpeg", "audio/aac")),
)
"""Types that share a container, or whose first bytes hardly tell them apart."""


def type_of_name(name: str) -> str:
    """Return the media type that the extension of a key or path promises, "" for none known."""
    dot = name.rfind(".")
    return _NAMES.get(name[dot:].lower(), "") if dot >= 0 else ""


def plain_type(header: str) -> str:
    """Return the media type in a Content-Type header, "" where it says nothing."""
    found = header.partition(";")[0].strip().lower()[:_LONGEST]
    return "" if found in _SAYS_NOTHING else found


@lru_cache(maxsize=64)
def is_served_as(promised: str, header: str) -> bool:
    """Tell whether a Content-Type can be that of a file whose name promises a type.

    Servers may choose another kind of picture; they may not send a page. What says nothing agrees.
    """
    found = plain_type(header)
    if not (promised and found):
        return True
    wanted, kind = promised.partition("/")[0], found.partition("/")[0]
    if wanted == "image":
        return kind == "image"
    if wanted in _SOUND:
        return kind in _SOUND or kind == "application"
    return kind == wanted or kind == "application"


def is_same_type(promised: str, kind: FileType) -> bool:
    """Tell whether first bytes can be those of a file that promises a type."""
    found = kind.content_type
    return promised in ("", found) or any({promised, found} <= alike for alike in _ALMOST)
