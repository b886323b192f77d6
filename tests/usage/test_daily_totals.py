"""What a report remembers of its day, and what the next ones make of it."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from r2maint import conf
from r2maint.bucket import Upload, open_bucket, put
from r2maint.errors import DatabaseError
from r2maint.journal import journal
from r2maint.models import Snapshot
from r2maint.pricing import GB, INFREQUENT_ACCESS, STANDARD
from r2maint.usage.daily_totals import KEPT_FOR, MAX_GROUPS, Day, Snapshots, daily_peaks
from tests.commands import gauges, run
from tests.conftest import DATABASES

pytestmark = [pytest.mark.django_db(databases=DATABASES), pytest.mark.usefixtures("project")]

TODAY = date(2026, 11, 23)
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 2002
LATER = NOON + timedelta(hours=3)


def seen(standard: int = 100, infrequent: int = 0, *, day: date = TODAY, **values) -> Day:
    return Day(day=day, standard=standard, infrequent_access=infrequent, **values)


def groups(snapshots: Snapshots) -> list:
    return list(snapshots.iter_groups(TODAY, TODAY))


def test_a_day_keeps_its_peaks_and_the_rest_of_its_last_report(home):
    snapshots = Snapshots("media")
    first = seen(100, 5, summary={"objects": 9}, groups={"type": {"png": 105}, "class": {"S": 1}})
    snapshots.keep(first, NOON)
    snapshots.keep(seen(70, 8, summary={"objects": 3}, groups={"type": {"jpg": 78}}), LATER)
    (day,) = snapshots.read(TODAY, TODAY)
    assert (day.standard, day.infrequent_access, day.bytes) == (100, 8, 108)
    assert day.summary == {"objects": 3}
    assert groups(snapshots) == [(TODAY, {"type": {"jpg": 78}, "class": {"S": 1}})]
    assert Snapshot.objects.using(home).count() == 1


def test_buckets_have_days_of_their_own(home):
    Snapshots("media").keep(seen(100), NOON)
    Snapshots("Media").keep(seen(200), NOON)
    assert [day.bytes for day in Snapshots("media").read(TODAY, TODAY)] == [100]


def test_names_that_json_cannot_hold_are_kept_escaped(home):
    snapshots = Snapshots("media")
    snapshots.keep(seen(groups={"prefix/1": {"a\x00/": 1, "صور/": 2, "\ud800/": 3}}), NOON)
    ((_, kept),) = groups(snapshots)
    assert kept == {"prefix/1": {r"a\x00/": 1, "صور/": 2, r"\ud800/": 3}}


def test_of_many_groups_the_largest_are_kept(home):
    many = {f"{number}/": number for number in range(MAX_GROUPS + 20)}
    snapshots = Snapshots("media")
    snapshots.keep(seen(groups={"prefix/1": many}), NOON)
    ((_, kept),) = groups(snapshots)
    assert min(kept["prefix/1"].values()) == 20
    assert len(kept["prefix/1"]) == MAX_GROUPS


def test_what_is_older_than_three_years_is_forgotten_of_this_bucket_alone(home):
    for bucket in ("media", "other"):
        for age in (KEPT_FOR, KEPT_FOR + timedelta(days=1)):
            Snapshots(bucket).keep(seen(day=TODAY - age), NOON)
    Snapshots("media").keep(seen(), NOON)
    left = Snapshot.objects.using(home).filter(day__lt=TODAY)
    assert sorted(left.values_list("bucket", flat=True)) == ["media", "other", "other"]


def test_daily_peaks_are_those_of_the_days_that_end_today(home):
    snapshots = Snapshots("media")
    for age in (0, 2, 29, 30):
        snapshots.keep(seen(age + 1, 7, day=TODAY - timedelta(days=age)), NOON)
    assert daily_peaks("media", 30, until=TODAY) == {
        TODAY - timedelta(days=29): {STANDARD: 30, INFREQUENT_ACCESS: 7},
        TODAY - timedelta(days=2): {STANDARD: 3, INFREQUENT_ACCESS: 7},
        TODAY: {STANDARD: 1, INFREQUENT_ACCESS: 7},
    }


# Reports


def bucket():
    return open_bucket(conf.load())


def fill(size: int = 1000) -> None:
    put(bucket(), Upload(key="submissions/a.png", body=b"x" * size))


def test_each_kind_of_database_keeps_days_that_are_billed_foretold_and_compared(home):
    past(10, start=40 * GB, a_day=GB, groups={"type": {"png": 400}}, database=home)
    fill()
    for _ in range(2):
        document = run("usage_report", "--forecast", "7d")
    assert len(document["history"]) == Snapshot.objects.using(home).count() == 11
    assert document["history"][-1]["bytes"] == 1000
    assert document["cost"]["billable"]["standard_gb_months"] > 20
    assert list(document["forecast"]["bytes"]) == ["7"]
    assert document["growth"]["type"][0]["bytes_per_day"] == 60


def past(
    days: int, *, start: int = 5 * GB, a_day: int = GB // 10, database: str = "default", **values
) -> None:
    """Days before today on which the bucket grew."""
    today = bucket().now().date()
    for age in range(1, days + 1):
        wobble = age % 5 * GB // 100
        Snapshot.objects.using(database).create(
            bucket=bucket().name,
            day=today - timedelta(days=age),
            standard_bytes=start + a_day * (days - age) + wobble,
            infrequent_access_bytes=0,
            at=journal.now(),
            **values,
        )


def text(*words: str) -> str:
    out = StringIO()
    call_command("usage_report", *words, stdout=out, stderr=StringIO())
    return out.getvalue()


def test_each_report_keeps_its_day_and_writes_nothing_else():
    fill()
    before = list(bucket().list_pages())
    for _ in range(2):
        document = run("usage_report")
    row = Snapshot.objects.get()
    assert row.day == bucket().now().date()
    assert row.bucket == document["bucket"]
    assert row.standard_bytes == 1000
    assert row.summary == document["summary"]
    assert row.groups["prefix/1"] == {"submissions/": 1000}
    assert row.groups["type"] == {"png": 1000}
    assert list(bucket().list_pages()) == before
    assert document["history"][0]["bytes"] == 1000
    assert document["history"][0]["objects"] == 1


@pytest.mark.parametrize(
    "narrowed",
    [
        ["--prefix", "submissions/"],
        ["--model", "appdirectory.App"],
        ["--field", "app_icon_url"],
        ["--where", "tracking_id=A"],
        ["--database", "default"],
    ],
)
def test_a_report_of_a_part_keeps_nothing_and_foretells_nothing(narrowed):
    past(20)
    document = run("usage_report", *narrowed)
    assert Snapshot.objects.count() == 20
    assert document["history"] == []
    assert document["forecast"]["reason"].startswith("The report is of a part")


def test_top_folds_the_report_and_not_the_snapshot():
    fill()
    put(bucket(), Upload(key="apps/b.jpg", body=b"y"))
    run("usage_report", "--top", "1")
    assert Snapshot.objects.get().groups["type"] == {"png": 1000, "jpg": 1}


def test_too_few_days_say_so():
    past(3)
    document = run("usage_report")
    assert "there are 4 days of snapshots" in document["forecast"]["reason"]
    assert document["forecast"]["bytes"] == {}
    assert "Note: Forecast: It cannot be told yet" in text()


def test_a_forecast_has_sizes_money_and_the_days_limits_are_crossed(monkeypatch):
    past(90)
    steady(monkeypatch)
    document = run("usage_report", "--budget", "0.3", "--max-stored", "40GB")
    told = document["forecast"]
    assert told["reason"] is None
    assert set(told["bytes"]) == set(told["usd"]) == {"30", "90", "365"}
    for horizon in told["bytes"].values():
        assert horizon["low"] <= horizon["expected"] <= horizon["high"]
    assert all(isinstance(each["high"], str) for each in told["usd"].values())
    assert [each["limit"] for each in told["crossings"]] == ["free tier", "budget", "max stored"]
    assert told["crossings"][1]["bytes"] == 30 * GB
    assert told["snapshots"] == 91


@pytest.mark.parametrize(("budget", "state"), [("14.35", "crossed"), ("14.36", "not in sight")])
def test_the_forecast_calls_a_budget_crossed_exactly_when_the_report_does(budget, state):
    past(40, start=1000 * GB, a_day=0)
    # 29 days of about 1,000 GB and nothing today: $14.355.
    document = run("usage_report", "--budget", budget, exit_code=3 if state == "crossed" else 0)
    found = {each["limit"]: each["state"] for each in document["forecast"]["crossings"]}
    assert found == {"free tier": "crossed", "budget": state}
    assert bool(document["crossed"]) == (state == "crossed")


def test_what_has_no_free_tier_cannot_cross_it(settings):
    settings.R2MAINT = {**settings.R2MAINT, "PRICES": {"free": {"storage": 0}}}
    past(8)
    assert run("usage_report")["forecast"]["crossings"] == []


def steady(monkeypatch) -> None:
    """Let today be as yesterday: no disk of a test has room for what the past leads up to."""
    keep = Snapshots.keep

    def kept(self, day, at):
        last = Snapshot.objects.filter(day__lt=day.day).order_by("-day").first()
        keep(self, Day(day=day.day, standard=last.standard_bytes, infrequent_access=0), at)

    monkeypatch.setattr(Snapshots, "keep", kept)


def test_prometheus_reads_the_forecast_and_the_days_of_crossings(monkeypatch):
    past(40)
    steady(monkeypatch)
    words = ["--forecast", "7d", "--max-stored", "5GB", "--budget", "100"]
    found = gauges(text(*words, "--format", "prometheus"))
    assert set(found["r2maint_forecast_bytes"]) == {
        ("7", bound) for bound in ("expected", "low", "high")
    }
    assert found["r2maint_forecast_dollars"]["7", "high"] < 1
    days = found["r2maint_forecast_crossing_timestamp_seconds"]
    today = datetime.combine(bucket().now().date(), time(), UTC)
    assert days["max-stored",] == today.timestamp()
    assert days["free-tier",] > today.timestamp()
    assert days["free-tier",] % 86400 == 0
    assert ("budget",) not in days


def test_horizons_are_chosen():
    past(40)
    document = run("usage_report", "--forecast", "7d", "--forecast", "60d")
    assert list(document["forecast"]["bytes"]) == ["7", "60"]


def test_text_shows_the_forecast_and_what_grew():
    past(40, groups={"type": {"png": 400, "gif": 77}})
    fill()
    shown = text("--max-stored", "1TB")
    for part in ("Forecast", "in 30 days", "days of snapshots", "Free tier", "Type that changed"):
        assert part in shown


def test_the_bill_is_of_the_peaks_of_the_last_30_days():
    past(40, start=1000 * GB, a_day=0)
    assert Decimal(run("usage_report")["cost"]["storage_usd"]) == Decimal("14.355")
    assert run("usage_report", "--prefix", "submissions/")["cost"]["storage_usd"] == "0.00"


def test_growth_is_in_the_document():
    past(10, groups={"type": {"png": 400, "gif": 100}})
    fill()
    assert run("usage_report", "--by", "type")["growth"] == {
        "type": [
            {"name": "png", "bytes": 1000, "bytes_before": 400, **ten_days(), "bytes_per_day": 60},
            {"name": "gif", "bytes": 0, "bytes_before": 100, **ten_days(), "bytes_per_day": -10},
        ]
    }


def test_types_told_by_first_bytes_grow_apart_from_those_told_by_names():
    past(10, groups={"type": {"txt": 400}, "type/sniffed": {"png": 100}})
    put(bucket(), Upload(key="apps/picture.txt", body=PNG))
    size, of = len(PNG), {"since": ten_days()["since"]}
    named, sniffed = (run("usage_report", "--by", "type", *more) for more in ([], ["--sniff"]))
    assert [each["name"] for each in named["growth"]["type"]] == ["txt"]
    assert sniffed["growth"] == {
        "type": [
            {
                "name": "png",
                "bytes": size,
                "bytes_before": 100,
                **of,
                "bytes_per_day": size // 10 - 10,
            }
        ]
    }
    assert Snapshot.objects.get(day=bucket().now().date()).groups == {
        "type": {"txt": size},
        "type/sniffed": {"png": size},
    }
    assert "Type, by first bytes, that changed" in text("--sniff")


def ten_days() -> dict[str, str]:
    return {"since": (bucket().now().date() - timedelta(days=10)).isoformat()}


def test_more_than_max_stored_exits_3():
    fill()
    assert run("usage_report", "--max-stored", "0.000001GB")["crossed"] == []
    document = run("usage_report", "--max-stored", "999B", exit_code=3)
    assert "over --max-stored" in document["crossed"][0]


@pytest.mark.parametrize(
    "words", [["--forecast", "0"], ["--forecast", "5h"], ["--max-stored", "x"]]
)
def test_what_cannot_be_foretold_is_a_usage_error(words):
    with pytest.raises(CommandError) as caught:
        call_command("usage_report", *words)
    assert caught.value.returncode == 2


def test_a_table_that_cannot_be_written_costs_the_snapshot_and_not_the_report(monkeypatch):
    def keep(self, seen, at):
        raise DatabaseError("Cannot be read: table 'r2maint_snapshot' (OperationalError).")

    monkeypatch.setattr(Snapshots, "keep", keep)
    document = run("usage_report")
    assert document["forecast"]["reason"].startswith("No snapshot was kept")
    assert any("OperationalError" in note for note in document["notes"])


@pytest.mark.django_db(transaction=True, databases=DATABASES)
def test_without_the_table_a_report_is_made_all_the_same():
    fill()
    with connections["default"].schema_editor() as editor:
        editor.delete_model(Snapshot)
    try:
        document = run("usage_report")
    finally:
        with connections["default"].schema_editor() as editor:
            editor.create_model(Snapshot)
    assert document["summary"]["objects"] == 1
    assert any("Run manage.py migrate r2maint." in note for note in document["notes"])
