"""Web servers on this machine that answer byte for byte as a test says, and count."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.servers.s3_server import Request, reset

BREAK = b""
"""Among the chunks of an answer: the connection is reset here."""
Answering = Callable[[Request], Iterable[bytes]]


def reply(
    status: int = 200, body: bytes = b"ok", *headers: str, length: int | None = None
) -> bytes:
    """A whole answer; `length` is what it claims to be long."""
    length = len(body) if length is None else length
    lines = [f"HTTP/1.1 {status} Reason", f"Content-Length: {length}", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


@dataclass
class Site:
    """A running server."""

    address: tuple[str, int]
    scheme: str = "http"
    requests: list[Request] = field(default_factory=list)
    accepted: int = 0
    at_once: int = 0
    """Requests that are being answered now."""
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def port(self) -> int:
        return self.address[1]

    @property
    def url(self) -> str:
        host = self.address[0]
        return f"{self.scheme}://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def place(self) -> tuple[str, int]:
        return self.address[0], self.port

    def connections(self) -> int:
        """How many connections were opened so far, this question's own not counted.

        Connections are accepted in their order, so all earlier ones are counted once it is.
        """
        before = self.accepted
        with socket.create_connection(self.address, timeout=10) as own:
            with contextlib.suppress(OSError):
                own.sendall(b"COUNT\r\n\r\n")
                own.recv(1)
            with self.lock:
                self.accepted -= 1
        assert self.accepted >= before
        return self.accepted


@contextmanager
def site(
    answer: Answering | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    scheme: str = "http",
    serve: Callable[[Site, socket.socket], None] | None = None,
) -> Iterator[Site]:
    """Run a server whose answers are what `answer` gives, chunk by chunk, for a request."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=1024)
    running = Site((host, listener.getsockname()[1]), scheme)
    serve = serve or (lambda at, peer: speak(at, peer, answer or (lambda _: [reply()])))
    threads: list[tuple[threading.Thread, socket.socket]] = []

    def accept() -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            with running.lock:
                running.accepted += 1
            thread = threading.Thread(target=_guarded, args=(serve, running, peer))
            threads.append((thread, peer))
            thread.start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield running
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join()
        listener.close()
        for _, peer in threads:
            with contextlib.suppress(OSError):
                peer.shutdown(socket.SHUT_RDWR)
        for thread, _ in threads:
            thread.join()


def _guarded(
    serve: Callable[[Site, socket.socket], None], running: Site, peer: socket.socket
) -> None:
    with peer, contextlib.suppress(OSError, ssl.SSLError):
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        serve(running, peer)


def speak(running: Site, peer: socket.socket, answer: Answering) -> None:
    """Answer the requests of one connection."""
    with peer.makefile("rb") as stream:
        while request := _request(stream):
            with running.lock:
                running.requests.append(request)
                running.at_once += 1
                running.most_at_once = max(running.most_at_once, running.at_once)
            try:
                chunks = answer(request)
                goes_on = _send(peer, _heads(chunks) if request.method == "HEAD" else chunks)
            finally:
                with running.lock:
                    running.at_once -= 1
            if not goes_on:
                return


def _request(stream) -> Request | None:
    words = stream.readline().decode("latin-1").split()
    if len(words) != 3:
        return None
    headers = {}
    while line := stream.readline().rstrip(b"\r\n"):
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    body = stream.read(int(headers.get("content-length", 0)))
    return Request(words[0], words[1], headers, body)


def _send(peer: socket.socket, chunks: Iterable[bytes]) -> bool:
    """Send an answer; False when the connection ends with it."""
    head = b""
    for chunk in chunks:
        if chunk == BREAK:
            reset(peer)
            return False
        head = head or chunk.lower()
        peer.sendall(chunk)
    return b"connection: close" not in head and head != b""


def _heads(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The chunks up to the end of the headers."""
    for chunk in chunks:
        head, end, _ = chunk.partition(b"\r\n\r\n")
        yield head + end
        if end:
            return


def drip(chunk: bytes, seconds: float = 0.05, times: int = 200) -> Iterator[bytes]:
    """A few bytes at a time."""
    for _ in range(times):
        yield chunk
        time.sleep(seconds)
