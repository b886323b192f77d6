"""Progress bars on a terminal. The only importer of tqdm."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from r2maint.control import Advance, Progress
from r2maint.rendering import format_bytes


def bars_on(stream: TextIO) -> Progress:
    """Return what draws one bar for each job, by items with rate and time left, and by bytes."""
    from tqdm import tqdm  # not where nobody watches

    @contextmanager
    def bar(total: int | None, label: str, unit: str, size: int = 0, /) -> Iterator[Advance]:
        with tqdm(
            total=total,
            desc=label,
            unit=f" {unit}",
            file=stream,
            leave=False,
            dynamic_ncols=True,
        ) as drawn:
            yield _advance(drawn, size)

    return bar


def _advance(drawn: Any, total: int) -> Advance:
    """Return what moves a bar on; once bytes have moved it shows them and their rate, too."""
    began, moved = time.monotonic(), 0

    def advance(count: int, size: int = 0, /) -> None:
        nonlocal moved
        moved += size
        if moved:
            rate = int(moved / max(time.monotonic() - began, 0.001))
            of = f" of {format_bytes(total)}" if total else ""
            told = f"{format_bytes(moved)}{of}, {format_bytes(rate)}/s"
            drawn.set_postfix_str(told, refresh=False)
        drawn.update(count)

    return advance
