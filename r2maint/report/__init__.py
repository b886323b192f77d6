"""One report value, written as text, json, jsonl, csv or junit."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from r2maint.report.as_csv import write_csv
from r2maint.report.as_json import write_json, write_jsonl
from r2maint.report.as_junit import write_junit
from r2maint.report.as_text import write_text
from r2maint.report.quantities import format_bytes, format_count, format_money, format_usd
from r2maint.report.result import (
    Case,
    Column,
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
    "Column",
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
    "write",
]

FORMATS: Mapping[str, Callable[[Report, Sink], None]] = {
    "text": write_text,
    "json": write_json,
    "jsonl": write_jsonl,
    "csv": write_csv,
    "junit": write_junit,
}


def write(report: Report, format: str, out: Sink) -> None:
    """Write a report in one of FORMATS; its items are read once and not kept."""
    FORMATS[format](report, out)
