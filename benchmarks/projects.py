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

from tests.attacked import KEY_ID, SECRET, sqlite  # noqa: E402
from tests.servers import moto_server  # noqa: E402


def describe_database(kind: str, directory: Path) -> dict:
    """Return the entry of an empty database for `DATABASES`; a server is started."""
    if kind == "sqlite":
        return sqlite(directory / "rows.sqlite3")
    from tests import mariadb, postgres

    given = mariadb.database() if kind == "mariadb" else postgres.database()
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
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    command = ["rclone", "serve", "s3", "--auth-key", f"{KEY_ID},{SECRET}", "--addr", address]
    process = subprocess.Popen([*command, str(directory)], stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", int(address.rpartition(":")[2]))) == 0:
                    break
            time.sleep(0.05)
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait()
