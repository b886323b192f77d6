"""Unfinished uploads: listed, measured and aborted, once they are old."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from r2maint import conf
from r2maint.bucket import open_bucket
from r2maint.errors import LeaseHeld, ObjectLocked, Refused, Unsupported
from r2maint.journal import journal
from r2maint.models import Change, ChangeState, Identity, RunState
from r2maint.purge.abort_uploads import Aborting, AbortOptions, apply_aborting, plan_aborting
from r2maint.purge.recheck_before_delete import Lifted
from tests.commands import apply, run
from tests.conftest import DATABASES
from tests.fakes import FakeClock, R2Fake, fail_on

pytestmark = pytest.mark.django_db(databases=DATABASES)

OLD = ["apps/film.mp4", "submissions/1/film.mp4"]
DAY = timedelta(days=1)
ADOPT = Lifted(adopt=True)


@pytest.fixture
def bucket(project) -> R2Fake:
    made = R2Fake(clock=FakeClock())
    for number, key in enumerate(OLD):
        made.begin_upload(key, 100 + number, age=(8 + number) * DAY)
    made.begin_upload("submissions/1/young.mp4", 5, age=6 * DAY)
    made.begin_upload("elsewhere/film.mp4", 7, age=30 * DAY)
    return made


def plan(bucket: R2Fake, **options) -> Aborting:
    options = {"older_than": 7 * DAY, "lifted": ADOPT, **options}
    return plan_aborting(conf.load(), bucket, AbortOptions(**options))


def open_run(bucket: R2Fake) -> journal.Journal:
    options = {"abort_uploads": True}
    return journal.open_journal(command="purge_orphans", bucket=bucket.name, options=options)


def left(bucket: R2Fake) -> list[str]:
    return [upload.key for upload in bucket.uploads]


def test_a_plan_counts_and_measures_the_old_ones_below_managed_prefixes(bucket):
    planned = plan(bucket)
    assert planned.summary() == {
        "uploads": 3,
        "to_abort": 2,
        "bytes": 201,
        "kept": 1,
        "aborted": 0,
        "failed": 0,
        "oldest_at": bucket.now() - 9 * DAY,
    }
    assert planned.question == "Abort 2 unfinished uploads (201 B)?"
    assert len(left(bucket)) == 4


def test_exactly_the_old_ones_are_aborted_and_journalled_before(bucket):
    seen = []

    def look(operation: str, key: str) -> None:
        if operation == "abort":
            seen.append(Change.objects.get(key=key).state)

    bucket.before = look
    outcome = apply_aborting(plan(bucket), bucket, open_run(bucket))
    assert left(bucket) == ["submissions/1/young.mp4", "elsewhere/film.mp4"]
    assert (outcome.summary()["aborted"], outcome.findings) == (2, False)
    assert seen == [ChangeState.INTENDED] * 2
    assert set(Change.objects.values_list("state", flat=True)) == {ChangeState.DONE}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"prefix": "apps/"}, ["apps/film.mp4"]),
        ({"limit": 1}, ["apps/film.mp4"]),
        ({"older_than": 9 * DAY}, ["submissions/1/film.mp4"]),
        ({"older_than": timedelta(0)}, [*OLD, "submissions/1/young.mp4"]),
    ],
)
def test_options_narrow_what_is_aborted(bucket, options, expected):
    planned = plan(bucket, **options)
    assert [i.upload.key for i in planned.items if i.action.value == "plan"] == expected


def test_another_database_aborts_nothing(bucket):
    planned = plan(bucket, lifted=Lifted())
    assert [refusal.brake for refusal in planned.refusals] == ["identity"]
    with pytest.raises(Refused):
        apply_aborting(planned, bucket, open_run(bucket))
    apply_aborting(plan(bucket, limit=1), bucket, open_run(bucket))
    planned = plan(bucket, lifted=Lifted())
    assert not planned.refusals
    Identity.objects.update(nonce="other")
    with pytest.raises(Refused, match="marker changed"):
        apply_aborting(planned, bucket, open_run(bucket))
    assert OLD[1] in left(bucket)


def test_without_managed_prefixes_nothing_is_aborted(bucket, settings):
    settings.R2MAINT = {**settings.R2MAINT, "MANAGED_PREFIXES": []}
    assert [refusal.brake for refusal in plan(bucket).refusals] == ["prefixes"]


def test_nothing_is_aborted_without_the_lease(bucket):
    class Lost:
        def check(self) -> None:
            raise LeaseHeld("Another run holds the lease.")

    planned, opened = plan(bucket), open_run(bucket)
    opened.lease = Lost()
    with pytest.raises(LeaseHeld):
        apply_aborting(planned, bucket, opened)
    assert len(left(bucket)) == 4


def test_one_that_fails_is_reported_and_the_others_go_on(bucket):
    bucket.before = fail_on("abort", OLD[0], error=lambda: ObjectLocked("A bucket lock."))
    outcome = apply_aborting(plan(bucket), bucket, open_run(bucket))
    assert (outcome.findings, outcome.summary()["aborted"]) == (True, 1)
    assert OLD[0] in left(bucket)


def test_one_that_ends_meanwhile_is_passed_over(bucket):
    def finish(operation: str, key: str) -> None:
        if (operation, key) == ("measure", OLD[0]):
            bucket.uploads = [each for each in bucket.uploads if each.key != key]

    bucket.before = finish
    assert plan(bucket).summary()["uploads"] == 2


class Killed(BaseException):
    """What no code catches, as no code outlives kill -9."""


@pytest.mark.parametrize("moment", range(3))
def test_killed_at_any_write_it_goes_on_under_its_own_id(bucket, moment, monkeypatch):
    monkeypatch.setattr("r2maint.purge.abort_uploads.BATCH", 1)
    remaining = moment

    def kill(operation: str, key: str) -> None:
        nonlocal remaining
        if operation in ("put", "abort"):
            remaining -= 1
            if remaining < 0:
                raise Killed

    planned, opened = plan(bucket), open_run(bucket)
    bucket.before = kill
    with pytest.raises(Killed):
        apply_aborting(planned, bucket, opened)
    bucket.before = lambda operation, key: None
    again = open_run(bucket)
    apply_aborting(plan(bucket), bucket, again)
    again.finish(state=RunState.FINISHED, summary={})
    assert again.run_id == opened.run_id
    assert left(bucket) == ["submissions/1/young.mp4", "elsewhere/film.mp4"]
    done = Change.objects.filter(state=ChangeState.DONE).values_list("key", flat=True)
    assert sorted(done) == OLD
    assert not Change.objects.filter(state=ChangeState.INTENDED).exists()


def test_a_server_that_cannot_list_uploads_is_told(bucket):
    bucket.before = fail_on("list uploads", error=lambda: Unsupported("It does not know this."))
    with pytest.raises(Unsupported):
        plan(bucket)


# The command


def test_the_command_aborts_on_a_server(remote, s3_bucket):
    place = {"Bucket": s3_bucket.name, "Key": "submissions/1/film 1.mp4"}
    begun = s3_bucket._client.create_multipart_upload(**place)
    part = {"UploadId": begun["UploadId"], "PartNumber": 1, "Body": b"12345"}
    s3_bucket._client.upload_part(**place, **part)
    # moto calls every upload one of 2010.
    plan = run("purge_orphans", "--abort-uploads", "7d", "--check", exit_code=3)
    assert (plan["summary"]["to_abort"], plan["summary"]["bytes"]) == (1, 5)
    document = apply("purge_orphans", "--abort-uploads", "0", "--adopt")
    assert (document["summary"]["aborted"], document["summary"]["bytes"]) == (1, 5)
    assert [item["action"] for item in document["items"]] == ["delete"]
    assert list(s3_bucket.list_uploads()) == []
    assert apply("purge_orphans", "--abort-uploads", "0")["run_id"] is None


def test_a_directory_has_no_unfinished_uploads(project):
    document = run("purge_orphans", "--abort-uploads", "7d")
    assert document["summary"]["uploads"] == 0
    assert list(open_bucket(conf.load()).list_uploads()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("--abort-uploads", "7d", "--empty-quarantine"),
        ("--abort-uploads", "0", "--older-than", "3d"),
        ("--abort-uploads", "often"),
        ("--abort-uploads", "7d", "--hard"),
        ("--older-than", "3d"),
        ("--empty-quarantine", "--grace", "0"),
        ("--empty-quarantine", "--no-second-look"),
        ("--empty-quarantine", "--max-delete", "3"),
    ],
    ids=" ".join,
)
def test_options_that_do_not_go_together_are_usage_errors(project, arguments):
    with pytest.raises(CommandError) as raised:
        call_command("purge_orphans", *arguments, stdout=StringIO(), stderr=StringIO())
    assert raised.value.returncode == 2
