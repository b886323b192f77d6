"""Many requests at once: a bounded number, lazily, answered in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import TypeVar

from r2maint.bucket.protocol import Result
from r2maint.errors import BucketError

R = TypeVar("R")
V = TypeVar("V")


def in_order(
    act: Callable[[R], V], requests: Iterable[R], *, workers: int
) -> Iterator[Result[R, V]]:
    """Yield how `act` ended for each request, in the order of the requests.

    Raises: the BucketError that the next request would meet too, after the results before it.
    """
    with closing(run_ahead(act, requests, workers=workers)) as ahead:
        yield from raised(_result(request, future) for request, future in ahead)


def _result(request: R, future: Future[V]) -> Result[R, V]:
    try:
        return Result(request=request, value=future.result())
    except BucketError as error:
        return Result(request=request, error=error)


def raised(results: Iterable[Result[R, V]]) -> Iterator[Result[R, V]]:
    """Yield the results up to a BucketError that the next request would meet too, and raise it."""
    for result in results:
        if result.error is not None and result.error.ends_run:
            raise result.error
        yield result


def run_ahead(
    act: Callable[[R], V], requests: Iterable[R], *, workers: int
) -> Generator[tuple[R, Future[V]], None, None]:
    """Yield each request and its future, in order; the future may still be running.

    At most `workers` run, and twice as many are taken from `requests` ahead of the consumer. When
    the consumer stops, what runs is finished and what waits is dropped.
    """
    waiting: deque[tuple[R, Future[V]]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="r2maint-bucket")
    try:
        for request in requests:
            waiting.append((request, pool.submit(act, request)))
            if len(waiting) >= 2 * workers:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        pool.shutdown(cancel_futures=True)
