"""Decoding pictures of unknown origin: caps first, every failure an ImageError, no warnings."""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

from r2maint.errors import R2MaintError
from r2maint.images.formats import sniff
from r2maint.images.recipe import ImageError, Limits, Picture

_READABLE = ("PNG", "JPEG", "GIF", "WEBP", "AVIF", "BMP", "TIFF", "ICO")
_UNREADABLE = (".svg", ".heic", ".heif", ".jxl")


def inspect(data: bytes, *, limits: Limits | None = None) -> Picture:
    """Decode every frame and return what the picture is. Raises: ImageError."""
    limits = limits or Limits()
    with opened(data, limits) as image:
        kind = sniff(data)
        assert kind is not None
        mode, alpha = image.mode, image.has_transparency_data
        with contained():
            frames = _decode_frames(image, limits)
        return Picture(
            type=kind,
            width=image.width,
            height=image.height,
            mode=mode,
            frames=frames,
            has_alpha=alpha,
        )


@contextmanager
def opened(data: bytes, limits: Limits) -> Iterator[Image.Image]:
    """Give a picture with its first frame decoded; Pillow is silent meanwhile.

    Raises: ImageError.
    """
    _refuse_bytes(data, limits)
    with _quiet():
        with contained():
            image = Image.open(io.BytesIO(data), formats=_READABLE)
            refuse_pixels(image.size, limits)
            # Some formats count their frames, and find them broken, only when asked.
            getattr(image, "n_frames", 1)
            image.load()
            image.getexif()
        with image:
            yield image


@contextmanager
def contained() -> Iterator[None]:
    """Turn every failure of a decoder into ImageError."""
    try:
        yield
    except R2MaintError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError("too_many_pixels", "too many pixels to decode") from error
    except MemoryError as error:
        raise ImageError("out_of_memory", "more memory to decode it than there is") from error
    except Exception as error:
        # Pillow's decoders raise whatever a malformed file makes them trip over: OSError,
        # SyntaxError, struct.error, IndexError, ZeroDivisionError and more.
        raise ImageError("corrupt", f"it does not decode ({type(error).__name__})") from error


def _refuse_bytes(data: bytes, limits: Limits) -> None:
    if not data:
        raise ImageError("empty", "0 bytes")
    if len(data) > limits.max_bytes:
        raise ImageError("too_large", f"{len(data)} bytes, the limit is {limits.max_bytes}")
    kind = sniff(data)
    if kind is None or not kind.is_image or kind.ext in _UNREADABLE:
        found = kind.content_type if kind else "unknown bytes"
        raise ImageError("unsupported", f"{found} cannot be decoded")


def refuse_pixels(size: tuple[int, int], limits: Limits) -> None:
    if size[0] * size[1] > limits.max_pixels:
        detail = f"{size[0]}×{size[1]} pixels, the limit is {limits.max_pixels}"
        raise ImageError("too_many_pixels", detail)


def _decode_frames(image: Image.Image, limits: Limits) -> int:
    frames = pixels = 0
    try:
        while True:
            image.seek(frames)
            refuse_pixels(image.size, limits)
            image.load()
            frames += 1
            pixels += image.width * image.height
            if pixels > limits.max_total_pixels:
                raise ImageError("too_many_pixels", f"more than {pixels} pixels in {frames} frames")
    except EOFError:
        # The documented end of a sequence; before the first frame it is a broken file.
        if frames == 0:
            raise
    return frames


class _Quiet:
    """Silences Pillow's warnings about malformed files, in any number of threads at once.

    `warnings.catch_warnings` alone puts back the filters of whichever thread entered last.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._saved: warnings.catch_warnings[None] | None = None

    def enter(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                for module in (r"PIL(\.|$)", r"r2maint\.images$"):
                    warnings.filterwarnings("ignore", module=module)

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0 and self._saved is not None:
                self._saved.__exit__(None, None, None)


_QUIET = _Quiet()


@contextmanager
def _quiet() -> Iterator[None]:
    _QUIET.enter()
    try:
        yield
    finally:
        _QUIET.leave()
