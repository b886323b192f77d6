"""Counts, sizes and money in words."""

from __future__ import annotations

from decimal import Decimal

_BINARY_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_CENT = Decimal("0.01")


def format_bytes(size: int) -> str:
    """Return a size in binary units with one decimal: "0 B", "3.4 MiB", "-1.0 KiB"."""
    sign, size = ("-", -size) if size < 0 else ("", size)
    if size < 1024:
        return f"{sign}{size} B"
    tenths, unit = 0, ""
    for power, unit in enumerate(_BINARY_UNITS, start=1):  # noqa: B007
        # Rounded before the unit is chosen, so that 1,048,575 bytes are 1.0 MiB, not 1024.0 KiB.
        tenths = (size * 10 + 1024**power // 2) // 1024**power
        if tenths < 10240:
            break
    return f"{sign}{tenths // 10:,}.{tenths % 10} {unit}"


def format_count(count: int, noun: str, plural: str = "") -> str:
    """Return a count with its noun, "1,234 files"; `plural` where an "s" is not enough."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def format_money(amount: Decimal) -> str:
    """Return an exact amount with two decimals, or as many as it has: "14.85", "0.00", "0.015"."""
    exact = amount.normalize()
    exponent = exact.as_tuple().exponent
    if not isinstance(exponent, int) or exponent >= -2:
        exact = exact.quantize(_CENT)
    return f"{exact:f}" if exact else "0.00"


def format_usd(amount: Decimal | str) -> str:
    """Return dollars: "$1,234.50", "-$0.015"."""
    exact = Decimal(amount)
    text = format_money(abs(exact))
    whole, _, cents = text.partition(".")
    return f"{'-' if exact < 0 else ''}${int(whole):,}.{cents}"
