"""A section as the table that readers are shown: in text and in html."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from itertools import islice
from typing import Any

from r2maint.rendering.as_csv import columns_of
from r2maint.rendering.cells import printable, readable, value_at
from r2maint.rendering.document import Report, ReportColumn, Row, Section, Unit
from r2maint.rendering.units import format_count


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The first rows of a section in words, without the columns that say nothing."""

    title: str
    lead: str
    columns: tuple[ReportColumn, ...]
    heads: list[str]
    cells: list[list[str]]
    amounts: list[Decimal]
    """What is drawn for each row; empty where nothing is."""
    more: int
    """Rows that are not shown."""


def tables_of(report: Report, *, most: int) -> Iterator[tuple[Section, Table]]:
    """Yield each section with its table of at most `most` rows; none for a section without rows."""
    sections = report.sections or (Section(columns=report.columns, rows=report.items),)
    for section in sections:
        if table := _table(section, most):
            yield section, table


def _table(section: Section, most: int) -> Table | None:
    columns, rows = columns_of(section.columns, section.rows)
    shown = list(islice(rows, most))
    if not shown:
        return None
    columns = tuple(each for each in columns if each.in_text and _says_something(each, shown))
    return Table(
        title=printable(section.title),
        lead=printable(section.lead),
        columns=columns,
        heads=[column.title or _heading(column.name) for column in columns],
        cells=[[readable(value_at(row, each.name), each) for each in columns] for row in shown],
        amounts=_amounts(section, shown),
        more=_remaining(section.rows, rows, most),
    )


def _says_something(column: ReportColumn, rows: Iterable[Row]) -> bool:
    return any(value_at(row, column.name) not in (None, "") for row in rows)


def _heading(name: str) -> str:
    return name.rpartition(".")[2].replace("_", " ").capitalize()


def _remaining(rows: Iterable[Row], unread: Iterator[Row], most: int) -> int:
    total = operator.length_hint(rows, -1)
    return max(0, total - most) if total >= 0 else sum(1 for _ in unread)


def _amounts(section: Section, rows: Iterable[Row]) -> list[Decimal]:
    if not section.drawn:
        return []
    amounts = [_amount(value_at(row, section.drawn)) for row in rows]
    return amounts if any(amounts) else []


def _amount(value: Any) -> Decimal:
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        return Decimal(0)
    return max(amount, Decimal(0)) if amount.is_finite() else Decimal(0)


# The summary


def summary_lines(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return name and amount of each entry, in words."""
    return [
        (name.replace("_", " ").replace("usd", "USD"), _told(name, value))
        for name, value in summary.items()
    ]


def _told(name: str, value: Any) -> str:
    if isinstance(value, Mapping):
        told = ((key, each) for key, each in value.items() if each not in (0, "", None))
        return (
            ", ".join(f"{printable(str(key))} {_inner(key, each)}" for key, each in told) or "none"
        )
    if isinstance(value, list | tuple):
        return format_count(len(value), "entry", "entries") if value else "none"
    return readable(value, ReportColumn(name, unit=_unit_of(name)))


def _inner(name: str, value: Any) -> str:
    told = _told(str(name), value)
    return f"({told})" if isinstance(value, Mapping) else told


def _unit_of(name: str) -> Unit:
    if "usd" in name.split("_"):
        return Unit.USD
    return Unit.BYTES if "bytes" in name.split("_") else Unit.TEXT
