"""Real servers for tests: moto as a process, and a proxy before it that breaks what it is told to."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import urlsplit


@contextmanager
def moto_server() -> Iterator[str]:
    """Run moto in a process of its own on a free port of this machine; give its URL."""
    port, process = _start_moto()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _start_moto() -> tuple[int, subprocess.Popen[bytes]]:
    """Start it; once more where somebody else took the port in between."""
    for _ in range(3):
        port = _free_port()
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if _answers(port, process):
            return port, process
        process.kill()
        process.wait()
    raise RuntimeError("moto did not start")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _answers(port: int, process: subprocess.Popen[bytes]) -> bool:
    for _ in range(600):
        if process.poll() is not None:
            return False
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return True
    return False


def reset(peer: socket.socket) -> None:
    """Let closing the connection reset it."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Request(NamedTuple):
    """What a client asked for."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class Answer(NamedTuple):
    """What the proxy answers itself."""

    status: int
    body: bytes = b""
    content_type: str = "application/xml"
    location: str = ""


def s3_error(status: int, code: str, message: str = "") -> Answer:
    """An error answer as S3 servers write it."""
    return Answer(
        status, f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    )


FORWARD = "forward"
LOSE_ANSWER = "lose answer"
"""The server does as told, but the client sees the connection break."""
CUT_BODY = "cut body"
"""Half of the answer's body arrives."""
RESET = "reset"
"""The connection breaks when all of the request has been read; the server sees none of it."""
DAMAGE = "damage"
"""The server receives other bytes than the client sent."""

Fault = Answer | str


class Proxy:
    """Passes requests on to `upstream`; `fault` says for each what goes wrong with it."""

    def __init__(self, upstream: str) -> None:
        self.upstream = urlsplit(upstream).netloc
        self.fault: Callable[[Request], Fault] = lambda request: FORWARD
        self.is_cut: Callable[[Request], bool] = lambda head: False
        """Asked first: does the connection break when half of the request's body was read? The server
        sees none of it."""
        self.edit: Callable[[Request, dict[str, str], bytes], tuple[dict[str, str], bytes]] = (
            lambda request, headers, body: (headers, body)
        )
        """What becomes of the headers and body of an answer of the server on their way."""
        self.requests: list[Request] = []
        self.url = ""

    def script(self, *faults: Fault, method: str = "", contains: str = "") -> None:
        """Let the next matching requests meet these faults in turn, and all later ones none."""
        remaining = iter(faults)

        def choose(request: Request) -> Fault:
            matches = request.method.startswith(method) and contains in request.target
            return next(remaining, FORWARD) if matches else FORWARD

        self.fault = choose


@contextmanager
def proxy(upstream: str = "") -> Iterator[Proxy]:
    """Run a proxy on a free port of this machine."""
    state = Proxy(upstream)
    handler = type("Handler", (_Handler,), {"state": state})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: Proxy

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        length = int(self.headers.get("content-length", 0))
        head = Request(self.command, self.path, dict(self.headers.items()), b"")
        if self.state.is_cut(head):
            self.rfile.read(length // 2)
            self._reset()
            return
        request = head._replace(body=self.rfile.read(length))
        self.state.requests.append(request)
        self._meet(request, self.state.fault(request))

    def _meet(self, request: Request, fault: Fault) -> None:
        if isinstance(fault, Answer):
            location = {"Location": fault.location} if fault.location else {}
            date = {"Date": self.date_time_string(), "Content-Type": fault.content_type}
            self._send(fault.status, {**date, **location}, fault.body)
            return
        if fault == RESET:
            self._reset()
            return
        if fault == DAMAGE:
            request = request._replace(body=request.body[:-1] + b"!")
        status, headers, body = self._forward(request)
        headers, body = self.state.edit(request, {"Date": self.date_time_string(), **headers}, body)
        if fault == LOSE_ANSWER:
            self.close_connection = True
        elif fault == CUT_BODY:
            self._send(status, headers, body, sent=len(body) // 2)
            self.close_connection = True
        else:
            self._send(status, headers, body)

    def _reset(self) -> None:
        reset(self.connection)
        self.close_connection = True
        os.close(self.connection.detach())

    def _forward(self, request: Request) -> tuple[int, dict[str, str], bytes]:
        upstream = HTTPConnection(self.state.upstream, timeout=30)
        try:
            upstream.request(request.method, request.target, request.body, request.headers)
            answer = upstream.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            upstream.close()

    def _send(
        self, status: int, headers: dict[str, str], body: bytes, sent: int | None = None
    ) -> None:
        length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(body))
        hop = ("content-length", "transfer-encoding", "connection")
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in hop:
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:sent])
