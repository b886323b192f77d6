"""A run that the database does not know comes back from the bucket's manifest alone."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest
from django.core.management import CommandError, call_command

from r2maint import conf
from r2maint.bucket import Headers, Upload, get, head, open_bucket, put
from r2maint.control import Control
from r2maint.journal.journal import open_journal
from r2maint.keys import Addresses
from r2maint.models import Change, Identity, Run, RunState, Sighting
from r2maint.quarantine.manifest import (
    MANIFEST,
    PREFIX,
    Quarantined,
    find_manifests,
    list_manifests,
    restore_all,
    write_manifest,
)
from r2maint.runs.undo.apply import apply_undo
from r2maint.runs.undo.plan import plan_undo
from r2maint.runs.undo.result import Undo
from tests.appdirectory.models import AppSubmission
from tests.commands import apply, run
from tests.conftest import DATABASES
from tests.fakes import R2Fake

pytestmark = [pytest.mark.thorough, pytest.mark.django_db(databases=DATABASES)]

NAMED = [f"submissions/QAD-1/named {number:02}.webp" for number in range(20)]
TAKEN = [f"submissions/QAD-1/old {number}.webp" for number in range(3)]
AT_ONCE = ("--grace", "0", "--no-second-look", "--max-delete", "100%", "--adopt")
FULL = Headers(
    content_type="image/webp",
    cache_control="max-age=5",
    content_disposition="inline",
    content_encoding="identity",
    content_language="ar",
    expires="Thu, 01 Dec 2033 16:00:00 GMT",
    metadata={"a": "b"},
    storage_class="STANDARD_IA",
)


@pytest.fixture
def purged(place) -> str:
    """The id of a run that deleted three objects, and that the database has lost since."""
    bucket = open_bucket(conf.load())
    uploads = [Upload(key=key, body=key.encode(), headers=FULL) for key in (*NAMED, *TAKEN)]
    assert not any(result.error for result in bucket.put_many(uploads))
    AppSubmission.objects.create(tracking_id="QAD-1", screenshots_en=[f"/{key}" for key in NAMED])
    run_id = apply("purge_orphans", *AT_ONCE)["run_id"]
    for model in (Run, Change, Identity, Sighting):
        model.objects.all().delete()
    return run_id


def test_it_is_listed_and_shown_marked_as_such(purged):
    (item,) = run("r2_runs")["items"]
    assert (item["run_id"], item["command"], item["state"]) == (purged, "purge_orphans", "manifest")
    shown = run("r2_runs", purged)
    assert sorted(change["key"] for change in shown["items"]) == TAKEN
    assert shown["summary"]["state"] == "manifest"


def test_everything_comes_back_with_all_that_is_stored_beside_it(purged):
    bucket = open_bucket(conf.load())
    plan = run("r2_runs", purged, "--undo", "--check", exit_code=3)
    assert (plan["summary"]["to_restore"], plan["summary"]["already_there"]) == (3, 0)
    assert head(bucket, TAKEN[0]) is None
    document = apply("r2_runs", purged, "--undo")
    assert (document["summary"]["restored"], document["summary"]["failed"]) == (3, 0)
    for key in TAKEN:
        back = get(bucket, key)
        assert (back.body, back.info.headers) == (key.encode(), FULL)
    steps = Change.objects.filter(run_id=document["run_id"])
    assert sorted(steps.values_list("kind", "state", "key")) == [
        ("restore", "done", key) for key in TAKEN
    ]
    again = apply("r2_runs", purged, "--undo")
    assert (again["run_id"], again["summary"]["already_there"]) == (None, 3)


def test_nothing_is_overwritten_and_taken_keys_are_told(purged):
    bucket = open_bucket(conf.load())
    put(bucket, Upload(key=TAKEN[1], body=b"others"))
    put(bucket, Upload(key=TAKEN[2], body=TAKEN[2].encode()))
    document = apply("r2_runs", purged, "--undo", exit_code=3)
    fates = {item["key"]: item["action"] for item in document["items"]}
    assert fates == {TAKEN[0]: "restore", TAKEN[1]: "fail"}
    assert get(bucket, TAKEN[1]).body == b"others"
    assert document["summary"]["already_there"] == 1


@pytest.mark.parametrize(
    ("options", "back"),
    [
        (("--key", TAKEN[1]), [TAKEN[1]]),
        (("--key", TAKEN[1], "--key", TAKEN[2]), TAKEN[1:]),
        (("--prefix", "submissions/QAD-1/old 0"), [TAKEN[0]]),
        (("--key", "submissions/none.webp"), []),
    ],
)
def test_single_objects_come_back_alone(purged, options, back):
    apply("r2_runs", purged, "--undo", *options)
    bucket = open_bucket(conf.load())
    assert [key for key in TAKEN if head(bucket, key)] == back


def test_a_copy_that_was_removed_is_told_and_the_others_come_back(purged):
    bucket = open_bucket(conf.load())
    copy = {item["key"]: item["new"] for item in run("r2_runs", purged)["items"]}[TAKEN[1]]
    list(bucket.delete_many([copy]))
    plan = run("r2_runs", purged, "--undo")
    assert [i["reason"] for i in plan["items"] if i["action"] == "fail"] == [
        "Its copy is gone from quarantine."
    ]
    document = apply("r2_runs", purged, "--undo", exit_code=3)
    assert (document["summary"]["restored"], document["summary"]["failed"]) == (2, 1)


def test_an_unknown_run_is_a_usage_error(purged):
    for arguments in (["nonsense"], ["nonsense", "--undo"]):
        with pytest.raises(CommandError, match="There is no run: 'nonsense'") as raised:
            call_command("r2_runs", *arguments)
        assert raised.value.returncode == 2


def test_manifests_are_found_without_listing_the_copies():
    bucket = R2Fake(page_size=2)
    for token in ("a" * 32, "b" * 32, "c" * 32):
        for number in range(9):
            bucket.add(f"{PREFIX}{token}/{number}{'0' * 63}")
    for token in ("a" * 32, "c" * 32, "c" * 32):
        write_manifest(bucket, token, f"run-{token[0]}", [])
    bucket.add("zebra")
    bucket.calls.clear()
    assert [name.removeprefix(PREFIX) for name in list_manifests(bucket)] == [
        f"{'a' * 32}{MANIFEST}0001",
        f"{'c' * 32}{MANIFEST}0001",
        f"{'c' * 32}{MANIFEST}0002",
    ]
    assert len(bucket.calls) < 10
    assert [one.run_id for one in find_manifests(bucket)] == ["run-a", "run-c", "run-c"]


class Careless(R2Fake):
    """Replaces objects that were to be new, as `rclone serve s3` does."""

    def put_many(self, uploads):
        return super().put_many(replace(upload, if_absent=False) for upload in uploads)


@pytest.mark.parametrize("kind", [R2Fake, Careless])
def test_a_manifest_never_replaces_an_earlier_one(kind):
    bucket = kind()
    earlier = write_manifest(bucket, "a" * 32, "run", [lost("a.png", "copy-of-a", 1)])
    later = write_manifest(bucket, "a" * 32, "run", [lost("b.png", "copy-of-b", 1)])
    assert earlier != later
    assert b"copy-of-a" in get(bucket, earlier).body
    assert b"copy-of-b" in get(bucket, later).body


def lost(key: str, copy: str, size: int) -> Quarantined:
    return Quarantined(
        key=key, copy=copy, etag="", size=size, modified_at="2026-01-01T00:00:00+00:00", headers={}
    )


def test_many_come_back_in_windows_and_in_order(monkeypatch):
    monkeypatch.setattr("r2maint.quarantine.manifest.SMALL_BYTES", 4)
    monkeypatch.setattr("r2maint.quarantine.manifest.WINDOW_BYTES", 6)
    bucket = R2Fake()
    sizes = [3, 3, 3, 5, 0, 2, 9]
    for number, size in enumerate(sizes):
        bucket.add(f"copy-{number}", b"x" * size, headers=FULL)
    entries = [lost(f"key-{n}", f"copy-{n}", size) for n, size in enumerate(sizes)]
    entries += [lost("key-0", "copy-1", 3), lost("key-5", "copy-6", 9), lost("key-9", "", 1)]
    entries.append(lost("key-8", "gone", 2))
    results = list(restore_all(bucket, entries, control=Control()))
    assert [(one.key, one.done, one.reason) for one in results[:7]] == [
        (f"key-{n}", True, "") for n in range(7)
    ]
    assert [(one.key, one.done, one.reason) for one in results[7:]] == [
        ("key-0", True, "It is there already."),
        ("key-5", False, "The key is taken by another object."),
        ("key-9", False, "It was deleted without a copy."),
        ("key-8", False, "Its copy is gone from quarantine."),
    ]
    assert {bucket.objects[f"key-{n}"].info.headers == FULL for n in range(7)} == {True}


class Killed(BaseException):
    """What no code catches, as no code outlives kill -9."""


@pytest.mark.parametrize("moment", range(6))
def test_killed_at_any_write_the_undo_goes_on_under_its_own_id(project, moment, monkeypatch):
    monkeypatch.setattr("r2maint.runs.undo.plan.BATCH", 1)
    monkeypatch.setattr("r2maint.runs.undo.apply.BATCH", 1)
    bucket = R2Fake()
    entries = []
    for key in TAKEN:
        info = bucket.add(f"{PREFIX}{'a' * 32}/{key[-6]}", key.encode(), headers=FULL)
        entries.append(lost(key, info.key, info.size)._replace(etag=info.etag))
    write_manifest(bucket, "a" * 32, "lost-run", entries)
    writes = 0

    def kill(operation: str, key: str) -> None:
        nonlocal writes
        writes += operation == "put"
        if writes + (operation == "get") > moment // 2 + (moment % 2):
            raise Killed

    bucket.before = kill
    with suppress(Killed):
        undo(bucket)
    bucket.before = lambda operation, key: None
    outcome = undo(bucket)
    assert not outcome.findings
    assert [bucket.body(key) for key in TAKEN] == [key.encode() for key in TAKEN]
    assert Run.objects.count() == 1
    back = Change.objects.filter(kind="restore", state="done").values_list("key", flat=True)
    assert set(back) <= set(TAKEN)


def undo(bucket: R2Fake) -> Undo:
    """Plan and apply the undo of the lost run."""
    config = conf.load()
    at = config, Addresses.from_config(config), bucket
    plan = plan_undo("lost-run", *at, control=Control())
    opened = open_journal(command="r2_runs", bucket=bucket.name, options={"undo": "lost-run"})
    return apply_undo(plan, *at, opened, control=Control())


# Without a bucket


def test_runs_are_listed_and_shown_without_a_bucket(project, settings):
    known = Run.objects.create(
        id="20260101T000000Z-abcdef",
        command="migrate_media_to_r2",
        bucket="b",
        state=RunState.FINISHED,
        started_at="2026-01-01T00:00:00Z",
    )
    settings.R2MAINT = {k: v for k, v in settings.R2MAINT.items() if k != "BUCKET"}
    document = run("r2_runs")
    assert [item["run_id"] for item in document["items"]] == [known.pk]
    assert run("r2_runs", known.pk)["summary"]["run_id"] == known.pk
    run("r2_runs", known.pk, "--undo", exit_code=1)
