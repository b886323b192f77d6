"""Every writing command on a server that sends no Date, as Cloudflare's local R2 sends none."""

from __future__ import annotations

import pytest

from r2maint import conf
from r2maint.bucket import Headers, Upload, get, open_bucket, put
from r2maint.models import Sighting
from tests.appdirectory import drawings
from tests.appdirectory.models import AppSubmission
from tests.commands import apply, run
from tests.conftest import DATABASES
from tests.servers.s3_server import proxy

pytestmark = [pytest.mark.thorough, pytest.mark.django_db(transaction=True, databases=DATABASES)]

BASE = "https://media.example.org/"
AT_ONCE = ("--grace", "0", "--no-second-look", "--max-delete", "100%")
NAMED, ORPHAN = "submissions/A/named.png", "submissions/A/old.png"


@pytest.fixture
def between(remote, settings, s3_server):
    """A proxy that removes the Date of every answer; the project works through it."""
    with proxy(s3_server) as state:
        state.edit = lambda request, headers, body: (
            {name: value for name, value in headers.items() if name != "Date"},
            body,
        )
        settings.R2MAINT = {**settings.R2MAINT, "ENDPOINT_URL": state.url}
        yield state


@pytest.fixture
def bucket(between):
    made = open_bucket(conf.load())
    for key in (NAMED, ORPHAN):
        headers = Headers(content_type="image/png")
        put(made, Upload(key=key, body=drawings.icon(1), headers=headers))
    AppSubmission.objects.create(tracking_id="A", screenshots_en=[BASE + NAMED])
    between.requests.clear()
    return made


def media(bucket):
    return [one.key for page in bucket.list_pages() for one in page if one.key[0] != "."]


def told(document):
    return [note for note in document.get("notes", ()) if "no Date" in note]


@pytest.mark.parametrize(
    "command",
    [
        ("purge_orphans", *AT_ONCE),
        ("purge_orphans", "--explain", ORPHAN),
        ("purge_orphans", "--empty-quarantine"),
        ("purge_orphans", "--abort-uploads", "0"),
        ("reoptimize",),
        ("usage_report",),
    ],
)
def test_a_plan_writes_nothing_to_the_bucket_and_tells_whose_clock_it_took(
    bucket, between, command
):
    assert told(run(*command))
    assert {request.method for request in between.requests} <= {"GET", "HEAD"}


def test_a_plan_without_the_buckets_time_is_no_first_look(bucket):
    run("purge_orphans", *AT_ONCE)
    assert not Sighting.objects.exists()


def test_a_purge_that_applies_is_a_first_look_and_takes_the_buckets_time(bucket):
    document = apply("purge_orphans", "--grace", "0", "--max-delete", "100%", "--adopt")
    assert not told(document)
    assert Sighting.objects.count() == 1
    again = apply("purge_orphans", "--grace", "0", "--max-delete", "100%", "--adopt")
    assert again["summary"]["deleted"] == 1
    assert media(bucket) == [NAMED]


def test_what_a_purge_deleted_comes_back(bucket):
    run_id = apply("purge_orphans", *AT_ONCE, "--adopt")["run_id"]
    assert media(bucket) == [NAMED]
    assert apply("r2_runs", run_id, "--undo")["summary"]["restored"] == 1
    assert get(bucket, ORPHAN).body == drawings.icon(1)


def test_files_move_into_the_bucket_and_back(bucket, remote):
    (remote / "media" / "icon.png").write_bytes(drawings.icon(2))
    row = AppSubmission.objects.create(tracking_id="B", app_icon_url="/media/icon.png")
    run_id = apply("migrate_media_to_r2")["run_id"]
    row.refresh_from_db()
    assert row.app_icon_url.startswith(BASE)
    apply("r2_runs", run_id, "--undo")
    row.refresh_from_db()
    assert row.app_icon_url == "/media/icon.png"


def test_pictures_are_encoded_again(bucket):
    apply("reoptimize", "--to", "webp")
    (url,) = AppSubmission.objects.get().screenshots_en
    assert url.endswith(".webp")


def test_values_are_repaired(bucket):
    alias = conf.load().aliases[0] + NAMED
    AppSubmission.objects.update(screenshots_en=[alias])
    apply("verify_urls", "--repair", "alias")
    assert AppSubmission.objects.get().screenshots_en == [BASE + NAMED]


def test_old_copies_are_removed(bucket):
    apply("purge_orphans", *AT_ONCE, "--adopt")
    document = apply("purge_orphans", "--empty-quarantine", "--older-than", "0")
    assert document["exit_code"] == 0


def test_no_object_written_for_its_time_stays(bucket):
    apply("purge_orphans", *AT_ONCE, "--adopt")
    keys = [one.key for page in bucket.list_pages(".r2maint/") for one in page]
    assert not [key for key in keys if "clock" in key]
