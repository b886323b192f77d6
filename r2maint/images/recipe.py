"""The values of `r2maint.images`: what a picture is, how to re-encode it, what came of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import PIL
from PIL import Image, features

from r2maint.errors import R2MaintError
from r2maint.images.formats import FileType

RECIPE_KEY = "r2maint-recipe"
"""Metadata of an object: the fingerprint of the recipe that was tried on its picture."""
SOURCE_KEY = "r2maint-source-sha256"
"""Metadata of an object: what its picture was made from."""

_LONGEST_SIDE = 16383
"""Of a WebP. Source: https://developers.google.com/speed/webp/faq."""


class ImageError(R2MaintError):
    """Bytes that are no usable picture; `reason` is one of a report's words.

    "empty", "unsupported", "corrupt", "too_large" (bytes), "too_many_pixels" or "out_of_memory";
    from a pool also "too_slow", "crashed" and "encoder_failed".
    """

    code: ClassVar[str] = "image"

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"Unusable picture: {detail}.")
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type[ImageError], tuple[str, str]]:
        return type(self), (self.reason, self.detail)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What is refused before it is decoded."""

    max_pixels: int = 50_000_000
    """Of one frame."""
    max_total_pixels: int = 1_000_000_000
    """Of all frames together; checked between frames."""
    max_bytes: int = 64 * 2**20
    max_animation_pixels: int = 100_000_000
    """Of all frames of an animation together, at the size they are written in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What re-encoding one picture may cost a process."""

    memory: int | None = None
    """Bytes of address space beside what an idle process has; None for an even share."""
    seconds: float = 120
    """By the clock; 0 for no limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """What a file turned out to be, every frame decoded."""

    type: FileType
    width: int
    height: int
    """As stored, before any EXIF orientation."""
    mode: str
    frames: int
    has_alpha: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a picture is re-encoded, and what must come of it."""

    to: str = "webp"
    """"webp", "avif", or "auto": the fewest bytes that look as good as WebP of `quality` does."""
    quality: int = 85
    """On libwebp's scale, 1 to 100."""
    max_size: tuple[int, int] | None = (2000, 2000)
    """Width and height a larger picture is fitted into; smaller ones are never enlarged.

    None for as large as the formats hold.
    """
    max_bytes: int = 0
    """Quality, then size, are lowered to stay within it; 0 for no limit."""
    min_ssim: float | None = None
    """Least similarity to the original at the new size; None for what `to` implies."""
    method: int = 4
    """libwebp's effort, 0 to 6."""
    min_saving_percent: float = 5
    min_saving_bytes: int = 1024

    @property
    def formats(self) -> tuple[str, ...]:
        return ("webp", "avif") if self.to == "auto" else (self.to,)

    @property
    def box(self) -> tuple[int, int]:
        """Width and height that what is written fits into."""
        width, height = self.max_size or (_LONGEST_SIDE, _LONGEST_SIDE)
        return (min(width, _LONGEST_SIDE), min(height, _LONGEST_SIDE))

    def attempts(self) -> Iterator[tuple[int, float]]:
        """Yield (quality, scale): ever fewer bytes to meet `max_bytes`, more for a similarity."""
        quality = self.quality
        yield quality, 1.0
        if self.max_bytes:
            low = max(quality - 20, 1)
            yield from ((max(quality - 10, 1), 1.0), (low, 1.0), (low, 0.75), (low, 0.5))
        else:
            yield (quality + 100) // 2, 1.0

    @property
    def fingerprint(self) -> str:
        """ASCII that changes whenever the same picture could become other bytes."""
        size = "x".join(map(str, self.max_size)) if self.max_size else "any"
        least = "" if self.min_ssim is None else f"{self.min_ssim:g}"
        limits = f"{size} max{self.max_bytes} ssim{least}"
        encoders = " ".join(f"{name}/{features.version(name)}" for name in self.formats)
        steps = f"{self.to} q{self.quality} m{self.method} {limits}"
        return f"4 {steps} pillow/{PIL.__version__} {encoders}"

    def objection(self, before: int, after: int) -> str:
        """Return why `after` bytes instead of `before` are not worth a new object, or ""."""
        saved = before - after
        enough = saved * 100 >= before * self.min_saving_percent
        if not enough or saved < self.min_saving_bytes:
            return "not_smaller"
        return "over_max_bytes" if self.max_bytes and after > self.max_bytes else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """A smaller picture, decoded again and found to look like its source."""

    body: bytes
    type: FileType
    width: int
    height: int
    ssim: float
    """Similarity to the source at this size, 1 for identical."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Skip:
    """Why a picture stays as it is; `reason` is one of a report's words.

    "animated" (an AVIF, or too many pixels in all frames together), "several_pages",
    "unsupported", "already_webp", "already_avif", "not_smaller",
    "over_max_bytes", "too_different".
    """

    reason: str
    width: int = field(default=0, compare=False)
    height: int = field(default=0, compare=False)
    """As stored, before any EXIF orientation; 0 when not known."""


def can_write(to: str) -> bool:
    """Tell whether this Pillow encodes "webp", "avif" or, for "auto", both."""
    Image.init()
    return all(name.upper() in Image.SAVE for name in Recipe(to=to).formats)
