"""Lines of the files in EXTRA_REFERENCES that name the bucket by an address nobody should use.

An alias (`r2.dev` is rate-limited), the S3 endpoint, a presigned URL: told with the address to
write instead. The files are read and never written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TextIO

from r2maint.conf import Config
from r2maint.control import Control
from r2maint.errors import ConfigError
from r2maint.keepset.source_lines import iter_lines, shown
from r2maint.keepset.walk_files import matching_files
from r2maint.keys import Addresses, Via, redact

MAX_LINES = 1000
"""Whoever has corrected a thousand looks again."""
_SHOWN = 20
_URL = re.compile(r"(?:https?:)?//[\w.-]+[^\s\"'<>`\\|^\x00-\x1f]*", re.IGNORECASE)
_SENTENCE = ".,;:!?)]*"
_R2_DEV = re.compile(r"(?:https?:)?//[\w-]+\.r2\.dev(?=[/:?#]|$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceLine:
    """One address in one line of a file."""

    file: str
    """Relative to BASE_DIR where it is below it."""
    line: int
    """From 1."""
    url: str
    kind: str
    """ "alias", "endpoint" or "presigned"; "r2.dev" for one that no setting knows."""
    new: str
    """What to write instead; "" when nothing tells."""

    def as_dict(self) -> dict[str, str | int | None]:
        return {
            "file": self.file,
            "line": self.line,
            "url": redact(self.url),
            "kind": self.kind,
            "new": redact(self.new) or None,
        }


def read_source_lines(
    config: Config, addresses: Addresses, remarks: list[str], *, control: Control
) -> tuple[SourceLine, ...] | None:
    """Return the lines to correct, a thousand at most; None when no files are configured.

    `remarks` is told of the first of them, and what could not be read, in sentences.
    """
    if not config.extra_references.files:
        return None
    lines = tuple(islice(_iter_lines(config, addresses, control, remarks), MAX_LINES))
    remarks += _sentences(lines)
    return lines


def _sentences(lines: tuple[SourceLine, ...]) -> Iterator[str]:
    for each in lines[:_SHOWN]:
        instead = f"write {redact(each.new)}" if each.new else "no setting tells what it means"
        yield f"{each.file}:{each.line} has {redact(each.url)} ({each.kind}): {instead}"
    if len(lines) > _SHOWN:
        yield f"{len(lines) - _SHOWN:,} more such lines are in --format json."


def _iter_lines(
    config: Config, addresses: Addresses, control: Control, remarks: list[str]
) -> Iterator[SourceLine]:
    seen: set[Path] = set()
    for pattern in config.extra_references.files:
        paths = _matching(config, pattern, remarks)
        fresh = [path for path in paths if path not in seen]
        seen.update(fresh)
        for path in control.track(fresh, "Reading files", len(fresh), unit="file"):
            name = shown(path, config)
            for number, url in _read(path, remarks):
                if found := _judge(url, addresses):
                    kind, new = found
                    yield SourceLine(file=name, line=number, url=url, kind=kind, new=new)


def _matching(config: Config, pattern: str, remarks: list[str]) -> list[Path]:
    try:
        found = matching_files(config.base_dir, pattern)
    except ConfigError as error:
        remarks.append(str(error))
        return []
    if not found:
        remarks.append(f"EXTRA_REFERENCES['files'] matches no file: {pattern!r}.")
    return found


def _read(path: Path, remarks: list[str]) -> Iterator[tuple[int, str]]:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            yield from _iter_urls(file)
    except OSError as error:
        remarks.append(
            f"A file of EXTRA_REFERENCES cannot be read: {str(path)!r} ({error.strerror})"
        )


def _iter_urls(file: TextIO) -> Iterator[tuple[int, str]]:
    """Yield (line, URL) of a file."""
    start = 0
    for number, text, end in iter_lines(file):
        last = end
        for match in _URL.finditer(text, start):
            if match.start() >= end:
                break
            yield number, match[0].rstrip(_SENTENCE)
            last = max(last, match.end())
        # An address that goes on behind the end was told, and is not begun again.
        start = last - end


def _judge(url: str, addresses: Addresses) -> tuple[str, str] | None:
    """Return what is wrong with a URL, and what to write instead; None when nothing is."""
    found = addresses.republished(url)
    if found is None:
        return ("r2.dev", "") if _R2_DEV.match(url) else None
    via, new = found
    if via is Via.PUBLIC:
        return None
    return via.value, new if addresses.public_url else ""
