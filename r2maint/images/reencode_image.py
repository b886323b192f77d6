"""From a picture to a smaller one, proved by decoding it again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from PIL import Image

from r2maint.images.animation import reencode_animation
from r2maint.images.auto_quality import find_smallest
from r2maint.images.decode import opened
from r2maint.images.encoders import Written, fits, write_avif, write_webp
from r2maint.images.formats import UNTOUCHED, sniff
from r2maint.images.pixels import Draft, is_animated, prepare, reason_to_keep
from r2maint.images.recipe import Encoded, Limits, Recipe, Skip
from r2maint.images.similarity import SURELY_BROKEN, ComparedPicture

_AVIF_OFFSET = 20
"""libaom reaches the similarity of libwebp's quality q at about q - 20."""


def reencode(data: bytes, recipe: Recipe, *, limits: Limits | None = None) -> Encoded | Skip:
    """Return a smaller picture that looks the same, or why there is none.

    Orientation is applied, alpha and wide colour profiles are kept, CMYK, grey profiles and 16 bits
    become 8-bit sRGB; EXIF and GPS are dropped but for author and copyright. Pictures larger than
    `max_size` are fitted into it. Animations become animated WebP. Raises: ImageError.
    """
    kind = sniff(data)
    if kind is not None and kind.ext in UNTOUCHED:
        return Skip(reason="unsupported")
    limits = limits or Limits()
    with opened(data, limits) as image:
        made = _reencoded(image, data, recipe, limits)
        width, height = image.size
    return replace(made, width=width, height=height) if isinstance(made, Skip) else made


def _reencoded(image: Image.Image, data: bytes, recipe: Recipe, limits: Limits) -> Encoded | Skip:
    if reason := reason_to_keep(image, data, recipe):
        return Skip(reason=reason)
    if is_animated(image):
        return reencode_animation(image, data, recipe, limits)
    return _encode(prepare(image, data, recipe), recipe, len(data))


def _encode(draft: Draft, recipe: Recipe, before: int) -> Encoded | Skip:
    if recipe.to != "auto":
        return _first_good(_attempts(draft, recipe), recipe, before)
    found = find_smallest(draft, recipe)
    if found is None:
        return Skip(reason="too_different")
    size = len(found.written.body)
    objection = recipe.objection(before, size)
    if objection == "over_max_bytes":
        return _first_good(_attempts(draft, recipe), recipe, before)
    if objection:
        return Skip(reason=objection)
    return _encoded(draft, found.written, found.likeness.ssim)


def _first_good(
    attempts: Iterator[tuple[Draft, Written]], recipe: Recipe, before: int
) -> Encoded | Skip:
    reason, least = "unsupported", recipe.min_ssim
    for tried, written in attempts:
        reason = recipe.objection(before, len(written.body))
        if not reason:
            # To see that it is not broken a quick look is enough; a floor is held exactly.
            original = ComparedPicture(tried.image, exact=least is not None)
            ssim = original.likeness(written.body).ssim
            if ssim >= (SURELY_BROKEN if least is None else least):
                return _encoded(tried, written, ssim)
            reason = "too_different"
    return Skip(reason=reason)


def _encoded(draft: Draft, written: Written, ssim: float) -> Encoded:
    width, height = draft.image.size
    return Encoded(
        body=written.body, type=written.type, width=width, height=height, ssim=round(ssim, 4)
    )


def _attempts(draft: Draft, recipe: Recipe) -> Iterator[tuple[Draft, Written]]:
    for quality, scale in recipe.attempts():
        tried = _scaled(draft, scale)
        written = [_write(tried, to, quality, recipe) for to in recipe.formats if fits(tried, to)]
        if written:
            yield tried, min(written, key=lambda each: len(each.body))


def _scaled(draft: Draft, scale: float) -> Draft:
    if scale == 1.0:
        return draft
    width, height = (max(1, round(side * scale)) for side in draft.image.size)
    return replace(draft, image=draft.image.resize((width, height), Image.Resampling.LANCZOS))


def _write(draft: Draft, to: str, quality: int, recipe: Recipe) -> Written:
    if to == "avif":
        return write_avif(draft, quality=max(quality - _AVIF_OFFSET, 1))
    return write_webp(draft, quality=quality, method=recipe.method)
