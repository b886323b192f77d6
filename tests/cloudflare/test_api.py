from __future__ import annotations

import json
import logging

import pytest

from r2maint.cloudflare import Cloudflare
from r2maint.control import Control
from r2maint.errors import CloudflareError, CloudflareRefusal, ConfigError, Stopped
from tests.servers.cloudflare_answers import DONE, TOKEN, ZONE, told
from tests.servers.s3_server import RESET, Answer, Request, proxy

URL = "https://media.example.org/a.webp"


@pytest.fixture
def api():
    """An HTTP server that answers as Cloudflare's API does, as far as a test tells it to."""
    with proxy() as server:
        server.fault = lambda request: DONE
        yield server


def cloudflare(api, **more) -> Cloudflare:
    return Cloudflare(**{"token": TOKEN, "api_url": api.url, "attempts": 2, **more})


def answering(api, *answers) -> None:
    """Let the server give these answers in turn, the last one for ever."""
    left = list(answers)
    api.fault = lambda request: left.pop(0) if len(left) > 1 else left[0]


def test_urls_are_purged_as_the_api_wants_them(api):
    cloudflare(api).purge_urls(ZONE, [URL])
    (request,) = api.requests
    assert (request.method, request.target) == ("POST", f"/zones/{ZONE}/purge_cache")
    assert json.loads(request.body) == {"files": [URL]}
    assert request.headers["Authorization"] == f"Bearer {TOKEN}"
    assert request.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    "first",
    [
        told(429, (971, "Please wait and consider throttling your request speed")),
        told(400, (1083, "Rate limit reached")),
        told(503),
        Answer(502, b"<html>bad gateway", "text/html"),
        RESET,
    ],
    ids=["429", "rate limit", "503", "502", "reset"],
)
def test_what_may_pass_is_tried_again(api, first):
    answering(api, first, DONE)
    cloudflare(api).purge_urls(ZONE, [URL])
    assert len(api.requests) == 2


@pytest.mark.parametrize(
    "answer", [told(500), Answer(502, b"<html>"), RESET], ids=["500", "502", "no"]
)
def test_what_does_not_pass_is_an_error_in_the_end(api, answer):
    answering(api, answer)
    with pytest.raises(CloudflareError, match="purge_cache") as raised:
        cloudflare(api).purge_urls(ZONE, [URL])
    assert not isinstance(raised.value, CloudflareRefusal)
    assert len(api.requests) == 2


@pytest.mark.parametrize(
    "answer",
    [
        told(403, (10000, "Authentication error")),
        told(200, (10000, "Authentication error")),
        told(400, (6003, f"Invalid request headers {TOKEN}")),
        told(404, (7003, "Could not route to /zones/x")),
    ],
    ids=["403", "200 without success", "malformed", "no zone"],
)
def test_a_token_that_may_not_is_told_which_permission_it_needs(api, answer):
    answering(api, answer)
    with pytest.raises(CloudflareRefusal, match=r"Zone > Cache Purge.*ZONE_ID") as raised:
        cloudflare(api).purge_urls(ZONE, [URL])
    assert raised.value.is_general
    assert TOKEN not in str(raised.value)
    assert len(api.requests) == 1


def test_a_url_of_another_zone_is_no_fault_of_the_token(api):
    answering(api, told(400, (1082, "You can only purge files for this zone")))
    with pytest.raises(CloudflareRefusal) as raised:
        cloudflare(api).purge_urls(ZONE, [URL])
    assert (raised.value.is_foreign, raised.value.is_general) == (True, False)


@pytest.mark.parametrize(
    "answer", [Answer(200, b"[]"), Answer(200, b"ok"), Answer(301, location="/x")]
)
def test_an_answer_that_is_not_the_apis_is_no_success(api, answer):
    answering(api, answer)
    with pytest.raises(CloudflareRefusal):
        cloudflare(api).purge_urls(ZONE, [URL])
    assert len(api.requests) == 1


def test_no_netrc_replaces_the_token(api, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    cloudflare(api).purge_urls(ZONE, [URL])
    assert api.requests[0].headers["Authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize("token", ["", "a b", "a\nb", "قرآن"])
def test_a_token_that_is_none_is_a_configuration_error(api, token):
    with pytest.raises(ConfigError, match="API"):
        cloudflare(api, token=token)


def test_the_token_is_in_no_text_and_no_log(api, caplog):
    caplog.set_level(logging.DEBUG)
    made = cloudflare(api)
    made.purge_urls(ZONE, [URL])
    assert TOKEN not in repr(made) + caplog.text


def test_what_is_told_steers_no_terminal(api):
    answering(api, told(400, (1, "one\x1b[2J\ntwo")))
    with pytest.raises(CloudflareRefusal, match=r"one\[2J two") as raised:
        cloudflare(api).purge_urls(ZONE, [URL])
    assert str(raised.value).isprintable()


def test_a_stop_is_heard_before_the_next_attempt(api):
    control = Control()

    def stop(request: Request) -> Answer:
        control.signal_code = 130
        return told(503)

    api.fault = stop
    with pytest.raises(Stopped):
        cloudflare(api, control=control, attempts=9).purge_urls(ZONE, [URL])
    assert len(api.requests) == 1
