"""Run an attack in a process of its own, and read the lines it prints."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def attack(module: str, task: dict[str, Any]) -> list[dict[str, Any]]:
    """Run an attack in a process of its own and return the lines it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", module, json.dumps(task)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return [json.loads(line) for line in done.stdout.splitlines()]
