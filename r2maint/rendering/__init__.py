"""One report value, written as text, json, jsonl, csv, junit, html or prometheus.

In: a `Report` (summary, items, sections, refusals) of any command. Out: one document on a stream;
items are read once. `document` has the values, `units` how numbers are
written, and each `as_*` one format.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from r2maint.rendering.as_csv import write_csv
from r2maint.rendering.as_html import write_html
from r2maint.rendering.as_json import write_json, write_jsonl
from r2maint.rendering.as_junit import write_junit
from r2maint.rendering.as_prometheus import write_prometheus
from r2maint.rendering.as_text import write_text
from r2maint.rendering.charts import require_library
from r2maint.rendering.document import (
    Case,
    CaseResult,
    Chart,
    Metric,
    Refusal,
    Report,
    ReportColumn,
    Section,
    Sink,
    Suite,
    Unit,
)
from r2maint.rendering.units import format_bytes, format_count, format_money, format_usd

__all__ = [
    "FORMATS",
    "Case",
    "CaseResult",
    "Chart",
    "Metric",
    "Refusal",
    "Report",
    "ReportColumn",
    "Section",
    "Sink",
    "Suite",
    "Unit",
    "format_bytes",
    "format_count",
    "format_money",
    "format_usd",
    "require_format",
    "write",
]

FORMATS: Mapping[str, Callable[[Report, Sink], None]] = {
    "text": write_text,
    "json": write_json,
    "jsonl": write_jsonl,
    "csv": write_csv,
    "junit": write_junit,
    "html": write_html,
    "prometheus": write_prometheus,
}


def write(report: Report, format: str, out: Sink) -> None:
    """Write a report in one of FORMATS; its items are read once and not kept."""
    FORMATS[format](report, out)


def require_format(format: str) -> None:
    """Raise ConfigError when a report could not be written in this format for want of a library."""
    if format == "html":
        require_library()
