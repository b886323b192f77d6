"""The values of `r2maint.images`: what a picture is, how to re-encode it, what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import PIL
from PIL import Image, features

from r2maint.errors import R2MaintError
from r2maint.images.magic import FileType

RECIPE_KEY = "r2maint-recipe"
"""Metadata of an object: the fingerprint of the recipe that was tried on its picture."""
SOURCE_KEY = "r2maint-source-sha256"
"""Metadata of an object: what its picture was made from."""


class ImageError(R2MaintError):
    """Bytes that are no usable picture; `reason` is one of a report's words.

    "empty", "unsupported", "corrupt", "too_large" (bytes) or "too_many_pixels"; from a pool also
    "crashed" and "encoder_failed".
    """

    code: ClassVar[str] = "image"

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"Unusable picture: {detail}.")
        self.reason = reason

    def __reduce__(self) -> tuple[type[ImageError], tuple[str, str]]:
        detail = self.message.removeprefix("Unusable picture: ").removesuffix(".")
        return type(self), (self.reason, detail)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What is refused before it is decoded."""

    max_pixels: int = 50_000_000
    """Of one frame."""
    max_total_pixels: int = 1_000_000_000
    """Of all frames together; checked between frames."""
    max_bytes: int = 64 * 2**20


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
    """Width and height a larger picture is fitted into; smaller ones are never enlarged."""
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
    def fingerprint(self) -> str:
        """ASCII that changes whenever the same picture could become other bytes."""
        size = "x".join(map(str, self.max_size)) if self.max_size else "any"
        least = "" if self.min_ssim is None else f"{self.min_ssim:g}"
        limits = f"{size} max{self.max_bytes} ssim{least}"
        encoders = " ".join(f"{name}/{features.version(name)}" for name in self.formats)
        steps = f"{self.to} q{self.quality} m{self.method} {limits}"
        return f"2 {steps} pillow/{PIL.__version__} {encoders}"

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

    "animated", "several_pages", "unsupported", "already_webp", "already_avif", "not_smaller",
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
