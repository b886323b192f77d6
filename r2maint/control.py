"""What a long job asks of whoever started it: may it go on, and who watches its progress."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from r2maint.errors import Stopped

T = TypeVar("T")

HANGUP = getattr(signal, "SIGHUP", None)
"""The terminal or the connection is gone; not on every system."""
STOP_SIGNALS = tuple(filter(None, (signal.SIGINT, signal.SIGTERM, HANGUP)))
"""What asks a run to finish its step and end."""


class Advance(Protocol):
    """Told what was done since the last call."""

    def __call__(self, count: int, size: int = 0, /) -> object:
        """Take `count` more items of `size` bytes together."""


class Progress(Protocol):
    """Shows how far a job has come."""

    def __call__(
        self, total: int | None, label: str, unit: str, size: int = 0, /
    ) -> AbstractContextManager[Advance]:
        """Return a context manager that gives `advance`; `size` is the total in bytes, if known."""


def _no_progress(
    total: int | None, label: str, unit: str, size: int = 0, /
) -> AbstractContextManager[Advance]:
    return nullcontext(lambda count, size=0, /: None)


@dataclass(kw_only=True)
class Control:
    """Stop requests, the time limit, the worker count and progress of one run.

    A library caller uses `Control()`; commands pass one that draws bars and hears signals.
    """

    workers: int = 8
    """Requests or encodings at once."""
    rate: float | None = None
    """Requests a second at most; None for no limit."""
    deadline: float | None = None
    """In `time.monotonic()` seconds."""
    progress: Progress = _no_progress
    signal_code: int = field(default=0, init=False)
    """128 + the signal heard, 0 while none was."""

    def stop(self) -> Stopped | None:
        """Return why the run must stop, or None."""
        if self.signal_code:
            return Stopped("signal", self.signal_code)
        if self.deadline is not None and time.monotonic() >= self.deadline:
            return Stopped("max-duration", 6)
        return None

    def check(self) -> None:
        """Raise `Stopped` when the run must stop: for work that is worthless unless complete."""
        if reason := self.stop():
            raise reason

    def track(
        self, items: Iterable[T], label: str, total: int | None = None, unit: str = "object"
    ) -> Iterator[T]:
        """Yield `items`, counting each, and raise `Stopped` between two of them."""
        with self.progress(total, label, unit) as advance:
            for item in items:
                self.check()
                yield item
                advance(1)
