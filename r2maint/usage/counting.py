"""One pass over what is attributed: totals, and groups of every kind. Pure, and flat in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

from r2maint.pricing import STANDARD, priced_as
from r2maint.purge.quarantine import PREFIX as QUARANTINE_PREFIX
from r2maint.usage.grouping import (
    AGES,
    Count,
    GroupBy,
    Listing,
    age_of,
    prefix_of,
    size_of,
    type_of,
)

UNREFERENCED = "(unreferenced)"
QUARANTINE = "(quarantine)"
OWN = "(r2maint)"
PICTURES = frozenset(("png", "jpg", "jfif", "gif", "webp", "avif", "bmp", "tif"))
"""Types that `reoptimize` re-encodes."""

Rows = Sequence[tuple[Any, ...]]
"""As `attribution.Row` names their parts."""
Types = Callable[[Rows], Iterable[str]]
"""Return the type of each of some objects."""

OWN_PREFIX = ".r2maint/"
_Cell = tuple[Any, ...]
"""As `_Traits`, not yet put into words."""
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)


def types_by_name(rows: Rows) -> Iterable[str]:
    """Return the types that the keys of objects tell."""
    return [type_of(row[1] or row[0]) for row in rows]


class _Traits(NamedTuple):
    """What objects that are counted together have in common."""

    prefix: str
    type: str
    model: str
    storage_class: str
    age: str
    size: str
    is_shared: bool
    is_tried: bool
    is_sighted: bool


_TRAITS = {
    GroupBy.PREFIX: "prefix",
    GroupBy.TYPE: "type",
    GroupBy.MODEL: "model",
    GroupBy.CLASS: "storage_class",
    GroupBy.AGE: "age",
    GroupBy.SIZE: "size",
}


@dataclass(slots=True, kw_only=True)
class Tally:
    """Everything one pass counts."""

    by: Sequence[GroupBy]
    depth: int
    now: datetime
    names: Sequence[str]
    """"app.Model.field" by number."""
    types: Types = types_by_name
    listings: Mapping[GroupBy, Listing] = field(init=False)
    total: Count = field(default_factory=Count)
    referenced: Count = field(default_factory=Count)
    orphans: Count = field(default_factory=Count)
    """What no field names."""
    sighted: Count = field(default_factory=Count)
    """Of these, what the last plan of a purge found orphaned."""
    quarantined: Count = field(default_factory=Count)
    shared: Count = field(default_factory=Count)
    """Named by several fields."""
    empty: Count = field(default_factory=Count)
    pictures: Count = field(default_factory=Count)
    """Pictures with a reference that no re-encoding has looked at."""
    settled: Count = field(default_factory=Count)
    """In Standard, with a reference, written over 90 days ago."""

    def __post_init__(self) -> None:
        self.listings = {by: Listing() for by in self.by}

    def read(self, pages: Iterable[Rows]) -> None:
        """Count these objects."""
        for rows in pages:
            # Neighbours in key order have most in common: few sums instead of a dozen an object.
            for cell, (objects, size) in self._summed(rows).items():
                self._add(self._traits(cell), objects, size)

    def _summed(self, rows: Rows) -> dict[_Cell, list[int]]:
        # A million rows pass here: bare tuples, as few calls as may be.
        depth, now = self.depth, (self.now - _EPOCH) // _MICROSECOND
        cells: dict[_Cell, list[int]] = {}
        for row, type_name in zip(rows, self.types(rows), strict=True):
            name, spelling, size, modified, storage_class, first, last, tried, sighted = row
            traits = (
                prefix_of(spelling or name, depth),
                type_name,
                name.startswith(OWN_PREFIX) and _own(name),
                storage_class,
                age_of(now - modified),
                size_of(size),
                first,
                last,
                tried,
                sighted,
            )
            cell = cells.get(traits)
            if cell is None:
                cells[traits] = [1, size]
            else:
                cell[0] += 1
                cell[1] += size
        return cells

    def _traits(self, cell: _Cell) -> _Traits:
        prefix, type_name, own, storage_class, age, size, first, last, tried, sighted = cell
        return _Traits(
            prefix,
            type_name,
            own or (UNREFERENCED if first is None else self.names[first]),
            storage_class or "STANDARD",
            age,
            size,
            first is not None and self.names[first] != self.names[last],
            bool(tried),
            bool(sighted),
        )

    def _add(self, traits: _Traits, objects: int, size: int) -> None:
        for count in (self.total, *self._kinds(traits)):
            count.add(objects, size, traits.storage_class)
        for by, listing in self.listings.items():
            listing.add(getattr(traits, _TRAITS[by]), objects, size, traits.storage_class)

    def _kinds(self, traits: _Traits) -> list[Count]:
        kinds = [self.empty] if traits.size == _EMPTY else []
        if traits.model == QUARANTINE:
            return [*kinds, self.quarantined]
        if traits.model == OWN:
            return kinds
        if traits.model == UNREFERENCED:
            return [*kinds, self.orphans, *([self.sighted] if traits.is_sighted else [])]
        shared = [self.shared] if traits.is_shared else []
        if traits.type in PICTURES and not traits.is_tried:
            kinds.append(self.pictures)
        if traits.age in _OLD and priced_as(traits.storage_class) == STANDARD:
            kinds.append(self.settled)
        return [*kinds, self.referenced, *shared]


_EMPTY = size_of(0)
_OLD = AGES[AGES.index("90 days to a year") :]


def _own(name: str) -> str:
    return QUARANTINE if name.startswith(QUARANTINE_PREFIX) else OWN
