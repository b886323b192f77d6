"""CPU cores and memory available to this process, and how often it collects garbage."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def usable_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def machine_memory() -> int | None:
    """Return the bytes of memory of this machine or container; None where that is not told."""
    try:
        found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    except (AttributeError, OSError, ValueError):
        return None
    for path in _CGROUP_LIMITS:
        # Absent, or the word "max".
        with suppress(OSError, ValueError):
            found.append(int(Path(path).read_text()))
    return min(found)


@contextmanager
def collecting_rarely() -> Iterator[None]:
    """Raise the threshold of the garbage collector: plans allocate millions of acyclic objects.

    It saves a twentieth of a migration's time. Reference counting frees all but cycles at once.
    """
    before = gc.get_threshold()
    gc.set_threshold(max(before[0], 35_000), *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
