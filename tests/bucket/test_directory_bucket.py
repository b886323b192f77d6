"""The bucket in a directory: what it takes for a bucket, and what a kill or a second process leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from r2maint.bucket import Copy, DirectoryBucket, Headers, Upload, get, head, open_bucket, put
from r2maint.conf import Config
from r2maint.errors import (
    BucketError,
    BucketUnreachable,
    ConfigError,
    NoSuchBucket,
    ObjectRejected,
    PreconditionFailed,
)
from tests.fakes import FakeClock

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "bucket"


@pytest.fixture
def bucket(path):
    return DirectoryBucket(path)


def listed(bucket):
    return [item.key for page in bucket.list_pages() for item in page]


def files(path, room):
    return [entry for entry in (path / room).rglob("*") if entry.is_file()]


# What is a bucket


def test_reading_makes_nothing(bucket, path):
    assert listed(bucket) == []
    assert head(bucket, "k") is None
    assert not path.exists()


def test_deleting_and_a_refused_upload_leave_no_object(bucket):
    list(bucket.delete_many(["k"]))
    with pytest.raises(ObjectRejected):
        put(bucket, Upload(key="", body=b"x"))
    assert listed(bucket) == []


def test_an_empty_directory_is_an_empty_bucket(path):
    path.mkdir()
    bucket = DirectoryBucket(path)
    assert listed(bucket) == []
    assert list(path.iterdir()) == []
    put(bucket, Upload(key="k", body=b"x"))
    assert listed(DirectoryBucket(path)) == ["k"]


def test_a_directory_without_a_parent_is_no_bucket(path):
    with pytest.raises(NoSuchBucket) as caught:
        DirectoryBucket(path / "deeper")
    assert str(path) in caught.value.hint


def test_a_directory_with_other_files_is_never_taken_over(path):
    path.mkdir()
    (path / "photo.jpg").write_bytes(b"mine")
    with pytest.raises(ConfigError, match="no bucket"):
        DirectoryBucket(path)
    assert [entry.name for entry in path.iterdir()] == ["photo.jpg"]


def test_files_that_came_after_the_bucket_was_opened_are_not_taken_over(bucket, path):
    path.mkdir()
    (path / "photo.jpg").write_bytes(b"mine")
    for use in (lambda: listed(bucket), lambda: put(bucket, Upload(key="k", body=b"x"))):
        with pytest.raises(ConfigError, match="no bucket"):
            use()
    assert [entry.name for entry in path.iterdir()] == ["photo.jpg"]


def test_a_file_is_no_bucket(path):
    path.write_bytes(b"")
    with pytest.raises(ConfigError, match="not a directory"):
        DirectoryBucket(path)


@pytest.mark.parametrize("content", [b"not SQLite at all", b""], ids=["text", "blobs-only"])
def test_a_directory_with_another_index_is_refused(path, content):
    (path / "blobs").mkdir(parents=True)
    if content:
        (path / "index.sqlite3").write_bytes(content * 100)
    with pytest.raises(ConfigError):
        DirectoryBucket(path)


def test_a_directory_that_goes_away_is_told_in_a_sentence(bucket, path):
    put(bucket, Upload(key="k", body=b"x"))
    path.rename(path.with_name("moved"))
    path.parent.rename(path.parent.with_name(path.parent.name + "-away"))
    with pytest.raises((NoSuchBucket, BucketUnreachable)):
        head(bucket, "k")
    with pytest.raises((NoSuchBucket, BucketUnreachable)):
        put(bucket, Upload(key="k2", body=b"x"))


def test_a_configured_directory_is_named_as_the_project_knows_it(tmp_path):
    inside = open_bucket(Config(bucket=f"file:{tmp_path / 'var'}", base_dir=tmp_path))
    outside = open_bucket(Config(bucket=f"file:{tmp_path / 'var'}", base_dir=tmp_path / "site"))
    assert inside.name == "file:var"
    assert outside.name == f"file:{tmp_path / 'var'}"


# What it keeps


def test_two_spellings_of_a_letter_are_two_objects_as_on_s3(bucket):
    put(bucket, Upload(key="caf\u00e9", body=b"composed"))
    put(bucket, Upload(key="cafe\u0301", body=b"decomposed"))
    assert listed(bucket) == ["cafe\u0301", "caf\u00e9"]


def test_keys_become_no_paths(bucket, path):
    for key in ("../../escape", "/etc/passwd", "a/../../b", "C:\\x", "x" * 1024):
        put(bucket, Upload(key=key, body=b"x"))
    assert {entry.name for entry in path.parent.iterdir()} == {"bucket"}
    assert {entry.name for entry in path.iterdir()} == {"index.sqlite3", "blobs", "loose"}


def test_uploads_are_dated_by_its_clock_in_whole_seconds(path):
    clock = FakeClock()
    clock.move(timedelta(microseconds=999_999))
    bucket = DirectoryBucket(path, clock=clock)
    put(bucket, Upload(key="a", body=b""))
    clock.move(timedelta(days=3))
    put(bucket, Upload(key="b", body=b""))
    (page,) = bucket.list_pages()
    assert page[1].modified_at - page[0].modified_at == timedelta(days=3)
    assert page[0].modified_at.microsecond == 0
    assert bucket.now() == clock.at


def test_replacing_copying_and_deleting_leave_no_unlisted_bytes(bucket, path):
    first = put(bucket, Upload(key="k", body=b"first"))
    put(bucket, Upload(key="k", body=b"second", if_absent=False, if_match=first.etag))
    etag = head(bucket, "k").etag
    list(bucket.copy_many([Copy(source="k", target="k", if_match=etag, headers=Headers())]))
    list(bucket.copy_many([Copy(source="k", target="t", if_match=etag, headers=Headers())]))
    with pytest.raises(PreconditionFailed):
        put(bucket, Upload(key="k", body=b"third"))
    assert (get(bucket, "k").body, get(bucket, "t").body) == (b"second", b"second")
    assert (len(files(path, "blobs")), files(path, "loose")) == (2, [])
    list(bucket.delete_many(["k", "t"]))
    assert files(path, "blobs") + files(path, "loose") == []


def test_an_object_whose_bytes_are_gone_is_an_error_not_a_missing_key(bucket, path):
    put(bucket, Upload(key="k", body=b"x"))
    files(path, "blobs")[0].unlink()
    with pytest.raises(BucketError, match="bytes of an object are gone"):
        get(bucket, "k")


# What survives


def leave_loose(path, name, age_days):
    file = path / "loose" / name
    file.write_bytes(b"unfinished")
    then = file.stat().st_mtime - age_days * 86400
    os.utime(file, (then, then))
    return file


def test_unlisted_bytes_are_removed_when_they_are_a_day_old(bucket, path):
    put(bucket, Upload(key="k", body=b"x"))
    old, young = leave_loose(path, "0" * 32, 2), leave_loose(path, "1" * 32, 0.5)
    put(DirectoryBucket(path), Upload(key="l", body=b"x"))
    assert (old.exists(), young.exists()) == (False, True)


def test_listed_bytes_left_loose_are_read_and_put_back(bucket, path):
    put(bucket, Upload(key="k", body=b"x"))
    (blob,) = files(path, "blobs")
    loose = path / "loose" / blob.name
    blob.rename(loose)
    os.utime(loose, (0, 0))
    assert get(bucket, "k").body == b"x"
    put(DirectoryBucket(path), Upload(key="l", body=b"x"))
    assert (blob.exists(), loose.exists()) == (True, False)
    assert get(bucket, "k").body == b"x"


def test_an_upload_that_fails_before_it_is_listed_leaves_the_old_object(bucket, path, monkeypatch):
    first = put(bucket, Upload(key="k", body=b"first"))

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("r2maint.bucket.directory_bucket_files.os.fsync", full)
    with pytest.raises(BucketUnreachable, match="No space left"):
        put(bucket, Upload(key="k", body=b"second", if_absent=False, if_match=first.etag))
    assert get(bucket, "k").body == b"first"


WRITER = """
import sys
from pathlib import Path
from r2maint.bucket import DirectoryBucket, Upload, put
bucket = DirectoryBucket(Path(sys.argv[1]))
print("ready", flush=True)
for number in range(100_000):
    key = f"{number:06d}"
    put(bucket, Upload(key=key, body=key.encode() * 500))
    if number % 3 == 2:
        list(bucket.delete_many([f"{number - 1:06d}"]))
    print(key, flush=True)
"""


@pytest.mark.parametrize("written", [1, 7, 20])
def test_a_killed_writer_leaves_whole_objects_only(path, written):
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, cwd=ROOT, text=True
    ) as process:
        told = [process.stdout.readline().strip() for _ in range(written + 1)][1:]
        process.send_signal(signal.SIGKILL)
        told += process.stdout.read().split()
    bucket = DirectoryBucket(path)
    put(bucket, Upload(key="later", body=b""))
    keys = listed(bucket)
    kept = [key for key in told if int(key) % 3 != 1 or int(key) == int(told[-1])]
    assert set(kept) <= set(keys)
    assert all(get(bucket, key).body == key.encode() * 500 for key in keys if key != "later")
    assert len(files(path, "blobs")) == len(keys)


RACER = """
import sys
from pathlib import Path
from r2maint.bucket import DirectoryBucket, Upload
bucket = DirectoryBucket(Path(sys.argv[1]))
uploads = (Upload(key=f"{number:03d}", body=sys.argv[2].encode()) for number in range(40))
print(sum(result.error is None for result in bucket.put_many(uploads)))
"""


def test_of_two_processes_one_stores_each_key(path):
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(path), name],
            stdout=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        )
        for name in ("one", "two")
    ]
    won = [int(racer.communicate()[0]) for racer in racers]
    assert sum(won) == 40
    bucket = DirectoryBucket(path)
    bodies = [result.value.body for result in bucket.get_many(listed(bucket))]
    assert [bodies.count(b"one"), bodies.count(b"two")] == won
    assert len(files(path, "blobs")) == 40


def test_of_many_threads_one_replaces_a_version(bucket):
    first = put(bucket, Upload(key="k", body=b"first"))
    won = []

    def replace(name):
        upload = Upload(key="k", body=name, if_absent=False, if_match=first.etag)
        (result,) = bucket.put_many([upload])
        if result.error is None:
            won.append(name)

    threads = [threading.Thread(target=replace, args=(b"%d" % n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [get(bucket, "k").body] == won


def test_a_blob_that_is_moved_while_it_is_looked_for_is_found(bucket, path, monkeypatch):
    put(bucket, Upload(key="k", body=b"bytes"))
    (settled,) = files(path, "blobs")
    loose = path / "loose" / settled.name
    settled.rename(loose)  # as its writer leaves it for a moment
    look = Path.open

    def look_and_lose(self, *args, **options):
        try:
            return look(self, *args, **options)
        finally:
            if self == settled and loose.exists():
                loose.rename(settled)

    monkeypatch.setattr(Path, "open", look_and_lose)
    assert get(bucket, "k").body == b"bytes"


def test_many_threads_begin_a_bucket_at_once(tmp_path):
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for number in range(20):
            path, start = tmp_path / str(number), threading.Barrier(4)

            def begin(key: str, path: Path = path, start: threading.Barrier = start) -> None:
                start.wait()
                bucket = DirectoryBucket(path)
                assert head(bucket, "absent") is None
                put(bucket, Upload(key=key, body=b"x"))

            with ThreadPoolExecutor(4) as pool:
                list(pool.map(begin, "abcd"))
            listed = [item.key for page in DirectoryBucket(path).list_pages() for item in page]
            assert listed == ["a", "b", "c", "d"]
    finally:
        sys.setswitchinterval(before)
