"""What could be stored no longer, or cheaper, and by how much the bill would fall. Pure.

Each saving is the difference of two exact bills and stands alone: together they may save more or
less, for the bill is rounded up to whole units.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from r2maint.pricing import STANDARD, BreakEven, Moved, Prices, Usage, break_even, storage_saving
from r2maint.rendering import format_bytes, format_count, format_usd
from r2maint.usage.groups import Count


@dataclass(frozen=True, slots=True, kw_only=True)
class Saving:
    """What would no longer be stored, or be cheaper, and by how much the bill would fall."""

    what: str
    bytes: int
    usd_per_month: Decimal
    objects: int = 0
    how: str = ""
    """The command that does it; "" where none does."""
    basis: str = ""
    """What the figures rest on, in a sentence."""
    break_even: BreakEven | None = None
    """Of a move to Infrequent Access, which costs something first."""

    def as_dict(self) -> dict[str, Any]:
        told = {
            "what": self.what,
            "bytes": self.bytes,
            "usd_per_month": self.usd_per_month,
            "objects": self.objects,
            "how": self.how,
            "basis": self.basis,
        }
        if self.break_even:
            told["break_even"] = self.break_even.as_dict()
        return told


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedPictures:
    """What re-encoding made of the pictures it looked at, those it left included."""

    pictures: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    """Of a picture it left: as before."""

    def saved_of(self, size: int) -> int:
        """Return what would be saved of `size` bytes at the same ratio, rounded down."""
        if not self.bytes_before:
            return 0
        return size * max(0, self.bytes_before - self.bytes_after) // self.bytes_before


@dataclass(frozen=True, slots=True, kw_only=True)
class Removable:
    """What could go."""

    orphans: Count | None
    """None where nobody can tell."""
    sighted: Count
    """Of these, what the last plan of a purge found orphaned."""
    quarantined: Count
    duplicates: Count
    pictures: Count
    """Named, and not looked at by a re-encoding yet."""
    encoded: EncodedPictures


def find_savings(
    found: Removable, *, stored: Mapping[str, int], prices: Prices
) -> tuple[Saving, ...]:
    """Return every saving there could be, also those of nothing; `stored` is bytes by class."""
    return tuple(
        Saving(
            what=what,
            bytes=count.bytes,
            usd_per_month=storage_saving(count.by_class, stored=stored, prices=prices),
            objects=count.objects,
            how=how,
            basis=basis,
        )
        for what, count, how, basis in _removable(found)
    )


def cooling(settled: Count, usage: Usage, prices: Prices) -> Iterator[Saving]:
    """Yield what moving `settled` from Standard to Infrequent Access would save, if there is any.

    Taken as never read: nobody knows how often each object is.
    """
    size = settled.by_class.get(STANDARD, 0)
    if not size:
        return
    found = break_even(Moved(objects=settled.objects, bytes=size), usage, prices)
    paid = "it never pays" if found.days is None else f"it has paid after {found.days} days"
    yield Saving(
        what="infrequent_access",
        bytes=size,
        usd_per_month=found.saved_usd_per_month,
        objects=settled.objects,
        how="a lifecycle rule",
        basis=(
            "Named objects in Standard written over 90 days ago, taken as never read. The move"
            f" costs {format_usd(found.transition_usd)} once; {paid}."
        ),
        break_even=found,
    )


def _removable(found: Removable) -> Iterator[tuple[str, Count, str, str]]:
    if found.orphans is not None:
        yield "orphans", found.orphans, "purge_orphans --apply", _basis_of_orphans(found.sighted)
    yield (
        "quarantine",
        found.quarantined,
        "purge_orphans --empty-quarantine --older-than 30d --apply",
        "What a row names again by then is kept.",
    )
    yield (
        "duplicates",
        found.duplicates,
        "",
        "Objects of equal ETag and size beyond the first; rows would have to name that one.",
    )
    if found.encoded.pictures:
        yield (
            "reencoding",
            _smaller(found.pictures, found.encoded),
            "reoptimize --apply",
            _basis_of_encoding(found.encoded),
        )


def _basis_of_orphans(sighted: Count) -> str:
    told = "No field names them; a purge reads every other text too and may keep some."
    if not sighted.objects:
        return told
    return (
        f"{told} The last plan of a purge found {format_count(sighted.objects, 'object')}"
        f" of them ({format_bytes(sighted.bytes)}) named nowhere."
    )


def _smaller(pictures: Count, encoded: EncodedPictures) -> Count:
    saved = {name: encoded.saved_of(size) for name, size in pictures.by_class.items()}
    return Count(pictures.objects, saved)


def _basis_of_encoding(encoded: EncodedPictures) -> str:
    percent = Decimal(100) * encoded.saved_of(encoded.bytes_before) / encoded.bytes_before
    return (
        f"Extrapolated from {format_count(encoded.pictures, 'picture')} of this bucket, of which"
        f" re-encoding saved {percent:.1f}%, to the named pictures it has not looked at; the"
        " originals are stored until a purge."
    )
