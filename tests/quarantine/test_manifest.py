"""Manifests that are damaged or forged, and copies that are not what was recorded."""

from __future__ import annotations

import json

import pytest

from r2maint.bucket import Headers, Upload, get, head, put
from r2maint.bucket.r2 import R2Bucket
from r2maint.control import Control
from r2maint.errors import BucketError
from r2maint.quarantine import manifest
from r2maint.quarantine.lost_runs import find_lost_runs, iter_lost_changes
from r2maint.quarantine.manifest import (
    DIFFERS,
    PREFIX,
    LostObject,
    Quarantined,
    as_entry_headers,
    read_manifest,
    restore,
    restore_all,
    write_manifest,
)
from tests.fakes import R2Fake

TOKEN = "a" * 32
OWN = f"{PREFIX}{TOKEN}"
KEY = f"{OWN}/manifest-0001"
HEAD = {"schema": 1, "run_id": "run-1"}
HEADERS = as_entry_headers(Headers(content_type="image/png", metadata={"a": "b"}))
ENTRY = {
    "key": "public/x.png",
    "copy": f"{OWN}/{'0' * 64}",
    "etag": "0" * 32,
    "size": 1,
    "modified_at": "2026-01-01T00:00:00+00:00",
    "headers": HEADERS,
}


def lines(*rows: object) -> bytes:
    return b"".join(row if isinstance(row, bytes) else _line(row) for row in rows)


def _line(row: object) -> bytes:
    return json.dumps(row).encode() + b"\n"


def changed(**changes: object) -> bytes:
    return lines(HEAD, {**ENTRY, **changes})


FORGED = {
    "a copy outside the quarantine": changed(copy="private/secret.txt"),
    "a copy of another quarantine": changed(copy=f"{PREFIX}{'b' * 32}/{'0' * 64}"),
    "a copy that climbs out": changed(copy=f"{OWN}/../../../private/secret.txt"),
    "a manifest as copy": changed(copy=KEY),
    "the folder as copy": changed(copy=f"{OWN}/"),
    "the lease as target": changed(key=".r2maint/lease"),
    "a manifest as target": changed(key=f"{OWN}/manifest-0002"),
    "no target": changed(key=""),
    "a target too long": changed(key="x" * 2000),
    "a surrogate as target": changed(key="\ud800"),
    "a number as key": changed(key=1),
    "a list as copy": changed(copy=["x"]),
    "a text as size": changed(size="1"),
    "a size below 0": changed(size=-1),
    "a boolean as size": changed(size=True),
    "a number as time": changed(modified_at=1),
    "a time without a zone": changed(modified_at="2026-01-01T00:00:00"),
    "no time": changed(modified_at="yesterday"),
    "a text as headers": changed(headers="x"),
    "unknown headers": changed(headers={"x-evil": "1"}),
    "a number as header": changed(headers={"content_type": 1}),
    "a list as metadata": changed(headers={"metadata": []}),
    "a number in the metadata": changed(headers={"metadata": {"a": 1}}),
    "an unknown field": changed(more=1),
    "a missing field": lines(HEAD, {"key": "a"}),
    "an entry that is a list": lines(HEAD, [1]),
    "a field twice": lines(HEAD, b'{"key": "a", "key": "b"}\n'),
    "a line cut off": lines(HEAD, ENTRY)[:-20],
    "lines cut off": lines({**HEAD, "entries": 2}, ENTRY),
    "more lines than it had": lines({**HEAD, "entries": 1}, ENTRY, ENTRY),
    "no UTF-8": lines(HEAD, b"\xff\xfe\n"),
    "an endless line": lines(HEAD, b"[" * 2**18),
    "an entry nested too deeply": lines(HEAD, b"[" * 2**16 + b"\n"),
    "an unknown version": lines({**HEAD, "schema": 2}, ENTRY),
    "a version as text": lines({**HEAD, "schema": "1"}, ENTRY),
    "no version": lines({"run_id": "run-1"}, ENTRY),
    "no run": lines({"schema": 1}, ENTRY),
    "a number as run": lines({**HEAD, "run_id": 1}, ENTRY),
    "an escape as run": lines({**HEAD, "run_id": "\x1b[2J"}, ENTRY),
    "a list as head": lines([], ENTRY),
    "nothing": b"",
}


@pytest.mark.parametrize("body", FORGED.values(), ids=FORGED)
def test_a_forged_or_damaged_manifest_is_an_error_that_names_it(body):
    bucket = R2Fake()
    bucket.add(KEY, body, headers=Headers(metadata={"run": "run-1"}))
    with pytest.raises(BucketError, match=f"cannot be read: '{KEY}'"):
        list(iter_lost_changes(bucket, "run-1"))


def test_a_huge_manifest_is_not_read(monkeypatch):
    monkeypatch.setattr(manifest, "MAX_MANIFEST_BYTES", 100)
    bucket = R2Fake()
    bucket.add(KEY, lines(HEAD, ENTRY))
    with pytest.raises(BucketError, match="larger than 100 bytes"):
        find_lost_runs(bucket, ())


def test_a_manifest_of_another_run_than_its_metadata_say_restores_nothing():
    bucket = R2Fake()
    bucket.add(KEY, lines(HEAD, ENTRY), headers=Headers(metadata={"run": "run-2"}))
    with pytest.raises(BucketError, match="one run in its metadata and another inside"):
        list(iter_lost_changes(bucket, "run-2"))


def test_manifests_of_before_they_told_their_length_are_read():
    bucket = R2Fake()
    bucket.add(KEY, lines(HEAD, ENTRY))
    assert list(read_manifest(bucket, KEY)[1]) == [Quarantined(**ENTRY)]


def test_what_is_written_is_read():
    bucket = R2Fake()
    entry = Quarantined(**ENTRY)._replace(key='odd "\\\u2028 ключ.png')
    key = write_manifest(bucket, TOKEN, "run-1", [entry] * 3)
    run_id, entries = read_manifest(bucket, key)
    assert (run_id, list(entries)) == ("run-1", [entry] * 3)


# The way back


@pytest.fixture(params=["window", "alone"])
def put_back(request):
    """Restore one object, as one of many and alone."""
    if request.param == "alone":
        return restore
    return lambda bucket, one: next(restore_all(bucket, [one], control=Control()))


@pytest.mark.parametrize(
    ("body", "size", "recorded"),
    [
        (b"other", 4, b"four"),  # replaced, another size
        (b"FOUR", 4, b"four"),  # replaced, the same size
        (b"fou", 4, b"four"),  # cut off
        (b"", 4, b"four"),  # emptied
    ],
)
def test_a_copy_that_holds_other_bytes_is_not_put_back(put_back, body, size, recorded):
    bucket = R2Fake()
    etag = bucket.add("before", recorded).etag
    copy = bucket.add(f"{OWN}/copy", body).key
    result = put_back(bucket, LostObject("key", copy, size, etag))
    assert (result.done, result.reason) == (False, DIFFERS)
    assert head(bucket, "key") is None


def test_an_etag_of_parts_is_no_checksum(put_back):
    bucket = R2Fake()
    copy = bucket.add(f"{OWN}/copy", b"four").key
    assert put_back(bucket, LostObject("key", copy, 4, f"{'0' * 32}-2")).done
    assert bucket.body("key") == b"four"


def test_the_recorded_headers_count_where_there_are_any(put_back):
    bucket = R2Fake()
    copy = bucket.add(f"{OWN}/copy", b"four", headers=Headers(content_type="text/html"))
    lost = LostObject("key", copy.key, 4, copy.etag)
    put_back(bucket, lost._replace(key="own"))
    put_back(bucket, lost._replace(headers=HEADERS))
    assert head(bucket, "own").headers.content_type == "text/html"
    assert head(bucket, "key").headers == Headers(**HEADERS)


def test_what_a_server_reads_short_is_not_put_back(s3_bucket, put_back):
    # A copy that another program replaced since.
    put(s3_bucket, Upload(key=f"{OWN}/copy", body=b"of another"))
    result = put_back(s3_bucket, LostObject("key", f"{OWN}/copy", 4, ""))
    assert (result.done, result.reason) == (False, DIFFERS)
    assert isinstance(s3_bucket, R2Bucket)
    assert get(s3_bucket, f"{OWN}/copy").body == b"of another"
