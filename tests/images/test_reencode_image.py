"""Pictures are re-encoded so that they look the same, or left alone with a reason."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from random import Random

import pytest
from PIL import (
    ExifTags,
    Image,
    ImageChops,
    ImageCms,
    ImageDraw,
    ImageOps,
    ImageStat,
    PngImagePlugin,
)

from r2maint import images
from r2maint.images import (
    Allowance,
    Encoded,
    ImageError,
    Job,
    Limits,
    Recipe,
    Skip,
    inspect,
    pool,
    reencode,
    reencode_many,
    sniff,
    worker,
)
from r2maint.images.process_limits import own_share
from r2maint.images.similarity import SURELY_BROKEN, ComparedPicture
from tests.pictures import animation, photo, saved
from tests.worlds.helper_processes import FATEFUL, helpers

MEDIA = Path(__file__).resolve().parents[3] / "shared" / "media"
needs_avif = pytest.mark.skipif(not images.can_write("avif"), reason="this Pillow writes no AVIF")


def opened(result) -> Image.Image:
    assert isinstance(result, Encoded), result
    image = Image.open(io.BytesIO(result.body))
    image.load()
    return image


def drawing(size=(400, 300)) -> Image.Image:
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    for step in range(0, size[0], 8):
        colour = ((step * 5) % 256, (step * 3) % 256, 90)
        draw.rectangle((step, step % 90, step + 3, size[1] - step % 70), fill=colour)
    return image


# What bytes are


@pytest.mark.parametrize(
    ("head", "content_type", "ext"),
    [
        (b"\x89PNG\r\n\x1a\n....", "image/png", ".png"),
        (b"\xff\xd8\xff\xe0....", "image/jpeg", ".jpg"),
        (b"GIF89a....", "image/gif", ".gif"),
        (b"RIFF....WEBPVP8 ", "image/webp", ".webp"),
        (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1", "image/avif", ".avif"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0avifmif1", "image/avif", ".avif"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "image/heic", ".heic"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1miaf", "image/heif", ".heif"),
        (b"BM" + b"\0" * 12 + b"\x28\0\0\0", "image/bmp", ".bmp"),
        (b"II*\0....", "image/tiff", ".tif"),
        (b"\0\0\1\0\1\0\x10\x10\0\0", "image/x-icon", ".ico"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml", ".svg"),
        (b"\xef\xbb\xbf\n<?xml version='1.0'?><!-- x --><svg >", "image/svg+xml", ".svg"),
        (b"%PDF-1.7", "application/pdf", ".pdf"),
        (b"ID3\4\0", "audio/mpeg", ".mp3"),
        (b"\xff\xfb\x90\x64", "audio/mpeg", ".mp3"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0isommp42", "video/mp4", ".mp4"),
        (b"\0\0\0\x18ftypM4A \0\0\0\0isommp42", "audio/mp4", ".m4a"),
        (b"\x1aE\xdf\xa3\x01\0\0\0B\x82\x84webm", "video/webm", ".webm"),
        (b"OggS\0\2........vorbis", "audio/ogg", ".ogg"),
        (b"PK\3\4....", "application/zip", ".zip"),
        (b"wOF2....", "font/woff2", ".woff2"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_is_known_by_its_first_bytes(head, content_type, ext):
    found = sniff(head)
    assert found is not None
    assert (found.content_type, found.ext) == (content_type, ext)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"B",
        b"BM is how this sentence begins",
        b"<html><svg>",
        b'{"a": 1}',
        b"\xff",
        b"RIFF1234",
    ],
)
def test_bytes_that_say_nothing_are_unknown(head):
    assert sniff(head) is None


@pytest.mark.parametrize("name", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "ICO"])
def test_what_pillow_writes_is_recognised(name):
    kind = sniff(saved(photo((64, 64)), name))
    assert kind is not None
    assert kind.content_type == Image.MIME.get(name, "").replace("x-ms-bmp", "bmp")


# What is refused


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"not a picture at all", "unsupported"),
        (b"%PDF-1.7", "unsupported"),
        (b"<svg/>", "unsupported"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 40, "corrupt"),
        (saved(photo())[:-2000], "corrupt"),
        (saved(photo(), "JPEG")[:-500], "corrupt"),
        (saved(photo(), "WEBP")[:-500], "corrupt"),
    ],
    ids=["empty", "text", "pdf", "svg", "no-chunks", "cut-png", "cut-jpeg", "cut-webp"],
)
def test_unusable_bytes_are_refused_with_a_reason(data, reason):
    with pytest.raises(ImageError) as caught:
        inspect(data)
    assert caught.value.reason == reason


def test_a_flipped_byte_in_a_png_is_noticed():
    data = bytearray(saved(photo()))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(ImageError):
        inspect(bytes(data))


@pytest.mark.parametrize("name", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"])
def test_damaged_files_give_pictures_or_image_errors_and_nothing_else(name):
    data = saved(photo((40, 40)), name)
    random = Random(name)
    for _ in range(60):
        damaged = bytearray(data[: random.randint(12, len(data))])
        for _ in range(random.randint(0, 4)):
            damaged[random.randrange(12, len(damaged) + 1) - 1] = random.randrange(256)
        with contextlib.suppress(ImageError):
            inspect(bytes(damaged))
        with contextlib.suppress(ImageError):
            reencode(bytes(damaged), Recipe(min_saving_bytes=0))


def test_a_picture_of_too_many_pixels_is_refused_before_decoding():
    bomb = saved(Image.new("1", (8_000, 8_000)))
    assert len(bomb) < 100_000
    with pytest.raises(ImageError) as caught:
        inspect(bomb)
    assert caught.value.reason == "too_many_pixels"


def test_the_caps_are_parameters():
    data = saved(photo((100, 100)))
    for limits, reason in (
        (Limits(max_pixels=9_999), "too_many_pixels"),
        (Limits(max_bytes=len(data) - 1), "too_large"),
    ):
        with pytest.raises(ImageError) as caught:
            inspect(data, limits=limits)
        assert caught.value.reason == reason
    assert inspect(data, limits=Limits(max_pixels=10_000, max_bytes=len(data))).width == 100


def test_all_frames_together_are_capped():
    with pytest.raises(ImageError) as caught:
        inspect(animation("GIF", 9), limits=Limits(max_total_pixels=5 * 64 * 64))
    assert caught.value.reason == "too_many_pixels"


def test_every_frame_is_decoded():
    data = animation("GIF")
    assert inspect(data).frames == 3
    with pytest.raises(ImageError):
        inspect(data[: len(data) * 5 // 6])


def test_what_a_picture_is_told():
    picture = inspect(saved(photo((30, 20)).convert("RGBA")))
    assert (picture.type.ext, picture.width, picture.height, picture.mode) == (
        ".png",
        30,
        20,
        "RGBA",
    )
    assert picture.has_alpha
    assert picture.frames == 1


def test_warnings_of_pillow_stay_inside():
    palette = photo((64, 64)).convert("P")
    data = saved(palette, transparency=bytes(range(256)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        inspect(data)
        reencode(data, Recipe())


def test_warning_filters_are_put_back_after_many_threads():
    data = saved(photo((64, 64)))
    before = list(warnings.filters)
    threads = [threading.Thread(target=inspect, args=(data,)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before


# What is left alone


@needs_avif
def test_an_animated_avif_is_never_flattened():
    assert reencode(animation("AVIF"), Recipe()) == Skip(reason="animated")


def test_a_tiff_of_several_pages_is_left_alone():
    assert reencode(animation("TIFF"), Recipe()) == Skip(reason="several_pages")


@pytest.mark.parametrize(
    "data",
    [b"<svg xmlns='x'/>", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", saved(photo((64, 64)), "ICO")],
    ids=["svg", "heic", "ico"],
)
def test_formats_that_cannot_gain_are_left_alone(data):
    assert reencode(data, Recipe()) == Skip(reason="unsupported")


def test_lossy_webp_is_not_encoded_a_second_time():
    assert reencode(saved(photo((900, 700)), "WEBP", quality=100), Recipe()) == Skip(
        reason="already_webp"
    )


def test_lossless_webp_of_a_photograph_is_encoded():
    grain = Image.effect_noise((300, 200), 40)
    data = saved(Image.merge("RGB", [grain] * 3), "WEBP", lossless=True)
    assert isinstance(reencode(data, Recipe(min_ssim=0)), Encoded)


def test_an_oversized_webp_is_made_smaller():
    result = reencode(saved(photo((900, 700)), "WEBP", quality=95), Recipe(max_size=(300, 300)))
    assert opened(result).size == (300, 233)


def test_our_own_output_is_left_alone():
    first = reencode(saved(photo()), Recipe())
    assert isinstance(first, Encoded)
    assert reencode(first.body, Recipe()) == Skip(reason="already_webp")


def test_a_gain_below_five_percent_or_a_kibibyte_is_not_worth_it():
    recipe = Recipe()
    assert recipe.objection(100_000, 95_000) == ""
    assert recipe.objection(100_000, 95_001) == "not_smaller"
    assert recipe.objection(2048, 1024) == ""
    assert recipe.objection(2048, 1025) == "not_smaller"
    assert recipe.objection(1000, 2000) == "not_smaller"


def test_a_picture_that_would_not_shrink_is_left_alone():
    tiny = saved(photo((320, 240)), "JPEG", quality=10)
    assert reencode(tiny, Recipe()) == Skip(reason="not_smaller")


def test_a_picture_that_would_look_different_is_left_alone():
    grain = Image.effect_noise((256, 256), 120)
    assert reencode(saved(grain), Recipe(quality=1, min_ssim=0.999)) == Skip(reason="too_different")


# What is kept


def test_orientation_is_applied():
    image = photo((400, 200))
    image.paste((255, 0, 0), (0, 0, 100, 100))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    result = opened(reencode(saved(image, "JPEG", exif=exif, quality=100), Recipe()))
    assert result.size == (200, 400)
    red, green, blue = result.getpixel((150, 50))
    assert (red > 200, green < 60, blue < 60) == (True, True, True)
    assert result.getexif().get(ExifTags.Base.Orientation) is None


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_set_upright_as_pillow_does(orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = saved(photo((400, 200)), "PNG", exif=exif)
    with Image.open(io.BytesIO(data)) as source:
        expected = ImageOps.exif_transpose(source)
    result = opened(reencode(data, Recipe(quality=100)))
    assert result.size == expected.size
    difference = ImageStat.Stat(ImageChops.difference(result, expected)).mean
    assert max(difference) < 3


def test_malformed_exif_is_no_obstacle():
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x07\0\xff\xff\0\0zzzz"
    assert isinstance(reencode(saved(photo(), "PNG", exif=exif), Recipe()), Encoded)


def test_a_profile_without_tables_is_no_obstacle():
    whole = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = saved(photo().convert("L"), "PNG", icc_profile=whole[:16] + b"GRAY" + whole[20:])
    assert opened(reencode(data, Recipe())).mode == "RGB"


def test_places_are_dropped_and_rights_are_kept():
    exif = Image.Exif()
    exif[ExifTags.Base.Copyright] = "© Itqan"
    exif[ExifTags.Base.Make] = "Phone"
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    result = opened(reencode(saved(photo(), "PNG", exif=exif), Recipe()))
    kept = result.getexif()
    assert ExifTags.Base.Copyright in kept
    assert ExifTags.Base.Make not in kept
    assert not kept.get_ifd(ExifTags.IFD.GPSInfo)


@pytest.mark.parametrize("to", ["webp", pytest.param("avif", marks=needs_avif)])
def test_xmp_is_dropped(to):
    note = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>24.47 N 39.61 E</x:xmpmeta>"
    data = saved(photo(), "JPEG", quality=100, xmp=note)
    assert note in data
    result = reencode(data, Recipe(to=to))
    assert isinstance(result, Encoded)
    assert b"24.47" not in result.body


def test_alpha_is_kept():
    image = photo((300, 300)).convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize((300, 300)))
    result = opened(reencode(saved(image), Recipe()))
    assert result.mode == "RGBA"
    assert result.getpixel((10, 0))[3] < 10
    assert result.getpixel((10, 299))[3] > 245


def test_alpha_that_hides_nothing_is_dropped():
    assert opened(reencode(saved(photo().convert("RGBA")), Recipe())).mode == "RGB"


def test_a_transparent_palette_stays_transparent():
    image = photo((300, 300)).quantize(200)
    image.paste(7, (0, 0, 100, 100))
    result = opened(reencode(saved(image, "PNG", transparency=7), Recipe()))
    assert result.getpixel((50, 50))[3] == 0


def test_a_transparent_colour_stays_transparent():
    image = photo((300, 300))
    image.paste((1, 2, 3), (0, 0, 100, 100))
    result = opened(reencode(saved(image, "PNG", transparency=(1, 2, 3)), Recipe()))
    assert result.getpixel((50, 50))[3] == 0


def test_grey_with_alpha_stays_grey_with_alpha():
    image = photo((300, 300)).convert("LA")
    image.putalpha(Image.linear_gradient("L").resize((300, 300)))
    result = opened(reencode(saved(image), Recipe()))
    assert result.mode == "RGBA"
    red, green, blue, _ = result.getpixel((150, 280))
    assert max(red, green, blue) - min(red, green, blue) < 12


@pytest.mark.parametrize("level", [0, 8_000, 32_768, 60_000, 65_535])
def test_sixteen_bits_are_scaled_and_not_clipped(level):
    image = Image.new("I;16", (320, 240), level)
    ramp = photo((320, 120), "L").convert("I").point(lambda value: value * 257.0)
    image.paste(ramp.convert("I;16"), (0, 120))
    result = opened(reencode(saved(image), Recipe()))
    assert abs(result.getpixel((160, 20))[0] - level / 257) <= 3


def test_cmyk_becomes_rgb():
    result = opened(reencode(saved(photo().convert("CMYK"), "JPEG", quality=100), Recipe()))
    assert result.mode == "RGB"
    expected = photo().getpixel((100, 100))
    assert all(abs(a - b) < 12 for a, b in zip(result.getpixel((100, 100)), expected, strict=True))


def test_an_srgb_profile_goes_without_saying():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    result = opened(reencode(saved(photo(), "PNG", icc_profile=profile), Recipe()))
    assert "icc_profile" not in result.info


def wide_profile() -> bytes:
    """An RGB profile of another name: Little CMS writes only its own, so one byte is changed."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile.replace("sRGB".encode("utf-16-be"), "wRGB".encode("utf-16-be"))


def test_another_rgb_profile_stays_with_its_colours():
    profile = wide_profile()
    result = opened(reencode(saved(photo(), "PNG", icc_profile=profile), Recipe()))
    assert result.info["icc_profile"] == profile


def test_a_profile_of_another_colour_space_is_dropped():
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    result = opened(reencode(saved(photo(), "PNG", icc_profile=lab), Recipe()))
    assert "icc_profile" not in result.info


def test_a_broken_profile_is_no_obstacle():
    data = saved(photo(), "PNG", icc_profile=b"not a profile")
    assert isinstance(reencode(data, Recipe()), Encoded)


def test_drawings_become_lossless():
    image = drawing()
    result = reencode(saved(image, "BMP"), Recipe())
    assert opened(result).tobytes() == image.tobytes()
    assert result.ssim == 1.0


def test_a_grey_photograph_is_no_drawing():
    grain = Image.effect_noise((400, 400), 50)
    result = reencode(saved(grain), Recipe(min_ssim=0))
    assert b"VP8 " in result.body[:64]


# What comes out


def test_a_large_picture_is_fitted_and_a_small_one_never_enlarged():
    recipe = Recipe(max_size=(200, 200))
    assert opened(reencode(saved(photo((800, 400))), recipe)).size == (200, 100)
    assert opened(reencode(saved(photo((190, 160))), recipe)).size == (190, 160)
    assert opened(reencode(saved(photo((800, 400))), Recipe(max_size=None))).size == (800, 400)


def test_a_byte_limit_is_met_by_quality_and_then_by_size():
    data = saved(Image.merge("RGB", [Image.effect_noise((400, 400), 60)] * 3))
    free = reencode(data, Recipe(min_ssim=0))
    assert isinstance(free, Encoded)
    for share in (0.8, 0.3):
        limit = int(len(free.body) * share)
        result = reencode(data, Recipe(min_ssim=0, max_bytes=limit))
        assert isinstance(result, Encoded)
        assert len(result.body) <= limit
    assert reencode(data, Recipe(min_ssim=0, max_bytes=500)) == Skip(reason="over_max_bytes")


def test_the_same_input_gives_the_same_bytes():
    data = saved(photo())
    first, second = reencode(data, Recipe()), reencode(data, Recipe())
    assert isinstance(first, Encoded)
    assert first == second


@needs_avif
def test_avif_is_written_on_request():
    avif = reencode(saved(photo()), Recipe(to="avif"))
    assert isinstance(avif, Encoded)
    assert avif.type.content_type == "image/avif"
    assert sniff(avif.body) == avif.type


def test_a_quick_look_tells_what_an_exact_one_does():
    image = photo((640, 480))
    for quality in (20, 60, 90):
        body = saved(image, "WEBP", quality=quality)
        quick, exact = (
            ComparedPicture(image, exact=exact).likeness(body) for exact in (False, True)
        )
        assert quick.ssim == pytest.approx(exact.ssim, abs=0.01)
        assert quick != exact


def test_a_quick_look_sees_that_a_part_is_missing():
    image = photo((640, 480))
    broken = image.copy()
    broken.paste("grey", (0, 320, 640, 480))
    assert ComparedPicture(image, exact=False).likeness_of(image).ssim == pytest.approx(1)
    assert ComparedPicture(image, exact=False).likeness_of(broken).ssim < SURELY_BROKEN


@needs_avif
def test_auto_finds_fewer_bytes_that_look_no_worse_than_webp():
    image = photo((400, 300))
    webp, auto = (reencode(saved(image), Recipe(to=to)) for to in ("webp", "auto"))
    assert isinstance(webp, Encoded)
    assert isinstance(auto, Encoded)
    assert len(auto.body) < 0.9 * len(webp.body)
    original = ComparedPicture(image)
    reached = original.likeness(webp.body)
    assert original.likeness(auto.body).ssim >= reached.ssim


@needs_avif
def test_auto_keeps_drawings_lossless():
    drawing = Image.new("RGB", (400, 400), "white")
    ImageDraw.Draw(drawing).text((20, 20), "Qur'an\n" * 12, "black")
    result = reencode(saved(drawing, "BMP"), Recipe(to="auto"))
    assert ImageChops.difference(opened(result).convert("RGB"), drawing).getbbox() is None


@needs_avif
@pytest.mark.parametrize("least", [0.9, 0.97, 0.995])
def test_an_absolute_floor_is_reached_and_hardly_passed(least):
    grain = Image.effect_noise((240, 160), 40).convert("RGB")
    image = Image.blend(photo((240, 160)), grain, 0.3)
    result = reencode(saved(image, "BMP"), Recipe(to="auto", min_ssim=least))
    assert isinstance(result, Encoded)
    assert least <= ComparedPicture(image).likeness(result.body).ssim < 1 - (1 - least) / 3


@needs_avif
def test_a_floor_nothing_reaches_leaves_the_picture_alone():
    grain = Image.merge("RGB", [Image.effect_noise((120, 120), 120) for _ in range(3)])
    recipe = Recipe(to="auto", min_ssim=1.0)
    assert reencode(saved(grain, "BMP"), recipe) == Skip(reason="too_different")


def test_a_picture_whose_colours_are_off_is_no_likeness():
    image = photo()
    red, green, blue = image.split()
    turned = Image.merge("RGB", (red, green.point(lambda level: level * 0.9), blue))
    out = saved(turned, "WEBP", lossless=True)
    assert ComparedPicture(image).likeness(out).colour_error > 2
    assert ComparedPicture(image).likeness(saved(image, "WEBP", lossless=True)).colour_error == 0


@pytest.mark.parametrize("size", [(1, 1), (3, 90), (7, 7), (8, 13), (60, 41)])
def test_pictures_of_any_size_have_a_likeness(size):
    image = photo().resize(size)
    original = ComparedPicture(image)
    assert original.likeness_of(image).ssim == pytest.approx(1, abs=1e-6)
    assert original.likeness_of(image.point(lambda level: level // 3)).ssim < 0.9


def test_the_fingerprint_tells_recipes_apart():
    recipes = [Recipe(), Recipe(quality=80), Recipe(max_size=None), Recipe(max_bytes=9)]
    fingerprints = {recipe.fingerprint for recipe in recipes}
    assert len(fingerprints) == len(recipes)
    assert all(text.isascii() and text.isprintable() for text in fingerprints)
    assert Recipe().fingerprint == Recipe().fingerprint


# Many at once


@pytest.fixture
def fateful(monkeypatch, tmp_path) -> Path:
    """Encoders that die of some bytes, and the file of what they tried."""
    monkeypatch.setenv("ATTEMPTS", str(tmp_path / "attempts"))
    monkeypatch.setattr(worker, "_PROGRAM", FATEFUL)
    return tmp_path / "attempts"


@pytest.mark.thorough
@pytest.mark.skipif(sys.platform != "linux", reason="nothing limits memory here")
def test_what_kills_a_process_costs_one_picture_and_none_is_encoded_twice(fateful):
    large = saved(Image.new("RGB", (4000, 4000), "red"))
    bodies = [b"crash", b"stuck", large, b"killed"]
    bodies = [body for bad in bodies for body in (bad, saved(photo((100, 100 + len(bad) % 97))))]
    allowance = Allowance(memory=40 * 2**20, seconds=1)

    jobs = [Job(number, body, Recipe()) for number, body in enumerate(bodies)]
    results = list(reencode_many(jobs, workers=2, allowance=allowance))

    assert [finished.label for finished in results] == list(range(8))
    reasons = [getattr(finished.result, "reason", "") for finished in results]
    assert reasons[::2] == ["crashed", "too_slow", "out_of_memory", "out_of_memory"]
    assert all(isinstance(finished.result, Encoded) for finished in results[1::2])
    assert len(fateful.read_bytes()) == 32 * len(bodies)


def test_what_is_left_to_encode_is_dropped_when_nobody_waits(fateful):
    jobs = [Job(number, body, Recipe()) for number, body in enumerate([b"", b"stuck", b"stuck"])]
    results = reencode_many(jobs, workers=1)
    assert next(results).result.reason == "empty"
    results.close()
    assert not helpers(os.getpid())


def test_an_even_share_of_the_machine_is_what_a_process_may_take():
    shares = [own_share(Allowance(), processes).memory for processes in (1, 2, 10_000)]
    assert shares[0] // 2 == shares[1]
    assert shares[2] == 512 * 2**20
    assert own_share(Allowance(memory=7), 2).memory == 7


def fail(data: bytes, recipe: Recipe):
    raise ZeroDivisionError


def test_what_nobody_foresaw_fails_one_picture_only(caplog, monkeypatch):
    monkeypatch.setattr(pool, "reencode", fail)
    (finished,) = reencode_many([Job(1, b"", Recipe())], workers=1, processes=False)
    assert finished.result.reason == "encoder_failed"
    assert "ZeroDivisionError" in caplog.text


def test_unusable_pictures_come_back_as_errors_in_order():
    jobs = [Job("a", b"nothing", Recipe()), Job("b", saved(photo()), Recipe())]
    for processes in (False, True):
        results = list(reencode_many(jobs, workers=2, processes=processes))
        assert [finished.label for finished in results] == ["a", "b"]
        assert results[0].result.reason == "unsupported"
        assert results[1].result == reencode(jobs[1].data, Recipe())


def test_few_pictures_are_held_at_once():
    taken = []

    def jobs():
        for number in range(20):
            taken.append(number)
            yield Job(number, b"nothing", Recipe())

    for finished in reencode_many(jobs(), workers=2, processes=False):
        assert len(taken) - finished.label <= 4


# Real pictures


@pytest.mark.skipif(not MEDIA.is_dir(), reason="no real pictures beside the repository")
def test_real_pictures_shrink_and_look_the_same():
    paths = sorted(path for path in MEDIA.iterdir() if path.suffix in (".png", ".jpg"))[::3]
    assert paths
    for path in paths:
        data = path.read_bytes()
        result = reencode(data, Recipe())
        assert isinstance(result, Encoded), path.name
        assert len(result.body) < 0.95 * len(data)
        assert result.ssim > 0.9
        assert max(result.width, result.height) <= 2000
        with Image.open(io.BytesIO(data)) as source:
            is_transparent = source.convert("RGBA").getextrema()[3][0] < 255
        assert inspect(result.body).has_alpha == is_transparent


def test_text_in_a_png_is_dropped():
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "taken at home")
    result = reencode(saved(photo(), pnginfo=info), Recipe())
    assert isinstance(result, Encoded)
    assert b"taken at home" not in result.body


def test_pillow_is_loaded_only_where_a_picture_is_decoded():
    program = (
        "import sys; import r2maint.verify.asking.prober; assert 'PIL' not in sys.modules;"
        "from r2maint.images import inspect; assert 'PIL' in sys.modules"
    )
    settings = {"DJANGO_SETTINGS_MODULE": "settings_test"}
    program = f"import django; django.setup(); {program}"
    subprocess.run([sys.executable, "-c", program], env=os.environ | settings, check=True)
