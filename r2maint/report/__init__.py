"""One report value, written as text, json, jsonl, csv, junit, html or prometheus."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from r2maint.report.as_csv import write_csv
from r2maint.report.as_html import write_html
from r2maint.report.as_json import write_json, write_jsonl
from r2maint.report.as_junit import write_junit
from r2maint.report.as_prometheus import write_prometheus
from r2maint.report.as_text import write_text
from r2maint.report.charts import require_library
from r2maint.report.quantities import format_bytes, format_count, format_money, format_usd
from r2maint.report.result import (
    Case,
    Chart,
    Column,
    Metric,
    Refusal,
    Report,
    Section,
    Sink,
    Suite,
    Unit,
    Verdict,
)

__all__ = [
    "FORMATS",
    "Case",
    "Chart",
    "Column",
    "Metric",
    "Refusal",
    "Report",
    "Section",
    "Sink",
    "Suite",
    "Unit",
    "Verdict",
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
