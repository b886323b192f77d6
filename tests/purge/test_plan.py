"""What a plan tells its reader."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import call_command
from django.db import OperationalError, connections

from r2maint import conf
from r2maint.bucket import Expiry, Headers, Upload, open_bucket
from r2maint.database.catalogue import list_tables
from r2maint.errors import AccessDenied, BucketError, InvalidListing
from r2maint.keepset.read_texts import count_hosts
from r2maint.management.commands.purge_orphans import Command
from r2maint.pricing import CLOUDFLARE, GB
from r2maint.purge import excluded_sources
from r2maint.purge.cost import forecast
from r2maint.purge.overview import Amount, Folders
from r2maint.purge.result import PurgeOptions, PurgePlan
from r2maint.rendering import Report, write
from tests.conftest import DATABASES
from tests.fakes import R2Fake
from tests.oddities.models import Article, LegacyBanner
from tests.worlds.few_objects import (
    AT_ONCE,
    HOST,
    NAMED,
    ORPHAN,
    WEEK,
    brakes,
    change_settings,
    make_bucket,
    plan,
    purge,
    urls,
    verdicts,
)
from tests.worlds.texts import dropped

pytestmark = pytest.mark.django_db(databases=DATABASES)


@pytest.fixture
def bucket(project) -> R2Fake:
    bucket = make_bucket(NAMED, ORPHAN, "elsewhere/a.txt")
    Article.objects.create(body=urls([NAMED]))
    return bucket


def told(planned: PurgePlan) -> dict:
    """Return the further keys of the document, as JSON has them."""
    return json.loads(json.dumps(planned.extra, default=str))


def text(planned: PurgePlan) -> str:
    out = StringIO()
    at = datetime(2026, 1, 1, tzinfo=UTC)
    report = Report(
        command="purge_orphans",
        bucket="b",
        started_at=at,
        finished_at=at,
        summary=planned.summary(),
        sections=Command().sections(planned),
    )
    write(report, "text", out)
    return out.getvalue()


# By folder


def test_objects_are_counted_below_the_managed_prefixes():
    folders = Folders(("apps/", "submissions/"))
    folders.add("apps/a.png", 5, is_due=True)
    folders.add("submissions/1/icons/a.png", 10, is_due=True)
    folders.add("submissions/1/icons/deep/er/b.png", 20, is_due=False)
    assert [tuple(row) for row in folders.rows()] == [
        ("submissions/1/icons/", Amount(1, 10), Amount(1, 20)),
        ("apps/", Amount(1, 5), Amount(0, 0)),
    ]


def test_many_folders_side_by_side_become_one():
    folders = Folders(("submissions/",))
    for number in range(1000):
        folders.add(f"submissions/{number}/icons/a.png", 1, is_due=True)
        folders.add(f"submissions/{number}/shots/{number}/a.png", 2, is_due=number % 2 == 0)
    assert [tuple(row) for row in folders.rows()] == [
        ("submissions/*/shots/", Amount(500, 1000), Amount(500, 1000)),
        ("submissions/*/icons/", Amount(1000, 1000), Amount(0, 0)),
    ]


def test_a_plan_counts_what_nothing_names_by_folder(bucket):
    bucket.add("submissions/2/young.webp", b"12", age=timedelta(0))
    assert told(plan(bucket, grace=WEEK))["prefixes"] == [
        {
            "prefix": "submissions/1/",
            "objects": 1,
            "bytes": len(ORPHAN),
            "later_objects": 0,
            "later_bytes": 0,
        },
        {
            "prefix": "submissions/2/",
            "objects": 0,
            "bytes": 0,
            "later_objects": 1,
            "later_bytes": 2,
        },
    ]


# Which, and when


def test_a_plan_says_how_many_fall_due_on_which_day(bucket):
    for number, days in enumerate((1, 1, 3)):
        bucket.add(f"submissions/2/{number}.webp", b"1", age=timedelta(days=days))
    assert told(plan(bucket, grace=WEEK))["due"] == [
        {"date": "2026-01-05", "objects": 1, "bytes": 1},
        {"date": "2026-01-07", "objects": 2, "bytes": 2},
    ]


def test_a_plan_names_the_largest_the_oldest_and_the_youngest(bucket):
    for number in range(30):
        bucket.add(
            f"submissions/2/{number:02}.webp", b"x" * number, age=timedelta(days=60 - number)
        )
    document = told(plan(bucket))
    sizes = [one["bytes"] for one in document["largest"]]
    assert (len(sizes), sizes) == (20, sorted(sizes, reverse=True))
    assert document["largest"][0]["key"] == "submissions/2/29.webp"
    assert [one["key"][-7:] for one in document["oldest"]] == [f"{n:02}.webp" for n in range(5)]
    assert [one["key"] for one in document["youngest"]][:2] == [ORPHAN, "submissions/2/29.webp"]


def test_a_pattern_protects_the_keys_that_hold_its_brackets_and_those_it_means(bucket, settings):
    patterns = ["submissions/[slug]/*", "submissions/photo [1].webp"]
    change_settings(settings, PROTECTED=patterns)
    for key in ("[slug]/a.webp", "s/a.webp", "photo [1].webp", "photo 1.webp", "photo 2.webp"):
        bucket.add(f"submissions/{key}", b"12345", age=5 * WEEK)
    left = told(plan(bucket))["not_counted"]
    assert [one["objects"] for one in left if one["what"] == "protected"] == [4]


def test_what_is_not_counted_is_told_with_its_reason(bucket, settings):
    change_settings(settings, PROTECTED=["submissions/*.json"], DERIVED=["{stem}__sized__*"])
    purge(bucket)
    for key in (ORPHAN, "submissions/1/a.json", "submissions/1/named__sized__9.webp"):
        bucket.add(key, b"12345", age=5 * WEEK)
    for number in range(3):
        bucket.add(f"submissions/2/{number}.webp", b"12345", age=5 * WEEK)
    left = told(plan(bucket, prefix="submissions/2/", limit=2))["not_counted"]
    assert {
        one["what"]: (one["objects"], one["bytes"]) for one in left if one["what"] != "own"
    } == {
        "unmanaged": (1, 15),
        "outside_prefix": (3, 15),
        "over_limit": (1, 5),
    }
    assert next(one for one in left if one["what"] == "own")["objects"] >= 3
    kept = told(plan(bucket))["not_counted"]
    assert {one["what"] for one in kept} == {"unmanaged", "protected", "derived", "own"}
    assert all(one["reason"] for one in (*left, *kept))


# Requests and money


def test_the_price_of_the_requests_is_the_list_price():
    asked = forecast(
        {"STANDARD": 1_000_000, "STANDARD_IA": 1_000_000},
        {"STANDARD": GB, "STANDARD_IA": 5 * GB},
        listed=2_000_000,
        read=0,
        hard=False,
        prices=CLOUDFLARE,
    )
    standard, infrequent = asked.by_class["STANDARD"], asked.by_class["STANDARD_IA"]
    assert (standard.class_a, standard.class_b) == (1_000_000 + 2000 + 4, 3_000_003)
    assert (infrequent.class_a, infrequent.class_b) == (1_000_000, 3_000_000)
    expected = Decimal("4.5") * 1_002_004 / 10**6 + Decimal("0.36") * 3_000_003 / 10**6
    assert asked.usd == expected + 9 + Decimal("2.7") + Decimal("0.05")


def test_without_copies_only_a_head_is_asked_for_each_object():
    asked = forecast(
        {"STANDARD": 10}, {"STANDARD": 10}, listed=10, read=0, hard=True, prices=CLOUDFLARE
    )
    assert (asked.class_a, asked.class_b) == (4, 13)


@pytest.mark.parametrize("hard", [False, True], ids=["quarantine", "hard"])
def test_a_run_asks_for_no_more_than_was_forecast(bucket, hard, settings):
    change_settings(settings, EXTRA_REFERENCES={"objects": ["elsewhere/*"]})
    for number in range(50):
        bucket.add(f"submissions/2/{number}.webp", age=5 * WEEK)
    purge(bucket)
    for number in range(50):
        bucket.add(f"submissions/3/{number}.webp", age=5 * WEEK)
    asked = plan(bucket, hard=hard).forecast
    bucket.calls.clear()
    purge(bucket, hard=hard)
    made = [name for name, _ in bucket.calls]
    class_a = sum(name in ("list", "put", "copy") for name in made)
    class_b = sum(name in ("head", "get") for name in made)
    assert class_a <= asked.class_a <= class_a + 3
    # The fake looks at no copy after it was made.
    assert class_b <= asked.class_b <= class_b + 55


def test_nothing_to_delete_costs_nothing(bucket):
    planned = plan(bucket, prefix="apps/")
    assert (planned.forecast.class_a, planned.forecast.class_b, planned.forecast.usd) == (0, 0, 0)
    assert not any("It takes" in note for note in planned.notes)


def arrange_size(bucket: R2Fake, key: str, size: int) -> None:
    """Say that an object is as large as nobody would store in a test."""
    stored = bucket.objects[key]
    bucket.objects[key] = replace(stored, info=replace(stored.info, size=size))


def test_the_saving_is_said_to_begin_when_the_quarantine_is_emptied(bucket):
    arrange_size(bucket, NAMED, 40 * GB)
    arrange_size(bucket, ORPHAN, 4 * GB)
    planned = plan(bucket)
    assert told(planned)["quarantine"] == {"bytes": 4 * GB, "usd_per_month": "0.060"}
    (note,) = (note for note in planned.notes if note.startswith("It saves"))
    assert note.startswith("It saves $0.0600 a month (3.7 GiB), but nothing before")
    hard = plan(bucket, hard=True)
    assert told(hard)["quarantine"]["bytes"] == 0
    assert "It saves $0.0600 a month (3.7 GiB)." in hard.notes


# NOT_REFERENCES


def test_a_plan_says_what_each_entry_of_not_references_would_have_kept(bucket, settings, alias):
    bucket.add("submissions/2/logged.webp", age=5 * WEEK)
    with connections[alias].cursor() as cursor:
        cursor.execute("CREATE TABLE append_log (body text)")
        cursor.execute(f"INSERT INTO append_log VALUES ('{HOST}/{ORPHAN}'), ('{NAMED}'), ('x')")
    LegacyBanner.objects.using(alias).create(id=1, path="nothing")
    change_settings(
        settings,
        NOT_REFERENCES={"append_log": "a log", "oddities.LegacyBanner": "old", "nowhere": "gone"},
    )
    with dropped(alias, "append_log"):
        first, second, third = told(plan(bucket))["not_references"]
    assert first == {
        "name": "append_log",
        "reason": "a log",
        "cells": 3,
        "complete": True,
        "would_keep": 1,
        "example": ORPHAN,
        "error": None,
    }
    assert (second["cells"], second["would_keep"], second["example"]) == (1, 0, None)
    assert (third["name"], third["cells"]) == ("nowhere", 0)


def test_a_long_table_is_read_in_part_and_said_to_be(bucket, settings, monkeypatch):
    monkeypatch.setattr(excluded_sources, "MOST_CELLS", 1)
    Article.objects.create(body=ORPHAN)
    change_settings(settings, NOT_REFERENCES={"oddities.Article": "a log"})
    (entry,) = plan(bucket, overrides=frozenset({"empty"})).omissions
    assert not entry.is_whole
    assert "(only its first 2 cells were read)" in entry.as_sentence()


def test_an_entry_that_cannot_be_read_is_told_and_harms_nothing(bucket, settings, monkeypatch):
    change_settings(settings, NOT_REFERENCES={"postgres": "another team's"})

    def fail(connection):
        raise OperationalError("could not connect: password=secret")

    monkeypatch.setattr("r2maint.keepset.read_texts.list_tables", _failing_for("postgres", fail))
    (entry,) = plan(bucket).omissions
    assert entry.as_sentence() == (
        "not known: The database cannot be read as a whole: 'postgres' (OperationalError)."
    )
    assert "secret" not in json.dumps(entry.as_dict())


def _failing_for(alias, fail):
    return lambda connection: (fail if connection.alias == alias else list_tables)(connection)


def test_an_alias_is_looked_into_as_a_whole(bucket, settings):
    Article.objects.using("postgres").create(body=ORPHAN)
    assert verdicts(plan(bucket)) == {}
    change_settings(settings, NOT_REFERENCES={"postgres": "another team's"})
    planned = plan(bucket)
    assert verdicts(planned) == {ORPHAN: "orphan"}
    assert planned.omissions[0].would_keep == 1


def test_where_nothing_is_left_to_keep_no_entry_is_read(bucket, settings, monkeypatch):
    change_settings(settings, NOT_REFERENCES={"oddities.LegacyBanner": "old"})
    Article.objects.create(body=ORPHAN)
    monkeypatch.setattr("r2maint.keepset.read_texts.KeepSet.iter_omitted", None)
    (entry,) = plan(bucket).omissions
    assert entry.as_sentence() == "not looked into: no object is left that it could keep"


# Hosts


@pytest.mark.parametrize(
    ("written", "host"),
    [
        ("https://m.example.org/submissions/1/a b.webp", None),
        ("https://m.example.org/submissions/1/a%20b.webp", "m.example.org"),
        ("<img src='//M.example.org:443/media/submissions/1/a%20b.webp?x=1'>", "m.example.org"),
        (
            '{"url": "https://u:p@m.example.org:8443/submissions/1/a%20b.webp"}',
            "m.example.org:8443",
        ),
        ("![](https://m.example.org/submissions/1/a%20b.webp)", "m.example.org"),
        ("/submissions/1/a%20b.webp", None),
        ("https://m.example.org/submissions/2/a%20b.webp", None),
    ],
)
def test_a_url_counts_for_its_host_where_it_names_a_key(written, host):
    counted = count_hosts(written, {"submissions/1/a b.webp"})
    assert dict(counted) == ({host: 1} if host else {})


# Lifecycle rules


def notes(bucket: R2Fake, *rules: Expiry) -> list[str]:
    bucket.expiries = lambda: rules
    return [note for note in plan(bucket).notes if "ifecycle" in note or "UNDO_WINDOW" in note]


def test_a_rule_that_deletes_named_objects_is_told(bucket):
    rule = Expiry(name="tmp", prefix="submissions/", days=30)
    assert notes(bucket, rule) == [
        "Lifecycle rule 'tmp' deletes what is below 'submissions/' 30 days after it was written:"
        " 1 object of these something names."
    ]
    assert notes(bucket, replace(rule, prefix="elsewhere/")) == []


def test_a_rule_that_empties_the_quarantine_is_told_with_its_days(bucket):
    rule = Expiry(name="", prefix=".r2maint/quarantine/", days=7)
    first, second = notes(bucket, rule)
    assert first.startswith(
        "Lifecycle rule '(no name)' deletes what is below '.r2maint/quarantine/' 7 days after"
    )
    assert second == "UNDO_WINDOW is 30 days, and that rule leaves 7."
    assert len(notes(bucket, replace(rule, days=30))) == 1
    every = Expiry(name="all", at=datetime(2026, 2, 1, tzinfo=UTC))
    assert [note.partition(": ")[0] for note in notes(bucket, every)] == 2 * [
        "Lifecycle rule 'all' deletes every object on 2026-02-01"
    ]


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (AccessDenied("The token may not."), "the token may not"),
        (BucketError("GetBucketLifecycle failed (501)."), "GetBucketLifecycle failed (501)"),
    ],
)
def test_rules_that_cannot_be_read_are_told_of(bucket, error, why):
    def refuse():
        raise error

    bucket.expiries = refuse
    planned = plan(bucket)
    told = f"Lifecycle rules could not be read ({why}): "
    assert any(note.startswith(told) for note in planned.notes)
    assert (brakes(planned), planned.has_work) == ([], True)


# As text


def test_the_text_of_a_plan_fits_a_hundred_columns(bucket):
    for number in range(40):
        bucket.add(f"submissions/{number}/screenshots/{number}.webp", b"x" * 999, age=5 * WEEK)
    bucket.add("submissions/99/young.webp")
    shown = text(plan(bucket, grace=WEEK))
    assert max(map(len, shown.splitlines())) <= 100
    assert "To delete: 41 objects, 39.0 KiB (95.3% of 43 managed objects)" in shown
    for title in ("Largest", "Oldest and youngest", "Due later", "Not counted"):
        assert f"\n{title}" in shown
    assert "2026-01-08" in shown


def test_a_short_plan_names_each_object_once(bucket):
    assert text(plan(bucket)).count(ORPHAN) == 1


def test_a_plan_with_nothing_due_says_so_and_names_what_waits(bucket):
    shown = text(plan(bucket, PurgeOptions(adopt=True)))
    assert "Nothing to delete of 2 managed objects" in shown
    assert ORPHAN in shown
    assert "waiting" in shown


def test_all_lists_everything(bucket):
    assert "elsewhere/a.txt" in text(plan(bucket, everything=True))


def test_the_document_of_a_refused_listing_has_the_same_keys(bucket):
    whole = set(plan(bucket).extra)

    def lie(operation: str, key: str) -> None:
        if operation == "list":
            raise InvalidListing("out of order")

    bucket.before = lie
    assert set(plan(bucket).extra) == whole


def test_the_command_prints_all_of_it(project):
    made = open_bucket(conf.load())
    list(made.put_many(Upload(key=key, body=b"1") for key in (NAMED, ORPHAN)))
    Article.objects.create(body=NAMED)
    out = StringIO()
    call_command(
        "purge_orphans",
        "--grace=0",
        "--no-second-look",
        "--adopt",
        "--format=json",
        stdout=out,
        stderr=StringIO(),
    )
    document = json.loads(out.getvalue())
    assert {
        "requests",
        "quarantine",
        "prefixes",
        "due",
        "largest",
        "oldest",
        "youngest",
        "not_counted",
        "not_references",
    } <= document.keys()
    assert document["requests"]["usd"] == "0.00002916"
    assert date.fromisoformat(document["started_at"][:10])


# Class


def test_copies_of_infrequent_access_are_priced_with_their_retrieval(bucket):
    bucket.add(ORPHAN, headers=Headers(storage_class="STANDARD_IA"), age=5 * WEEK)
    arrange_size(bucket, ORPHAN, 100 * GB)
    asked = plan(bucket, AT_ONCE).forecast
    assert asked.by_class["STANDARD_IA"].copied_bytes == 100 * GB
    assert asked.usd > 1
