"""Pictures: what they are, and smaller ones that look the same.

In: bytes and a `Recipe`. Out: `Encoded` bytes, or `Skip` with a reason. Nothing is believed before
it is decoded, and nothing is returned before it was decoded again. The same bytes and the same
recipe give the same result as long as the encoders keep their versions. Only this package imports
Pillow.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from r2maint.images.formats import HEAD_BYTES, FileType, sniff

if TYPE_CHECKING:
    from r2maint.images.decode import inspect
    from r2maint.images.pool import Finished, Job, reencode_many
    from r2maint.images.recipe import (
        RECIPE_KEY,
        SOURCE_KEY,
        Allowance,
        Encoded,
        ImageError,
        Limits,
        Picture,
        Recipe,
        Skip,
        can_write,
    )
    from r2maint.images.reencode_image import reencode

__all__ = [
    "HEAD_BYTES",
    "RECIPE_KEY",
    "SOURCE_KEY",
    "Allowance",
    "Encoded",
    "FileType",
    "Finished",
    "ImageError",
    "Job",
    "Limits",
    "Picture",
    "Recipe",
    "Skip",
    "can_write",
    "inspect",
    "reencode",
    "reencode_many",
    "sniff",
]

_MODULES = {
    "reencode_image": ("reencode",),
    "pool": ("Finished", "Job", "reencode_many"),
    "decode": ("inspect",),
    "recipe": (
        *("RECIPE_KEY", "SOURCE_KEY", "Allowance", "Encoded", "ImageError", "Limits", "Picture"),
        *("Recipe", "Skip", "can_write"),
    ),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    """Load Pillow when it is needed: many commands ask no more than what kind a file is."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
