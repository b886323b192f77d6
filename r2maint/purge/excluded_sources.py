"""What the entries of NOT_REFERENCES would have kept, if they were read."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from r2maint.bucket import StoredObject
from r2maint.conf import Config
from r2maint.control import Control
from r2maint.database.snapshot import split
from r2maint.errors import DatabaseError
from r2maint.keepset.find_keys import KeyFinder
from r2maint.keepset.read_texts import KeepSet
from r2maint.object_index.objects import Inventory
from r2maint.rendering import format_count
from r2maint.scratch.batches import batched

MOST_CELLS = 2_000_000
"""Cells of one entry that are looked through: seconds, however long a log is."""
MOST_TEXT = 2**28
"""Characters, likewise."""
_BATCH = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Omission:
    """One entry of NOT_REFERENCES, and what it names of the objects that nothing else does."""

    name: str
    reason: str
    is_read: bool = True
    """False where no object is left that it could keep."""
    cells: int = 0
    """Cells, of any text, that were looked through."""
    is_whole: bool = True
    would_keep: int = 0
    """At least, where it was not read as a whole."""
    example: str = ""
    """The first key among these."""
    error: str = ""
    """Why it could not be looked through."""

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "reason": self.reason,
            "cells": self.cells,
            "complete": self.is_whole,
            "would_keep": self.would_keep,
            "example": self.example or None,
            "error": self.error or None,
        }

    def as_sentence(self) -> str:
        """Return what it would have kept, in words."""
        if self.error:
            return f"not known: {self.error}"
        if not self.is_read:
            return "not looked into: no object is left that it could keep"
        if not self.cells:
            return "nothing was read: it holds no text, or nothing is called so"
        told = f"would have kept {self.would_keep:,} of these objects"
        if self.example:
            told += f", e.g. {self.example}"
        if not self.is_whole:
            told += f" (only its first {format_count(self.cells, 'cell')} were read)"
        return told


def weigh_omissions(
    config: Config, keep_set: KeepSet, objects: Iterable[StoredObject], *, control: Control
) -> tuple[Omission, ...]:
    """Return for each entry which of `objects`, the unnamed ones, it names.

    An entry that cannot be read says so and harms nothing: it decides nothing either.
    """
    entries = config.not_references
    if not entries:
        return ()
    with Inventory() as inventory:
        if not inventory.add_objects(batched(objects, _BATCH), control=control).count:
            return tuple(
                Omission(name=name, reason=reason, is_read=False)
                for name, reason in entries.items()
            )
        finder = inventory.finder()
        return tuple(
            _weigh(name, reason, keep_set, inventory, finder, control)
            for name, reason in entries.items()
        )


def _weigh(
    name: str,
    reason: str,
    keep_set: KeepSet,
    inventory: Inventory,
    finder: KeyFinder,
    control: Control,
) -> Omission:
    inventory.forget_names()
    cells = size = 0
    is_whole = True
    try:
        with closing(keep_set.iter_omitted(name)) as pieces:
            for _, text, count in control.track(pieces, f"Looking into {name}", unit="piece"):
                cells, size = cells + count, size + len(text)
                for piece in split(text):
                    inventory.add_names(finder.find(piece).names)
                if cells >= MOST_CELLS or size >= MOST_TEXT:
                    is_whole = False
                    break
    except DatabaseError as error:
        return Omission(name=name, reason=reason, cells=cells, is_whole=False, error=error.message)
    first = next(inventory.iter_named(("",)), None)
    return Omission(
        name=name,
        reason=reason,
        cells=cells,
        is_whole=is_whole,
        would_keep=inventory.totals(named=True).count,
        example=first.key if first else "",
    )
