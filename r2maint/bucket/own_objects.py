"""Small JSON objects that r2maint keeps in the bucket, read as what anybody could have written.

Whoever may write to the bucket may also write below `.r2maint/`: what is read there is bounded
before it is read, and has exactly the fields and types it was written with, or is an error.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, TypeVar, get_type_hints

T = TypeVar("T")

MAX_BYTES = 2**16
"""What is written has under a thousand."""
MAX_TEXT = 1024
"""Characters of one text: no digest, name of a host or of a command is longer."""
_MAX_INT = 2**62
_PLAIN = (str, int, bool)


def read_json(body: bytes | str) -> Any:
    """Return what a JSON text holds. Raises: ValueError, also for bytes that are no UTF-8."""
    try:
        text = body.decode() if isinstance(body, bytes) else body
        return json.loads(text, object_pairs_hook=_without_duplicates)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def read_fields(made: type[T], body: bytes) -> T:
    """Return the value of a dataclass of texts, integers and booleans that JSON describes.

    Raises: ValueError for other fields or types, integers below 0, and texts that are long or
    cannot be printed on one line.
    """
    told = read_json(body)
    if not isinstance(told, Mapping):
        raise ValueError("it is no object")
    types = get_type_hints(made)
    known = {each.name: each for each in fields(made)}  # type: ignore[arg-type]
    if unknown := set(told) - set(known):
        raise ValueError(f"it has unknown fields: {len(unknown)}")
    for name, each in known.items():
        if name in told:
            _require(name, told[name], types[name])
        elif each.default is MISSING:
            raise ValueError(f"it has no {name}")
    return made(**told)


def _require(name: str, value: object, expected: type) -> None:
    assert expected in _PLAIN
    # A bool is an int to Python, and not here.
    if type(value) is not expected:
        raise ValueError(f"{name} is no {expected.__name__}")
    if isinstance(value, str) and not (len(value) <= MAX_TEXT and value.isprintable()):
        raise ValueError(f"{name} is no short text")
    if isinstance(value, int) and not 0 <= value <= _MAX_INT:
        raise ValueError(f"{name} is no such number")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("it has a field twice")
    return made
