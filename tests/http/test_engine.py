"""The bulk engine against real servers on this machine."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import os
import select
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from urllib.parse import quote

import h2.config
import h2.connection
import h2.events
import pytest
import trustme
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreCredentials

from r2maint.errors import R2MaintError
from r2maint.http import Credentials, Engine, Limiter, Pace, Reason, Request, RequestOutcome, retry
from r2maint.http.multi_handle import Lines
from r2maint.http.retry import wait_seconds
from tests.servers.websites import BREAK, Site, reply, reset, site, speak


@pytest.fixture(autouse=True)
def _impatience(monkeypatch):
    """Keep the waits before another attempt short."""
    monkeypatch.setattr(retry, "FIRST_WAIT_SECONDS", 0.01)


@pytest.fixture
def echo() -> Iterator[Site]:
    """A server that answers with the target it was asked for."""
    with site(lambda request: [reply(body=request.target.encode())]) as running:
        yield running


@contextlib.contextmanager
def engine(pace: Pace | None = None, **options) -> Iterator[Engine]:
    made = Engine(pace, **options)
    try:
        yield made
    finally:
        made.close()


def get(at: Site, path: object, **options) -> Request:
    return Request(url=f"{at.url}/{path}", **options)


def open_files() -> Counter[str]:
    gc.collect()
    links = Counter()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            links[os.readlink(f"/proc/self/fd/{name}").partition(":")[0]] += 1
    return links


# Order, laziness, room


def test_outcomes_come_in_the_order_of_the_labels():
    def answer(request):
        time.sleep(0.02 * (9 - int(request.target[1:]) % 10))
        return [reply(body=request.target.encode())]

    with site(answer) as slow_first, engine(Pace(workers=10)) as sender:
        outcomes = list(
            sender.send_many(range(30), lambda label: get(slow_first, label, note=-label))
        )

    assert [outcome.label for outcome in outcomes] == list(range(30))
    assert [outcome.answer.body.decode() for outcome in outcomes] == [f"/{n}" for n in range(30)]
    assert [outcome.note for outcome in outcomes] == [-n for n in range(30)]


@pytest.mark.parametrize("ahead", [1, 4])
def test_labels_are_taken_only_a_few_ahead(echo, ahead):
    taken = []

    def labels():
        for number in range(1000):
            taken.append(number)
            yield number

    with engine(Pace(workers=2, ahead=ahead)) as sender:
        outcomes = sender.send_many(labels(), lambda label: get(echo, label))
        for done in range(1, 20):
            next(outcomes)
            assert done <= len(taken) <= done - 1 + ahead * 2
        outcomes.close()
    assert len(echo.requests) <= len(taken)


def test_what_is_under_way_goes_on_while_there_is_no_label_for_now(echo):
    ended = []

    def labels():
        yield None
        for number in range(4):
            yield number
            while len(ended) <= number:
                yield None

    with engine() as sender:
        for outcome in sender.send_many(labels(), lambda label: get(echo, label)):
            ended.append(outcome.label)
    assert ended == [0, 1, 2, 3]


def test_nothing_is_taken_before_the_first_outcome_is_asked_for(echo):
    with engine() as sender:
        sender.send_many(iter([pytest.fail]), lambda label: label("taken"))


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_every_label_has_an_outcome_whatever_the_number_of_workers(echo, workers):
    with engine(Pace(workers=workers)) as sender:
        assert len(list(sender.send_many(range(20), lambda label: get(echo, label)))) == 20


def test_a_consumer_that_stops_early_leaves_nothing_behind(tmp_path):
    source = tmp_path / "body"
    source.write_bytes(b"x" * 3_000_000)
    release = threading.Event()

    def answer(request):
        if request.target != "/0":
            release.wait(10)
        return [reply()]

    threads = set(threading.enumerate())
    before = open_files()
    with site(answer) as server:
        sender = Engine(Pace(workers=4))
        outcomes = sender.send_many(
            range(8), lambda n: get(server, n, method="PUT", body=source, size=3_000_000)
        )
        next(outcomes)
        outcomes.close()
        sender.close()
        release.set()

    assert not open_files() - before
    # Those of earlier tests may end meanwhile.
    assert set(threading.enumerate()) <= threads


def test_a_dropped_request_leaves_the_handle_fit_for_the_next(tmp_path, echo):
    source = tmp_path / "body"
    source.write_bytes(b"x" * 100_000)
    hold = threading.Event()
    with (
        site(lambda _: [reply()] if hold.wait(10) else []) as silent,
        engine(Pace(workers=1)) as sender,
    ):
        requests = [get(echo, 1), get(silent, 2, method="PUT", body=source, size=100_000)]
        outcomes = sender.send_many(requests, lambda request: request)
        next(outcomes)
        outcomes.close()
        hold.set()

        assert sender.send(get(echo, "after")).answer.body == b"/after"


def test_no_more_than_the_workers_are_at_it_at_once():
    def answer(request):
        time.sleep(0.02)
        return [reply()]

    with site(answer) as busy, engine(Pace(workers=5)) as sender:
        list(sender.send_many(range(30), lambda label: get(busy, label)))

    assert busy.most_at_once == 5


def test_no_host_has_more_than_its_share():
    def answer(request):
        time.sleep(0.01)
        return [reply()]

    with site(answer) as one, site(answer) as other, engine(Pace(workers=8, per_host=2)) as sender:
        places = [one, other]
        list(sender.send_many(range(40), lambda label: get(places[label % 2], label)))

    assert (one.most_at_once, other.most_at_once) == (2, 2)


def test_a_slow_host_does_not_starve_another():
    served = threading.Event()

    def slow(request):
        return [reply(200 if served.wait(5) else 404)]

    def fast(request):
        if request.target == "/last":
            served.set()
        return [reply()]

    with site(slow) as one, site(fast) as other, engine(Pace(workers=2, per_host=1)) as sender:
        requests = [get(one, 1), get(one, 2), get(other, 1), get(other, 2), get(other, "last")]
        outcomes = list(sender.send_many(requests, lambda request: request))

    assert [outcome.answer.status for outcome in outcomes] == [200] * 5


def test_a_redirect_to_another_host_keeps_the_count_of_both(echo):
    def answer(request):
        return [reply(302, b"", f"Location: {echo.url}{request.target}")]

    with site(answer) as sends_on, engine(Pace(workers=4, per_host=1)) as sender:
        outcomes = list(
            sender.send_many(range(20), lambda label: get(sends_on, label, redirects=1))
        )

    assert [outcome.answer.url for outcome in outcomes] == [f"{echo.url}/{n}" for n in range(20)]
    assert (sends_on.most_at_once, echo.most_at_once) == (1, 1)


def test_a_thousand_requests_share_few_connections(echo):
    with engine(Pace(workers=8)) as sender:
        outcomes = sender.send_many(range(1000), lambda label: get(echo, label, method="HEAD"))
        assert all(outcome.answer.status == 200 for outcome in outcomes)

    assert echo.connections() <= 8


def test_a_system_without_poll_sends_as_well(echo, monkeypatch):
    monkeypatch.delattr(select, "poll")
    answers = iter([reply(503, b""), *[reply()] * 9])
    with site(lambda request: [next(answers)]) as busy, engine(Pace(workers=3)) as sender:
        outcomes = list(sender.send_many(range(9), lambda n: get(busy, n)))

    assert [outcome.answer.status for outcome in outcomes] == [200] * 9


def test_threads_share_one_engine(echo):
    found = {}

    def send(name: str) -> None:
        outcomes = sender.send_many(range(100), lambda label: get(echo, f"{name}{label}"))
        found[name] = [outcome.answer.body.decode() for outcome in outcomes]

    with engine(Pace(workers=4)) as sender:
        threads = [threading.Thread(target=send, args=(name,)) for name in "abc"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert found == {name: [f"/{name}{n}" for n in range(100)] for name in "abc"}


# The rate


def test_places_are_handed_out_at_the_rate(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(retry.time, "monotonic", lambda: now[0])
    limiter = Limiter(4)

    assert [limiter.reserve() for _ in range(4)] == [100.0, 100.25, 100.5, 100.75]
    now[0] = 200.0
    assert [limiter.reserve() for _ in range(2)] == [200.0, 200.25]


class Counting(Limiter):
    """Counts the places it gives."""

    given = 0

    def reserve(self) -> float:
        self.given += 1
        return super().reserve()


def test_every_attempt_and_every_hop_takes_a_place_and_waits_for_it(echo):
    broken = iter([503, 302] * 5)

    def answer(request):
        return [reply(next(broken), b"", f"Location: {echo.url}/")]

    limiter = Counting(200)
    started = time.monotonic()
    with site(answer) as server, engine(Pace(workers=4), limiter=limiter) as sender:
        outcomes = list(sender.send_many(range(5), lambda n: get(server, n, redirects=1)))
    sent = len(server.requests) + len(echo.requests)

    assert [outcome.answer.status for outcome in outcomes] == [200] * 5
    assert sent == 15
    assert limiter.given in (sent, sent + 1)
    assert time.monotonic() - started >= (sent - 1) / 200


def test_two_engines_share_a_limiter(echo):
    limiter = Counting(500)
    with engine(limiter=limiter) as one, engine(limiter=limiter) as other:
        for sender in (one, other):
            list(sender.send_many(range(5), lambda n: get(echo, n)))

    assert limiter.given >= 10


@pytest.mark.parametrize("wait", ["for the host", "for another attempt"])
def test_waiting_takes_no_turns(monkeypatch, wait):
    turns = []
    move = Lines.move
    monkeypatch.setattr(
        Lines, "move", lambda lines, seconds: turns.append(1) or move(lines, seconds)
    )
    answers = iter([reply(503, b"", "Retry-After: 1"), reply(), reply()])

    def answer(request):
        if wait == "for another attempt":
            return [next(answers)]
        time.sleep(0.3)
        return [reply()]

    with site(answer) as slow, engine(Pace(workers=3, per_host=1), limiter=Limiter(1000)) as sender:
        assert all(
            one.answer.status == 200 for one in sender.send_many([1, 2], lambda n: get(slow, n))
        )

    assert len(turns) < 100


# Attempts


PASSING = {
    **{str(status): [reply(status)] for status in (408, 425, 429, 500, 502, 503, 504)},
    "reset": [BREAK],
    "empty": [],
    "cut body": [reply(length=100), BREAK],
    "no HTTP": [b"hello\r\n\r\n", BREAK],
}


@pytest.mark.parametrize("broken", PASSING.values(), ids=PASSING)
def test_what_may_pass_is_tried_again(broken):
    answers = iter([broken, broken, [reply(body=b"at last")]])

    with site(lambda _: next(answers)) as server, engine() as sender:
        outcome = sender.send(get(server, "a"))

    assert outcome.answer.body == b"at last"
    assert outcome.attempts == 3
    assert len(server.requests) == 3


@pytest.mark.parametrize("status", [200, 204, 304, 400, 401, 403, 404, 405, 410, 412, 416, 501])
def test_what_will_not_pass_is_asked_once(status):
    with site(lambda _: [reply(status, b"")]) as server, engine() as sender:
        assert sender.send(get(server, "a")).answer.status == status

    assert len(server.requests) == 1


def test_the_last_answer_is_given_when_all_attempts_are_used():
    with site(lambda _: [reply(503, b"busy")]) as server, engine(Pace(attempts=3)) as sender:
        outcome = sender.send(get(server, "a"))

    assert (outcome.answer.status, outcome.answer.body, outcome.attempts) == (503, b"busy", 3)
    assert len(server.requests) == 3


def test_hops_are_no_attempts():
    statuses = iter([302, 503, 302, 503, 302, 200])

    with (
        site(lambda _: [reply(next(statuses), b"", "Location: /b")]) as server,
        engine(Pace(attempts=3)) as sender,
    ):
        outcome = sender.send(get(server, "a", redirects=3))

    assert outcome.answer.status == 200


def test_a_caller_may_say_itself_what_may_pass():
    answers = iter([404, 404, 200])
    pace = Pace(is_passing=lambda answer: answer.status == 404)

    with site(lambda _: [reply(next(answers))]) as server, engine(pace) as sender:
        assert sender.send(get(server, "a")).answer.status == 200


def test_a_refused_connection_is_no_answer():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/"
        with engine(Pace(attempts=2)) as sender:
            outcome = sender.send(Request(url=url))

    assert (outcome.failure.reason, outcome.attempts) == (Reason.NO_ANSWER, 2)


def test_a_name_that_does_not_resolve_is_no_host():
    with engine(Pace(attempts=1)) as sender:
        outcome = sender.send(Request(url="http://a.name.that.is.invalid/"))

    assert outcome.failure.reason is Reason.NO_HOST


@pytest.mark.parametrize("attempt", [1, 2, 3, 9])
def test_waits_grow_and_are_random(monkeypatch, attempt):
    monkeypatch.setattr(retry, "FIRST_WAIT_SECONDS", 0.5)
    longest = min(0.5 * 2**attempt, 20)

    for share in (0.0, 0.5, 1.0):
        monkeypatch.setattr(retry.random, "random", lambda share=share: share)
        assert wait_seconds(attempt, {}) == share * longest
        assert wait_seconds(attempt, {"retry-after": "30"}) == 30
        assert wait_seconds(attempt, {"retry-after": "0"}) == share * longest


def test_retry_after_may_be_a_date():
    in_a_minute = datetime.now(tz=UTC) + timedelta(seconds=60)

    assert 50 < wait_seconds(1, {"retry-after": format_datetime(in_a_minute, usegmt=True)}) <= 60
    assert wait_seconds(1, {"retry-after": "Fri, 31 Dec 1999 23:59:59 GMT"}) <= 0.02


@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "-1",
        "1.5",
        "²",
        "0x10",
        "Mon",
        "Mon, 01 Jan 99999 00:00:00 GMT",
        "Mon, 01 Jan 2024 00:00:00 +999999999999999999",
    ],
)
def test_a_retry_after_that_says_nothing_is_passed_over(text):
    assert wait_seconds(1, {"retry-after": text}) <= 0.02


@pytest.mark.parametrize("text", ["121", "9" * 400, "Fri, 31 Dec 2999 23:59:59 GMT"])
def test_too_long_a_retry_after_ends_the_attempts(text):
    assert wait_seconds(1, {"retry-after": text}) is None

    with site(lambda _: [reply(503, b"", f"Retry-After: {text}")]) as server, engine() as sender:
        outcome = sender.send(get(server, "a"))

    assert (outcome.answer.status, outcome.attempts) == (503, 1)


def test_retry_after_is_waited_for():
    times = []

    def answer(request):
        times.append(time.monotonic())
        return [reply(503, b"", "Retry-After: 1") if len(times) == 1 else reply()]

    with site(answer) as server, engine() as sender:
        assert sender.send(get(server, "a")).answer.status == 200

    assert times[1] - times[0] >= 1


def test_time_that_the_consumer_took_is_not_held_against_a_request():
    """Nothing moves while the consumer is busy, and libcurl's clock goes on."""

    def answer(request):
        if request.target == "/slow":
            time.sleep(0.2)
        return [reply()]

    with site(answer) as server, engine(Pace(workers=2, attempts=1)) as sender:
        outcomes = sender.send_many(["fast", "slow"], lambda path: get(server, path, seconds=0.5))
        next(outcomes)
        time.sleep(0.8)
        assert next(outcomes).failure is None


def test_a_request_that_is_slow_by_itself_is_too_slow():
    def answer(request):
        time.sleep(0.4)
        return [reply()]

    with site(answer) as server, engine(Pace(attempts=2)) as sender:
        outcome = sender.send(get(server, "a", seconds=0.1))

    assert (outcome.failure.reason, outcome.attempts) == (Reason.TOO_SLOW, 2)


# Bodies


def test_every_kind_of_request_follows_any_other_on_one_handle(tmp_path, echo):
    source = tmp_path / "body"
    source.write_bytes(b"from a file")
    kinds = {
        "get": {},
        "head": {"method": "HEAD"},
        "put file": {"method": "PUT", "body": source, "size": 11},
        "put bytes": {"method": "PUT", "body": b"in memory"},
        "put nothing": {"method": "PUT", "body": b""},
        "post": {"method": "POST", "body": b"posted"},
        "post nothing": {"method": "POST", "body": b""},
        "post without body": {"method": "POST"},
        "delete": {"method": "DELETE"},
    }
    order = [kind for first in kinds for second in kinds for kind in (first, second)]

    with engine(Pace(workers=1)) as sender:
        outcomes = list(sender.send_many(order, lambda kind: get(echo, quote(kind), **kinds[kind])))

    for kind, outcome, seen in zip(order, outcomes, echo.requests, strict=True):
        wanted = kinds[kind].get("body", b"" if kind == "post without body" else None)
        body = source.read_bytes() if isinstance(wanted, Path) else wanted
        assert seen.method == kinds[kind].get("method", "GET")
        assert seen.target == f"/{quote(kind)}"
        assert seen.body == (body or b"")
        assert seen.headers.get("content-length") == (None if body is None else str(len(body)))
        assert not {"content-type", "expect", "transfer-encoding"} & set(seen.headers)
        assert outcome.answer.body == (b"" if kind == "head" else seen.target.encode())
    assert echo.connections() == 1


def test_a_file_is_sent_from_its_start_on_every_attempt(tmp_path):
    source = tmp_path / "body"
    source.write_bytes(os.urandom(700_000))
    answers = iter([[reply(503)], [BREAK], [reply()]])

    with site(lambda _: next(answers)) as server, engine() as sender:
        outcome = sender.send(get(server, "a", method="PUT", body=source, size=700_000))

    assert outcome.answer.status == 200
    assert [request.body == source.read_bytes() for request in server.requests] == [True] * 3


def test_what_waits_to_be_tried_again_keeps_no_body_in_memory():
    alive: list[int] = [0]
    most = 0

    class Body(bytes):
        def __del__(self) -> None:
            alive[0] -= 1

    def put(label: int) -> Request:
        nonlocal most
        alive[0] += 1
        most = max(most, alive[0])
        return get(server, f"{label}", method="PUT", body=Body(b"body"), size=4)

    seen: set[str] = set()

    def answer(request):
        if request.target in seen:
            return [reply()]
        seen.add(request.target)
        return [reply(503, b"", "Retry-After: 1")]

    pace = Pace(workers=4, ahead_of_retry=100)
    with site(answer) as server, engine(pace) as sender:
        outcomes = list(sender.send_many(range(100), put))
        assert {request.body for request in server.requests} == {b"body"}

    assert [outcome.answer.status for outcome in outcomes] == [200] * 100
    assert {outcome.attempts for outcome in outcomes} == {2}
    assert most <= 3 * pace.workers


def test_a_file_is_sent_again_from_its_start_when_a_kept_connection_was_dead(tmp_path):
    """libcurl does that within one attempt."""
    source = tmp_path / "body"
    source.write_bytes(os.urandom(100_000))
    answers = iter([[reply()], [], [reply()]])

    with site(lambda _: next(answers)) as server, engine(Pace(workers=1)) as sender:
        sender.send(get(server, "a"))
        outcome = sender.send(get(server, "b", method="PUT", body=source, size=100_000))

    assert (outcome.answer.status, outcome.attempts) == (200, 2)
    assert [request.body == source.read_bytes() for request in server.requests[1:]] == [True] * 2


def test_only_the_said_part_of_a_longer_file_is_sent(tmp_path, echo):
    source = tmp_path / "body"
    source.write_bytes(b"0123456789")

    with engine() as sender:
        sender.send(get(echo, "a", method="PUT", body=source, size=4))

    assert echo.requests[0].body == b"0123"


@pytest.mark.parametrize("content", [None, b"short", b""])
def test_a_file_that_cannot_be_read_to_the_end_is_unreadable(tmp_path, echo, content):
    source = tmp_path / "body"
    if content is not None:
        source.write_bytes(content)

    with engine() as sender:
        outcomes = list(
            sender.send_many(
                ["broken", "fine"],
                lambda label: (
                    get(echo, label, method="PUT", body=source, size=100)
                    if label == "broken"
                    else get(echo, label)
                ),
            )
        )

    assert outcomes[0].failure.reason is Reason.UNREADABLE
    assert outcomes[0].attempts <= 1
    assert outcomes[1].answer.body == b"/fine"


def test_a_directory_as_body_is_unreadable(tmp_path, echo):
    with engine() as sender:
        outcome = sender.send(get(echo, "a", method="PUT", body=tmp_path, size=1))

    assert outcome.failure.reason is Reason.UNREADABLE


def test_a_head_answer_may_claim_any_length():
    with site(lambda _: [reply(length=10**12)]) as server, engine() as sender:
        outcome = sender.send(get(server, "a", method="HEAD", max_bytes=10))

    assert outcome.answer.headers["content-length"] == str(10**12)


# Headers and URLs


def test_headers_go_out_as_they_are_given(echo):
    headers = ("X-Empty;", "x-two: a, b", "Content-Type: image/webp", "X-Tab: a\tb")

    with engine() as sender:
        sender.send(get(echo, "a", method="PUT", body=b"x", headers=headers))

    sent = echo.requests[0].headers
    assert [sent[name] for name in ("x-empty", "x-two", "content-type", "x-tab")] == [
        "",
        "a, b",
        "image/webp",
        "a\tb",
    ]


@pytest.mark.parametrize(
    "header", ["X-A: b\r\nX-Evil: 1", "X-A: b\nX-Evil: 1", "X-A: \0", "X-A: é", "X\r\n-A: b"]
)
def test_a_header_cannot_smuggle_another_in(echo, header):
    with engine() as sender:
        outcomes = list(
            sender.send_many([(header,), ()], lambda given: get(echo, "a", headers=given))
        )

    assert [outcome.failure and outcome.failure.reason for outcome in outcomes] == [
        Reason.BAD_HEADER,
        None,
    ]
    assert len(echo.requests) == 1


def test_the_headers_of_an_answer_are_read_whatever_their_bytes():
    headers = ["X-Caf\xe9: \xfc", "X-None:", 'ETag:  "a:b"  ', "X-Two: 1", "X-Two: 2"]
    early = b"HTTP/1.1 103 Early Hints\r\nX-Early: 1\r\n\r\n"
    with site(lambda _: [early + reply(200, b"", *headers)]) as server, engine() as sender:
        answer = sender.send(get(server, "a")).answer

    assert answer.status == 200
    assert {
        name: answer.headers.get(name)
        for name in ("x-caf\xe9", "x-none", "etag", "x-two", "x-early")
    } == {"x-caf\xe9": "\xfc", "x-none": "", "etag": '"a:b"', "x-two": "2", "x-early": None}


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a",
        "http://",
        "http://[::1",
        "http://[zz]/",
        "http://h:99999/",
        "http://h/\0",
        "http://h/\n",
        "http://h/ ",
        "http://h\r\nX: y/",
        "http://ünï/",
        "http://h/ü",
        "file:///etc/passwd",
        "http://h/" + "a" * 9_000_000,
    ],
    ids=lambda url: ascii(url[:20]),
)
def test_a_url_that_cannot_be_asked_for_is_the_failure_of_its_label_alone(echo, url):
    with engine() as sender:
        outcomes = list(sender.send_many([url, f"{echo.url}/b"], lambda one: Request(url=one)))

    assert (outcomes[0].failure.reason, outcomes[0].attempts) == (Reason.BAD_URL, 0)
    assert outcomes[1].answer.body == b"/b"


def test_a_long_url_is_sent_whole(echo):
    path = "a" * 120_000

    with engine() as sender:
        assert sender.send(get(echo, path)).answer.body.decode() == f"/{path}"


def test_a_path_is_sent_dots_and_all(echo):
    with engine() as sender:
        sender.send(get(echo, "/a//../b/./%2E%2E/c?x=/../#part"))

    assert echo.requests[0].target == "//a//../b/./%2E%2E/c?x=/../"


@pytest.mark.parametrize(
    "location",
    ["http://[::1", "http://ü\0/", "//h:99999/", "http://h:x/", "ftp://127.0.0.1/", "mailto:a"],
)
def test_a_location_that_leads_nowhere_is_a_failure(location):
    with (
        site(lambda _: [reply(302, b"", f"Location: {location}")]) as server,
        engine(Pace(attempts=1)) as sender,
    ):
        outcome = sender.send(get(server, "a", redirects=5))

    assert outcome.failure.reason in (Reason.BAD_URL, Reason.NO_ANSWER)


def test_a_redirect_is_an_answer_unless_it_may_be_followed():
    with site(lambda _: [reply(302, b"", "Location: /b")]) as server, engine() as sender:
        assert sender.send(get(server, "a")).answer.status == 302
        assert len(server.requests) == 1
        assert sender.send(get(server, "a", redirects=2)).failure.reason is Reason.REDIRECTS
        assert len(server.requests) == 4


# Trouble of the caller's


def test_an_error_in_making_a_request_is_the_outcome_of_its_label(echo):
    def make(label: int) -> Request | None:
        if label == 1:
            raise R2MaintError("No such thing: 1.")
        return None if label == 2 else get(echo, label)

    with engine(Pace(workers=2)) as sender:
        outcomes = list(sender.send_many(range(5), make))

    assert [str(outcome.error or "") for outcome in outcomes] == [
        "",
        "No such thing: 1.",
        "",
        "",
        "",
    ]
    assert outcomes[2] == RequestOutcome(label=2)
    assert len(echo.requests) == 3


def failing_labels() -> Iterator[int]:
    yield from range(10)
    raise LookupError("no more")


def interrupted(outcomes: Iterator[object]) -> None:
    for _ in outcomes:
        raise KeyboardInterrupt


def failing_make(at: Site, label: int) -> Request:
    if label == 10:
        raise ZeroDivisionError
    return get(at, label)


def test_an_exception_of_the_caller_leaves_the_engine_usable(echo):
    files = open_files()
    with engine(Pace(workers=2)) as sender:
        with pytest.raises(LookupError):
            list(sender.send_many(failing_labels(), lambda label: get(echo, label)))
        with pytest.raises(ZeroDivisionError):
            list(sender.send_many(range(20), lambda label: failing_make(echo, label)))
        with pytest.raises(KeyboardInterrupt):
            interrupted(sender.send_many(range(20), lambda label: get(echo, label)))

        outcomes = list(sender.send_many(range(20), lambda label: get(echo, label)))
        assert [outcome.answer.body.decode() for outcome in outcomes] == [
            f"/{n}" for n in range(20)
        ]
    echo.connections()
    assert open_files()["/dev/null"] == files["/dev/null"]


# Signing

SIGNER = Credentials(
    access_key_id="0123456789abcdef", secret_access_key="s3cr3t/with+signs", region="auto"
)
KEYS = [
    "plain.png",
    "with space.png",
    "a+b.png",
    "100%.png",
    "%41.png",
    'it\'s "quoted".png',
    "(round)[square]{curly}.png",
    "صورة/شاشة 1.png",
    "cafe\u0301.png",
    "caf\u00e9.png",
    "🕌/🌙.png",
    "a//b.png",
    "/lead.png",
    "trail/",
    "a&b=c;d,e:f@g$h!i*j.png",
    "tilde~under_score-dash.png",
    "back\\slash^caret`tick|pipe<less>.png",
    "q?m#h.png",
]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("method", ["PUT", "POST", "HEAD", "GET"])
def test_a_signature_is_the_one_botocore_makes(echo, key, method, tmp_path):
    source = tmp_path / "body"
    source.write_bytes(b"bytes")
    body = {"PUT": source, "POST": b"bytes"}.get(method)
    digest = hashlib.sha256(b"bytes" if body else b"").hexdigest()
    url = f"{echo.url}/bucket/{quote(key, safe='/-._~')}?list-type=2&prefix=a%2Fb%20c&uploads"
    headers = (
        f"x-amz-content-sha256: {digest}",
        "x-amz-meta-note: a  b",
        "If-None-Match: *",
        "Content-Type: image/webp",
    )
    with engine(credentials=SIGNER) as sender:
        sender.send(Request(url=url, method=method, body=body, size=5, headers=headers))

    sent = echo.requests[0]
    assert sent.headers["authorization"] == botocore_signature(method, url, sent.headers)


def botocore_signature(method: str, url: str, sent: dict[str, str]) -> str:
    """What botocore would have signed the same headers with at the same time."""
    signed = sent["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    assert {"host", "x-amz-content-sha256", "x-amz-date"} <= set(signed)
    request = AWSRequest(method, url, headers={name: sent[name] for name in signed})
    request.context["timestamp"] = sent["x-amz-date"]
    signer = S3SigV4Auth(
        BotocoreCredentials(SIGNER.access_key_id, SIGNER.secret_access_key), "s3", "auto"
    )
    canonical = signer.canonical_request(request)
    signature = signer.signature(signer.string_to_sign(request, canonical), request)
    return (
        f"AWS4-HMAC-SHA256 Credential={signer.scope(request)}, "
        f"SignedHeaders={';'.join(signed)}, Signature={signature}"
    )


@pytest.mark.parametrize(
    "path", ["a/./b", "a/../b", "a/%2e%2E/b", "a/..", ".", "a/.%2e?x=1", "a/..#b"]
)
def test_a_dotted_path_is_refused_rather_than_signed_as_another_one(echo, path):
    with engine(credentials=SIGNER) as sender:
        outcomes = [sender.send(get(echo, one)) for one in (path, "a/..b/.c/d...?x=/../")]

    assert outcomes[0].failure.reason is Reason.BAD_URL
    assert outcomes[1].answer.status == 200
    assert len(echo.requests) == 1


def test_credentials_are_in_no_representation_and_no_words(echo, caplog, capfd):
    with engine(Pace(attempts=1), credentials=SIGNER) as sender:
        outcomes = [
            sender.send(get(echo, "a")),
            sender.send(Request(url="http://127.0.0.1:1/")),
            sender.send(Request(url="nonsense")),
        ]
        texts = [
            *map(repr, outcomes),
            repr(SIGNER),
            repr(sender),
            repr(sender._manner),
            caplog.text,
            *capfd.readouterr(),
        ]

    assert SIGNER.access_key_id in echo.requests[0].headers["authorization"]
    for secret in (SIGNER.access_key_id, SIGNER.secret_access_key):
        assert secret not in " ".join(texts)
        assert secret not in str(echo.requests[0].body)


# TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_bundle(authority, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("tls") / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def secured(
    authority: trustme.CA, *protocols: str, resets: int = 0, name: str = "127.0.0.1"
) -> contextlib.AbstractContextManager[Site]:
    """A server behind TLS that speaks what was negotiated; the first `resets` handshakes break."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    context.set_alpn_protocols(protocols)
    left = iter(range(resets))

    def serve(running: Site, peer: socket.socket) -> None:
        if next(left, None) is not None:
            peer.recv(10)
            reset(peer)
            return
        with context.wrap_socket(peer, server_side=True) as encrypted:
            if encrypted.selected_alpn_protocol() == "h2":
                speak_http2(encrypted)
            else:
                speak(running, encrypted, lambda request: [reply(body=request.target.encode())])

    return site(serve=serve, scheme="https")


def speak_http2(peer: ssl.SSLSocket) -> None:
    """Answer every request with its path."""
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    connection.initiate_connection()
    peer.sendall(connection.data_to_send())
    while received := peer.recv(65536):
        for event in connection.receive_data(received):
            if isinstance(event, h2.events.RequestReceived):
                path = dict(event.headers)[b":path"]
                connection.send_headers(
                    event.stream_id, [(":status", "200"), ("content-length", str(len(path)))]
                )
                connection.send_data(event.stream_id, path, end_stream=True)
        peer.sendall(connection.data_to_send())


@pytest.mark.parametrize(
    ("protocols", "version"), [(["h2", "http/1.1"], "2"), (["http/1.1"], "1.1"), ([], "1.1")]
)
def test_http2_is_spoken_where_the_server_offers_it(authority, ca_bundle, protocols, version):
    with (
        secured(authority, *protocols) as server,
        engine(Pace(workers=4), ca_bundle=ca_bundle) as sender,
    ):
        outcomes = list(sender.send_many(range(40), lambda label: get(server, label)))

        assert [outcome.answer.http_version for outcome in outcomes] == [version] * 40
        assert [outcome.answer.body.decode() for outcome in outcomes] == [
            f"/{n}" for n in range(40)
        ]
        assert server.connections() <= 4


def test_a_certificate_that_is_not_trusted_is_refused_at_once(authority):
    with secured(authority, "http/1.1") as server, engine() as sender:
        outcome = sender.send(get(server, "a"))

    assert (outcome.failure.reason, outcome.attempts) == (Reason.TLS, 1)


def test_a_bundle_that_cannot_be_read_is_told_from_a_certificate(authority, tmp_path):
    bundle = str(tmp_path / "absent.pem")
    with secured(authority, "http/1.1") as server, engine(ca_bundle=bundle) as sender:
        failure = sender.send(get(server, "a")).failure

    assert failure.reason is Reason.TLS
    assert failure.detail == "the file of trusted certificates cannot be read"


def test_a_certificate_for_another_host_is_refused(authority, ca_bundle):
    with (
        secured(authority, "http/1.1", name="other.example") as server,
        engine(ca_bundle=ca_bundle) as sender,
    ):
        outcome = sender.send(get(server, "a"))

    assert (outcome.failure.reason, outcome.attempts) == (Reason.TLS, 1)


def test_a_handshake_that_breaks_is_tried_again(authority, ca_bundle):
    with secured(authority, "http/1.1", resets=2) as server, engine(ca_bundle=ca_bundle) as sender:
        outcome = sender.send(get(server, "a"))

    assert outcome.answer.status == 200
    assert outcome.attempts == 3
