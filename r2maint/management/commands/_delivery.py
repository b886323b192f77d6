"""Bring a report to the file or the stream it is meant for."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from django.core.management.base import OutputWrapper

from r2maint import rendering
from r2maint.management.commands._endings import Unwritable
from r2maint.rendering import Report
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
