"""Run commands in a small site, and look at everything that is in it.

Used by the generator with the code from before a change, and by the tests with the code from after
it: so it imports only what users import, too.
"""

from __future__ import annotations

import hashlib
import io
import json
import sqlite3
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.core.management import CommandError, call_command

from r2maint.bucket import get, open_bucket
from r2maint.conf import load

HERE = Path("/proc/self/cwd")
"""The site's directory under a name that is the same wherever it is unpacked.

The bucket of a run, and the digest that decides whether an earlier look at an orphan counts, hold
the absolute path of a directory bucket.
"""
APPS = ["django.contrib.contenttypes", "django.contrib.auth", "r2maint", "tests.appdirectory"]
TABLES = ("app_submissions", "appdirectory_app")
OWN = ".r2maint/"


def django_settings() -> dict[str, Any]:
    """Return the settings of a site, but for R2MAINT and the database."""
    return {
        "INSTALLED_APPS": APPS,
        "BASE_DIR": HERE,
        "MEDIA_URL": "/media/",
        "MEDIA_ROOT": HERE / "media",
        "STORAGES": {
            "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
            "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
        },
    }


def database() -> dict[str, Any]:
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(HERE / "rows.sqlite3")}


def run(command: str, *arguments: str, exit_code: int = 0) -> dict[str, Any]:
    """Run a command with `--format json`, expect this exit code and return its document."""
    out, told = io.StringIO(), ""
    try:
        call_command(command, *arguments, "--format", "json", stdout=out, stderr=io.StringIO())
    except CommandError as error:
        told = str(error)
    document: dict[str, Any] = json.loads(out.getvalue())
    assert document["exit_code"] == exit_code, f"{command}: {told} {document}"
    return document


def apply(command: str, *arguments: str, exit_code: int = 0) -> dict[str, Any]:
    """Run a command with `--apply`, unasked."""
    return run(command, *arguments, "--apply", "--no-input", exit_code=exit_code)


def undo(run_id: str, *arguments: str, exit_code: int = 0) -> dict[str, Any]:
    return apply("r2_runs", run_id, "--undo", *arguments, exit_code=exit_code)


def rows() -> dict[str, list[list[Any]]]:
    """Return every cell of the project's tables as it is stored, in the order of the keys."""
    # Not through Django, which would convert what is stored.
    with closing(sqlite3.connect(HERE / "rows.sqlite3")) as database:
        return {
            table: [list(row) for row in database.execute(f"SELECT * FROM {table} ORDER BY id")]
            for table in TABLES
        }


def objects() -> dict[str, dict[str, Any]]:
    """Return key -> digest and headers of every object but r2maint's own."""
    bucket = open_bucket(load())
    found = {}
    for key in all_keys():
        if not key.startswith(OWN):
            stored = get(bucket, key)
            headers = asdict(stored.info.headers)
            headers["metadata"] = dict(headers["metadata"])
            found[key] = {"sha256": _digest(stored.body), "headers": headers}
    return found


def all_keys() -> list[str]:
    """Return the key of every object, r2maint's own too."""
    return [item.key for page in open_bucket(load()).list_pages() for item in page]


def copies() -> list[str]:
    """Return the keys of the copies in quarantine, without manifests."""
    kept = f"{OWN}quarantine/"
    return [key for key in all_keys() if key.startswith(kept) and "/manifest-" not in key]


def files() -> dict[str, str]:
    """Return path -> digest of every local file."""
    media = HERE / "media"
    return {
        str(path.relative_to(media)): _digest(path.read_bytes())
        for path in sorted(media.rglob("*"))
        if path.is_file()
    }


def state() -> dict[str, Any]:
    """Return the rows, the objects and the local files of the site."""
    return {"rows": rows(), "objects": objects(), "files": files()}


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
