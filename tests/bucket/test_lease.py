"""The lease: one writer at a time, by the bucket's clock."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from r2maint.bucket import DirectoryBucket, Upload, get, head, lease, put
from r2maint.bucket.lease import KEY, LASTS, hold_lease
from r2maint.errors import AccessDenied, BucketUnreachable, LeaseHeld
from tests.fakes import FakeClock, R2Fake, fail_on

ROOT = Path(__file__).resolve().parents[2]
EXPIRED = LASTS + timedelta(seconds=1)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture(params=["directory", "r2-fake"])
def bucket(request, tmp_path, clock):
    if request.param == "directory":
        return DirectoryBucket(tmp_path / "bucket", clock=clock)
    return R2Fake(clock=clock)


def hold(bucket, run_id="run-1", command="purge_orphans"):
    return hold_lease(bucket, run_id=run_id, command=command)


def note(bucket):
    return json.loads(get(bucket, KEY).body)


def wait_until(condition):
    """Wait for another thread; the time limit of the suite ends it."""
    while not condition():
        time.sleep(0.005)


def test_a_second_run_is_told_who_holds_the_lease(bucket):
    with hold(bucket), pytest.raises(LeaseHeld) as caught, hold(bucket, "run-2"):
        pass
    for word in ("purge_orphans", "run-1", note(bucket)["host"], "2026-01-01T12:00:00"):
        assert word in caught.value.message
    assert "60 seconds" in caught.value.hint


def test_a_released_lease_can_be_taken_at_once(bucket):
    with hold(bucket):
        pass
    with hold(bucket, "run-2") as second:
        second.check()


def test_a_lease_is_released_after_a_failure_too(bucket):
    with pytest.raises(ZeroDivisionError), hold(bucket):
        raise ZeroDivisionError
    with hold(bucket):
        pass


def test_tokens_grow_over_releases_and_takeovers(bucket, clock):
    tokens = []
    for number in range(3):
        with hold(bucket, f"run-{number}") as held:
            tokens.append(held.token)
    with hold(bucket) as held:
        tokens.append(held.token)
        clock.move(EXPIRED)
        with hold(bucket) as usurper:
            tokens.append(usurper.token)
    assert tokens == sorted(set(tokens))
    assert note(bucket)["token"] == tokens[-1]


@pytest.mark.parametrize(("age", "free"), [(59, False), (60, True)])
def test_a_lease_lasts_sixty_seconds_by_the_clock_of_the_bucket(bucket, clock, age, free):
    with hold(bucket):
        clock.move(timedelta(seconds=age))
        if free:
            with hold(bucket, "run-2"):
                pass
        else:
            with pytest.raises(LeaseHeld, match="run-1"), hold(bucket, "run-2"):
                pass


def test_a_renewed_lease_lasts_longer(bucket, clock):
    with hold(bucket) as held:
        clock.move(timedelta(seconds=50))
        held.renew()
        clock.move(timedelta(seconds=50))
        held.check()
        with pytest.raises(LeaseHeld), hold(bucket, "run-2"):
            pass


def test_a_holder_notices_that_its_lease_was_taken_over(bucket, clock):
    with hold(bucket) as held:
        held.check()
        clock.move(EXPIRED)
        with hold(bucket, "run-2") as second:
            for look in (held.check, held.renew, held.check):
                with pytest.raises(LeaseHeld, match="lost"):
                    look()
            second.check()


def test_a_holder_notices_that_its_lease_is_gone(bucket):
    with hold(bucket) as held:
        list(bucket.delete_many([KEY]))
        with pytest.raises(LeaseHeld, match="lost") as caught:
            held.check()
        assert "deleted" in caught.value.hint


def test_the_late_holder_releases_only_its_own_lease(bucket, clock):
    first = hold(bucket)
    first.__enter__()
    clock.move(EXPIRED)
    with hold(bucket, "run-2") as second:
        first.__exit__(None, None, None)
        second.check()
        assert note(bucket)["run_id"] == "run-2"
        assert not note(bucket)["released"]


def test_of_two_that_take_over_an_expired_lease_one_wins(bucket, clock):
    stale = hold(bucket)
    stale.__enter__()
    clock.move(EXPIRED)
    barrier = threading.Barrier(2)
    outcomes = []
    done = threading.Barrier(2)

    def contend(run_id):
        barrier.wait()
        try:
            with hold(bucket, run_id) as held:
                outcomes.append(held.token)
                done.wait()
        except LeaseHeld:
            outcomes.append(None)
            done.wait()

    threads = [threading.Thread(target=contend, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stale.__exit__(None, None, None)
    assert sorted(outcomes, key=str) == [2, None]


def test_a_lease_taken_after_it_was_judged_free_is_not_taken_again(clock):
    bucket = R2Fake(clock=clock)
    with hold(bucket, "stale"):
        clock.move(EXPIRED)
        rivals = []

        def rival_comes_first():
            bucket.clock = clock
            rivals.append(hold(bucket, "rival"))
            rivals[0].__enter__()
            return clock()

        bucket.clock = rival_comes_first
        with pytest.raises(LeaseHeld), hold(bucket, "late"):
            pass
        assert note(bucket)["run_id"] == "rival"
        rivals[0].__exit__(None, None, None)


def test_the_lease_is_renewed_in_the_background(bucket, monkeypatch):
    monkeypatch.setattr(lease, "RENEWED_EVERY", timedelta(milliseconds=5))
    with hold(bucket) as held:
        wait_until(lambda: note(bucket)["renewals"] >= 3)
        held.check()
    assert not [thread for thread in threading.enumerate() if thread.name == "r2maint-lease"]
    assert note(bucket)["released"]


def test_a_failed_renewal_is_tried_again(clock, monkeypatch):
    monkeypatch.setattr(lease, "RENEWED_EVERY", timedelta(milliseconds=5))
    bucket = R2Fake(clock=clock)
    with hold(bucket) as held:
        bucket.before = fail_on("put", KEY)
        wait_until(lambda: bucket.calls.count(("put", KEY)) >= 4)
        bucket.before = lambda operation, key: None
        wait_until(lambda: note(bucket)["renewals"] >= 1)
        held.check()


def test_a_lease_with_little_left_is_renewed_before_it_is_relied_on(clock, monkeypatch):
    bucket = R2Fake(clock=clock)
    with hold(bucket) as held:
        later = SimpleNamespace(monotonic=lambda: 0.0, time=lambda: lease_time() + 50)
        lease_time = lease.time.time
        monkeypatch.setattr(lease, "time", later)
        held.check()
        assert note(bucket)["renewals"] == 1


def test_a_renewal_whose_answer_was_lost_is_not_a_lost_lease(clock):
    bucket = R2Fake(clock=clock)
    with hold(bucket) as held:
        original = bucket._put

        def lose(upload):
            original(upload)
            bucket._put = original
            raise BucketUnreachable("The endpoint does not answer: fake.")

        bucket._put = lose
        with pytest.raises(BucketUnreachable):
            held.renew()
        held.check()
        held.renew()
        held.check()


def test_nobody_can_tell_is_an_error_and_not_a_permission_to_go_on(clock):
    bucket = R2Fake(clock=clock)
    with hold(bucket) as held:
        bucket.before = fail_on("head", KEY)
        with pytest.raises(BucketUnreachable):
            held.check()
        bucket.before = lambda operation, key: None


def test_a_lease_that_cannot_be_written_is_not_held(clock):
    bucket = R2Fake(clock=clock)
    bucket.before = fail_on("put", error=lambda: AccessDenied("PutObject was refused."))
    with pytest.raises(AccessDenied), hold(bucket):
        pass


def test_the_lease_survives_a_bucket_that_takes_one_write_a_second(clock):
    bucket = R2Fake(clock=clock, one_write_a_second=True)
    with hold(bucket):
        pass
    assert not note(bucket)["released"]
    clock.move(EXPIRED)
    with hold(bucket) as held:
        held.check()


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"token": 1, "new": 2}', b"\xff"])
def test_a_lease_that_cannot_be_read_is_held(bucket, body):
    put(bucket, Upload(key=KEY, body=body))
    with pytest.raises(LeaseHeld, match="cannot be read"), hold(bucket):
        pass


def test_the_lease_works_on_an_s3_server(s3_bucket):
    with hold(s3_bucket) as held:
        held.check()
        held.renew()
        held.check()
        with pytest.raises(LeaseHeld), hold(s3_bucket, "run-2"):
            pass
    with hold(s3_bucket) as second:
        assert second.token == held.token + 1
    assert head(s3_bucket, KEY).headers.cache_control == "no-store"


HOLDER = """
import sys, time
from pathlib import Path
from r2maint.bucket import DirectoryBucket
from r2maint.bucket.lease import hold_lease
with hold_lease(DirectoryBucket(Path(sys.argv[1])), run_id="killed", command="purge_orphans"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_lease_of_a_killed_holder_is_free_after_sixty_seconds(tmp_path):
    path = tmp_path / "bucket"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, cwd=ROOT, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        process.send_signal(signal.SIGKILL)
    with pytest.raises(LeaseHeld, match="killed"), hold(DirectoryBucket(path)):
        pass
    later = FakeClock(head(DirectoryBucket(path), KEY).modified_at + EXPIRED)
    with hold(DirectoryBucket(path, clock=later)) as held:
        assert held.token == 2
