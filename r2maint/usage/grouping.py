"""Objects counted in groups: by prefix, type, model field, storage class or age. Pure, flat."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any

from r2maint.bucket.base import StoredObject
from r2maint.pricing import Bill, priced_as
from r2maint.purge.quarantine import PREFIX as QUARANTINE_PREFIX
from r2maint.purge.quarantine import is_own
from r2maint.references.reading import Reference

OTHER = "(other)"
UNREFERENCED = "(unreferenced)"
QUARANTINE = "(quarantine)"
OWN = "(r2maint)"
MAX_GROUPS = 50_000
"""Names kept apart in one listing; what comes later is counted together, so memory stays flat."""

_MICRO = Decimal("0.000001")
_AGES = (
    (timedelta(days=7), "under 7 days"),
    (timedelta(days=30), "7 to 30 days"),
    (timedelta(days=90), "30 to 90 days"),
    (timedelta(days=365), "90 days to a year"),
)
_OLDEST = "over a year"
AGES = (*(name for _, name in _AGES), _OLDEST)
_SAME_TYPE = {"jpeg": "jpg", "jpe": "jpg", "tiff": "tif", "htm": "html", "jsonl": "json"}
_LONGEST_EXTENSION = 10


class GroupBy(str, Enum):
    """What the objects of a listing have in common."""

    PREFIX = "prefix"
    TYPE = "type"
    MODEL = "model"
    CLASS = "class"
    AGE = "age"


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Objects of one name, and their share of the storage bill."""

    name: str
    objects: int
    bytes: int
    usd_per_month: Decimal

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "objects": self.objects,
            "bytes": self.bytes,
            "usd_per_month": self.usd_per_month,
        }


@dataclass(slots=True)
class Count:
    """Objects, and their bytes by the storage class they are priced as."""

    objects: int = 0
    by_class: dict[str, int] = field(default_factory=dict)

    def add(self, stored: StoredObject) -> None:
        self.add_bytes(stored.size, priced_as(stored.storage_class), 1)

    def add_bytes(self, size: int, storage_class: str, objects: int) -> None:
        self.objects += objects
        self.by_class[storage_class] = self.by_class.get(storage_class, 0) + size

    def merge(self, other: Count) -> None:
        self.objects += other.objects
        for storage_class, size in other.by_class.items():
            self.add_bytes(size, storage_class, 0)

    @property
    def bytes(self) -> int:
        return sum(self.by_class.values())


@dataclass(slots=True)
class Listing:
    """One way to group, filled object by object."""

    counts: dict[str, Count] = field(default_factory=dict)
    is_folded: bool = False
    """More than MAX_GROUPS names came; the later ones are in "(other)"."""

    def add(self, name: str, stored: StoredObject) -> None:
        count = self.counts.get(name)
        if count is None:
            if len(self.counts) >= MAX_GROUPS:
                self.is_folded, name = True, OTHER
            count = self.counts.setdefault(name, Count())
        count.add(stored)


Namer = Callable[[StoredObject, tuple[Reference, ...]], str]


def namers(*, depth: int, now: datetime) -> Mapping[GroupBy, Namer]:
    """Return for each way to group what names the group of an object and its references."""
    return {
        GroupBy.PREFIX: lambda stored, references: prefix_of(stored.key, depth),
        GroupBy.TYPE: lambda stored, references: type_of(stored.key),
        GroupBy.MODEL: lambda stored, references: field_of(stored.key, references),
        GroupBy.CLASS: lambda stored, references: stored.storage_class,
        GroupBy.AGE: lambda stored, references: age_of(now - stored.modified_at),
    }


def prefix_of(key: str, depth: int) -> str:
    """Return the first `depth` segments with their "/"; "(top level)" for a key without any."""
    return "".join(f"{part}/" for part in key.split("/")[:-1][:depth]) or "(top level)"


def type_of(key: str) -> str:
    """Return the extension in lower case, "jpeg" as "jpg"; "(none)" where there is none.

    By name, as a listing tells no more.
    """
    _, dot, extension = key.rpartition("/")[2].rpartition(".")
    extension = extension.lower()
    if not dot or not extension.isalnum() or len(extension) > _LONGEST_EXTENSION:
        return "(none)"
    return _SAME_TYPE.get(extension, extension)


def field_of(key: str, references: tuple[Reference, ...]) -> str:
    """Return the first "app.Model.field" in alphabetical order that names an object."""
    if is_own(key):
        return QUARANTINE if key.startswith(QUARANTINE_PREFIX) else OWN
    return min(fields_of(references), default=UNREFERENCED)


def fields_of(references: Iterable[Reference]) -> set[str]:
    """Return every "app.Model.field" among references."""
    return {f"{reference.model}.{reference.field}" for reference in references}


def age_of(age: timedelta) -> str:
    """Return the span of time an age falls into."""
    return next((name for limit, name in _AGES if age < limit), _OLDEST)


def groups_of(
    listing: Listing, by: GroupBy, bill: Bill, stored: Mapping[str, int], *, top: int | None
) -> tuple[Group, ...]:
    """Return the groups of one listing, largest first (ages youngest first), with their shares.

    Shares add up to the storage bill exactly: within a storage class they follow the bytes, and
    each is the difference of two roundings of the running sum. With `top`, what follows the `top`
    largest is one group, "(other)".
    """
    named = sorted(listing.counts.items(), key=lambda item: _order(by, *item))
    if top is not None and len(named) > top:
        named = [*named[:top], (OTHER, _merged(count for _, count in named[top:]))]
    groups, running, shown = [], Decimal(0), Decimal(0)
    for name, count in named:
        running += _share(count, bill, stored)
        share = running.quantize(_MICRO) - shown
        shown += share
        groups.append(
            Group(name=name, objects=count.objects, bytes=count.bytes, usd_per_month=share)
        )
    return tuple(groups)


def _order(by: GroupBy, name: str, count: Count) -> tuple[Any, ...]:
    if by is GroupBy.AGE:
        return (AGES.index(name),)
    return (name == OTHER, -count.bytes, name)


def _merged(counts: Iterable[Count]) -> Count:
    total = Count()
    for count in counts:
        total.merge(count)
    return total


def _share(count: Count, bill: Bill, stored: Mapping[str, int]) -> Decimal:
    priced = bill.storage_by_class
    parts = (
        priced.get(storage_class, Decimal(0)) * size / stored[storage_class]
        for storage_class, size in count.by_class.items()
        if stored[storage_class]
    )
    return sum(parts, Decimal(0))
