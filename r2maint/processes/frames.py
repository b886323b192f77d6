"""What parent and helper send each other: a JSON object, and raw bytes beside it.

Never pickles: whoever takes over a decoder must not gain its parent, too.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

_LENGTHS = struct.Struct("!QQ")
"""Bytes of the JSON, and of what follows it."""
_PORTION = 2**20


class Frame(NamedTuple):
    """One message."""

    told: dict[str, Any]
    body: bytes


class FrameError(Exception):
    """Bytes that are no frame, or a larger one than is accepted."""


def send_frame(
    connection: socket.socket,
    told: Mapping[str, Any],
    body: bytes = b"",
    *,
    seconds: float | None = None,
) -> None:
    """Send a frame. Raises: OSError, TimeoutError among them."""
    text = json.dumps(told, separators=(",", ":")).encode()
    connection.settimeout(seconds)
    connection.sendall(_LENGTHS.pack(len(text), len(body)) + text)
    if body:
        connection.sendall(body)


def receive_frame(
    connection: socket.socket,
    *,
    most_told: int,
    most_body: int = 0,
    seconds: float | None = None,
) -> Frame:
    """Return the next frame, of so many bytes at most.

    Raises: FrameError; EOFError when the other end is closed; OSError, TimeoutError among them.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    told, body = _LENGTHS.unpack(_read(connection, _LENGTHS.size, deadline))
    if told > most_told or body > most_body:
        raise FrameError(f"a frame of {told} and {body} bytes")
    return Frame(_parsed(_read(connection, told, deadline)), _read(connection, body, deadline))


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        told = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FrameError("no JSON") from error
    if not isinstance(told, dict):
        raise FrameError("no JSON object")
    return told


def _read(connection: socket.socket, size: int, deadline: float | None) -> bytes:
    parts = []
    while size:
        if deadline is not None:
            # 0 would mean not to wait at all, and fail with another error.
            connection.settimeout(max(0.001, deadline - time.monotonic()))
        part = connection.recv(min(size, _PORTION))
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
