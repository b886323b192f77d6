"""A report as one HTML file: nothing is fetched, nothing runs, and its policy forbids both.

Readable on a phone, at night and on paper. Every value is escaped by the template and isolated, so
that a name from right to left, or one that looks like markup, stays inside its cell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

from django.template import Context, Engine
from django.utils.safestring import SafeString, mark_safe

import r2maint
from r2maint.rendering.cells import printable, readable
from r2maint.rendering.charts import draw_bars, draw_line
from r2maint.rendering.document import Chart, Report, ReportColumn, Section, Sink, Unit
from r2maint.rendering.tables import Table, summary_lines, tables_of

MAX_ROWS = 500
"""Of a table; a file of millions of rows opens in no browser."""
_OPEN_ROWS = 10
"""Those beyond are there, folded."""
_MOST_BARS = 10


def write_html(report: Report, out: Sink) -> None:
    """Write the report as one self-contained document. Raises: ConfigError without pygal."""
    template = Engine(dirs=[str(Path(__file__).parent)]).get_template("report.html")
    out.write(template.render(Context(_context(report))))


def _context(report: Report) -> dict[str, Any]:
    when = ReportColumn("finished_at")
    return {
        "title": f"{report.command}, bucket {printable(report.bucket)}",
        "headline": printable(report.headline.rpartition(f"bucket {report.bucket}: ")[2]),
        "verdict": printable(report.verdict),
        "error": " ".join(_told(report.error)),
        "summary": summary_lines(report.summary),
        "parts": list(_parts(report)),
        "refusals": report.refusals,
        "notes": [printable(note) for note in report.notes],
        "finished_at": readable(report.finished_at, when),
        "version": r2maint.__version__,
    }


def _told(error: Mapping[str, str] | None) -> Iterator[str]:
    return (printable(error[part]) for part in ("message", "hint") if error and error[part])


@dataclass(frozen=True, slots=True)
class _Cell:
    text: str
    is_number: bool
    head: str
    """What a phone, which has no room for a row of heads, puts before the text."""


def _parts(report: Report) -> Iterator[Mapping[str, Any]]:
    """Yield what the template shows of each section."""
    for section, table in tables_of(report, most=MAX_ROWS):
        rows = _rows(table)
        opened = 0 if section.chart is Chart.LINE else _OPEN_ROWS
        yield {
            "title": table.title or table.heads[0],
            "lead": table.lead,
            "chart": _chart(section, table),
            "is_list": len(table.columns) == 1,
            "heads": _cells(table, table.heads),
            "open_rows": list(islice(rows, opened)),
            "folded_rows": list(rows),
            "more": table.more,
        }


def _rows(table: Table) -> Iterator[list[_Cell]]:
    return (_cells(table, row) for row in table.cells)


def _cells(table: Table, row: list[str]) -> list[_Cell]:
    return [
        _Cell(text, column.unit is not Unit.TEXT, head)
        for text, column, head in zip(row, table.columns, table.heads, strict=True)
    ]


def _chart(section: Section, table: Table) -> SafeString | None:
    is_line = section.chart is Chart.LINE
    if not table.amounts or (is_line and len(table.amounts) == 1):
        return None
    labels, amounts = [row[0] for row in table.cells], table.amounts
    title, told = f"{table.title or table.heads[0]}: {section.drawn}", _words(section)
    if is_line:
        drawing = draw_line(labels, amounts, told, title)
    else:
        drawing = draw_bars(labels[:_MOST_BARS], amounts[:_MOST_BARS], told, title)
    # Drawn from a tree of elements, which escapes every label.
    return mark_safe(drawing)


def _words(section: Section) -> Callable[[Decimal], str]:
    """Return how the amounts of a section are told."""
    drawn = next((each for each in section.columns if each.name == section.drawn), ReportColumn(""))
    if drawn.unit is Unit.USD:
        return lambda amount: readable(amount.quantize(Decimal("0.01")), drawn)
    return lambda amount: readable(round(amount), drawn)
