"""A report for a reader: headline, tables, summary, brakes, notes."""

from __future__ import annotations

import operator
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from r2maint.report.as_csv import columns_of
from r2maint.report.cells import printable, readable, value_at
from r2maint.report.quantities import format_count
from r2maint.report.result import Column, Refusal, Report, Row, Section, Sink, Unit

MAX_ROWS = 20
_WIDEST = 60
"""Cells beyond it are printed whole and push only their own row aside: a cut key is no key."""
_LEFT_TO_RIGHT_MARK = "\u200e"


def write_text(report: Report, out: Sink) -> None:
    """Write the report, at most 20 rows a table."""
    blocks = [_headline(report), *_tables(report, out), _summary(report.summary)]
    blocks += [_error(report.error), _refusals(report.refusals), _notes(report.notes)]
    out.write("\n\n".join("\n".join(block) for block in blocks if block) + "\n")


def _headline(report: Report) -> list[str]:
    return [printable(report.headline)] if report.headline else []


def _error(error: Mapping[str, str] | None) -> list[str]:
    return [f"Error: {error['message']} {error.get('hint', '')}".rstrip()] if error else []


def _refusals(refusals: Iterable[Refusal]) -> list[str]:
    lines = []
    for refusal in refusals:
        lines.append(f"Refused ({refusal.brake}): {printable(refusal.message)}")
        if refusal.override:
            lines.append(f"  To go on all the same: {refusal.override}")
    return lines


def _notes(notes: Iterable[str]) -> list[str]:
    return [f"Note: {printable(note)}" for note in notes]


# Tables


def _tables(report: Report, out: Sink) -> Iterator[list[str]]:
    sections = report.sections or (Section(columns=report.columns, rows=report.items),)
    for section in sections:
        # Terminals reorder Arabic across columns; a file is left as it is, for grep and awk.
        yield list(_table(section, marked=out.isatty()))


def _table(section: Section, *, marked: bool) -> Iterator[str]:
    columns, rows = columns_of(section.columns, section.rows)
    columns = tuple(column for column in columns if column.in_text)
    shown = list(islice(rows, MAX_ROWS))
    if not shown:
        return
    if section.title:
        yield printable(section.title)
    if section.lead:
        yield printable(section.lead)
    columns = tuple(each for each in columns if _says_something(each, shown))
    cells = [[readable(value_at(row, each.name), each) for each in columns] for row in shown]
    heads = [column.title or _heading(column.name) for column in columns]
    widths = [
        min(_WIDEST, max(display_width(row[at]) for row in [heads, *cells]))
        for at in range(len(columns))
    ]
    for row in [heads, *cells]:
        yield _line(row, columns, widths, marked=marked)
    if more := _remaining(section.rows, rows):
        yield f"… and {more:,} more"


def _says_something(column: Column, rows: Iterable[Row]) -> bool:
    return any(value_at(row, column.name) not in (None, "") for row in rows)


def _heading(name: str) -> str:
    return name.rpartition(".")[2].replace("_", " ").capitalize()


def _remaining(rows: Iterable[Row], unread: Iterator[Row]) -> int:
    total = operator.length_hint(rows, -1)
    return max(0, total - MAX_ROWS) if total >= 0 else sum(1 for _ in unread)


def _line(cells: list[str], columns: tuple[Column, ...], widths: list[int], *, marked: bool) -> str:
    padded = [
        _pad(cell, width, right=column.unit is not Unit.TEXT)
        for cell, column, width in zip(cells, columns, widths, strict=True)
    ]
    needs_mark = marked and any(_is_right_to_left(cell) for cell in cells)
    return ("  " + _LEFT_TO_RIGHT_MARK * needs_mark).join(padded).rstrip()


def _pad(text: str, width: int, *, right: bool) -> str:
    padding = " " * max(0, width - display_width(text))
    return padding + text if right else text + padding


def display_width(text: str) -> int:
    """Return how many terminal cells a text takes: marks none, East Asian wide letters two."""
    return sum(_cells(character) for character in text)


def _cells(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _is_right_to_left(text: str) -> bool:
    return any(unicodedata.bidirectional(character) in ("R", "AL") for character in text)


# Summary


def _summary(summary: Mapping[str, Any]) -> list[str]:
    names = [name.replace("_", " ").replace("usd", "USD") for name in summary]
    width = max(map(len, names), default=0)
    return [
        f"{name:<{width}}  {_amount(key, value)}"
        for name, (key, value) in zip(names, summary.items(), strict=True)
    ]


def _amount(name: str, value: Any) -> str:
    if isinstance(value, Mapping):
        told = ((key, each) for key, each in value.items() if each not in (0, "", None))
        return (
            ", ".join(f"{printable(str(key))} {_inner(key, each)}" for key, each in told) or "none"
        )
    if isinstance(value, list | tuple):
        return format_count(len(value), "entry", "entries") if value else "none"
    return readable(value, Column(name, unit=_unit_of(name)))


def _inner(name: str, value: Any) -> str:
    told = _amount(str(name), value)
    return f"({told})" if isinstance(value, Mapping) else told


def _unit_of(name: str) -> Unit:
    if "usd" in name.split("_"):
        return Unit.USD
    return Unit.BYTES if "bytes" in name.split("_") else Unit.TEXT
