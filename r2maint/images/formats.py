"""Media types: by a file's first bytes, its name, a Content-Type, and whether they agree.

What a file is, its first bytes say; names and extensions are compared with them, never believed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

HEAD_BYTES = 1024
"""How many leading bytes `sniff` needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileType:
    """A media type and the extension files of it carry, dot included."""

    content_type: str
    ext: str

    @property
    def is_image(self) -> bool:
        return self.content_type.startswith("image/")


UNTOUCHED = frozenset({".svg", ".ico", ".heic", ".heif", ".jxl"})
"""Extensions of the image types that are never re-encoded."""


def _type(content_type: str, ext: str) -> FileType:
    return FileType(content_type=content_type, ext=ext)


# Offset, bytes, type. Source: https://mimesniff.spec.whatwg.org/#matching-an-image-type-pattern,
# https://www.iana.org/assignments/media-types and the formats' own specifications.
_SIGNATURES: tuple[tuple[int, bytes, FileType], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", _type("image/png", ".png")),
    (0, b"\xff\xd8\xff", _type("image/jpeg", ".jpg")),
    (0, b"GIF87a", _type("image/gif", ".gif")),
    (0, b"GIF89a", _type("image/gif", ".gif")),
    (0, b"II*\x00", _type("image/tiff", ".tif")),
    (0, b"MM\x00*", _type("image/tiff", ".tif")),
    (0, b"II+\x00", _type("image/tiff", ".tif")),
    (0, b"MM\x00+", _type("image/tiff", ".tif")),
    (0, b"\x00\x00\x00\x0cJXL \r\n\x87\n", _type("image/jxl", ".jxl")),
    (0, b"\xff\x0a", _type("image/jxl", ".jxl")),
    (0, b"%PDF-", _type("application/pdf", ".pdf")),
    (0, b"ID3", _type("audio/mpeg", ".mp3")),
    (0, b"fLaC", _type("audio/flac", ".flac")),
    (0, b"PK\x03\x04", _type("application/zip", ".zip")),
    (0, b"PK\x05\x06", _type("application/zip", ".zip")),
    (0, b"\x1f\x8b\x08", _type("application/gzip", ".gz")),
    (0, b"wOFF", _type("font/woff", ".woff")),
    (0, b"wOF2", _type("font/woff2", ".woff2")),
    (0, b"OTTO", _type("font/otf", ".otf")),
    (0, b"\x00\x01\x00\x00\x00", _type("font/ttf", ".ttf")),
)
_RIFF = {
    b"WEBP": _type("image/webp", ".webp"),
    b"WAVE": _type("audio/wav", ".wav"),
    b"AVI ": _type("video/x-msvideo", ".avi"),
}
# Brands of the ISO base media file format. Source: https://mp4ra.org/registered-types/brands.
_BRANDS = {
    b"avif": _type("image/avif", ".avif"),
    b"avis": _type("image/avif", ".avif"),
    b"heic": _type("image/heic", ".heic"),
    b"heix": _type("image/heic", ".heic"),
    b"heim": _type("image/heic", ".heic"),
    b"heis": _type("image/heic", ".heic"),
    b"hevc": _type("image/heic", ".heic"),
    b"hevx": _type("image/heic", ".heic"),
    b"mif1": _type("image/heif", ".heif"),
    b"msf1": _type("image/heif", ".heif"),
    b"M4A ": _type("audio/mp4", ".m4a"),
    b"M4B ": _type("audio/mp4", ".m4a"),
    b"qt  ": _type("video/quicktime", ".mov"),
}
_GENERIC_BRANDS = {b"mif1", b"msf1"}
_MP4 = _type("video/mp4", ".mp4")
_BMP = _type("image/bmp", ".bmp")
_ICO = _type("image/x-icon", ".ico")
_SVG = _type("image/svg+xml", ".svg")
_MP3 = _type("audio/mpeg", ".mp3")
_AAC = _type("audio/aac", ".aac")
_SVG_START = re.compile(
    rb"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*(?:<!DOCTYPE\s+svg[^>\[]*(?:\[.*?\])?[^>]*>\s*)?"
    rb"(?:<!--.*?-->\s*)*<(?:svg:)?svg[\s>]",
    re.DOTALL,
)
_DIB_HEADERS = {12, 16, 40, 52, 56, 64, 108, 124}
"""Sizes a BMP's second header can have; two letters alone prove nothing."""


def sniff(head: bytes) -> FileType | None:
    """Return what the first `HEAD_BYTES` bytes of a file say it is; None when they do not say.

    Text formats other than SVG have no magic bytes and give None.
    """
    for offset, signature, found in _SIGNATURES:
        if head.startswith(signature, offset):
            return found
    return _sniff_container(head) or _sniff_bitmap(head) or _sniff_audio(head) or _sniff_svg(head)


def _sniff_container(head: bytes) -> FileType | None:
    if head.startswith(b"RIFF"):
        return _RIFF.get(head[8:12])
    if head[4:8] == b"ftyp":
        return _sniff_brands(head)
    if head.startswith(b"\x1aE\xdf\xa3"):
        is_webm = b"webm" in head[:64]
        return _type("video/webm", ".webm") if is_webm else _type("video/x-matroska", ".mkv")
    if head.startswith(b"OggS"):
        is_video = b"theora" in head[:128]
        return _type("video/ogg", ".ogv") if is_video else _type("audio/ogg", ".ogg")
    return None


def _sniff_brands(head: bytes) -> FileType:
    end = min(int.from_bytes(head[:4], "big"), len(head))
    compatible = [head[at : at + 4] for at in range(16, end, 4)]
    brands = [head[8:12], *compatible]
    # A generic major brand says only "HEIF"; the compatible ones say which codec.
    exact = [_BRANDS[brand] for brand in brands if brand in _BRANDS.keys() - _GENERIC_BRANDS]
    if brands[0] in _GENERIC_BRANDS:
        return exact[0] if exact else _BRANDS[brands[0]]
    return _BRANDS.get(brands[0], _MP4)


def _sniff_bitmap(head: bytes) -> FileType | None:
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _DIB_HEADERS:
        return _BMP
    is_icon = head[:4] == b"\x00\x00\x01\x00" and head[4:6] != b"\x00\x00" and head[9:10] == b"\x00"
    return _ICO if is_icon else None


def _sniff_audio(head: bytes) -> FileType | None:
    if len(head) < 2 or head[0] != 0xFF:
        return None
    if head[1] & 0xF6 == 0xF0:
        return _AAC
    has_layer, has_version = head[1] & 0x06, head[1] & 0x18 != 0x08
    return _MP3 if head[1] & 0xE0 == 0xE0 and has_layer and has_version else None


def _sniff_svg(head: bytes) -> FileType | None:
    text = head.removeprefix(b"\xef\xbb\xbf")[:HEAD_BYTES]
    return _SVG if _SVG_START.match(text) else None


_JPEG_TYPE, _TIFF_TYPE, _MP4_TYPE = "image/jpeg", "image/tiff", "video/mp4"
_NAMES = {
    **{
        ".jpg": _JPEG_TYPE,
        ".jpeg": _JPEG_TYPE,
        ".jpe": _JPEG_TYPE,
        ".jfif": _JPEG_TYPE,
        ".pjpeg": _JPEG_TYPE,
    },
    **{".png": "image/png", ".apng": "image/png", ".gif": "image/gif", ".webp": "image/webp"},
    **{".avif": "image/avif", ".bmp": "image/bmp", ".tif": _TIFF_TYPE, ".tiff": _TIFF_TYPE},
    **{".ico": "image/x-icon", ".svg": "image/svg+xml", ".jxl": "image/jxl"},
    **{".heic": "image/heic", ".heif": "image/heif"},
    **{".mp3": "audio/mpeg", ".m4a": "audio/mp4", ".aac": "audio/aac", ".flac": "audio/flac"},
    **{".wav": "audio/wav", ".ogg": "audio/ogg", ".oga": "audio/ogg", ".opus": "audio/ogg"},
    **{".mp4": _MP4_TYPE, ".m4v": _MP4_TYPE, ".mov": "video/quicktime", ".webm": "video/webm"},
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
    frozenset(("audio/mp4", _MP4_TYPE, "video/quicktime")),
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
