"""A report as one JSON object, or as JSON lines. Keys may be added; those of SCHEMA 1 stay.

Output is ASCII: every terminal, pipe and locale takes it, and so does any key R2 can hold.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any

import r2maint
from r2maint.rendering.document import Report, Sink
from r2maint.rendering.units import format_money

SCHEMA = 1


def write_json(report: Report, out: Sink) -> None:
    """Write exactly one object, its items one at a time."""
    before, after = _around_items(report)
    out.write("{\n")
    for name, value in before.items():
        out.write(f"  {encode(name)}: {encode(value)},\n")
    out.write('  "items": [')
    separator = ""
    for item in report.items:
        out.write(f"{separator}\n    {encode(item)}")
        separator = ","
    out.write("\n  ]" if separator else "]")
    for name, value in after.items():
        out.write(f",\n  {encode(name)}: {encode(value)}")
    out.write("\n}\n")


def write_jsonl(report: Report, out: Sink) -> None:
    """Write one item a line, and everything else in the last line."""
    for item in report.items:
        out.write(encode({"type": "item", **item}) + "\n")
    before, after = _around_items(report)
    out.write(encode({"type": "summary", **before, **after}) + "\n")


def _around_items(report: Report) -> tuple[dict[str, Any], dict[str, Any]]:
    before = {
        "schema": SCHEMA,
        "command": report.command,
        "version": r2maint.__version__,
        "run_id": report.run_id,
        "applied": report.applied,
        "complete": report.complete,
        "stopped_by": report.stopped_by,
        "bucket": report.bucket,
        "started_at": report.started_at,
        "finished_at": report.finished_at,
        "exit_code": report.exit_code,
        "error": report.error,
        "summary": report.summary,
        **report.extra,
    }
    refusals = [refusal.as_dict() for refusal in report.refusals]
    return before, {"refusals": refusals, "notes": list(report.notes)}


def encode(value: object) -> str:
    """Return one line of JSON; money becomes a string, a time ISO 8601 in UTC."""
    return json.dumps(_plain(value), allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return _plain(value.value)
    if isinstance(value, Decimal):
        return format_money(value)
    if isinstance(value, datetime):
        return _utc(value)
    if isinstance(value, timedelta):
        return f"{round(value.total_seconds())}s"
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(_plain(name)): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset | Iterator):
        return [_plain(each) for each in value]
    return value


def _utc(moment: datetime) -> str:
    if moment.tzinfo is None:
        raise ValueError("a report holds a time without a zone")
    return moment.astimezone(UTC).isoformat()
