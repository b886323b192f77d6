"""One value of an item as the text of a table cell, for people (text) and for sheets (csv)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Any

from r2maint.rendering.as_json import encode
from r2maint.rendering.document import ReportColumn, Row, Unit
from r2maint.rendering.units import format_bytes, format_money, format_usd

# Control characters move a terminal's cursor or colour it, bidirectional overrides make one key
# look like another, lone surrogates cannot be encoded, and no XML may hold U+FFFE and U+FFFF.
_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)


def value_at(item: Row, name: str) -> Any:
    """Return the value under a dotted name, None where any part of the way is absent."""
    value: Any = item
    for part in name.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(part)
    return value


def plain(value: Any) -> str:
    """Return a value exact and unadorned: integers as digits, times in UTC, references in short."""
    if isinstance(value, Enum):
        value = value.value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Decimal):
        return format_money(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, Mapping):
        return _reference(value) if {"model", "pk", "field"} <= value.keys() else encode(value)
    if isinstance(value, Iterable) and not isinstance(value, str):
        return "; ".join(plain(each) for each in value)
    return str(value)


def readable(value: Any, column: ReportColumn) -> str:
    """Return a value for a reader: sizes in KiB, thousands set apart, nothing unprintable."""
    if value is None:
        return "–"
    if column.unit is Unit.BYTES and isinstance(value, int):
        return format_bytes(value)
    if column.unit is Unit.USD:
        return _dollars(value)
    if column.unit is Unit.RATIO and isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return printable(plain(value))


def printable(text: str) -> str:
    """Return text with what a terminal must not receive written as escapes."""
    return _UNPRINTABLE.sub(lambda match: ascii(match.group())[1:-1], text)


def _reference(value: Mapping[str, Any]) -> str:
    return f"{value['model']} {value['pk']} {value['field']}{value.get('path') or ''}"


def _dollars(value: Any) -> str:
    try:
        return format_usd(Decimal(value))
    except (InvalidOperation, TypeError):
        return printable(plain(value))
