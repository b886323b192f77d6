"""Migrations killed at any moment, and under edits of another process, on real servers."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from tests.attacked import sqlite

pytestmark = pytest.mark.attack

ROOT = Path(__file__).resolve().parent.parent
KILLS = 4


@pytest.fixture(params=["sqlite", "postgresql"])
def task(request, tmp_path, s3_server, django_db_blocker) -> dict[str, Any]:
    """A directory, an empty database and an S3 server."""
    if request.param == "sqlite":
        database = sqlite(tmp_path / "rows.sqlite3")
    else:
        with django_db_blocker.unblock():
            database = empty_database()
    return {
        "directory": str(tmp_path),
        "database": database,
        "endpoint": s3_server,
        "bucket": f"media-{uuid.uuid4().hex[:12]}",
        "seed": 1,
    }


def empty_database() -> dict[str, Any]:
    server = connections["postgres"]
    with server._nodb_cursor() as cursor:
        cursor.execute("DROP DATABASE IF EXISTS attacked WITH (FORCE)")
        cursor.execute("CREATE DATABASE attacked")
    given = {name: server.settings_dict[name] for name in ("ENGINE", "USER", "HOST")}
    return {**given, "NAME": "attacked"}


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


def test_no_kill_breaks_a_promise(task):
    sizes = {"singles": 6, "shared": 30, "names": 2, "texts": 3}

    rounds = attack("tests.randomkiller", task | {"kills": KILLS, "sizes": sizes})

    assert [each["broken"] for each in rounds] == [[] for _ in rounds]
    assert {each["round"] for each in rounds} == {"undisturbed", "last row", "random"}
    assert sum(each["kills"] for each in rounds) >= KILLS


def test_no_edit_is_lost_and_each_is_told(task):
    sizes = {"singles": 30, "shared": 32, "names": 4, "texts": 8}

    (told,) = attack("tests.editor", task | {"edits": 80, "sizes": sizes, "rate": 50, "batch": 10})

    assert told["broken"] == []
    assert sum(told["edits"].values()) == 80
    assert told["summary"]["rewritten"] > 0
