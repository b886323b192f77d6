"""What goes to a process that encodes, and what comes back: plain data, checked on arrival.

What comes back is believed as little as the picture: whoever wrote it may have taken the decoder
over.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, TypeVar

from r2maint.images.formats import sniff
from r2maint.images.recipe import Allowance, Encoded, ImageError, Recipe, Skip
from r2maint.processes import Frame, FrameError

T = TypeVar("T")
Result = Encoded | Skip | ImageError

TOLD_BYTES = 4096
"""Of an answer, the picture apart."""
BODY_BYTES = 64 * 2**20
"""Of the picture in an answer: no larger one is read as a source either."""
_LARGEST = 2**31
_WORD = re.compile(r"[a-z_]{1,40}")
_DETAIL = re.compile(r"[^\x00-\x1f\x7f-\x9f]{1,500}")
_WRITTEN = frozenset((".webp", ".avif"))


def packed_job(recipe: Recipe, allowance: Allowance) -> dict[str, Any]:
    return {"recipe": asdict(recipe), "allowance": asdict(allowance)}


def job_of(told: Mapping[str, Any]) -> tuple[Recipe, Allowance]:
    """Return what `packed_job` packed."""
    given = told["recipe"]
    box = given["max_size"]
    recipe = Recipe(**{**given, "max_size": None if box is None else tuple(box)})
    return recipe, Allowance(**told["allowance"])


def packed_result(result: Result, *, is_last: bool) -> tuple[dict[str, Any], bytes]:
    """Return the two parts of a frame; `is_last` says that the process ends itself now."""
    told: dict[str, Any] = {"is": type(result).__name__, "is_last": is_last}
    if isinstance(result, Encoded):
        size = {"width": result.width, "height": result.height, "ssim": float(result.ssim)}
        return told | size, result.body
    told["reason"] = result.reason
    if isinstance(result, Skip):
        return told | {"width": result.width, "height": result.height}, b""
    return told | {"detail": result.detail[:500]}, b""


def result_of(frame: Frame, recipe: Recipe) -> tuple[Result, bool]:
    """Return what `packed_result` packed. Raises: FrameError for anything else."""
    told, body = frame
    try:
        is_last = _checked(told["is_last"], bool)
        if told["is"] == Encoded.__name__:
            return _encoded(told, body, recipe), is_last
        reason = _matching(told["reason"], _WORD)
        if told["is"] == Skip.__name__:
            width, height = _side(told["width"]), _side(told["height"])
            return Skip(reason=reason, width=width, height=height), is_last
        if told["is"] == ImageError.__name__:
            return ImageError(reason, _matching(told["detail"], _DETAIL)), is_last
    except KeyError as error:
        raise FrameError(f"an answer without {error}") from error
    raise FrameError("an answer of no known kind")


def _encoded(told: Mapping[str, Any], body: bytes, recipe: Recipe) -> Encoded:
    kind = sniff(body)
    if kind is None or kind.ext not in _WRITTEN:
        raise FrameError("a picture of another format")
    width, height, ssim = _side(told["width"]), _side(told["height"]), told["ssim"]
    most_width, most_height = recipe.box
    if not (1 <= width <= most_width and 1 <= height <= most_height):
        raise FrameError("a picture of another size")
    if not -1 <= _checked(ssim, float) <= 1:
        raise FrameError("a similarity that is none")
    return Encoded(body=body, type=kind, width=width, height=height, ssim=ssim)


def _side(value: object) -> int:
    side = _checked(value, int)
    if not 0 <= side <= _LARGEST:
        raise FrameError("a size that is none")
    return side


def _matching(value: object, pattern: re.Pattern[str]) -> str:
    text = _checked(value, str)
    if not pattern.fullmatch(text):
        raise FrameError("a text of another form")
    return text


def _checked(value: object, kind: type[T]) -> T:
    # No bool for an int: it is one.
    if type(value) is not kind:
        raise FrameError(f"a value that is no {kind.__name__}")
    return value
