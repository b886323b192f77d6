"""Bars of letters, for terminals."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from decimal import Decimal

from r2maint.rendering.document import Sink

_EIGHTHS = " ▏▎▍▌▋▊▉█"
_ASCII = "#"
_WIDEST, _NARROWEST = 30, 4
_COLUMNS_OF_A_FILE = 100
"""What mails, logs and pipes are read in."""


def room_for_bars(out: Sink, taken: int) -> int:
    """Return how many cells a bar may take beside a table; 0 where there is no room for one."""
    free = (_columns(out) if out.isatty() else _COLUMNS_OF_A_FILE) - taken
    return min(free, _WIDEST) if free >= _NARROWEST else 0


def _columns(out: Sink) -> int:
    return shutil.get_terminal_size((_COLUMNS_OF_A_FILE, 24)).columns


def bars_of(amounts: Iterable[Decimal], width: int, out: Sink) -> list[str]:
    """Return a bar for each amount, the largest of them `width` cells long.

    In eighths of a cell where the encoding has such blocks, otherwise in "#". Whatever is above
    nothing shows.
    """
    amounts = list(amounts)
    largest = max(amounts)
    draw = _blocks if _has_blocks(out) else _signs
    return [draw(amount / largest * width) if amount else "" for amount in amounts]


def _blocks(length: Decimal) -> str:
    eighths = max(1, round(length * 8))
    return _EIGHTHS[8] * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def _signs(length: Decimal) -> str:
    return _ASCII * max(1, round(length))


def _has_blocks(out: Sink) -> bool:
    try:
        _EIGHTHS.encode(getattr(out, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True
