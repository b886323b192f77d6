"""Re-encoding many pictures at once, in processes of their own.

Pillow releases the GIL, so threads would be as fast; but decoders read bytes from anywhere, and a
crash or an out-of-memory kill inside one must cost one picture, not the run.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import (
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Generic, TypeVar

from r2maint.images.encoding import reencode
from r2maint.images.values import Encoded, ImageError, Recipe, Skip

logger = logging.getLogger(__name__)
T = TypeVar("T")
Result = Encoded | Skip | ImageError
Encode = Callable[[bytes, Recipe], Encoded | Skip]


@dataclass(frozen=True, slots=True)
class Job(Generic[T]):
    """One picture; `label` comes back with its result."""

    label: T
    data: bytes
    recipe: Recipe


@dataclass(frozen=True, slots=True)
class Finished(Generic[T]):
    """How one picture ended; the error's reason is "crashed" when its process died."""

    label: T
    result: Result


def reencode_many(
    jobs: Iterable[Job[T]], *, workers: int, processes: bool = True, encode: Encode = reencode
) -> Generator[Finished[T], None, None]:
    """Yield what became of each picture, in order; at most 2 × `workers` are held at once.

    Threads take the place of processes with `processes=False`, and where children are not allowed
    (in a Celery worker). `encode` must be importable by name.
    """
    pool = _Pool(workers, encode, processes and not multiprocessing.current_process().daemon)
    waiting: deque[tuple[Job[T], Future[Result]]] = deque()
    try:
        for job in jobs:
            waiting.append((job, pool.submit(job.data, job.recipe)))
            if len(waiting) >= 2 * workers:
                yield pool.finish(*waiting.popleft())
        while waiting:
            yield pool.finish(*waiting.popleft())
    finally:
        pool.close()


class _Pool:
    """Executors that outlive the death of a worker."""

    def __init__(self, workers: int, encode: Encode, processes: bool) -> None:
        self._workers = workers
        self._encode = encode
        self._processes = processes
        self._executor = self._start(workers)

    def _start(self, workers: int) -> Executor:
        if not self._processes:
            return ThreadPoolExecutor(workers, thread_name_prefix="r2maint-encode")
        # Spawned, not forked: a fork would carry database connections and held locks along.
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(workers, context, initializer=_begin_worker)

    def submit(self, data: bytes, recipe: Recipe) -> Future[Result]:
        try:
            return self._executor.submit(_attempt, self._encode, data, recipe)
        except BrokenExecutor:
            self._executor = self._start(self._workers)
            return self._executor.submit(_attempt, self._encode, data, recipe)

    def finish(self, job: Job[T], future: Future[Result]) -> Finished[T]:
        try:
            return Finished(job.label, future.result())
        except BrokenExecutor:
            return Finished(job.label, self._retry_alone(job.data, job.recipe))

    def _retry_alone(self, data: bytes, recipe: Recipe) -> Result:
        """One death breaks every picture in the pool; only the guilty one dies alone as well."""
        with self._start(1) as executor:
            try:
                return executor.submit(_attempt, self._encode, data, recipe).result()
            except BrokenExecutor:
                return ImageError("crashed", "it crashed the decoder or encoder")

    def close(self) -> None:
        self._executor.shutdown(cancel_futures=True)


def _attempt(encode: Encode, data: bytes, recipe: Recipe) -> Result:
    try:
        return encode(data, recipe)
    except ImageError as error:
        return error
    except Exception as error:
        # Not foreseen, and no reason to lose the other pictures of the run.
        logger.exception("A picture could not be encoded.")
        return ImageError("encoder_failed", f"its encoder failed ({type(error).__name__})")


def _begin_worker() -> None:
    # Ctrl-C reaches the whole process group; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Leave when the parent was killed: the pool's pipes stay open among its children."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
