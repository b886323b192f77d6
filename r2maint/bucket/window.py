"""Many requests at once: a bounded number, lazily, answered in order."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from r2maint.bucket.base import Result
from r2maint.errors import BucketError

R = TypeVar("R")
V = TypeVar("V")


def in_order(
    act: Callable[[R], V], requests: Iterable[R], *, workers: int
) -> Iterator[Result[R, V]]:
    """Yield how `act` ended for each request, in the order of the requests.

    At most `workers` run, and twice as many are taken from `requests` ahead of the consumer. When
    the consumer stops, what runs is finished and what waits is dropped.
    Raises: the BucketError that the next request would meet too, after the results before it.
    """
    waiting: deque[tuple[R, Future[V]]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="r2maint-bucket")
    try:
        for request in requests:
            waiting.append((request, pool.submit(act, request)))
            if len(waiting) >= 2 * workers:
                yield _result(*waiting.popleft())
        while waiting:
            yield _result(*waiting.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _result(request: R, future: Future[V]) -> Result[R, V]:
    try:
        return Result(request=request, value=future.result())
    except BucketError as error:
        if error.ends_run:
            raise
        return Result(request=request, error=error)


class Limiter:
    """Lets `rate` calls of `wait` a second through, from any thread; None lets all through."""

    def __init__(self, rate: float | None) -> None:
        self._interval_seconds = 1 / rate if rate else 0.0
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self, **event: object) -> None:
        """Return when the next request may be sent. Takes the arguments of a botocore event."""
        if not self._interval_seconds:
            return
        with self._lock:
            now = time.monotonic()
            at = max(now, self._next)
            self._next = at + self._interval_seconds
        time.sleep(at - now)
