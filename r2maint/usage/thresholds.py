"""What a usage report may find without being a finding. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from operator import attrgetter
from typing import Any, NamedTuple

from r2maint.rendering import format_bytes, format_count, format_usd


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
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
class ThresholdCrossing:
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
    def orphan_percent(self) -> Fraction:
        """Exactly."""
        if not (self.orphan_bytes and self.bytes):
            return Fraction(0)
        return Fraction(100 * self.orphan_bytes, self.bytes)


def crossings(limits: Thresholds, measured: Measured) -> Iterator[ThresholdCrossing]:
    """Yield each limit that is crossed; one that is just reached holds.

    Orphans of which nobody can tell cross nothing.
    """
    for rule in _RULES:
        allowed, exact = rule.allowed(limits), rule.value(measured)
        if allowed is not None and exact > allowed:
            value = rule.rounded(exact)
            yield ThresholdCrossing(
                limit=rule.name,
                unit=rule.unit,
                value=value,
                allowed=allowed,
                message=f"{rule.told(value)}, over --{rule.name} {rule.worded(allowed)}.",
            )


def verdicts(limits: Thresholds, crossed: tuple[ThresholdCrossing, ...]) -> Mapping[str, bool]:
    """Return for each limit that was set whether it is crossed."""
    found = {crossing.limit for crossing in crossed}
    return {limit: limit in found for limit in limits.given()}


class _Rule(NamedTuple):
    name: str
    unit: str
    allowed: Callable[[Thresholds], Any]
    value: Callable[[Measured], Any]
    told: Callable[[Any], str]
    """What is over it, in words."""
    worded: Callable[[Any], str]
    """The limit itself."""
    rounded: Callable[[Any], Any] = lambda exact: exact
    """What is told of a value: not below it, so that it never looks as if the limit held."""


def _percent(exact: Fraction) -> Decimal:
    """Return a share rounded up to two places."""
    return Decimal(math.ceil(exact * 100)).scaleb(-2)


def _size(size: int) -> str:
    """Return a size so that two sizes are never told alike."""
    return f"{format_bytes(size)} ({format_count(size, 'byte')})"


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
        _percent,
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
        lambda size: f"{_size(size)} are stored",
        _size,
    ),
)
