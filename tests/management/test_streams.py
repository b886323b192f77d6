"""Streams that are closed, full or gone: the run does its work, and its exit code says how it ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from r2maint.models import Run
from tests.management.toy_command import Command
from tests.worlds.command_runs import SETTINGS

ROOT = Path(__file__).resolve().parents[2]
CLOSED = [">&-", "2>&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-"]
FULL = pytest.param(
    "2>/dev/full", marks=pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
)
COMMANDS = [
    "verify_urls --all",
    "purge_orphans",
    "usage_report",
    "r2_runs",
    "reoptimize",
    "migrate_media_to_r2 --apply --no-input",
]
NO_STDERR = [FULL, "2</dev/null"]


@pytest.fixture(scope="module")
def shell(tmp_path_factory) -> dict:
    """The environment of a process that has the commands, and a database of its own."""
    place = tmp_path_factory.mktemp("streams")
    for package in (
        place / "toyapp",
        place / "toyapp/management",
        place / "toyapp/management/commands",
    ):
        package.mkdir()
        (package / "__init__.py").touch()
    (place / "toyapp/management/commands/toy.py").write_text(
        "from tests.management.toy_command import Command\n"
    )
    names = {
        "database": str(place / "db.sqlite3"),
        "directory": str(place),
        "bucket": str(place / "bucket"),
    }
    (place / "streamsettings.py").write_text(
        SETTINGS.format(**names) + "INSTALLED_APPS += ['toyapp']\n"
    )
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("R2_")},
        "DJANGO_SETTINGS_MODULE": "streamsettings",
        "PYTHONPATH": f"{place}{os.pathsep}{ROOT}",
    }
    subprocess.run([*MANAGE, "migrate", "-v0", "--run-syncdb"], env=environment, check=True)
    return environment


MANAGE = [sys.executable, str(ROOT / "manage.py")]


def run(shell: dict, words: str, streams: str) -> subprocess.CompletedProcess:
    """Run a command as a shell does, with these redirections."""
    line = f"{' '.join(MANAGE)} {words} {streams}"
    return subprocess.run(
        ["bash", "-c", line],
        env=shell,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )


@pytest.mark.parametrize("streams", [*CLOSED, *NO_STDERR])
def test_a_run_does_its_work_whatever_the_streams_are(shell, streams):
    done = run(shell, "toy --apply --no-input --toy failed", streams)
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("toy", 0),
        ("toy --check", 3),
        ("toy --apply --no-input --toy refuse", 4),
        ("toy --toy denied", 1),
        ("toy --nonsense", 2),
        ("toy --apply -n", 2),
    ],
)
def test_the_exit_code_is_that_of_the_run(shell, words, code):
    assert run(shell, words, "<&- >&- 2>&-").returncode == code


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_works_without_stdin_and_stdout(shell, command):
    done = run(shell, command, "<&- >&-")
    assert (done.returncode, done.stderr) == (0, "")


def test_without_stdout_a_document_that_was_asked_for_is_refused_before_the_work(shell):
    done = run(shell, "toy --apply --no-input --format json --toy slow", ">&-")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "CommandError: The report cannot be written: stdout (it is closed).\n"


@pytest.mark.parametrize("streams", [*CLOSED, ">/dev/full", "2>/dev/full"])
def test_a_file_takes_the_document_whatever_the_streams_are(shell, tmp_path, streams):
    out = tmp_path / "report.json"
    done = run(shell, f"toy --format json --output {out}", streams)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(out.read_text())["exit_code"] == 0


@pytest.mark.parametrize("streams", [">/dev/full", "1</dev/null"])
@pytest.mark.parametrize("words", ["toy", "toy --format json", "toy --format csv --check"])
def test_a_stdout_that_takes_nothing_is_said_in_one_sentence(shell, words, streams):
    done = run(shell, words, streams)
    assert done.returncode == 1
    assert done.stderr.startswith("CommandError: The report cannot be written: stdout (")
    assert done.stderr.count("\n") == 1


@pytest.mark.django_db(transaction=True)
def test_code_that_calls_a_command_without_streams_gets_its_error(project, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    with pytest.raises(CommandError) as raised:
        call_command(Command(), "--apply", "--no-input", "--toy", "failed")
    assert raised.value.returncode == 3
    assert Run.objects.get().state == "finished"


def test_a_closed_stdout_object_is_no_stdout(project):
    with open(os.devnull, "w") as closed:
        pass
    call_command(Command(), stdout=closed)
    with pytest.raises(CommandError, match="stdout"):
        call_command(Command(), "--format", "json", stdout=closed)
