"""Objects that repeat the bytes of another: what could go, and whether something names it.

Equal ETag and size tell: of a multipart upload its parts count too, so that two of equal bytes in
other parts are not found.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from heapq import nsmallest
from typing import Any, NamedTuple

from r2maint.object_index.named_objects import Rows
from r2maint.pricing import INFREQUENT_ACCESS, STANDARD
from r2maint.scratch.sorted_rows import SortedRows
from r2maint.usage.count import OWN_PREFIX
from r2maint.usage.groups import Count

MAX_COPIES = 5
"""Told of one set; a placeholder may have been stored a million times."""
_Seen = tuple[str, int, str, str, int]
"""ETag and size, then what a `Copy` has."""


class IdenticalObject(NamedTuple):
    """One object of a set."""

    key: str
    storage_class: str
    references: int
    """How many name it: it can go only when they name another."""


@dataclass(slots=True)
class DuplicateSet:
    """Objects of one ETag and size, two or more."""

    etag: str
    object_bytes: int
    """Of each."""
    objects: int = 0
    infrequent_objects: int = 0
    """Those in Infrequent Access."""
    referenced_objects: int = 0
    first: list[tuple[str, str, int]] = field(default_factory=list)
    """What the first `MAX_COPIES` have, in the order they were listed."""

    def add(self, seen: _Seen) -> None:
        """Count one more."""
        _, _, _, storage_class, references = seen
        self.objects += 1
        self.infrequent_objects += storage_class == INFREQUENT_ACCESS
        self.referenced_objects += references > 0
        if len(self.first) < MAX_COPIES:
            self.first.append(seen[2:])

    @property
    def copies(self) -> tuple[IdenticalObject, ...]:
        """The first `MAX_COPIES`."""
        return tuple(map(IdenticalObject._make, self.first))

    @property
    def duplicate_bytes(self) -> int:
        """What could go if one stays."""
        return (self.objects - 1) * self.object_bytes

    @property
    def objects_by_class(self) -> dict[str, int]:
        """How many there are, by the storage class they are priced as."""
        standard = self.objects - self.infrequent_objects
        return {STANDARD: standard, INFREQUENT_ACCESS: self.infrequent_objects}

    def count_extra(self, extra: Count) -> None:
        """Count what could go: one in Standard stays before one in Infrequent Access."""
        infrequent, size = self.infrequent_objects, self.object_bytes
        standard = self.objects - infrequent
        if standard > 1:
            extra.add(standard - 1, (standard - 1) * size, STANDARD)
        if infrequent := infrequent - (not standard):
            extra.add(infrequent, infrequent * size, INFREQUENT_ACCESS)

    def as_dict(self) -> dict[str, Any]:
        return {
            "etag": self.etag,
            "object_bytes": self.object_bytes,
            "objects": self.objects,
            "duplicate_bytes": self.duplicate_bytes,
            "referenced_objects": self.referenced_objects,
            "objects_by_class": self.objects_by_class,
            "copies": [copy._asdict() for copy in self.copies],
        }


@dataclass(frozen=True, slots=True)
class Duplicates:
    """What is stored more than once."""

    extra: Count = field(default_factory=Count)
    """All that could go if one of each set stays."""
    largest: tuple[DuplicateSet, ...] = ()
    """The sets of which most bytes could go, those first."""


class Versions:
    """What tells copies apart of all objects that pass. Memory stays flat."""

    def __init__(self) -> None:
        self._seen: SortedRows[_Seen] = SortedRows()

    def add(self, rows: Rows) -> None:
        """Note some objects, r2maint's own and empty ones apart; none after `duplicates`."""
        self._seen.extend(
            [
                (etag, size, key, storage_class, naming.count if naming else 0)
                for (key, size, etag, _, storage_class), naming in zip(
                    rows.stored, rows.namings, strict=True
                )
                if size and not key.startswith(OWN_PREFIX)
            ]
        )

    def duplicates(self, most: int) -> Duplicates:
        """Return what is stored more than once, with the `most` largest sets. To be asked once."""
        extra = Count()
        return Duplicates(extra, tuple(nsmallest(most, self._counted(extra), key=_rank)))

    def close(self) -> None:
        """Give back the room of what was noted."""
        self._seen.close()

    def _counted(self, extra: Count) -> Iterator[DuplicateSet]:
        """Yield every set, once it is counted."""
        for piece in self._seen.pieces():
            for each in _sets(piece):
                each.count_extra(extra)
                yield each


def _sets(seen: Iterable[_Seen]) -> Iterable[DuplicateSet]:
    """Return the sets of two or more."""
    firsts: dict[tuple[str, int], _Seen] = {}
    found: dict[tuple[str, int], DuplicateSet] = {}
    # Millions come by here, most of them alone.
    for each in seen:
        version = each[:2]
        first = firsts.setdefault(version, each)
        if first is not each:
            if version not in found:
                found[version] = DuplicateSet(*version)
                found[version].add(first)
            found[version].add(each)
    return found.values()


def _rank(each: DuplicateSet) -> tuple[int, str]:
    return -each.duplicate_bytes, each.first[0][0]
