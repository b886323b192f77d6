"""Ctrl-C, SIGTERM and SIGHUP: stop at a safe point first, at once the second time."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from r2maint.control import HANGUP, STOP_SIGNALS, Control


class Interrupts:
    """Handlers for the length of a `with`; the earlier ones are put back.

    Outside the main thread, where Python allows no handlers, and for a signal the process ignores
    (nohup, a background job), nothing is installed.
    """

    def __init__(self, control: Control, announce: Callable[[], None]) -> None:
        self._control = control
        self._announce = announce
        self._previous: dict[signal.Signals, Any] = {}
        self._at_once = False

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in STOP_SIGNALS:
                previous = signal.getsignal(number)
                if previous not in (signal.SIG_IGN, None):
                    self._previous[number] = signal.signal(number, self._heard)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, previous)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Let the first signal end what is inside: a question that waits for a person."""
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    def _heard(self, number: int, frame: FrameType | None) -> None:
        # The kernel and the shell may both tell that the terminal is gone: nobody is impatient.
        again = self._control.signal_code != 0 and number != HANGUP
        self._control.signal_code = self._control.signal_code or 128 + number
        if again or self._at_once:
            raise KeyboardInterrupt
        self._announce()
