"""The values a report is made of. Nothing here knows a format, a terminal or a command."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Protocol

Row = Mapping[str, Any]


class Sink(Protocol):
    """Where a report is written: a file, a terminal, a StringIO."""

    def write(self, text: str, /) -> object: ...

    def isatty(self) -> bool: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A brake that holds, why, and the option that lifts it."""

    brake: str
    message: str
    override: str
    """As typed: "--override ratio", "--adopt"; "" when nothing lifts it."""

    def as_dict(self) -> dict[str, str]:
        return {"brake": self.brake, "message": self.message, "override": self.override}


class Unit(StrEnum):
    """What a column counts; decides how text prints it and which side it is aligned to."""

    TEXT = "text"
    COUNT = "count"
    BYTES = "bytes"
    USD = "usd"
    RATIO = "ratio"


@dataclass(frozen=True, slots=True)
class ReportColumn:
    """One column of items, in text and in csv."""

    name: str
    """Where the value is in an item: "key", or "reference.model" inside a nested mapping."""
    title: str = ""
    """Its heading in text; csv heads every column with `name`."""
    unit: Unit = Unit.TEXT
    in_text: bool = True
    """False for what only csv has room for."""


class Chart(StrEnum):
    """How the amounts of a section are drawn."""

    BARS = "bars"
    LINE = "line"
    """Over the first column, which holds ISO dates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One table of a report for readers."""

    title: str = ""
    lead: str = ""
    """A line between title and table."""
    columns: tuple[ReportColumn, ...] = ()
    rows: Iterable[Row] = ()
    drawn: str = ""
    """The column whose amounts are drawn, as bars in text; "" for none."""
    chart: Chart = Chart.BARS
    """How html draws them."""
    in_text: bool = True
    """False for what only html has room for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One gauge for a monitoring system."""

    name: str
    """With its base unit at the end: "r2maint_bucket_bytes"."""
    help: str
    samples: tuple[tuple[Mapping[str, str], int | float | Decimal], ...]
    """Labels and value of each; no two with equal labels."""


class CaseResult(StrEnum):
    """How a case ended, to a CI server."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One check, as CI servers know them."""

    place: str
    """What servers list it under ("classname"); with `name` unique, and the same in every run."""
    name: str
    verdict: CaseResult = CaseResult.PASSED
    kind: str = ""
    """One word for what is wrong."""
    message: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """Cases under one name, and how many there will be of each verdict."""

    name: str
    cases: Iterable[Case]
    counts: Mapping[CaseResult, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything one execution of a command has to say.

    Money is a Decimal or a string, sizes are integers of bytes, times are aware UTC.
    """

    command: str
    bucket: str
    started_at: datetime
    finished_at: datetime
    exit_code: int = 0
    run_id: str | None = None
    """None when nothing was applied."""
    applied: bool = False
    complete: bool = True
    stopped_by: str | None = None
    """ "max-duration", "signal", or the brake that refused."""
    error: Mapping[str, str] | None = None
    """{code, message, hint} of what kept the command from running."""
    summary: Mapping[str, Any] = field(default_factory=dict)
    items: Iterable[Row] = ()
    """Iterated once per writing and never held as a whole, so millions are welcome."""
    refusals: tuple[Refusal, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further top-level keys of the document: cost, groups, savings."""
    notes: tuple[str, ...] = ()
    headline: str = ""
    verdict: str = ""
    """What the findings are, in a sentence; "" for a general one."""
    columns: tuple[ReportColumn, ...] = ()
    """How text and csv show an item; without any, the keys of the first item."""
    sections: Iterable[Section] = ()
    """What text and html show in place of the items."""
    suites: Iterable[Suite] = ()
    """What junit shows in place of the items."""
    metrics: Iterable[Metric] = ()
    """What prometheus shows, and all of it."""
