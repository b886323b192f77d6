"""Re-encodings killed at random moments end as one that nobody disturbed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.worlds.attacked_project import sqlite

pytestmark = pytest.mark.attack

ROOT = Path(__file__).resolve().parents[2]
KILLS = 2


def test_a_killed_run_leaves_no_picture_torn_and_is_finished_by_the_next(tmp_path, s3_server):
    task = {
        "directory": str(tmp_path),
        "database": sqlite(tmp_path / "rows.sqlite3"),
        "endpoint": s3_server,
        "kills": KILLS,
        "seed": 1,
        "pictures": 5,
        "sample": 0,
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.attacks.kill_reoptimize", json.dumps(task)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["broken"] for line in lines] == [[]] * len(lines)
    assert sum(line["kills"] for line in lines) == KILLS
