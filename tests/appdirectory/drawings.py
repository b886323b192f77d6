"""Pictures for the example project, drawn: the same seed gives the same bytes.

What an app directory holds: icons with transparency, screenshots in both reading directions, and
photographs as large and as noisy as cameras deliver them.
"""

from __future__ import annotations

import io
from random import Random

from PIL import Image, ImageDraw, ImageFilter

Colour = tuple[int, int, int]

_PAPER = (250, 248, 242)
_INK = (52, 56, 64)
_FADED = (176, 180, 186)


def icon(seed: int, size: int = 512) -> bytes:
    """Return a PNG: a rounded tile on nothing, with a star of eight points."""
    random = Random(f"icon {seed}")
    # Drawn large and reduced, which is how Pillow smooths edges.
    side = 2 * size
    image = Image.new("RGBA", (side, side))
    draw = ImageDraw.Draw(image)
    draw.rounded_rectangle((0, 0, side - 1, side - 1), side // 5, fill=(*_colour(random), 255))
    ground = _gradient((side, side), _colour(random), _colour(random))
    image.paste(ground, (0, 0), image.getchannel("A"))
    star = Image.new("L", (side, side))
    square = (side * 0.29, side * 0.29, side * 0.71, side * 0.71)
    ImageDraw.Draw(star).rectangle(square, fill=255)
    for turn in (0, 45):
        image.paste((255, 255, 255, 255), (0, 0), star.rotate(turn, Image.Resampling.BICUBIC))
    hole = side * 0.42, side * 0.42, side * 0.58, side * 0.58
    ImageDraw.Draw(image).ellipse(hole, fill=(*_colour(random), 255))
    return _png(image.resize((size, size), Image.Resampling.LANCZOS))


def screenshot(seed: int, *, rtl: bool, size: tuple[int, int] = (1080, 1920)) -> bytes:
    """Return a PNG of a phone's screen: a title, a picture, lines of words; Arabic if `rtl`."""
    random = Random(f"screenshot {seed} {rtl}")
    width, height = size
    image = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(image)
    unit = width // 36
    accent = _colour(random)
    draw.rectangle((0, 0, width, 2 * unit), fill=_INK)
    draw.rectangle((0, 2 * unit, width, 6 * unit), fill=accent)
    draw.ellipse(_mirrored((unit, 3 * unit, 3 * unit, 5 * unit), width, rtl), fill=_PAPER)
    _words(draw, random, (4 * unit, 3.4 * unit, 18 * unit, 4.6 * unit), width, rtl, _PAPER)
    picture = _scenery(random, (width - 4 * unit, 14 * unit))
    image.paste(picture, (2 * unit, 8 * unit))
    for number in range(int((height - 26 * unit) // (2 * unit))):
        top = (24 + 2 * number) * unit
        is_last = number % 5 == 4
        end = random.uniform(10, 22) * unit if is_last else width - 2 * unit
        colour = _FADED if number % 5 else _INK
        _words(draw, random, (2 * unit, top, end, top + unit), width, rtl, colour)
    return _png(image)


def photograph(seed: int, size: tuple[int, int] = (2400, 3000)) -> bytes:
    """Return a JPEG of a landscape with grain, at a camera's wasteful quality."""
    random = Random(f"photograph {seed}")
    image = _scenery(random, size)
    grain = Image.frombytes(
        "L", (size[0] // 3, size[1] // 3), random.randbytes((size[0] // 3) * (size[1] // 3))
    ).resize(size, Image.Resampling.BILINEAR)
    noisy = Image.blend(image, Image.merge("RGB", [grain] * 3), 0.08)
    out = io.BytesIO()
    noisy.save(out, "JPEG", quality=95, subsampling=0)
    return out.getvalue()


def _scenery(random: Random, size: tuple[int, int]) -> Image.Image:
    """Draw a sky, a sun and three ranges of hills, softly."""
    small = (size[0] // 4, size[1] // 4)
    image = _gradient(small, _colour(random), (252, 226, 190))
    draw = ImageDraw.Draw(image)
    x, y, radius = random.uniform(0.2, 0.8), random.uniform(0.15, 0.35), small[0] * 0.07
    centre = (x * small[0], y * small[1])
    draw.ellipse(
        (*(c - radius for c in centre), *(c + radius for c in centre)), fill=(255, 246, 214)
    )
    for distance in range(3):
        base = small[1] * (0.5 + 0.16 * distance)
        shade = _darker(_colour(random), 0.75 - 0.2 * distance)
        points = [
            (step * small[0] / 12, base + random.uniform(-0.07, 0.07) * small[1])
            for step in range(13)
        ]
        draw.polygon([(0, small[1]), *points, (small[0], small[1])], fill=shade)
    soft = image.filter(ImageFilter.GaussianBlur(1))
    return soft.resize(size, Image.Resampling.BICUBIC)


def _words(
    draw: ImageDraw.ImageDraw,
    random: Random,
    box: tuple[float, float, float, float],
    width: int,
    rtl: bool,
    colour: Colour,
) -> None:
    """Fill a line with bars of the length of words; Arabic ones hang on a baseline, with dots."""
    left, top, right, bottom = box
    height = bottom - top
    at = left
    while at < right - height:
        end = min(at + random.uniform(1.2, 4.5) * height, right)
        body = (at, top + height * (0.45 if rtl else 0.1), end, bottom - height * 0.2)
        draw.rounded_rectangle(_mirrored(body, width, rtl), height * 0.2, fill=colour)
        if rtl:
            dot = at + random.uniform(0.2, 0.8) * (end - at)
            above = (dot, top + height * 0.05, dot + height * 0.2, top + height * 0.25)
            draw.ellipse(_mirrored(above, width, rtl), fill=colour)
        at = end + height * 0.5


def _mirrored(
    box: tuple[float, float, float, float], width: int, rtl: bool
) -> tuple[float, float, float, float]:
    left, top, right, bottom = box
    return (width - right, top, width - left, bottom) if rtl else box


def _gradient(size: tuple[int, int], top: Colour, bottom: Colour) -> Image.Image:
    mask = Image.linear_gradient("L").resize(size)
    return Image.composite(Image.new("RGB", size, bottom), Image.new("RGB", size, top), mask)


def _colour(random: Random) -> Colour:
    return random.randint(20, 200), random.randint(60, 190), random.randint(60, 220)


def _darker(colour: Colour, share: float) -> Colour:
    red, green, blue = (round(level * share) for level in colour)
    return red, green, blue


def _png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()
