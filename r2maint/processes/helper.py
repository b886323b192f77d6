"""A helper process, as its parent sees it.

Not `multiprocessing`: its children import the project's main module, and a `manage.py` without
`if __name__ == "__main__":` would run the whole command again in each; and daemons, such as the
workers of Celery, may have none.
"""

from __future__ import annotations

import enum
import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from r2maint.control import STOP_SIGNALS
from r2maint.errors import ConfigError
from r2maint.processes.frames import Frame, FrameError, receive_frame, send_frame

PYTHON_TAG = sys.implementation.cache_tag
"""Implementation and version, such as "cpython-311"."""
NO_MEMORY = 77
"""Exit code of a helper that could not even take a frame in, or hand it out."""
_HELLO_SECONDS = 60.0
"""A start takes a tenth of a second; on a machine that swaps it may take many."""
_HELLO_BYTES = 1000
_EXIT_SECONDS = 60.0
"""A process that crashed may have to write down its memory first."""
_NOT_STARTABLE = (errno.ENOENT, errno.EACCES, errno.ENOTDIR, errno.ENOEXEC, errno.EISDIR)
_HOME = str(Path(__file__).absolute().parents[2])
"""The directory that holds r2maint."""
_BEGIN = """\
import sys
parent, home, module, *path = sys.argv[1:]
sys.path[:] = [home]
import r2maint
sys.path[:] = path
sys.argv[:] = [module, parent]
from importlib import import_module
import_module(module).main()
"""
"""Binds r2maint to the parent's own copy first, then looks for modules where the parent does."""


class Failing(enum.Enum):
    """How a helper failed."""

    ENDED = enum.auto()
    """Its end of the connection is closed."""
    SILENT = enum.auto()
    """It neither took what was sent nor answered within the time it had."""
    GARBLED = enum.auto()
    """It answered what is no answer, or too much."""


class HelperFailed(Exception):
    """A helper that is of no further use."""

    def __init__(self, how: Failing) -> None:
        super().__init__(how.name.lower())
        self.how = how


class Helper:
    """A process that runs `main()` of one module, and this end of the connection to it.

    One thread at a time may send and receive; any may `kill`.
    """

    def __init__(self, module: str, python: str = "") -> None:
        """Start it; `python` is the setting PYTHON.

        Raises: ConfigError when it names no Python, OSError when the system gives no process.
        """
        self._python = python
        self.is_greeted = False
        """Whether it said that it is a Python with all it needs."""
        self._connection, theirs = socket.socketpair()
        try:
            with theirs, _signals_held_back():
                command = _command(find_python(python), module)
                self.process = subprocess.Popen(
                    command, stdin=theirs.fileno(), stdout=subprocess.DEVNULL
                )
        except OSError as error:
            self._connection.close()
            if error.errno in _NOT_STARTABLE:
                raise _not_started(python) from error
            raise
        except BaseException:
            self._connection.close()
            raise

    def send(
        self, told: Mapping[str, Any], body: bytes = b"", *, seconds: float | None = None
    ) -> None:
        """Send a frame. Raises: HelperFailed, ConfigError when it never started."""
        self._greet()
        with _failures_named():
            send_frame(self._connection, told, body, seconds=seconds)

    def receive(self, *, most_told: int, most_body: int = 0, seconds: float | None = None) -> Frame:
        """Return the next frame. Raises: what `send` does."""
        self._greet()
        with _failures_named():
            return receive_frame(
                self._connection, most_told=most_told, most_body=most_body, seconds=seconds
            )

    def has_news(self, seconds: float) -> bool:
        """Wait so long for a frame; tell whether there is one, or the connection's end.

        Raises: what `send` does.
        """
        if not self._has_bytes(seconds):
            return False
        if self.is_greeted:
            return True
        self._greet()
        return self._has_bytes(0)

    def _has_bytes(self, seconds: float) -> bool:
        with _failures_named():
            self._connection.settimeout(seconds)
            try:
                self._connection.recv(1, socket.MSG_PEEK)
            except (BlockingIOError, TimeoutError):
                return False
            return True

    def _greet(self) -> None:
        """Take its first frame, which says what runs it."""
        if self.is_greeted:
            return
        try:
            with _failures_named():
                hello, _ = receive_frame(
                    self._connection, most_told=_HELLO_BYTES, seconds=_HELLO_SECONDS
                )
        except HelperFailed as failed:
            code = self.end()
            if failed.how is Failing.ENDED and code < 0:
                # Killed, by the system or because nobody waits for it any more.
                raise
            raise _not_started(self._python) from failed
        if hello.get("python") != PYTHON_TAG:
            self.end()
            raise _not_started(self._python)
        self.is_greeted = True

    def kill(self) -> None:
        """End the process, whatever it is doing; whoever waits for it sees it end."""
        self.process.kill()

    def end(self) -> int:
        """End the process, and return its exit code, which is a signal's number below 0."""
        self._connection.close()
        self.process.kill()
        return self.process.wait()

    def bury(self) -> int:
        """Return the exit code of a process that closed its end of the connection."""
        try:
            code = self.process.wait(_EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            return self.end()
        self._connection.close()
        return code


def find_python(python: str = "") -> str:
    """Return the interpreter for helpers: the one named, or this process's own.

    Raises: ConfigError where there is none, as in servers that embed Python.
    """
    if python:
        return python
    name = Path(sys.executable or "").name.lower()
    # To start another program with these arguments might start a second web server.
    if "python" in name or "pypy" in name:
        return sys.executable
    raise ConfigError(
        f"This process is run by no Python that could be started: {sys.executable or 'unknown'}.",
        'Set R2MAINT["PYTHON"] to the Python of this project\'s virtual environment.',
    )


def _not_started(python: str) -> ConfigError:
    version = ".".join(map(str, sys.version_info[:2]))
    return ConfigError(
        f"No helper process can be started: {python or sys.executable} is no"
        f" {sys.implementation.name} {version} that has r2maint's dependencies.",
        'Set R2MAINT["PYTHON"] to the Python of this project\'s virtual environment.',
    )


def _command(python: str, module: str) -> list[str]:
    """Return the command line; -P keeps the working directory out of the helper's path."""
    flags = ["-P", *(["-E"] if sys.flags.ignore_environment else [])]
    paths = [os.path.abspath(path) for path in sys.path if isinstance(path, str) and path]
    return [python, *flags, "-c", _BEGIN, str(os.getpid()), _HOME, module, *paths]


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """Let what starts meanwhile hear no stop, until it ignores them: see `Parent`."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _failures_named() -> Iterator[None]:
    try:
        yield
    except FrameError as error:
        raise HelperFailed(Failing.GARBLED) from error
    except TimeoutError as error:
        raise HelperFailed(Failing.SILENT) from error
    except (EOFError, OSError) as error:
        raise HelperFailed(Failing.ENDED) from error
