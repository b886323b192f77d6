"""One process that encodes one picture after another, within limits, and may die of any."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import cast

from r2maint.control import STOP_SIGNALS
from r2maint.images.process_limits import MemoryLimit, time_limit
from r2maint.images.recipe import Allowance, Encoded, ImageError, Recipe, Skip

logger = logging.getLogger(__name__)
Result = Encoded | Skip | ImageError
Encode = Callable[[bytes, Recipe], Encoded | Skip]

_NO_MEMORY = 77
"""Exit code of a process that could not even take a picture in, or hand it out."""
_ALARM, _KILL = (getattr(signal, name, None) for name in ("SIGALRM", "SIGKILL"))
_family = threading.Lock()
"""Held while a process starts or is buried: each start also asks which others have ended."""


def attempt(
    encode: Encode, data: bytes, recipe: Recipe, strained: Callable[[], bool] = bool
) -> Result:
    """Return what becomes of a picture; every failure is its own.

    `strained` tells whether memory was short: few codecs say so when it is refused to them.
    """
    try:
        return encode(data, recipe)
    except ImageError as error:
        return _no_memory() if error.reason == "corrupt" and strained() else error
    except MemoryError:
        return _no_memory()
    except Exception as error:
        if strained():
            return _no_memory()
        # Not foreseen, and no reason to lose the other pictures of the run.
        logger.exception("A picture could not be encoded.")
        return ImageError("encoder_failed", f"its encoder failed ({type(error).__name__})")


def _no_memory() -> ImageError:
    return ImageError("out_of_memory", "it takes more memory than one picture may")


class Worker:
    """A process, started when it is first needed and again after each death."""

    def __init__(self, encode: Encode, allowance: Allowance) -> None:
        self._encode = encode
        self._allowance = allowance
        self._closed = False
        self._process: SpawnProcess | None = None
        self._pipe: Connection | None = None

    def encode(self, data: bytes, recipe: Recipe) -> Result:
        """Return what became of a picture, be it that its process died of it."""
        pipe = self._started()
        try:
            pipe.send((data, recipe))
            result, is_last = pipe.recv()
        except (EOFError, OSError):
            return self._cause_of_death()
        if is_last:
            self._buried()
        return cast(Result, result)

    def _started(self) -> Connection:
        with _family:
            if self._pipe is None:
                # Spawned, not forked: a fork would carry database connections and locks along.
                context = multiprocessing.get_context("spawn")
                self._pipe, theirs = context.Pipe()
                if not self._closed:
                    arguments = (theirs, self._encode, self._allowance)
                    process = context.Process(target=_work, args=arguments, daemon=True)
                    process.start()
                    self._process = process
                theirs.close()
            return self._pipe

    def _cause_of_death(self) -> ImageError:
        code = self._buried() or 0
        if -code == _ALARM:
            return ImageError("too_slow", f"it took more than {self._allowance.seconds:g} seconds")
        # Kernels kill so when a machine or container runs out of memory.
        if code == _NO_MEMORY or -code == _KILL:
            return _no_memory()
        return ImageError("crashed", "it crashed the decoder or encoder")

    def _buried(self) -> int | None:
        """Wait until the process is gone, and forget it; return its exit code."""
        with _family:
            process, pipe = self._process, self._pipe
            self._process = self._pipe = None
            if pipe is not None:
                pipe.close()
            if process is None:
                return None
            process.join()
            code = process.exitcode
            process.close()
            return code

    def stop(self) -> None:
        """End the process, whatever it is doing; whoever waits for it sees it die."""
        with _family:
            self._closed = True
            if self._process is not None:
                self._process.terminate()

    def close(self) -> None:
        """Give everything back, once nobody waits for the process any more."""
        self.stop()
        self._buried()


# Inside the process


def _work(pipe: Connection, encode: Encode, allowance: Allowance) -> None:
    # Ctrl-C and a lost terminal reach the whole process group; the parent decides what they mean.
    for number in {*STOP_SIGNALS} - {signal.SIGTERM}:  # by which it ends its processes
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    memory = MemoryLimit(allowance.memory)
    try:
        while True:
            data, recipe = pipe.recv()
            with time_limit(allowance.seconds):
                result = attempt(encode, data, recipe, memory.is_strained)
            # So that the next picture is not taken for what this one took.
            is_last = memory.is_strained()
            pipe.send((result, is_last))
            if is_last:
                return
            del data, result
    except MemoryError:
        os._exit(_NO_MEMORY)
    except (EOFError, OSError):
        # The parent is gone.
        return


def _end_with_parent() -> None:
    """Leave when the parent was killed, even from the midst of a picture."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
