"""From a decoded picture to the pixels that are written: upright, fitted, 8 bits, RGB or RGBA."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PIL import ExifTags, Image, ImageCms

from r2maint.images.recipe import Recipe

_REENCODED = {"PNG", "JPEG", "MPO", "GIF", "WEBP", "AVIF", "BMP", "TIFF"}
_MOVING = {"GIF", "PNG", "WEBP", "AVIF"}
_ALREADY_SMALL = {"WEBP": "already_webp", "AVIF": "already_avif"}
_FLAT_COLOURS = 2048
_FLAT_GREYS = 32
_GROUND = 0.25
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what sets it upright. Source: Exif 2.3, tag 0x0112.

`ImageOps.exif_transpose` would also write all EXIF anew, and fails where that is malformed.
"""
_KEPT_EXIF = (ExifTags.Base.Copyright, ExifTags.Base.Artist)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """Pixels ready to encode, RGB or RGBA, and what goes into the file beside them."""

    image: Image.Image
    extra: Mapping[str, Any]
    is_flat: bool


def reason_to_keep(image: Image.Image, data: bytes, recipe: Recipe) -> str:
    """Return why a picture is left as it is, as far as its header tells, or ""."""
    if image.format not in _REENCODED:
        return "unsupported"
    if image.format == "TIFF" and getattr(image, "n_frames", 1) > 1:
        return "several_pages"
    if image.format == "AVIF" and is_animated(image):
        return "animated"
    if image.mode == "F" or (image.mode == "I" and image.format != "PNG"):
        return "unsupported"
    if image.mode.startswith("I") and "transparency" in image.info:
        return "unsupported"
    fits = recipe.max_size is None or fitted(image.size, recipe.max_size) == image.size
    within = not recipe.max_bytes or len(data) <= recipe.max_bytes
    if fits and within and not is_lossless(image, data):
        # A second lossy pass would cost quality for a few percent.
        return _ALREADY_SMALL.get(image.format or "", "")
    return ""


def prepare(image: Image.Image, data: bytes, recipe: Recipe) -> Draft:
    """Return the pixels to encode; a profile other than sRGB stays with RGB pixels."""
    exact, rights = is_lossless(image, data), rights_of(image)
    pixels, profile = shown(image, recipe.box)
    pixels = _without_idle_alpha(pixels)
    extra = {"icc_profile": profile, "exif": rights}
    return Draft(
        image=pixels,
        extra={name: value for name, value in extra.items() if value},
        is_flat=exact and is_flat(pixels),
    )


def shown(image: Image.Image, box: tuple[int, int]) -> tuple[Image.Image, bytes | None]:
    """Return the current frame upright and fitted, and the profile its pixels need."""
    profile = image.info.get("icc_profile")
    turned = _upright(_eight_bits(image), image.getexif().get(ExifTags.Base.Orientation))
    size = fitted(turned.size, box)
    if size != turned.size:
        turned = turned.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    return _managed(turned, profile)


def is_animated(image: Image.Image) -> bool:
    return image.format in _MOVING and getattr(image, "n_frames", 1) > 1


def is_lossless(image: Image.Image, data: bytes) -> bool:
    """Tell whether nothing was lost when a file was written."""
    if image.format == "WEBP":
        return "VP8 " not in _webp_chunks(data)
    return image.format not in ("JPEG", "MPO", "AVIF")


def _webp_chunks(data: bytes) -> set[str]:
    """Return the names of a WebP's chunks, those inside its frames too.

    Source: https://developers.google.com/speed/webp/docs/riff_container.
    """
    found, at = set(), 12
    while at + 8 <= len(data):
        name, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        found.add(name.decode("latin-1"))
        # A frame begins with 16 bytes about itself, then come chunks of its own.
        at += 8 + (16 if name == b"ANMF" else size + size % 2)
    return found


def is_flat(image: Image.Image) -> bool:
    """Tell drawings, which lossless WebP may store best, from photographs: by few colours.

    Asked of the pixels that are written: scaling gives every edge colours of its own.
    """
    colours = image.getcolors(_FLAT_COLOURS)
    if colours is None:
        return False
    is_grey = all(len(set(pixel[:3])) == 1 for _, pixel in colours if isinstance(pixel, tuple))
    # A grey photograph has few colours too, but none that fills a good part of it.
    ground = max(count for count, _ in colours) / (image.width * image.height)
    return not is_grey or len(colours) <= _FLAT_GREYS or ground >= _GROUND


def fitted(size: tuple[int, int], box: tuple[int, int]) -> tuple[int, int]:
    scale = min(box[0] / size[0], box[1] / size[1], 1.0)
    return (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))


def _eight_bits(image: Image.Image) -> Image.Image:
    """Return the picture as L, LA, RGB, RGBA or CMYK."""
    if image.mode.startswith("I"):
        return image.convert("I").point(lambda level: level * (1 / 257) + 0.5).convert("L")
    if image.has_transparency_data:
        return image.convert("LA" if image.mode == "LA" else "RGBA")
    if image.mode in ("L", "RGB", "CMYK"):
        image.load()
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _upright(image: Image.Image, orientation: object) -> Image.Image:
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def _managed(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, bytes | None]:
    """Return RGB or RGBA pixels, and the profile they need beside them if they are not sRGB."""
    target = "RGBA" if image.mode in ("LA", "RGBA") else "RGB"
    parsed = _parse_profile(profile)
    if parsed is None:
        return image.convert(target), None
    space = parsed.profile.xcolor_space.strip()
    if space == "RGB" and image.mode in ("RGB", "RGBA"):
        is_srgb = "srgb" in (ImageCms.getProfileDescription(parsed) or "").lower()
        return image, None if is_srgb else profile
    if {"CMYK": "CMYK", "GRAY": "L"}.get(space) != image.mode.removesuffix("A"):
        # A profile of another colour space than the pixels: browsers ignore it too.
        return image.convert(target), None
    return _to_srgb(image, parsed), None


def _parse_profile(profile: bytes | None) -> ImageCms.ImageCmsProfile | None:
    try:
        return ImageCms.ImageCmsProfile(io.BytesIO(profile)) if profile else None
    except (OSError, ValueError, ImageCms.PyCMSError):
        return None


def _to_srgb(image: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image:
    alpha = image.getchannel("A") if image.mode == "LA" else None
    colours = image.convert("L") if alpha else image
    target = ImageCms.createProfile("sRGB")
    try:
        found = ImageCms.profileToProfile(colours, profile, target, outputMode="RGB")
    except ImageCms.PyCMSError:
        # The profile has a header and no usable tables: no better than none.
        found = None
    found = found or colours.convert("RGB")
    if alpha:
        found.putalpha(alpha)
    return found


def is_opaque(image: Image.Image) -> bool:
    return image.mode != "RGBA" or image.getchannel("A").getextrema() == (255, 255)


def _without_idle_alpha(image: Image.Image) -> Image.Image:
    return image.convert("RGB") if is_opaque(image) else image


def rights_of(image: Image.Image) -> bytes:
    """Return EXIF with author and copyright alone: no place, no camera, no thumbnail."""
    found = image.getexif()
    kept = Image.Exif()
    for tag in _KEPT_EXIF:
        if isinstance(found.get(tag), str) and found[tag].strip():
            kept[tag] = found[tag]
    return kept.tobytes() if len(kept) else b""
