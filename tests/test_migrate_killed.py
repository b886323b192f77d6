"""Kill -9 at any moment, on real servers: every value still leads to its bytes, and undo is exact."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from tests.attacked import sqlite

ROOT = Path(__file__).resolve().parent.parent
TASK = {
    "kills": 4,
    "seed": 1,
    "sizes": {"singles": 6, "shared": 30, "names": 2, "texts": 3},
}


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path, django_db_blocker) -> dict[str, Any]:
    """The entry of an empty database for `DATABASES`."""
    if request.param == "sqlite":
        return sqlite(tmp_path / "rows.sqlite3")
    server = connections["postgres"].settings_dict
    given = {name: server[name] for name in ("ENGINE", "USER", "HOST")}
    with django_db_blocker.unblock(), connections["postgres"]._nodb_cursor() as cursor:
        cursor.execute("DROP DATABASE IF EXISTS attacked WITH (FORCE)")
        cursor.execute("CREATE DATABASE attacked")
    return {**given, "NAME": "attacked"}


def test_no_kill_breaks_a_promise(database, s3_server, tmp_path):
    task = TASK | {"directory": str(tmp_path), "database": database, "endpoint": s3_server}

    killer = subprocess.run(
        [sys.executable, "-m", "tests.randomkiller", json.dumps(task)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert killer.returncode == 0, killer.stderr
    rounds = [json.loads(line) for line in killer.stdout.splitlines()]
    assert [each["broken"] for each in rounds] == [[] for _ in rounds]
    assert {each["round"] for each in rounds} == {"undisturbed", "last row", "random"}
    assert sum(each["kills"] for each in rounds) >= TASK["kills"]
