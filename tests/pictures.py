"""Pictures made for tests, and the real ones that lie beside the checkout."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, ImageFilter


def saved(image: Image.Image, name: str = "PNG", **parameters) -> bytes:
    out = io.BytesIO()
    image.save(out, name, **parameters)
    return out.getvalue()


def photo(size=(320, 240), mode="RGB") -> Image.Image:
    """Soft shapes and a little grain: smaller as WebP than as anything else."""
    seed = [(x * 7919 + y * 104729) % 251 for y in range(24) for x in range(32)]
    small = Image.new("L", (32, 24))
    small.putdata(seed)
    bands = [small.rotate(turn).resize(size, Image.Resampling.BICUBIC) for turn in (0, 90, 180)]
    return Image.merge("RGB", bands).filter(ImageFilter.GaussianBlur(2)).convert(mode)


def animation(name: str, count: int = 3) -> bytes:
    frames = [photo((64, 64)).rotate(20 * turn) for turn in range(count)]
    return saved(frames[0], name, save_all=True, append_images=frames[1:], duration=100)


PHOTOGRAPHS = Path(__file__).resolve().parents[2] / "shared" / "media"
