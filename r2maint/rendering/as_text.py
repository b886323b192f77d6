"""A report for a reader: headline, tables, summary, brakes, notes."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping

from r2maint.rendering.bars import bars_of, room_for_bars
from r2maint.rendering.cells import printable
from r2maint.rendering.document import Refusal, Report, ReportColumn, Sink, Unit
from r2maint.rendering.tables import Table, summary_lines, tables_of

MAX_ROWS = 20
_WIDEST = 60
"""Cells beyond it are printed whole and push only their own row aside: a cut key is no key."""
_BETWEEN = "  "
_LEFT_TO_RIGHT_MARK = "\u200e"


def write_text(report: Report, out: Sink) -> None:
    """Write the report, at most 20 rows a table."""
    blocks = [_headline(report), *_tables(report, out), _summary(report)]
    blocks += [_error(report.error), _refusals(report.refusals), _notes(report.notes)]
    out.write("\n\n".join("\n".join(block) for block in blocks if block) + "\n")


def _headline(report: Report) -> list[str]:
    return [printable(report.headline)] if report.headline else []


def _summary(report: Report) -> list[str]:
    lines = summary_lines(report.summary)
    width = max((len(name) for name, _ in lines), default=0)
    return [f"{name:<{width}}  {amount}" for name, amount in lines]


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
    for section, table in tables_of(report, most=MAX_ROWS):
        if section.in_text:
            yield list(_lines(table, out))


def _lines(table: Table, out: Sink) -> Iterator[str]:
    if table.title:
        yield table.title
    if table.lead:
        yield table.lead
    rows = [table.heads, *table.cells]
    widths = [
        min(_WIDEST, max(display_width(row[at]) for row in rows))
        for at in range(len(table.columns))
    ]
    bars = ["", *_bars(table, widths, out)]
    # Terminals reorder Arabic across columns; a file is left as it is, for grep and awk.
    marked = out.isatty()
    for row, bar in zip(rows, bars, strict=True):
        yield _line(row, table.columns, widths, bar, marked=marked)
    if table.more:
        yield f"… and {table.more:,} more"


def _bars(table: Table, widths: list[int], out: Sink) -> list[str]:
    taken = sum(widths) + len(_BETWEEN) * len(widths)
    room = room_for_bars(out, taken) if table.amounts else 0
    if not room:
        return [""] * len(table.cells)
    # Beside a cell that pushes its row aside there is no room.
    return [
        bar if all(map(_fits, row, widths)) else ""
        for row, bar in zip(table.cells, bars_of(table.amounts, room, out), strict=True)
    ]


def _fits(cell: str, width: int) -> bool:
    return display_width(cell) <= width


def _line(
    cells: list[str],
    columns: tuple[ReportColumn, ...],
    widths: list[int],
    bar: str,
    *,
    marked: bool,
) -> str:
    padded = [
        _pad(cell, width, right=column.unit is not Unit.TEXT)
        for cell, column, width in zip(cells, columns, widths, strict=True)
    ]
    needs_mark = marked and any(_is_right_to_left(cell) for cell in cells)
    between = _BETWEEN + _LEFT_TO_RIGHT_MARK * needs_mark
    return between.join([*padded, bar] if bar else padded).rstrip()


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
