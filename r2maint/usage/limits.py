"""What a usage report may find without being a finding. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import ROUND_UP, Decimal
from operator import attrgetter
from typing import Any, NamedTuple

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
        return tuple(rule.name for rule in _RULES if rule.allowed(self) is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossing:
    """A limit that does not hold."""

    limit: str
    """As its option spells it: "budget", "max-orphans", "max-missing" or "max-stored"."""
    unit: str
    """Of `value` and `allowed`: "USD" (a month), "percent" (of all bytes), "references" or
    "bytes"."""
    value: Decimal | int
    allowed: Decimal | int
    message: str

    def as_dict(self) -> dict[str, Any]:
        return {
            "limit": self.limit,
            "value": self.value,
            "allowed": self.allowed,
            "unit": self.unit,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What limits are about."""

    total_usd: Decimal
    bytes: int
    orphan_bytes: int | None
    """None where nobody can tell."""
    missing: int

    @property
    def orphan_percent(self) -> Decimal:
        """Rounded up to two places, so that what is over a limit never looks as if it were not."""
        if not (self.orphan_bytes and self.bytes):
            return Decimal(0)
        exact = Decimal(100) * self.orphan_bytes / self.bytes
        return exact.quantize(Decimal("0.01"), ROUND_UP)


def crossings(limits: Limits, measured: Measured) -> Iterator[Crossing]:
    """Yield each limit that is crossed; one that is just reached holds.

    Orphans of which nobody can tell cross nothing.
    """
    for rule in _RULES:
        allowed, value = rule.allowed(limits), rule.value(measured)
        if allowed is not None and value > allowed:
            yield Crossing(
                limit=rule.name,
                unit=rule.unit,
                value=value,
                allowed=allowed,
                message=f"{rule.told(value)}, over --{rule.name} {rule.worded(allowed)}.",
            )


def verdicts(limits: Limits, crossed: tuple[Crossing, ...]) -> Mapping[str, bool]:
    """Return for each limit that was set whether it is crossed."""
    found = {crossing.limit for crossing in crossed}
    return {limit: limit in found for limit in limits.given()}


class _Rule(NamedTuple):
    name: str
    unit: str
    allowed: Callable[[Limits], Any]
    value: Callable[[Measured], Any]
    told: Callable[[Any], str]
    """What is over it, in words."""
    worded: Callable[[Any], str]
    """The limit itself, as it is given."""


_RULES = (
    _Rule(
        "budget",
        "USD",
        attrgetter("budget"),
        attrgetter("total_usd"),
        lambda usd: f"The bill is {format_usd(usd)}",
        format_usd,
    ),
    _Rule(
        "max-orphans",
        "percent",
        attrgetter("max_orphans"),
        attrgetter("orphan_percent"),
        lambda percent: f"Orphans are {percent:f}% of all bytes",
        "{:f}%".format,
    ),
    _Rule(
        "max-missing",
        "references",
        attrgetter("max_missing"),
        attrgetter("missing"),
        lambda count: f"{format_count(count, 'missing reference')} found",
        str,
    ),
    _Rule(
        "max-stored",
        "bytes",
        attrgetter("max_bytes"),
        attrgetter("bytes"),
        lambda size: f"{format_bytes(size)} are stored",
        format_bytes,
    ),
)
