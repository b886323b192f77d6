"""What reaches people who do not read the terminal: limits, signals, mails, metrics."""

from __future__ import annotations

import logging
import os
import stat
from decimal import Decimal
from io import StringIO

import pytest
from django import VERSION
from django.core import mail
from django.core.management import CommandError, call_command
from django.utils.log import AdminEmailHandler

from r2maint import signals
from r2maint.bucket import Upload, open_bucket, put
from r2maint.bucket.lease import hold_lease
from r2maint.conf import load
from r2maint.usage.metrics import MAX_SERIES, metrics_of
from r2maint.usage.thresholds import Measured, Thresholds, crossings
from tests.appdirectory.models import AppSubmission
from tests.commands import gauges
from tests.conftest import DATABASES
from tests.management.toy_command import Command

pytestmark = [
    pytest.mark.django_db(databases=DATABASES, transaction=True),
    pytest.mark.usefixtures("project"),
]
SECRET = "hush-hush-0123456789"


@pytest.fixture
def _filled(project):
    bucket = open_bucket(load())
    for name in ("submissions/A/a.png", 'submissions/"<b>\\\n/b.png', "قرآن/c.png"):
        put(bucket, Upload(key=name, body=b"x" * 10))
    missing = "https://media.example.org/submissions/B/gone.png"
    AppSubmission.objects.create(tracking_id="B", app_name_en="x", app_icon_url=missing)


@pytest.fixture
def records():
    """Return the records that a handler of the logger `r2maint` is given."""
    heard: list[logging.LogRecord] = []

    class Listener(logging.Handler):
        def emit(self, record):
            heard.append(record)

    with HandledBy(Listener()):
        yield heard


@pytest.fixture
def _mailed(settings):
    # Django 6 takes addresses alone, and older ones take names with them.
    settings.ADMINS = ["admin@example.org"] if VERSION >= (6, 0) else [("A", "admin@example.org")]
    settings.DEBUG = False
    handler = AdminEmailHandler(include_html=True)
    handler.setLevel(logging.ERROR)
    with HandledBy(handler):
        yield


class HandledBy:
    """The logger `r2maint` with one more handler."""

    def __init__(self, handler: logging.Handler) -> None:
        self.handler = handler

    def __enter__(self):
        logging.getLogger("r2maint").addHandler(self.handler)

    def __exit__(self, *ending):
        logging.getLogger("r2maint").removeHandler(self.handler)


def run(command, *words, **options) -> tuple[int, str]:
    """Return the exit code of a command, and the sentence it ended in."""
    try:
        call_command(command, *words, stdout=StringIO(), stderr=StringIO(), **options)
    except CommandError as error:
        return error.returncode, str(error)
    return 0, ""


# Limits


@pytest.mark.parametrize(
    ("limits", "crossed"),
    [
        ({}, []),
        ({"budget": "5"}, []),
        ({"budget": "4.99"}, ["budget"]),
        ({"max_orphans": "25"}, []),
        ({"max_orphans": "24.99"}, ["max-orphans"]),
        ({"max_missing": "7"}, []),
        ({"max_missing": "6"}, ["max-missing"]),
        ({"max_bytes": "400"}, []),
        ({"max_bytes": "399"}, ["max-stored"]),
        ({"budget": "0", "max_orphans": "0", "max_missing": "0"}, ["budget", "max-orphans", "max-missing"]),
    ],
)  # fmt: skip
def test_a_limit_that_is_reached_holds_and_one_beyond_is_crossed(limits, crossed):
    chosen = Thresholds(**{name: Decimal(value) for name, value in limits.items()})
    facts = Measured(total_usd=Decimal(5), bytes=400, orphan_bytes=100, missing=7)
    found = list(crossings(chosen, facts))
    assert [crossing.limit for crossing in found] == crossed
    assert all(crossing.value > crossing.allowed for crossing in found)
    assert all(f"--{crossing.limit}" in crossing.message for crossing in found)


@pytest.mark.parametrize(("bytes", "orphans"), [(0, 0), (400, None)])
def test_what_nobody_can_tell_crosses_nothing(bytes, orphans):
    facts = Measured(total_usd=Decimal(0), bytes=bytes, orphan_bytes=orphans, missing=0)
    assert not list(crossings(Thresholds(max_orphans=Decimal(0)), facts))


def test_each_crossing_says_what_its_values_count():
    facts = Measured(total_usd=Decimal(5), bytes=400, orphan_bytes=100, missing=7)
    chosen = Thresholds(budget=Decimal(1), max_orphans=Decimal(1), max_missing=1, max_bytes=1)
    told = [each.as_dict() for each in crossings(chosen, facts)]
    assert [(each["limit"], each["unit"]) for each in told] == [
        ("budget", "USD"),
        ("max-orphans", "percent"),
        ("max-missing", "references"),
        ("max-stored", "bytes"),
    ]


def test_a_share_barely_over_its_limit_does_not_look_as_if_it_held():
    facts = Measured(total_usd=Decimal(0), bytes=10**9, orphan_bytes=10**7 + 1, missing=0)
    (found,) = crossings(Thresholds(max_orphans=Decimal(1)), facts)
    assert (found.value, found.allowed) == (Decimal("1.01"), 1)
    assert found.message == "Orphans are 1.01% of all bytes, over --max-orphans 1%."


@pytest.mark.parametrize(
    ("percent", "is_over"),
    [("33.3333", True), ("33.334", False), ("1e-400", True), ("1e99", False)],
)
def test_a_share_is_compared_before_it_is_rounded(percent, is_over):
    facts = Measured(total_usd=Decimal(0), bytes=3, orphan_bytes=1, missing=0)
    found = list(crossings(Thresholds(max_orphans=Decimal(percent)), facts))
    assert [each.value for each in found] == [Decimal("33.34")] * is_over


def test_a_size_barely_over_its_limit_is_told_in_bytes_too():
    facts = Measured(total_usd=Decimal(0), bytes=2**30 + 1, orphan_bytes=0, missing=0)
    (found,) = crossings(Thresholds(max_bytes=2**30), facts)
    assert found.message == (
        "1.0 GiB (1,073,741,825 bytes) are stored, over --max-stored 1.0 GiB (1,073,741,824 bytes)."
    )


# Signals


@pytest.mark.usefixtures("_filled")
def test_the_signal_tells_which_limit_by_how_much_and_in_which_bucket():
    heard = []

    def listen(sender, signal, **facts):
        heard.append((sender, facts))

    signals.threshold_crossed.connect(listen)
    try:
        code, sentence = run("usage_report", max_orphans="50%", max_missing=0, budget=3)
    finally:
        signals.threshold_crossed.disconnect(listen)
    ((sender, facts),) = heard
    assert (code, sender, facts["bucket"]) == (3, "usage_report", "file:bucket")
    assert " ".join(facts["findings"]) == sentence
    assert [(each.limit, each.allowed) for each in facts["crossings"]] == [
        ("max-orphans", 50),
        ("max-missing", 0),
    ]
    assert facts["summary"]["missing_references"] == 1


@pytest.mark.usefixtures("_filled")
def test_a_receiver_that_raises_stops_no_report():
    def fail(**facts):
        raise RuntimeError("receiver")

    signals.threshold_crossed.connect(fail)
    try:
        assert run("usage_report", max_missing=0)[0] == 3
    finally:
        signals.threshold_crossed.disconnect(fail)


@pytest.mark.parametrize(
    ("toy", "state"), [("fine", "finished"), ("failed", "finished"), ("slow", "stopped")]
)
def test_every_end_of_a_writing_run_is_announced(toy, state):
    heard = []

    def listen(sender, signal, **facts):
        heard.append((sender, facts["state"], facts["summary"], bool(facts["run_id"])))

    signals.run_finished.connect(listen)
    try:
        run(Command(), "--toy", toy, "--apply", "--no-input", "--max-duration", "1s")
    finally:
        signals.run_finished.disconnect(listen)
    ((_, told, summary, has_run),) = heard
    assert told == state
    assert summary
    assert has_run


# Records


@pytest.mark.usefixtures("_filled")
def test_crossed_limits_are_one_error_with_the_sentence_of_stderr(records):
    code, sentence = run("usage_report", max_missing=0, max_orphans="1%")
    (record,) = records
    assert code == 3
    assert (record.name, record.levelname) == ("r2maint", "ERROR")
    assert record.getMessage() == f"usage_report, bucket file:bucket: {sentence}"
    assert (record.command, record.exit_code, record.run_id) == ("usage_report", 3, None)
    assert record.exc_info is None


@pytest.mark.usefixtures("_filled")
def test_signal_and_exit_code_of_a_crossing_are_no_errors_of_their_own(caplog):
    heard = []

    def listen(**facts):
        heard.append(facts)

    signals.threshold_crossed.connect(listen)
    try:
        assert run("usage_report", max_missing=0)[0] == 3
    finally:
        signals.threshold_crossed.disconnect(listen)
    errors = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert [each.name for each in errors] == ["r2maint"]
    assert len(heard) == 1


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["--toy", "denied"], 1, "The bucket refuses"),
        (["--toy", "failed", "--apply", "--no-input"], 3, "failed items"),
        (["--toy", "refuse", "--apply", "--no-input"], 4, "Refused: ratio"),
    ],
)
def test_what_failed_or_was_refused_is_one_error(records, words, code, sentence):
    assert run(Command(), *words)[0] == code
    (record,) = records
    assert sentence in record.getMessage()
    assert record.exit_code == code


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ([], 0),
        (["--toy", "refuse"], 0),
        (["--check"], 3),
        (["--apply"], 1),
        (["--apply", "--dry-run"], 2),
        (["--toy", "slow", "--apply", "--no-input", "--max-duration", "1s"], 6),
    ],
    ids=["a plan", "a brake in a plan", "an answer", "unasked", "usage", "max-duration"],
)
def test_what_somebody_asked_for_or_knows_is_no_alarm(records, words, code):
    assert run(Command(), *words)[0] == code
    assert not records


def test_a_lease_held_by_another_is_no_alarm(records):
    with hold_lease(open_bucket(load()), run_id="another", command="purge_orphans"):
        assert run(Command(), "--apply", "--no-input")[0] == 5
    assert not records


def test_a_bug_is_told_by_its_type_and_goes_on_as_a_traceback(records, monkeypatch):
    def break_off(*args, **options):
        raise ZeroDivisionError(SECRET)

    monkeypatch.setattr(Command, "plan", break_off)
    with pytest.raises(ZeroDivisionError):
        call_command(Command(), stdout=StringIO())
    (record,) = records
    assert "unexpected ZeroDivisionError" in record.getMessage()
    assert SECRET not in record.getMessage()


def test_a_report_that_cannot_be_delivered_is_one_error(records, monkeypatch, tmp_path):
    output = tmp_path / "out.json"

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("r2maint.rendering.write", fail)
    assert run(Command(), output=output)[0] == 1
    (record,) = records
    assert "cannot be written" in record.getMessage()


@pytest.mark.usefixtures("_mailed", "_filled")
def test_admins_get_one_mail_that_says_what_is_wrong_and_no_secret(settings):
    settings.R2MAINT = {**settings.R2MAINT, "API_TOKEN": SECRET}
    assert run("usage_report", max_missing=0)[0] == 3
    (message,) = mail.outbox
    assert message.to == ["admin@example.org"]
    assert "usage_report, bucket" in message.subject
    assert "--max-missing 0" in message.body
    html = "".join(content for content, _ in message.alternatives)
    assert html
    assert SECRET not in message.subject + message.body + html


@pytest.mark.usefixtures("_mailed")
def test_a_bucket_that_cannot_be_reached_is_mailed_without_its_credentials(settings):
    settings.R2MAINT = {
        "BUCKET": "quran-apps",
        "ENDPOINT_URL": "http://127.0.0.1:9",
        "ACCESS_KEY_ID": "id",
        "SECRET_ACCESS_KEY": SECRET,
        "PUBLIC_URL": "https://media.example.org/",
    }
    assert run("usage_report")[0] == 1
    (message,) = mail.outbox
    html = "".join(content for content, _ in message.alternatives)
    assert SECRET not in message.subject + message.body + html


def test_without_a_handler_nothing_is_printed_beside_the_sentence(monkeypatch, capfd):
    monkeypatch.setattr(logging.getLogger("r2maint"), "propagate", False)
    run(Command(), "--toy", "denied")
    assert capfd.readouterr().err == ""


# Metrics


@pytest.mark.usefixtures("_filled")
def test_the_textfile_is_read_by_prometheus_and_holds_every_group(tmp_path):
    output = tmp_path / "r2maint.prom"
    options = {"max_missing": 0, "budget": 5, "class_a": 1_000_001}
    assert run("usage_report", format="prometheus", output=output, **options)[0] == 3
    found = gauges(output.read_text(encoding="utf-8"))
    assert found["r2maint_bucket_bytes"] == {(): 30}
    assert found["r2maint_bucket_missing_references"] == {(): 1}
    assert found["r2maint_group_bytes"]["prefix", "قرآن/"] == 10
    assert found["r2maint_bill_dollars"]["class_a",] == 4.5
    assert found["r2maint_limit_crossed"] == {("budget",): 0, ("max-missing",): 1}
    assert found["r2maint_report_timestamp_seconds"][()] > 1_700_000_000


@pytest.mark.usefixtures("_filled")
def test_a_collector_sees_the_old_file_or_the_new_and_may_read_it(tmp_path, settings):
    output = tmp_path / "r2maint.prom"
    output.write_text("old")
    opened = output.open()
    run("usage_report", format="prometheus", output=output)
    assert opened.read() == "old"
    opened.close()
    assert output.read_text().startswith("# HELP")
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(output.stat().st_mode) == 0o666 & ~umask
    # A report that cannot be made leaves the last one, whose time tells of it.
    before = output.read_text()
    settings.R2MAINT = {"BUCKET": "file:/nowhere/at/all"}
    run("usage_report", format="prometheus", output=output)
    assert output.read_text() == before
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".tmp")]


def group(name: str, size: int) -> dict:
    return {"name": name, "bytes": size, "objects": 1, "usd_per_month": "0.01"}


def test_groups_beyond_the_largest_are_one_series():
    groups = [group(f"{at}/", 1_000 - at) for at in range(MAX_SERIES + 30)]
    groups.append(group("(other)", 5_000))
    extra = {
        "cost": dict.fromkeys(
            ("storage_usd", "class_a_usd", "class_b_usd", "retrieval_usd", "total_usd"), "0.00"
        ),
        "groups": {"prefix": groups},
        "savings": [],
        "analytics": None,
        "forecast": {"bytes": {}, "usd": {}, "crossings": []},
        "history": [],
    }
    metrics = {each.name: each for each in metrics_of("b", {"bytes": None}, extra, limits={})}
    assert "r2maint_bucket_bytes" not in metrics
    samples = metrics["r2maint_group_bytes"].samples
    assert len(samples) == MAX_SERIES + 1
    assert sum(size for _, size in samples) == sum(each["bytes"] for each in groups)
    assert len({labels["name"] for labels, _ in samples}) == len(samples)
