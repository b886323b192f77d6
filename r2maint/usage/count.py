"""One pass over what is attributed: totals, and groups of every kind. Pure, and flat in memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from r2maint.bucket import Bucket, StoredObject
from r2maint.errors import InvalidListing, NoSuchKey, Unsupported
from r2maint.object_index.named_objects import Rows
from r2maint.pricing import STANDARD, priced_as
from r2maint.quarantine.manifest import PREFIX as QUARANTINE_PREFIX
from r2maint.usage.groups import (
    AGES,
    Ages,
    Count,
    GroupBy,
    Grouping,
    ages_at,
    prefixes_of,
    size_of,
    type_of,
)

UNREFERENCED = "(unreferenced)"
QUARANTINE = "(quarantine)"
OWN = "(r2maint)"
PICTURES = frozenset(("png", "jpg", "jfif", "gif", "webp", "avif", "bmp", "tif"))
"""Types that `reoptimize` re-encodes."""

OWN_PREFIX = ".r2maint/"
_Cell = tuple[Any, ...]
"""As `_Traits`, not yet put into words."""


Types = Callable[[Sequence[StoredObject]], Iterable[str]]
"""Return the type of each of some objects."""


def types_by_name(stored: Sequence[StoredObject]) -> Iterable[str]:
    """Return the types that the keys of objects tell."""
    return [type_of(each.key) for each in stored]


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
class UsageTally:
    """Everything one pass counts."""

    by: Sequence[GroupBy]
    depth: int
    now: datetime
    names: Sequence[str]
    """"app.Model.field" by number."""
    types: Types = types_by_name
    listings: Mapping[GroupBy, Grouping] = field(init=False)
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
        self.listings = {by: Grouping() for by in self.by}

    def read(self, pages: Iterable[Rows]) -> None:
        """Count these objects."""
        ages = ages_at(self.now)
        for rows in pages:
            # Neighbours in key order have most in common: few sums instead of a dozen an object.
            for cell, (objects, size) in self._summed(rows, ages).items():
                self._add(self._traits(cell), objects, size)

    def _summed(self, rows: Rows, ages: Ages) -> Mapping[_Cell, list[int]]:
        """Return how many objects, and how many bytes, share their traits."""
        keys, sizes, _, times, classes = zip(*rows.stored, strict=True)
        cells = zip(
            prefixes_of(keys, self.depth),
            self.types(rows.stored),
            [key.startswith(OWN_PREFIX) and _own(key) for key in keys],
            classes,
            map(ages, times),
            map(size_of, sizes),
            [naming and naming.first for naming in rows.namings],
            [naming and naming.last for naming in rows.namings],
            rows.tried,
            rows.sighted,
            strict=True,
        )
        summed: defaultdict[_Cell, list[int]] = defaultdict(lambda: [0, 0])
        for cell, size in zip(cells, sizes, strict=True):
            both = summed[cell]
            both[0] += 1
            both[1] += size
        return summed

    def _traits(self, cell: _Cell) -> _Traits:
        prefix, type_name, own, storage_class, age, size, first, last, tried, sighted = cell
        return _Traits(
            prefix,
            type_name,
            own or (UNREFERENCED if first is None else self.names[first]),
            storage_class,
            age,
            size,
            first is not None and self.names[first] != self.names[last],
            tried,
            sighted,
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """How many there are, and the bytes of the parts of those that could be measured."""

    uploads: int = 0
    bytes: int = 0
    unmeasured: int = 0


def measure_pending(bucket: Bucket, prefix: str) -> Pending | None:
    """Return the unfinished uploads below a prefix; None when the server cannot list them.

    One Class A request for 1,000 uploads, and one for 1,000 parts of each. Raises: BucketError.
    """
    uploads = size = unmeasured = 0
    try:
        for result in bucket.measure_uploads(bucket.list_uploads(prefix)):
            if isinstance(result.error, NoSuchKey):  # completed or aborted meanwhile
                continue
            uploads += 1
            unmeasured += result.value is None
            size += result.value or 0
    except (Unsupported, InvalidListing):
        return None
    return Pending(uploads=uploads, bytes=size, unmeasured=unmeasured)
