"""Children of a process that has imported everything already: Django takes a second each time."""

from __future__ import annotations

import os
import signal
import tempfile
import time
import traceback
from collections.abc import Callable


class Child:
    """A forked process that calls `act` and ends; the parent must hold no connection open."""

    def __init__(self, act: Callable[[], object]) -> None:
        self._answer = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the result)
        self._pid = os.fork()
        if not self._pid:
            self._run(act)

    def _run(self, act: Callable[[], object]) -> None:
        code = 1
        try:
            self._answer.write(str(act()).encode())
            self._answer.flush()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    def result(self) -> str:
        """Wait for the end and return what `act` returned. Raises: SystemExit unless it did."""
        self._require(0, os.waitpid(self._pid, 0)[1])
        with self._answer:
            self._answer.seek(0)
            return self._answer.read().decode()

    def require_killed(self) -> None:
        """Wait for the end. Raises: SystemExit unless it was killed, by itself or another."""
        self._require(-signal.SIGKILL, os.waitpid(self._pid, 0)[1])
        self._answer.close()

    def is_killed_after(self, seconds: float) -> bool:
        """Kill the process so long after now; False when it has ended by itself before."""
        until = time.monotonic() + seconds
        while not self._has_ended() and time.monotonic() < until:
            time.sleep(0.001)
        self.send(signal.SIGKILL)
        _, status = os.waitpid(self._pid, 0)
        self._answer.close()
        is_killed = os.waitstatus_to_exitcode(status) == -signal.SIGKILL
        if not is_killed:
            self._require(0, status)
        return is_killed

    def _has_ended(self) -> bool:
        # Not waited for: its number stays taken, so that no other process is killed.
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self._pid, options) is not None

    def send(self, number: signal.Signals) -> None:
        os.kill(self._pid, number)

    def _require(self, expected: int, status: int) -> None:
        ended = os.waitstatus_to_exitcode(status)
        if ended != expected:
            raise SystemExit(f"A child ended with {ended}.")


def forked(act: Callable[[], object]) -> str:
    """Return what `act` returns in a process of its own."""
    return Child(act).result()
