"""Whose turn it is: what is under way to each host, and what waits for it."""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from r2maint.http.request import Answer, Failure, Request, RequestOutcome
from r2maint.http.retry import Ease, Pace
from r2maint.http.urls import Site

L = TypeVar("L")

_MOST_HOSTS = 1000
"""Beyond these, hosts are forgotten as soon as nothing is under way to them."""


@dataclass(slots=True)
class QueuedRequest(Generic[L]):
    """One label on its way to an outcome."""

    label: L
    ticket: int
    request: Request | None = None
    place: Site | None = None
    """Where the request goes, once it was looked at."""
    host: _Host[L] | None = None
    """What is under way there, once it was asked for room; None where hosts are not told apart."""
    held_bytes: int = 0
    begun_at: float = 0.0
    attempts: int = 0
    hops: int = 0
    spared: int = 0
    """Attempts that ran out of time while the consumer kept them waiting, or came too fast for a
    host that is asked more slowly since."""
    repeated: int = 0
    """Times that libcurl sent it once more within an attempt."""
    earlier: int = 0
    """Attempts of the request before this one."""
    was_left: bool = False
    outcome: RequestOutcome[L] | None = None

    @property
    def tries(self) -> int:
        """The attempts that count."""
        return self.attempts - self.earlier - self.hops - self.spared


@dataclass(slots=True)
class _Host(Generic[L]):
    """What is under way to one host, and what waits for it."""

    limit: int
    """Requests at once."""
    ease: Ease = field(default_factory=Ease)
    running: int = 0
    waiting: deque[QueuedRequest[L]] = field(default_factory=deque)
    is_expected: bool = False
    """Whether its time to be asked again is noted."""

    @property
    def has_room(self) -> bool:
        return self.running < self.limit and self.ease.next_at <= time.monotonic()

    @property
    def is_idle(self) -> bool:
        """Whether a new one would be asked in the same way."""
        is_busy = self.running or self.waiting or self.is_expected
        return not is_busy and not self.ease.is_slowed


@dataclass(slots=True)
class Turns(Generic[L]):
    """The hosts of one call of `Engine.send_many`, where its pace tells hosts apart."""

    pace: Pace
    _hosts: dict[Site, _Host[L]] = field(default_factory=dict)
    _wakes: list[tuple[float, Site]] = field(default_factory=list)
    """Hosts that must not be asked before a time: a heap."""

    @property
    def next_at(self) -> float | None:
        """When the next host may be asked, of those that something waits for."""
        return self._wakes[0][0] if self._wakes else None

    def has_room(self, job: QueuedRequest[L]) -> bool:
        """Tell whether a job's host may be asked now; a job that it has no room for waits."""
        host = job.host = self._host(job)
        if host is None or host.has_room:
            return True
        if job.attempts:
            host.waiting.appendleft(job)
        else:
            host.waiting.append(job)
        if not (job.hops or job.earlier):
            # Made again when its turn comes: the caller may have lost interest in the host.
            job.request = None
        self._expect(host, job.place)
        return False

    def begin(self, job: QueuedRequest[L]) -> None:
        """Note that a job's request is under way to its host, which had room for it."""
        host = job.host
        if host is not None:
            host.running += 1
            job.begun_at = time.monotonic()
            host.ease.take_place(job.begun_at)
            self._expect(host, job.place)

    def skip(self, job: QueuedRequest[L]) -> None:
        """Let the next job of a host have the turn of one that was given up."""
        if job.place in self._hosts:
            self._expect(self._hosts[job.place], job.place)

    def end(self, job: QueuedRequest[L], ended: Answer | Failure) -> None:
        """Note that a job's request is no longer under way to its host."""
        host = job.host
        if host is None:
            return
        host.running -= 1
        if self.pace.eases_off and isinstance(ended, Answer):
            job.spared += not host.ease.hear(ended, job.begun_at, time.monotonic())
        self._expect(host, job.place)
        if len(self._hosts) > _MOST_HOSTS and host.is_idle and job.place is not None:
            del self._hosts[job.place]

    def due(self, now: float) -> Iterator[QueuedRequest[L]]:
        """Yield a waiting job of each host whose time has come."""
        while self._wakes and self._wakes[0][0] <= now:
            host = self._hosts[heapq.heappop(self._wakes)[1]]
            host.is_expected = False
            if host.waiting:
                yield host.waiting.popleft()

    def _host(self, job: QueuedRequest[L]) -> _Host[L] | None:
        """Return the host of a job; None where the pace does not tell hosts apart."""
        pace = self.pace
        if not (pace.per_host or pace.eases_off):
            return None
        assert job.place is not None
        if job.place not in self._hosts:
            self._hosts[job.place] = _Host(pace.per_host or pace.workers)
        return self._hosts[job.place]

    def _expect(self, host: _Host[L], place: Site | None) -> None:
        """See to it that the next job of a host that is asked slowly has its turn in time."""
        if host.waiting and host.running < host.limit and not host.is_expected:
            assert place is not None
            host.is_expected = True
            heapq.heappush(self._wakes, (host.ease.next_at, place))
