"""A real MariaDB for the suite where one is installed, gone when the tests end."""

from __future__ import annotations

import atexit
import getpass
import importlib.util
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

_SOCKET = "R2MAINT_TEST_MARIADB"
"""Set for the workers of pytest-xdist, which share one server; each has databases of its own."""
_NO_SERVER = "needs MariaDB (apt-get install mariadb-server)"
_NO_DRIVER = "needs the driver of MariaDB (pip install 'r2maint[mariadb]')"
_OPTIONS = (
    "--no-defaults",
    "--skip-networking",
    "--innodb-buffer-pool-size=64M",
    "--innodb-log-file-size=32M",
    # Nothing of it outlives the tests, so that nothing need reach the disk.
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-flush-method=nosync",
    "--innodb-doublewrite=0",
    "--debug-no-sync",
    "--skip-log-bin",
    "--character-set-server=utf8mb4",
)


def missing() -> str:
    """Return why there is no MariaDB here; "" when there is one."""
    if _program("mariadbd") is None or _program("mariadb-install-db") is None:
        return _NO_SERVER
    return "" if importlib.util.find_spec("MySQLdb") else _NO_DRIVER


def database() -> dict:
    """Start a server of our own, once for all workers, and return its entry for `DATABASES`."""
    socket = os.environ.get(_SOCKET) or start()
    os.environ[_SOCKET] = socket
    return {
        "ENGINE": "django.db.backends.mysql",
        "NAME": "r2maint",
        "USER": getpass.getuser(),
        "HOST": socket,
        "OPTIONS": {"charset": "utf8mb4"},
        "TEST": {"NAME": "r2maint_test", "CHARSET": "utf8mb4"},
    }


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/bin")


def start() -> str:
    """Start a server that ends with this process; return its socket."""
    directory = Path(tempfile.mkdtemp(prefix="r2maint-mariadb-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    user, data, socket = getpass.getuser(), f"--datadir={directory / 'data'}", directory / "socket"
    own = [data, f"--user={user}"] if os.geteuid() == 0 else [data]
    install = ["--no-defaults", "--skip-test-db", f"--auth-root-socket-user={user}"]
    # Another server's start empties a temporary directory that both share.
    scratch = directory / "tmp"
    scratch.mkdir()
    shutil.chown(scratch, user)
    first = directory / "first.sql"
    first.write_text("CREATE DATABASE IF NOT EXISTS r2maint;\n")
    with (directory / "log").open("wb") as log:
        said = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
        subprocess.run([_program("mariadb-install-db"), *install, *own], check=True, **said)
        command = [
            _program("mariadbd"),
            *_OPTIONS,
            *own,
            f"--socket={socket}",
            f"--tmpdir={scratch}",
            f"--init-file={first}",
        ]
        server = subprocess.Popen(command, **said)
    atexit.register(server.wait)
    atexit.register(server.terminate)
    while not socket.exists():
        if server.poll() is not None:
            raise RuntimeError((directory / "log").read_text(errors="replace"))
        time.sleep(0.05)
    return str(socket)
