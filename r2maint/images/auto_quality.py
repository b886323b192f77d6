"""The fewest bytes that look as good as WebP of the usual quality does on the same picture.

One floor for all pictures would be wrong: grain holds even quality 95 below what smooth pictures
have at 60. So lossy WebP is written first, and what it reaches the others have to reach too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from r2maint.images.encoders import Written, fits, write_avif, write_lossless, write_lossy
from r2maint.images.pixels import Draft
from r2maint.images.recipe import Recipe
from r2maint.images.similarity import ComparedPicture, Likeness

_STRICTER = 0.95
"""Of what WebP lacks to being identical: another program may have scaled a little more softly."""
_COLOUR_TIMES, _COLOUR_BESIDE = 1.25, 0.25
"""How far colours may be off: times what they are off in WebP, and levels beside that."""
_TRIES = 6
_NEAR = 0.96
"""A find that lacks at least this part of what it may lack ends a search."""
_FIRST_AVIF = 55
_STEEPNESS = 0.03
"""How much one step of quality lowers the logarithm of what is lacking, about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityFound:
    """What was written, and how alike it looks."""

    written: Written
    likeness: Likeness

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.written.body)

    @property
    def lacking(self) -> float:
        """What the similarity lacks to 1, never quite 0."""
        return max(1 - self.likeness.ssim, 1e-6)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Floor:
    ssim: float
    colour_error: float = math.inf

    def holds(self, found: QualityFound) -> bool:
        likeness = found.likeness
        return likeness.ssim >= self.ssim and likeness.colour_error <= self.colour_error

    @property
    def lacking(self) -> float:
        return max(1 - self.ssim, 1e-6)


def find_smallest(draft: Draft, recipe: Recipe) -> QualityFound | None:
    """Return the smallest of lossy and lossless WebP and AVIF that looks good enough.

    Good enough is what lossy WebP of the recipe's quality reaches, or `min_ssim` where that is
    given. None when nothing reaches it.
    """
    return _Search(draft, recipe).smallest()


class _Search:
    """The search for one picture."""

    def __init__(self, draft: Draft, recipe: Recipe) -> None:
        self._draft = draft
        self._recipe = recipe
        self._original = ComparedPicture(draft.image)

    def smallest(self) -> QualityFound | None:
        usual = self._found(self._webp(self._recipe.quality))
        floor = self._floor(usual)
        every = (self._lossy(usual, floor), self._lossless(usual), self._avif(floor))
        good = [found for found in every if found is not None]
        return min(good, key=lambda found: found.size, default=None)

    def _floor(self, usual: QualityFound) -> _Floor:
        given = self._recipe.min_ssim
        reached = 1 - usual.lacking * _STRICTER
        colour = usual.likeness.colour_error * _COLOUR_TIMES + _COLOUR_BESIDE
        return _Floor(ssim=reached if given is None else given, colour_error=colour)

    def _lossy(self, usual: QualityFound, floor: _Floor) -> QualityFound | None:
        if self._recipe.min_ssim is None:
            return usual
        return self._lowest(self._webp, floor, begin=self._recipe.quality)

    def _lossless(self, usual: QualityFound) -> QualityFound | None:
        written = write_lossless(self._draft, beside=usual.size)
        return None if written is None else self._found(written)

    def _avif(self, floor: _Floor) -> QualityFound | None:
        if not fits(self._draft, "avif"):
            return None
        draft = self._draft
        return self._lowest(lambda q: write_avif(draft, quality=q), floor, begin=_FIRST_AVIF)

    def _webp(self, quality: int) -> Written:
        return write_lossy(self._draft, quality=quality, method=self._recipe.method)

    def _found(self, written: Written) -> QualityFound:
        return QualityFound(written=written, likeness=self._original.likeness(written.body))

    def _lowest(
        self, write: Callable[[int], Written], floor: _Floor, *, begin: int
    ) -> QualityFound | None:
        """Return what the lowest quality gives that holds the floor, found in a few steps.

        What is lacking falls about exponentially as quality rises, so that each step aims by the
        last one; the bounds keep it from running in circles.
        """
        best, low, high, quality = None, 0, 101, begin
        for _ in range(_TRIES):
            found = self._found(write(quality))
            if floor.holds(found):
                best, high = found, quality
                if found.lacking >= floor.lacking * _NEAR:
                    break
            else:
                low = quality
            if high - low <= 1:
                break
            missing = math.log(found.lacking / floor.lacking) / _STEEPNESS
            step = math.ceil(missing) or (-1 if best is found else 1)
            quality = min(max(quality + step, low + 1), high - 1)
        return best
