"""The same month at Cloudflare R2 and at Amazon S3 Standard, by each one's rules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from r2maint.pricing.bill import bill
from r2maint.pricing.month import ClassUsage, Usage
from r2maint.pricing.price_lists import (
    CLOUDFLARE,
    GB,
    MILLION,
    MONTH_DAYS,
    FreeTier,
    Prices,
    Rates,
    S3Prices,
    Tier,
)

_S3_GB = 2**30
"""Source: https://aws.amazon.com/s3/faqs/, "How will I be charged and billed"."""
_CENT = Decimal("0.01")
_THOUSAND = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Amounts:
    """A month's price in US dollars."""

    storage_usd: Decimal
    operations_usd: Decimal
    """Requests, and what is retrieved from Infrequent Access."""
    egress_usd: Decimal = Decimal(0)

    @property
    def total_usd(self) -> Decimal:
        return self.storage_usd + self.operations_usd + self.egress_usd

    def as_dict(self) -> dict[str, Decimal]:
        return {
            "storage_usd": self.storage_usd,
            "egress_usd": self.egress_usd,
            "operations_usd": self.operations_usd,
            "total_usd": self.total_usd,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What one provider asks for a month."""

    provider: str
    by_rules: Amounts
    """Free tier, rounding, tiers and the size of a GB as the provider has them."""
    at_list_price: Amounts
    """Quantities times the first price, 1 GB being 10^9 bytes, nothing free: the rule of thumb."""
    as_of: date
    source: str
    assumptions: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        return {
            "provider": self.provider,
            **self.by_rules.as_dict(),
            "list_price": self.at_list_price.as_dict(),
            "as_of": self.as_of.isoformat(),
            "source": self.source,
            "assumptions": list(self.assumptions),
        }


def compare(
    usage: Usage, *, egress_bytes: int = 0, prices: Prices = CLOUDFLARE
) -> tuple[Offer, ...]:
    """Return the price of a month with `egress_bytes` sent to the internet: R2's, then S3's."""
    return (_r2(usage, prices), _s3(usage, egress_bytes, prices.aws_s3))


def _r2(usage: Usage, prices: Prices) -> Offer:
    exact = bill(usage, prices)
    both = (
        (usage.standard, prices.standard),
        (usage.infrequent_access, prices.infrequent_access),
    )
    return Offer(
        provider="Cloudflare R2",
        by_rules=Amounts(
            storage_usd=exact.storage_usd,
            operations_usd=exact.class_a_usd + exact.class_b_usd + exact.retrieval_usd,
        ),
        at_list_price=Amounts(
            storage_usd=_cents(_stored(used, GB) * rates.storage for used, rates in both),
            operations_usd=_cents(_operations(used, rates) for used, rates in both),
        ),
        as_of=prices.as_of,
        source=prices.source,
        assumptions=tuple(_r2_assumptions(usage.standard, prices.free)),
    )


def _r2_assumptions(used: ClassUsage, free: FreeTier) -> Iterator[str]:
    yield "Egress is free."
    yield "The list price knows no free tier, and rounds nothing up to whole units."
    if 0 < used.class_a <= free.class_a:
        yield f"{used.class_a:,} Class A operations are inside the free tier of {free.class_a:,}."
    if 0 < used.class_b <= free.class_b:
        yield f"{used.class_b:,} Class B operations are inside the free tier of {free.class_b:,}."


def _operations(used: ClassUsage, rates: Rates) -> Decimal:
    requests = used.class_a * rates.class_a + used.class_b * rates.class_b
    return requests / MILLION + used.retrieved_bytes * rates.retrieval / GB


def _s3(usage: Usage, egress_bytes: int, prices: S3Prices) -> Offer:
    both = (usage.standard, usage.infrequent_access)
    writes = sum(used.class_a for used in both)
    reads = sum(used.class_b for used in both)
    requests = _cents((writes * prices.put / _THOUSAND, reads * prices.get / _THOUSAND))
    stored = sum((_stored(used, _S3_GB) for used in both), Decimal(0))
    decimal_gb = sum((_stored(used, GB) for used in both), Decimal(0))
    return Offer(
        provider="Amazon S3",
        by_rules=Amounts(
            storage_usd=_cents(_tiered(stored, prices.storage)),
            operations_usd=requests,
            egress_usd=_cents(_tiered(Decimal(egress_bytes) / _S3_GB, prices.egress)),
        ),
        at_list_price=Amounts(
            storage_usd=_cents((decimal_gb * _first_price(prices.storage),)),
            operations_usd=requests,
            egress_usd=_cents((egress_bytes * _first_price(prices.egress) / GB,)),
        ),
        as_of=prices.as_of,
        source=prices.source,
        assumptions=_s3_assumptions(prices),
    )


def _stored(used: ClassUsage, gigabyte: int) -> Decimal:
    return Decimal(used.byte_days) / (MONTH_DAYS * gigabyte)


def _tiered(gigabytes: Decimal, tiers: Iterable[Tier]) -> Iterable[Decimal]:
    below = Decimal(0)
    for tier in tiers:
        above = gigabytes if tier.up_to is None else min(gigabytes, Decimal(tier.up_to))
        yield max(Decimal(0), above - below) * tier.price
        below = above


def _first_price(tiers: Iterable[Tier]) -> Decimal:
    return next((tier.price for tier in tiers if tier.price), Decimal(0))


def _cents(amounts: Iterable[Decimal]) -> Decimal:
    return sum(amounts, Decimal(0)).quantize(_CENT, ROUND_HALF_UP)


def _s3_assumptions(prices: S3Prices) -> tuple[str, ...]:
    free = next((tier.up_to for tier in prices.egress if not tier.price), 0)
    allowance = f" The account's first {free:,} GB of egress a month are free." if free else ""
    return (
        f"Prices as of {prices.as_of.isoformat()}: {prices.source}",
        f"1 GB is 2^30 bytes, and nothing is rounded up to whole units.{allowance}",
        "The list price takes 1 GB as 10^9 bytes, and knows neither free egress nor cheaper tiers.",
        "Every byte is in S3 Standard. Class A operations cost what PUT and LIST do, Class B what"
        " GET does. Taxes, and the free tier of a new account, are left out.",
        "All egress goes from S3 to the internet; a cache in front of it would take some away.",
    )
