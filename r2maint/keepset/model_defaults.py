"""Names that code holds: defaults and choices of the fields of all installed models.

A default is in no row until the next one is made, and a choice in none until somebody takes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from typing import Any

from django.apps import apps
from django.db import models

from r2maint.errors import ConfigError

MODEL_DEFAULTS = "model defaults"
"""The source of these names in plans."""


def iter_model_defaults() -> Iterator[tuple[Any, tuple[str, ...]]]:
    """Yield (field, texts) for each field whose default or choices hold text.

    A default that is called is not: what it returns next time nobody knows.
    Raises: ConfigError where choices that are called fail.
    """
    for model in apps.get_models(include_auto_created=True):
        for field in model._meta.local_fields:
            if texts := tuple(dict.fromkeys(_field_texts(field))):
                yield field, texts


def _field_texts(field: Any) -> Iterator[str]:
    for given in (field.default, getattr(field, "db_default", None)):
        if given is not models.NOT_PROVIDED and (isinstance(given, Enum) or not callable(given)):
            yield from _texts(given)
    try:
        yield from _texts(list(field.choices or ()))
    except Exception as error:
        raise ConfigError(
            f"The choices of a field cannot be read: {field} ({type(error).__name__}).",
            "Repair what they call.",
        ) from error
    # Of an array, what its elements are.
    if base := getattr(field, "base_field", None):
        yield from _field_texts(base)


def _texts(given: Any) -> Iterator[str]:
    """Yield the texts in a value, however deep: groups of choices, JSON, an expression."""
    if isinstance(given, Enum):
        given = given.value
    if isinstance(given, models.Expression):
        parts: Iterable[Any] = (getattr(given, "value", None), *given.get_source_expressions())
    elif isinstance(given, Mapping):
        parts = (*given.keys(), *given.values())
    elif isinstance(given, list | tuple | set | frozenset):
        parts = given
    else:
        if given is not None and not isinstance(given, bool | int | float):
            yield given.decode("utf-8", "replace") if isinstance(given, bytes) else str(given)
        return
    for part in parts:
        yield from _texts(part)
