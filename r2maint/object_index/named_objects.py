"""Some objects of a listing, and the cells that name each. Values only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import compress

from r2maint.bucket import StoredObject

MAX_OWNERS = 5
"""Cells told of one object; a placeholder may have a million."""


@dataclass(slots=True)
class Naming:
    """The cells that name one object."""

    first: int
    """The number of the first field, in alphabetical order."""
    last: int
    count: int
    cells: list[tuple[int, str]] = field(default_factory=list)
    """The first of them: number of the field, and where in its column."""

    def add(self, place: int, cell: str) -> None:
        """Count one more."""
        self.first, self.last = min(self.first, place), max(self.last, place)
        self.count += 1
        if len(self.cells) < MAX_OWNERS:
            self.cells.append((place, cell))


@dataclass(frozen=True, slots=True)
class Rows:
    """Some objects and what is known of each. In columns: a million objects pass, and loops in C
    take half the time.
    """

    stored: Sequence[StoredObject]
    namings: Sequence[Naming | None]
    """None for what no field names."""
    tried: Sequence[bool]
    """A re-encoding has looked at it."""
    sighted: Sequence[bool]
    """The last plan of a purge found it orphaned."""

    def only(self, chosen: Sequence[bool]) -> Rows:
        """Return those of which a column says True."""
        return Rows(
            list(compress(self.stored, chosen)),
            list(compress(self.namings, chosen)),
            list(compress(self.tried, chosen)),
            list(compress(self.sighted, chosen)),
        )
