"""What a month was used for: bytes in byte-days, so that nothing is rounded before the end."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta

from r2maint.pricing.price_lists import CLOUDFLARE, INFREQUENT_ACCESS, MONTH_DAYS, STANDARD, Rates


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassUsage:
    """What one storage class was used for in a month."""

    byte_days: int = 0
    """Each day's peak in bytes, summed over the days of the month."""
    class_a: int = 0
    class_b: int = 0
    retrieved_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """A month of an account, or of one bucket taken as if it were the account."""

    standard: ClassUsage = field(default_factory=ClassUsage)
    infrequent_access: ClassUsage = field(default_factory=ClassUsage)


def priced_as(storage_class: str) -> str:
    """Return STANDARD or INFREQUENT_ACCESS: R2 has no other class."""
    return INFREQUENT_ACCESS if storage_class == INFREQUENT_ACCESS else STANDARD


def byte_days(size: int, *, days: int = MONTH_DAYS, rates: Rates = CLOUDFLARE.standard) -> int:
    """Return what `size` bytes kept for `days` count for, at least the minimum duration."""
    return size * max(days, rates.minimum_days)


def month_of(stored: Mapping[str, int], *, class_a: int = 0, class_b: int = 0) -> Usage:
    """Return a month in which `stored` bytes by storage class stay as they are.

    Operations are Standard's, unless every byte is in Infrequent Access.
    """
    by_class = {name: size * MONTH_DAYS for name, size in stored.items()}
    return _month(by_class, class_a=class_a, class_b=class_b)


def month_of_peaks(
    peaks: Mapping[date, Mapping[str, int]], *, until: date, class_a: int = 0, class_b: int = 0
) -> Usage:
    """Return the 30 days that end with `until`, from each day's largest bytes by storage class.

    A class that a day does not name had no bytes. A day without a peak counts as the known day
    before it, and before the first one as that one. What left Infrequent Access within its minimum
    duration is not seen in peaks. Raises: ValueError when no day up to `until` is known.
    Source: https://developers.cloudflare.com/r2/pricing/#storage-usage
    """
    by_class = _summed(days_of_month(peaks, until=until))
    return _month(by_class, class_a=class_a, class_b=class_b)


def days_of_month(
    peaks: Mapping[date, Mapping[str, int]], *, until: date
) -> list[Mapping[str, int]]:
    """Return the largest bytes of each of the 30 days that end with `until`, in order.

    Gaps are filled as `month_of_peaks` says. Raises: ValueError when no day is known.
    """
    known = sorted(day for day in peaks if day <= until)
    if not known:
        raise ValueError(f"no peak is known up to {until}")
    found = (known[max(0, bisect_right(known, day) - 1)] for day in reversed(_days(until)))
    return [peaks[day] for day in found]


def average(days: Collection[Mapping[str, int]]) -> dict[str, int]:
    """Return the mean of some days by storage class, up to the next byte: a bill rounds up too."""
    return {name: -(-size // len(days)) for name, size in _summed(days).items()}


def _summed(days: Iterable[Mapping[str, int]]) -> dict[str, int]:
    by_class: dict[str, int] = {}
    for day in days:
        for name, size in day.items():
            by_class[name] = by_class.get(name, 0) + size
    return by_class


def days_known(peaks: Mapping[date, Mapping[str, int]], *, until: date) -> int:
    """Return how many of the 30 days that end with `until` have a peak of their own."""
    return sum(day in peaks for day in _days(until))


def _days(until: date) -> list[date]:
    return [until - timedelta(days=days) for days in range(MONTH_DAYS)]


def _month(by_class: Mapping[str, int], *, class_a: int, class_b: int) -> Usage:
    infrequent = by_class.get(INFREQUENT_ACCESS, 0)
    standard = sum(by_class.values()) - infrequent
    operations = {"class_a": class_a, "class_b": class_b}
    only_infrequent = bool(infrequent) and not standard
    return Usage(
        standard=ClassUsage(byte_days=standard, **({} if only_infrequent else operations)),
        infrequent_access=ClassUsage(
            byte_days=infrequent, **(operations if only_infrequent else {})
        ),
    )
