"""What a usage report may find without being a finding. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from r2maint.report import format_bytes, format_count, format_usd


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a report may say without being a finding; None for no limit."""

    budget: Decimal | None = None
    """US dollars a month."""
    max_orphans: Decimal | None = None
    """Percent of all bytes."""
    max_missing: int | None = None
    """References."""
    max_bytes: int | None = None
    """Of all objects."""

    def given(self) -> tuple[str, ...]:
        """Return the names of the limits that were set, as their options spell them."""
        named = {
            "budget": self.budget,
            "max-orphans": self.max_orphans,
            "max-missing": self.max_missing,
            "max-stored": self.max_bytes,
        }
        return tuple(name for name, allowed in named.items() if allowed is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossing:
    """A limit that does not hold."""

    limit: str
    """"budget" (US dollars a month), "max-orphans" (percent), "max-missing" (references) or
    "max-stored" (bytes)."""
    value: Decimal | int
    allowed: Decimal | int
    message: str

    def as_dict(self) -> dict[str, Any]:
        return {"limit": self.limit, "value": self.value, "allowed": self.allowed}


def crossings(
    limits: Limits, *, total_usd: Decimal, bytes: int, orphan_bytes: int | None, missing: int
) -> Iterator[Crossing]:
    """Yield each limit that is crossed; one that is just reached holds.

    Orphans of which nobody can tell (None) cross nothing.
    """
    if limits.budget is not None and total_usd > limits.budget:
        yield Crossing(
            limit="budget",
            value=total_usd,
            allowed=limits.budget,
            message=f"The bill of {format_usd(total_usd)} is over --budget"
            f" {format_usd(limits.budget)}.",
        )
    percent = _percent(orphan_bytes, bytes)
    if limits.max_orphans is not None and percent > limits.max_orphans:
        yield Crossing(
            limit="max-orphans",
            value=percent.quantize(Decimal("0.01")),
            allowed=limits.max_orphans,
            message=f"Orphans are {percent:.1f}% of all bytes, over --max-orphans"
            f" {limits.max_orphans}%.",
        )
    if limits.max_missing is not None and missing > limits.max_missing:
        yield Crossing(
            limit="max-missing",
            value=missing,
            allowed=limits.max_missing,
            message=f"{format_count(missing, 'missing reference')} found, over --max-missing"
            f" {limits.max_missing}.",
        )
    if limits.max_bytes is not None and bytes > limits.max_bytes:
        yield Crossing(
            limit="max-stored",
            value=bytes,
            allowed=limits.max_bytes,
            message=f"{format_bytes(bytes)} are stored, over --max-stored"
            f" {format_bytes(limits.max_bytes)}.",
        )


def _percent(part: int | None, whole: int) -> Decimal:
    return Decimal(100) * part / whole if part and whole else Decimal(0)


def verdicts(limits: Limits, crossed: tuple[Crossing, ...]) -> Mapping[str, bool]:
    """Return for each limit that was set whether it is crossed."""
    found = {crossing.limit for crossing in crossed}
    return {limit: limit in found for limit in limits.given()}
