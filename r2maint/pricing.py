"""Cloudflare's R2 bill, by its published rules, in exact arithmetic. Pure.

Units are decimal (1 GB = 10^9 bytes). Storage is billed in GB-months: the average of each day's
peak over a 30-day period, here counted in byte-days so that nothing is rounded before the end. The
free tier is for Standard only and is taken off first; what is left is rounded up to the next whole
unit: GB-months, millions of operations, GB retrieved.

Source: https://developers.cloudflare.com/r2/pricing/ (prices as of `CLOUDFLARE.as_of`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

from r2maint.errors import ConfigError

GB = 10**9
MONTH_DAYS = 30
MILLION = 10**6
STANDARD = "STANDARD"
INFREQUENT_ACCESS = "STANDARD_IA"
"""As the S3 API names the storage class Infrequent Access."""

V = TypeVar("V")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What one storage class costs, in US dollars."""

    storage: Decimal
    """A GB-month."""
    class_a: Decimal
    """A million operations that write or list."""
    class_b: Decimal
    """A million operations that read."""
    retrieval: Decimal = Decimal(0)
    """A GB read or copied."""
    minimum_days: int = 0
    """What is removed earlier is billed for as long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FreeTier:
    """What a month of Standard includes."""

    storage: int = 10
    """GB-months."""
    class_a: int = 1_000_000
    class_b: int = 10_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """A price list and the day it was read."""

    standard: Rates
    infrequent_access: Rates
    free: FreeTier
    as_of: date
    source: str


CLOUDFLARE = Prices(
    standard=Rates(storage=Decimal("0.015"), class_a=Decimal("4.50"), class_b=Decimal("0.36")),
    infrequent_access=Rates(
        storage=Decimal("0.01"),
        class_a=Decimal("9.00"),
        class_b=Decimal("0.90"),
        retrieval=Decimal("0.01"),
        minimum_days=30,
    ),
    free=FreeTier(),
    as_of=date(2026, 10, 1),
    source="https://developers.cloudflare.com/r2/pricing/",
)


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


def byte_days(size: int, *, days: int = MONTH_DAYS, rates: Rates = CLOUDFLARE.standard) -> int:
    """Return what `size` bytes kept for `days` count for, at least the minimum duration."""
    return size * max(days, rates.minimum_days)


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


def priced_as(storage_class: str) -> str:
    """Return STANDARD or INFREQUENT_ACCESS: R2 has no other class."""
    return INFREQUENT_ACCESS if storage_class == INFREQUENT_ACCESS else STANDARD


def storage_bill(stored: Mapping[str, int], prices: Prices = CLOUDFLARE) -> Decimal:
    """Return a month's storage price of `stored` bytes by storage class, kept all month."""
    return bill(month_of(stored), prices).storage_usd


def month_of(
    stored: Mapping[str, int],
    *,
    class_a: int = 0,
    class_b: int = 0,
) -> Usage:
    """Return a month in which `stored` bytes by storage class stay as they are.

    Operations are Standard's, unless every byte is in Infrequent Access.
    """
    infrequent = stored.get(INFREQUENT_ACCESS, 0)
    standard = sum(stored.values()) - infrequent
    operations = {"class_a": class_a, "class_b": class_b}
    only_infrequent = bool(infrequent) and not standard
    return Usage(
        standard=ClassUsage(
            byte_days=standard * MONTH_DAYS, **({} if only_infrequent else operations)
        ),
        infrequent_access=ClassUsage(
            byte_days=infrequent * MONTH_DAYS, **(operations if only_infrequent else {})
        ),
    )


def storage_saving(
    removed: Mapping[str, int], *, stored: Mapping[str, int], prices: Prices = CLOUDFLARE
) -> Decimal:
    """Return by how much a month's bill falls when `removed` of `stored` bytes go, by class.

    The difference of two exact bills, so 0 within the free tier or within one rounded GB; negative
    when `removed` is (a conversion that grew).
    """
    left = {name: max(0, size - removed.get(name, 0)) for name, size in stored.items()}
    return storage_bill(stored, prices) - storage_bill(left, prices)


# R2MAINT["PRICES"]


def load_prices(overrides: Mapping[str, Any]) -> Prices:
    """Return Cloudflare's prices with those of R2MAINT["PRICES"] in their place.

    {"standard": {"storage": "0.015", "class_a": …}, "infrequent_access": {…, "retrieval": …,
    "minimum_days": 30}, "free": {"storage": 10, …}, "as_of": "2026-10-01", "source": "contract"}.
    Raises: ConfigError for an unknown name or a value that is no amount.
    """
    _require_names("", overrides, [each.name for each in fields(Prices)])
    changed: dict[str, Any] = {}
    for name in ("standard", "infrequent_access", "free"):
        if name in overrides:
            changed[name] = _overridden(name, getattr(CLOUDFLARE, name), overrides[name])
    if "as_of" in overrides:
        changed["as_of"] = _day(overrides["as_of"])
    if changed:
        changed["source"] = "R2MAINT['PRICES']"
    return replace(CLOUDFLARE, **changed | {k: overrides[k] for k in ("source",) if k in overrides})


def _overridden(group: str, value: V, given: Any) -> V:
    if not isinstance(given, Mapping):
        raise ConfigError(f"R2MAINT['PRICES'][{group!r}] must be a dict, not {given!r}.")
    names = [each.name for each in fields(value)]  # type: ignore[arg-type]
    _require_names(f"[{group!r}]", given, names)
    amounts = {
        name: _amount(f"[{group!r}][{name!r}]", amount, whole=isinstance(getattr(value, name), int))
        for name, amount in given.items()
    }
    return replace(value, **amounts)  # type: ignore[type-var]


def _require_names(where: str, given: Mapping[str, Any], names: list[str]) -> None:
    for name in given:
        if name not in names:
            raise ConfigError(
                f"R2MAINT['PRICES']{where} has no entry {name!r}.", f"Known: {', '.join(names)}."
            )


def _amount(where: str, given: Any, *, whole: bool) -> Decimal | int:
    """Return an exact amount: "0.015", or a float as it is written."""
    try:
        amount = Decimal(str(given))
    except InvalidOperation:
        amount = Decimal("NaN")
    if isinstance(given, bool) or not amount.is_finite() or amount < 0:
        raise ConfigError(f"R2MAINT['PRICES']{where} is no amount: {given!r}.")
    if not whole:
        return amount
    if amount != int(amount):
        raise ConfigError(f"R2MAINT['PRICES']{where} is no whole number: {given!r}.")
    return int(amount)


def _day(given: Any) -> date:
    if isinstance(given, date):
        return given
    try:
        return date.fromisoformat(given)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"R2MAINT['PRICES']['as_of'] is no date: {given!r}.", "Write YYYY-MM-DD."
        ) from error
