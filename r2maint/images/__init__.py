"""Pictures: what they are, and smaller ones that look the same.

Nothing is believed before it is decoded, and nothing is returned before it was decoded again. The
same bytes and the same recipe give the same result as long as the encoders keep their versions.
"""

from r2maint.images.encoding import reencode
from r2maint.images.magic import HEAD_BYTES, FileType, sniff
from r2maint.images.pool import Finished, Job, reencode_many
from r2maint.images.reading import inspect
from r2maint.images.values import (
    RECIPE_KEY,
    SOURCE_KEY,
    Encoded,
    ImageError,
    Limits,
    Picture,
    Recipe,
    Skip,
    can_write,
)

__all__ = [
    "HEAD_BYTES",
    "RECIPE_KEY",
    "SOURCE_KEY",
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
