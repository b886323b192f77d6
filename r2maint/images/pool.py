"""Re-encoding many pictures at once, in processes of their own.

Pillow releases the GIL, so threads would be as fast; but decoders read bytes from anywhere, and a
crash, endless work or want of memory inside one must cost one picture, not the run.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread
from typing import Generic, TypeVar

from r2maint.images.encoding_messages import Result
from r2maint.images.process_limits import own_share
from r2maint.images.recipe import Allowance, Recipe
from r2maint.images.reencode_image import reencode
from r2maint.images.worker import Worker, attempt

T = TypeVar("T")
_Task = tuple[bytes, Recipe, "Future[Result]"]


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
    allowance: Allowance | None = None,
    python: str = "",
) -> Generator[Finished[T], None, None]:
    """Yield what became of each picture, in order; at most 2 × `workers` are held at once.

    `python` is the setting PYTHON. Threads alone take the place of processes with
    `processes=False`: then nothing limits what a picture costs. Raises: ConfigError when no Python
    can be started, R2MaintError when the system gives no process.
    """
    allowance = allowance or Allowance()
    pool = _Processes(workers, allowance, python) if processes else _Threads(workers)
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

    def __init__(self, workers: int) -> None:
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="r2maint-encode")

    def submit(self, data: bytes, recipe: Recipe) -> Future[Result]:
        return self._executor.submit(self._attempt, data, recipe)

    def _attempt(self, data: bytes, recipe: Recipe) -> Result:
        return attempt(reencode, data, recipe)

    def close(self) -> None:
        self._executor.shutdown(cancel_futures=True)


class _Processes:
    """Encodes in processes; each thread waits for one of its own.

    A process is known to have died of the picture it was given, so that no other one is lost.
    """

    def __init__(self, workers: int, allowance: Allowance, python: str) -> None:
        share = own_share(allowance, workers)
        self._tasks: SimpleQueue[_Task | None] = SimpleQueue()
        self._workers = [Worker(share, python) for _ in range(workers)]
        # Daemons: an interpreter that ends does not wait for the pictures under way.
        self._threads = [
            Thread(target=self._serve, args=(worker,), name="r2maint-encode", daemon=True)
            for worker in self._workers
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, data: bytes, recipe: Recipe) -> Future[Result]:
        future: Future[Result] = Future()
        self._tasks.put((data, recipe, future))
        return future

    def _serve(self, worker: Worker) -> None:
        while task := self._tasks.get():
            data, recipe, future = task
            try:
                future.set_result(worker.encode(data, recipe))
            except BaseException as error:
                future.set_exception(error)
            del task, data, future

    def close(self) -> None:
        # What is still under way nobody waits for any more.
        for worker in self._workers:
            worker.stop()
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()
        for worker in self._workers:
            worker.close()
