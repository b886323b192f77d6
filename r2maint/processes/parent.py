"""The parent, as a helper process sees it: imported by helpers alone."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

from r2maint.control import STOP_SIGNALS
from r2maint.processes.frames import Frame, receive_frame, send_frame
from r2maint.processes.helper import NO_MEMORY, PYTHON_TAG

_PR_SET_PDEATHSIG = 1
_ANY_SIZE = 2**40


class Parent:
    """The connection to the parent; when it is gone, so is this process, whatever it is doing."""

    def __init__(self) -> None:
        """Take up the connection. Call it once, when everything that is needed is imported."""
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        self._connection = socket.socket(fileno=os.dup(0))
        _die_with_parent()
        self.send({"python": PYTHON_TAG})
        self._frames: SimpleQueue[Frame] = SimpleQueue()
        self.get: Callable[[], Frame] = self._frames.get
        self.get_nowait: Callable[[], Frame] = self._frames.get_nowait
        threading.Thread(target=self._receive, daemon=True).start()

    def send(self, told: Mapping[str, Any], body: bytes = b"") -> None:
        try:
            send_frame(self._connection, told, body)
        except OSError:
            os._exit(0)

    def _receive(self) -> None:
        """Take in at once what the parent sends, so that it never waits."""
        try:
            while True:
                # The parent is trusted: its frames may have any size.
                self._frames.put(
                    receive_frame(self._connection, most_told=_ANY_SIZE, most_body=_ANY_SIZE)
                )
        except MemoryError:
            os._exit(NO_MEMORY)
        except (EOFError, OSError):
            os._exit(0)


def _die_with_parent() -> None:
    """Have the kernel end this process with the parent, where it can.

    The end of the connection says so everywhere; but a fork of the parent may hold it open, and
    native code that keeps the interpreter's lock keeps `_receive` from hearing of it.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        # It may have been gone before.
        if os.getppid() != int(sys.argv[1]):
            os._exit(0)
