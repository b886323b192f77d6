"""Many HTTP requests at once on one thread, each tried until it has an outcome.

Connections are kept between calls, names are resolved once a minute, HTTP/2 is spoken where the
server offers it over TLS. Redirects are followed here and not by libcurl, so that every hop passes
the guard.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar, cast

import pycurl

from r2maint.errors import R2MaintError
from r2maint.http.easy_handle import Manner, flaw
from r2maint.http.host_queue import QueuedRequest, Turns
from r2maint.http.multi_handle import Lines
from r2maint.http.request import Answer, Credentials, Failure, Reason, Request, RequestOutcome
from r2maint.http.retry import Limiter, Pace, wait_seconds
from r2maint.http.ssrf_guard import NOT_HTTP, Guard
from r2maint.http.urls import place_of, plain_place, redirected

L = TypeVar("L")

_NO_MORE = object()

_LOOK_SECONDS = 1.0
_SHORT_SECONDS = 0.02
"""How soon labels are asked for again where there was none for now."""
_AWAY_SECONDS = 0.1
"""A consumer that stays away longer may have cost what is under way its time."""
_BRIEF_SECONDS = 0.001
"""Outcomes that are there already are yielded one after the other, unless the consumer needs longer
than this: the network would wait for it."""
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class Engine:
    """Sends requests; may be used from several threads, each of which has its own connections."""

    def __init__(
        self,
        pace: Pace | None = None,
        *,
        limiter: Limiter | None = None,
        guard: Guard | None = None,
        credentials: Credentials | None = None,
        ca_bundle: str = "",
    ) -> None:
        """With a guard, only what it admits is connected to, and no proxy is used.

        With credentials every request is signed. `ca_bundle` is a file of trusted certificates;
        "" for the bundle requests uses.
        """
        self.pace = pace or Pace()
        self.limiter = limiter or Limiter(None)
        self.guard = guard
        self._manner = Manner(
            pace=self.pace, guard=guard, credentials=credentials, ca_bundle=ca_bundle
        )
        self.is_signing = credentials is not None
        self._idle: list[Lines] = []
        self._lock = threading.Lock()

    def send(self, request: Request) -> RequestOutcome[Request]:
        """Send one request and wait for its outcome."""
        (outcome,) = self.send_many([request], lambda same: same)
        return outcome

    def send_many(
        self,
        labels: Iterable[L | None],
        make: Callable[[L], Request | None],
        *,
        then: Callable[[L, Answer], Request | None] | None = None,
        weigh: Callable[[L], int] | None = None,
        heed: Callable[[], object] | None = None,
    ) -> Generator[RequestOutcome[L], None, None]:
        """Yield how the request of each label ended, in the order of the labels.

        `make` is called when a request is about to be sent, and again when its host had no room
        for it or when one with a body in memory is tried again; an R2MaintError it raises is that
        label's outcome, and None makes one that is empty. `then` sees the answer that would be the
        outcome, and may give one more request, whose outcome takes its place. Lazy: labels are
        taken a few ahead of the consumer, while their bodies, of as many bytes as `weigh` says, are
        no more than the pace lets be held; and nothing moves while the consumer is busy, nor while
        `labels` is waited for: with None it says that there is none for now. `heed` is
        called about once a second while the network is waited for: what it raises ends all.
        """
        lines, turns = self._take(), Turns[L](self.pace)
        sending = _Sending(self, lines, turns, make, then, weigh, heed)
        try:
            yield from sending.outcomes(labels)
        finally:
            lines.drop_all()
            with self._lock:
                self._idle.append(lines)

    def close(self) -> None:
        """Close every idle connection."""
        with self._lock:
            idle, self._idle = self._idle, []
        for lines in idle:
            lines.close()

    def _take(self) -> Lines:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return Lines(self._manner)


@dataclass(slots=True)
class _Sending(Generic[L]):
    """One call of `send_many`."""

    engine: Engine
    lines: Lines
    turns: Turns[L]
    make: Callable[[L], Request | None]
    then: Callable[[L, Answer], Request | None] | None
    weigh: Callable[[L], int] | None
    heed: Callable[[], object] | None
    window: deque[QueuedRequest[L]] = field(default_factory=deque)
    """Every job whose outcome was not yielded yet, in order."""
    ready: deque[QueuedRequest[L]] = field(default_factory=deque)
    later: list[tuple[float, int, QueuedRequest[L]]] = field(default_factory=list)
    """Those that wait to be tried again: a heap by time."""
    running: dict[int, QueuedRequest[L]] = field(default_factory=dict)
    held_bytes: int = 0
    next_at: float = 0.0
    """When the limiter lets the next request through."""
    has_place: bool = False
    is_held: bool = False
    """Whether a request that is ready waits for that time."""
    is_short: bool = False
    """Whether there was no label for now."""
    taken: int = 0

    def outcomes(self, labels: Iterable[L | None]) -> Iterator[RequestOutcome[L]]:
        left = iter(labels)
        pace = self.engine.pace
        ahead = max(pace.ahead, 1) * max(pace.workers, 1)
        patient = pace.ahead_of_retry
        while True:
            most = max(ahead, patient if self.later and self._is_first_waiting() else 0)
            self._take(left, most)
            self._start_what_may()
            if not (self.window or self.is_short):
                return
            if self.heed is not None:
                self.heed()
            is_due = self.window and self.window[0].outcome
            self._move(0 if is_due else self._patience())
            yield from self._settled()

    def _take(self, labels: Iterator[L | None], most: int) -> None:
        """Let the window be as long as it may, and its bodies as large."""
        self.is_short = False
        limit = self.engine.pace.held_bytes
        while len(self.window) < most and self.held_bytes < limit:
            label = next(labels, _NO_MORE)
            if label is None or label is _NO_MORE:
                self.is_short = label is None
                return
            job = QueuedRequest(cast(L, label), self.taken)
            self.taken += 1
            if self.weigh is not None:
                job.held_bytes = self.weigh(job.label)
                self.held_bytes += job.held_bytes
            self.window.append(job)
            self.ready.append(job)

    def _settled(self) -> Iterator[RequestOutcome[L]]:
        """Yield the outcomes that are due and there."""
        away = 0.0
        while self.window and away < _BRIEF_SECONDS:
            job = self.window[0]
            if job.outcome is None:
                return
            self.window.popleft()
            self.held_bytes -= job.held_bytes
            left_at = time.monotonic()
            yield job.outcome
            away = time.monotonic() - left_at
            self._count_absence(away)

    def _is_first_waiting(self) -> bool:
        """Tell whether the outcome that is due hangs on a request that is to be tried again."""
        first = self.window[0]
        return first.outcome is None and first.attempts > 0 and first.ticket not in self.running

    def _count_absence(self, seconds: float) -> None:
        if seconds > _AWAY_SECONDS:
            for job in self.running.values():
                job.was_left = True

    def _start_what_may(self) -> None:
        self._recall()
        self.is_held = False
        while self.ready and self.lines.has_room:
            if not self._may_send():
                self.is_held = True
                return
            self._start(self.ready.popleft())

    def _start(self, job: QueuedRequest[L]) -> None:
        """Start a job, settle it, or let it wait for its host."""
        if job.request is None and not self._make(job):
            self.turns.skip(job)
            return
        if job.place is None and not self._find_place(job):
            return
        if self.turns.has_room(job) and self._begin(job):
            self.has_place = job.was_left = False
            self.running[job.ticket] = job
            job.attempts += 1
            self.turns.begin(job)

    def _find_place(self, job: QueuedRequest[L]) -> bool:
        """Note where the request goes; settle the job if it must not be sent."""
        assert job.request is not None
        url, guard = job.request.url, self.engine.guard
        job.place = plain_place(url)
        if job.place is None:
            job.place = place_of(url)
            objection = guard.objection(url) if guard else ""
            if job.place is None or objection:
                self._settle(job, Failure(reason=Reason.BAD_URL, detail=objection or NOT_HTTP))
                return False
        failure = flaw(job.request, signed=self.engine.is_signing)
        if failure is not None:
            self._settle(job, failure)
        return failure is None

    def _begin(self, job: QueuedRequest[L]) -> bool:
        """Hand the request to libcurl; settle the job if that is not possible."""
        assert job.request is not None
        try:
            self.lines.start(job.request, job.ticket)
        except OSError as error:
            self._settle(job, Failure(reason=Reason.UNREADABLE, detail=error.strerror or ""))
            return False
        except pycurl.error:
            self._settle(job, Failure(reason=Reason.BAD_URL, detail="it is too long"))
            return False
        return True

    def _make(self, job: QueuedRequest[L]) -> bool:
        try:
            job.request = self.make(job.label)
        except R2MaintError as error:
            job.outcome = RequestOutcome(label=job.label, error=error)
            return False
        if job.request is None:
            job.outcome = RequestOutcome(label=job.label)
        return job.request is not None

    def _may_send(self) -> bool:
        """Tell whether the rate allows one more request now."""
        if self.engine.limiter.is_unlimited:
            return True
        if not self.has_place:
            self.next_at, self.has_place = self.engine.limiter.reserve(), True
        return time.monotonic() >= self.next_at

    def _recall(self) -> None:
        now = time.monotonic()
        while self.later and self.later[0][0] <= now:
            self.ready.appendleft(heapq.heappop(self.later)[2])
        for job in self.turns.due(now):
            self.ready.appendleft(job)

    def _move(self, seconds: float) -> None:
        self.lines.move(seconds)
        for ticket, ended, sendings in self.lines.ended():
            job = self.running.pop(ticket)
            job.repeated += max(0, sendings - 1)
            self.turns.end(job, ended)
            self._judge(job, ended)

    def _patience(self) -> float:
        """Return how long nothing but the network can bring anything on."""
        times = [at for at, _, _ in self.later[:1]]
        if self.turns.next_at is not None:
            times.append(self.turns.next_at)
        if self.is_held:
            times.append(self.next_at)
        longest = _SHORT_SECONDS if self.is_short else _LOOK_SECONDS
        soonest = min(times, default=time.monotonic() + longest)
        return min(longest, max(0.0, soonest - time.monotonic()))

    def _judge(self, job: QueuedRequest[L], ended: Answer | Failure) -> None:
        """Follow a redirect, try again, or take what came as the outcome."""
        assert job.request is not None
        if isinstance(ended, Answer) and ended.status in _REDIRECTS and job.request.redirects:
            self._follow(job, ended)
            return
        wait = self._wait_for_another(job, ended)
        if wait is None:
            self._conclude(job, ended)
        else:
            if isinstance(job.request.body, bytes) and not job.hops:
                # Made again when its turn comes: a thousand may wait, each as large as it likes.
                job.request = None
            heapq.heappush(self.later, (time.monotonic() + wait, job.ticket, job))

    def _conclude(self, job: QueuedRequest[L], ended: Answer | Failure) -> None:
        """Take what came as the outcome, unless the caller has one more request."""
        may_ask = self.then is not None and not job.earlier and isinstance(ended, Answer)
        further = self.then(job.label, ended) if may_ask else None  # type: ignore[misc, arg-type]
        if further is None:
            self._settle(job, ended)
            return
        job.request, job.place = further, None
        job.earlier, job.hops, job.spared = job.attempts, 0, 0
        self.ready.appendleft(job)

    def _follow(self, job: QueuedRequest[L], answer: Answer) -> None:
        assert job.request is not None
        job.hops += 1
        target = answer.headers.get("location", "")
        if not target:
            self._settle(job, answer)
        elif job.hops > job.request.redirects:
            detail = f"more than {job.request.redirects} redirects"
            self._settle(job, Failure(reason=Reason.REDIRECTS, detail=detail))
        else:
            url = redirected(job.request.url, target)
            job.request, job.place = job.request._replace(url=url), None
            self.ready.appendleft(job)

    def _wait_for_another(self, job: QueuedRequest[L], ended: Answer | Failure) -> float | None:
        """Return how long to wait before the next attempt; None when there is none."""
        pace = self.engine.pace
        if isinstance(ended, Answer):
            may_pass = pace.is_passing(ended)
            headers = ended.headers
        else:
            job.spared += ended.reason is Reason.TOO_SLOW and job.was_left
            may_pass = ended.reason in _PASSING
            headers = {}
        return wait_seconds(job.tries, headers) if may_pass and job.tries < pace.attempts else None

    def _settle(self, job: QueuedRequest[L], ended: Answer | Failure) -> None:
        is_answer = isinstance(ended, Answer)
        job.outcome = RequestOutcome(
            label=job.label,
            answer=ended if is_answer else None,  # type: ignore[arg-type]
            failure=None if is_answer else ended,  # type: ignore[arg-type]
            note=job.request.note if job.request else None,
            attempts=job.attempts + job.repeated,
        )
        job.request = None


_PASSING = frozenset({Reason.NO_ANSWER, Reason.NO_HOST, Reason.TOO_SLOW})
