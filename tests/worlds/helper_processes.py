"""Which helper processes there are, and programs of helpers that do what none should."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import sys
import time
from pathlib import Path

from r2maint.images import Recipe, reencode
from r2maint.processes.frames import send_frame
from r2maint.processes.parent import Parent

CHILDREN = ("r2maint.images.encoding_child", "r2maint.verify.asking.asking_child")
FATEFUL = "tests.worlds.fateful_encoder"
ODD = "tests.worlds.odd_encoder"
ODD_ASKER = "tests.worlds.odd_asker"


def helpers(parent: int | None = None) -> dict[int, str]:
    """Return the helper processes that run now, of one parent or of all: pid -> module."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        # Gone meanwhile.
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            state, its_parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            module = next(
                (word for word in words if word in (*CHILDREN, FATEFUL, ODD, ODD_ASKER)), ""
            )
            if module and state != "Z" and parent in (None, int(its_parent)):
                found[int(entry.name)] = module
    return found


def some_helpers(parent: int, count: int = 1, seconds: float = 60) -> set[int]:
    """Wait until a process has so many helpers."""
    return {*_until(lambda: helpers(parent), lambda found: len(found) >= count, seconds)}


def left_of(pids: set[int], seconds: float = 30) -> set[int]:
    """Wait until these helpers are gone; return those that are not."""
    return _until(lambda: pids & helpers().keys(), lambda found: not found, seconds)


def _until(look, is_enough, seconds: float):
    deadline = time.monotonic() + seconds
    while not is_enough(found := look()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def meet_fate(data: bytes, recipe: Recipe):
    """Encode a picture, but die of some bytes; write down each attempt."""
    with Path(os.environ["ATTEMPTS"]).open("ab") as attempts:
        attempts.write(hashlib.sha256(data).digest())
    if data == b"crash":
        os._exit(11)
    if data == b"killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if data == b"stuck":
        hashlib.pbkdf2_hmac("sha256", b"inside C", b"", 2**31 - 1)
    return reencode(data, recipe)


SKIP = {"is": "Skip", "is_last": False, "reason": "animated", "width": 1, "height": 1}
ERROR = {"is": "ImageError", "is_last": False, "reason": "corrupt", "detail": "it is"}
ENCODED = {"is": "Encoded", "is_last": False, "width": 1, "height": 1, "ssim": 1.0}
WEBP = b"RIFF\x20\0\0\0WEBPVP8 "
LIES = {
    "no kind": (SKIP | {"is": "Recipe"}, b""),
    "no dict": ([], b""),
    "nothing in it": ({}, b""),
    "a reason of another type": (SKIP | {"reason": ["animated"]}, b""),
    "a reason of other characters": (SKIP | {"reason": "\x1b[2J"}, b""),
    "a size of another type": (SKIP | {"width": "1"}, b""),
    "a size that is a bool": (SKIP | {"width": True}, b""),
    "a size below none": (SKIP | {"height": -1}, b""),
    "lines in a detail": (ERROR | {"detail": "it is\nno error"}, b""),
    "a long detail": (ERROR | {"detail": "x" * 1000}, b""),
    "a long answer": (ERROR | {"more": "x" * 100_000}, b""),
    "a last word of another type": (ERROR | {"is_last": 1}, b""),
    "a program as picture": (ENCODED, b"\x7fELF and so on"),
    "a page as picture": (ENCODED, b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
    "no bytes": (ENCODED, b""),
    "a picture larger than was wanted": (ENCODED | {"width": 9000}, WEBP),
    "a likeness that is none": (ENCODED | {"ssim": float("nan")}, WEBP),
    "a likeness beyond": (ENCODED | {"ssim": 7.0}, WEBP),
}
"""Answers that are none, by what is wrong with them."""


def misbehave(data: bytes, parent: Parent) -> None:
    """Answer a picture with what its bytes name."""
    connection = parent._connection
    if data == b"garbage":
        connection.sendall(b"Traceback (most recent call last):\n" * 100)
    elif data == b"garbage inside":
        connection.sendall((5).to_bytes(8) + bytes(8) + b"\x80\x04N.!")
    elif data == b"too deep":
        connection.sendall((2000).to_bytes(8) + bytes(8) + b"[" * 2000)
    elif data == b"too much":
        connection.sendall((30).to_bytes(8) + (2**40).to_bytes(8) + b"x" * 10_000)
    elif data == b"nothing":
        time.sleep(3600)
    elif data == b"half":
        connection.sendall((3000).to_bytes(8) + bytes(8) + b'{"is": ')
        time.sleep(3600)
    elif data == b"leave":
        os._exit(0)
    elif data == b"print":
        os.write(1, b"printed by a decoder" * 1000)
        send_frame(connection, SKIP)
    elif data.decode() in LIES:
        send_frame(connection, *LIES[data.decode()])
    else:
        send_frame(connection, SKIP)
    sys.stdout.flush()
