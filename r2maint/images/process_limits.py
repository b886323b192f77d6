"""What one process may take of the machine, where the operating system can see to it."""

from __future__ import annotations

import math
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from r2maint.images.recipe import Allowance
from r2maint.machine_resources import machine_memory

if sys.platform == "linux":
    import resource

_SHARE = 0.75
"""Of the machine's memory, for all processes together."""
_LEAST = 512 * 2**20
"""Bytes; a picture of 50 megapixels takes that much when it is written as WebP."""
_STRAIN = 0.5
"""Of what is allowed; what fails after more was taken is thought to have been refused the rest."""


def own_share(allowance: Allowance, processes: int) -> Allowance:
    """Return the allowance with a memory limit for each of so many processes."""
    machine = machine_memory()
    if allowance.memory is not None or machine is None:
        return allowance
    return replace(allowance, memory=max(_LEAST, int(machine * _SHARE) // processes))


class MemoryLimit:
    """Lets this process take so many bytes of address space beside what it has now.

    On Linux alone: macOS does not keep such a limit.
    """

    def __init__(self, beside: int | None) -> None:
        self._strained_at = math.inf
        if beside is not None and sys.platform == "linux":
            now = _status("VmSize")
            self._strained_at = now + beside * _STRAIN
            _, hard = resource.getrlimit(resource.RLIMIT_AS)
            limit = now + beside if hard == resource.RLIM_INFINITY else min(now + beside, hard)
            resource.setrlimit(resource.RLIMIT_AS, (limit, hard))

    def is_strained(self) -> bool:
        """Tell whether ever since much of what is allowed was taken."""
        return self._strained_at < math.inf and _status("VmPeak") >= self._strained_at


def _status(name: str) -> int:
    """Return a value of proc(5)'s status in bytes."""
    found = re.search(rf"^{name}:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Let the operating system end this process when the block takes longer, even inside C."""
    if not hasattr(signal, "setitimer"):
        yield
        return
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
