"""What a file is, by its first bytes; names and extensions are never believed."""

from __future__ import annotations

import re
from dataclasses import dataclass

HEAD_BYTES = 1024
"""As many first bytes as `sniff` ever looks at."""


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
