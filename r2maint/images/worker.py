"""One process that encodes one picture after another, within limits, and may die of any."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable

from r2maint.errors import R2MaintError
from r2maint.images.encoding_messages import (
    BODY_BYTES,
    TOLD_BYTES,
    Result,
    packed_job,
    result_of,
)
from r2maint.images.recipe import Allowance, Encoded, ImageError, Recipe, Skip
from r2maint.processes import NO_MEMORY, Failing, FrameError, Helper, HelperFailed

logger = logging.getLogger(__name__)
Encode = Callable[[bytes, Recipe], Encoded | Skip]

_PROGRAM = "r2maint.images.encoding_child"
_PATIENCE = 30.0
"""Seconds beside a picture's own, after which a process that should have ended itself is ended."""
_SEND_SECONDS = 60.0


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

    def __init__(self, allowance: Allowance, python: str = "") -> None:
        self._allowance = allowance
        self._python = python
        self._closed = False
        self._helper: Helper | None = None
        self._lock = threading.Lock()
        """Held while the process starts or is forgotten: another thread may stop it meanwhile."""

    def encode(self, data: bytes, recipe: Recipe) -> Result:
        """Return what became of a picture, be it that its process died of it.

        Raises: ConfigError, R2MaintError when no process can be started.
        """
        helper = self._started()
        if helper is None:
            return _crashed()
        try:
            helper.send(packed_job(recipe, self._allowance), data, seconds=_SEND_SECONDS)
            frame = helper.receive(
                most_told=TOLD_BYTES, most_body=BODY_BYTES, seconds=self._seconds
            )
            result, is_last = result_of(frame, recipe)
        except HelperFailed as failed:
            return self._cause_of_death(helper, failed.how)
        except FrameError:
            return self._cause_of_death(helper, Failing.GARBLED)
        if is_last:
            self.close()
        return result

    @property
    def _seconds(self) -> float | None:
        """How long an answer may take; the process itself ends before."""
        seconds = self._allowance.seconds
        return seconds + _PATIENCE if seconds else None

    def _started(self) -> Helper | None:
        """Return the process; None when nobody waits for pictures any more."""
        with self._lock:
            if self._helper is None and not self._closed:
                try:
                    self._helper = Helper(_PROGRAM, self._python)
                except OSError as error:
                    raise R2MaintError(
                        f"The system starts no process to encode pictures: {error.strerror}.",
                        "Run again when the machine has room.",
                    ) from error
            return self._helper

    def _cause_of_death(self, helper: Helper, how: Failing) -> ImageError:
        code = helper.bury() if how is Failing.ENDED else helper.end()
        self.close()
        if not helper.is_greeted or how is Failing.GARBLED:
            return _crashed()
        if how is Failing.SILENT or -code == signal.SIGALRM:
            return ImageError("too_slow", f"it took more than {self._allowance.seconds:g} seconds")
        # Kernels kill so when a machine or container runs out of memory.
        if code == NO_MEMORY or -code == signal.SIGKILL:
            return _no_memory()
        return _crashed()

    def stop(self) -> None:
        """End the process for good; whoever waits for it sees it die."""
        with self._lock:
            self._closed = True
            if self._helper is not None:
                self._helper.kill()

    def close(self) -> None:
        """Give the process back, once nobody waits for it any more."""
        with self._lock:
            helper, self._helper = self._helper, None
        if helper is not None:
            helper.end()


def _crashed() -> ImageError:
    return ImageError("crashed", "it crashed the decoder or encoder")
