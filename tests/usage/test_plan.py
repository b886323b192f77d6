"""What is in a bucket, who names it, and what it costs."""

from __future__ import annotations

import csv
import json
import re
from datetime import timedelta
from decimal import Decimal
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from r2maint import signals
from r2maint.bucket import Upload, open_bucket, put
from r2maint.conf import load
from r2maint.control import Control
from r2maint.errors import Stopped
from r2maint.management.commands._options import gigabytes
from r2maint.management.commands.usage_report import Command
from r2maint.pricing import CLOUDFLARE, GB, INFREQUENT_ACCESS, STANDARD, bill, load_prices, month_of
from r2maint.references.scope import Scope
from r2maint.rendering import Report
from r2maint.rendering.as_text import write_text
from r2maint.usage.groups import (
    AGES,
    Count,
    GroupBy,
    Grouping,
    ages_at,
    groups_of,
    prefix_of,
    type_of,
)
from tests.appdirectory.models import App, AppSubmission
from tests.conftest import DATABASES
from tests.worlds.listing_only import NOW, PUBLIC, Listed, listed, measure, submission

pytestmark = [pytest.mark.django_db(databases=DATABASES), pytest.mark.usefixtures("project")]
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "usage.md").read_text()
DAY = timedelta(days=1)
"""In microseconds."""


@pytest.mark.parametrize(
    ("uploads", "note"),
    [
        (None, "this server cannot list them"),
        (3, "3 unfinished uploads (6.0 KiB of parts): billed"),
        (0, None),
    ],
)
def test_unfinished_uploads_are_told_where_the_server_lists_them(uploads, note):
    measured = measure(Listed(uploads=uploads))
    assert measured.summary()["pending_uploads"] == uploads
    assert [each for each in measured.notes if "unfinished" in each.lower()] == [
        each for each in measured.notes if note and note in each
    ]
    assert any(note in each for each in measured.notes) if note else True


# Names of groups


@pytest.mark.parametrize(
    ("key", "depth", "name"),
    [
        ("a/b/c.png", 1, "a/"),
        ("a/b/c.png", 2, "a/b/"),
        ("a/b/c.png", 9, "a/b/"),
        ("c.png", 1, "(top level)"),
        ("a//c.png", 2, "a//"),
        ("/c.png", 1, "/"),
        ("folder/", 1, "folder/"),
    ],
)
def test_a_prefix_ends_in_a_slash(key, depth, name):
    assert prefix_of(key, depth) == name


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("a/b.WEBP", "webp"),
        ("b.jpeg", "jpg"),
        ("b.tar.gz", "gz"),
        ("README", "(none)"),
        (".hidden", "hidden"),
        ("v1.2/file", "(none)"),
        ("icon.Not Found", "(none)"),
        ("a.", "(none)"),
    ],
)
def test_a_type_is_the_extension(key, name):
    assert type_of(key) == name


def test_every_age_has_its_span():
    ages = ages_at(NOW)
    assert [ages(NOW - days * DAY) for days in (0, 7, 30, 90, 365)] == list(AGES)
    assert ages(NOW + DAY) == AGES[0]
    assert ages(NOW - 7 * DAY + timedelta(microseconds=1)) == AGES[0]


# Shares


def shares(sizes: dict[str, int], *, top: int | None = None) -> dict[str, Decimal]:
    listing = Grouping({name: Count(1, {STANDARD: size}) for name, size in sizes.items()})
    stored = {STANDARD: sum(sizes.values())}
    groups = groups_of(listing, GroupBy.TYPE, bill(month_of(stored)), stored, top=top)
    return {group.name: group.usd_per_month for group in groups}


def test_shares_add_up_to_the_storage_bill_exactly():
    found = shares(dict.fromkeys("abcdefg", 3 * GB))
    assert sum(found.values()) == bill(month_of({STANDARD: 21 * GB})).storage_usd
    assert max(found.values()) - min(found.values()) <= Decimal("0.000001")


def test_top_leaves_the_rest_as_one_group():
    found = shares({"a": 30 * GB, "b": 20 * GB, "c": 6 * GB, "d": 4 * GB}, top=2)
    assert list(found) == ["a", "b", "(other)"]
    assert sum(found.values()) == Decimal("0.75")


def test_top_keeps_the_largest_also_where_groups_have_an_order_of_their_own():
    listing = Grouping({name: Count(1, {STANDARD: n}) for n, name in enumerate(AGES, 1)})
    cost = bill(month_of({STANDARD: 15}))
    groups = groups_of(listing, GroupBy.AGE, cost, {STANDARD: 15}, top=2)
    assert [(each.name, each.bytes) for each in groups] == [
        (AGES[3], 4),
        (AGES[4], 5),
        ("(other)", 6),
    ]


def test_a_share_is_of_the_bill_of_its_own_class():
    stored = {STANDARD: 20 * GB, INFREQUENT_ACCESS: 5 * GB}
    listing = Grouping(
        {"hot": Count(1, {STANDARD: 20 * GB}), "cold": Count(1, {INFREQUENT_ACCESS: 5 * GB})}
    )
    groups = groups_of(listing, GroupBy.TYPE, bill(month_of(stored)), stored, top=None)
    assert {g.name: g.usd_per_month for g in groups} == {
        "hot": Decimal("0.15"),
        "cold": Decimal("0.05"),
    }


def test_too_many_names_are_folded_so_memory_stays_flat(monkeypatch):
    monkeypatch.setattr("r2maint.usage.groups.MAX_GROUPS", 3)
    listing = Grouping()
    for number in range(10):
        listing.add(f"p{number}/", 1, 1, STANDARD)
    assert listing.is_folded
    assert listing.counts["(other)"].objects == 7
    assert len(listing.counts) == 4


# Measuring


def test_an_empty_bucket_costs_nothing():
    usage = measure(Listed())
    assert set(usage.summary().values()) == {0}
    assert usage.cost.total_usd == 0
    assert not usage.findings


def test_referenced_orphaned_quarantined_and_missing_are_told_apart():
    submission("A", app_icon_url=f"{PUBLIC}submissions/a.png", main_image_en=f"{PUBLIC}no.png")
    usage = measure(
        Listed(
            listed("submissions/a.png", 1),
            listed("submissions/b.png", 20),
            listed(".r2maint/quarantine/run/c.png", 300),
            listed(".r2maint/owner", 4000),
            uploads=2,
        )
    )
    assert usage.summary() == {
        "objects": 4,
        "bytes": 4321,
        "referenced_bytes": 1,
        "orphan_bytes": 20,
        "quarantined_bytes": 300,
        "missing_references": 1,
        "duplicate_bytes": 0,
        "pending_uploads": 2,
        "pending_upload_bytes": 4096,
        "shared_objects": 0,
        "shared_bytes": 0,
        "duplicate_objects": 0,
        "empty_objects": 0,
    }


def test_groups_of_each_kind_cover_every_object_once():
    submission("A", app_icon_url=f"{PUBLIC}submissions/a.png")
    usage = measure(
        Listed(
            listed("submissions/a.png", 10, days=3),
            listed("apps/1.json", 20, days=400, storage_class=INFREQUENT_ACCESS),
            listed("top.JPEG", 30, days=40),
        )
    )
    names = {by: [group.name for group in groups] for by, groups in usage.groups.items()}
    assert names == {
        GroupBy.PREFIX: ["(top level)", "apps/", "submissions/"],
        GroupBy.TYPE: ["jpg", "json", "png"],
        GroupBy.MODEL: ["(unreferenced)", "appdirectory.AppSubmission.app_icon_url"],
        GroupBy.CLASS: [STANDARD, INFREQUENT_ACCESS],
        GroupBy.AGE: ["under 7 days", "30 to 90 days", "over a year"],
        GroupBy.SIZE: ["under 10 KiB"],
    }
    for groups in usage.groups.values():
        assert sum(group.objects for group in groups) == 3
        assert sum(group.bytes for group in groups) == 60


def test_an_object_of_several_fields_is_counted_once_and_the_notes_say_so():
    url = f"{PUBLIC}submissions/a.png"
    submission("A", main_image_en=url, main_image_ar=url, screenshots_en=[url, url])
    submission("B", main_image_en=url)
    usage = measure(Listed(listed("submissions/a.png", 2048)), by=(GroupBy.MODEL,))
    (group,) = usage.groups[GroupBy.MODEL]
    assert (group.name, group.objects) == ("appdirectory.AppSubmission.main_image_ar", 1)
    assert usage.notes[0].startswith("1 object (2.0 KiB) named by several fields")


def test_several_rows_of_one_field_are_no_sharing():
    for name in "AB":
        submission(name, app_icon_url=f"{PUBLIC}submissions/a.png")
    assert measure(Listed(listed("submissions/a.png"))).notes == ()


def test_a_local_file_that_was_not_moved_yet_is_not_missing():
    App.objects.create(name_en="x", main_image_en="apps/main/local.png")
    assert measure(Listed()).missing_references == 0


def test_duplicates_are_copies_beyond_the_first():
    usage = measure(
        Listed(
            listed("a", 100, etag="same"),
            listed("b", 100, etag="same"),
            listed("c", 100, etag="same", storage_class=INFREQUENT_ACCESS),
            listed("d", 200, etag="same"),
            listed("e", 0, etag="empty"),
            listed("f", 0, etag="empty"),
        )
    )
    assert usage.duplicates.extra == Count(2, {STANDARD: 100, INFREQUENT_ACCESS: 100})


def test_the_bill_is_that_of_the_listing_and_the_operations_given():
    usage = measure(
        Listed(listed("a", 1000 * GB), listed("b", 5 * GB, storage_class=INFREQUENT_ACCESS)),
        class_a=2_000_000,
        class_b=300_000_000,
    )
    assert usage.cost.storage_usd == Decimal("14.90")
    assert usage.cost.total_usd == Decimal("14.90") + Decimal("4.50") + Decimal("104.40")


def test_what_is_retrieved_is_billed_as_given():
    usage = measure(
        Listed(listed("a", 5 * GB, storage_class=INFREQUENT_ACCESS)), retrieved_bytes=11 * GB // 10
    )
    # 1.1 GB are rounded up to 2. Source: https://developers.cloudflare.com/r2/pricing/
    assert usage.cost.retrieval_usd == Decimal("0.02")
    assert "1.0 GiB are retrieved from Infrequent Access a month, as given." in (
        usage.cost.assumptions
    )
    assert usage_report("--retrieved", "1.1GB")[1]["cost"]["retrieval_usd"] == "0.02"


def test_days_before_count_with_their_peaks_and_the_bill_says_so():
    size = {STANDARD: 40 * GB}
    usage = measure(
        Listed(listed("a", 10 * GB)),
        peaks={NOW.date() - timedelta(days=29): size, NOW.date(): {STANDARD: 25 * GB}},
    )
    # 29 days of 40 GB and today's peak of 25 GB: 39.5 GB-months, 10 of them free.
    assert usage.cost.storage_usd == 30 * Decimal("0.015")
    assert any("2 of 30 as reports saw them" in each for each in usage.cost.assumptions)


def test_without_days_before_what_is_stored_stays():
    usage = measure(Listed(listed("a", 11 * GB)))
    assert any("stored now stays all month" in each for each in usage.cost.assumptions)


def test_what_is_stored_by_now_is_the_peak_when_it_is_more():
    usage = measure(Listed(listed("a", 12 * GB)), peaks={NOW.date(): {STANDARD: GB}})
    assert usage.cost.storage_usd == Decimal("0.030")


def test_the_same_month_is_priced_at_s3_when_asked():
    bucket = Listed(listed("a", 1000 * GB))
    options = {"class_a": 100_000, "egress_bytes": 1024 * GB}
    r2, s3 = measure(bucket, compare=True, **options).comparison
    assert r2.by_rules.total_usd == Decimal("14.85")
    assert s3.by_rules.total_usd == Decimal("21.42") + Decimal("0.50") + Decimal("76.83")
    assert measure(bucket, **options).comparison == ()


def test_egress_that_nobody_told_is_no_cost_and_missed():
    _, s3 = measure(Listed(listed("a", GB)), compare=True).comparison
    assert s3.by_rules.egress_usd == 0
    assert "give --egress" in s3.assumptions[-1]
    _, s3 = measure(Listed(listed("a", GB)), compare=True, egress_bytes=0).comparison
    assert not any("--egress" in each for each in s3.assumptions)


def test_savings_are_what_the_bill_falls_by():
    usage = measure(Listed(listed("a", 11 * GB), listed("b", 3 * GB)))
    saved = {saving.what: saving.usd_per_month for saving in usage.savings}
    assert saved["orphans"] == Decimal("0.060")
    assert saved["quarantine"] == 0


def test_prices_of_the_settings_are_used(settings):
    settings.R2MAINT = {**settings.R2MAINT, "PRICES": {"free": {"storage": 0}}}
    assert measure(Listed(listed("a", 1))).cost.total_usd == Decimal("0.015")


def test_a_prefix_counts_only_what_is_below_it():
    submission("A", app_icon_url=f"{PUBLIC}submissions/no.png", main_image_en=f"{PUBLIC}apps/no")
    usage = measure(
        Listed(listed("submissions/a.png"), listed("apps/b.png")),
        scope=Scope(prefix="submissions/"),
    )
    assert (usage.total.objects, usage.missing_references) == (1, 1)


@pytest.mark.parametrize(("prefix", "is_told"), [("sumbissions/", True), ("a", False), ("", False)])
def test_a_prefix_that_nothing_is_below_is_told(prefix, is_told):
    found = [listed("apps/b.png")] if prefix else []
    notes = measure(Listed(*found), scope=Scope(prefix=prefix)).notes
    assert any("--prefix" in note and prefix in note for note in notes) is is_told


def test_a_narrowed_scope_counts_its_objects_and_calls_nothing_an_orphan():
    submission("A", app_icon_url=f"{PUBLIC}a.png")
    submission("B", main_image_en=f"{PUBLIC}b.png")
    usage = measure(
        Listed(listed("a.png", 1), listed("b.png", 20), listed("c.png", 300)),
        scope=Scope(fields=("app_icon_url",)),
    )
    assert usage.summary()["bytes"] == 1
    assert usage.summary()["orphan_bytes"] is None
    assert "cannot be told" in usage.notes[0]


def test_a_stop_request_ends_it():
    with pytest.raises(Stopped):
        measure(Listed(listed("a")), control=Control(deadline=0))


@pytest.mark.parametrize(
    ("limits", "crossed"),
    [
        (["--max-orphans", "50%"], False),
        (["--max-orphans", "49.9"], True),
        (["--max-missing", "1"], False),
        (["--max-missing", "0"], True),
        (["--budget", "0"], False),
        (["--class-a", "1000001", "--budget", "4.49"], True),
        (["--class-a", "1000001", "--budget", "$4.50"], False),
    ],
)
def test_a_crossed_limit_exits_3_and_is_signalled(limits, crossed):
    fill()
    heard = []

    def hear(sender, findings, **kwargs):
        heard.append((sender, findings))

    signals.threshold_crossed.connect(hear)
    try:
        code, document = usage_report(*limits)
    finally:
        signals.threshold_crossed.disconnect(hear)
    assert code == (3 if crossed else 0)
    assert bool(document["crossed"]) == bool(heard) == crossed


def test_the_document_holds_what_the_contract_names():
    fill()
    code, document = usage_report("--depth", "2")
    assert code == 0
    assert document["summary"]["objects"] == 2
    assert set(document["cost"]) == {
        *("storage_usd", "class_a_usd", "class_b_usd", "retrieval_usd", "total_usd"),
        *("billable", "assumptions"),
    }
    assert set(document["groups"]) == {"prefix", "type", "model", "class", "age", "size"}
    assert document["groups"]["prefix"][0] == {
        "name": "submissions/A/",
        "objects": 1,
        "bytes": 10,
        "usd_per_month": "0.00",
    }
    orphans = document["savings"][0]
    assert (orphans["what"], orphans["bytes"], orphans["usd_per_month"]) == ("orphans", 10, "0.00")
    assert document["run_id"] is None


def test_the_comparison_is_in_the_document():
    fill()
    code, document = usage_report("--compare", "--egress", "1TiB")
    assert code == 0
    r2, s3 = document["comparison"]
    assert (r2["provider"], s3["provider"]) == ("Cloudflare R2", "Amazon S3")
    assert (r2["egress_usd"], s3["egress_usd"], s3["total_usd"]) == ("0.00", "83.16", "83.16")
    assert s3["list_price"]["egress_usd"] == "98.96"
    assert usage_report()[1]["comparison"] == []


def test_text_shows_the_comparison_and_what_it_assumes():
    fill()
    out = StringIO()
    call_command("usage_report", compare=True, egress=1024, stdout=out)
    for part in ("Compared with Amazon S3", "Cloudflare R2", "$76.83", "$92.16", "2^30 bytes"):
        assert part in out.getvalue()


def test_the_comparison_of_the_page_is_what_is_printed():
    month = measure(
        Listed(listed("a", 1000 * GB)), compare=True, class_a=100_000, egress_bytes=1024 * GB
    )
    out = StringIO()
    (table,) = [each for each in Command().sections(month) if each.title.endswith("a month")]
    write_text(
        Report(
            command="usage_report", bucket="", started_at=NOW, finished_at=NOW, sections=[table]
        ),
        out,
    )
    lines = out.getvalue().rstrip().splitlines()
    assert len(lines) == 6
    assert "".join(f"    {line}\n" for line in lines) in PAGE


def test_the_prices_of_the_page_are_those_of_the_tables():
    s3, r2 = CLOUDFLARE.aws_s3, CLOUDFLARE
    for price in (
        *(tier.price for tier in (*s3.storage, *s3.egress) if tier.price),
        s3.put,
        s3.get,
    ):
        assert f"| ${price} |" in PAGE
    for name in ("storage", "class_a", "class_b"):
        row = f"| ${getattr(r2.standard, name)} | ${getattr(r2.infrequent_access, name)} |"
        assert row in PAGE
    assert f"As of {s3.as_of:%-d %B %Y}" in PAGE


def test_the_prices_of_ones_own_on_the_page_can_be_loaded():
    examples = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    example = next(each for each in examples if "PRICES" in each)
    names: dict = {}
    exec(compile(example, "usage.md", "exec"), names)
    prices = load_prices(names["R2MAINT"]["PRICES"])
    assert (prices.source, len(prices.aws_s3.egress)) == ("contract 17", 3)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("500", 500 * GB),
        ("500GB", 500 * GB),
        ("1.5 TB", 1500 * GB),
        ("1tib", 2**40),
        ("20 b", 20),
        ("3KB", 3000),
        ("1PiB", 2**50),
    ],
)
def test_a_size_is_decimal_unless_it_says_binary(text, size):
    assert gigabytes(text) * GB == size


def test_csv_lists_the_groups():
    fill()
    out = StringIO()
    call_command("usage_report", "--format", "csv", "--by", "type", stdout=out)
    rows = list(csv.reader(StringIO(out.getvalue())))
    assert rows == [
        ["by", "name", "objects", "bytes", "usd_per_month"],
        ["type", "png", "2", "20", "0.00"],
    ]


def test_text_tells_cost_assumptions_and_limits():
    fill()
    out = StringIO()
    with pytest.raises(CommandError, match="over --max-missing 0"):
        call_command("usage_report", max_missing=0, stdout=out)
    for part in ("2 objects, 20 B, $0.00 a month", "Assumed", "free tier", "--max-missing 0"):
        assert part in out.getvalue()


@pytest.mark.parametrize(
    "words",
    [
        ["--apply"],
        ["--limit", "3"],
        ["--by", "colour"],
        ["--depth", "0"],
        ["--depth", str(2**63)],
        ["--top", str(2**63)],
        ["--class-a", str(2**63)],
        ["--class-b", "9" * 5000],
        ["--max-missing", str(2**63)],
        ["--budget", "lots"],
        ["--max-orphans", "-1%"],
        ["--egress", "1TB"],
        ["--compare", "--egress", "lots"],
        ["--compare", "--egress", "-1"],
        ["--compare", "--egress", "1iB"],
        ["--retrieved", "lots"],
    ],
)
def test_usage_errors_exit_2(words):
    with pytest.raises(CommandError) as caught:
        call_command("usage_report", *words)
    assert caught.value.returncode == 2


def test_nothing_is_written():
    fill()
    bucket = open_bucket(load())
    before = list(bucket.list_pages())
    usage_report()
    assert list(bucket.list_pages()) == before
    assert AppSubmission.objects.get().app_icon_url.endswith("/a.png")


def fill() -> None:
    """One object that a row names, one orphan, and one reference to nothing."""
    bucket = open_bucket(load())
    put(bucket, Upload(key="submissions/A/a.png", body=b"x" * 10))
    put(bucket, Upload(key="submissions/B/b.png", body=b"y" * 10))
    submission(
        "A", app_icon_url=f"{PUBLIC}submissions/A/a.png", main_image_en=f"{PUBLIC}submissions/no"
    )


def usage_report(*words: str) -> tuple[int, dict]:
    out, code = StringIO(), 0
    try:
        call_command("usage_report", "--format", "json", *words, stdout=out, stderr=StringIO())
    except CommandError as error:
        code = error.returncode
    return code, json.loads(out.getvalue())
