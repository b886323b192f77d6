"""`manage.py reoptimize`, as a script sees it."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from r2maint.bucket import Headers, Upload, get, open_bucket, put
from r2maint.conf import load
from r2maint.keys import Addresses
from tests.appdirectory import drawings
from tests.appdirectory.models import AppSubmission
from tests.commands import apply, run
from tests.conftest import DATABASES
from tests.servers.s3_server import proxy

pytestmark = [pytest.mark.thorough, pytest.mark.django_db(transaction=True, databases=DATABASES)]

BASE = "https://media.example.org/"
SUMMARY = [
    "objects",
    "candidates",
    "converted",
    "skipped",
    "failed",
    "bytes_before",
    "bytes_after",
    "saved_bytes",
    "saved_percent",
    "saved_usd_per_month",
    "freed_at",
]


def store(key: str, body: bytes) -> None:
    headers = Headers(content_type="image/png")
    put(open_bucket(load()), Upload(key=key, body=body, headers=headers))


def submission(**values: object) -> AppSubmission:
    number = AppSubmission.objects.count() + 1
    return AppSubmission.objects.create(tracking_id=f"QAD-{number:06d}", **values)


@pytest.fixture
def row(project) -> AppSubmission:
    """An icon and a screenshot in the bucket, named by one row."""
    store("icons/a.png", drawings.icon(1))
    store("shots/a.png", drawings.screenshot(1, rtl=True, size=(360, 640)))
    return submission(app_icon_url=f"{BASE}icons/a.png", screenshots_ar=[f"{BASE}shots/a.png"])


def test_a_plan_exits_with_0_and_promises_its_summary(row):
    document = run("reoptimize")
    assert set(SUMMARY) <= set(document["summary"])
    assert document["summary"]["candidates"] == 2
    assert document["summary"]["converted"] == 0
    assert document["run_id"] is None
    assert {item["action"] for item in document["items"]} == {"convert"}
    row.refresh_from_db()
    assert row.app_icon_url == f"{BASE}icons/a.png"


def test_apply_converts_and_a_second_time_finds_nothing(row):
    assert run("reoptimize", "--check", exit_code=3)["summary"]["candidates"] == 2

    document = apply("reoptimize")

    assert document["summary"]["converted"] == 2
    assert document["summary"]["saved_percent"] > 5
    assert isinstance(document["summary"]["saved_usd_per_month"], str)
    row.refresh_from_db()
    target = Addresses.from_config(load()).locate(row.screenshots_ar[0])
    assert get(open_bucket(load()), target.key).body[8:12] == b"WEBP"
    run("reoptimize", "--check")
    again = apply("reoptimize")
    assert again["summary"]["converted"] == 0
    assert again["summary"]["skipped"] == {"already": 2}
    assert again["items"] == []


def test_a_run_can_be_undone(row):
    before = (row.app_icon_url, row.screenshots_ar)
    run_id = apply("reoptimize")["run_id"]
    row.refresh_from_db()
    assert (row.app_icon_url, row.screenshots_ar) != before
    apply("r2_runs", run_id, "--undo")
    row.refresh_from_db()
    assert (row.app_icon_url, row.screenshots_ar) == before


def test_items_that_are_fine_are_listed_on_request(row):
    apply("reoptimize")
    reasons = [item["reason"] for item in run("reoptimize", "--all")["items"]]
    assert reasons == ["already", "already"]


def test_a_broken_picture_is_exit_code_3(row):
    store("broken.png", b"\x89PNG\r\n\x1a\n" + b"\0" * 5000)
    submission(app_icon_url=f"{BASE}broken.png")
    document = apply("reoptimize", exit_code=3)
    assert document["summary"]["failed"] == 1
    assert document["summary"]["converted"] == 2
    assert [item["reason"] for item in document["items"] if item["action"] == "fail"] == ["corrupt"]


def test_options_reach_the_encoder(row):
    document = run("reoptimize", "--max-size", "100x90", "--quality", "60", "--min-saving", "10%")
    after = {item["key"]: item["bytes_after"] for item in document["items"]}
    plain = {item["key"]: item["bytes_after"] for item in run("reoptimize")["items"]}
    assert all(after[key] < plain[key] / 2 for key in plain)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--quality", "0"),
        ("--quality", "high"),
        ("--min-ssim", "2"),
        ("--max-size", "2000"),
        ("--max-size", "0x5"),
        ("--min-saving", "101%"),
        ("--sample", "-1"),
        ("--to", "jpeg"),
        ("--model", "appdirectory.Nothing"),
    ],
    ids=" ".join,
)
def test_options_without_sense_are_usage_errors(row, arguments):
    with pytest.raises(CommandError) as caught:
        call_command("reoptimize", *arguments, stdout=StringIO(), stderr=StringIO())
    assert caught.value.returncode == 2


def test_nothing_is_applied_unasked(row):
    with pytest.raises(CommandError) as caught:
        call_command("reoptimize", "--apply", stdout=StringIO(), stderr=StringIO())
    assert caught.value.returncode == 1
    assert "--no-input" in str(caught.value)
    row.refresh_from_db()
    assert row.app_icon_url == f"{BASE}icons/a.png"


def test_text_names_what_is_saved_and_when_it_is_free(row):
    out = StringIO()
    call_command("reoptimize", stdout=out, stderr=StringIO())
    text = out.getvalue()
    assert "icons/a.png" in text
    assert "KiB" in text
    assert "purge_orphans" in text


def test_json_lines_hold_one_item_each(row):
    out = StringIO()
    call_command("reoptimize", "--format", "jsonl", stdout=out, stderr=StringIO())
    kinds = [json.loads(line)["type"] for line in out.getvalue().splitlines()]
    assert kinds == ["item", "item", "summary"]


def test_a_second_run_sends_nothing_but_requests_for_the_listing(remote, settings, s3_server):
    with proxy(s3_server) as between:
        settings.R2MAINT = {**settings.R2MAINT, "ENDPOINT_URL": between.url}
        store("icons/a.png", drawings.icon(1))
        submission(app_icon_url=f"{BASE}icons/a.png")
        assert apply("reoptimize")["summary"]["converted"] == 1
        between.requests.clear()

        again = apply("reoptimize")

        assert again["summary"]["skipped"] == {"already": 1}
        assert again["run_id"] is None
        assert between.requests
        assert all("list-type=2" in each.target for each in between.requests)
