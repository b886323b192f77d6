"""Objects counted in groups: by prefix, type, field, storage class, age or size. Pure, flat."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from typing import Any

from r2maint.pricing import Bill, priced_as

OTHER = "(other)"
UNREFERENCED = "(unreferenced)"
QUARANTINE = "(quarantine)"
OWN = "(r2maint)"
GONE = "(no longer stored)"
"""What a storage class that holds nothing now is billed for: days before now."""
MAX_GROUPS = 50_000
"""Names kept apart in one listing; what comes later is counted together, so memory stays flat."""

_PLACES = Decimal("0.000000")
"""A share has six, or as many as the bill has."""
_AGE_LIMITS = tuple(timedelta(days=days) for days in (7, 30, 90, 365))
AGES = ("under 7 days", "7 to 30 days", "30 to 90 days", "90 days to a year", "over a year")
_KIB, _MIB, _GIB = 2**10, 2**20, 2**30
_SIZE_LIMITS = (1, 10 * _KIB, 100 * _KIB, _MIB, 10 * _MIB, 100 * _MIB, _GIB)
SIZES = (
    "empty",
    "under 10 KiB",
    "10 to 100 KiB",
    "100 KiB to 1 MiB",
    "1 to 10 MiB",
    "10 to 100 MiB",
    "100 MiB to 1 GiB",
    "1 GiB and more",
)
Ages = Callable[[datetime], str]
_SAME_TYPE = {"jpeg": "jpg", "jpe": "jpg", "tiff": "tif", "htm": "html", "jsonl": "json"}
_LONGEST_EXTENSION = 10


class GroupBy(StrEnum):
    """What the objects of a listing have in common."""

    PREFIX = "prefix"
    TYPE = "type"
    MODEL = "model"
    CLASS = "class"
    AGE = "age"
    SIZE = "size"


_SCALES = {GroupBy.AGE: AGES, GroupBy.SIZE: SIZES}
"""Groups that have an order of their own."""


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

    def add(self, objects: int, size: int, storage_class: str) -> None:
        self.objects += objects
        priced = priced_as(storage_class)
        self.by_class[priced] = self.by_class.get(priced, 0) + size

    def merge(self, other: Count) -> None:
        self.objects += other.objects
        for storage_class, size in other.by_class.items():
            self.add(0, size, storage_class)

    @property
    def bytes(self) -> int:
        return sum(self.by_class.values())


@dataclass(slots=True)
class Grouping:
    """One way to group."""

    counts: dict[str, Count] = field(default_factory=dict)
    is_folded: bool = False
    """More than MAX_GROUPS names came; the later ones are in "(other)"."""

    def add(self, name: str, objects: int, size: int, storage_class: str) -> None:
        """Count objects of one name and storage class."""
        count = self.counts.get(name)
        if count is None:
            if len(self.counts) >= MAX_GROUPS:
                self.is_folded, name = True, OTHER
            count = self.counts.setdefault(name, Count())
        count.add(objects, size, storage_class)


def prefix_of(key: str, depth: int) -> str:
    """Return the first `depth` segments with their "/"; "(top level)" for a key without any."""
    rest = key.split("/", depth)[-1]
    return key[: len(key) - len(rest)] or "(top level)"


def prefixes_of(keys: Sequence[str], depth: int) -> list[str]:
    """Return the prefix of each of some keys that are in order."""
    first = prefix_of(keys[0], depth)
    is_one = first.count("/") == depth and keys[-1].startswith(first)
    # Another alphabet may be in the order of its composed forms.
    if is_one and all(map(str.isascii, keys)):
        return [first] * len(keys)
    return [prefix_of(key, depth) for key in keys]


def type_of(key: str) -> str:
    """Return the extension in lower case, "jpeg" as "jpg"; "(none)" where there is none.

    By name, as a listing tells no more.
    """
    # Of a "." in a folder's name alone, what follows has a "/" and is no extension.
    _, dot, extension = key.rpartition(".")
    return _type_named(extension) if dot else "(none)"


@lru_cache(maxsize=1024)
def _type_named(extension: str) -> str:
    extension = extension.lower()
    if not extension.isalnum() or len(extension) > _LONGEST_EXTENSION:
        return "(none)"
    return _SAME_TYPE.get(extension, extension)


def ages_at(now: datetime) -> Ages:
    """Return what tells the span of time into which the age of a moment falls."""
    limits = [now - limit for limit in reversed(_AGE_LIMITS)]
    names = AGES[::-1]
    return lambda moment: names[bisect_left(limits, moment)]


def size_of(size: int) -> str:
    """Return the class of a size in bytes."""
    return SIZES[bisect_right(_SIZE_LIMITS, size)]


def groups_of(
    listing: Grouping, by: GroupBy, bill: Bill, stored: Mapping[str, int], *, top: int | None
) -> tuple[Group, ...]:
    """Return the groups of one listing, largest first, with their shares.

    Ages come youngest first, sizes smallest first.

    Shares add up to the storage bill exactly: within a storage class they follow the bytes, and
    each is the difference of two roundings of the running sum. With `top`, what follows the `top`
    largest is one group, "(other)". What a storage class without a byte left is billed for comes
    last, as "(no longer stored)".
    """
    counts = listing.counts if top is None else _largest(listing.counts, top)
    named = sorted(counts.items(), key=lambda item: _order(by, *item))
    groups, running, shown = [], Decimal(0), Decimal(0)
    places = bill.storage_usd + _PLACES
    amounts = [(name, count, _share(count, bill, stored)) for name, count in named]
    if gone := _gone(bill, stored):
        amounts.append((GONE, Count(), gone))
    for name, count, amount in amounts:
        running += amount
        share = running.quantize(places) - shown
        shown += share
        groups.append(
            Group(name=name, objects=count.objects, bytes=count.bytes, usd_per_month=share)
        )
    return tuple(groups)


def _largest(counts: Mapping[str, Count], top: int) -> Mapping[str, Count]:
    """Return the `top` largest, and the others as one."""
    ranked = sorted(counts.items(), key=lambda item: _rank(*item))
    if len(ranked) <= top:
        return counts
    return {**dict(ranked[:top]), OTHER: _merged(count for _, count in ranked[top:])}


def _order(by: GroupBy, name: str, count: Count) -> tuple[Any, ...]:
    if name in (scale := _SCALES.get(by, ())):
        return (False, scale.index(name))
    return _rank(name, count)


def _rank(name: str, count: Count) -> tuple[Any, ...]:
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


def _gone(bill: Bill, stored: Mapping[str, int]) -> Decimal:
    """Return what storage classes are billed for that have no byte now."""
    priced = bill.storage_by_class.items()
    return sum((usd for name, usd in priced if not stored.get(name)), Decimal(0))
