"""What applying a plan asks of the bucket, and what that costs. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from r2maint.pricing import (
    CLOUDFLARE,
    GB,
    INFREQUENT_ACCESS,
    MILLION,
    STANDARD,
    Prices,
    Rates,
    priced_as,
)
from r2maint.rendering import format_count

PAGE = 1000
"""Objects a LIST answers with."""
_FIXED_A = 4
"""PUTs of every run: the lease, the marker twice, the manifest."""
_FIXED_B = 3
"""GETs of every run: the marker, and the lease before it is given back."""
_COPIED_B = 3
"""HEADs of an object that is copied: of the copy, and of both before the deletion."""
_READINGS = 2
"""How often an applied run reads the keep set after its plan."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """Requests to objects of one storage class."""

    class_a: int = 0
    class_b: int = 0
    copied_bytes: int = 0

    def price(self, rates: Rates) -> Decimal:
        """Return the list price, before any free tier and rounding."""
        operations = self.class_a * rates.class_a + self.class_b * rates.class_b
        return operations / MILLION + self.copied_bytes * rates.retrieval / GB


@dataclass(frozen=True, slots=True, kw_only=True)
class PurgeCost:
    """CopyObject, PUT and LIST are Class A, HEAD and GET Class B; deleting is taken as free."""

    by_class: Mapping[str, Requests] = field(default_factory=dict)
    """STANDARD or STANDARD_IA -> requests."""
    prices: Prices = CLOUDFLARE

    @property
    def class_a(self) -> int:
        return sum(one.class_a for one in self.by_class.values())

    @property
    def class_b(self) -> int:
        return sum(one.class_b for one in self.by_class.values())

    @property
    def usd(self) -> Decimal:
        """What they cost, once."""
        rates = {STANDARD: self.prices.standard, INFREQUENT_ACCESS: self.prices.infrequent_access}
        priced = (one.price(rates[name]) for name, one in self.by_class.items())
        return sum(priced, Decimal(0))

    def as_dict(self) -> dict[str, Any]:
        return {
            "class_a": self.class_a,
            "class_b": self.class_b,
            "usd": self.usd,
            "assumptions": list(self._assumptions()),
        }

    def as_sentence(self) -> str:
        return (
            f"It takes about {self.class_a:,} Class A and"
            f" {format_count(self.class_b, 'Class B request')}: {dollars(self.usd)} at list price,"
            " before the free tier and Cloudflare's rounding."
        )

    def _assumptions(self) -> Iterator[str]:
        yield f"Prices as of {self.prices.as_of.isoformat()}: {self.prices.source}"
        yield "List prices, before the free tier and rounding to whole units."
        yield (
            "CopyObject, PUT and LIST are Class A, HEAD and GET Class B. DeleteObjects is taken as"
            " free: Cloudflare's list does not name it."
        )
        yield (
            "The plan that applying begins with is among them, with its LISTs. No request is tried"
            " twice, and the lease is not renewed."
        )


def forecast(
    objects: Mapping[str, int],
    sizes: Mapping[str, int],
    *,
    listed: int,
    read: int,
    hard: bool,
    prices: Prices,
) -> PurgeCost:
    """Return the requests of deleting `objects` of `sizes` bytes, both by storage class.

    `listed` is how many objects the bucket holds, and `read` how many of them are read for
    references each time.
    """
    count = sum(objects.values())
    if not count:
        return PurgeCost(prices=prices)
    by_class = {
        STANDARD: Requests(
            class_a=_FIXED_A - hard + _pages(listed) * (1 + bool(read) * _READINGS),
            class_b=_FIXED_B + read * (1 + _READINGS),
        )
    }
    for name, number in objects.items():
        priced, copied = priced_as(name), 0 if hard else number
        before = by_class.get(priced, Requests())
        by_class[priced] = Requests(
            class_a=before.class_a + copied,
            class_b=before.class_b + (number if hard else _COPIED_B * number),
            copied_bytes=before.copied_bytes + (0 if hard else sizes.get(name, 0)),
        )
    return PurgeCost(by_class=by_class, prices=prices)


def _pages(listed: int) -> int:
    return max(1, -(-listed // PAGE))


def dollars(amount: Decimal) -> str:
    """Return dollars with cents, or with four decimals below a dollar."""
    return f"${amount:,.2f}" if amount >= 1 or not amount else f"${amount:.4f}"
