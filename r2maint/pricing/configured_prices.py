"""R2MAINT["PRICES"]: prices of a contract in place of the published ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, TypeVar, overload

from r2maint.errors import ConfigError
from r2maint.pricing.price_lists import CLOUDFLARE, Prices, S3Prices, Tier

V = TypeVar("V")


_OURS = "R2MAINT['PRICES']"
_MOST = 10**12
"""No price and no free quantity is more."""


def load_prices(overrides: Mapping[str, Any]) -> Prices:
    """Return the published prices with those of R2MAINT["PRICES"] in their place.

    {"standard": {"storage": "0.015", "class_a": …}, "infrequent_access": {…, "retrieval": …,
    "minimum_days": 30}, "free": {"storage": 10, …}, "as_of": "2026-10-01", "source": "contract",
    "aws_s3": {"storage": "0.023", "put": …, "get": …, "egress": [[100, 0], [None, "0.09"]], …}}.
    A price list that is changed names R2MAINT["PRICES"] as its source unless told another.
    Raises: ConfigError for an unknown name or a value that is no amount.
    """
    _require_names("", overrides, [each.name for each in fields(Prices)])
    changed: dict[str, Any] = {}
    for name in ("standard", "infrequent_access", "free"):
        if name in overrides:
            changed[name] = _overridden(name, getattr(CLOUDFLARE, name), overrides[name])
    changed |= _origin("", overrides, changed)
    if "aws_s3" in overrides:
        changed["aws_s3"] = _s3(CLOUDFLARE.aws_s3, overrides["aws_s3"])
    return replace(CLOUDFLARE, **changed)


def _overridden(group: str, value: V, given: Any) -> V:
    names = [each.name for each in fields(value)]  # type: ignore[arg-type]
    amounts = {
        name: _amount(f"[{group!r}][{name!r}]", amount, whole=isinstance(getattr(value, name), int))
        for name, amount in _group(group, given, names).items()
    }
    return replace(value, **amounts)  # type: ignore[type-var]


def _s3(published: S3Prices, given: Any) -> S3Prices:
    where = "['aws_s3']"
    group = _group("aws_s3", given, [each.name for each in fields(S3Prices)])
    changed: dict[str, Any] = {}
    for name in ("put", "get"):
        if name in group:
            changed[name] = _amount(f"{where}[{name!r}]", group[name], whole=False)
    for name in ("storage", "egress"):
        if name in group:
            changed[name] = _tiers(f"{where}[{name!r}]", group[name])
    return replace(published, **changed | _origin(where, group, changed))


def _origin(where: str, given: Mapping[str, Any], changed: Mapping[str, Any]) -> dict[str, Any]:
    """Return the date and the source of a price list of which `changed` is one's own."""
    origin: dict[str, Any] = {}
    if "as_of" in given:
        origin["as_of"] = _day(where, given["as_of"])
    if changed or origin:
        origin["source"] = _OURS
    if "source" in given:
        origin["source"] = _text(f"{where}['source']", given["source"])
    return origin


def _group(name: str, given: Any, names: list[str]) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise ConfigError(f"{_OURS}[{name!r}] must be a dict, not {given!r}.")
    _require_names(f"[{name!r}]", given, names)
    return given


def _require_names(where: str, given: Mapping[str, Any], names: list[str]) -> None:
    for name in given:
        if name not in names:
            raise ConfigError(
                f"{_OURS}{where} has no entry {name!r}.", f"Known: {', '.join(names)}."
            )


def _tiers(where: str, given: Any) -> tuple[Tier, ...]:
    """Return [[up to GB, price], …, [None, price]] as tiers; one price holds for any quantity."""
    if not isinstance(given, list | tuple):
        return (Tier(None, _amount(where, given, whole=False)),)
    pairs = [each for each in given if isinstance(each, list | tuple) and len(each) == 2]
    bounds = [bound for bound, _ in pairs[:-1]]
    if len(pairs) != len(given) or not pairs or pairs[-1][0] is not None or None in bounds:
        raise ConfigError(
            f"{_OURS}{where} is no list of tiers: {given!r}.",
            'Write [[up to GB, price], …, [None, price]], such as [[100, 0], [None, "0.09"]].',
        )
    tops = [_amount(where, bound, whole=True) for bound in bounds]
    if any(higher <= lower for lower, higher in zip([0, *tops], tops, strict=False)):
        raise ConfigError(f"{_OURS}{where} has tiers that do not rise: {given!r}.")
    prices = [_amount(where, price, whole=False) for _, price in pairs]
    return tuple(map(Tier, (*tops, None), prices))


@overload
def _amount(where: str, given: Any, *, whole: Literal[True]) -> int: ...


@overload
def _amount(where: str, given: Any, *, whole: Literal[False]) -> Decimal: ...


@overload
def _amount(where: str, given: Any, *, whole: bool) -> Decimal | int: ...


def _amount(where: str, given: Any, *, whole: bool) -> Decimal | int:
    """Return an exact amount: "0.015", or a float as it is written."""
    try:
        amount = Decimal(str(given))
    except InvalidOperation:
        amount = Decimal("NaN")
    if isinstance(given, bool) or not amount.is_finite() or not 0 <= amount <= _MOST:
        raise ConfigError(f"{_OURS}{where} is no amount: {given!r}.")
    if not whole:
        return amount
    if amount != int(amount):
        raise ConfigError(f"{_OURS}{where} is no whole number: {given!r}.")
    return int(amount)


def _day(where: str, given: Any) -> date:
    if isinstance(given, datetime):
        return given.date()
    if isinstance(given, date):
        return given
    try:
        return date.fromisoformat(given)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{_OURS}{where}['as_of'] is no date: {given!r}.", "Write YYYY-MM-DD."
        ) from error


def _text(where: str, given: Any) -> str:
    if not isinstance(given, str) or not given.isprintable():
        raise ConfigError(f"{_OURS}{where} must be one line of text, not {given!r}.")
    return given
