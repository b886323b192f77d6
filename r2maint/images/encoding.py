"""From a picture to a smaller one, proved by decoding it again."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from PIL import Image

from r2maint.images.drafts import Draft, prepare, reason_to_keep
from r2maint.images.magic import UNTOUCHED, FileType, sniff
from r2maint.images.reading import opened
from r2maint.images.similarity import proven_similarity
from r2maint.images.values import Encoded, Limits, Recipe, Skip

_TYPES = {
    "webp": FileType(content_type="image/webp", ext=".webp"),
    "avif": FileType(content_type="image/avif", ext=".avif"),
}
_LONGEST_SIDE = {"webp": 16383, "avif": 16384}
_LOSSLESS_PIXELS = 4_000_000
"""Above it lossless WebP takes too many seconds for a picture that may not need it."""
_AVIF_OFFSET = 20
"""libaom reaches the similarity of libwebp's quality q at about q - 20."""


def reencode(data: bytes, recipe: Recipe, *, limits: Limits | None = None) -> Encoded | Skip:
    """Return a smaller picture that looks the same, or why there is none.

    Orientation is applied, alpha and wide colour profiles are kept, CMYK, grey profiles and 16 bits
    become 8-bit sRGB; EXIF and GPS are dropped but for author and copyright. Pictures larger than
    `max_size` are fitted into it. Animations are never touched. Raises: ImageError.
    """
    kind = sniff(data)
    if kind is not None and kind.ext in UNTOUCHED:
        return Skip(reason="unsupported")
    with opened(data, limits or Limits()) as image:
        reason = reason_to_keep(image, data, recipe)
        if reason:
            return Skip(reason=reason)
        draft = prepare(image, data, recipe)
        return _encode(draft, recipe, len(data))


def _encode(draft: Draft, recipe: Recipe, before: int) -> Encoded | Skip:
    reason = "unsupported"
    for quality, scale in _attempts(recipe):
        tried = _scaled(draft, scale)
        written = [_write(tried, to, quality, recipe) for to in _formats(tried, recipe)]
        if not written:
            return Skip(reason="unsupported")
        body, kind = min(written, key=lambda item: len(item[0]))
        if not recipe.worth(before, len(body)):
            reason = "not_smaller"
        elif recipe.max_bytes and len(body) > recipe.max_bytes:
            reason = "over_max_bytes"
        else:
            ssim = proven_similarity(tried.image, body)
            if ssim >= recipe.min_ssim:
                size = tried.image.size
                return Encoded(body=body, type=kind, width=size[0], height=size[1], ssim=ssim)
            reason = "too_different"
    return Skip(reason=reason)


def _attempts(recipe: Recipe) -> Iterator[tuple[int, float]]:
    """Yield (quality, scale): downwards to meet a byte limit, upwards to meet a similarity."""
    quality = recipe.quality
    yield quality, 1.0
    if recipe.max_bytes:
        low = max(quality - 20, 1)
        yield from ((max(quality - 10, 1), 1.0), (low, 1.0), (low, 0.75), (low, 0.5))
    else:
        yield (quality + 100) // 2, 1.0


def _scaled(draft: Draft, scale: float) -> Draft:
    if scale == 1.0:
        return draft
    width, height = (max(1, round(side * scale)) for side in draft.image.size)
    return replace(draft, image=draft.image.resize((width, height), Image.Resampling.LANCZOS))


def _formats(draft: Draft, recipe: Recipe) -> list[str]:
    return [to for to in recipe.formats if max(draft.image.size) <= _LONGEST_SIDE[to]]


def _write(draft: Draft, to: str, quality: int, recipe: Recipe) -> tuple[bytes, FileType]:
    if to == "avif":
        # One thread: libaom's tiles, and so its bytes, depend on how many it may use.
        level = max(quality - _AVIF_OFFSET, 1)
        return _save(draft, "AVIF", quality=level, speed=6, max_threads=1), _TYPES[to]
    pixels = draft.image.width * draft.image.height
    bodies = [_save(draft, "WEBP", quality=quality, method=recipe.method)]
    if draft.is_flat and pixels <= _LOSSLESS_PIXELS:
        bodies.append(_save(draft, "WEBP", lossless=True, quality=75, method=recipe.method))
    return min(bodies, key=len), _TYPES[to]


def _save(draft: Draft, name: str, **parameters: Any) -> bytes:
    out = io.BytesIO()
    # What is not named here, some of Pillow's encoders take from `image.info`, places included.
    beside = {"icc_profile": None, "exif": b"", "xmp": b"", **draft.extra}
    draft.image.save(out, name, **beside, **parameters)
    return out.getvalue()
