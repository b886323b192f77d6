"""Awkward pictures, each made here, with what has to be seen when they are shown."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass, field
from itertools import product

from PIL import ExifTags, Image, ImageFilter, ImageOps

COLOURS = [
    (200, 60, 50),
    (60, 160, 80),
    (50, 80, 190),
    (128, 128, 128),
    (240, 235, 220),
    (20, 24, 30),
]
SIDE = 48
"""Of a flat patch."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What has to be seen: moments of so many milliseconds each."""

    frames: list[Image.Image]
    durations: list[int] = field(default_factory=lambda: [0])
    loop: int = 0
    is_near: bool = False
    """Reckoned or resized in another way than here: no lossless file has just these levels."""


def saved(image: Image.Image, name: str = "PNG", **parameters) -> bytes:
    out = io.BytesIO()
    image.save(out, name, **parameters)
    return out.getvalue()


def scene(mode: str = "RGB", *, grain: bool = True) -> Image.Image:
    """Six flat patches above something like a photograph, which no lossless format stores well."""
    image = Image.new("RGB", (6 * SIDE, 3 * SIDE))
    for place, colour in enumerate(COLOURS):
        image.paste(colour, (place * SIDE, 0, (place + 1) * SIDE, SIDE))
    if grain:
        noise = Image.new("L", (72, 24))
        noise.putdata([(x * 7919 + y * 104729) % 251 for y in range(24) for x in range(72)])
        bands = [noise.rotate(turn).resize((6 * SIDE, 2 * SIDE)) for turn in (0, 180, 0)]
        soft = Image.merge("RGB", bands).filter(ImageFilter.GaussianBlur(2))
        image.paste(soft, (0, SIDE))
    return image.convert(mode)


def shaded(image: Image.Image) -> Image.Image:
    """Return the picture with a patch of one opacity after the other."""
    mask = Image.new("L", image.size, 255)
    for place in range(5):
        mask.paste(60 * place, (place * SIDE, 0, (place + 1) * SIDE, SIDE))
    image.putalpha(mask)
    return image


def still(image: Image.Image) -> Shown:
    return Shown(frames=[image])


def exif(**tags: object) -> bytes:
    found = Image.Exif()
    for name, value in tags.items():
        found[ExifTags.Base[name]] = value
    return found.tobytes()


def best(name: str) -> dict[str, int]:
    return {"quality": 100, "subsampling": 0} if name == "JPEG" else {}


def oriented(orientation: int, name: str) -> tuple[bytes, Shown]:
    data = saved(scene(), name, exif=exif(Orientation=orientation), **best(name))
    with Image.open(io.BytesIO(data)) as image:
        return data, still(ImageOps.exif_transpose(image).convert("RGB"))


# PNG as Pillow does not write it. Source: https://www.w3.org/TR/png-3/.


def png(size, bits, kind, rows, *, interlaced=False, chunks=b"") -> bytes:
    """`rows` are those of every pass, each without its filter byte."""
    header = struct.pack(">IIBBBBB", *size, bits, kind, 0, 0, interlaced)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = [chunk(b"IHDR", header), chunks, chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def deep_png(mode: str) -> bytes:
    """16 bits a channel, the low ones other than zero."""
    image = scene(mode)
    deep = struct.pack(f">{len(image.tobytes())}H", *(level * 257 for level in image.tobytes()))
    step = len(deep) // image.height
    rows = [deep[at : at + step] for at in range(0, len(deep), step)]
    return png(image.size, 16, {"L": 0, "RGB": 2, "LA": 4, "RGBA": 6}[mode], rows)


def interlaced_png() -> bytes:
    image = scene()
    passes = [
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    ]
    rows = [
        b"".join(bytes(image.getpixel((x, y))) for x in range(left, image.width, across))
        for left, top, across, down in passes
        for y in range(top, image.height, down)
    ]
    return png(image.size, 8, 2, rows, interlaced=True)


# Profiles. Source: ICC.1:2010.


def profile(
    space: bytes, tags: dict[bytes, bytes], connection: bytes = b"XYZ ", kind: bytes = b"mntr"
) -> bytes:
    words = b"made here"
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", len(words) + 1) + words + bytes(80),
        b"cprt": b"text" + bytes(4) + words + b"\0",
        b"wtpt": xyz(0.9642, 1.0, 0.8249),
        **tags,
    }
    tags = {name: body + bytes(-len(body) % 4) for name, body in tags.items()}
    at = 132 + 12 * len(tags)
    table = struct.pack(">I", len(tags))
    for name, body in tags.items():
        table += name + struct.pack(">II", at, len(body))
        at += len(body)
    head = struct.pack(
        ">I4sI4s4s4s12s4s", at, b"lcms", 0x02400000, kind, space, connection, bytes(12), b"acsp"
    )
    light = struct.pack(">iii", *(round(each * 65536) for each in (0.9642, 1.0, 0.8249)))
    return (head.ljust(68, b"\0") + light).ljust(128, b"\0") + table + b"".join(tags.values())


def xyz(*values: float) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">iii", *(round(value * 65536) for value in values))


def gamma(value: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(value * 256))


def display_p3() -> bytes:
    corners = {
        b"rXYZ": (0.5151, 0.2412, -0.0011),
        b"gXYZ": (0.2920, 0.6922, 0.0419),
        b"bXYZ": (0.1571, 0.0666, 0.7841),
    }
    curves = {name: gamma(2.2) for name in (b"rTRC", b"gTRC", b"bTRC")}
    return profile(b"RGB ", {**{name: xyz(*place) for name, place in corners.items()}, **curves})


def linear_grey() -> bytes:
    return profile(b"GRAY", {b"kTRC": gamma(1.0)})


def printer() -> bytes:
    """A press whose every ink is a weak grey, 25 of 100 steps of lightness: no plain CMYK."""
    identity = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    straight = bytes(range(256))
    corners = [
        bytes([round(2.55 * (100 - 25 * sum(inks))), 128, 128])
        for inks in product((0, 1), repeat=4)
    ]
    table = (
        b"mft1"
        + bytes(4)
        + bytes([4, 3, 2, 0])
        + identity
        + straight * 4
        + b"".join(corners)
        + straight * 3
    )
    return profile(b"CMYK", {b"A2B0": table}, b"Lab ", b"prtr")


# Animations


def moving(mode: str = "RGB", count: int = 5, *, grain: bool = True) -> list[Image.Image]:
    """The patches wander, and what lies below them stays."""
    frames = []
    for turn in range(count):
        image = scene(grain=grain)
        top = image.crop((0, 0, image.width, SIDE))
        image.paste(top, (turn * SIDE, 0))
        image.paste(top.crop((image.width - turn * SIDE, 0, image.width, SIDE)), (0, 0))
        frames.append(image.convert(mode))
    return frames


def sprites(count: int = 4) -> list[Image.Image]:
    """A patch wanders over nothing."""
    frames = []
    for turn in range(count):
        image = Image.new("RGBA", (4 * SIDE, SIDE))
        image.paste((*COLOURS[turn], 255), (turn * SIDE, 0, (turn + 1) * SIDE, SIDE))
        frames.append(image)
    return frames


def animated(frames, name, *, durations, loop, plays=None, **parameters) -> tuple[bytes, Shown]:
    """`loop` as the format writes it, None for not at all; `plays` where that is another number."""
    if loop is not None:
        parameters["loop"] = loop
    data = saved(
        frames[0], name, save_all=True, append_images=frames[1:], duration=durations, **parameters
    )
    shown = [frame.convert("RGBA") for frame in frames[bool(parameters.get("default_image")) :]]
    return data, Shown(frames=shown, durations=durations, loop=loop if plays is None else plays)
