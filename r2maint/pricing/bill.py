"""Cloudflare's R2 bill, by its published rules, in exact arithmetic.

Units are decimal (1 GB = 10^9 bytes). Storage is billed in GB-months: the average of each day's
peak over a 30-day period, here counted in byte-days so that nothing is rounded before the end. The
free tier is for Standard only and is taken off first; what is left is rounded up to the next whole
unit: GB-months, millions of operations, GB retrieved.

Source: https://developers.cloudflare.com/r2/pricing/ (prices as of `CLOUDFLARE.as_of`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from r2maint.pricing.month import ClassUsage, Usage, month_of
from r2maint.pricing.price_lists import (
    CLOUDFLARE,
    GB,
    INFREQUENT_ACCESS,
    MILLION,
    MONTH_DAYS,
    STANDARD,
    FreeTier,
    Prices,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """A month's bill, exact, in US dollars."""

    storage_usd: Decimal
    class_a_usd: Decimal
    class_b_usd: Decimal
    retrieval_usd: Decimal
    storage_by_class: Mapping[str, Decimal]
    """The part of `storage_usd` each storage class has, under its S3 name."""
    billable: Mapping[str, int]
    """Whole units after the free tier and after rounding up."""
    assumptions: tuple[str, ...]

    @property
    def total_usd(self) -> Decimal:
        return self.storage_usd + self.class_a_usd + self.class_b_usd + self.retrieval_usd

    def as_dict(self) -> dict[str, Any]:
        return {
            "storage_usd": self.storage_usd,
            "class_a_usd": self.class_a_usd,
            "class_b_usd": self.class_b_usd,
            "retrieval_usd": self.retrieval_usd,
            "total_usd": self.total_usd,
            "billable": dict(self.billable),
            "assumptions": list(self.assumptions),
        }


def bill(usage: Usage, prices: Prices = CLOUDFLARE) -> Bill:
    """Return the bill of a month's usage."""
    standard = _units(usage.standard, prices.free)
    infrequent = _units(usage.infrequent_access, FreeTier(storage=0, class_a=0, class_b=0))
    both = ((standard, prices.standard), (infrequent, prices.infrequent_access))
    stored = [units["gb_months"] * rates.storage for units, rates in both]
    return Bill(
        storage_usd=sum(stored, Decimal(0)),
        class_a_usd=_sum(units["class_a_millions"] * rates.class_a for units, rates in both),
        class_b_usd=_sum(units["class_b_millions"] * rates.class_b for units, rates in both),
        retrieval_usd=_sum(units["retrieved_gb"] * rates.retrieval for units, rates in both),
        storage_by_class=dict(zip((STANDARD, INFREQUENT_ACCESS), stored, strict=True)),
        billable={
            **{f"standard_{name}": count for name, count in standard.items()},
            **{f"infrequent_access_{name}": count for name, count in infrequent.items()},
        },
        assumptions=_assumptions(prices),
    )


def _units(usage: ClassUsage, free: FreeTier) -> dict[str, int]:
    month = GB * MONTH_DAYS
    return {
        "gb_months": _round_up(usage.byte_days - free.storage * month, month),
        "class_a_millions": _round_up(usage.class_a - free.class_a, MILLION),
        "class_b_millions": _round_up(usage.class_b - free.class_b, MILLION),
        "retrieved_gb": _round_up(usage.retrieved_bytes, GB),
    }


def _round_up(amount: int, unit: int) -> int:
    return max(0, -(-amount // unit))


def _sum(amounts: Iterable[Decimal]) -> Decimal:
    return sum(amounts, Decimal(0))


def _assumptions(prices: Prices) -> tuple[str, ...]:
    free = prices.free
    return (
        f"Prices as of {prices.as_of.isoformat()}: {prices.source}",
        "1 GB is 1,000,000,000 bytes; a GB-month is the average of 30 daily peaks; every quantity"
        " is rounded up to a whole unit after the free tier.",
        f"The free tier ({free.storage} GB-months, {free.class_a:,} Class A and {free.class_b:,}"
        " Class B operations of Standard) is the account's: other buckets share it.",
        "Deleting is taken as free; Cloudflare's list does not name DeleteObjects. Metadata is not"
        " counted; whether it is billed is not published.",
    )


# What the removal of bytes is worth


def storage_bill(stored: Mapping[str, int], prices: Prices = CLOUDFLARE) -> Decimal:
    """Return a month's storage price of `stored` bytes by storage class, kept all month."""
    return bill(month_of(stored), prices).storage_usd


def storage_saving(
    removed: Mapping[str, int], *, stored: Mapping[str, int], prices: Prices = CLOUDFLARE
) -> Decimal:
    """Return by how much a month's bill falls when `removed` of `stored` bytes go, by class.

    The difference of two exact bills, so 0 within the free tier or within one rounded GB; negative
    when `removed` is (a conversion that grew).
    """
    left = {name: max(0, size - removed.get(name, 0)) for name, size in stored.items()}
    return storage_bill(stored, prices) - storage_bill(left, prices)
