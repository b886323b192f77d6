"""Whether two pictures look alike."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image, ImageChops, ImageMath, ImageStat

_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def proven_similarity(source: Image.Image, body: bytes) -> float:
    """Decode what was written and return how alike it looks; 0 if size or alpha went wrong."""
    with Image.open(io.BytesIO(body), formats=("WEBP", "AVIF")) as written:
        written.load()
        if written.size != source.size or written.mode != source.mode:
            return 0.0
        if source.mode == "RGBA" and _alpha_error(source, written) > 2.0:
            return 0.0
        return round(_ssim(_luma(source), _luma(written)), 4)


def _alpha_error(first: Image.Image, second: Image.Image) -> float:
    difference = ImageChops.difference(first.getchannel("A"), second.getchannel("A"))
    return float(ImageStat.Stat(difference).mean[0])


def _luma(image: Image.Image) -> Image.Image:
    if image.mode == "RGBA":
        # What lies under transparent pixels is nobody's to see, and encoders drop it.
        ground = Image.new("RGBA", image.size, (128, 128, 128, 255))
        image = Image.alpha_composite(ground, image)
    return image.convert("L").convert("F")


def _ssim(first: Image.Image, second: Image.Image) -> float:
    """Return the mean structural similarity of blocks of 8 × 8 pixels.

    Source: Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment", 2004, with block windows.
    """
    block = (min(8, first.width), min(8, first.height))

    def mean(left: Image.Image, right: Image.Image) -> Image.Image:
        product = ImageMath.lambda_eval(lambda v: v["a"] * v["b"], a=left, b=right)
        return _image(product).reduce(block)

    blocks = ImageMath.lambda_eval(
        _block_similarity,
        x=first.reduce(block),
        y=second.reduce(block),
        xx=mean(first, first),
        yy=mean(second, second),
        xy=mean(first, second),
    )
    value = _image(blocks).resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
    assert isinstance(value, float)
    return value


def _block_similarity(v: dict[str, Any]) -> Any:
    mean_x, mean_y = v["x"], v["y"]
    squares = mean_x * mean_x + mean_y * mean_y
    product = mean_x * mean_y
    structure = ((v["xy"] - product) * 2.0 + _C2) / (v["xx"] + v["yy"] - squares + _C2)
    return structure * (product * 2.0 + _C1) / (squares + _C1)


def _image(value: Any) -> Image.Image:
    assert isinstance(value, Image.Image)
    return value
