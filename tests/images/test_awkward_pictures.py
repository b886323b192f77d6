"""A gallery of awkward files: each is converted faithfully, or skipped for a good reason."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from zlib import crc32

import pytest
from PIL import ExifTags, Image, ImageChops, ImageCms, ImageStat

from r2maint.images import Encoded, ImageError, Job, Limits, Recipe, Skip, reencode, reencode_many
from r2maint.images.similarity import ComparedPicture
from tests.awkward_pictures import (
    COLOURS,
    SIDE,
    Shown,
    animated,
    chunk,
    deep_png,
    display_p3,
    interlaced_png,
    linear_grey,
    moving,
    oriented,
    png,
    printer,
    saved,
    scene,
    shaded,
    sprites,
    still,
)

ANYTHING = Recipe(min_saving_percent=-1e9, min_saving_bytes=-(10**9))
"""However many bytes come of it: what is asked here is how it looks."""


def in_srgb(image: Image.Image) -> Image.Image:
    """Return RGB or RGBA as a program shows it that honours profiles."""
    profile = image.info.get("icc_profile")
    mode = "RGBA" if image.has_transparency_data else "RGB"
    if not profile:
        return image.convert(mode)
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    target = ImageCms.createProfile("sRGB")
    return ImageCms.profileToProfile(image, source, target, outputMode="RGB")


def of_file(data: bytes) -> tuple[bytes, Shown]:
    """Return a file beside what Pillow shows of it."""
    with Image.open(io.BytesIO(data)) as image:
        return data, still(in_srgb(image))


def jpeg(image: Image.Image, **parameters) -> bytes:
    return saved(image, "JPEG", quality=100, subsampling=0, **parameters)


def greys_of_press() -> Shown:
    """What `printer` makes of one ink after the other, reckoned by CIE L*."""
    image = Image.new("RGB", (4 * SIDE, SIDE))
    for place in range(4):
        luminance = ((100 - 25 * place + 16) / 116) ** 3
        level = round(255 * (1.055 * luminance ** (1 / 2.4) - 0.055))
        image.paste((level,) * 3, (place * SIDE, 0, (place + 1) * SIDE, SIDE))
    return Shown(frames=[image], is_near=True)


def inked() -> Image.Image:
    image = Image.new("CMYK", (4 * SIDE, SIDE))
    for place in range(4):
        inks = tuple(255 * (ink < place) for ink in range(4))
        image.paste(inks, (place * SIDE, 0, (place + 1) * SIDE, SIDE))
    return image


def linear() -> tuple[bytes, Shown]:
    image = scene("L", grain=False)
    shown = image.point(
        [
            round(255 * (1.055 * (level / 255) ** (1 / 2.4) - 0.055)) if level else 0
            for level in range(256)
        ]
    )
    return saved(image, icc_profile=linear_grey()), still(shown.convert("RGB"))


def transparent_palette() -> tuple[bytes, Shown]:
    palette = scene(grain=False).quantize(16)
    shown = scene(grain=False).convert("RGBA")
    nothing = palette.getpixel((SIDE + 1, 1))
    shown.paste((0, 0, 0, 0), (SIDE, 0, 2 * SIDE, SIDE))
    return saved(palette, transparency=nothing), still(shown)


def transparent_colour() -> tuple[bytes, Shown]:
    shown = scene().convert("RGBA")
    shown.paste((0, 0, 0, 0), (0, 0, SIDE, SIDE))
    return saved(scene(), transparency=COLOURS[0]), still(shown)


def wide() -> tuple[bytes, Shown]:
    image = Image.new("RGB", (20_000, 10), COLOURS[1])
    image.paste(COLOURS[2], (10_000, 0, 20_000, 10))
    shown = Image.new("RGB", (2000, 1), COLOURS[1])
    shown.paste(COLOURS[2], (1000, 0, 2000, 1))
    return saved(image), Shown(frames=[shown], is_near=True)


def burdened() -> tuple[bytes, Shown]:
    """One pixel beside much that is nobody's business."""
    noise = bytes(range(256)) * 400
    parts = chunk(b"tEXt", b"Comment\0" + b"home " * 5000) + chunk(b"prVt", noise)
    return png((1, 1), 8, 2, [bytes(COLOURS[0])], chunks=parts), still(
        Image.new("RGB", (1, 1), COLOURS[0])
    )


def mpo() -> bytes:
    return saved(
        scene(),
        "MPO",
        save_all=True,
        append_images=[scene().rotate(90)],
        quality=100,
        subsampling=0,
    )


def apng_with_still() -> tuple[bytes, Shown]:
    frames = [Image.new("RGB", scene().size, "black"), *moving()]
    return animated(frames, "PNG", durations=[50, 80, 110, 140, 170], loop=0, default_image=True)


def apng_of_thirds() -> tuple[bytes, Shown]:
    data, shown = animated(moving(), "PNG", durations=[33] * 5, loop=3)
    # By hand: Pillow before 12.1 writes whole milliseconds.
    return lasting(data, 1, 30), replace(shown, durations=[33, 34, 33, 33, 34])


def lasting(data: bytes, numerator: int, denominator: int) -> bytes:
    """Return an APNG each of whose frames lasts this fraction of a second."""
    found, at = data[:8], 8
    while at < len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        body = data[at + 4 : end]
        if body.startswith(b"fcTL"):
            body = body[:24] + struct.pack(">HH", numerator, denominator) + body[28:]
        found += data[at : at + 4] + body + struct.pack(">I", crc32(body))
        at = end + 4
    return found


def gif(**parameters) -> tuple[bytes, Shown]:
    frames = [frame.quantize(255, dither=Image.Dither.NONE) for frame in moving(grain=False)]
    return animated(frames, "GIF", durations=[40, 0, 90, 200, 1000], **parameters)


def shrunk() -> tuple[bytes, Shown]:
    tops = [frame.crop((0, 0, frame.width, SIDE)) for frame in moving(count=2, grain=False)]
    frames = [top.resize((8 * top.width, 2 * SIDE), Image.Resampling.NEAREST) for top in tops]
    data, shown = animated(frames, "GIF", durations=[70, 90], loop=None, plays=1)
    fitted = [frame.resize((2000, 83)) for frame in shown.frames]
    return data, replace(shown, frames=fitted, is_near=True)


P3 = {"icc_profile": display_p3()}
GALLERY = {
    **{f"jpeg-orientation-{way}": lambda way=way: oriented(way, "JPEG") for way in range(1, 9)},
    "png-orientation-6": lambda: oriented(6, "PNG"),
    "jpeg": lambda: of_file(jpeg(scene())),
    "jpeg-progressive": lambda: of_file(jpeg(scene(), progressive=True)),
    "jpeg-grey": lambda: of_file(jpeg(scene("L"))),
    "jpeg-cmyk": lambda: of_file(jpeg(scene("CMYK"))),
    "jpeg-cmyk-profile": lambda: (jpeg(inked(), icc_profile=printer()), greys_of_press()),
    "tiff-cmyk-profile": lambda: (
        saved(inked(), "TIFF", icc_profile=printer()),
        greys_of_press(),
    ),
    "jpeg-display-p3": lambda: of_file(jpeg(scene(), **P3)),
    "png-display-p3": lambda: of_file(saved(scene(), **P3)),
    "png-display-p3-flat": lambda: of_file(saved(scene(grain=False), **P3)),
    "png-linear-grey": linear,
    "mpo": lambda: of_file(mpo()),
    "png-16-bit-grey": lambda: (deep_png("L"), still(scene("L").convert("RGB"))),
    "png-16-bit-grey-alpha": lambda: (deep_png("LA"), still(scene("LA").convert("RGBA"))),
    "png-16-bit-rgb": lambda: (deep_png("RGB"), still(scene())),
    "png-16-bit-rgba": lambda: (deep_png("RGBA"), still(scene("RGBA"))),
    "png-rgba": lambda: of_file(saved(shaded(scene()))),
    "png-rgba-flat": lambda: of_file(saved(shaded(scene(grain=False)))),
    "png-grey-alpha": lambda: of_file(saved(shaded(scene("L")))),
    "png-palette": lambda: of_file(saved(scene().quantize(256))),
    "png-palette-4-bit": lambda: of_file(saved(scene(grain=False).quantize(8))),
    "png-palette-transparent": transparent_palette,
    "png-palette-half-transparent": lambda: of_file(
        saved(scene(grain=False).quantize(8), transparency=bytes([0, 90, 180, 255]))
    ),
    "png-transparent-colour": transparent_colour,
    "png-1-bit": lambda: of_file(saved(scene(grain=False).convert("1", dither=Image.Dither.NONE))),
    "png-interlaced": lambda: (interlaced_png(), still(scene())),
    "png-1x1-with-metadata": burdened,
    "png-20000x10": wide,
    "png-polyglot-zip": lambda: of_file(saved(scene()) + b"PK\x03\x04<script>alert(1)</script>"),
    "jpeg-polyglot-html": lambda: of_file(jpeg(scene(), comment=b"<script>alert(1)</script>")),
    "gif-polyglot-script": lambda: of_file(
        saved(scene(grain=False), "GIF") + b"/*<script>alert(1)</script>"
    ),
    "gif": lambda: of_file(saved(scene(grain=False), "GIF")),
    "gif-transparent": lambda: of_file(
        saved(scene(grain=False).quantize(16), "GIF", transparency=2)
    ),
    "bmp": lambda: of_file(saved(scene(), "BMP")),
    "tiff-lzw": lambda: of_file(saved(scene(), "TIFF", compression="tiff_lzw")),
    "webp-lossless": lambda: of_file(saved(scene(), "WEBP", lossless=True)),
    "webp-lossless-alpha": lambda: of_file(saved(shaded(scene()), "WEBP", lossless=True)),
    "gif-animated-once": lambda: gif(loop=None, plays=1),
    "gif-animated-for-ever": lambda: gif(loop=0),
    "gif-animated-thrice-more": lambda: gif(loop=3, plays=4),
    "gif-animated-disposed": lambda: animated(
        sprites(), "GIF", durations=[60, 70, 80, 90], loop=0, disposal=2
    ),
    "gif-animated-too-large": shrunk,
    "apng": lambda: animated(moving(), "PNG", durations=[20, 40, 60, 80, 100], loop=0),
    "apng-alpha": lambda: animated(
        sprites(), "PNG", durations=[60, 70, 80, 90], loop=2, disposal=1, blend=0
    ),
    "apng-with-hidden-still": apng_with_still,
    "apng-thirds-of-a-second": apng_of_thirds,
    "webp-animated-lossless": lambda: animated(
        moving(), "WEBP", durations=[20, 40, 60, 80, 100], loop=4, lossless=True
    ),
    "webp-animated-alpha": lambda: animated(
        sprites(), "WEBP", durations=[60, 70, 80, 90], loop=0, lossless=True
    ),
}


def test_the_gallery_is_large():
    assert len(GALLERY) + len(UNUSABLE) >= 60


@pytest.mark.parametrize("name", GALLERY)
def test_an_awkward_picture_is_converted_faithfully(name):
    data, wanted = GALLERY[name]()
    result = reencode(data, ANYTHING)
    assert isinstance(result, Encoded), result
    is_exact = b"VP8 " not in result.body and not wanted.is_near
    with Image.open(io.BytesIO(result.body)) as written:
        assert getattr(written, "n_frames", 1) == len(wanted.frames)
        for place, (frame, duration) in enumerate(
            zip(wanted.frames, wanted.durations, strict=True)
        ):
            written.seek(place)
            written.load()
            assert written.info.get("duration", 0) == duration
            assert_alike(frame, in_srgb(written), exact=is_exact)
        if len(wanted.frames) > 1:
            assert written.info["loop"] == wanted.loop
        assert ExifTags.Base.Orientation not in written.getexif()
    assert b"script" not in result.body
    assert b"home" not in result.body


def assert_alike(wanted: Image.Image, found: Image.Image, *, exact: bool) -> None:
    assert found.size == wanted.size
    opaque = found.mode == "RGB" or found.getchannel("A").getextrema() == (255, 255)
    assert opaque == (wanted.convert("RGBA").getextrema()[3] == (255, 255))
    wanted, found = (
        Image.merge("RGBA", [*seen(image).split(), image.convert("RGBA").getchannel("A")])
        for image in (wanted, found)
    )
    if exact:
        assert ImageChops.difference(wanted, found).getbbox(alpha_only=False) is None
    patches = list(flat_patches(wanted))
    assert len(patches) >= min(4, wanted.width)
    for box in patches:
        means = [ImageStat.Stat(image.crop(box)).mean for image in (wanted, found)]
        assert all(abs(first - second) <= 2 for first, second in zip(*means, strict=True)), (
            box,
            means,
        )
    assert ComparedPicture(wanted.convert("RGB")).likeness_of(found.convert("RGB")).ssim > 0.85


def seen(image: Image.Image) -> Image.Image:
    """Return a picture on grey ground: nobody sees the colour of what is transparent."""
    ground = Image.new("RGBA", image.size, (128, 128, 128, 255))
    return Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")


def inner(box: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """Leave out an edge, over which colour runs where it is stored at half the size."""
    wide, high = (min(6, (box[2 + at] - box[at]) // 4) for at in (0, 1))
    return (box[0] + wide, box[1] + high, box[2] - wide, box[3] - high)


def flat_patches(image: Image.Image) -> Iterator[tuple[int, int, int, int]]:
    """Yield where a picture has one colour."""
    for left, top in product(range(0, image.width, SIDE), range(0, image.height, SIDE)):
        box = (left, top, min(left + SIDE, image.width), min(top + SIDE, image.height))
        if all(low == high for low, high in image.crop(box).getextrema()):
            yield inner(box)


def test_a_wide_profile_is_kept_and_a_press_is_not():
    for make, kept in (
        (GALLERY["png-display-p3"], display_p3()),
        (GALLERY["jpeg-cmyk-profile"], None),
    ):
        result = reencode(make()[0], ANYTHING)
        with Image.open(io.BytesIO(result.body)) as written:
            assert written.info.get("icc_profile") == kept


def test_the_longest_picture_webp_holds_is_the_limit_of_any_size():
    result = reencode(wide()[0], replace(ANYTHING, max_size=None))
    assert (result.width, result.height) == (16383, 8)


def test_a_name_says_nothing_of_a_file():
    """An extension never reaches the encoder: the type comes from the bytes alone."""
    result = reencode(jpeg(scene()), ANYTHING)
    assert result.type.content_type == "image/webp"


def test_frames_that_repeat_are_joined_and_frames_that_hardly_differ_are_not():
    first, second, *_ = moving()
    data, _ = animated([first, second, second], "GIF", durations=[50, 60, 70], loop=0)
    with Image.open(io.BytesIO(reencode(data, ANYTHING).body)) as written:
        assert durations(written) == [50, 130]

    fade = [scene(grain=False).point(lambda level, step=step: level + step) for step in range(8)]
    data, _ = animated(fade, "PNG", durations=[50] * 8, loop=0)
    with Image.open(io.BytesIO(reencode(data, ANYTHING).body)) as written:
        assert durations(written) == [50] * 8


def test_an_animation_that_never_moves_becomes_a_still():
    frames = [scene(grain=False).convert("RGBA") for _ in range(2)]
    for frame, hidden in zip(frames, COLOURS, strict=False):
        frame.paste((*hidden, 0), (0, 0, SIDE, SIDE))
    data, _ = animated(frames, "PNG", durations=[90, 90], loop=0)
    with Image.open(io.BytesIO(data)) as source:
        assert source.n_frames == 2
    with Image.open(io.BytesIO(reencode(data, ANYTHING).body)) as written:
        assert getattr(written, "n_frames", 1) == 1
        assert_alike(frames[0], written, exact=True)


def test_an_animation_of_too_many_pixels_stays_as_it_is():
    data, _ = gif(loop=0)
    limits = Limits(max_animation_pixels=6 * 3 * SIDE**2 * 5 - 1)
    assert reencode(data, ANYTHING, limits=limits) == Skip(reason="animated")


def durations(written: Image.Image) -> list[int]:
    found = []
    for place in range(written.n_frames):
        written.seek(place)
        written.load()
        found.append(written.info["duration"])
    return found


# What is skipped


def bomb() -> bytes:
    """100 megapixels in 12 kB."""
    return png((10_000, 10_000), 1, 0, [bytes(1250)] * 10_000)


def truncated_animation() -> bytes:
    data, _ = gif(loop=0)
    return data[: len(data) * 4 // 5]


UNUSABLE = {
    "zero-bytes": (lambda: b"", "empty"),
    "truncated-png": (lambda: saved(scene())[:-2000], "corrupt"),
    "truncated-jpeg": (lambda: jpeg(scene())[:-900], "corrupt"),
    "truncated-webp": (lambda: saved(scene(), "WEBP")[:-300], "corrupt"),
    "truncated-animated-gif": (truncated_animation, "corrupt"),
    "truncated-animated-webp": (lambda: GALLERY["webp-animated-lossless"]()[0][:-3000], "corrupt"),
    "header-alone": (lambda: saved(scene())[:40], "corrupt"),
    "bomb": (bomb, "too_many_pixels"),
    "bomb-by-its-header": (lambda: png((60_000, 60_000), 8, 2, []), "too_many_pixels"),
    "text": (lambda: b"not a picture at all", "unsupported"),
    "web-page-named-png": (lambda: b"<!DOCTYPE html><title>404</title>", "unsupported"),
    "pdf": (lambda: b"%PDF-1.7 " + bytes(200), "unsupported"),
    "svg": (lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>", "unsupported"),
    "svg-behind-a-comment": (lambda: b"<?xml version='1.0'?><!-- GIF89a --><svg/>", "unsupported"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_what_cannot_be_shown_is_skipped_with_its_reason(name):
    make, reason = UNUSABLE[name]
    (finished,) = reencode_many([Job(name, make(), ANYTHING)], workers=1, processes=False)
    assert isinstance(finished.result, ImageError | Skip)
    assert finished.result.reason == reason
