"""What every command does the same way, on a toy: exit codes, questions, signals, documents."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from r2maint.bucket import open_bucket
from r2maint.bucket.lease import hold_lease
from r2maint.conf import load
from r2maint.models import Run
from tests.management.toy_command import Command

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.usefixtures("project")
needs_database = pytest.mark.django_db(transaction=True)


class Ran:
    """What one call of the toy printed and how it ended."""

    def __init__(self, *words: str, **options) -> None:
        out, err = StringIO(), StringIO()
        self.command, self.code, self.error = Command(), 0, ""
        try:
            call_command(self.command, *words, stdout=out, stderr=err, **options)
        except CommandError as error:
            self.code, self.error = error.returncode, str(error)
        self.out, self.err = out.getvalue(), err.getvalue()

    @property
    def document(self) -> dict:
        return json.loads(self.out)


# Exit codes


def test_a_plan_is_printed_and_exits_0():
    ran = Ran()
    assert ran.code == 0
    assert "a.png" in ran.out
    assert "--apply carries it out" in ran.out
    assert "Note: This is a toy." in ran.out


def test_a_plan_of_nothing_but_findings_exits_0_unless_the_command_says_otherwise():
    assert Ran("--toy", "findings").code == 0


@pytest.mark.parametrize(("toy", "code"), [("", 3), ("idle", 0)], ids=["work", "no work"])
def test_check_exits_3_when_there_would_be_work(toy, code):
    assert Ran("--check", "--toy", toy).code == code


def test_a_brake_lets_a_plan_through_and_exits_0():
    ran = Ran("--toy", "refuse")
    assert ran.code == 0
    assert "Refused (ratio): Too many." in ran.out


@needs_database
def test_a_brake_refuses_apply_with_4():
    ran = Ran("--apply", "--no-input", "--format", "json", "--toy", "refuse")
    assert ran.code == 4
    assert "ratio" in ran.error
    assert ran.document["stopped_by"] == "ratio"
    assert (ran.document["complete"], ran.document["applied"]) == (False, False)
    assert not Run.objects.exists()


@needs_database
def test_nothing_to_do_exits_0_without_a_question():
    ran = Ran("--apply", "--toy", "idle", "--format", "json")
    assert ran.code == 0
    assert ran.document["run_id"] is None
    assert "nothing to do." in Ran("--apply", "--toy", "idle").out


@needs_database
def test_apply_exits_0_and_names_its_run():
    ran = Ran("--apply", "--no-input", "--format", "json")
    assert ran.code == 0
    run = Run.objects.get()
    assert ran.document["run_id"] == run.pk
    assert ran.document["applied"] is True
    assert ran.document["summary"]["done"] == 2
    assert (run.state, run.command, run.summary["done"]) == ("finished", "toy", 2)


@needs_database
def test_failed_items_exit_3():
    ran = Ran("--apply", "--no-input", "--toy", "failed")
    assert ran.code == 3
    assert "applied." in ran.out


@needs_database
def test_a_lease_held_by_another_exits_5():
    bucket = open_bucket(load())
    with hold_lease(bucket, run_id="another", command="purge_orphans"):
        ran = Ran("--apply", "--no-input", "--format", "json")
        assert Ran().code == 0
    assert ran.code == 5
    assert ran.document["error"]["code"] == "lease_held"
    assert Ran("--apply", "--no-input").code == 0


@needs_database
def test_max_duration_exits_6_and_leaves_the_run_to_be_continued():
    ran = Ran("--apply", "--no-input", "--max-duration", "1s", "--toy", "slow", "--format", "json")
    assert ran.code == 6
    assert ran.document["stopped_by"] == "max-duration"
    assert ran.document["complete"] is False
    stopped = Run.objects.get()
    assert stopped.state == "stopped"
    again = Ran("--apply", "--no-input", "--format", "json")
    assert again.document["run_id"] == stopped.pk
    assert Run.objects.get().state == "finished"


@needs_database
def test_a_run_that_breaks_off_is_reported_and_left_to_be_continued():
    ran = Ran("--apply", "--no-input", "--toy", "break", "--format", "json")
    assert ran.code == 1
    assert ran.document["error"]["code"] == "access_denied"
    assert ran.document["run_id"] == Run.objects.get().pk
    assert Run.objects.get().state == "stopped"


# Expected errors


@pytest.mark.parametrize(
    ("toy", "code", "sentence"),
    [
        ("denied", "access_denied", "The bucket refuses: 'toys'. Check the token."),
        ("no-table", "database", "no such table: toys_toy. Run manage.py migrate."),
        ("bad-row", "database", "The database refused a statement (DataError)."),
        ("disk", "error", "No space left on device: /tmp/scratch."),
    ],
)
def test_an_expected_error_is_a_sentence_and_a_document(toy, code, sentence):
    ran = Ran("--toy", toy, "--format", "json")
    assert ran.code == 1
    assert ran.error.endswith(sentence)
    assert ran.document["error"]["code"] == code
    assert ran.document["exit_code"] == 1
    assert "SECRET" not in ran.out + ran.err + ran.error


@pytest.mark.parametrize("format", ["text", "csv"])
def test_an_error_prints_nothing_on_stdout_for_readers(format):
    ran = Ran("--toy", "denied", "--format", format)
    assert (ran.code, ran.out) == (1, "")


def test_an_error_in_jsonl_is_its_last_line():
    assert json.loads(Ran("--toy", "denied", "--format", "jsonl").out)["error"]["hint"]


def test_a_setting_that_is_wrong_exits_1(settings):
    settings.R2MAINT = {"BUKCET": "x"}
    ran = Ran("--format", "json")
    assert ran.code == 1
    assert ran.document["error"]["code"] == "config"


def test_without_a_bucket_it_exits_1(settings):
    settings.R2MAINT = {}
    ran = Ran()
    assert ran.code == 1
    assert "bucket" in ran.error.lower()


def test_a_bug_stays_a_traceback(monkeypatch):
    monkeypatch.setattr(Command, "plan", lambda self, work, options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        Ran()


# Usage


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--apply", "--dry-run"], "exclude each other"),
        (["--model", "a.B"], "toys have no models"),
        (["--workers", "0"], "no whole number above 0"),
        (["--rate", "-1"], "no number above 0"),
        (["--max-duration", "soon"], "soon"),
        (["--where", "status"], "not FIELD=VALUE"),
        (["--database", "nowhere"], "nowhere"),
        (["--format", "yaml"], "yaml"),
        (["--nonsense"], "nonsense"),
    ],
)
def test_usage_errors_exit_2(words, sentence):
    ran = Ran(*words)
    assert ran.code == 2
    assert sentence in ran.error


def test_a_usage_error_is_a_document_too():
    ran = Ran("--apply", "-n", "--format", "json")
    assert ran.document["error"]["code"] == "usage"
    assert ran.document["exit_code"] == 2


@pytest.mark.parametrize(
    ("options", "sentence"),
    [({"workers": "many"}, "--workers"), ({"format": "yaml"}, "--format")],
)
def test_options_given_from_code_are_checked_like_those_typed(options, sentence):
    ran = Ran(**options)
    assert ran.code == 2
    assert sentence in ran.error


def test_options_given_from_code_mean_what_they_mean_when_typed():
    ran = Ran(max_duration="30m", where="status=new", database="default", rate="2.5", limit="3")
    work, options = ran.command.seen
    assert options["max_duration"] == timedelta(minutes=30)
    assert work.scope.where == (("status", "new"),)
    assert work.scope.databases == ("default",)
    assert work.scope.limit == 3
    assert work.control.rate == 2.5


def test_the_scope_holds_what_was_typed():
    ran = Ran("--field", "a", "--field", "b", "--where", "x=1=2", "--prefix", "p/", "--workers=3")
    work, _ = ran.command.seen
    assert work.scope.fields == ("a", "b")
    assert work.scope.where == (("x", "1=2"),)
    assert work.scope.prefix == "p/"
    assert work.control.workers == 3


def test_help_ends_with_examples_and_exit_codes():
    text = Command().create_parser("manage.py", "toy").format_help()
    assert "examples:\n  manage.py toy\n" in text
    assert "  4    a brake refused --apply\n" in text
    assert "--model" not in text
    assert "--no-input" in text


def test_a_command_that_only_reads_offers_no_apply():
    class Reader(Command):
        writes = False

    usage = Reader().create_parser("manage.py", "toy").format_usage()
    assert "--apply" not in usage
    assert "--check" in usage


# Reports


def test_v_0_prints_nothing_when_all_is_well():
    ran = Ran(verbosity=0)
    assert (ran.code, ran.out, ran.err) == (0, "", "")


def test_v_0_still_prints_what_is_wrong():
    assert Ran("--check", verbosity=0).out


@pytest.mark.parametrize("options", [[], ["--all"]], ids=["default", "--all"])
def test_items_that_are_fine_are_left_out_unless_wanted(options):
    keys = [item["key"] for item in Ran("--format", "json", *options).document["items"]]
    assert ("fine.png" in keys) == bool(options)
    assert "a.png" in keys


@pytest.mark.parametrize("format", ["text", "json", "jsonl", "csv"])
def test_output_goes_to_the_file_and_nowhere_else(format, tmp_path):
    path = tmp_path / "report"
    ran = Ran("--format", format, "--output", str(path), verbosity=0)
    assert (ran.out, ran.err) == ("", "")
    assert "a.png" in path.read_text(encoding="utf-8")


def test_an_output_that_cannot_be_written_is_told_before_the_work(tmp_path):
    ran = Ran("--output", str(tmp_path / "absent" / "report"), "--format", "json")
    assert ran.code == 1
    assert ran.document["error"]["code"] == "output"
    assert not hasattr(ran.command, "seen")


def test_output_holds_the_error_of_a_failed_run(tmp_path):
    path = tmp_path / "report.json"
    Ran("--toy", "denied", "--format", "json", "--output", str(path))
    assert json.loads(path.read_text())["error"]["code"] == "access_denied"


def test_csv_is_one_table():
    rows = list(csv.reader(io.StringIO(Ran("--format", "csv").out)))
    assert rows == [["key", "bytes"], ["a.png", "1024"], ["قرآن.png", "2048"]]


# Questions


@needs_database
def test_without_a_terminal_apply_refuses_naming_the_flag():
    ran = Ran("--apply", "--format", "json")
    assert ran.code == 1
    assert "--no-input" in ran.error
    assert ran.document["error"]["code"] == "declined"
    assert not Run.objects.exists()


@needs_database
def test_the_journal_keeps_the_options_but_no_values_of_rows():
    Ran("--apply", "--no-input", "--where", "submitter_email=a@b.c", "--max-duration", "1d")
    options = Run.objects.get().options
    assert options["where"] == ["submitter_email"]
    assert options["max_duration"] == "86400s"
    assert "a@b.c" not in json.dumps(options)


# Signals


@pytest.fixture
def handlers():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield before
    assert {number: signal.getsignal(number) for number in before} == before


def test_handlers_are_put_back(handlers):
    Ran()
    Ran("--toy", "denied")


def test_no_handlers_are_installed_outside_the_main_thread(handlers):
    codes = []
    thread = threading.Thread(target=lambda: codes.append(Ran().code))
    thread.start()
    thread.join()
    assert codes == [0]


# Real processes


@pytest.fixture(scope="session")
def shell(tmp_path_factory) -> dict[str, str]:
    """Environment of a project of its own that has the toy as a command."""
    place = tmp_path_factory.mktemp("shell")
    commands = place / "toyapp" / "management" / "commands"
    commands.mkdir(parents=True)
    for package in (place / "toyapp", commands.parent, commands):
        (package / "__init__.py").touch()
    (commands / "toy.py").write_text("from tests.management.toy_command import Command\n")
    (place / "toysettings.py").write_text(
        "from settings_test import *\n"
        "INSTALLED_APPS = ['r2maint', 'django.contrib.contenttypes', 'toyapp']\n"
        f"DATABASES = {{'default': {{'ENGINE': 'django.db.backends.sqlite3',"
        f" 'NAME': {str(place / 'db.sqlite3')!r}}}}}\n"
        f"R2MAINT = {{'BUCKET': {'file:' + str(place / 'bucket')!r}}}\n"
    )
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("R2_")},
        "DJANGO_SETTINGS_MODULE": "toysettings",
        "PYTHONPATH": f"{place}{os.pathsep}{ROOT}",
        "PYTHONWARNINGS": "error",
        "PYTHONIOENCODING": "utf-8",
    }
    subprocess.run([*MANAGE, "migrate", "-v0"], env=environment, check=True)
    return environment


MANAGE = [sys.executable, str(ROOT / "manage.py")]
SILENT = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}


def run(shell, *words: str, **streams) -> subprocess.CompletedProcess:
    return subprocess.run(
        [*MANAGE, "toy", *words], env=shell, text=True, timeout=60, **(SILENT | streams)
    )


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ([], 0),
        (["--check"], 3),
        (["--nonsense"], 2),
        (["--apply", "-n"], 2),
        (["--apply"], 1),
        (["--apply", "--no-input", "--toy", "refuse"], 4),
        (["--apply", "--noinput", "--toy", "failed"], 3),
    ],
)
def test_a_process_exits_with_the_code_and_without_a_traceback(shell, words, code):
    done = run(shell, *words)
    assert done.returncode == code
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("toy", ["slow-plan", "slow"])
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=["INT", "TERM", "HUP"],
)
def test_a_signal_stops_at_a_safe_point_and_reports(shell, toy, number, code):
    process = start(shell, "--apply", "--no-input", "--format", "json", "--toy", toy)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in err
    document = json.loads(out)
    assert document["stopped_by"] == "signal"
    assert document["exit_code"] == code
    assert document["complete"] is False
    if toy == "slow":
        assert document["summary"]["done"] == 2


@pytest.mark.parametrize("toy", ["stubborn-plan", "stubborn"])
def test_a_second_interrupt_stops_at_once(shell, toy):
    process = start(shell, "--apply", "--no-input", "--format", "json", "--toy", toy)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert json.loads(out)["error"]["code"] == "stopped"


@pytest.mark.parametrize("toy", ["slow-plan", "slow"])
def test_a_terminal_that_is_gone_stops_at_a_safe_point_without_a_traceback(shell, tmp_path, toy):
    master, slave = pty.openpty()
    log = tmp_path / "stderr"
    with log.open("wb") as err:
        streams = {"stdin": slave, "stdout": slave, "stderr": err}
        session = {"start_new_session": True, "preexec_fn": take_terminal}
        words = [*MANAGE, "toy", "--apply", "--no-input", "--toy", toy]
        process = subprocess.Popen(words, env=shell, **streams, **session)
    os.close(slave)
    seen = b""
    while b"ing" not in seen:
        seen += read_terminal(master)
    os.close(master)
    assert process.wait(60) == 129
    assert log.read_text() == (
        "CommandError: Stopped by signal. Run the same command again to continue.\n"
    )


def test_a_second_hangup_is_not_impatience(shell):
    process = start(shell, "--apply", "--no-input", "--format", "json", "--toy", "slow-stop")
    process.send_signal(signal.SIGHUP)
    time.sleep(0.2)
    process.send_signal(signal.SIGHUP)
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, json.loads(out)["summary"]["done"]) == (129, 2)


def test_under_nohup_a_hangup_is_not_heard(shell):
    ignored = {"preexec_fn": lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)}
    process = start(shell, "--apply", "--no-input", "--format", "json", "--toy", "slow", **ignored)
    process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert process.poll() is None
    process.terminate()
    assert process.wait(60) == 143
    process.communicate()


def start(shell, *words: str, **how) -> subprocess.Popen:
    process = subprocess.Popen([*MANAGE, "toy", *words], env=shell, text=True, **SILENT, **how)
    assert process.stdout.readline().endswith("ing\n")
    return process


def test_a_reader_that_leaves_early_is_no_error(shell):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as closed:
        done = run(shell, stdout=closed)
    assert (done.returncode, done.stderr) == (0, "")


def answer(shell, words: list[str], reply: bytes) -> tuple[int, str, str]:
    """Run the toy on a terminal of its own; return exit code, what the terminal saw, stdout."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*MANAGE, "toy", *words],
        env=shell,
        stdin=slave,
        stderr=slave,
        stdout=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=take_terminal,
    )
    os.close(slave)
    seen = b""
    while b"Type 'yes'" not in seen and select.select([master], [], [], 30)[0]:
        seen += read_terminal(master) or b"Type 'yes'"
    os.write(master, reply)
    try:
        out = process.communicate(timeout=10)[0].decode()
    except subprocess.TimeoutExpired:
        # A signal that arrives just before `read` blocks is heard with the next one only.
        os.write(master, reply)
        out = process.communicate(timeout=30)[0].decode()
    while select.select([master], [], [], 1)[0] and (more := read_terminal(master)):
        seen += more
    os.close(master)
    return process.returncode, seen.decode(), out


def take_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def read_terminal(master: int) -> bytes:
    try:
        return os.read(master, 4096)
    except OSError:
        return b""


def test_the_question_names_counts_and_bytes_on_stderr_and_yes_goes_on(shell):
    code, seen, out = answer(shell, ["--apply", "--format", "json"], b"yes\n")
    assert code == 0
    assert "Delete 2 objects (3.0 KiB)? Type 'yes' to go on:" in seen
    assert "a.png" in seen
    assert seen.count("Type 'yes'") == 1
    assert json.loads(out)["applied"] is True


@pytest.mark.parametrize(
    "reply", [b"y\n", b"no\n", b"\n", b"\x04"], ids=["y", "no", "return", "end of file"]
)
def test_anything_but_the_full_word_declines(shell, reply):
    code, seen, out = answer(shell, ["--apply", "--format", "json"], reply)
    assert code == 1
    assert json.loads(out)["error"]["code"] == "declined"
    assert "Traceback" not in seen


def test_ctrl_c_at_the_question_stops_at_once(shell):
    code, seen, out = answer(shell, ["--apply", "--format", "json"], b"\x03")
    assert code == 130
    assert json.loads(out)["applied"] is False
    assert "Traceback" not in seen


def test_no_question_is_asked_when_nothing_is_to_be_done(shell):
    done = run(shell, "--apply", "--toy", "idle")
    assert done.returncode == 0
