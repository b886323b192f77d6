"""Two purges at once, as processes of their own, from one database and from two."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from r2maint.bucket import Upload, put
from r2maint.bucket.r2 import R2Bucket
from tests.worlds.command_runs import SETTINGS

pytestmark = pytest.mark.attack

ROOT = Path(__file__).resolve().parents[2]
LASTS_SECONDS = 2
"""Of leases that somebody else is to take over."""
DOOMED = [f"submissions/2/{number}.webp" for number in range(3)]
NAMED = "submissions/1/named.webp"

PROGRAM = """
import os, sys
from datetime import timedelta
import django
django.setup()
from django.core.management import CommandError, call_command
from r2maint.bucket import lease
from r2maint.purge.delete import OrphanDeleter

if "briefly" in sys.argv:
    lease.LASTS, lease.RENEWED_EVERY = timedelta(seconds={lasts}), timedelta(seconds={lasts} / 4)
send = OrphanDeleter._send

def told(self, entries):
    print("about to delete", file=sys.stderr, flush=True)
    sys.stdin.readline()
    return send(self, entries)

if "waits" in sys.argv:
    OrphanDeleter._send = told
try:
    call_command("purge_orphans", "--grace=0", "--no-second-look", "--max-delete=100%", "--adopt",
                 "--apply", "--no-input", "--format=json")
except CommandError as error:
    sys.exit(error.returncode)
"""

REMOTE = """
R2MAINT |= {{"BUCKET": {bucket!r}, "ENDPOINT_URL": {endpoint!r}, "ACCESS_KEY_ID": "0" * 32,
            "SECRET_ACCESS_KEY": "secret"}}
"""


class Site:
    """A project with a database of its own on a bucket that others use too."""

    def __init__(self, directory: Path, bucket: R2Bucket | None, endpoint: str) -> None:
        directory.mkdir()
        names = {"directory": str(directory), "database": str(directory / "db.sqlite3")}
        text = SETTINGS.format(**names, bucket="") + REMOTE.format(
            bucket=bucket.name if bucket else "none", endpoint=endpoint
        )
        (directory / "site_settings.py").write_text(text, encoding="utf-8")
        self.directory = directory
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("R2_")},
            "PYTHONPATH": f"{directory}{os.pathsep}{ROOT}",
            "DJANGO_SETTINGS_MODULE": "site_settings",
        }

    def fill(self) -> Path:
        """Make the database, whose one row names one object; return its file."""
        rows = (
            "import django; django.setup()\n"
            "from django.core.management import call_command\n"
            "call_command('migrate', run_syncdb=True, verbosity=0)\n"
            "from tests.appdirectory.models import AppSubmission as A\n"
            f"A.objects.create(tracking_id='1', app_icon_url='/{NAMED}')"
        )
        subprocess.run([sys.executable, "-c", rows], check=True, **self._place())
        return self.directory / "db.sqlite3"

    def purge(self, *how: str, exit_code: int = 0) -> dict:
        """Purge to the end; return the document."""
        done = subprocess.run(self._command(*how), capture_output=True, text=True, **self._place())
        assert done.returncode == exit_code, done.stderr
        return json.loads(done.stdout)

    @contextmanager
    def about_to_delete(self, *how: str) -> Iterator[subprocess.Popen]:
        """Give a purge that has copied everything and waits for a line before it deletes."""
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        with subprocess.Popen(
            self._command("waits", *how), text=True, **pipes, **self._place()
        ) as purge:
            try:
                assert purge.stderr.readline() == "about to delete\n"
                yield purge
            finally:
                purge.kill()

    def _command(self, *more: str) -> list[str]:
        return [sys.executable, "-c", PROGRAM.format(lasts=LASTS_SECONDS), *more]

    def _place(self) -> dict:
        return {"cwd": self.directory, "env": self.environment}


@pytest.fixture
def bucket(s3_bucket) -> R2Bucket:
    for key in (NAMED, *DOOMED):
        put(s3_bucket, Upload(key=key, body=key.encode()))
    return s3_bucket


@pytest.fixture(scope="module")
def rows(tmp_path_factory, s3_server) -> Path:
    return Site(tmp_path_factory.mktemp("rows") / "site", None, s3_server).fill()


@pytest.fixture
def make(tmp_path, bucket, s3_server, rows) -> Callable[[str], Site]:
    def make(name: str) -> Site:
        site = Site(tmp_path / name, bucket, s3_server)
        shutil.copy(rows, site.directory / "db.sqlite3")
        return site

    return make


@pytest.fixture
def first(make) -> Site:
    return make("first")


@pytest.fixture(params=["one database", "two databases"])
def second(request, make, first) -> Site:
    return first if request.param == "one database" else make("second")


def contents(bucket: R2Bucket) -> dict[str, str]:
    """Return everything but the lease, which its holder renews."""
    listed = {item.key: item.etag for page in bucket.list_pages() for item in page}
    return {key: etag for key, etag in listed.items() if key != ".r2maint/lease"}


def media(bucket: R2Bucket) -> set[str]:
    return {key for key in contents(bucket) if not key.startswith(".r2maint/")}


def test_the_second_of_two_purges_exits_with_5_and_touches_nothing(bucket, first, second):
    with first.about_to_delete() as purge:
        before = contents(bucket)
        document = second.purge(exit_code=5)
        assert document["error"]["code"] == "lease_held"
        assert contents(bucket) == before
        purge.communicate("\n")
        assert purge.returncode == 0
    assert media(bucket) == {NAMED}


def test_after_a_kill_the_bucket_is_free_once_the_lease_has_ended(bucket, first):
    with first.about_to_delete("briefly") as purge:
        purge.send_signal(signal.SIGKILL)
        purge.wait()
    time.sleep(LASTS_SECONDS + 1)
    document = first.purge("briefly")
    assert media(bucket) == {NAMED}
    assert (document["summary"]["deleted"], document["summary"]["quarantined"]) == (3, 3)


def test_a_purge_that_slept_past_its_lease_deletes_nothing_more(bucket, first, second):
    with first.about_to_delete("briefly") as purge:
        purge.send_signal(signal.SIGSTOP)
        time.sleep(LASTS_SECONDS + 1)
        second.purge("briefly")
        again = put(bucket, Upload(key=DOOMED[0], body=DOOMED[0].encode()))
        purge.send_signal(signal.SIGCONT)
        out, _ = purge.communicate("\n")
        assert purge.returncode == 5
        assert "lost" in json.loads(out)["error"]["message"]
    assert media(bucket) == {NAMED, DOOMED[0]}
    assert contents(bucket)[DOOMED[0]] == again.etag
