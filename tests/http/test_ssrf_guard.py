"""URLs that strangers wrote, fetched with the real libcurl: none reaches a private address."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from r2maint.http import (
    Engine,
    Fetched,
    FetchError,
    FetchLimits,
    Guard,
    Pace,
    Reason,
    Request,
    fetch,
    fetch_many,
)
from r2maint.http.ssrf_guard import is_public
from r2maint.http.urls import as_sent, place_of, redirected
from tests.servers.websites import BREAK, Site, drip, reply, site

LIMITS = FetchLimits(attempts=1, seconds=20, max_bytes=10_000)
NO_GUESTS = Guard()


class Trap(NamedTuple):
    """The same port of both loopback addresses, where nobody may knock."""

    four: Site
    six: Site

    @property
    def port(self) -> int:
        return self.four.port

    def connections(self) -> int:
        return self.four.connections() + self.six.connections()


@pytest.fixture(scope="module")
def trap() -> Iterator[Trap]:
    with site() as four, site(host="::1", port=four.port) as six:
        yield Trap(four, six)


LOOPBACK = """
http://127.0.0.1:PORT/
http://127.0.0.1:PORT/a.png?x=1#y
http://127.1:PORT/
http://127.0.1:PORT/
http://127.255.255.254:PORT/
http://2130706433:PORT/
http://017700000001:PORT/
http://0177.0.0.1:PORT/
http://0177.0.0.01:PORT/
http://0x7f000001:PORT/
http://0x7f.0.0.1:PORT/
http://0x7F.0x0.0x0.0x1:PORT/
http://0x7f.1:PORT/
http://127.0x0.0.01:PORT/
http://0:PORT/
http://0.0.0.0:PORT/
http://0x0:PORT/
http://00000:PORT/
http://[::1]:PORT/
http://[0:0:0:0:0:0:0:1]:PORT/
http://[0000::0001]:PORT/
http://[::]:PORT/
http://[::1%25lo]:PORT/
http://[::ffff:127.0.0.1]:PORT/
http://[::FFFF:7f00:1]:PORT/
http://[0:0:0:0:0:ffff:127.0.0.1]:PORT/
http://[::127.0.0.1]:PORT/
http://[::ffff:0:127.0.0.1]:PORT/
http://[64:ff9b::127.0.0.1]:PORT/
http://[64:ff9b:1::7f00:1]:PORT/
http://[2002:7f00:1::]:PORT/
http://[2002:7f00:1::1]:PORT/
http://[2001:0:7f00:1::80ff:fffe]:PORT/
http://localhost:PORT/
http://LocalHost:PORT/
http://localhost.:PORT/
http://a.localhost:PORT/
http://127。0。0。1:PORT/
http://127．0．0．1:PORT/
http://１２７.０.０.１:PORT/
http://①②⑦.⓪.⓪.①:PORT/
http://ｌｏｃａｌｈｏｓｔ:PORT/
http://%31%32%37.0.0.1:PORT/
http://127%2e0%2e0%2e1:PORT/
http://%6c%6fcalhost:PORT/
http://127.0.0.1:0PORT/
HTTP://127.0.0.1:PORT/
"""
ELSEWHERE_PRIVATE = """
http://169.254.169.254/latest/meta-data/
http://2852039166/latest/meta-data/
http://0xa9fea9fe/
http://[::ffff:169.254.169.254]/
http://[64:ff9b::a9fe:a9fe]/
http://[2002:a9fe:a9fe::]/
http://169.254.170.2/v2/credentials/
http://100.100.100.200/latest/meta-data/
http://[fd00:ec2::254]/latest/meta-data/
http://[fe80::1]/
http://[fe80::1%25lo]/
http://[fec0::1]/
http://[fc00::1]/
http://[fdff:ffff::1]/
http://10.0.0.1/
http://10.255.255.255/
http://172.16.0.1/
http://172.31.255.255/
http://192.168.0.1/
http://192.0.0.1/
http://192.0.2.1/
http://100.64.0.1/
http://100.127.255.255/
http://198.18.0.1/
http://198.19.255.255/
http://198.51.100.1/
http://203.0.113.1/
http://192.88.99.1/
http://224.0.0.1/
http://239.255.255.250/
http://240.0.0.1/
http://255.255.255.255/
http://[ff02::1]/
http://[ff0e::1]/
http://[2001:db8::1]/
http://[3fff::1]/
http://[100::1]/
http://[5f00::1]/
http://[2001:20::1]/
"""
CREDENTIALS = """
http://good.example@127.0.0.1:PORT/
http://user:word@127.0.0.1:PORT/
http://@127.0.0.1:PORT/
http://127.0.0.1\\@good.example:PORT/
http://good.example:80@127.0.0.1:PORT/
http://good.example%40x@127.0.0.1:PORT/
http://127.0.0.1:PORT\\@good.example/x y
http://a@b@127.0.0.1:PORT/
http://user@１２７.０.０.１:PORT/
"""
NOT_HTTP = """
file:///etc/passwd
file://127.0.0.1/etc/passwd
FILE:///etc/passwd
gopher://127.0.0.1:PORT/_x
ftp://127.0.0.1:PORT/
ftps://127.0.0.1:PORT/
dict://127.0.0.1:PORT/d:x
tftp://127.0.0.1:PORT/x
ldap://127.0.0.1:PORT/
smb://127.0.0.1/x
telnet://127.0.0.1:PORT/
ws://127.0.0.1:PORT/
data:image/png;base64,AAAA
javascript:alert(1)
jar:http://127.0.0.1:PORT/!/
url:http://127.0.0.1:PORT/
//127.0.0.1:PORT/
127.0.0.1:PORT/
/etc/passwd
http:/127.0.0.1:PORT/
http:127.0.0.1:PORT/
http:///127.0.0.1:PORT/
http:\\\\127.0.0.1:PORT/
http://
http://:PORT/
http://[::1/
http://[zz]:PORT/
http://[::1]x:PORT/
http://127.0.0.1:99999/
http://127.0.0.1:-1/
http://127.0.0.1:PORTx/
http://a／b.example/
http://127.0.0.1＠good.example/
http://127.0.0.1：PORT/
http://exa mple:PORT/
http://127.0.0.1%00.good.example:PORT/
http://127.0.0.1%0d%0aX:PORT/
http://127.0.0.1%2f:PORT/
http://127.0.0.1\\.good.example:PORT/
"""


WITH_CONTROLS = [
    " \thttp://127.0.0.1:PORT/ ",
    "http://127.0.0.1\t:PORT/",
    "http://127.0\n.0.1:PORT/",
    "ht\ntp://127.0.0.1:PORT/",
    "\x01http://127.0.0.1:PORT/",
    "http://127.0.0.1:PORT/\r\nHost: good.example",
]
"""Browsers and urllib drop these."""


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line]


HOSTILE = [
    *((url, "not_public") for url in lines(LOOPBACK + ELSEWHERE_PRIVATE)),
    *((url, "not_public") for url in WITH_CONTROLS),
    *((url, "credentials") for url in lines(CREDENTIALS)),
    *((url, "not_http") for url in lines(NOT_HTTP)),
]


@pytest.mark.parametrize(("url", "reason"), HOSTILE, ids=[ascii(url) for url, _ in HOSTILE])
def test_a_hostile_url_is_refused_without_a_connection(trap, url, reason):
    with pytest.raises(FetchError) as caught:
        fetch(url.replace("PORT", str(trap.port)), guard=NO_GUESTS, limits=LIMITS)

    assert caught.value.reason == reason
    assert trap.connections() == 0


def test_a_loopback_address_with_a_trailing_dot_is_refused(trap):
    """Some versions of libcurl take it for a name."""
    with pytest.raises(FetchError) as caught:
        fetch(f"http://127.0.0.1.:{trap.port}/", guard=NO_GUESTS, limits=LIMITS)

    assert caught.value.reason in ("not_public", "unsure")
    assert trap.connections() == 0


@pytest.mark.parametrize(
    "address",
    [
        "93.184.216.34",
        "1.1.1.1",
        "2606:4700::1111",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
        "2002:808:808::1",
    ],
)
def test_a_public_address_is_public_in_every_spelling(address):
    assert is_public(address)


def test_a_host_that_a_setting_names_may_be_private_on_its_own_port_only():
    with site() as named, site() as other:
        guard = Guard(frozenset({named.place}))

        assert fetch(named.url, guard=guard, limits=LIMITS).body == b"ok"
        with pytest.raises(FetchError) as caught:
            fetch(other.url, guard=guard, limits=LIMITS)

        assert caught.value.reason == "not_public"
        assert (named.connections(), other.connections()) == (1, 0)


# Redirects


@pytest.fixture(scope="module")
def host() -> Iterator[Site]:
    """A server that may be fetched from; `/STATUS/x/HEX` sends to the location in HEX."""

    def answer(request):
        match = re.fullmatch("/([0-9]+)/x/([0-9a-f]*)", request.target)
        if match is None:
            return [reply(body=request.target.encode())]
        location = bytes.fromhex(match[2]).decode("latin-1")
        return [reply(int(match[1]), b"", f"Location: {location}")]

    with site(answer) as running:
        yield running


def sends_to(host: Site, location: str, status: int = 302) -> str:
    return f"{host.url}/{status}/x/{location.encode().hex()}"


@pytest.fixture
def guard(host) -> Guard:
    return Guard(frozenset({host.place}))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_leads_to_a_hostile_url(host, guard, trap, status):
    """A Location without a host is a path of the host that sends it: those are left out."""
    table = {
        sends_to(host, url.replace("PORT", str(trap.port)), status): reason
        for url, reason in HOSTILE
        if re.search("://[^/]|^file:", url) and "\n" not in url
    }
    found = fetch_many(table, guard=guard, limits=LIMITS)

    assert {url: getattr(error, "reason", error) for url, error in found} == table
    assert trap.connections() == 0


@pytest.mark.parametrize(
    "location",
    [
        "//localhost:PORT/",
        "//127.0.0.1:PORT",
        "http://127.0.0.1:PORT/",
        "//[::1]:PORT/",
        "/302/x/CHAIN",
    ],
)
def test_a_relative_or_chained_redirect_is_refused_all_the_same(host, guard, trap, location):
    chain = f"http://127.1:{trap.port}/".encode().hex()
    location = location.replace("PORT", str(trap.port)).replace("CHAIN", chain)

    with pytest.raises(FetchError) as caught:
        fetch(sends_to(host, location), guard=guard, limits=LIMITS)

    assert caught.value.reason == "not_public"
    assert trap.connections() == 0


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/a.png", "/a.png"),
        ("b.png?x=1", "/302/x/b.png?x=1"),
        ("/a b.png", "/a%20b.png"),
        ("/صورة.png", "/%D8%B5%D9%88%D8%B1%D8%A9.png"),
        ("/a%20b.png#part", "/a%20b.png"),
    ],
)
def test_a_redirect_to_another_path_is_followed(host, guard, location, target):
    found = fetch(sends_to(host, location), guard=guard, limits=LIMITS)

    assert found.body.decode() == target
    assert found.final_url == host.url + target


def test_a_location_that_is_not_utf8_is_followed_byte_for_byte(host):
    assert redirected("http://a.example/x", "/café") == "http://a.example/caf%C3%A9"
    assert redirected("http://a.example/x", "/cafÃ©") == "http://a.example/caf%C3%A9"


def test_five_redirects_are_followed_and_six_are_not(host, guard):
    def chain(length: int) -> str:
        url = "/end"
        for _ in range(length):
            url = f"/302/x/{url.encode().hex()}"
        return host.url + url

    assert fetch(chain(5), guard=guard, limits=LIMITS).body == b"/end"
    with pytest.raises(FetchError) as caught:
        fetch(chain(6), guard=guard, limits=LIMITS)
    assert caught.value.reason == "too_many_redirects"


def test_a_redirect_loop_ends():
    with site(lambda request: [reply(302, b"", "Location: /again")]) as loop:
        with pytest.raises(FetchError) as caught:
            fetch(loop.url, guard=Guard(frozenset({loop.place})), limits=LIMITS)

        assert caught.value.reason == "too_many_redirects"
        assert len(loop.requests) == 6


# Size, time and shape of the answer


def endless(chunk: bytes) -> Iterator[bytes]:
    while True:
        yield chunk


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
UNTIL_CLOSED = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
GREEDY = {
    "said to be too large": lambda _: [reply(length=10_001, body=b"")],
    "too large without saying so": lambda _: [UNTIL_CLOSED, b"x" * 10_001],
    "said to be small": lambda _: [CHUNKED, b"2711\r\n" + b"x" * 10_001 + b"\r\n0\r\n\r\n"],
    "endless": lambda _: (
        c for part in ([CHUNKED], endless(b"400\r\n" + b"x" * 1024 + b"\r\n")) for c in part
    ),
    "endless headers": lambda _: (
        c
        for part in ([b"HTTP/1.1 200 OK\r\n"], endless(b"X-A: " + b"x" * 8192 + b"\r\n"))
        for c in part
    ),
    "an endless header": lambda _: (
        c for part in ([b"HTTP/1.1 200 OK\r\nX: "], endless(b"x" * 8192)) for c in part
    ),
}


@pytest.mark.parametrize("answer", GREEDY.values(), ids=GREEDY)
def test_a_greedy_answer_is_too_large(answer):
    with site(answer) as greedy, pytest.raises(FetchError) as caught:
        fetch(
            greedy.url, guard=Guard(frozenset({greedy.place})), limits=FetchLimits(max_bytes=10_000)
        )

    assert caught.value.reason == "too_large"
    assert len(greedy.requests) == 1


def test_a_body_of_exactly_the_limit_is_taken():
    with site(lambda _: [reply(body=b"x" * 10_000)]) as exact:
        found = fetch(exact.url, guard=Guard(frozenset({exact.place})), limits=LIMITS)

    assert len(found.body) == 10_000


SLOW = {
    "headers": lambda _: (
        c for part in ([b"HTTP/1.1 200 OK\r\n"], drip(b"X-A: 1\r\n")) for c in part
    ),
    "body": lambda _: (c for part in ([reply(length=9000, body=b"")], drip(b"x")) for c in part),
    "nothing at all": lambda _: drip(b"H", seconds=0.6, times=1),
}


@pytest.mark.parametrize("part", SLOW)
def test_an_answer_that_drips_is_too_slow(part):
    limits = FetchLimits(attempts=1, seconds=0.3)
    with site(SLOW[part]) as slow, pytest.raises(FetchError) as caught:
        fetch(slow.url, guard=Guard(frozenset({slow.place})), limits=limits)

    assert caught.value.reason == "too_slow"


@pytest.mark.parametrize(
    "answer",
    [
        lambda _: [reply(length=100, body=b"x" * 50), BREAK],
        lambda _: [reply(200, b"x" * 50, "Connection: close", length=100)],
        lambda _: [CHUNKED, b"64\r\n" + b"x" * 50, BREAK],
        lambda _: [BREAK],
        lambda _: [b"no HTTP at all\r\n\r\n", BREAK],
    ],
    ids=["reset half-way", "closed half-way", "chunk cut", "reset at once", "no HTTP"],
)
def test_half_an_answer_is_none(answer):
    with site(answer) as broken, pytest.raises(FetchError) as caught:
        fetch(broken.url, guard=Guard(frozenset({broken.place})), limits=LIMITS)

    assert caught.value.reason == "unsure"


@pytest.mark.parametrize(
    ("status", "reason"), [(404, "gone"), (410, "gone"), (403, "unsure"), (500, "unsure")]
)
def test_only_404_and_410_say_that_something_is_gone(status, reason):
    with site(lambda _: [reply(status)]) as server, pytest.raises(FetchError) as caught:
        fetch(server.url, guard=Guard(frozenset({server.place})), limits=LIMITS)

    assert caught.value.reason == reason


@pytest.mark.parametrize("header", ["Content-Encoding: gzip", "Content-Encoding: br, gzip"])
def test_a_compressed_answer_stays_compressed(header):
    bomb = gzip.compress(b"\0" * 5_000_000)
    with site(lambda _: [reply(200, bomb, header)]) as server:
        found = fetch(server.url, guard=Guard(frozenset({server.place})), limits=LIMITS)

    assert found.body == bomb
    assert server.requests[0].headers["accept-encoding"] == "identity"


def test_a_body_compressed_for_the_transfer_counts_as_large_as_it_is():
    bomb = gzip.compress(b"\0" * 5_000_000)
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"
    with (
        site(lambda _: [head, b"%x\r\n%b\r\n0\r\n\r\n" % (len(bomb), bomb)]) as server,
        pytest.raises(FetchError) as caught,
    ):
        fetch(server.url, guard=Guard(frozenset({server.place})), limits=LIMITS)

    assert caught.value.reason in ("too_large", "unsure")


def test_the_claimed_type_is_given_to_the_caller_and_nothing_is_decided_from_it():
    with site(lambda _: [reply(200, b"<html>", "Content-Type: image/png")]) as server:
        found = fetch(server.url, guard=Guard(frozenset({server.place})), limits=LIMITS)

    assert (found.content_type, found.body) == ("image/png", b"<html>")


# What the environment says


@pytest.mark.parametrize(
    "name", ["http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy", "https_proxy"]
)
@pytest.mark.parametrize("scheme", ["http", "socks5h"])
def test_no_proxy_of_the_environment_is_used(host, guard, trap, monkeypatch, name, scheme):
    with site() as proxy:
        monkeypatch.setenv(name, f"{scheme}://127.0.0.1:{proxy.port}")
        found = dict(fetch_many([f"{host.url}/a", f"{trap.four.url}/"], guard=guard, limits=LIMITS))

        assert isinstance(found[f"{host.url}/a"], Fetched)
        assert found[f"{trap.four.url}/"].reason == "not_public"
        assert proxy.connections() == 0
    assert trap.connections() == 0


def test_no_password_file_and_no_cookie_is_read(host, guard, monkeypatch, tmp_path):
    words = "machine 127.0.0.1 login user password word\ndefault login user password word\n"
    for name in (".netrc", "_netrc"):
        (tmp_path / name).write_text(words)
        (tmp_path / name).chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    host.requests.clear()

    fetch(sends_to(host, "/a"), guard=guard, limits=LIMITS)

    assert len(host.requests) == 2
    assert not {"authorization", "cookie"} & {name for one in host.requests for name in one.headers}


def test_a_cookie_that_was_set_is_not_sent_back():
    answer = [reply(302, b"", "Set-Cookie: a=b", "Location: /next"), reply()]
    with site(lambda request: [answer[request.target == "/next"]]) as server:
        fetch(server.url, guard=Guard(frozenset({server.place})), limits=LIMITS)

    assert [request.headers.get("cookie") for request in server.requests] == [None, None]


# The spelling that is sent


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("http://a.example/a b.png", "http://a.example/a%20b.png"),
        ("http://a.example/a%20b.png", "http://a.example/a%20b.png"),
        ("http://a.example/100%.png", "http://a.example/100%.png"),
        ("http://a.example/a+b,(c)[d].png", "http://a.example/a+b,(c)[d].png"),
        ('http://a.example/"<>\\^`{|}', "http://a.example/%22%3C%3E%5C%5E%60%7B%7C%7D"),
        ("http://a.example/صورة.png", "http://a.example/%D8%B5%D9%88%D8%B1%D8%A9.png"),
        ("http://a.example/?q=é&b=%C3%A9#é", "http://a.example/?q=%C3%A9&b=%C3%A9"),
        ("http://a.example//b/../c/./d", "http://a.example//b/../c/./d"),
        ("http://bücher.example:8080/", "http://xn--bcher-kva.example:8080/"),
        ("http://صور.example/", "http://xn--wgbh1d.example/"),
        ("http://[2606:4700::1111]:80/a", "http://[2606:4700::1111]:80/a"),
        ("http://user@bücher.example/", "http://user@xn--bcher-kva.example/"),
    ],
)
def test_a_url_is_sent_as_ascii_and_what_is_escaped_stays_so(url, sent):
    assert as_sent(url) == sent
    assert as_sent(sent) == sent


def test_ipv6_hosts_are_not_taken_for_a_host_with_a_port():
    assert place_of("http://[fd00::80]/") == ("fd00::80", 80)
    assert place_of("http://[fd00::443]/") != place_of("http://[fd00::80]/")


def test_the_engine_itself_refuses_what_the_guard_refuses(trap):
    engine = Engine(Pace(attempts=1), guard=NO_GUESTS)
    urls = [
        f"http://127.0.0.1:{trap.port}/",
        f"http://a@127.0.0.1:{trap.port}/",
        "file:///etc/passwd",
    ]
    reasons = [engine.send(Request(url=url)).failure.reason for url in urls]
    engine.close()

    assert reasons == [Reason.NOT_PUBLIC, Reason.BAD_URL, Reason.BAD_URL]
    assert trap.connections() == 0


def test_no_words_of_a_refusal_hold_the_credentials(trap):
    with pytest.raises(FetchError) as caught:
        fetch("http://someone:verysecret@127.0.0.1/", guard=NO_GUESTS, limits=LIMITS)

    assert "verysecret" not in f"{caught.value} {caught.value!r}"
