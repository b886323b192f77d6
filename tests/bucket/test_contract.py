"""What every kind of bucket does alike: a directory, an S3 server, and R2's own semantics."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

import pytest

from r2maint.bucket import Copy, DirectoryBucket, Headers, PendingUpload, Upload, get, head, put
from r2maint.bucket.r2 import R2Bucket
from r2maint.errors import NoSuchKey, ObjectRejected, PreconditionFailed
from tests.fakes import R2Fake
from tests.odd_keys import DOTTED_KEYS, ODD_KEYS

CONTROL_KEYS = ["tab\there", "carriage\rreturn", "\x01control", "\x7fdelete"]
FULL = Headers(
    content_type="image/webp",
    cache_control="public, max-age=31536000, immutable",
    content_disposition='attachment; filename="a b.webp"',
    content_encoding="identity",
    content_language="ar",
    expires="Thu, 01 Dec 2033 16:00:00 GMT",
    metadata={"sha256": "ab" * 32, "source": "media/a b.png"},
)


@pytest.fixture(params=["directory", "s3", "r2-fake"])
def bucket(request, tmp_path):
    if request.param == "directory":
        return DirectoryBucket(tmp_path / "bucket")
    if request.param == "s3":
        return request.getfixturevalue("s3_bucket")
    return R2Fake(clock=lambda: datetime.now(UTC))


def fill(bucket, keys):
    results = list(bucket.put_many(Upload(key=key, body=key.encode()) for key in keys))
    assert [result.error for result in results] == [None] * len(results)


def listed(bucket, prefix="", **options):
    return [item.key for page in bucket.list_pages(prefix, **options) for item in page]


def test_an_empty_bucket_lists_nothing(bucket):
    assert listed(bucket) == []


def test_what_was_put_is_read_back_with_its_headers(bucket):
    stored = put(bucket, Upload(key="a/b c.webp", body=b"bytes", headers=FULL))
    info = head(bucket, "a/b c.webp")
    download = get(bucket, "a/b c.webp")
    assert (info.key, info.size, info.etag) == (
        "a/b c.webp",
        5,
        hashlib.md5(b"bytes").hexdigest(),
    )
    assert info.headers == FULL
    assert (stored.size, stored.etag, stored.headers) == (5, info.etag, FULL)
    assert (download.body, download.info) == (b"bytes", info)


def test_an_empty_object_is_an_object(bucket):
    put(bucket, Upload(key="empty", body=b""))
    assert head(bucket, "empty").size == 0
    assert get(bucket, "empty").body == b""


def test_a_file_is_stored_as_bytes_are(bucket, tmp_path):
    path = tmp_path / "صورة.png"
    path.write_bytes(b"\x89PNG" * 1000)
    put(bucket, Upload(key="picture", body=path))
    target = tmp_path / "copy.png"
    info = bucket.download("picture", target)
    assert target.read_bytes() == path.read_bytes()
    assert info.size == 4000


def test_a_download_of_a_missing_object_leaves_no_file(bucket, tmp_path):
    with pytest.raises(NoSuchKey):
        bucket.download("gone", tmp_path / "target")
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize(
    "keys", [ODD_KEYS, DOTTED_KEYS, CONTROL_KEYS], ids=["odd", "dotted", "control"]
)
def test_keys_are_kept_exactly(bucket, keys):
    fill(bucket, keys)
    assert listed(bucket) == sorted(keys, key=str.encode)
    assert [get(bucket, key).body for key in keys] == [key.encode() for key in keys]
    assert [result.error for result in bucket.delete_many(keys)] == [None] * len(keys)
    assert listed(bucket) == []


def test_deleting_one_key_leaves_its_neighbours(bucket):
    fill(bucket, ["a/b", "a//b", " a/b", "a/b ", "A/b"])
    list(bucket.delete_many(["a//b", " a/b"]))
    assert listed(bucket) == ["A/b", "a/b", "a/b "]


@pytest.mark.parametrize(
    ("prefix", "found"),
    [
        ("a/", ["a/1", "a/2"]),
        ("a", ["a/1", "a/2", "aa", "a\uffee"]),
        ("a%", []),
        ("%", ["%1"]),
        ("_", ["_1"]),
        ("none", []),
    ],
)
def test_a_prefix_is_plain_text(bucket, prefix, found):
    fill(bucket, ["a/1", "a/2", "aa", "a\uffee", "b", "%1", "_1", "x1"])
    assert listed(bucket, prefix) == found


def test_a_listing_goes_on_after_a_key(bucket):
    fill(bucket, ["a", "b", "b/1", "c"])
    assert listed(bucket, start_after="b") == ["b/1", "c"]
    assert listed(bucket, "b", start_after="b") == ["b/1"]
    assert listed(bucket, "c", start_after="a") == ["c"]


def test_more_than_a_page_is_listed_and_deleted_whole(bucket, monkeypatch):
    monkeypatch.setattr("r2maint.bucket.directory_bucket.PAGE_SIZE", 10)
    monkeypatch.setattr("r2maint.bucket.r2.BATCH_SIZE", 10)
    bucket.page_size = 10
    keys = [f"many/{number:04d}" for number in range(21)]
    fill(bucket, keys)
    assert [len(page) for page in bucket.list_pages("many/")] == [10, 10, 1]
    assert listed(bucket) == keys
    assert len(list(bucket.delete_many(keys))) == 21
    assert listed(bucket) == []


def test_a_listing_says_what_a_head_says(bucket):
    put(bucket, Upload(key="k", body=b"12345", headers=FULL))
    (item,) = next(bucket.list_pages())
    info = head(bucket, "k")
    assert (item.key, item.size, item.etag, item.modified_at, item.storage_class) == (
        info.key,
        info.size,
        info.etag,
        info.modified_at,
        info.headers.storage_class,
    )


def test_the_upload_time_is_by_the_clock_of_the_bucket(bucket):
    before = bucket.now()
    put(bucket, Upload(key="k", body=b""))
    uploaded_at = head(bucket, "k").modified_at
    assert before - timedelta(seconds=1) <= uploaded_at <= bucket.now() + timedelta(seconds=1)
    assert uploaded_at.utcoffset() == timedelta(0)
    assert bucket.now().utcoffset() == timedelta(0)


def test_nothing_is_overwritten_by_default(bucket):
    put(bucket, Upload(key="k", body=b"first"))
    with pytest.raises(PreconditionFailed, match="'k'"):
        put(bucket, Upload(key="k", body=b"second"))
    assert get(bucket, "k").body == b"first"


def test_an_object_is_replaced_only_at_the_version_named(bucket):
    first = put(bucket, Upload(key="k", body=b"first"))
    second = put(bucket, Upload(key="k", body=b"second", if_absent=False, if_match=first.etag))
    with pytest.raises(PreconditionFailed):
        put(bucket, Upload(key="k", body=b"third", if_absent=False, if_match=first.etag))
    assert get(bucket, "k").body == b"second"
    assert head(bucket, "k").etag == second.etag


def test_an_absent_object_cannot_be_replaced(bucket):
    with pytest.raises((PreconditionFailed, NoSuchKey)):
        put(bucket, Upload(key="k", body=b"x", if_absent=False, if_match="0" * 32))
    assert head(bucket, "k") is None


def test_a_copy_has_the_bytes_and_the_headers_given(bucket):
    source = put(bucket, Upload(key="a b/صورة+1", body=b"bytes", headers=FULL))
    headers = Headers(content_type="image/png", metadata={"was": "a b"})
    copy = Copy(source="a b/صورة+1", target="q/1", if_match=source.etag, headers=headers)
    (result,) = bucket.copy_many([copy])
    assert (result.error, result.value.size, result.value.etag) == (None, 5, source.etag)
    assert get(bucket, "q/1").body == b"bytes"
    info = head(bucket, "q/1")
    assert (info.headers.content_type, dict(info.headers.metadata)) == (
        "image/png",
        {"was": "a b"},
    )
    assert info.headers.cache_control == ""
    assert head(bucket, "a b/صورة+1").headers == FULL


def test_a_copy_keeps_every_header_that_is_sent_again(bucket):
    source = put(bucket, Upload(key="k", body=b"bytes", headers=FULL))
    headers = head(bucket, "k").headers
    (result,) = bucket.copy_many(
        [Copy(source="k", target="q", if_match=source.etag, headers=headers)]
    )
    assert result.error is None
    assert head(bucket, "q").headers == get(bucket, "q").info.headers == FULL


def test_a_copy_keeps_a_storage_class_that_is_sent_again(bucket):
    headers = Headers(storage_class="STANDARD_IA")
    source = put(bucket, Upload(key="cold", body=b"x", headers=headers))
    copy = Copy(source="cold", target="q", if_match=source.etag, headers=headers)
    list(bucket.copy_many([copy]))
    assert head(bucket, "q").headers.storage_class == "STANDARD_IA"
    assert {item.storage_class for page in bucket.list_pages() for item in page} == {"STANDARD_IA"}


def test_a_copy_of_a_changed_or_missing_object_fails(bucket):
    put(bucket, Upload(key="k", body=b"new"))
    copies = [
        Copy(source="k", target="t1", if_match="0" * 32, headers=Headers()),
        Copy(source="gone", target="t2", if_match="0" * 32, headers=Headers()),
    ]
    errors = [type(result.error) for result in bucket.copy_many(copies)]
    assert errors == [PreconditionFailed, NoSuchKey]
    assert head(bucket, "t2") is None


def test_an_absent_key_counts_as_deleted(bucket):
    assert [result.error for result in bucket.delete_many(["gone", "", "x" * 1025])] == [None] * 3


@pytest.mark.parametrize(
    "key", ["", "x" * 1025, "é" * 513, "\ud800"], ids=["empty", "long", "bytes", "surrogate"]
)
def test_a_key_no_bucket_can_hold_is_rejected_or_absent(bucket, key):
    with pytest.raises(ObjectRejected):
        put(bucket, Upload(key=key, body=b"x"))
    assert head(bucket, key) is None


@pytest.mark.parametrize(
    "headers",
    [
        Headers(content_disposition="attachment; filename=صورة.png"),
        Headers(metadata={"note": "line\r\nbreak"}),
        Headers(metadata={"note": "x" * 8192}),
    ],
    ids=["not-ascii", "line-break", "too-large"],
)
def test_headers_no_bucket_takes_are_rejected_for_that_object_alone(bucket, headers):
    uploads = [Upload(key="bad", body=b"x", headers=headers), Upload(key="good", body=b"x")]
    errors = [type(result.error) for result in bucket.put_many(uploads)]
    assert errors == [ObjectRejected, type(None)]
    assert listed(bucket) == ["good"]


def test_a_local_file_that_cannot_be_read_is_rejected_alone(bucket, tmp_path):
    uploads = [
        Upload(key="missing", body=tmp_path / "missing.png"),
        Upload(key="directory", body=tmp_path),
        Upload(key="good", body=b"x"),
    ]
    errors = [type(result.error) for result in bucket.put_many(uploads)]
    assert errors == [ObjectRejected, ObjectRejected, type(None)]


def test_results_come_in_the_order_of_the_requests(bucket):
    keys = [f"{number:02d}" for number in range(40)]
    fill(bucket, keys[::2])
    results = list(bucket.head_many(keys))
    assert [result.request for result in results] == keys
    assert [result.value.key for result in results[::2]] == keys[::2]
    assert {type(result.error) for result in results[1::2]} == {NoSuchKey}


@pytest.mark.parametrize("keys", [ODD_KEYS, DOTTED_KEYS], ids=["odd", "dotted"])
def test_beginnings_come_in_the_order_of_the_requests(bucket, keys):
    list(bucket.put_many(Upload(key=key, body=key.encode() * 1000) for key in keys))
    results = list(bucket.peek_many([*keys, "gone"], count=100))
    assert [result.request for result in results] == [*keys, "gone"]
    assert [result.value for result in results[:-1]] == [
        (key.encode() * 1000)[:100] for key in keys
    ]
    assert type(results[-1].error) is NoSuchKey


def test_the_beginning_of_a_short_object_is_all_of_it(bucket):
    fill(bucket, ["short"])
    assert [result.value for result in bucket.peek_many(["short"], count=1024)] == [b"short"]


def test_requests_are_taken_as_they_are_needed(bucket):
    taken = []

    def endless():
        number = 0
        while True:
            taken.append(number)
            yield f"key/{number}"
            number += 1

    results = bucket.head_many(endless())
    assert not taken
    assert isinstance(next(results).error, NoSuchKey)
    results.close()
    assert len(taken) < 100


def test_no_upload_is_unfinished(bucket):
    put(bucket, Upload(key="k", body=b"x"))
    assert list(bucket.list_uploads()) == []


def test_an_upload_that_is_over_has_no_size_and_counts_as_aborted(bucket):
    over = PendingUpload(key="k", upload_id="0" * 32, initiated_at=bucket.now())
    (measured,) = bucket.measure_uploads([over])
    assert isinstance(measured.error, NoSuchKey)
    (aborted,) = bucket.abort_uploads([over])
    assert aborted.error is None


@pytest.mark.parametrize("key", ["a/film.mp4", "a b/صورة+1"])
def test_an_unfinished_upload_is_measured_and_aborted_alone(bucket, key):
    if not leave_uploads(bucket, key, "other"):
        assert list(bucket.list_uploads()) == []
        return
    (upload,) = bucket.list_uploads(key[:3])
    assert upload.key == key
    assert [result.value for result in bucket.measure_uploads([upload])] == [5]
    assert [result.error for result in bucket.abort_uploads([upload])] == [None]
    assert [each.key for each in bucket.list_uploads()] == ["other"]


def leave_uploads(bucket, *keys: str) -> bool:
    """Leave unfinished uploads of five bytes each; False where none can be."""
    if isinstance(bucket, R2Fake):
        for key in keys:
            bucket.begin_upload(key, 5)
    elif isinstance(bucket, R2Bucket):
        for key in keys:
            place = {"Bucket": bucket.name, "Key": key}
            begun = bucket._client.create_multipart_upload(**place)
            part = {"UploadId": begun["UploadId"], "PartNumber": 1, "Body": b"12345"}
            bucket._client.upload_part(**place, **part)
    return not isinstance(bucket, DirectoryBucket)


def test_other_bytes_than_the_caller_means_are_not_stored(bucket, tmp_path):
    file = tmp_path / "source"
    file.write_bytes(b"edited since it was planned")
    planned = hashlib.sha256(b"as it was").hexdigest()
    uploads = [
        Upload(key="file", body=file, sha256=planned),
        Upload(key="bytes", body=b"others", sha256=planned),
        Upload(key="same", body=b"as it was", sha256=planned),
    ]

    first, second, third = bucket.put_many(uploads)

    assert isinstance(first.error, ObjectRejected)
    assert isinstance(second.error, ObjectRejected)
    assert third.error is None
    assert [item.key for page in bucket.list_pages() for item in page] == ["same"]
