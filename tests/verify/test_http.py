"""What URLs answer is believed with care: one request each, no false alarm, hosts judged as hosts."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from io import BytesIO, StringIO

import pytest
from django.core.management import call_command
from PIL import Image

from r2maint.bucket import DirectoryBucket, Upload, open_bucket, put
from r2maint.bucket.protocol import Headers
from r2maint.conf import load
from r2maint.control import Control
from r2maint.errors import Stopped
from r2maint.keys import Addresses, Kind, Target, Via
from r2maint.models import Health
from r2maint.references import Scope
from r2maint.references.reference import Reference, Shape
from r2maint.verify import Finding, Level, Look, Outcome, plan, verify_urls
from r2maint.verify.asking import ask_urls, asking_processes
from r2maint.verify.asking.host_health import Hosts
from r2maint.verify.asking.host_notes import notes
from tests.appdirectory.models import App, AppSubmission
from tests.commands import run
from tests.conftest import DATABASES
from tests.servers.s3_server import Request
from tests.servers.websites import BREAK, Site, reply, site
from tests.worlds.helper_processes import helpers

pytestmark = pytest.mark.django_db(transaction=True, databases=DATABASES)

BODY = b"\x89PNG\r\n\x1a\n of one and the same length"
IMAGE = "Content-Type: image/png"
Answering = Callable[[Request], Iterable[bytes]]


@dataclass
class Web:
    """Our public host and a stranger's: what each answers by path, and what it was asked."""

    own: Site
    stranger: Site
    answers: dict[str, Answering] = field(default_factory=dict)

    def asked(self) -> list[tuple[str, str]]:
        requests = [*self.own.requests, *self.stranger.requests]
        return [(request.method, request.target) for request in requests]


@pytest.fixture
def web(project, settings, monkeypatch) -> Iterator[Web]:
    """Both hosts serve BODY as a picture, but for the paths a test gives other answers."""
    monkeypatch.setattr("r2maint.http.retry.FIRST_WAIT_SECONDS", 0.0)
    monkeypatch.setattr("r2maint.http.retry.PAUSE_SECONDS", 0.0)
    answers: dict[str, Answering] = {}

    def answer(request: Request) -> Iterable[bytes]:
        found = answers.get(request.target.partition("?")[0], lambda _: [reply(200, BODY, IMAGE)])
        return found(request)

    with site(answer) as own, site(answer, host="127.0.0.2") as stranger:
        settings.R2MAINT = {
            **settings.R2MAINT,
            "PUBLIC_URL": f"{own.url}/",
            "FETCH_ALLOW": [f"127.0.0.2:{stranger.port}"],
        }
        yield Web(own, stranger, answers)


def store(*keys: str, body: bytes = BODY) -> None:
    bucket = open_bucket(load())
    for key in keys:
        put(bucket, Upload(key=key, body=body, headers=Headers(content_type="image/png")))


def name(*urls: str) -> None:
    """Let one row name these URLs."""
    number = AppSubmission.objects.count() + 1
    AppSubmission.objects.create(tracking_id=f"QAD-{number:06d}", screenshots_en=list(urls))


def verify(*arguments: str, level: str = "http", exit_code: int = 0):
    return run("verify_urls", "--level", level, *arguments, exit_code=exit_code)


def outcomes(document) -> dict[str, int]:
    return {name: count for name, count in document["summary"]["outcomes"].items() if count}


def always(*arguments, **options) -> Answering:
    return lambda _: [reply(*arguments, **options)]


def only_get(*arguments, refusal: int = 405) -> Answering:
    """Serve a GET, and refuse every HEAD."""
    return lambda request: [reply(refusal, b"") if request.method == "HEAD" else reply(*arguments)]


def drawn(size: int = 64, format: str = "PNG") -> bytes:
    """Return a picture that does not compress to nothing."""
    out = BytesIO()
    image = Image.effect_noise((size, size), 60).convert("RGB")
    image.save(out, format)
    return out.getvalue()


# One request for each URL


def test_what_is_served_is_ok_with_one_head_for_each_url(web):
    store("a b.png", "c.png")
    name(f"{web.own.url}/a%20b.png", f"{web.own.url}/c.png", f"{web.stranger.url}/x.png")
    name(f"{web.own.url}/a%20b.png", f"{web.own.url}/c.png", f" {web.stranger.url}/x.png")

    document = verify("--all")

    assert outcomes(document) == {"ok": 6}
    assert {item["status"] for item in document["items"]} == {200}
    assert Counter(web.asked()) == {
        ("HEAD", "/a%20b.png"): 1,
        ("HEAD", "/c.png"): 1,
        ("HEAD", "/x.png"): 1,
    }
    (agent,) = {request.headers["user-agent"] for request in web.own.requests}
    assert agent.startswith("r2maint/")


@pytest.mark.parametrize("level", ["http", "content"])
def test_many_urls_are_asked_by_processes_of_their_own_with_the_same_outcome(
    web, monkeypatch, level
):
    store("a.png", "b.png", "c.png")
    web.answers["/b.png"] = web.answers["/y.png"] = always(404, b"")
    urls = [f"{web.own.url}/{key}" for key in ("a.png", "b.png", "c.png", "gone.png")]
    name(*urls, f"{web.stranger.url}/x.png", f"{web.stranger.url}/y.png", urls[0])
    within = verify("--all", level=level, exit_code=3)

    monkeypatch.setattr(plan, "_MANY", 2)
    started = []
    begin = asking_processes.Helper
    monkeypatch.setattr(
        asking_processes, "Helper", lambda *words: (started.append(1), begin(*words))[1]
    )
    apart = verify("--all", level=level, exit_code=3)

    assert started
    assert outcomes(apart) == outcomes(within)
    assert [told(item) for item in apart["items"]] == [told(item) for item in within["items"]]
    assert not helpers(os.getpid())


def test_a_lookup_starts_no_process_for_what_it_passes_over(web, monkeypatch):
    monkeypatch.setattr(plan, "_MANY", 3)
    monkeypatch.setattr(asking_processes, "Helper", lambda *words: pytest.fail("started"))
    store("a.png", "b.png", "c.png", "d.png")
    name(*(f"{web.own.url}/{key}.png" for key in "abcd"))
    document = verify("--key", "a.png", "--all")
    assert outcomes(document) == {"ok": 1}


def told(item):
    return {name: item[name] for name in ("reference", "outcome", "status", "detail", "advice")}


def test_however_many_name_one_url_it_is_asked_once_and_few_are_held(web, monkeypatch):
    monkeypatch.setattr(ask_urls, "_BATCH", 2)
    store("a.png", "b.png")
    web.answers["/b.png"] = web.answers["/y.png"] = always(404, b"")
    urls = [f"{web.own.url}/a.png", f"{web.own.url}/b.png", f"{web.own.url}/gone.png"]
    urls += [f"{web.stranger.url}/x.png", f"{web.stranger.url}/y.png"]
    for _ in range(5):
        name(*urls)

    document = verify(exit_code=3)

    assert outcomes(document) == {"missing": 5, "dead": 5, "not_public": 5, "ok": 10}
    asked = Counter(target for method, target in web.asked() if method == "HEAD")
    assert asked == {"/a.png": 1, "/b.png": 1, "/x.png": 1, "/y.png": 1}


def test_findings_of_one_url_are_taken_a_few_at_a_time():
    target = Target(Kind.BUCKET, Via.PUBLIC, "a.png")
    reference = Reference("default", "app.Model", "1", "icon", "", "a.png", Shape.URL, target)
    finding = Finding(
        reference=reference, outcome=Outcome.OK, url="https://media.example.org/a.png"
    )
    taken = iter(range(100_000))

    first = next(ask_urls.own_questions((finding for _ in taken), "host"))

    assert first.is_asked
    assert len(first.findings) <= next(taken) < 1000


def test_level_bucket_asks_no_url(web):
    store("a.png")
    name(f"{web.own.url}/a.png", f"{web.stranger.url}/x.png")
    assert outcomes(verify(level="bucket")) == {"ok": 1, "external": 1}
    assert web.asked() == []


def test_what_is_absent_empty_or_addressed_otherwise_is_never_asked(web, settings):
    settings.R2MAINT = {**settings.R2MAINT, "ALIASES": [f"{web.stranger.url}/"]}
    store("a.png", "a%20b.png")
    store("empty.png", body=b"")
    name(f"{web.own.url}/gone.png", f"{web.own.url}/empty.png", f"{web.own.url}/a%20b.png")
    name(f"{web.stranger.url}/a.png")

    document = verify(exit_code=3)

    assert outcomes(document) == {"missing": 1, "empty": 1, "respelled": 1, "alias": 1}
    assert web.asked() == []


def test_without_a_public_url_only_strangers_are_asked(web, settings):
    store("a.png")
    aliases = [f"{web.own.url}/"]
    settings.R2MAINT = {**settings.R2MAINT, "PUBLIC_URL": "", "ALIASES": aliases}
    name(f"{web.own.url}/a.png", f"{web.stranger.url}/x.png")
    document = verify()
    assert outcomes(document) == {"ok": 1, "alias": 1}
    assert web.asked() == [("HEAD", "/x.png")]
    assert document["notes"][0].startswith("PUBLIC_URL is not configured: objects of the bucket")
    (note,) = verify(level="content", exit_code=3)["notes"]
    assert note.startswith("PUBLIC_URL is not configured: files were read from the bucket")
    assert verify(level="bucket")["notes"] == []


# What single URLs answer


ANSWERS = {
    # What a stranger answers, and what becomes of it.
    "dead": (always(404), "dead", 404, "404"),
    "gone": (always(410), "dead", 410, "410"),
    "alive but not to HEAD": (only_get(200, BODY, IMAGE), "ok", 200, None),
    "HEAD not implemented": (only_get(200, BODY, IMAGE, refusal=501), "ok", 200, None),
    "HEAD forbidden": (only_get(206, b"x", IMAGE, refusal=403), "ok", 206, None),
    "HEAD not found": (only_get(200, BODY, IMAGE, refusal=404), "ok", 200, None),
    "forbidden": (always(403), "blocked", 403, "403"),
    "unauthorized": (always(401), "blocked", 401, "401"),
    "for legal reasons": (always(451), "blocked", 451, "451"),
    "challenged": (
        always(403, b"", "cf-mitigated: challenge"),
        "blocked",
        403,
        "Cloudflare challenges",
    ),
    "challenged as busy": (
        always(503, b"", "cf-mitigated: challenge"),
        "blocked",
        503,
        "Cloudflare challenges",
    ),
    "bad request": (always(400), "unsure", 400, "400"),
    "no content": (always(204, b""), "unsure", 204, "204"),
    "too busy": (always(429), "unsure", 429, "429"),
    "server error": (always(500), "unsure", 500, "500"),
    "unavailable": (always(503), "unsure", 503, "503"),
    "reset": (lambda _: [BREAK], "unsure", None, ""),
    "no HTTP": (lambda _: [b"hello\r\n\r\n", BREAK], "unsure", None, ""),
    "redirected": (always(302, b"", "Location: /other.png"), "ok", 200, None),
    "redirected for ever": (always(302, b"", "Location: /x.png"), "unsure", None, "redirects"),
    "redirected nowhere": (always(302, b""), "unsure", 302, "302"),
    "redirected to a stranger inside": (
        always(302, b"", "Location: http://127.0.0.3:9/secret"),
        "unsure",
        None,
        "no public address",
    ),
    "a page": (
        always(200, b"<html>", "Content-Type: text/html; charset=utf-8"),
        "wrong_type",
        200,
        "served as text/html",
    ),
    "another kind of picture": (always(200, BODY, "Content-Type: image/webp"), "ok", 200, None),
    "no type": (always(200, BODY), "ok", 200, None),
    "bytes": (always(200, BODY, "Content-Type: application/octet-stream"), "ok", 200, None),
}


@pytest.mark.parametrize(("answer", "outcome", "status", "detail"), ANSWERS.values(), ids=ANSWERS)
def test_a_strangers_answer_has_its_outcome(web, answer, outcome, status, detail):
    web.answers["/x.png"] = answer
    # Enough others that answer, so that the host can be judged.
    name(f"{web.stranger.url}/x.png", f"{web.stranger.url}/y.png", f"{web.stranger.url}/z.png")

    failing = outcome in ("dead", "wrong_type")
    document = verify("--all", exit_code=3 if failing else 0)

    assert outcomes(document) == Counter(["ok", "ok", outcome])
    (item,) = [item for item in document["items"] if item["url"].endswith("/x.png")]
    assert (item["outcome"], item["status"]) == (outcome, status)
    assert (detail or "") in (item["detail"] or "")
    assert document["summary"]["cannot_judge"] == []


OWN = {
    "not connected": (always(404), "not_public", "404", "domain of PUBLIC_URL"),
    "gone": (always(410), "not_public", "410", "domain of PUBLIC_URL"),
    "a cached 404": (
        always(404, b"", "cf-cache-status: HIT", "Age: 70"),
        "not_public",
        "a cached answer",
        "Purge this URL",
    ),
    "a 404 of some other cache": (always(404, b"", "Age: 7"), "not_public", "cached", "Purge"),
    "a fresh 404": (
        always(404, b"", "cf-cache-status: MISS"),
        "not_public",
        "404",
        "domain of PUBLIC_URL",
    ),
    "forbidden": (always(403), "not_public", "403", "which rule"),
    "unauthorized": (always(401), "not_public", "401", "which rule"),
    "hotlink protection": (always(403, b"", "cf-ray: 1"), "blocked", "Hotlink Protection", ""),
    "forbidden by R2": (
        always(403, b"", "cf-ray: 1", "cf-cache-status: DYNAMIC"),
        "not_public",
        "403",
        "which rule",
    ),
    "challenged": (always(403, b"", "cf-mitigated: challenge"), "blocked", "challenges", ""),
    "busy": (always(503), "unsure", "503", ""),
    "a page": (
        always(200, BODY, "Content-Type: text/html"),
        "wrong_type",
        "served as text/html, and its name promises image/png",
        "Store the object again",
    ),
    "a stale copy": (
        always(200, BODY + b"!", IMAGE, "cf-cache-status: HIT"),
        "corrupt",
        f"serves {len(BODY) + 1} bytes, the bucket holds {len(BODY)}",
        "Purge this URL",
    ),
    "a copy of another length": (always(200, b"x", IMAGE), "corrupt", "serves 1 bytes", "See what"),
    "a copy of another version": (
        always(200, BODY, IMAGE, f'ETag: W/"{"0" * 32}"'),
        "corrupt",
        "its ETag",
        "See what",
    ),
    "a part of another length": (
        only_get(206, b"x", IMAGE, "Content-Range: bytes 0-0/99"),
        "corrupt",
        "serves 99 bytes",
        "See what",
    ),
    "a part": (only_get(206, b"x", IMAGE, f"Content-Range: bytes 0-0/{len(BODY)}"), "ok", "", ""),
    "a smaller picture made on the way": (
        always(200, b"x", IMAGE, "cf-polished: origSize=37"),
        "ok",
        "",
        "",
    ),
    "encoded on the way": (always(200, b"x", IMAGE, "Content-Encoding: br"), "ok", "", ""),
    "an ETag of another kind": (always(200, BODY, IMAGE, 'ETag: "6b05c672-25"'), "ok", "", ""),
}


@pytest.mark.parametrize(("answer", "outcome", "detail", "advice"), OWN.values(), ids=OWN)
def test_our_own_answer_has_its_outcome_and_advice(web, answer, outcome, detail, advice):
    web.answers["/x.png"] = answer
    store("x.png", "y.png", "z.png")
    name(*(f"{web.own.url}/{key}.png" for key in "xyz"))

    failing = outcome in ("not_public", "wrong_type", "corrupt")
    document = verify("--all", exit_code=3 if failing else 0)

    assert outcomes(document) == Counter(["ok", "ok", outcome])
    (item,) = [item for item in document["items"] if item["key"] == "x.png"]
    assert item["outcome"] == outcome
    assert detail in (item["detail"] or "")
    assert advice in (item["advice"] or "")


def test_r2_dev_that_is_disabled_is_named(web):
    from r2maint.http import Answer
    from r2maint.verify.verdicts.by_http import judge_answer

    (found,) = open_and_list("x.png")
    answer = Answer(status=401, url="", headers={}, body=b"")
    url = "https://pub-0123456789abcdef.r2.dev/x.png"
    verdict = judge_answer(answer, url=url, stored=found)
    assert "r2.dev is disabled" in verdict.detail
    assert "PUBLIC_URL" in verdict.advice


def open_and_list(*keys: str):
    store(*keys)
    return [item for page in open_bucket(load()).list_pages() for item in page]


def test_a_picture_is_asked_for_again_as_a_visitors_browser_would(web):
    def protected(request):
        is_from_us = request.headers.get("referer") == "https://apps.example.org/"
        return [reply(200, BODY, IMAGE) if is_from_us else reply(403)]

    web.answers["/x.png"] = protected
    name(f"{web.stranger.url}/x.png")

    assert outcomes(verify()) == {"ok": 1}
    assert [method for method, _ in web.asked()] == ["HEAD", "GET"]
    assert web.stranger.requests[-1].headers["range"] == "bytes=0-0"


@pytest.mark.parametrize("status", [403, 503])
def test_who_challenges_is_not_asked_again(web, status):
    web.answers["/x.png"] = always(status, b"", "cf-mitigated: challenge")
    name(f"{web.stranger.url}/x.png")

    assert outcomes(verify()) == {"blocked": 1}
    assert len(web.asked()) == 1


def test_the_rest_of_a_body_is_not_waited_for_where_a_range_is_not_honoured(web):
    def endless(request):
        if request.method == "HEAD":
            yield reply(405, b"")
            return
        yield reply(200, b"", IMAGE, length=10**9)
        while True:
            yield b"x" * 65536

    web.answers["/x.png"] = endless
    name(f"{web.stranger.url}/x.png")
    assert outcomes(verify()) == {"ok": 1}


def test_a_stranger_at_a_private_address_is_not_connected_to(web, settings):
    settings.R2MAINT = {**settings.R2MAINT, "FETCH_ALLOW": []}
    name(f"{web.stranger.url}/x.png")

    document = verify("--all")

    assert outcomes(document) == {"unsure": 1}
    assert "no public address" in document["items"][0]["detail"]
    assert "FETCH_ALLOW" in document["notes"][0]
    assert web.stranger.accepted == 0


@pytest.mark.parametrize(
    ("url", "outcome"),
    [
        ("http://user:secret@127.0.0.2/x.png", "unsure"),
        ("http://[::1/x.png", "unsure"),
        ("https:///x.png", "invalid"),
    ],
)
def test_a_url_that_must_not_be_asked_is_told_and_never_dead(web, url, outcome):
    name(url)
    document = verify()
    assert outcomes(document) == {outcome: 1}
    assert "secret" not in str(document)
    assert document["summary"]["cannot_judge"] == []


# Hosts that say nothing


@pytest.mark.parametrize("own", [True, False], ids=["ours", "a stranger"])
def test_a_host_that_answers_429_to_everything_judges_nothing(web, own, monkeypatch):
    monkeypatch.setattr("r2maint.http.retry._LONGEST_INTERVAL_SECONDS", 0.001)
    running = web.own if own else web.stranger
    keys = [f"{number:03d}.png" for number in range(200)]
    store(*keys)
    for key in keys:
        web.answers[f"/{key}"] = always(429)
    name(*(f"{running.url}/{key}" for key in keys))

    document = verify()

    assert outcomes(document) == {"unsure": 200}
    assert document["items"] == []
    host = f"{running.address[0]}:{running.port}"
    assert document["summary"]["cannot_judge"] == [host]
    (note,) = [note for note in document["notes"] if "Cannot judge" in note]
    assert host in note
    assert "it answers 429" in note
    assert len({target for _, target in web.asked()}) < 60
    assert len(verify("--all")["items"]) == 200


def test_a_host_that_fails_for_the_most_part_calls_nothing_dead(web):
    for number in range(4):
        web.answers[f"/busy{number}.png"] = always(503)
    web.answers["/dead.png"] = always(404)
    name(*(f"{web.stranger.url}/busy{number}.png" for number in range(4)))
    name(f"{web.stranger.url}/dead.png", f"{web.stranger.url}/fine.png")

    document = verify()

    assert outcomes(document) == {"unsure": 5, "ok": 1}
    assert document["items"] == []


def test_a_host_that_fails_now_and_then_is_judged(web):
    web.answers["/busy.png"] = always(503)
    web.answers["/dead.png"] = always(404)
    name(*(f"{web.stranger.url}/{key}.png" for key in ("busy", "dead", "a", "b")))

    document = verify(exit_code=3)

    assert outcomes(document) == {"unsure": 1, "dead": 1, "ok": 2}
    assert {item["outcome"] for item in document["items"]} == {"unsure", "dead"}
    assert document["summary"]["cannot_judge"] == []


def test_with_the_network_down_nothing_is_called_broken(web, settings):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    settings.R2MAINT = {
        **settings.R2MAINT,
        "PUBLIC_URL": f"http://127.0.0.1:{port}/",
        "FETCH_ALLOW": [f"127.0.0.2:{port}"],
    }
    keys = [f"{number}.png" for number in range(30)]
    store(*keys)
    name(*(f"http://127.0.0.1:{port}/{key}" for key in keys))
    name(f"http://127.0.0.2:{port}/x.png", "https://no-such-host.invalid/x.png")

    document = verify()

    assert outcomes(document) == {"unsure": 32}
    assert document["items"] == []
    assert len(document["summary"]["cannot_judge"]) == 3
    assert any("network" in note for note in document["notes"])


def test_a_host_that_has_none_of_its_urls_is_told_as_one(web):
    keys = [f"{number}.png" for number in range(6)]
    store(*keys)
    for key in keys:
        web.answers[f"/{key}"] = always(404)
    name(*(f"{web.own.url}/{key}" for key in keys))

    document = verify(exit_code=3)

    assert outcomes(document) == {"not_public": 6}
    assert any("has none of the 6 URLs" in note for note in document["notes"])


def test_hosts_counted_in_parts_are_one_and_given_up_when_every_part_gave_up():
    parts = [Hosts(), Hosts(), Hosts()]
    parts[0].count("cdn.example", Outcome.OK, "")
    for _ in range(10):
        parts[1].count("cdn.example", Outcome.UNSURE, "no answer", "Run again.")
    parts[1].pass_over("cdn.example")
    parts[1].count("other.example", Outcome.DEAD, "")

    whole = Hosts.of_all(parts)

    tally = whole.tallies["cdn.example"]
    assert (tally.asked, tally.unsure, tally.not_asked, tally.why) == (11, 10, 1, "no answer")
    assert not whole.is_given_up("cdn.example"), "another part heard it answer"
    assert Hosts.of_all([parts[1], parts[1]]).is_given_up("cdn.example")
    assert (whole.tallies["other.example"].gone, whole.is_given_up("other.example")) == (1, False)


def test_many_silent_hosts_are_not_told_one_by_one():
    tallies = Hosts()
    for number in range(25):
        tallies.count(f"host{number:02d}.example", Outcome.UNSURE, "no answer in time")
    tallies.count("fine.example", Outcome.OK, "")
    told = list(notes(tallies))
    assert len(told) == 11
    assert "15 more hosts" in told[-1]


def test_429_of_r2_dev_hints_at_a_custom_domain():
    tallies = Hosts()
    tallies.count("pub-0123.r2.dev", Outcome.UNSURE, "it answers 429")
    assert any("custom domain" in note for note in notes(tallies))


# Pace


def test_a_rate_limited_host_is_asked_more_slowly_until_it_answers(web, monkeypatch):
    """It takes 20 requests in a tenth of a second; whoever asks faster is refused."""
    monkeypatch.setattr("r2maint.http.retry.PAUSE_SECONDS", 0.15)
    times: list[float] = []

    def limited(request):
        now = time.monotonic()
        recent = sum(now - at < 0.1 for at in times)
        times.append(now)
        return [reply(429, b"") if recent >= 20 else reply(200, BODY, IMAGE)]

    keys = [f"{number:03d}.png" for number in range(60)]
    store(*keys)
    for key in keys:
        web.answers[f"/{key}"] = limited
    name(*(f"{web.own.url}/{key}" for key in keys))

    document = verify()

    assert outcomes(document) == {"ok": 60}
    assert len(web.own.requests) < 150


def test_retry_after_is_honoured_for_the_whole_host(web):
    refused: list[float] = []

    def answer(request):
        if not refused:
            refused.append(time.monotonic())
            return [reply(429, b"", "Retry-After: 1")]
        later.append(time.monotonic() - refused[0])
        return [reply(200, BODY, IMAGE)]

    later: list[float] = []
    urls = [f"/{number}.png" for number in range(40)]
    web.answers.update(dict.fromkeys(urls, answer))
    name(*(f"{web.stranger.url}{url}" for url in urls))

    assert outcomes(verify("--workers", "1")) == {"ok": 40}
    assert min(later) >= 0.9


def test_a_stranger_is_never_asked_more_than_eight_things_at_once(web):
    def slow(request):
        time.sleep(0.02)
        return [reply(200, BODY, IMAGE)]

    keys = [f"{number}.png" for number in range(64)]
    web.answers.update({f"/{key}": slow for key in keys})
    store(*keys)
    name(*(f"{web.stranger.url}/{key}" for key in keys))
    name(*(f"{web.own.url}/{key}" for key in keys))

    verify("--workers", "24")

    assert web.stranger.most_at_once <= 8
    assert 8 < web.own.most_at_once <= 24


def test_the_rate_is_a_limit(web):
    store(*(f"{number}.png" for number in range(20)))
    name(*(f"{web.own.url}/{number}.png" for number in range(20)))
    begun = time.monotonic()
    verify("--rate", "40")
    assert time.monotonic() - begun >= 19 / 40


# Meanwhile


def test_an_object_that_was_deleted_or_replaced_meanwhile_raises_no_alarm_of_its_url(web):
    store("deleted.png", "replaced.png", "kept.png")

    def deleting(request):
        list(open_bucket(load()).delete_many(["deleted.png"]))
        return [reply(404)]

    def replacing(request):
        with contextlib.suppress(Exception):
            list(open_bucket(load()).delete_many(["replaced.png"]))
            store("replaced.png", body=b"another body")
        return [reply(200, b"another body", IMAGE)]

    web.answers |= {"/deleted.png": deleting, "/replaced.png": replacing}
    name(*(f"{web.own.url}/{key}.png" for key in ("deleted", "replaced", "kept")))

    document = verify(exit_code=3)

    assert outcomes(document) == {"missing": 1, "unsure": 1, "ok": 1}
    details = {item["key"]: item["detail"] for item in document["items"]}
    assert details == {
        "deleted.png": "the object was deleted meanwhile",
        "replaced.png": "the object was replaced meanwhile",
    }


def test_a_url_that_was_edited_meanwhile_raises_no_alarm(web):
    name(f"{web.stranger.url}/old.png")

    def edited(request):
        AppSubmission.objects.update(screenshots_en=[f"{web.stranger.url}/new.png"])
        return [reply(404)]

    web.answers["/old.png"] = edited
    assert outcomes(verify()) == {}


# Content


def test_content_that_is_what_it_should_be_is_ok(web):
    picture = drawn()
    store("a.png", body=picture)
    web.answers["/a.png"] = always(200, picture, IMAGE)
    web.answers["/sound.mp3"] = always(200, b"ID3 and sound", "Content-Type: audio/mpeg")
    name(f"{web.own.url}/a.png", f"{web.own.url}/a.png", f"{web.stranger.url}/sound.mp3")

    assert outcomes(verify(level="content")) == {"ok": 3}
    assert sorted(web.asked()) == [("GET", "/a.png"), ("GET", "/sound.mp3")]


WHOLE = drawn()
CONTENTS = {
    # name, what is stored, what is served (None for the same), its type, outcome, detail
    "truncated before it was stored": ("a.png", WHOLE[:-200], None, "corrupt", "does not decode"),
    "a page that was stored": ("a.png", b"<html>no</html>", None, "wrong_type", "no known type"),
    "a JPEG named PNG": ("a.png", drawn(format="JPEG"), None, "wrong_type", "image/jpeg"),
    "a WebP served as PNG": ("a.webp", drawn(format="WEBP"), None, "wrong_type", "image/webp"),
    "other bytes of this length": (
        "a.png",
        WHOLE,
        WHOLE[:-1] + b"?",
        "corrupt",
        "their MD5 is not its ETag",
    ),
    "a file that says nothing": ("a", b"anything", None, "ok", ""),
    "an archive of an app": ("a.apk", b"PK\x03\x04", None, "ok", ""),
}


@pytest.mark.parametrize("reading", ["the public URL", "the bucket"])
@pytest.mark.parametrize(
    ("key", "stored", "served", "outcome", "detail"), CONTENTS.values(), ids=CONTENTS
)
def test_content_is_compared_and_decoded(
    web, settings, reading, key, stored, served, outcome, detail
):
    content_type = "image/png" if key.endswith((".png", ".webp")) else ""
    put(
        open_bucket(load()),
        Upload(key=key, body=stored, headers=Headers(content_type=content_type)),
    )
    web.answers[f"/{key}"] = always(
        200, served or stored, *([f"Content-Type: {content_type}"] if content_type else ())
    )
    url = f"{web.own.url}/{key}"
    if reading == "the bucket":
        if served:
            pytest.skip("a bucket gives what it holds")
        settings.R2MAINT = {**settings.R2MAINT, "PUBLIC_URL": ""}
        AppSubmission.objects.create(tracking_id="QAD-1", app_icon_url=key)
        if "." not in key:
            pytest.skip("no name without an extension")
    else:
        name(url)

    document = verify("--all", level="content", exit_code=0 if outcome == "ok" else 3)

    (item,) = document["items"]
    assert item["outcome"] == outcome
    assert detail in (item["detail"] or "")
    assert (web.asked() == []) == (reading == "the bucket")


def test_a_strangers_picture_is_decoded_but_may_be_of_another_kind(web):
    whole = drawn(format="JPEG")
    web.answers["/cut.jpg"] = always(200, whole[: len(whole) // 2], "Content-Type: image/jpeg")
    web.answers["/other.png"] = always(200, whole, "Content-Type: image/jpeg")
    web.answers["/page.png"] = always(200, b"<html>", IMAGE)
    web.answers["/nothing.png"] = always(200, b"", IMAGE)
    name(
        *(
            f"{web.stranger.url}/{key}"
            for key in ("cut.jpg", "other.png", "page.png", "nothing.png")
        )
    )

    document = verify(level="content", exit_code=3)

    assert outcomes(document) == {"ok": 1, "corrupt": 1, "wrong_type": 1, "empty": 1}
    (advice,) = {item["advice"] for item in document["items"]}
    assert "of your own" in advice


def test_of_a_long_file_only_the_beginning_is_read(web, monkeypatch):
    monkeypatch.setattr("r2maint.verify.asking.prober.STRANGER_BYTES", 1000)
    monkeypatch.setattr("r2maint.verify.asking.prober.WHOLE_BYTES", 1000)
    whole = drawn(256)
    store("long.png", body=whole)
    web.answers["/long.png"] = always(200, whole, IMAGE)
    name(f"{web.own.url}/long.png", f"{web.stranger.url}/long.png")

    assert outcomes(verify(level="content")) == {"ok": 2}


def test_bodies_in_memory_are_bounded_by_their_bytes(web, monkeypatch):
    """Held are the bodies of what was asked and is not judged yet."""
    monkeypatch.setattr("r2maint.verify.asking.prober.HELD_BYTES", 3 * len(WHOLE))
    keys = [f"{number}.png" for number in range(12)]
    store(*keys, body=WHOLE)
    answered: list[str] = []

    def answer(request):
        answered.append(request.target)
        return [reply(200, WHOLE, IMAGE)]

    web.answers.update({f"/{key}": answer for key in keys})
    name(*(f"{web.own.url}/{key}" for key in keys))
    ahead: list[int] = []
    judge = Hosts.count

    def counting(tallies, *told):
        time.sleep(0.02)
        ahead.append(len(answered) - len(ahead))
        judge(tallies, *told)

    monkeypatch.setattr(Hosts, "count", counting)
    assert outcomes(verify("--workers", "12", level="content")) == {"ok": 12}
    assert max(ahead) <= 4


def test_objects_are_read_from_the_bucket_in_portions_that_memory_holds(
    project, settings, monkeypatch
):
    settings.R2MAINT = {**settings.R2MAINT, "PUBLIC_URL": ""}
    monkeypatch.setattr(
        "r2maint.verify.asking.read_objects.HELD_BYTES", 3 * (len(WHOLE) + 2 * 1024)
    )
    keys = [f"{number}.png" for number in range(8)]
    store(*keys, body=WHOLE)
    name(*keys)
    name(*keys)
    portions = counted_portions(monkeypatch)

    assert outcomes(verify(level="content")) == {"ok": 16}
    assert [len(portion) for portion in portions] == [3, 3, 2]


def test_an_object_that_many_name_is_read_once_however_few_are_held(project, settings, monkeypatch):
    settings.R2MAINT = {**settings.R2MAINT, "PUBLIC_URL": ""}
    monkeypatch.setattr("r2maint.verify.asking.read_objects._BATCH", 2)
    monkeypatch.setattr("r2maint.verify.asking.read_objects._MOST_OBJECTS", 2)
    store("a.png", "b.png", body=WHOLE)
    store("broken.png", body=WHOLE[:-30])
    for _ in range(7):
        name("a.png", "broken.png", "b.png")
    portions = counted_portions(monkeypatch)

    assert outcomes(verify(level="content", exit_code=3)) == {"ok": 14, "corrupt": 7}
    assert sorted(key for portion in portions for key in portion) == [
        "a.png",
        "b.png",
        "broken.png",
    ]


def counted_portions(monkeypatch) -> list[list[str]]:
    """Return the keys of each reading from the bucket, as they come."""
    portions: list[list[str]] = []
    get_many = DirectoryBucket.get_many

    def counted(bucket, wanted):
        portions.append(list(wanted))
        return get_many(bucket, portions[-1])

    monkeypatch.setattr(DirectoryBucket, "get_many", counted)
    return portions


# Nothing is written


def test_asking_writes_nothing(web, monkeypatch):
    store("a.png")
    name(f"{web.own.url}/a.png", f"{web.stranger.url}/x.png")
    for each in ("put_many", "copy_many", "delete_many"):
        monkeypatch.delattr(DirectoryBucket, each)
    before = list(AppSubmission.objects.values())
    verify()
    verify(level="content", exit_code=3)
    assert list(AppSubmission.objects.values()) == before


def test_text_tells_of_a_silent_host_in_one_line(web):
    for number in range(20):
        web.answers[f"/{number}.png"] = always(503)
    name(*(f"{web.stranger.url}/{number}.png" for number in range(20)))
    out = StringIO()
    call_command("verify_urls", "--level", "http", stdout=out)
    assert out.getvalue().count("Cannot judge") == 1
    assert "unsure 20" in out.getvalue()


# What a HEAD says is worth


@pytest.mark.parametrize(
    "said", [reply(200, b"", "Content-Type: text/html"), reply(200, b"", IMAGE, length=7)]
)
def test_a_head_that_contradicts_the_body_breaks_nothing(web, said):
    store("a.png")
    web.answers["/a.png"] = web.answers["/x.png"] = lambda request: [
        said if request.method == "HEAD" else reply(200, BODY, IMAGE)
    ]
    name(f"{web.own.url}/a.png", f"{web.stranger.url}/x.png")
    assert outcomes(verify()) == {"ok": 2}


def test_white_space_before_a_url_hides_no_host_that_cannot_be_judged(web):
    for number in range(4):
        web.answers[f"/{number}.png"] = lambda _: [BREAK]
    web.answers["/gone.png"] = always(404, b"")
    name(*(f"{web.stranger.url}/{number}.png" for number in range(4)))
    name(f" {web.stranger.url}/gone.png")
    assert outcomes(verify()) == {"unsure": 5}


def test_of_a_type_without_end_only_the_beginning_is_told(web):
    web.answers["/x.png"] = always(200, BODY, f"Content-Type: text/{'x' * 50_000}")
    name(f"{web.stranger.url}/x.png")
    (item,) = verify(exit_code=3)["items"]
    assert item["outcome"] == "wrong_type"
    assert len(item["detail"]) < 500


def test_a_stop_is_heard_while_a_host_asks_for_patience(web):
    web.answers["/x.png"] = always(503, b"", "Retry-After: 3")
    name(f"{web.stranger.url}/x.png")
    assert verify("--max-duration", "1s", exit_code=6)["stopped_by"] == "max-duration"
    assert not Health.objects.exists()


# Stops and rests


def test_a_stop_abandons_the_requests_under_way(web):
    control, is_over, answered = Control(), threading.Event(), []

    def late(_: Request) -> Iterable[bytes]:
        control.deadline = 0
        answered.append(is_over.wait(10))
        return [reply(200, BODY, IMAGE)]

    store("a.png")
    name(f"{web.own.url}/a.png")
    web.answers["/a.png"] = late
    config = load()
    with pytest.raises(Stopped):
        verify_urls(
            config,
            Addresses.from_config(config),
            open_bucket(config),
            scope=Scope(),
            control=control,
            look=Look(level=Level.HTTP),
        )
    assert not answered
    is_over.set()


def test_a_stop_says_how_the_next_run_asks_for_less(web):
    store("a.png", "b.png")
    name(f"{web.own.url}/a.png", f"{web.own.url}/b.png")

    document = verify("--max-duration", "1s", "--rate", "0.1", exit_code=6)

    assert "--recheck 1d" in document["error"]["hint"]


def test_a_file_that_the_bucket_holds_rests_as_its_url_does(web):
    store("icons/a.png")
    app = App.objects.create(name_en="a")
    App.objects.filter(pk=app.pk).update(application_icon="icons/a.png")
    verify()

    document = verify("--recheck", "7d")

    assert outcomes(document) == {"skipped": 1}
    assert document["notes"] == [
        "1 reference not asked about again, as --recheck says: fine lately."
    ]
    assert len(web.asked()) == 1
