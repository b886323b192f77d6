"""What the attacks on a migration run against: a database and an S3 server of their own."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.servers.s3_server import moto_server  # noqa: E402
from tests.worlds.attacked_project import KEY_ID, SECRET, sqlite  # noqa: E402


def describe_database(kind: str, directory: Path) -> dict:
    """Return the entry of an empty database for `DATABASES`; a server is started."""
    if kind == "sqlite":
        return sqlite(directory / "rows.sqlite3")
    from tests.servers import mariadb, postgresql

    given = mariadb.database() if kind == "mariadb" else postgresql.database()
    return {name: value for name, value in given.items() if name != "TEST"}


@contextmanager
def server(kind: str, directory: Path) -> Iterator[str]:
    """Run an S3 server on a free port; give its URL."""
    if kind == "moto":
        with moto_server() as url:
            yield url
        return
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    port = free_port()
    with running(_rclone(port, directory) if kind == "rclone" else memory(port), port) as url:
        yield url


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def running(command: list[str], port: int) -> Iterator[str]:
    """Run a server until the block ends; give its URL once it answers."""
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        for _ in range(1200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def memory(port: int, objects: int = 0, latency_ms: float = 0) -> list[str]:
    """Return the command that runs memorys3.py."""
    program = str(Path(__file__).parent / "memorys3.py")
    sizes = ["--objects", str(objects), "--latency-ms", str(latency_ms)]
    return [sys.executable, program, "--port", str(port), *sizes]


def _rclone(port: int, directory: Path) -> list[str]:
    key, address = f"{KEY_ID},{SECRET}", f"127.0.0.1:{port}"
    return ["rclone", "serve", "s3", "--auth-key", key, "--addr", address, str(directory)]
