"""Kill -9 anywhere, run again, and it finishes: nothing is lost and nothing happens twice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parents[2]
STRIDE = 3
"""Every third step is tried: 1 tries all of them, in a minute."""

Line = dict[str, Any]

pytestmark = pytest.mark.thorough


@pytest.fixture(scope="module")
def lines(tmp_path_factory) -> list[Line]:
    arguments = [
        "-m",
        "tests.attacks.kill_at_steps",
        str(tmp_path_factory.mktemp("killed") / "project"),
    ]
    killer = subprocess.run(
        [sys.executable, *arguments, str(STRIDE)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert killer.returncode == 0, killer.stderr
    return [json.loads(line) for line in killer.stdout.splitlines()]


@pytest.fixture(params=["migrate", "undo", "repair"])
def command(request) -> str:
    return request.param


def undisturbed(lines: list[Line], command: str) -> Line:
    (line,) = [line for line in lines if line["command"] == command and "steps" in line]
    return line["state"]


def kills(lines: list[Line], command: str) -> list[Line]:
    found = [line for line in lines if line["command"] == command and "killed_at" in line]
    assert len(found) > 5
    return found


def test_the_end_is_that_of_an_undisturbed_run(lines, command):
    expected = undisturbed(lines, command)
    for line in kills(lines, command):
        for what in ("rows", "objects"):
            assert line["state"][what] == expected[what], line["killed_at"]


def test_every_rewrite_is_journalled_once_whichever_execution_made_it(lines, command):
    expected = [change[1:] for change in undisturbed(lines, command)["rewrites"]]
    for line in kills(lines, command):
        found = [change[1:] for change in line["state"]["rewrites"]]
        assert found == expected, line["killed_at"]
        assert line["state"]["uploads"] == undisturbed(lines, command)["uploads"]


def test_a_killed_run_goes_on_under_its_own_id_and_ends(lines, command):
    expected = [run[:2] for run in undisturbed(lines, command)["runs"]]
    for line in kills(lines, command):
        assert [run[:2] for run in line["state"]["runs"]] == expected, line["killed_at"]
        ids = {run[2] for run in line["left"]["runs"]}
        assert ids <= {run[2] for run in line["state"]["runs"]}, line["killed_at"]


def test_the_second_execution_is_content(lines, command):
    for line in kills(lines, command):
        assert (line["printed"]["exit_code"], line["printed"]["error"]) == (0, None)


def test_no_row_ever_names_an_object_that_is_not_there(lines):
    base = "https://media.example.org/"
    for line in kills(lines, "migrate"):
        named = {unquote(change[7].removeprefix(base)) for change in line["left"]["rewrites"]}
        assert named <= set(line["left"]["objects"]), line["killed_at"]


def test_a_kill_leaves_at_most_one_file_beside_the_bucket(lines, command):
    assert {line["state"]["unlisted"] for line in kills(lines, command)} <= {0, 1}


def test_a_repair_brings_back_what_the_rows_name(lines):
    expected = undisturbed(lines, "repair")
    assert {f"submissions/{number}.png" for number in range(3)} <= set(expected["objects"])
    assert len([change for change in expected["rewrites"] if ".r2.dev/" in change[6]]) == 6
