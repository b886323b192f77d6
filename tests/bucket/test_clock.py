"""The bucket's time where its server sends no Date."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from r2maint.bucket import DirectoryBucket, Upload, clock, get, put
from r2maint.bucket.clock import Clock, writers_time
from r2maint.bucket.lease import hold_lease
from r2maint.bucket.r2 import R2Bucket
from r2maint.errors import LeaseHeld, NoClock
from r2maint.http import retry
from tests.servers.s3_server import proxy


@pytest.fixture
def between(s3_server):
    """A proxy that removes the Date of every answer."""
    with proxy(s3_server) as state:
        state.edit = lambda request, headers, body: (
            {name: value for name, value in headers.items() if name != "Date"},
            body,
        )
        yield state


@pytest.fixture
def bucket(between, s3_bucket, s3_connection, monkeypatch):
    monkeypatch.setattr(retry, "FIRST_WAIT_SECONDS", 0.0)
    return R2Bucket(s3_bucket.name, replace(s3_connection, endpoint_url=between.url), workers=2)


def keys(bucket):
    return [item.key for page in bucket.list_pages() for item in page]


def test_a_reader_is_told_that_the_bucket_has_no_clock(bucket):
    with pytest.raises(NoClock, match="does not tell its time"):
        bucket.now()


def test_a_writer_reads_the_time_of_an_object_it_writes_and_removes(bucket, between):
    before = datetime.now(UTC).replace(microsecond=0)
    assert before <= writers_time(bucket) <= datetime.now(UTC) + timedelta(seconds=1)
    assert keys(bucket) == []
    written = {r.target.split("?")[0] for r in between.requests if r.method == "PUT"}
    writers_time(bucket)
    again = {r.target.split("?")[0] for r in between.requests if r.method == "PUT"}
    # Unguessable, and another one each time.
    assert len(written) == 1
    assert len(again) == 2


def test_a_bucket_with_a_clock_is_not_written_to(s3_bucket, tmp_path):
    for one in (s3_bucket, DirectoryBucket(tmp_path / "bucket")):
        writers_time(one)
        assert keys(one) == []


def test_a_plan_takes_the_time_of_this_machine_and_writes_nothing(bucket, between):
    plans = Clock(bucket, may_write=False)
    assert abs(plans.now() - datetime.now(UTC)) < timedelta(minutes=1)
    assert plans.is_local
    assert {request.method for request in between.requests} == {"GET"}


def test_a_command_that_may_write_never_takes_the_time_of_this_machine(bucket):
    writes = Clock(bucket, may_write=True)
    writes.now()
    assert not writes.is_local


def test_an_object_that_vanishes_at_once_is_no_clock(bucket, monkeypatch):
    monkeypatch.setattr(clock, "head", lambda bucket, key: None)
    with pytest.raises(NoClock, match="is not there"):
        writers_time(bucket)


def test_what_is_stored_has_the_time_of_the_bucket(bucket):
    info = put(bucket, Upload(key="a/../b", body=b"1"))
    plain = put(bucket, Upload(key="plain", body=b"1"))
    assert info.modified_at == get(bucket, "a/../b").info.modified_at
    assert plain.modified_at == get(bucket, "plain").info.modified_at


def test_the_lease_holds_without_a_date(bucket):
    first = hold_lease(bucket, run_id="1", command="purge_orphans")
    second = hold_lease(bucket, run_id="2", command="purge_orphans")
    with first, pytest.raises(LeaseHeld), second:
        pass
    with hold_lease(bucket, run_id="3", command="purge_orphans") as lease:
        assert lease.token == 2
