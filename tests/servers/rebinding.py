"""An internet in a process: name servers that change their minds, a public and a private address.

Runs as `unshare -rnm python -m tests.servers.rebinding` in namespaces of its own, from which nothing can
leave, and prints what became of each attack as JSON.
"""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path

import pycurl

from r2maint.http import FetchError, FetchLimits, Guard, fetch
from r2maint.http.easy_handle import Attempt
from tests.servers.s3_server import Request
from tests.servers.websites import BREAK, Site, reply, site

PUBLIC, PRIVATE, PRIVATE_6 = "93.184.216.34", "127.0.0.1", "::1"
LIMITS = FetchLimits(attempts=2, seconds=20)
A, CNAME, AAAA = 1, 5, 28
Records = list[tuple[int, str]]


def records_for(name: str, asked_before: int) -> Records:
    """What the name server answers; the first part of a name tells how it behaves."""
    kind = name.partition(".")[0].partition("-")[0]
    return {
        "honest": [(A, PUBLIC)],
        "flip": [(A, PRIVATE if asked_before else PUBLIC)],
        "flip6": [(AAAA, PRIVATE_6)] if asked_before else [(A, PUBLIC)],
        "both": [(A, PRIVATE), (A, PUBLIC)],
        "mixed": [(AAAA, PRIVATE_6), (A, PUBLIC)],
        "private": [(A, PRIVATE)],
        "private6": [(AAAA, PRIVATE_6)],
        "mapped": [(AAAA, f"::ffff:{PRIVATE}")],
        "alias": [(CNAME, "localhost"), (A, PRIVATE)],
        "metadata": [(A, "169.254.169.254")],
    }[kind]


class NameServer(threading.Thread):
    """Answers on 127.0.0.1:53; counts the times it was asked for the addresses of a name."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.asked: Counter[tuple[str, int]] = Counter()
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((PRIVATE, 53))

    def run(self) -> None:
        while True:
            packet, peer = self.socket.recvfrom(4096)
            self.socket.sendto(self.answer(packet), peer)

    def answer(self, packet: bytes) -> bytes:
        labels, at = [], 12
        while size := packet[at]:
            labels.append(packet[at + 1 : at + 1 + size].decode())
            at += 1 + size
        (kind,) = struct.unpack_from("!H", packet, at + 1)
        question = packet[12 : at + 5]
        name = ".".join(labels).lower()
        records = [
            found
            for found in records_for(name, self.asked[name, kind])
            if found[0] in (kind, CNAME)
        ]
        self.asked[name, kind] += 1
        head = packet[:2] + struct.pack("!5H", 0x8580, 1, len(records), 0, 0)
        return head + question + _written(question[:-4], records)


def _written(owner: bytes, records: Records) -> bytes:
    """The records, without any time to live; those after an alias belong to what it stands for."""
    written = b""
    for kind, text in records:
        value = _name(text) if kind == CNAME else ip_address(text).packed
        written += owner + struct.pack("!HHIH", kind, 1, 0, len(value)) + value
        owner = value if kind == CNAME else owner
    return written


def _name(text: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in text.split(".")) + b"\0"


def set_up() -> None:
    """Give this namespace its addresses and its one name server."""
    for command in ("ip link set lo up", f"ip address add {PUBLIC}/32 dev lo"):
        subprocess.run(command.split(), check=True)
    with tempfile.TemporaryDirectory() as directory:
        for target, text in {
            "/etc/resolv.conf": "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n",
            "/etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
            "/etc/nsswitch.conf": "hosts: files dns\n",
        }.items():
            source = Path(directory) / target.rpartition("/")[2]
            source.write_text(text)
            subprocess.run(["mount", "--bind", str(source), target], check=True)


def behave(request: Request) -> list[bytes]:
    """Send on where the path says, or break the first connection for a path."""
    path, _, rest = request.target[1:].partition("/")
    if path == "to":
        return [reply(302, b"", f"Location: http://{rest}", "Connection: close")]
    if path == "broken":
        return [BREAK]
    return [reply(body=request.headers["host"].encode())]


def attack(url: str) -> str:
    try:
        return fetch(url, guard=Guard(), limits=LIMITS).body.decode()
    except FetchError as error:
        return error.reason


def without_cache(attempt: Attempt, manner) -> None:
    prepare_as_shipped(attempt, manner)
    attempt.curl.setopt(pycurl.DNS_CACHE_TIMEOUT, 0)


prepare_as_shipped = Attempt._prepare


def main() -> None:
    set_up()
    names = NameServer()
    names.start()
    with ExitStack() as stack:
        public = stack.enter_context(site(behave, host=PUBLIC, port=80))
        traps: list[Site] = [
            stack.enter_context(site(behave, host=host, port=port))
            for host in (PRIVATE, PRIVATE_6)
            for port in (80, 81)
        ]
        found = [
            ("a public address", attack("http://honest.example/")),
            ("the first answer", attack("http://flip.example/")),
            ("the second answer", attack("http://flip.example/")),
            ("the third answer", attack("http://flip.example/")),
            ("the first answer before IPv6", attack("http://flip6.example/")),
            ("the second answer in IPv6", attack("http://flip6.example/")),
            ("both in one answer", attack("http://both.example/")),
            ("both, where only the private one listens", attack("http://both.example:81/")),
            ("IPv6 loopback beside a public one", attack("http://mixed.example/")),
            ("the same, where only loopback listens", attack("http://mixed.example:81/")),
            ("a private address", attack("http://private.example/")),
            ("IPv6 loopback", attack("http://private6.example/")),
            ("an IPv4-mapped one", attack("http://mapped.example/")),
            ("an alias of localhost", attack("http://alias.example/")),
            ("the metadata service", attack("http://metadata.example/")),
            (
                "a redirect to a name that is private",
                attack("http://honest.example/to/private.example/"),
            ),
            ("a redirect to an alias", attack("http://honest.example/to/alias.example/")),
            ("a redirect to itself", attack("http://flip-a.example/to/flip-a.example/")),
            ("a retry", attack("http://flip-b.example/broken")),
        ]
        # libcurl keeps a name's address for a minute; without that the attack is a real one.
        Attempt._prepare = without_cache
        found += [
            (
                "a redirect to itself, asked again",
                attack("http://flip-c.example/to/flip-c.example/"),
            ),
            ("a retry, asked again", attack("http://flip-d.example/broken")),
        ]
        report = {
            "found": dict(found),
            "asked": {f"{name} {kind}": times for (name, kind), times in names.asked.items()},
            "public": public.connections(),
            "private": [trap.connections() for trap in traps],
        }
    json.dump(report, sys.stdout)


if __name__ == "__main__":
    main()
