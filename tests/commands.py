"""Run a command as a script would, and read what it printed."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

from django.core.management import CommandError, call_command
from prometheus_client.parser import text_string_to_metric_families


def run(command: str, *arguments: str, exit_code: int = 0) -> dict[str, Any]:
    """Run a command with `--format json`, expect this exit code and return its document."""
    out, code, told = StringIO(), 0, ""
    try:
        call_command(command, *arguments, "--format", "json", stdout=out, stderr=StringIO())
    except CommandError as error:
        code, told = error.returncode, str(error)
    document: dict[str, Any] = json.loads(out.getvalue())
    assert code == document["exit_code"] == exit_code, f"exit {code}: {told} {document}"
    return document


def apply(command: str, *arguments: str, exit_code: int = 0) -> dict[str, Any]:
    """Run a command with `--apply`, unasked."""
    return run(command, *arguments, "--apply", "--no-input", exit_code=exit_code)


def gauges(text: str) -> dict[str, dict[tuple[str, ...], float]]:
    """Return what Prometheus reads: name -> values of the labels beside `bucket` -> sample."""
    return {
        family.name: {
            tuple(value for name, value in sample.labels.items() if name != "bucket"): sample.value
            for sample in family.samples
        }
        for family in text_string_to_metric_families(text)
    }


CONTRACT = [
    *("schema", "command", "version", "run_id", "applied", "complete", "stopped_by", "bucket"),
    *("started_at", "finished_at", "exit_code", "error", "summary", "items", "refusals"),
]
