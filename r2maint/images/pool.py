"""Re-encoding many pictures at once, in processes of their own.

Pillow releases the GIL, so threads would be as fast; but decoders read bytes from anywhere, and a
crash, endless work or want of memory inside one must cost one picture, not the run.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Generic, TypeVar

from r2maint.images.process_limits import own_share
from r2maint.images.recipe import Allowance, Recipe
from r2maint.images.reencode_image import reencode
from r2maint.images.worker import Encode, Result, Worker, attempt

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Job(Generic[T]):
    """One picture; `label` comes back with its result."""

    label: T
    data: bytes
    recipe: Recipe


@dataclass(frozen=True, slots=True)
class Finished(Generic[T]):
    """How one picture ended.

    The error's reason is "out_of_memory", "too_slow" or "crashed" when its process died of it.
    """

    label: T
    result: Result


def reencode_many(
    jobs: Iterable[Job[T]],
    *,
    workers: int,
    processes: bool = True,
    encode: Encode = reencode,
    allowance: Allowance | None = None,
) -> Generator[Finished[T], None, None]:
    """Yield what became of each picture, in order; at most 2 × `workers` are held at once.

    Threads alone take the place of processes with `processes=False`, and where children are not
    allowed (in a Celery worker): then nothing limits what a picture costs. `encode` must be
    importable by name.
    """
    inside = not processes or multiprocessing.current_process().daemon
    allowance = allowance or Allowance()
    pool = _Threads(workers, encode) if inside else _Processes(workers, encode, allowance)
    waiting: deque[tuple[Job[T], Future[Result]]] = deque()
    try:
        for job in jobs:
            waiting.append((job, pool.submit(job.data, job.recipe)))
            if len(waiting) >= 2 * workers:
                yield _finished(*waiting.popleft())
        while waiting:
            yield _finished(*waiting.popleft())
    finally:
        pool.close()


def _finished(job: Job[T], future: Future[Result]) -> Finished[T]:
    return Finished(job.label, future.result())


class _Threads:
    """Encodes in threads of this process."""

    def __init__(self, workers: int, encode: Encode) -> None:
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="r2maint-encode")
        self._encode = encode

    def submit(self, data: bytes, recipe: Recipe) -> Future[Result]:
        return self._executor.submit(self._attempt, data, recipe)

    def _attempt(self, data: bytes, recipe: Recipe) -> Result:
        return attempt(self._encode, data, recipe)

    def close(self) -> None:
        self._executor.shutdown(cancel_futures=True)


class _Processes(_Threads):
    """Encodes in processes; each thread waits for one at a time.

    A process is known to have died of the picture it was given, so that no other one is lost.
    """

    def __init__(self, workers: int, encode: Encode, allowance: Allowance) -> None:
        super().__init__(workers, encode)
        self._workers = [Worker(encode, own_share(allowance, workers)) for _ in range(workers)]
        self._idle: SimpleQueue[Worker] = SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)

    def _attempt(self, data: bytes, recipe: Recipe) -> Result:
        worker = self._idle.get()
        try:
            return worker.encode(data, recipe)
        finally:
            self._idle.put(worker)

    def close(self) -> None:
        # What is still under way nobody waits for any more.
        self._executor.shutdown(wait=False, cancel_futures=True)
        for worker in self._workers:
            worker.stop()
        super().close()
        for worker in self._workers:
            worker.close()
