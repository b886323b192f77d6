"""What is known of one picture from an earlier look at it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from r2maint.bucket import ObjectInfo
from r2maint.images import RECIPE_KEY, SOURCE_KEY

ALREADY = "already"
"""The reason to leave what a recipe made."""
UNTRIED = ""
"""The reason of an object that tells of no recipe."""
BROKEN = frozenset(("corrupt", "empty", "crashed", "encoder_failed", "out_of_memory", "too_slow"))
"""Reasons that are findings; the others only say that nothing is to be gained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What a recipe made, or found of a picture it left; of one version of one object."""

    key: str
    etag: str
    fingerprint: str
    """Of the recipe last tried on it; "" when none was."""
    reason: str
    bytes_before: int
    bytes_after: int | None = None
    """None unless it was made here, from `bytes_before`."""
    min_saving: float = 0
    width: int = 0
    height: int = 0
    source_sha256: str = ""
    """Of the bytes the recipe was tried on."""
    made_by: str = ""
    """The fingerprint of the recipe that made its bytes, of which another lossy pass would cost
    quality; "" for an original."""

    @classmethod
    def told_by(cls, info: ObjectInfo) -> Record:
        """Return what an object's own metadata tell."""
        metadata = info.headers.metadata
        fingerprint, source = metadata.get(RECIPE_KEY, ""), metadata.get(SOURCE_KEY, "")
        return cls(
            key=info.key,
            etag=info.etag,
            fingerprint=fingerprint,
            reason=ALREADY if fingerprint else UNTRIED,
            bytes_before=info.size,
            source_sha256=source[:64],
            made_by=fingerprint if source else "",
        )
