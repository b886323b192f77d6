"""A report's items as CSV (RFC 4180): one row each, nested references in short form."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any

from r2maint.rendering.cells import plain, value_at
from r2maint.rendering.document import Report, ReportColumn, Row, Sink

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""What makes a spreadsheet run a cell. Source: OWASP, "CSV Injection"."""


def write_csv(report: Report, out: Sink) -> None:
    """Write a header and one row per item.

    Text that a spreadsheet would run as a formula gets an apostrophe in front; whoever needs every
    key exact reads json or jsonl. Numbers stay numbers, negative ones too.
    """
    rows = iter(report.items)
    columns, rows = columns_of(report.columns, rows)
    writer = csv.writer(out, lineterminator="\r\n")
    if columns:
        writer.writerow([column.name for column in columns])
    for item in rows:
        writer.writerow([_cell(value_at(item, column.name)) for column in columns])


def columns_of(
    columns: tuple[ReportColumn, ...], rows: Iterable[Row]
) -> tuple[tuple[ReportColumn, ...], Iterator[Row]]:
    """Return the columns, taken from the first row where none are given, and every row."""
    rows = iter(rows)
    if columns:
        return columns, rows
    first = list(islice(rows, 1))
    names = tuple(ReportColumn(name) for row in first for name in row)
    return names, chain(first, rows)


def _cell(value: Any) -> str:
    text = plain(value)
    if isinstance(value, int) or not text.startswith(_FORMULA):
        return text
    return "'" + text
