"""Small objects of r2maint's own, read as what anybody could have written."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import pytest

from r2maint.bucket import Upload, get, put
from r2maint.bucket.lease import KEY, Note, hold_lease
from r2maint.bucket.own_objects import MAX_BYTES, read_fields
from r2maint.errors import LeaseHeld, ObjectTooLarge
from tests.fakes import R2Fake


@dataclass(frozen=True)
class Sample:
    name: str
    count: int
    is_done: bool = False


GOOD = {"name": "a", "count": 1}
DEEP = b"[" * 50_000

DAMAGED = {
    "empty": b"",
    "cut off": b'{"name": "a", "cou',
    "no UTF-8": b'{"name": "\xff", "count": 1}',
    "UTF-16": json.dumps(GOOD).encode("utf-16"),
    "a list": b"[]",
    "null": b"null",
    "nested too deeply": DEEP,
    "a number in place of a text": b'{"name": 1, "count": 1}',
    "a text in place of a number": b'{"name": "a", "count": "x"}',
    "a boolean in place of a number": b'{"name": "a", "count": true}',
    "a fraction": b'{"name": "a", "count": 1.5}',
    "a number below 0": b'{"name": "a", "count": -1}',
    "a number without end": b'{"name": "a", "count": ' + b"9" * 30 + b"}",
    "a number of many digits": b'{"name": "a", "count": ' + b"9" * 9000 + b"}",
    "a number in place of a boolean": b'{"name": "a", "count": 1, "is_done": 1}',
    "null in place of a text": b'{"name": null, "count": 1}',
    "an unknown field": b'{"name": "a", "count": 1, "more": 1}',
    "a missing field": b'{"name": "a"}',
    "a field twice": b'{"name": "a", "name": "b", "count": 1}',
    "a line break": b'{"name": "a\\nb", "count": 1}',
    "an escape of a terminal": b'{"name": "\\u001b[2J", "count": 1}',
    "a surrogate": b'{"name": "\\ud800", "count": 1}',
    "a long text": json.dumps({"name": "x" * 5000, "count": 1}).encode(),
}


def test_fields_are_read_and_defaults_kept():
    assert read_fields(Sample, json.dumps(GOOD).encode()) == Sample("a", 1)


@pytest.mark.parametrize("body", DAMAGED.values(), ids=DAMAGED)
def test_anything_else_is_an_error(body):
    with pytest.raises(ValueError):
        read_fields(Sample, body)


NOTE = Note(token=1, holder="h", run_id="r", command="c", host="h", since="s", released=True)
FORGED = {
    "a text as token": {"token": "x"},
    "no token": {"token": None},
    "a token below 0": {"token": -5},
    "a text as released": {"released": "no"},
    "a list as host": {"host": []},
    "an unknown field": {"version": 9},
}


@pytest.mark.parametrize("change", FORGED.values(), ids=FORGED)
def test_a_forged_lease_refuses_and_stays(change):
    bucket = R2Fake()
    bucket.add(KEY, json.dumps({**asdict(NOTE), **change}).encode())
    before = bucket.body(KEY)
    lease = hold_lease(bucket, run_id="1", command="purge_orphans")
    with pytest.raises(LeaseHeld, match="cannot be read"), lease:
        pass
    assert bucket.body(KEY) == before


@pytest.mark.parametrize("body", [DAMAGED["empty"], DAMAGED["no UTF-8"], DEEP, b" " * 2**20])
def test_a_damaged_or_huge_lease_refuses(body):
    bucket = R2Fake()
    bucket.add(KEY, body)
    lease = hold_lease(bucket, run_id="1", command="purge_orphans")
    with pytest.raises(LeaseHeld, match="cannot be read"), lease:
        pass


def test_an_object_over_the_limit_is_not_read(s3_bucket, tmp_path):
    put(s3_bucket, Upload(key="k", body=b"x" * (MAX_BYTES + 1)))
    with pytest.raises(ObjectTooLarge, match="'k'"):
        get(s3_bucket, "k", max_bytes=MAX_BYTES)
    with pytest.raises(ObjectTooLarge, match="'k'"):
        s3_bucket.download("k", tmp_path / "k", max_bytes=MAX_BYTES)
    assert len(get(s3_bucket, "k", max_bytes=MAX_BYTES + 1).body) == MAX_BYTES + 1
