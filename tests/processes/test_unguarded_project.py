"""Whole commands with helpers, by a `manage.py` without `if __name__ == "__main__":`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import pytest

from r2maint.bucket import Upload, put
from r2maint.bucket.directory_bucket import DirectoryBucket
from r2maint.bucket.protocol import Headers
from tests.servers.websites import Site, reply, site
from tests.worlds.helper_processes import helpers, left_of, some_helpers
from tests.worlds.stored_pictures import BASE, picture

pytestmark = pytest.mark.thorough


ROOT = Path(__file__).resolve().parents[2]
BODY = b"\x89PNG\r\n\x1a\n of some length"
URLS = 2100
"""More than are asked without helpers."""
ENDS = [signal.SIGKILL, signal.SIGTERM, signal.SIGINT]

SETTINGS = """
from pathlib import Path
BASE_DIR = Path(__file__).parent
SECRET_KEY = "x"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["django.contrib.contenttypes", "r2maint", "tests.appdirectory"]
DATABASES = {{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "db.sqlite3"}}}}
R2MAINT = {{
    "BUCKET": "file:bucket",
    "PUBLIC_URL": "https://media.example.org/",
    "LOCAL_MEDIA": {{}},
    "FETCH_ALLOW": [{place!r}],
    "FIELDS": {{"appdirectory.AppSubmission": {{"screenshots_en": {{}}, "app_icon_url": {{}}}}}},
}}
"""
MANAGE = """
import os, sys
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "runs"), "a") as runs:
    runs.write("run\\n")
os.environ["DJANGO_SETTINGS_MODULE"] = "thrown_away"
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
"""
FILL = """
import django, json, sys
django.setup()
from tests.appdirectory.models import AppSubmission
for number, values in enumerate(json.load(sys.stdin)):
    AppSubmission.objects.create(tracking_id=str(number), **values)
"""


@dataclass(frozen=True)
class Project:
    """A project of its own in a directory."""

    place: Path
    web: Site
    silence: Event
    """Until it is set, URLs that name "stuck" have no answer."""

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("R2_")}
        return kept | {
            "DJANGO_SETTINGS_MODULE": "thrown_away",
            "PYTHONPATH": f"{self.place}{os.pathsep}{ROOT}",
        }

    def start(self, *words: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "manage.py", *words],
            cwd=self.place,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str) -> tuple[int, str, str]:
        process = self.start(*words)
        out, err = process.communicate(timeout=100)
        return process.returncode, out, err

    def fill(self, *rows: dict[str, object]) -> None:
        command = [sys.executable, "-c", FILL]
        subprocess.run(command, input=json.dumps(rows), text=True, env=self.environment, check=True)

    def store(self, count: int, size: tuple[int, int]) -> None:
        """Store pictures, and rows that name them."""
        bucket = DirectoryBucket(self.place / "bucket")
        for number in range(count):
            body = picture(number, size)
            headers = Headers(content_type="image/png")
            put(bucket, Upload(key=f"shots/{number}.png", body=body, headers=headers))
        self.fill(*({"app_icon_url": f"{BASE}shots/{number}.png"} for number in range(count)))

    @property
    def runs(self) -> int:
        return len((self.place / "runs").read_text().splitlines())


@pytest.fixture
def project(tmp_path) -> Iterator[Project]:
    silence = Event()

    def answer(request):
        if "stuck" in request.target:
            silence.wait(60)
        return [reply(200, BODY, "Content-Type: image/png")]

    with site(answer) as web:
        (tmp_path / "bucket").mkdir()
        (tmp_path / "manage.py").write_text(MANAGE)
        text = SETTINGS.format(place="{}:{}".format(*web.address))
        (tmp_path / "thrown_away.py").write_text(text)
        made = Project(tmp_path, web, silence)
        code, _, err = made.run("migrate", "-v0", "--run-syncdb")
        assert code == 0, err
        (tmp_path / "runs").unlink()
        yield made
        silence.set()


ASK = ("verify_urls", "--level", "http", "--format", "json")
ENCODE = ("reoptimize", "--apply", "--no-input", "--format", "json")


def test_pictures_are_encoded_by_one_run_that_ends(project):
    project.store(4, (240, 160))
    code, out, err = project.run(*ENCODE)
    assert (code, err) == (0, "")
    assert json.loads(out)["summary"]["converted"] == 4
    assert project.runs == 1


def test_urls_are_asked_by_one_run_that_ends(project):
    urls = [f"{project.web.url}/{number}.png" for number in range(URLS)]
    project.fill({"screenshots_en": urls})
    code, out, err = project.run(*ASK, "--all")
    assert (code, err) == (0, "")
    assert json.loads(out)["summary"]["outcomes"]["ok"] == URLS
    assert project.runs == 1


@pytest.mark.parametrize("number", ENDS)
def test_no_encoder_outlives_its_command(project, number):
    # Each takes a while, so that the signal meets it at work.
    project.store(6, (3000, 2000))
    ends_without_helpers(project, ENCODE, number)


@pytest.mark.parametrize("number", ENDS)
def test_no_asker_outlives_its_command(project, number):
    urls = [f"{project.web.url}/stuck-{number}.png" for number in range(URLS)]
    project.fill({"screenshots_en": urls})
    ends_without_helpers(project, ASK, number)


def ends_without_helpers(project: Project, words: tuple[str, ...], number: signal.Signals) -> None:
    process = project.start(*words)
    pids = some_helpers(process.pid)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert pids
    assert process.returncode == (-9 if number == signal.SIGKILL else 128 + number)
    assert left_of(pids | helpers(process.pid).keys()) == set()
    assert project.runs == 1
