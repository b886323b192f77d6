"""The bucket behind an S3 endpoint: what is sent, what is tried again, and how failures are told."""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from botocore import exceptions as sdk

from r2maint.bucket import Copy, Expiry, Headers, Upload, get, head, open_bucket, put, upload_many
from r2maint.bucket.r2 import R2Bucket
from r2maint.bucket.sdk_errors import RequestTarget, explain, translated
from r2maint.conf import Config
from r2maint.conf.bucket_connection import Connection
from r2maint.errors import (
    AccessDenied,
    BucketError,
    BucketUnreachable,
    ConfigError,
    LeaseHeld,
    NoSuchBucket,
    NoSuchKey,
    ObjectLocked,
    ObjectRejected,
    PreconditionFailed,
    Unsupported,
)
from r2maint.http.retry import Limiter
from tests.servers.s3_server import CUT_BODY, DAMAGE, FORWARD, LOSE_ANSWER, Answer, proxy, s3_error

DENIED = s3_error(403, "AccessDenied")


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    """Let botocore and the bulk engine try again at once."""
    monkeypatch.setattr("r2maint.bucket.delete_many._FIRST_WAIT_SECONDS", 0.0)
    monkeypatch.setattr("r2maint.http.retry.FIRST_WAIT_SECONDS", 0.0)
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda seconds: None))


@pytest.fixture
def between(s3_server):
    with proxy(s3_server) as state:
        yield state


@pytest.fixture
def bucket(between, s3_bucket, s3_connection):
    """The same bucket as `s3_bucket`, behind the proxy `between`."""
    return R2Bucket(s3_bucket.name, replace(s3_connection, endpoint_url=between.url), workers=4)


def listed(bucket):
    return [item.key for page in bucket.list_pages() for item in page]


def test_an_abandoned_listing_may_end_in_its_own_thread(bucket, monkeypatch):
    monkeypatch.setattr("r2maint.bucket.r2.BATCH_SIZE", 1)
    for key in "abc":
        put(bucket, Upload(key=key, body=b"x"))
    has_first, was_left, one_page = threading.Event(), threading.Event(), bucket._page

    def page(prefix, more):
        if more:
            has_first.wait(10)
            pages.close()
            was_left.set()
        return one_page(prefix, more)

    monkeypatch.setattr(bucket, "_page", page)
    pages = bucket.list_pages()
    assert [item.key for item in next(pages)] == ["a"]
    has_first.set()
    assert was_left.wait(10)
    assert list(pages) == []


def header(request, name):
    return {key.lower(): value for key, value in request.headers.items()}.get(name)


# What is sent


def test_a_put_carries_the_checksum_of_its_bytes_and_its_condition(bucket, between):
    put(bucket, Upload(key="k", body=b"bytes", headers=Headers(content_type="image/png")))
    (request,) = between.requests
    md5 = base64.b64encode(hashlib.md5(b"bytes").digest()).decode()
    assert header(request, "content-md5") == md5
    assert header(request, "if-none-match") == "*"
    assert header(request, "content-type") == "image/png"
    assert header(request, "x-amz-storage-class") == "STANDARD"
    assert header(request, "x-amz-trailer") is None
    assert not [name for name in request.headers if "checksum" in name.lower()]


def test_a_copy_is_pinned_and_its_headers_are_sent_again(bucket, between):
    stored = put(bucket, Upload(key="a b/+%", body=b"x"))
    headers = Headers(cache_control="no-store", storage_class="STANDARD_IA")
    copy = Copy(source="a b/+%", target="t", if_match=stored.etag, headers=headers)
    list(bucket.copy_many([copy]))
    request = between.requests[1]
    assert header(request, "x-amz-copy-source-if-match") == f'"{stored.etag}"'
    assert header(request, "x-amz-metadata-directive") == "REPLACE"
    assert header(request, "x-amz-storage-class") == "STANDARD_IA"
    assert header(request, "cache-control") == "no-store"


def test_the_key_reaches_the_server_percent_encoded(bucket, between):
    head(bucket, "a/../b//c d+e%é")
    assert between.requests[0].target.endswith("/a/../b//c%20d%2Be%25%C3%A9")


def test_at_most_a_thousand_keys_are_deleted_in_one_request(bucket, between):
    keys = [f"{number:04d}" for number in range(1001)]
    put(bucket, Upload(key="1000", body=b""))
    assert {result.error for result in bucket.delete_many(keys)} == {None}
    sizes = [r.body.count(b"<Key>") for r in between.requests if r.method == "POST"]
    assert sorted(sizes) == [1, 1000]
    assert listed(bucket) == []


def test_a_page_of_a_listing_is_at_most_a_thousand(bucket, between):
    assert listed(bucket) == []
    assert "max-keys=1000&" in between.requests[0].target


def test_the_time_is_the_date_of_an_answer(bucket, between):
    page = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"
    between.fault = lambda request: Answer(200, page)
    assert abs((bucket.now() - datetime.now(UTC)).total_seconds()) < 30
    assert "max-keys=1&" in between.requests[0].target


def test_a_page_is_read_exactly_and_only_once():
    # botocore's own look for errors in the answer would choke on the control character.
    entry = (
        "<Contents><Key>\x01</Key><LastModified>2026-01-02T03:04:05.678Z</LastModified>"
        "<ETag>&quot;0123&quot;</ETag><Size>7</Size></Contents>"
    )
    body = f"<ListBucketResult><IsTruncated>false</IsTruncated>{entry}</ListBucketResult>"
    with scripted(Answer(200, body.encode())) as bucket:
        assert listed(bucket) == ["\x01"]


# Large files


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(upload_many, "PARTS_ABOVE_BYTES", 6 * 2**20)
    monkeypatch.setattr(upload_many, "PART_BYTES", 5 * 2**20)


@pytest.mark.usefixtures("small_parts")
def test_a_large_file_is_sent_in_equal_parts(bucket, between, tmp_path):
    path = tmp_path / "film.mp4"
    path.write_bytes(bytes(range(256)) * 4096 * 11)
    info = put(bucket, Upload(key="film.mp4", body=path, headers=Headers(content_type="video/mp4")))
    parts = [len(request.body) for request in between.requests if request.method == "PUT"]
    assert sorted(parts, reverse=True) == [5 * 2**20, 5 * 2**20, 2**20]
    assert (info.size, info.etag[-2:]) == (11 * 2**20, "-3")
    found = get(bucket, "film.mp4")
    assert (found.body, found.info.headers.content_type) == (path.read_bytes(), "video/mp4")
    assert found.info.etag == info.etag


@pytest.mark.usefixtures("small_parts")
def test_a_large_file_overwrites_nothing(bucket):
    put(bucket, Upload(key="k", body=b"first"))
    with pytest.raises(PreconditionFailed):
        put(bucket, Upload(key="k", body=bytes(7 * 2**20)))
    assert get(bucket, "k").body == b"first"


@pytest.mark.usefixtures("small_parts")
def test_an_upload_in_parts_that_fails_is_aborted(bucket, between):
    between.script(DENIED, method="PUT", contains="partNumber=2")
    with pytest.raises(AccessDenied):
        put(bucket, Upload(key="k", body=bytes(7 * 2**20)))
    assert list(bucket.list_uploads()) == []
    assert listed(bucket) == []


@pytest.mark.usefixtures("small_parts")
def test_an_upload_that_a_killed_run_left_in_parts_starts_clean(bucket, between):
    for key in ("film.mp4", "film.mp4.bak"):
        bucket._client.create_multipart_upload(Bucket=bucket.name, Key=key)

    put(bucket, Upload(key="film.mp4", body=bytes(11 * 2**20)))

    assert [pending.key for pending in bucket.list_uploads()] == ["film.mp4.bak"]
    assert get(bucket, "film.mp4").info.size == 11 * 2**20


@pytest.mark.usefixtures("small_parts")
def test_parts_are_sent_several_at_once_and_put_together_in_order(bucket, between, monkeypatch):
    monkeypatch.setattr(upload_many, "_PARTS_BYTES", 4 * 5 * 2**20)
    both, met = threading.Barrier(2, timeout=20), []

    def hold_the_first_two(request):
        if re.search(r"partNumber=[12]\b", request.target):
            met.append(both.wait())
        return FORWARD

    between.fault = hold_the_first_two
    body = b"".join(bytes([number]) * 5 * 2**20 for number in range(3))
    put(bucket, Upload(key="film.mp4", body=body))
    assert sorted(met) == [0, 1]
    assert get(bucket, "film.mp4").body == body


@pytest.mark.usefixtures("small_parts")
def test_an_upload_in_parts_whose_last_answer_is_lost_is_known_again(bucket, between):
    between.script(LOSE_ANSWER, method="POST", contains="uploadId=")
    info = put(bucket, Upload(key="k", body=bytes(7 * 2**20)))
    assert head(bucket, "k").etag == info.etag


@pytest.mark.usefixtures("small_parts")
def test_an_upload_in_parts_is_known_again_by_the_md5_of_the_whole(bucket, between, s3_bucket):
    body = bytes(7 * 2**20)

    def fault(request):
        if request.method == "POST" and "uploadId=" in request.target:
            # As `rclone serve s3` has it: the ETag of an object in parts is an MD5 all the same.
            s3_bucket._client.put_object(Bucket=s3_bucket.name, Key="k", Body=body)
            return next(answers)
        return FORWARD

    answers = iter([s3_error(500, "InternalError"), s3_error(404, "NoSuchUpload")])
    between.fault = fault
    info = put(bucket, Upload(key="k", body=body))
    assert info.etag == hashlib.md5(body).hexdigest()


@pytest.mark.usefixtures("small_parts")
def test_an_upload_in_parts_that_was_begun_twice_is_left_nowhere(bucket, between):
    between.script(LOSE_ANSWER, method="POST", contains="?uploads")
    put(bucket, Upload(key="k", body=bytes(7 * 2**20)))
    assert list(bucket.list_uploads()) == []


def test_unfinished_uploads_are_listed(bucket):
    bucket._client.create_multipart_upload(Bucket=bucket.name, Key="a/film.mp4")
    (upload,) = bucket.list_uploads("a/")
    assert upload.key == "a/film.mp4"
    assert upload.initiated_at.utcoffset().total_seconds() == 0


def test_unfinished_uploads_are_listed_page_by_page(bucket, monkeypatch):
    for number in range(5):
        bucket._client.create_multipart_upload(Bucket=bucket.name, Key=f"{number}")
    listing = bucket._client.list_multipart_uploads
    monkeypatch.setattr(
        bucket._client, "list_multipart_uploads", lambda **given: listing(**given, MaxUploads=2)
    )
    assert [upload.key for upload in bucket.list_uploads()] == list("01234")


def test_a_server_that_cannot_list_uploads_is_told_in_a_line(bucket, between):
    between.script(s3_error(501, "NotImplemented"), contains="uploads")
    with pytest.raises(Unsupported, match="does not know this request: ListMultipartUploads"):
        list(bucket.list_uploads())


def test_a_server_that_knows_of_no_upload_has_none(bucket, between):
    between.script(s3_error(404, "NoSuchUpload"), contains="uploads")
    assert list(bucket.list_uploads()) == []


def test_no_upload_has_more_parts_than_the_server_takes():
    size = 5 * 2**40
    assert -(-size // upload_many.part_bytes(size)) <= upload_many.MAX_PARTS


# What is tried again


@pytest.mark.parametrize(
    "fault",
    [
        s3_error(500, "InternalError"),
        s3_error(503, "ServiceUnavailable"),
        s3_error(503, "SlowDown"),
        s3_error(429, "TooManyRequests"),
        s3_error(400, "ClientDisconnect"),
        s3_error(400, "IncompleteBody"),
        LOSE_ANSWER,
    ],
    ids=lambda fault: "lost" if fault == LOSE_ANSWER else fault.body.decode()[13:25],
)
def test_what_passes_is_tried_again(bucket, between, fault):
    between.script(fault, fault)
    put(bucket, Upload(key="k", body=b"x"))
    assert get(bucket, "k").body == b"x"


def test_a_listing_page_that_is_cut_off_is_asked_for_again(bucket, between):
    put(bucket, Upload(key="k", body=b"x"))
    cut = Answer(200, b"<ListBucketResult><IsTruncated>false</IsTruncated><Contents>")
    between.script(cut, CUT_BODY, contains="list-type=2")
    assert listed(bucket) == ["k"]


def test_a_body_that_breaks_off_is_read_again(bucket, between, tmp_path):
    put(bucket, Upload(key="k", body=b"0123456789"))
    between.script(CUT_BODY, CUT_BODY, method="GET")
    assert get(bucket, "k").body == b"0123456789"
    between.script(CUT_BODY, method="GET")
    bucket.download("k", tmp_path / "k")
    assert (tmp_path / "k").read_bytes() == b"0123456789"


def test_a_body_that_always_breaks_off_is_no_download(bucket, between, tmp_path):
    put(bucket, Upload(key="k", body=b"0123456789"))
    between.fault = lambda request: CUT_BODY
    with pytest.raises(BucketUnreachable):
        bucket.download("k", tmp_path / "k")
    assert list(tmp_path.iterdir()) == []


def test_a_put_whose_answer_was_lost_is_known_again_by_its_bytes(bucket, between):
    between.script(LOSE_ANSWER, method="PUT")
    assert put(bucket, Upload(key="k", body=b"mine")).etag == hashlib.md5(b"mine").hexdigest()


def test_a_put_that_libcurl_repeats_by_itself_is_known_again_by_its_bytes(bucket, between):
    put(bucket, Upload(key="first", body=b"opens the connection that breaks"))
    between.script(LOSE_ANSWER, method="PUT")
    assert put(bucket, Upload(key="k", body=b"mine")).etag == hashlib.md5(b"mine").hexdigest()


def test_a_put_that_meets_other_bytes_on_its_second_attempt_fails(bucket, between, s3_bucket):
    def fault(request):
        if len(between.requests) > 1:
            return "forward"
        put(s3_bucket, Upload(key="k", body=b"theirs"))
        return LOSE_ANSWER

    between.fault = fault
    with pytest.raises(PreconditionFailed):
        put(bucket, Upload(key="k", body=b"mine"))
    assert get(s3_bucket, "k").body == b"theirs"


def test_a_key_taken_by_the_same_bytes_is_still_taken(bucket):
    put(bucket, Upload(key="k", body=b"same"))
    with pytest.raises(PreconditionFailed):
        put(bucket, Upload(key="k", body=b"same"))


def test_bytes_that_did_not_arrive_as_sent_are_an_error(bucket, between):
    # R2 refuses them by their checksums; moto stores them, and the ETag gives them away.
    between.script(DAMAGE, method="PUT")
    with pytest.raises(BucketError, match="checksum of other bytes"):
        put(bucket, Upload(key="k", body=b"sent"))


# How failures are told


@contextmanager
def scripted(answer):
    """Give a bucket whose server always answers the same."""
    with proxy() as server:
        server.fault = lambda request: answer
        connection = Connection(
            source="R2MAINT",
            access_key_id="a" * 32,
            secret_access_key="s3cr3t",
            endpoint_url=server.url,
        )
        yield R2Bucket("quran-apps", connection, workers=2)


OPERATIONS = {
    "list": lambda bucket: listed(bucket),
    "now": lambda bucket: bucket.now(),
    "head": lambda bucket: head(bucket, "k"),
    "get": lambda bucket: get(bucket, "k"),
    "put": lambda bucket: put(bucket, Upload(key="k", body=b"x")),
    "copy": lambda bucket: list(
        bucket.copy_many([Copy(source="k", target="t", if_match="0" * 32, headers=Headers())])
    ),
    "delete": lambda bucket: list(bucket.delete_many(["k"])),
}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    ("answer", "error", "hint"),
    [
        (s3_error(403, "AccessDenied"), AccessDenied, ""),
        (s3_error(403, "InvalidAccessKeyId"), AccessDenied, ""),
        (s3_error(403, "SignatureDoesNotMatch", "StringToSign s3cr3t"), AccessDenied, ""),
        (s3_error(401, "Unauthorized"), AccessDenied, ""),
        (
            s3_error(400, "InvalidArgument", "Credential access key has length 20, should be 32"),
            AccessDenied,
            "",
        ),
        (s3_error(403, "RequestTimeTooSkewed"), AccessDenied, "clock"),
        (s3_error(400, "AuthorizationHeaderMalformed"), AccessDenied, "REGION"),
        (s3_error(404, "NoSuchBucket"), NoSuchBucket, "jurisdiction"),
        (s3_error(503, "ServiceUnavailable"), BucketUnreachable, "--rate"),
    ],
    ids=["denied", "key-id", "secret", "401", "key-length", "clock", "region", "bucket", "503"],
)
def test_what_stops_a_run_is_raised_with_a_hint(operation, answer, error, hint):
    with scripted(answer) as bucket, pytest.raises(error) as caught:
        OPERATIONS[operation](bucket)
    assert "quran-apps" in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.hint
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_unreachable_endpoint_is_named(operation, s3_connection):
    bucket = R2Bucket("b", replace(s3_connection, endpoint_url="http://127.0.0.1:9"))
    with pytest.raises(BucketUnreachable, match=r"127\.0\.0\.1:9") as caught:
        OPERATIONS[operation](bucket)
    assert "ENDPOINT_URL" in caught.value.hint


def test_an_endpoint_without_tls_is_told_as_such(s3_server, s3_connection):
    url = s3_server.replace("http:", "https:")
    bucket = R2Bucket("b", replace(s3_connection, endpoint_url=url))
    with pytest.raises(BucketUnreachable, match="certificate"):
        bucket.now()


def test_an_endpoint_that_is_no_url_is_a_configuration_error(s3_connection):
    with pytest.raises(ConfigError, match="not a URL"):
        R2Bucket("b", replace(s3_connection, endpoint_url="r2 dot com"))


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, b"<html><body>Welcome</body></html>", "text/html"),
        Answer(200, b""),
        Answer(200, b"not xml"),
        Answer(200, b"{}", "application/json"),
        Answer(404, b"<html><body>Not found</body></html>", "text/html"),
        Answer(301, b""),
    ],
    ids=["html", "empty", "text", "json", "html-404", "redirect"],
)
def test_a_server_that_is_not_s3_gives_no_empty_listing(answer):
    with scripted(answer) as bucket, pytest.raises(BucketError) as caught:
        listed(bucket)
    assert caught.value.message.endswith(".")


def test_a_missing_bucket_is_not_a_missing_object(s3_connection):
    bucket = R2Bucket("no-such-bucket", s3_connection)
    with pytest.raises(NoSuchBucket, match="no-such-bucket"):
        head(bucket, "k")


def test_the_bucket_is_asked_only_once_whether_it_exists(bucket, between):
    list(bucket.head_many(["a", "b", "c"]))
    assert len([request for request in between.requests if request.method == "GET"]) == 1


def test_a_locked_object_is_told_apart_from_bad_keys(bucket, between):
    between.script(s3_error(403, "ObjectLockedByBucketPolicy"), method="PUT")
    with pytest.raises(ObjectLocked, match="'k'"):
        put(bucket, Upload(key="k", body=b"x"))


def test_each_key_of_a_deletion_has_its_own_error(bucket, between):
    errors = b"".join(
        b"<Error><Key>%s</Key><Code>%s</Code></Error>" % pair
        for pair in [(b"b", b"ObjectLockedByBucketPolicy"), (b"c", b"MethodNotAllowed")]
    )
    errors += b"<Deleted><Key>a</Key></Deleted>"
    between.script(Answer(200, b"<DeleteResult>" + errors + b"</DeleteResult>"), method="POST")
    results = {result.request: type(result.error) for result in bucket.delete_many([*"abcd"])}
    assert results == {"a": type(None), "b": ObjectLocked, "c": BucketError, "d": BucketError}


def deletion(deleted: str = "", **codes: str) -> Answer:
    """An answer to DeleteObjects: each letter is a key that was deleted, each name one that was not."""
    told = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in deleted)
    told += "".join(
        f"<Error><Key>{k}</Key><Code>{code}</Code></Error>" for k, code in codes.items()
    )
    return Answer(200, f"<DeleteResult>{told}</DeleteResult>".encode())


@pytest.mark.parametrize(
    "answer", [deletion("b"), Answer(200), Answer(200, b"<html></html>")], ids=["half", "", "html"]
)
def test_what_an_answer_leaves_out_counts_as_deleted_by_nobody(bucket, between, answer):
    between.script(answer, method="POST")
    results = {result.request: result.error for result in bucket.delete_many([*"ab"])}
    assert isinstance(results["a"], BucketError)


def test_keys_the_server_was_too_busy_for_are_deleted_by_another_request(bucket, between):
    between.script(deletion("a", b="SlowDown", c="InternalError"), deletion("bc"), method="POST")
    assert {result.error for result in bucket.delete_many([*"abc"])} == {None}
    assert [r.body.count(b"<Key>") for r in between.requests if r.method == "POST"] == [3, 2]


def test_a_token_that_may_delete_nothing_ends_the_run(bucket, between):
    between.script(deletion(a="AccessDenied", b="AccessDenied"), method="POST")
    with pytest.raises(AccessDenied, match="DeleteObjects") as caught:
        list(bucket.delete_many([*"ab"]))
    assert "leaves out deleting" in caught.value.hint


def test_one_key_that_may_not_be_deleted_is_an_error_of_its_own(bucket, between):
    between.script(deletion("a", b="AccessDenied"), method="POST")
    results = {result.request: type(result.error) for result in bucket.delete_many([*"ab"])}
    assert results == {"a": type(None), "b": AccessDenied}


def test_every_attempt_to_delete_is_asked_for_and_may_be_forbidden(bucket, between):
    put(bucket, Upload(key="a", body=b"x"))
    asked = []

    def permit() -> None:
        asked.append(True)
        if len(asked) == 2:
            raise LeaseHeld("The lease on the bucket was lost.")

    between.script(s3_error(503, "SlowDown"), method="POST")
    with pytest.raises(LeaseHeld):
        list(bucket.delete_many(["a"], permit=permit))
    assert listed(bucket) == ["a"]


@pytest.mark.parametrize(
    ("code", "error"), [("InternalError", type(None)), ("NoSuchKey", NoSuchKey)]
)
def test_a_copy_that_fails_with_status_200_is_no_copy(bucket, between, code, error):
    stored = put(bucket, Upload(key="k", body=b"x"))
    between.script(Answer(200, s3_error(500, code).body), method="PUT")
    (result,) = bucket.copy_many([Copy(source="k", target="t", if_match=stored.etag)])
    assert type(result.error) is error


def test_a_copy_keeps_the_headers_and_is_told_its_class(bucket, between):
    headers = Headers(content_type="image/png", metadata={"a": "b"}, storage_class="STANDARD_IA")
    stored = put(bucket, Upload(key="k", body=b"x", headers=headers))
    copy = Copy(source="k", target="t", if_match=stored.etag, storage_class="STANDARD_IA")
    (result,) = bucket.copy_many([copy])
    assert result.value.headers == headers
    request = between.requests[1]
    assert header(request, "x-amz-metadata-directive") == "COPY"
    assert header(request, "x-amz-storage-class") == "STANDARD_IA"


@pytest.mark.parametrize(
    ("code", "status", "error"),
    [
        ("NoSuchKey", 404, NoSuchKey),
        ("PreconditionFailed", 412, PreconditionFailed),
        ("ObjectLockedByBucketPolicy", 403, ObjectLocked),
        ("EntityTooLarge", 400, ObjectRejected),
        ("InvalidRequest", 400, ObjectRejected),
        ("MetadataTooLarge", 400, ObjectRejected),
        ("InvalidObjectName", 400, ObjectRejected),
        ("BadDigest", 400, ObjectRejected),
        ("InternalError", 500, BucketError),
        ("TooManyRequests", 429, BucketError),
        ("Teapot", 418, BucketError),
    ],
)
def test_what_concerns_one_object_lets_the_run_go_on(code, status, error):
    told = explain(RequestTarget("b", "host"), "a key", "PutObject", code=code, status=status)
    assert type(told) is error
    assert not told.ends_run
    assert "'a key'" in told.message


def test_a_refused_upload_with_working_reads_points_at_the_checksum_setting():
    told = explain(RequestTarget("b", "host"), "k", "PutObject", code="Unauthorized", status=401)
    assert "request_checksum_calculation" in told.hint


@pytest.mark.parametrize(
    "error",
    [
        sdk.IncompleteReadError(actual_bytes=1, expected_bytes=2),
        sdk.ReadTimeoutError(endpoint_url="https://host/b/k?X-Amz-Signature=s3cr3t"),
        sdk.ConnectTimeoutError(endpoint_url="https://host"),
        sdk.ResponseStreamingError(error="broken"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_broken_connection_is_the_endpoint_not_answering(error):
    with (
        pytest.raises(BucketUnreachable, match="host") as caught,
        translated(RequestTarget("b", "host")),
    ):
        raise error
    assert "s3cr3t" not in str(caught.value)


def test_an_error_that_ends_the_run_comes_after_the_results_before_it(bucket, between):
    put(bucket, Upload(key="a", body=b"x"))
    between.script(DENIED, method="HEAD", contains="/c")
    results = bucket.head_many(["a", "b", "c", "d"])
    assert next(results).value.key == "a"
    assert isinstance(next(results).error, NoSuchKey)
    with pytest.raises(AccessDenied):
        next(results)


# Around it


def test_a_profile_of_the_aws_tools_has_no_say(monkeypatch, s3_connection):
    monkeypatch.setenv("AWS_PROFILE", "not-there")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    from r2maint.bucket import sdk_client

    sdk_client._session.cache_clear()
    try:
        with pytest.raises(NoSuchBucket):
            R2Bucket("no-such-bucket", s3_connection).now()
    finally:
        sdk_client._session.cache_clear()


def test_a_bucket_is_opened_from_the_configuration(s3_bucket, s3_connection):
    bucket = open_bucket(Config(bucket=s3_bucket.name, connection=s3_connection))
    put(bucket, Upload(key="k", body=b"x"))
    assert bucket.name == s3_bucket.name
    assert listed(bucket) == ["k"]


@pytest.mark.parametrize("config", [Config(), Config(bucket="media")], ids=["nothing", "keys"])
def test_a_bucket_that_is_not_configured_is_told_so(config):
    with pytest.raises(ConfigError) as caught:
        open_bucket(config)
    assert caught.value.hint


def test_no_secret_is_in_the_representation(s3_connection):
    assert "secret-0123" not in repr(s3_connection)


def test_requests_of_all_threads_share_one_rate(monkeypatch):
    slept = []
    clock = SimpleNamespace(monotonic=lambda: 100.0, sleep=slept.append)
    monkeypatch.setattr("r2maint.http.retry.time", clock)
    limiter = Limiter(10)
    threads = [threading.Thread(target=limiter.wait) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(slept) == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])


def test_the_rate_counts_every_attempt(between, s3_bucket, s3_connection, monkeypatch):
    places = []
    monkeypatch.setattr(Limiter, "reserve", lambda self: places.append(1) or 0.0)
    connection = replace(s3_connection, endpoint_url=between.url)
    bucket = R2Bucket(s3_bucket.name, connection, rate=100)
    between.script(s3_error(503, "SlowDown"))
    put(bucket, Upload(key="k", body=b"x"))
    assert len(places) == len(between.requests) == 2


def test_a_consumer_that_stops_leaves_no_thread_behind(bucket):
    results = bucket.head_many(str(number) for number in range(1000))
    next(results)
    results.close()
    for _ in range(100):
        if not [t for t in threading.enumerate() if t.name.startswith("r2maint-bucket")]:
            return
        time.sleep(0.01)
    pytest.fail("a worker is still running")


def test_lifecycle_rules_that_delete_objects_are_told(s3_bucket):
    assert s3_bucket.expiries() == ()
    by_age = {"ID": "old", "Status": "Enabled", "Filter": {"Prefix": "temp/"}}
    by_date = {"ID": "end", "Status": "Enabled", "Filter": {"Prefix": ""}}
    off = {"ID": "off", "Status": "Disabled", "Filter": {"Prefix": ""}}
    moved = {"ID": "cold", "Status": "Enabled", "Filter": {"Prefix": ""}}
    end = datetime(2030, 1, 1, tzinfo=UTC)
    rules = [
        {**by_age, "Expiration": {"Days": 30}},
        {**by_date, "Expiration": {"Date": end}},
        {**off, "Expiration": {"Days": 1}},
        {**moved, "Transitions": [{"Days": 30, "StorageClass": "STANDARD_IA"}]},
    ]
    s3_bucket._client.put_bucket_lifecycle_configuration(
        Bucket=s3_bucket.name, LifecycleConfiguration={"Rules": rules}
    )

    assert s3_bucket.expiries() == (
        Expiry(name="old", prefix="temp/", days=30),
        Expiry(name="end", at=end),
    )


def test_a_token_that_may_not_read_lifecycle_rules_is_refused(bucket, between):
    between.script(DENIED, method="GET", contains="lifecycle")

    with pytest.raises(AccessDenied):
        bucket.expiries()


# Stored bytes, and the ETags of one version


def unpacking(request, headers, body):
    """Unpack gzip for clients that do not take it, as R2 does; the ETag stays."""
    takes = header(request, "accept-encoding") or ""
    if request.method != "GET" or headers.get("Content-Encoding") != "gzip" or "gzip" in takes:
        return headers, body
    return {k: v for k, v in headers.items() if k != "Content-Encoding"}, gzip.decompress(body)


@pytest.mark.parametrize("key", ["a.svgz", "a/../b.svgz"])
def test_what_is_stored_packed_is_read_packed(bucket, between, tmp_path, key):
    body = gzip.compress(b"<svg/>" * 500, mtime=0)
    put(bucket, Upload(key=key, body=body, headers=Headers(content_encoding="gzip")))
    between.edit = unpacking
    found = get(bucket, key)
    assert (found.body, found.info.headers.content_encoding) == (body, "gzip")
    info = bucket.download(key, tmp_path / "file")
    assert ((tmp_path / "file").read_bytes(), info.size) == (body, len(body))


def test_an_object_is_asked_for_as_it_is_stored(bucket, between):
    put(bucket, Upload(key="k", body=b"x"))
    between.requests.clear()
    get(bucket, "k")
    (request,) = between.requests
    assert header(request, "accept-encoding") == "identity"
    # Servers on the way change it, so it is not signed.
    assert "accept-encoding" not in header(request, "authorization")


ETAGS = {"quoted": '"{}"', "weak": 'W/"{}"', "plain": "{}"}


@pytest.mark.parametrize("shape", ETAGS.values(), ids=ETAGS)
def test_an_etag_means_the_same_however_an_answer_writes_it(bucket, between, shape):
    md5 = hashlib.md5(b"x").hexdigest()
    written = shape.format(md5).replace('"', "&quot;").encode()

    def edit(request, headers, body):
        if "ETag" in headers:
            headers = {**headers, "ETag": shape.format(md5)}
        return headers, re.sub(rb"<ETag>[^<]*</ETag>", b"<ETag>" + written + b"</ETag>", body)

    between.edit = edit
    copies = [Copy(source="k", target=target, if_match=md5) for target in ("c", "./c")]
    found = [
        put(bucket, Upload(key="k", body=b"x")),
        put(bucket, Upload(key="a/../b", body=b"x")),
        get(bucket, "k").info,
        head(bucket, "k"),
        head(bucket, "a/../b"),
        *(one.value for one in bucket.copy_many(copies)),
        *(item for page in bucket.list_pages() for item in page),
    ]
    assert {one.etag for one in found} == {md5}
