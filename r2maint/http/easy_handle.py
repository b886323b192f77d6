"""One easy handle of libcurl: sends one request at a time and tells what came back."""

from __future__ import annotations

import io
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import certifi
import pycurl

from r2maint import __version__
from r2maint.http.request import Answer, Credentials, Failure, Reason, Request
from r2maint.http.retry import Pace
from r2maint.http.ssrf_guard import NOT_HTTP, Guard

USER_AGENT = f"r2maint/{__version__}"
_BUFFER_BYTES = 256 * 1024
_MANY_HEADERS = "Too large response headers"
"""What libcurl says of more than 300 KiB of them, with a code that says less."""
_SLOWEST_BYTES = 64
"""A second; an attempt that stays below for `stall_seconds` ends."""
_TOO_LARGE = 100
"""CURLE_TOO_LARGE, for one header without end; pycurl has no name for it."""
_REASONS = {
    pycurl.E_URL_MALFORMAT: Reason.BAD_URL,
    pycurl.E_COULDNT_RESOLVE_HOST: Reason.NO_HOST,
    pycurl.E_OPERATION_TIMEDOUT: Reason.TOO_SLOW,
    pycurl.E_READ_ERROR: Reason.UNREADABLE,
    pycurl.E_ABORTED_BY_CALLBACK: Reason.UNREADABLE,
    pycurl.E_PEER_FAILED_VERIFICATION: Reason.TLS,
    pycurl.E_SSL_CACERT_BADFILE: Reason.TLS,
    pycurl.E_SSL_CIPHER: Reason.TLS,
}
_WORDS: dict[object, str] = {
    Reason.BAD_URL: NOT_HTTP,
    Reason.NOT_PUBLIC: "its host has no public address",
    Reason.NO_HOST: "the name of its host does not resolve",
    Reason.TOO_SLOW: "no answer in time",
    Reason.TLS: "its certificate is not trusted",
    pycurl.E_SSL_CACERT_BADFILE: "the file of trusted certificates cannot be read",
    Reason.UNREADABLE: "its file cannot be read, or is shorter than said",
}
_UNSENDABLE_URL = re.compile(r"[^!-~]")
_DOTTED = re.compile(r"[^?#]*/(\.|%2e){1,2}([/?#]|$)", re.IGNORECASE)
_UNSENDABLE_HEADER = re.compile(r"[^\t -~]")
_WITH_BODY = frozenset({"POST", "PUT"})
"""Methods whose requests say how long the body is, even if it is empty (RFC 9110 §8.6)."""
_WITHOUT = ("Expect:", "Content-Type:")
"""What libcurl adds to a body by itself; a header of the request replaces its own here."""
_VERSIONS = {1: "1.0", 2: "1.1", 3: "2", 30: "3"}
"""As CURLINFO_HTTP_VERSION numbers them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """What all requests of one engine have in common."""

    pace: Pace
    guard: Guard | None = None
    credentials: Credentials | None = None
    ca_bundle: str = ""


def flaw(request: Request, *, signed: bool) -> Failure | None:
    """Return why a request cannot be sent at all.

    libcurl takes a line break in a header for the end of it: what follows would be another header.
    Of a path it signs, it resolves dotted segments first, which makes it the path of another key.
    """
    if signed and _DOTTED.match(request.url):
        return Failure(reason=Reason.BAD_URL, detail="a path with dotted segments cannot be signed")
    if _UNSENDABLE_URL.search(request.url):
        return Failure(reason=Reason.BAD_URL, detail=_WORDS[Reason.BAD_URL])
    return _flaw_of_headers(request.headers)


@lru_cache(maxsize=16)
def _flaw_of_headers(headers: tuple[str, ...]) -> Failure | None:
    header = next((each for each in headers if _UNSENDABLE_HEADER.search(each)), None)
    if header is None:
        return None
    name = header.partition(":")[0]
    return Failure(
        reason=Reason.BAD_HEADER, detail=f"the header {name!a} holds what cannot be sent"
    )


class Attempt:
    """A handle and the request it is busy with."""

    def __init__(self, manner: Manner) -> None:
        self.curl = pycurl.Curl()
        self.ticket = 0
        self.sendings = 0
        """How often the request was sent. libcurl sends it once more by itself when a connection
        that it kept breaks off before an answer: only the pre-request callback hears of that."""
        self._guard = manner.guard
        self._request = Request(url="")
        self._lines: list[bytes] = []
        self._body = io.BytesIO()
        self._received = 0
        self._is_too_large = self._has_enough = False
        self._refused = self._admitted = 0
        self._form: tuple[object, ...] = ()
        """What of the last request is set on the handle still."""
        self._file: BinaryIO | None = None
        self._socket: socket.socket | None = None
        self._prepare(manner)

    def _prepare(self, manner: Manner) -> None:
        """Set what is the same for every request; `begin` sets the rest each time."""
        options: dict[int, Any] = {
            pycurl.NOSIGNAL: 1,
            pycurl.PROTOCOLS: pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS,
            pycurl.FOLLOWLOCATION: 0,
            # libcurl signs no path that it is told to leave alone; see `flaw`.
            pycurl.PATH_AS_IS: int(manner.credentials is None),
            pycurl.USERAGENT: USER_AGENT,
            pycurl.CAINFO: manner.ca_bundle or certifi.where(),
            pycurl.CONNECTTIMEOUT_MS: int(1000 * manner.pace.connect_seconds),
            pycurl.LOW_SPEED_LIMIT: _SLOWEST_BYTES,
            pycurl.LOW_SPEED_TIME: manner.pace.stall_seconds,
            pycurl.BUFFERSIZE: _BUFFER_BYTES,
            pycurl.UPLOAD_BUFFERSIZE: _BUFFER_BYTES,
            # libcurl calls this for every line, and bounds all of them together.
            pycurl.HEADERFUNCTION: self._lines.append,
            pycurl.WRITEFUNCTION: self._take_body,
            pycurl.PREREQFUNCTION: self._count_sending,
        }
        if self._guard is not None:
            # A proxy would resolve and connect where the guard cannot see it.
            options |= {pycurl.PROXY: "", pycurl.OPENSOCKETFUNCTION: self._open_socket}
        if manner.credentials is not None:
            signer = manner.credentials
            options |= {
                pycurl.AWS_SIGV4: f"aws:amz:{signer.region}:s3",
                pycurl.USERNAME: signer.access_key_id,
                pycurl.PASSWORD: signer.secret_access_key,
            }
        for option, value in options.items():
            self.curl.setopt(option, value)

    def begin(self, request: Request, ticket: int) -> None:
        """Make the handle ready to send `request`.

        Raises: OSError when the file that is its body cannot be opened.
        """
        self.ticket, self._request, self.sendings = ticket, request, 0
        self._received = self._refused = self._admitted = 0
        self._is_too_large = self._has_enough = False
        self.curl.setopt(pycurl.URL, request.url)
        form = (request.method, request.headers, request.seconds, request.max_bytes)
        if request.body is None and form == self._form:
            return
        self._form = ()
        self._set_form(request)
        self._form = form if request.body is None else ()

    def _set_form(self, request: Request) -> None:
        """Set what many requests after each other have in common."""
        curl = self.curl
        curl.setopt(pycurl.TIMEOUT_MS, int(1000 * (request.seconds or 0)))
        limit = 0 if request.method == "HEAD" else request.max_bytes
        curl.setopt(pycurl.MAXFILESIZE_LARGE, limit or 0)
        curl.setopt(pycurl.HTTPHEADER, [*_WITHOUT, *request.headers])
        self._set_method(request)

    def end(self) -> None:
        """Let go of what a request held, whatever became of it."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._file is not None:
            self._file.close()
            self._file = None
        self._lines.clear()
        if self._received:
            self._body = io.BytesIO()

    def _set_method(self, request: Request) -> None:
        curl = self.curl
        body = b"" if request.body is None and request.method in _WITH_BODY else request.body
        curl.setopt(pycurl.NOBODY, 0)
        if isinstance(body, bytes):
            # As POSTFIELDS a body in memory needs no callback, and leaves with the headers.
            curl.setopt(pycurl.POSTFIELDS, body)
            curl.setopt(pycurl.POSTFIELDSIZE_LARGE, len(body))
        elif isinstance(body, Path):
            self._file = body.open("rb")
            curl.setopt(pycurl.UPLOAD, 1)
            curl.setopt(pycurl.INFILESIZE_LARGE, request.size)
            curl.setopt(pycurl.READFUNCTION, self._read)
            curl.setopt(pycurl.SEEKFUNCTION, self._rewind)
        else:
            curl.setopt(pycurl.HTTPGET, 1)
        if request.method == "HEAD":
            curl.setopt(pycurl.NOBODY, 1)
            curl.unsetopt(pycurl.CUSTOMREQUEST)
        else:
            curl.setopt(pycurl.CUSTOMREQUEST, request.method)

    # What libcurl calls; an exception here would be printed and lost, so none is raised

    def _read(self, size: int) -> bytes | int:
        try:
            return self._file.read(size) if self._file else b""
        except OSError:
            return int(pycurl.READFUNC_ABORT)

    def _rewind(self, offset: int, origin: int) -> int:
        if self._file is None:
            return int(pycurl.SEEKFUNC_FAIL)
        self._file.seek(offset, origin)
        return int(pycurl.SEEKFUNC_OK)

    def _count_sending(self, *connection: object) -> int:
        self.sendings += 1
        return int(pycurl.PREREQFUNC_OK)

    def _take_body(self, chunk: bytes) -> int | None:
        self._received += len(chunk)
        limit = self._request.max_bytes
        if limit is not None and self._received > limit:
            self._is_too_large = True
            return -1
        self._body.write(chunk)
        enough = self._request.enough_bytes
        self._has_enough = enough is not None and self._received >= enough
        return -1 if self._has_enough else None

    def _open_socket(
        self, purpose: int, address: tuple[int, int, int, tuple[str, int]]
    ) -> socket.socket | int:
        family, kind, protocol, place = address
        is_ip = family in (socket.AF_INET, socket.AF_INET6)
        assert self._guard is not None
        if not is_ip or not self._guard.admits(self._request.url, place[0]):
            self._refused += 1
            return int(pycurl.SOCKET_BAD)
        self._admitted += 1
        return self._opened(family, kind, protocol)

    def _opened(self, family: int, kind: int, protocol: int) -> socket.socket | int:
        """Return a new socket. pycurl duplicates it and leaves this one to be closed here."""
        if self._socket is not None:
            self._socket.close()
        try:
            self._socket = socket.socket(family, kind, protocol)
        except OSError:
            return int(pycurl.SOCKET_BAD)
        return self._socket

    # What came of it

    def answer(self) -> Answer:
        """Return the answer that is complete now."""
        return Answer(
            status=self.curl.getinfo(pycurl.RESPONSE_CODE),
            url=self._request.url,
            headers=_parsed(self._lines),
            body=self._body.getvalue(),
            http_version=_VERSIONS.get(self.curl.getinfo(pycurl.INFO_HTTP_VERSION), ""),
        )

    def broken_off(self, code: int, message: str) -> Answer | Failure:
        """Return the answer whose beginning was all that was wanted, or why there is none."""
        return self.answer() if self._has_enough else self._failure(code, message)

    def _failure(self, code: int, message: str) -> Failure:
        excess = code in (pycurl.E_FILESIZE_EXCEEDED, _TOO_LARGE) or _MANY_HEADERS in message
        if self._is_too_large or excess:
            return Failure(reason=Reason.TOO_LARGE, detail=self._excess(code))
        reason = _REASONS.get(code, Reason.NO_ANSWER)
        if self._refused and not self._admitted and reason is Reason.NO_ANSWER:
            reason = Reason.NOT_PUBLIC
        words = _WORDS.get(code) or _WORDS.get(reason) or _plain(message) or "no answer"
        return Failure(reason=reason, detail=words)

    def _excess(self, code: int) -> str:
        if self._received or code == pycurl.E_FILESIZE_EXCEEDED:
            return f"more than {self._request.max_bytes} bytes"
        return "its headers are too long"


def _parsed(lines: Sequence[bytes]) -> dict[str, str]:
    """Return the headers of the last answer; those of interim ones come before it."""
    headers: dict[str, str] = {}
    for name, value in map(_field, lines):
        if value is not None:
            headers[name] = value
        elif name:
            headers = {}
    return headers


@lru_cache(maxsize=128)
def _field(line: bytes) -> tuple[str, str | None]:
    """Return name and value of a header; no value for the line that an answer begins with.

    Most lines are the same in many answers.
    """
    text = line.decode("latin-1")
    if text.startswith("HTTP/"):
        return "HTTP", None
    name, colon, value = text.partition(":")
    return (name.rstrip().lower(), value.strip()) if colon else ("", None)


def _plain(message: str) -> str:
    """Return libcurl's words without the URL some of them quote."""
    return "" if "://" in message else message.strip().rstrip(".").lower()
