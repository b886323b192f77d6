"""How fast requests go, and when one is tried again."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from r2maint.http.request import Answer

FIRST_WAIT_SECONDS = 0.1
"""Short, because what waits for its second attempt holds up the answers after it."""
LONGEST_WAIT_SECONDS = 20.0
LONGEST_RETRY_AFTER_SECONDS = 120.0
"""A server that asks for more patience has its answer taken as the last one."""
TOO_MANY = 429
_RECOVERY = 0.98
"""What an answer takes off the time between two requests to a host that is asked more slowly."""
_NEGLIGIBLE_SECONDS = 0.002
_SHORTEST_INTERVAL_SECONDS = 0.005
PAUSE_SECONDS = 0.25
"""After a 429, so that what the host counts runs out before the new speed is judged."""
_LONGEST_INTERVAL_SECONDS = 2.0
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses that may be others in a moment."""


def is_passing(answer: Answer) -> bool:
    """Tell by its status whether an answer may be another one in a moment."""
    return answer.status in PASSING


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How many requests at once, and how often each is tried."""

    workers: int = 8
    """Requests at once."""
    per_host: int = 0
    """Of them, to one host and port; 0 for as many as there are workers."""
    eases_off: bool = False
    """Ask a host that answers 429 half as often from then on, and not before its `Retry-After`."""
    ahead: int = 4
    """Labels taken ahead of the outcome the caller waits for, for each worker."""
    ahead_of_retry: int = 0
    """Labels taken ahead while that outcome waits to be tried again, so that the others go on; 0
    where many answers would be too much to hold."""
    held_bytes: int = 64 * 2**20
    """Of bodies at once in memory, where the caller weighs them; one more may go over it."""
    attempts: int = 8
    connect_seconds: float = 10
    stall_seconds: int = 60
    """An attempt ends when next to nothing moved for so long."""
    is_passing: Callable[[Answer], bool] = is_passing


def wait_seconds(attempt: int, headers: Mapping[str, str]) -> float | None:
    """Return how long to wait after the attempt of this number, or None for not worth it.

    Exponential with full jitter; never less than what `Retry-After` asks for.
    Source: RFC 9110 §10.2.3; "Exponential Backoff And Jitter", AWS Architecture Blog.
    """
    asked = asked_seconds(headers)
    if asked > LONGEST_RETRY_AFTER_SECONDS:
        return None
    longest = min(FIRST_WAIT_SECONDS * 2.0**attempt, LONGEST_WAIT_SECONDS)
    return max(asked, random.random() * longest)


def asked_seconds(headers: Mapping[str, str]) -> float:
    """Return how long an answer asks not to be asked again; 0.0 where it does not say."""
    text = headers.get("retry-after", "")
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except (TypeError, ValueError, OverflowError):
        return 0.0
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.now(tz=UTC)).total_seconds())


@dataclass(slots=True)
class Ease:
    """How fast one host is asked: at its own speed, until it says that this is too fast."""

    interval: float = 0.0
    """Seconds between two requests."""
    next_at: float = 0.0
    """When the next request may be sent; like all times here by `time.monotonic()`."""
    since: float = 0.0
    """Since when `sent` counts; requests that are older say nothing of the present speed."""
    sent: int = 0

    @property
    def is_slowed(self) -> bool:
        """Whether the host is to be spared still."""
        return bool(self.interval) or self.next_at > time.monotonic()

    def take_place(self, now: float) -> None:
        """Note that a request is sent."""
        self.since = self.since or now
        self.sent += 1
        if self.interval:
            self.next_at = max(now, self.next_at) + self.interval

    def hear(self, answer: Answer, begun_at: float, now: float) -> bool:
        """Halve the speed when an answer to a request of that time says 429; else regain some.

        False when the answer is a 429 to what was sent before the speed was halved last.
        """
        if answer.status != TOO_MANY:
            self.interval *= _RECOVERY
            if self.interval < _NEGLIGIBLE_SECONDS:
                self.interval = 0.0
            return True
        asked = asked_seconds(answer.headers)
        if asked <= LONGEST_RETRY_AFTER_SECONDS:
            self.next_at = max(self.next_at, now + asked)
        if begun_at < self.since:
            return False
        self.next_at = max(self.next_at, now + PAUSE_SECONDS)
        mean = (now - self.since) / max(1, self.sent)
        slower = max(2 * self.interval, 2 * mean, _SHORTEST_INTERVAL_SECONDS)
        self.interval = min(slower, _LONGEST_INTERVAL_SECONDS)
        self.since, self.sent = now, 0
        return True


class Limiter:
    """Lets `rate` requests a second through, from any thread; None lets all through."""

    def __init__(self, rate: float | None) -> None:
        self._interval_seconds = 1 / rate if rate else 0.0
        self._next = 0.0
        self._lock = threading.Lock()

    def reserve(self) -> float:
        """Take the next place; return its time in `time.monotonic()` seconds."""
        with self._lock:
            at = max(time.monotonic(), self._next)
            self._next = at + self._interval_seconds
            return at

    def wait(self, **event: object) -> None:
        """Return when the next request may be sent. Takes the arguments of a botocore event."""
        if self._interval_seconds:
            time.sleep(max(0.0, self.reserve() - time.monotonic()))

    @property
    def is_unlimited(self) -> bool:
        return not self._interval_seconds
