"""What moving objects of Standard to Infrequent Access saves, and when it has paid for itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, Decimal
from typing import Any

from r2maint.pricing.bill import Bill, bill
from r2maint.pricing.month import ClassUsage, Usage
from r2maint.pricing.price_lists import CLOUDFLARE, MONTH_DAYS, Prices


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """Objects in Standard that could be in Infrequent Access, and what a month asks of them."""

    objects: int
    bytes: int
    class_b: int = 0
    """Reads a month."""
    retrieved_bytes: int = 0
    """Bytes read or copied a month."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakEven:
    """What a month costs less, what the move costs, and after how long it is worth it."""

    storage_usd: Decimal
    """What a month's storage costs less; negative when it costs more."""
    reading_usd: Decimal
    """What a month's reads and retrieval cost more."""
    transition_usd: Decimal
    """What the move costs, once."""
    return_usd: Decimal
    """What copying all of it back to Standard would cost, once."""
    days: int | None
    """How long the objects must stay before the move has paid for itself; None for never."""

    @property
    def saved_usd_per_month(self) -> Decimal:
        return self.storage_usd - self.reading_usd

    @property
    def months(self) -> Decimal | None:
        """`days` in months of 30 days, rounded up to a tenth."""
        if self.days is None:
            return None
        return (Decimal(self.days) / MONTH_DAYS).quantize(Decimal("0.1"), ROUND_CEILING)

    def as_dict(self) -> dict[str, Any]:
        return {
            "storage_usd": self.storage_usd,
            "reading_usd": self.reading_usd,
            "transition_usd": self.transition_usd,
            "return_usd": self.return_usd,
            "saved_usd_per_month": self.saved_usd_per_month,
            "days": self.days,
            "months": self.months,
        }


def break_even(moved: Moved, usage: Usage, prices: Prices = CLOUDFLARE) -> BreakEven:
    """Return what `moved` would save in months like `usage`, which counts it in Standard.

    Amounts are differences of exact bills, so rounding and the free tier, which only Standard has,
    are in them. One Class A operation an object, there and back, each at the rate of Infrequent
    Access: which class a transition is billed at is not published, and this is the dearer one. The
    way back also costs the retrieval of every byte. What is removed before the minimum duration is
    billed for as long, so short-lived objects break even later.
    Source: https://developers.cloudflare.com/r2/pricing/
    """
    hot, hot_left = usage.standard, _taken(usage.standard, moved)
    cold, cold_after = usage.infrequent_access, _added(usage.infrequent_access, moved)
    gone = _difference(bill(Usage(standard=hot), prices), bill(Usage(standard=hot_left), prices))
    there = bill(Usage(infrequent_access=cold_after), prices)
    come = _difference(there, bill(Usage(infrequent_access=cold), prices))
    copied = replace(cold_after, class_a=cold_after.class_a + moved.objects)
    read = replace(copied, retrieved_bytes=copied.retrieved_bytes + moved.bytes)
    transition = bill(Usage(infrequent_access=copied), prices).total_usd - there.total_usd
    return BreakEven(
        storage_usd=gone.storage - come.storage,
        reading_usd=come.reading - gone.reading,
        transition_usd=transition,
        return_usd=bill(Usage(infrequent_access=read), prices).total_usd - there.total_usd,
        days=_days(gone, come, transition, prices.infrequent_access.minimum_days),
    )


@dataclass(frozen=True, slots=True)
class _Difference:
    storage: Decimal
    reading: Decimal


def _difference(larger: Bill, smaller: Bill) -> _Difference:
    reads = larger.class_b_usd + larger.retrieval_usd
    fewer_reads = smaller.class_b_usd + smaller.retrieval_usd
    return _Difference(larger.storage_usd - smaller.storage_usd, reads - fewer_reads)


def _taken(hot: ClassUsage, moved: Moved) -> ClassUsage:
    return replace(
        hot,
        byte_days=max(0, hot.byte_days - moved.bytes * MONTH_DAYS),
        class_b=max(0, hot.class_b - moved.class_b),
    )


def _added(cold: ClassUsage, moved: Moved) -> ClassUsage:
    return replace(
        cold,
        byte_days=cold.byte_days + moved.bytes * MONTH_DAYS,
        class_b=cold.class_b + moved.class_b,
        retrieved_bytes=cold.retrieved_bytes + moved.retrieved_bytes,
    )


def _days(
    gone: _Difference, come: _Difference, transition: Decimal, minimum_days: int
) -> int | None:
    """Return the first day on which Standard would have cost as much as the move and the stay."""
    # Until the minimum duration is over, all of it is owed from the first day on.
    owed = transition + come.storage * minimum_days / MONTH_DAYS
    early = _days_to_pay(owed, gone.storage + gone.reading - come.reading)
    if early is not None and early <= minimum_days:
        return early
    saved = gone.storage - come.storage + gone.reading - come.reading
    return _days_to_pay(transition, saved)


def _days_to_pay(owed: Decimal, a_month: Decimal) -> int | None:
    if a_month <= 0:
        return None
    return int((owed * MONTH_DAYS / a_month).to_integral_value(ROUND_CEILING))
