"""`usage_report --analytics`: what Cloudflare counts, through the command and real HTTP."""

from __future__ import annotations

import json
import logging
import re
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from r2maint import conf
from r2maint.bucket import Upload, open_bucket, put
from r2maint.cloudflare.analytics import Analytics, Operation, StoredDay, ask_analytics
from r2maint.cloudflare.operation_classes import CLOUDFLARE, OperationClass
from r2maint.conf.bucket_connection import Connection
from r2maint.control import Control
from r2maint.errors import Stopped
from r2maint.management.commands import _base
from r2maint.management.commands.usage_report import Command
from r2maint.pricing import GB, INFREQUENT_ACCESS, STANDARD, month_of
from tests.commands import gauges, run
from tests.conftest import DATABASES
from tests.servers.analytics_server import SCHEMA, analytics_server, envelope, graphql
from tests.servers.s3_server import RESET, Answer, Request

pytestmark = pytest.mark.django_db(databases=DATABASES)

TOKEN = "t0ken-of-forty-characters-and-no-more-xx"
ACCOUNT = "0123456789abcdef0123456789abcdef"
TODAY = datetime.now(tz=UTC).replace(hour=0, minute=0, second=0, microsecond=0)
YESTERDAY = TODAY - timedelta(days=1)
FIRST = TODAY - timedelta(days=30)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr("r2maint.http.retry.FIRST_WAIT_SECONDS", 0.0)


@pytest.fixture
def server(monkeypatch):
    """Cloudflare's analytics, as far as a test fills them."""
    with analytics_server(account=ACCOUNT, token=TOKEN, now=datetime.now(tz=UTC)) as made:
        monkeypatch.setattr(Command, "api_url", made.url)
        yield made


R2 = {
    "BUCKET": "media",
    "ACCOUNT_ID": ACCOUNT,
    "ACCESS_KEY_ID": "0123456789abcdef0123456789abcdef",
    "SECRET_ACCESS_KEY": "secret-0123456789abcdef",
    "API_TOKEN": TOKEN,
}


@pytest.fixture
def bucket(project, settings, monkeypatch):
    """A bucket in a directory under the settings of one on R2, so that only analytics are asked."""
    made = open_bucket(conf.load())
    put(made, Upload(key="submissions/a.txt", body=b"a" * 100))
    made.name = R2["BUCKET"]
    settings.R2MAINT = {**settings.R2MAINT, **R2}
    monkeypatch.setattr(_base, "open_bucket", lambda config, **options: made)
    return made


def operation(bucket, name: str, requests: int, *, at: datetime = YESTERDAY, **more) -> dict:
    return {
        "actionType": name,
        "actionStatus": "success",
        "responseStatusCode": 200,
        "storageClass": "Standard",
        "bucketName": bucket.name,
        "datetime": at,
        "requests": requests,
        **more,
    }


def stored(bucket, size: int, *, at: datetime, objects: int = 1, **more) -> dict:
    return {
        "storageClass": "Standard",
        "bucketName": bucket.name,
        "datetime": at,
        "payloadSize": size,
        "objectCount": objects,
        **more,
    }


def moved(bucket, up: int, down: int, *, at: datetime = YESTERDAY) -> dict:
    return {"bucketName": bucket.name, "datetime": at, "bytesUpload": up, "bytesDownload": down}


def analytics(*arguments: str, exit_code: int = 0) -> dict:
    return run("usage_report", "--analytics", *arguments, exit_code=exit_code)


def text(*arguments: str) -> str:
    out = StringIO()
    call_command("usage_report", *arguments, stdout=out, stderr=StringIO())
    return out.getvalue()


# What is counted


def test_operations_are_counted_by_type_and_billed_by_class(bucket, server):
    server.operations = [
        operation(bucket, "PutObject", 2_500_000),
        operation(bucket, "ListObjects", 500_000, at=FIRST),
        operation(bucket, "GetObject", 30_000_000),
        operation(bucket, "HeadObject", 1),
        operation(bucket, "DeleteObject", 7),
    ]
    document = analytics()
    told = document["analytics"]["operations"]
    assert (told["class_a"], told["class_b"], told["free"]) == (3_000_000, 30_000_001, 7)
    # 3 M less 1 M free at $4.50; 30,000,001 less 10 M free, rounded up to 21 M, at $0.36.
    assert Decimal(document["cost"]["class_a_usd"]) == Decimal("9.00")
    assert Decimal(document["cost"]["class_b_usd"]) == Decimal("7.56")
    assert told["by_type"][0] == {
        "name": "GetObject",
        "class": "B",
        "storage_class": STANDARD,
        "requests": 30_000_000,
        "unbilled": 0,
    }
    assert any("3,000,000 Class A and" in each for each in document["cost"]["assumptions"])


def test_thirty_whole_days_count_and_no_moment_more(bucket, server):
    moments = [FIRST - timedelta(seconds=1), FIRST, TODAY - timedelta(seconds=1), TODAY]
    server.operations = [
        operation(bucket, "PutObject", 10**number, at=at) for number, at in enumerate(moments)
    ]
    told = analytics()["analytics"]
    assert told["operations"]["class_a"] == 10 + 100
    assert (told["first_day"], told["last_day"]) == (f"{FIRST:%F}", f"{YESTERDAY:%F}")


def test_operations_on_infrequent_access_are_billed_as_its_own(bucket, server):
    server.operations = [
        operation(bucket, "PutObject", 1_000_001),
        operation(bucket, "PutObject", 1000, storageClass="InfrequentAccess"),
        operation(bucket, "GetObject", 1, storageClass="InfrequentAccess"),
    ]
    cost = analytics()["cost"]
    assert cost["billable"]["standard_class_a_millions"] == 1
    assert cost["billable"]["infrequent_access_class_a_millions"] == 1
    assert Decimal(cost["class_a_usd"]) == Decimal("13.50")
    assert Decimal(cost["class_b_usd"]) == Decimal("0.90")


def test_what_is_retrieved_is_given_by_hand_beside_analytics(bucket, server):
    server.operations = [operation(bucket, "GetObject", 1, storageClass="InfrequentAccess")]
    cost = analytics("--retrieved", "1000GB")["cost"]
    assert (cost["retrieval_usd"], cost["class_b_usd"]) == ("10.00", "0.90")


def test_operations_of_no_known_class_are_shown_by_name_and_not_billed(bucket, server):
    server.operations = [
        operation(bucket, "DeleteObjects", 5_000_000),
        operation(bucket, "BrandNewThing", 3),
        operation(bucket, "GetObject", 1),
    ]
    document = analytics()
    told = document["analytics"]
    assert told["unclassified"] == {"BrandNewThing": 3, "DeleteObjects": 5_000_000}
    assert told["operations"]["unclassified"] == 5_000_003
    assert Decimal(document["cost"]["class_a_usd"]) == Decimal(document["cost"]["class_b_usd"]) == 0
    note = "BrandNewThing 3, DeleteObjects 5,000,000"
    assert any(note in each for each in document["notes"])
    shown = text("--analytics")
    assert note in shown
    assert "unclassified" in shown


def test_requests_that_are_refused_or_fail_within_r2_are_not_billed(bucket, server):
    put_object = [
        operation(bucket, "PutObject", 1),
        operation(bucket, "PutObject", 10, responseStatusCode=403, actionStatus="userError"),
        operation(bucket, "PutObject", 100, responseStatusCode=401, actionStatus="userError"),
        operation(bucket, "PutObject", 1000, responseStatusCode=500, actionStatus="internalError"),
        operation(bucket, "PutObject", 10_000, responseStatusCode=412, actionStatus="userError"),
    ]
    server.operations = put_object
    (told,) = analytics()["analytics"]["operations"]["by_type"]
    assert (told["requests"], told["unbilled"]) == (10_001, 1110)


def test_storage_is_the_peak_of_each_day_and_class(bucket, server):
    noon = YESTERDAY + timedelta(hours=12)
    server.storage = [
        stored(bucket, 100, at=YESTERDAY, objects=5),
        stored(bucket, 900, at=noon, objects=7),
        stored(bucket, 50, at=YESTERDAY, objects=2, storageClass="InfrequentAccess"),
        stored(bucket, 20, at=noon, objects=1, storageClass="InfrequentAccess"),
        stored(bucket, 300, at=FIRST, objects=3),
    ]
    assert analytics()["analytics"]["storage"] == [
        {
            "day": f"{FIRST:%F}",
            "bytes": 300,
            "bytes_by_class": {STANDARD: 300},
            "objects": 3,
        },
        {
            "day": f"{YESTERDAY:%F}",
            "bytes": 950,
            "bytes_by_class": {STANDARD: 900, INFREQUENT_ACCESS: 50},
            "objects": 8,
        },
    ]


def test_peaks_of_the_whole_bucket_are_billed(bucket, server):
    days = [FIRST + timedelta(days=number) for number in range(30)]
    server.storage = [stored(bucket, 40 * GB, at=at) for at in days]
    # 29 days of 40 GB and today's 100 bytes, less 10 GB-months: 28.67, rounded up.
    billable = analytics()["cost"]["billable"]
    assert billable["standard_gb_months"] == 29
    narrowed = analytics("--prefix", "submissions/")["cost"]["billable"]
    assert narrowed["standard_gb_months"] == 0


@pytest.mark.parametrize("part", [["--prefix", "submissions/"], ["--model", "appdirectory.App"]])
def test_operations_of_the_whole_bucket_are_shown_and_not_billed_to_a_part(bucket, server, part):
    server.operations = [operation(bucket, "PutObject", 5_000_000)]
    server.bandwidth = [moved(bucket, 0, 2**40)]
    document = analytics(*part, "--compare", "--budget", "1")
    assert document["analytics"]["operations"]["class_a"] == 5_000_000
    assert Decimal(document["cost"]["total_usd"]) == 0
    assert any(
        "counts those of the whole bucket" in told for told in document["cost"]["assumptions"]
    )
    s3 = document["comparison"][1]
    assert (s3["operations_usd"], s3["egress_usd"]) == ("0.00", "0.00")
    shown = text("--analytics", *part)
    assert "Operations, of the whole bucket, " in shown
    assert "Operations, of the whole bucket, " not in text("--analytics")


def test_the_comparison_takes_egress_from_cloudflare_unless_it_is_given(bucket, server):
    server.bandwidth = [moved(bucket, 5, 2**39), moved(bucket, 5, 2**39, at=FIRST)]
    s3 = analytics("--compare")["comparison"][1]
    # 1,024 GB of 2^30 bytes, the first 100 free.
    assert s3["egress_usd"] == "83.16"
    assert "Egress is the 1.0 TiB downloaded" in s3["assumptions"][-1]
    s3 = analytics("--compare", "--egress", "0")["comparison"][1]
    assert s3["egress_usd"] == "0.00"
    assert not any("downloaded" in told for told in s3["assumptions"])


def test_without_bandwidth_the_comparison_asks_for_egress(bucket, server):
    server.schema_text = SCHEMA.replace("r2BandwidthUsageAdaptiveGroups", "somethingElse")
    s3 = analytics("--compare")["comparison"][1]
    assert s3["egress_usd"] == "0.00"
    assert "give --egress" in s3["assumptions"][-1]


def test_prometheus_reads_operations_and_bandwidth(bucket, server):
    server.operations = [
        operation(bucket, "PutObject", 7),
        operation(bucket, "PutObject", 2, responseStatusCode=403, actionStatus="userError"),
        operation(bucket, "DeleteObjects", 3, storageClass="InfrequentAccess"),
    ]
    server.bandwidth = [moved(bucket, 5, 90)]
    found = gauges(text("--analytics", "--format", "prometheus"))
    assert found["r2maint_operations"] == {
        ("PutObject", "A", STANDARD, "yes"): 7,
        ("PutObject", "A", STANDARD, "no"): 2,
        ("DeleteObjects", "unclassified", INFREQUENT_ACCESS, "yes"): 3,
        ("DeleteObjects", "unclassified", INFREQUENT_ACCESS, "no"): 0,
    }
    assert found["r2maint_bandwidth_bytes"] == {("upload",): 5, ("download",): 90}
    server.schema_text = SCHEMA.replace("r2BandwidthUsageAdaptiveGroups", "somethingElse")
    del server._schema
    assert "r2maint_bandwidth_bytes" not in text("--analytics", "--format", "prometheus")
    assert "r2maint_operations" not in text("--format", "prometheus")


def test_html_draws_operations_days_and_the_comparison(bucket, server):
    server.operations = [operation(bucket, "PutObject", 7), operation(bucket, "GetObject", 70)]
    server.storage = [stored(bucket, GB, at=FIRST), stored(bucket, 2 * GB, at=YESTERDAY, objects=2)]
    drawn = re.findall(
        r'aria-label="([^"]*)"', text("--analytics", "--compare", "--format", "html")
    )
    for what in ("Operations, ", "Storage by day, ", "Compared with Amazon S3, by each one"):
        assert any(label.startswith(what) for label in drawn), drawn


def test_bandwidth_is_summed_over_the_days(bucket, server):
    server.bandwidth = [moved(bucket, 1, 20), moved(bucket, 300, 4000, at=FIRST)]
    told = analytics()["analytics"]["bandwidth"]
    assert told == {"uploaded_bytes": 301, "downloaded_bytes": 4020}


def test_other_buckets_of_the_account_do_not_count(bucket, server):
    server.operations = [operation(bucket, "PutObject", 5, bucketName="other")]
    document = analytics()
    assert document["analytics"]["operations"]["class_a"] == 0
    assert any(repr(bucket.name) in each for each in document["notes"])


def test_a_bucket_on_a_server_is_asked_for_by_its_name(remote, s3_bucket, server, settings):
    settings.R2MAINT = {**settings.R2MAINT, "ACCOUNT_ID": ACCOUNT, "API_TOKEN": TOKEN}
    server.operations = [operation(s3_bucket, "PutObject", 5)]
    assert analytics()["analytics"]["operations"]["class_a"] == 5


def test_text_shows_operations_storage_and_bandwidth(bucket, server):
    server.operations = [operation(bucket, "PutObject", 1234)]
    server.storage = [stored(bucket, 5000, at=YESTERDAY)]
    server.bandwidth = [moved(bucket, 7000, 0)]
    shown = text("--analytics")
    for part in ("PutObject", "1,234", "Most in a day's peak", "Uploaded", f"{YESTERDAY:%F}"):
        assert part in shown


def test_without_the_option_nobody_is_asked(bucket, server):
    document = run("usage_report", "--class-a", "2000000", "--class-b", "0")
    assert document["analytics"] is None
    assert Decimal(document["cost"]["class_a_usd"]) == Decimal("4.50")
    assert server.requests == []


# Schemas and whole answers


def test_a_schema_without_storage_classes_is_asked_without_them(bucket, server):
    server.schema_text = SCHEMA.replace(", storageClass: string!", "")
    server.operations = [operation(bucket, "PutObject", 3)]
    server.storage = [stored(bucket, 400, at=YESTERDAY)]
    told = analytics()["analytics"]
    assert told["operations"]["by_type"][0]["storage_class"] == ""
    assert told["operations"]["class_a"] == 3
    assert told["storage"][0]["bytes_by_class"] == {"": 400}


def test_a_row_of_no_storage_class_is_counted_and_its_day_is_no_peak_to_bill(bucket, server):
    """As an action on the bucket itself may have none."""
    server.schema_text = SCHEMA.replace("storageClass: string!", "storageClass: string")
    server.operations = [
        operation(bucket, "PutBucketCors", 2_000_000, storageClass=None),
        operation(bucket, "PutObject", 3),
    ]
    server.storage = [
        stored(bucket, 300, at=YESTERDAY - timedelta(days=1)),
        stored(bucket, 400, at=YESTERDAY),
        stored(bucket, 9_000 * GB, at=YESTERDAY, storageClass=None),
    ]
    document = analytics()
    told = document["analytics"]
    assert [(each["name"], each["storage_class"]) for each in told["operations"]["by_type"]] == [
        ("PutBucketCors", ""),
        ("PutObject", "STANDARD"),
    ]
    assert told["operations"]["class_a"] == 2_000_003
    assert Decimal(document["cost"]["class_a_usd"]) == Decimal("9.00")
    assert [each["bytes_by_class"] for each in told["storage"]] == [
        {"STANDARD": 300},
        {"": 9_000 * GB, "STANDARD": 400},
    ]
    assert Decimal(document["cost"]["storage_usd"]) == 0


def test_an_account_without_the_bandwidth_dataset_is_told_so(bucket, server):
    line = (
        "  r2BandwidthUsageAdaptiveGroups(limit: uint64!, filter: BandwidthFilter): [Bandwidth!]!\n"
    )
    assert line in SCHEMA
    server.schema_text = SCHEMA.replace(line, "")
    document = analytics()
    assert document["analytics"]["bandwidth"] is None
    assert any("no bandwidth" in each for each in document["notes"])


def test_an_account_that_may_not_read_bandwidth_has_its_bill_all_the_same(bucket, server):
    server.operations = [operation(bucket, "PutObject", 3)]
    server.fault = lambda request: NO_PATH if b"r2Bandwidth" in request.body else None
    told = analytics()["analytics"]
    assert (told["bandwidth"], told["operations"]["class_a"]) == (None, 3)


def hundred_types(bucket) -> list[dict]:
    """Operations of a hundred names, evenly over the thirty days: each is a row."""
    return [
        operation(bucket, f"Type{number}", 1, at=FIRST + number * timedelta(hours=7))
        for number in range(100)
    ]


def test_an_answer_that_is_cut_short_is_asked_for_in_parts(bucket, server, monkeypatch):
    monkeypatch.setattr("r2maint.cloudflare.graphql.MAX_ROWS", 30)
    server.operations = hundred_types(bucket)
    told = analytics()["analytics"]
    assert told["operations"]["unclassified"] == 100
    assert len(told["operations"]["by_type"]) == 100
    assert all(b"limit: 30" in request.body for request in server.requests)


def test_a_full_answer_counts_as_cut_short(bucket, server, monkeypatch):
    monkeypatch.setattr("r2maint.cloudflare.graphql.MAX_ROWS", 100)
    server.operations = hundred_types(bucket)
    assert analytics()["analytics"]["operations"]["unclassified"] == 100
    asked = [request for request in server.requests if b"r2Operations" in request.body]
    assert len(asked) == 3


def test_peaks_are_right_when_a_day_comes_in_parts(bucket, server, monkeypatch):
    monkeypatch.setattr("r2maint.cloudflare.graphql.MAX_ROWS", 3)
    server.storage = [
        stored(bucket, size, at=YESTERDAY + timedelta(hours=hour), objects=hour)
        for hour, size in enumerate((5, 90, 3, 70))
    ]
    (day,) = analytics()["analytics"]["storage"]
    assert (day["bytes"], day["objects"]) == (90, 3)


def test_a_time_that_is_too_wide_is_asked_for_in_parts(bucket, server):
    server.widest = timedelta(days=8)
    server.operations = hundred_types(bucket)
    assert analytics()["analytics"]["operations"]["unclassified"] == 100


def test_what_cannot_be_whole_is_an_error_and_no_sum(bucket, server, monkeypatch):
    monkeypatch.setattr("r2maint.cloudflare.graphql.MAX_ROWS", 2)
    server.operations = [operation(bucket, name, 1) for name in ("GetObject", "PutObject")]
    error = failed(server)
    assert "no whole answer" in error["message"]
    assert "r2OperationsAdaptiveGroups, 20" in error["message"]


# What goes wrong


def failed(server, *arguments: str, exit_code: int = 1) -> dict:
    """Return the error of a report that cannot be made, after looking at its form."""
    document = analytics(*arguments, exit_code=exit_code)
    error = document["error"]
    assert "\n" not in error["message"] + error["hint"]
    assert error["hint"]
    assert TOKEN not in json.dumps(document)
    return error


def answering(server, answer) -> None:
    server.fault = lambda request: answer


EXPIRED = envelope(401, (1000, f"Invalid API Token {TOKEN}"))
AUTHZ = graphql(200, "not authorized for that account")
NO_PATH = graphql(403, "does not have access to the path /viewer/accounts/0")


@pytest.mark.parametrize(
    "answer",
    [
        EXPIRED,
        envelope(403, (10000, "Authentication error")),
        envelope(400, (9109, "Invalid access token")),
        AUTHZ,
        NO_PATH,
    ],
    ids=["expired", "refused", "invalid", "another account's", "no permission"],
)
def test_a_token_that_may_not_is_told_what_it_needs(bucket, server, answer):
    answering(server, answer)
    error = failed(server)
    assert error["code"] == "cloudflare"
    assert "Account Analytics > Read" in error["hint"]
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        Answer(429, b"<html>slow down", "text/html"),
        graphql(200, "rate limiter budget depleted, try again after 5 minutes"),
        graphql(200, "quota exceeded, please repeat your request in the next minute"),
        envelope(429, (971, "Please wait and consider throttling your request speed")),
    ],
    ids=["429", "budget", "quota", "971"],
)
def test_too_many_requests_are_waited_for(bucket, server, answer):
    server.operations = [operation(bucket, "PutObject", 3)]
    left = [answer, answer]
    server.fault = lambda request: left.pop() if left else None
    assert analytics()["analytics"]["operations"]["class_a"] == 3
    answering(server, answer)
    assert "five minutes" in failed(server)["hint"]


@pytest.mark.parametrize(
    "answer",
    [
        Answer(502, b"<html>bad gateway", "text/html"),
        graphql(503, "unable to execute query, please try again later"),
        graphql(200, "unable to execute query, please try again later"),
        graphql(200, "Internal server error"),
        RESET,
    ],
    ids=["502", "503", "unavailable in a 200", "internal", "reset"],
)
def test_what_may_pass_is_tried_again_and_then_told(bucket, server, answer):
    left = [answer]
    server.fault = lambda request: left.pop() if left else None
    analytics()
    answering(server, answer)
    assert "cloudflarestatus.com" in failed(server)["hint"]


def test_a_server_that_does_not_answer_is_given_up(bucket, server, monkeypatch):
    monkeypatch.setattr("r2maint.cloudflare.api._TIMEOUT_SECONDS", (1, 0.05))

    def sleep(request: Request) -> str:
        time.sleep(0.2)
        return RESET

    server.fault = sleep
    assert "Timeout" in failed(server)["message"]


def whole(rows: object) -> Answer:
    document = {"data": {"viewer": {"accounts": [{"rows": rows}]}}, "errors": None}
    return Answer(200, json.dumps(document).encode(), "application/json")


@pytest.mark.parametrize(
    "answer",
    [
        whole(None),
        whole({}),
        whole([None]),
        whole([{}]),
        whole([{"dimensions": None, "sum": {"requests": 1}}]),
        whole([{"dimensions": {"actionType": "GetObject"}, "sum": {"requests": 1}}]),
        Answer(200, b'{"data": {}}', "application/json"),
        Answer(200, b'{"data": {"viewer": null}}', "application/json"),
    ],
)
def test_an_answer_of_another_form_is_no_empty_one(bucket, server, answer):
    answering(server, answer)
    assert "unknown form" in failed(server)["message"]


@pytest.mark.parametrize("requests", [None, "5", -1, 1.5, True])
def test_a_count_that_is_none_is_not_taken_for_one(bucket, server, requests):
    dimensions = {
        "actionType": "GetObject",
        "actionStatus": "success",
        "responseStatusCode": 200,
        "storageClass": "",
    }
    answering(server, whole([{"dimensions": dimensions, "sum": {"requests": requests}}]))
    assert "unknown form" in failed(server)["message"]


@pytest.mark.parametrize("storage_class", [7, ["Standard"]])
def test_a_storage_class_that_is_no_name_is_not_taken_for_none(bucket, server, storage_class):
    dimensions = {"actionType": "PutObject", "actionStatus": "success", "responseStatusCode": 200}
    row = {"sum": {"requests": 1}, "dimensions": dimensions | {"storageClass": storage_class}}
    answering(server, whole([row]))
    assert "unknown form" in failed(server)["message"]


@pytest.mark.parametrize("at", ["", "yesterday", "2026-13-01T00:00:00Z", "2026-11-01T00:00:00"])
def test_a_time_that_is_none_is_not_taken_for_one(bucket, server, at):
    row = {
        "dimensions": {"datetime": at, "storageClass": "Standard"},
        "max": {"payloadSize": 1, "objectCount": 1},
    }
    server.fault = lambda request: whole([row]) if b"r2Storage" in request.body else None
    assert "unknown form" in failed(server)["message"]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (Answer(200, b"<html>Sign in to the Wi-Fi", "text/html"), "HTTPS_PROXY"),
        (Answer(200, b"[" * 200_000, "application/json"), "HTTPS_PROXY"),
        (Answer(200, b"9" * 6000, "application/json"), "HTTPS_PROXY"),
        (Answer(302, b"", "text/html", location="http://127.0.0.1:9/"), "HTTPS_PROXY"),
        (graphql(400, "cannot request data older than 4w3d"), "--class-a"),
        (graphql(200, 'unknown field "actionStatus"'), "--class-a"),
        (Answer(200, b'{"data": null, "errors": null}', "application/json"), "--class-a"),
        (Answer(200, b'{"data": {"viewer": {"accounts": []}}}', "application/json"), "ACCOUNT_ID"),
    ],
    ids=[
        *("html", "too deep", "too long", "redirect"),
        *("too old", "unknown field", "no data", "no account"),
    ],
)
def test_every_other_answer_tells_what_to_do(bucket, server, answer, told):
    answering(server, answer)
    assert told in failed(server)["hint"]


def test_a_part_beside_an_error_is_no_answer(bucket, server):
    document = {
        "data": {"viewer": {"accounts": [{"rows": []}]}},
        "errors": [{"message": "not authorized for that account"}],
    }
    answering(server, Answer(200, json.dumps(document).encode(), "application/json"))
    assert "not authorized" in failed(server)["message"]


def test_a_trouble_in_the_middle_leaves_no_report(bucket, server):
    server.operations = [operation(bucket, "PutObject", 3)]
    server.fault = lambda request: NO_PATH if b"r2Storage" in request.body else None
    failed(server)


@pytest.mark.parametrize(
    ("setting", "told"),
    [({"API_TOKEN": ""}, "API_TOKEN"), ({"ACCOUNT_ID": ""}, "CLOUDFLARE_ACCOUNT_ID")],
)
def test_a_setting_that_is_missing_is_named(bucket, server, settings, setting, told):
    settings.R2MAINT = {**settings.R2MAINT, **setting}
    error = failed(server)
    assert (error["code"], told in error["hint"]) == ("config", True)
    assert server.requests == []


def test_a_bucket_in_a_directory_has_no_analytics(project, server):
    error = failed(server)
    assert (error["code"], "directory" in error["message"]) == ("config", True)


def test_account_and_token_are_found_in_the_environment(bucket, server, settings, monkeypatch):
    other = {"ACCOUNT_ID": "", "API_TOKEN": "", "ENDPOINT_URL": "https://s3.example.org"}
    settings.R2MAINT = {**settings.R2MAINT, **other}
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", TOKEN)
    monkeypatch.setenv("CLOUDFLARE_ACCOUNT_ID", ACCOUNT)
    assert analytics()["analytics"]["operations"]["class_a"] == 0


@pytest.mark.parametrize("option", ["--class-a", "--class-b"])
@pytest.mark.parametrize("count", ["0", "5"])
def test_counts_of_ones_own_contradict_those_of_cloudflare(bucket, server, option, count):
    error = failed(server, option, count, exit_code=2)
    assert error["code"] == "usage"
    assert server.requests == []


def test_trouble_is_told_in_one_line_on_a_terminal(bucket, server):
    answering(server, EXPIRED)
    with pytest.raises(CommandError) as raised:
        text("--analytics")
    assert raised.value.returncode == 1
    assert "\n" not in str(raised.value)


def test_the_token_is_in_no_report_and_no_log(bucket, server, caplog):
    caplog.set_level(logging.DEBUG)
    document = analytics()
    assert TOKEN not in json.dumps(document) + text("--analytics") + caplog.text


def test_nothing_is_listed_before_the_token_is_known_to_be_good(bucket, server, monkeypatch):
    answering(server, EXPIRED)
    monkeypatch.setattr(type(bucket), "list_pages", lambda *_, **__: pytest.fail("listed"))
    failed(server)


# As a library


def with_connection(jurisdiction: str) -> conf.Config:
    connection = Connection(
        source="R2MAINT",
        access_key_id="k",
        secret_access_key="s",
        endpoint_url=f"https://{ACCOUNT}.r2.cloudflarestorage.com",
        account_id=ACCOUNT,
        jurisdiction=jurisdiction,
    )
    return conf.Config(bucket="media", connection=connection, api_token=TOKEN, account_id=ACCOUNT)


@pytest.mark.parametrize(
    ("jurisdiction", "name"), [("", "media"), ("eu", "eu_media"), ("us", "us_media")]
)
def test_a_bucket_of_a_jurisdiction_has_it_before_its_name(server, jurisdiction, name):
    now = datetime.now(tz=UTC)
    config = with_connection(jurisdiction)
    assert ask_analytics(config, now=now, api_url=server.url).bucket == name
    asked = {json.loads(request.body)["variables"]["bucket"] for request in server.requests}
    assert asked == {name}


def test_a_stop_is_heard_between_two_answers(server):
    control = Control()

    def stop(request: Request) -> None:
        control.signal_code = 130

    server.fault = stop
    with pytest.raises(Stopped):
        ask_analytics(
            with_connection(""),
            now=datetime.now(tz=UTC),
            control=control,
            api_url=server.url,
        )
    assert len(server.requests) == 1


def test_peaks_are_given_for_days_whose_storage_classes_are_known():
    known = {STANDARD: 5, INFREQUENT_ACCESS: 2}
    days = ((FIRST, {"": 5}), (YESTERDAY, known))
    counted = Analytics(
        bucket="media",
        first_day=FIRST.date(),
        last_day=YESTERDAY.date(),
        operations=(),
        storage=tuple(StoredDay(day=at.date(), bytes=sizes, objects=1) for at, sizes in days),
        bandwidth=None,
    )
    assert counted.peaks == {YESTERDAY.date(): known}


def test_operations_of_unknown_storage_class_follow_what_is_stored():
    counted = Analytics(
        bucket="media",
        first_day=FIRST.date(),
        last_day=YESTERDAY.date(),
        operations=(Operation(name="PutObject", storage_class="", requests=9, unbilled=0),),
        storage=(),
        bandwidth=None,
    )
    mixed = counted.added_to(month_of({STANDARD: 1, INFREQUENT_ACCESS: 1}))
    assert (mixed.standard.class_a, mixed.infrequent_access.class_a) == (9, 0)
    cold = counted.added_to(month_of({INFREQUENT_ACCESS: 1}))
    assert (cold.standard.class_a, cold.infrequent_access.class_a) == (0, 9)


# Classes: https://developers.cloudflare.com/r2/pricing/


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("ListObjects", OperationClass.A),
        ("LifecycleStorageTierTransition", OperationClass.A),
        ("HeadObject", OperationClass.B),
        ("AbortMultipartUpload", OperationClass.FREE),
        ("DeleteObjects", OperationClass.UNCLASSIFIED),
        ("ListObjectsV2", OperationClass.UNCLASSIFIED),
        ("putobject", OperationClass.UNCLASSIFIED),
        ("", OperationClass.UNCLASSIFIED),
    ],
)
def test_only_names_of_the_published_lists_have_a_class(name, known):
    assert CLOUDFLARE.class_of(name) is known
