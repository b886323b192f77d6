"""Bring a report to the file or the stream it is meant for."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from django.core.management.base import OutputWrapper

from r2maint import rendering
from r2maint.management.commands._exit import Unwritable
from r2maint.rendering import Report
from r2maint.rendering.as_text import MAX_ROWS
from r2maint.rendering.output import Encodable, open_replacing, require_writable

_DOCUMENTS = ("json", "jsonl")
"""Formats in which an error is a document too."""


def deliver(result: Report, options: Mapping[str, Any], stdout: OutputWrapper) -> None:
    """Write a report to --output or stdout. Raises: Unwritable."""
    format, output = options["format"], options["output"]
    if result.error and (format not in _DOCUMENTS or result.error["code"] == Unwritable.code):
        output = None
    try:
        if output:
            with open_replacing(Path(output)) as out:
                rendering.write(result, format, out)
        elif is_open(stdout) and _is_worth_printing(result, format, options["verbosity"]):
            write_to(stdout, result, format)
    except OSError as error:
        raise Unwritable(output or "stdout", error, result.run_id) from error


def _is_worth_printing(result: Report, format: str, verbosity: int) -> bool:
    if format in _DOCUMENTS:
        return True
    if result.error:
        return False
    # -v 0 silences what is meant for readers; a document asked for by name is still written.
    return bool(format != "text" or verbosity or result.exit_code)


def require_place(format: str, output: Path | None, stdout: OutputWrapper) -> None:
    """Raise Unwritable when the report would have nowhere to go: asked before the work, not after.

    Text is for readers: without a stdout (`>&-`, pythonw) there are none, and the exit code says
    how the run ended. Any other format was asked for.
    """
    if output:
        try:
            require_writable(output)
        except OSError as error:
            raise Unwritable(output, error) from error
    elif format != "text" and not is_open(stdout):
        raise Unwritable("stdout", OSError(errno.EBADF, "it is closed"))


def write_to(stream: OutputWrapper, result: Report, format: str) -> None:
    """Write past Django's wrapper, which would end every write in a line break."""
    out = unwrapped(stream)
    try:
        rendering.write(result, format, Encodable(out))
        out.flush()
    except OSError as error:
        _discard(out)
        # The reader has seen enough (`| head`), or the terminal is gone; the exit code stays that
        # of the run.
        if not (isinstance(error, BrokenPipeError) or _has_hung_up(out, error)):
            raise


def _has_hung_up(out: TextIO, error: OSError) -> bool:
    """Tell whether a terminal is gone; a disk may fail with the same error."""
    return error.errno == errno.EIO and stat.S_ISCHR(os.fstat(out.fileno()).st_mode)


def _discard(out: TextIO) -> None:
    """Send nowhere what Python flushes to this stream at exit: it would end with exit code 120."""
    if out is sys.stdout or out is sys.stderr:
        with suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), out.fileno())


class BestEffortStream:
    """A stream for sentences that never fails, and may be none: the exit code stays the run's."""

    def __init__(self, out: TextIO | None) -> None:
        self._out = out

    def write(self, text: str, /) -> int:
        self._attempt("write", text)
        return len(text)

    def flush(self) -> None:
        self._attempt("flush")

    def isatty(self) -> bool:
        return is_open(self) and bool(self._out and self._out.isatty())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._out, name)

    def _attempt(self, method: str, *arguments: str) -> None:
        if self._out is None:
            return
        try:
            getattr(self._out, method)(*arguments)
        except (OSError, ValueError):
            _discard(self._out)


def is_open(stream: OutputWrapper | BestEffortStream) -> bool:
    """Tell whether there is a stream at all: Python has None for one that is closed (`>&-`)."""
    return stream._out is not None and not getattr(stream._out, "closed", False)


def hold_standard_descriptors() -> None:
    """Open the null device in place of a closed stdin, stdout or stderr.

    A file or a pipe opened later would get its number, and a helper process would take it for a
    stream to write to.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number, which is this one. It stays open for as long as the process.
            os.open(os.devnull, os.O_RDWR)


def unwrapped(stream: OutputWrapper) -> TextIO:
    """Return the stream inside one of Django's."""
    out: Any = stream._out
    return out  # type: ignore[no-any-return]


Test = Callable[[Any], bool]


class ReportItems:
    """Items as mappings, again for every reading; those that are fine left out unless wanted."""

    def __init__(
        self,
        items: Iterable[Any],
        *,
        is_fine: Test,
        is_urgent: Test,
        everything: bool,
        is_brief: bool,
    ) -> None:
        """With `is_brief` only what text shows is given: what is urgent first, then the rest."""
        self._items = items
        self._is_fine = is_fine
        self._is_urgent = is_urgent
        self._everything = everything
        self._is_brief = is_brief
        self._brief: tuple[list[Any], int] | None = None

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        items = self._survey()[0] if self._is_brief else self._wanted()
        return (item.as_dict() for item in items)

    def __length_hint__(self) -> int:
        return self._survey()[1] if self._is_brief else NotImplemented

    def _survey(self) -> tuple[list[Any], int]:
        """Return the items text shows, and how many there are; all are read once.

        What somebody must act on comes before what went well.
        """
        if self._brief is None:
            urgent, calm, count = list[Any](), list[Any](), 0
            for item in self._wanted():
                count += 1
                of_kind = urgent if self._is_urgent(item) else calm
                if len(of_kind) < MAX_ROWS:
                    of_kind.append(item)
            self._brief = [*urgent, *calm][:MAX_ROWS], count
        return self._brief

    def _wanted(self) -> Iterator[Any]:
        return (each for each in self._items if self._everything or not self._is_fine(each))
