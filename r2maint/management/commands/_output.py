"""Bring a report to the file or the stream it is meant for."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from django.core.management.base import OutputWrapper

from r2maint import rendering
from r2maint.management.commands._exit import Unwritable
from r2maint.rendering import Report
from r2maint.rendering.as_text import MAX_ROWS
from r2maint.rendering.output import Encodable, open_replacing

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
        elif _is_worth_printing(result, format, options["verbosity"]):
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


def write_to(stream: OutputWrapper, result: Report, format: str) -> None:
    """Write past Django's wrapper, which would end every write in a line break."""
    out = unwrapped(stream)
    try:
        rendering.write(result, format, Encodable(out))
        out.flush()
    except BrokenPipeError:
        # The reader has seen enough (`| head`); the exit code stays that of the run. Python
        # flushes stdout once more at exit, and must not meet the closed pipe again.
        if out is sys.stdout:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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
