"""Whether two pictures look alike.

The measure is the mean structural similarity of the luma in windows of 7 × 7 pixels, which is what
scikit-image's `structural_similarity` computes by default, here from every seventh window: on
photographs the two differ by less than 0.00002. Colour, which it cannot see, is compared beside it.
A quick look, from a 196th of the windows, differs by about 0.001 at most.
Source: Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment", 2004;
https://scikit-image.org/docs/stable/api/skimage.metrics.html
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from PIL import Image, ImageChops, ImageMath, ImageStat

_WINDOW = 7
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_OFFSETS = ((0, 0), (2, 4), (4, 1), (6, 5), (1, 6), (3, 3), (5, 2))
"""Where windows begin: each row and column of a window's places once."""
_BAND_STEP = 4
"""A quick look sees one of so many rows of windows."""
_MAX_ALPHA_ERROR = 2.0
SURELY_BROKEN = 0.85
"""Similarity below which a file of a fixed quality is not what its encoder was given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """How alike a written picture looks."""

    ssim: float
    """1 for identical; 0 when size, mode or alpha went wrong."""
    colour_error: float = 0.0
    """Mean difference of the two colour channels of YCbCr, in levels of 255, if asked for."""


_UNLIKE = Likeness(ssim=0.0, colour_error=255.0)


class ComparedPicture:
    """A picture that others are compared with."""

    def __init__(self, image: Image.Image, *, exact: bool = True) -> None:
        """`exact` looks at more windows and at colour too, for about ten times the cost."""
        self._image = image
        self._exact = exact
        self._offsets = _OFFSETS if exact else _OFFSETS[:1]

    def likeness(self, body: bytes) -> Likeness:
        """Decode what was written and return how alike it looks. Raises what Pillow raises."""
        with Image.open(io.BytesIO(body), formats=("WEBP", "AVIF")) as written:
            written.load()
            return self.likeness_of(written)

    def likeness_of(self, written: Image.Image) -> Likeness:
        image = self._image
        if written.size != image.size or written.mode != image.mode:
            return _UNLIKE
        if image.mode == "RGBA" and _alpha_error(image, written) > _MAX_ALPHA_ERROR:
            return _UNLIKE
        shown = self._seen(written)
        return Likeness(
            ssim=self._ssim(shown.convert("L").convert("F")),
            colour_error=_colour_error(self._shown, shown) if self._exact else 0.0,
        )

    @cached_property
    def _shown(self) -> Image.Image:
        return self._seen(self._image)

    def _seen(self, image: Image.Image) -> Image.Image:
        return _grounded(image if self._exact else _bands(image))

    @cached_property
    def _luma(self) -> Image.Image:
        return self._shown.convert("L").convert("F")

    @cached_property
    def _squares(self) -> Image.Image:
        return _product(self._luma, self._luma)

    def _ssim(self, luma: Image.Image) -> float:
        planes = (
            self._luma,
            luma,
            self._squares,
            _product(luma, luma),
            _product(self._luma, luma),
        )
        total, windows = 0.0, 0
        for offset in self._offsets:
            box = _box(luma.size, offset)
            if box is None:
                continue
            value, count = _mean_similarity(planes, box)
            total, windows = total + value * count, windows + count
        return total / windows


def patch_error(first: Image.Image, second: Image.Image) -> int:
    """Return how far the mean colour of any 8 × 8 pixels is off at most, in levels of 255."""
    difference = ImageChops.difference(*(_grounded(image).reduce(8) for image in (first, second)))
    return int(max(most for _, most in ImageStat.Stat(difference).extrema))


def _box(size: tuple[int, int], offset: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """Return where whole windows lie that begin at an offset; pictures of less are one window."""
    if min(size) < _WINDOW:
        return (0, 0, *size) if offset == (0, 0) else None
    width, height = (
        (side - at) // _WINDOW * _WINDOW for side, at in zip(size, offset, strict=True)
    )
    if not width or not height:
        return None
    return (offset[0], offset[1], offset[0] + width, offset[1] + height)


def _mean_similarity(
    planes: tuple[Image.Image, ...], box: tuple[int, int, int, int]
) -> tuple[float, int]:
    """Return the mean over the windows in a box, and how many they are."""
    window = (min(_WINDOW, box[2] - box[0]), min(_WINDOW, box[3] - box[1]))
    pixels = window[0] * window[1]
    names = ("x", "y", "xx", "yy", "xy")
    means = {name: plane.reduce(window, box) for name, plane in zip(names, planes, strict=True)}
    # The estimate of a variance from a sample, as the reference implementation takes it.
    unbiased = pixels / max(pixels - 1, 1)
    found = _image(ImageMath.lambda_eval(lambda v: _similarity(v, unbiased), **means))
    value = found.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
    assert isinstance(value, float)
    return value, found.width * found.height


def _similarity(v: dict[str, Any], unbiased: float) -> Any:
    squares = v["x"] * v["x"] + v["y"] * v["y"]
    product = v["x"] * v["y"]
    structure = ((v["xy"] - product) * (2 * unbiased) + _C2) / (
        (v["xx"] + v["yy"] - squares) * unbiased + _C2
    )
    return structure * (product * 2.0 + _C1) / (squares + _C1)


def _grounded(image: Image.Image) -> Image.Image:
    """Return RGB: what lies under transparent pixels is nobody's to see, and encoders drop it."""
    if image.mode != "RGBA":
        return image
    ground = Image.new("RGBA", image.size, (128, 128, 128, 255))
    return Image.alpha_composite(ground, image).convert("RGB")


def _bands(image: Image.Image) -> Image.Image:
    """Return some rows of windows, evenly spread, as one picture; few rows are all seen."""
    tops = range(0, image.height - _WINDOW + 1, _WINDOW * _BAND_STEP)
    if len(tops) < _BAND_STEP:
        return image
    bands = Image.new(image.mode, (image.width, len(tops) * _WINDOW))
    for number, top in enumerate(tops):
        bands.paste(image.crop((0, top, image.width, top + _WINDOW)), (0, number * _WINDOW))
    return bands


def _alpha_error(first: Image.Image, second: Image.Image) -> float:
    difference = ImageChops.difference(first.getchannel("A"), second.getchannel("A"))
    return float(ImageStat.Stat(difference).mean[0])


def _colour_error(first: Image.Image, second: Image.Image) -> float:
    # At half the size, as lossy formats store colour.
    small = (image.reduce(2).convert("YCbCr") for image in (first, second))
    means = ImageStat.Stat(ImageChops.difference(*small)).mean
    return float(means[1] + means[2]) / 2


def _product(first: Image.Image, second: Image.Image) -> Image.Image:
    return _image(ImageMath.lambda_eval(lambda v: v["a"] * v["b"], a=first, b=second))


def _image(value: Any) -> Image.Image:
    assert isinstance(value, Image.Image)
    return value
