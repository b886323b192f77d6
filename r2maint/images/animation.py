"""From an animation to a smaller one in WebP: each moment looks the same, as long and as often."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from PIL import Image

from r2maint.images.decode import contained, refuse_pixels
from r2maint.images.encoders import HOPELESS, WEBP
from r2maint.images.pixels import fitted, is_flat, is_lossless, is_opaque, rights_of, shown
from r2maint.images.recipe import Encoded, ImageError, Limits, Recipe, Skip
from r2maint.images.similarity import SURELY_BROKEN, ComparedPicture, patch_error

_LOSSLESS_PIXELS = 20_000_000
"""Of all frames together; above it lossless WebP takes too many seconds."""
_MAX_PATCH_ERROR = 24
_HURRIED = 10
"""Milliseconds; browsers show frames of no more for a tenth of a second, so they do not add up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Animation:
    frames: tuple[Image.Image, ...]
    """As they are shown, all of one size, RGB or RGBA."""
    durations: tuple[int, ...]
    """In milliseconds."""
    loop: int
    """How often it is shown; 0 for without end."""
    extra: Mapping[str, Any]
    is_lossless: bool

    @property
    def pixels(self) -> int:
        return sum(frame.width * frame.height for frame in self.frames)

    def scaled(self, scale: float) -> _Animation:
        if scale == 1.0:
            return self
        width, height = (max(1, round(side * scale)) for side in self.frames[0].size)
        resized = (frame.resize((width, height), Image.Resampling.LANCZOS) for frame in self.frames)
        return replace(self, frames=tuple(resized))


def reencode_animation(
    image: Image.Image, data: bytes, recipe: Recipe, limits: Limits
) -> Encoded | Skip:
    """Return a smaller animation that looks the same, or why there is none. Raises: ImageError."""
    width, height = fitted(image.size, recipe.box)
    if width * height * len(_places(image)) > limits.max_animation_pixels:
        return Skip(reason="animated")
    with contained(), _with_alpha(image, data) as source:
        animation = _read(source, data, recipe, limits)
    reason = "too_different"
    for quality, scale in recipe.attempts():
        tried = animation.scaled(scale)
        for body in _written(tried, quality, recipe.method):
            reason = recipe.objection(len(data), len(body))
            if reason:
                break
            ssim = _least_similarity(tried, body)
            if ssim >= (SURELY_BROKEN if recipe.min_ssim is None else recipe.min_ssim):
                return _encoded(tried, body, ssim)
            reason = "too_different"
        if reason == "not_smaller" and not recipe.max_bytes:
            break
    return Skip(reason=reason)


def _encoded(animation: _Animation, body: bytes, ssim: float) -> Encoded:
    width, height = animation.frames[0].size
    return Encoded(body=body, type=WEBP, width=width, height=height, ssim=round(ssim, 4))


# Reading


def _places(image: Image.Image) -> range:
    """Return the numbers of the frames that are shown.

    Of an APNG the first may be a still for programs that know nothing of animations.
    """
    has_still = image.format == "PNG" and image.info.get("default_image", False)
    return range(1 if has_still else 0, getattr(image, "n_frames", 1))


def _with_alpha(image: Image.Image, data: bytes) -> Image.Image:
    """Return the animation with what no frame covers transparent, as browsers show it."""
    if image.format != "WEBP":
        return image
    return Image.open(io.BytesIO(_declare_alpha(data)), formats=("WEBP",))


def _declare_alpha(data: bytes) -> bytes:
    """Return a WebP that says it has alpha.

    libwebp says so only if a frame has, though opaque frames may leave some of the canvas empty.
    Source: https://developers.google.com/speed/webp/docs/riff_container (VP8X).
    """
    if data[12:16] != b"VP8X":
        return data
    return data[:20] + bytes([data[20] | 0x10]) + data[21:]


def _read(image: Image.Image, data: bytes, recipe: Recipe, limits: Limits) -> _Animation:
    rights, loop = rights_of(image), _times_shown(image)
    frames: list[Image.Image] = []
    ends, pixels, profile = [0.0], 0, None
    for place in _places(image):
        image.seek(place)
        refuse_pixels(image.size, limits)
        image.load()
        pixels += image.width * image.height
        if pixels > limits.max_total_pixels:
            raise ImageError("too_many_pixels", f"more than {pixels} pixels in its frames")
        ends.append(ends[-1] + float(image.info.get("duration") or 0))
        frame, profile = shown(image, recipe.box)
        frames.append(frame)
    if len({frame.size for frame in frames}) != 1:
        raise ImageError("corrupt", "its frames leave its canvas")
    extra = {"icc_profile": profile, "exif": rights.removeprefix(b"Exif\0\0")}
    joined, durations = _joined(_without_idle_alpha(frames), _whole_milliseconds(ends))
    return _Animation(
        frames=joined,
        durations=durations,
        loop=loop,
        extra={name: value for name, value in extra.items() if value},
        is_lossless=is_lossless(image, data),
    )


def _without_idle_alpha(frames: list[Image.Image]) -> tuple[Image.Image, ...]:
    has_alpha = any(not is_opaque(frame) for frame in frames)
    return tuple(frame.convert("RGBA" if has_alpha else "RGB") for frame in frames)


def _whole_milliseconds(ends: list[float]) -> tuple[int, ...]:
    """Return durations whose rounding never adds up: APNG counts in fractions of seconds."""
    rounded = [round(end) for end in ends]
    return tuple(end - begin for begin, end in pairwise(rounded))


def _joined(
    frames: tuple[Image.Image, ...], durations: tuple[int, ...]
) -> tuple[tuple[Image.Image, ...], tuple[int, ...]]:
    """Return the frames without those that repeat the one before, which is shown the longer."""
    kept, lasting = [frames[0]], [durations[0]]
    for frame, duration in zip(frames[1:], durations[1:], strict=True):
        if _is_same(kept[-1], frame) and min(lasting[-1], duration) > _HURRIED:
            lasting[-1] += duration
        else:
            kept.append(frame)
            lasting.append(duration)
    return tuple(kept), tuple(lasting)


def _is_same(first: Image.Image, second: Image.Image) -> bool:
    # Premultiplied: nobody sees the colour of what is transparent.
    mode = "RGBa" if first.mode == "RGBA" else first.mode
    return first.convert(mode).tobytes() == second.convert(mode).tobytes()


def _times_shown(image: Image.Image) -> int:
    """Return how often an animation is shown, 0 for without end.

    A GIF says how often it is repeated, or nothing if it is not. Source: gif2webp of libwebp.
    """
    loop = image.info.get("loop")
    if image.format != "GIF":
        return int(loop or 0)
    if loop is None:
        return 1
    return min(int(loop) + 1, 0xFFFF) if loop else 0


# Writing


def _written(animation: _Animation, quality: int, method: int) -> list[bytes]:
    """Return the animation lossy and, where it may be smaller, lossless; least bytes first."""
    # Where the source lost nothing, each frame may be stored in the way that takes fewer bytes.
    mixed = animation.is_lossless
    lossy = _save(animation, quality=quality, method=method, allow_mixed=mixed)
    if not _has_every_frame(animation, lossy):
        return _lossless(animation, method=method, beside=None)
    return sorted([lossy, *_lossless(animation, method=method, beside=len(lossy))], key=len)


def _has_every_frame(animation: _Animation, body: bytes) -> bool:
    """Tell whether none was joined with the one before, as the encoder does with near twins."""
    with Image.open(io.BytesIO(body), formats=("WEBP",)) as written:
        return bool(getattr(written, "n_frames", 1) == len(animation.frames))


def _lossless(animation: _Animation, *, method: int, beside: int | None) -> list[bytes]:
    """Return it as lossless WebP, if that has a chance to be as small as `beside` bytes."""
    if not animation.is_lossless or animation.pixels > _LOSSLESS_PIXELS:
        return []
    if beside is not None:
        if not all(is_flat(frame) for frame in animation.frames):
            return []
        if len(_save(animation, lossless=True, quality=20, method=1)) > HOPELESS * beside:
            return []
    return [_save(animation, lossless=True, quality=75, method=method)]


def _save(animation: _Animation, **parameters: Any) -> bytes:
    out = io.BytesIO()
    first, *others = animation.frames
    # What is not named here, Pillow takes from `image.info`, places included.
    beside = {"icc_profile": None, "exif": b"", "xmp": b"", **animation.extra}
    first.save(
        out,
        "WEBP",
        save_all=True,
        append_images=others,
        duration=list(animation.durations),
        loop=animation.loop,
        background=(0, 0, 0, 0),
        # No frames are stored whole just to be jumped to.
        kmin=0,
        kmax=0,
        **beside,
        **parameters,
    )
    return _declare_alpha(out.getvalue()) if first.mode == "RGBA" else out.getvalue()


# Comparing


def _least_similarity(animation: _Animation, body: bytes) -> float:
    """Decode what was written and return how alike the least alike frame looks, 0 to 1."""
    with Image.open(io.BytesIO(body), formats=("WEBP",)) as written:
        if len(animation.frames) > 1 and not _is_timed_alike(animation, written):
            return 0.0
        least = 1.0
        for place, frame in enumerate(animation.frames):
            written.seek(place)
            written.load()
            least = min(least, _similarity(frame, written))
        return least


def _is_timed_alike(animation: _Animation, written: Image.Image) -> bool:
    return _durations(written) == animation.durations and written.info["loop"] == animation.loop


def _similarity(frame: Image.Image, written: Image.Image) -> float:
    # Frames that change a part of the canvas are transparent elsewhere.
    is_idle = frame.mode == "RGB" and is_opaque(written)
    found = written.convert("RGB") if is_idle else written
    if found.size != frame.size or patch_error(frame, found) > _MAX_PATCH_ERROR:
        return 0.0
    return ComparedPicture(frame, exact=False).likeness_of(found).ssim


def _durations(written: Image.Image) -> tuple[int, ...]:
    found = []
    for place in range(getattr(written, "n_frames", 1)):
        written.seek(place)
        written.load()
        found.append(int(written.info.get("duration") or 0))
    return tuple(found)
