"""What a migration will ask of the bucket, and what that costs. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from r2maint.pricing import CLOUDFLARE, GB, MILLION, Prices
from r2maint.rendering import format_count


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationCost:
    """Requests and bytes, at list price: what they cost once the month's free tier is used up."""

    class_a: int = 0
    """Operations that write or list."""
    class_b: int = 0
    """Operations that read."""
    stored_bytes: int = 0
    unknown: int = 0
    """Sources whose bytes are known only once they are fetched or re-encoded."""
    prices: Prices = CLOUDFLARE

    @property
    def usd(self) -> Decimal:
        """What the requests cost, once."""
        rates = self.prices.standard
        return (self.class_a * rates.class_a + self.class_b * rates.class_b) / MILLION

    @property
    def storage_usd_per_month(self) -> Decimal:
        return self.stored_bytes * self.prices.standard.storage / GB

    def as_dict(self) -> dict[str, Any]:
        return {
            "class_a": self.class_a,
            "class_b": self.class_b,
            "usd": self.usd,
            "storage_usd_per_month": self.storage_usd_per_month,
            "assumptions": list(self._assumptions()),
        }

    def as_sentence(self) -> str:
        requests = f"{self.class_a:,} Class A and {format_count(self.class_b, 'Class B request')}"
        return (
            f"It takes about {requests}: {_dollars(self.usd)}; storage is"
            f" {_dollars(self.storage_usd_per_month)} a month. List prices, before the free tier"
            " and Cloudflare's rounding."
        )

    def _assumptions(self) -> Iterator[str]:
        yield f"Prices as of {self.prices.as_of.isoformat()}: {self.prices.source}"
        yield "List prices of Standard storage, before the free tier and rounding to whole units."
        yield "No request is tried twice, and every row is free: databases are not billed here."
        if self.unknown:
            yield (
                f"{format_count(self.unknown, 'source')} counted as one upload each; their bytes"
                " are known only once they are fetched or re-encoded."
            )


def _dollars(amount: Decimal) -> str:
    return f"${amount:.2f}" if amount >= 1 or not amount else f"${amount:.4f}"
