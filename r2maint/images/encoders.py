"""One picture written once, in one format and at one quality."""

from __future__ import annotations

import io
from typing import Any, NamedTuple

from r2maint.images.formats import FileType
from r2maint.images.pixels import Draft

WEBP = FileType(content_type="image/webp", ext=".webp")
AVIF = FileType(content_type="image/avif", ext=".avif")

_LOSSLESS_PIXELS = 4_000_000
"""Above it lossless WebP takes too many seconds for a picture that may not need it."""
_LOSSLESS_METHOD = 1
"""Drawings come out 3% smaller than by 4, in three quarters of the time."""
_AVIF_PIXELS = 16_000_000
"""Above it libaom takes minutes and gigabytes for one picture."""
HOPELESS = 1.5
"""Times the bytes of lossy WebP that a hurried lossless one may have, to be worth a full try."""


class Written(NamedTuple):
    """A picture as bytes."""

    body: bytes
    type: FileType


def fits(draft: Draft, to: str) -> bool:
    """Tell whether a picture of this size is written in a format."""
    return to != "avif" or draft.image.width * draft.image.height <= _AVIF_PIXELS


def write_webp(draft: Draft, *, quality: int, method: int) -> Written:
    """Return lossy WebP, or lossless where that is smaller, as it is for flat drawings."""
    lossy = write_lossy(draft, quality=quality, method=method)
    lossless = write_lossless(draft, beside=len(lossy.body))
    return min(lossless or lossy, lossy, key=lambda written: len(written.body))


def write_lossy(draft: Draft, *, quality: int, method: int) -> Written:
    return Written(_save(draft, "WEBP", quality=quality, method=method), WEBP)


def write_lossless(draft: Draft, *, beside: int) -> Written | None:
    """Return lossless WebP; None where it has no chance to be as small as `beside` bytes."""
    pixels = draft.image.width * draft.image.height
    if not draft.is_flat or pixels > _LOSSLESS_PIXELS:
        return None
    hurried = _save(draft, "WEBP", lossless=True, quality=20, method=_LOSSLESS_METHOD)
    if len(hurried) > HOPELESS * beside:
        return None
    return Written(_save(draft, "WEBP", lossless=True, quality=75, method=_LOSSLESS_METHOD), WEBP)


def write_avif(draft: Draft, *, quality: int) -> Written:
    # One thread: libaom's tiles, and so its bytes, depend on how many it may use.
    return Written(_save(draft, "AVIF", quality=quality, speed=6, max_threads=1), AVIF)


def _save(draft: Draft, name: str, **parameters: Any) -> bytes:
    out = io.BytesIO()
    # What is not named here, some of Pillow's encoders take from `image.info`, places included.
    beside = {"icc_profile": None, "exif": b"", "xmp": b"", **draft.extra}
    draft.image.save(out, name, **beside, **parameters)
    return out.getvalue()
