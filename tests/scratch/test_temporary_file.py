"""Temporary files that find no room: one error for whoever writes, and silence at their end."""

from __future__ import annotations

import errno
import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

from r2maint.scratch import SortedRows, Spool

ROOT = Path(__file__).resolve().parents[2]
FULL = Path("/dev/full")
SIZES = ["8k", pytest.param("64k", marks=pytest.mark.thorough)]
PROJECT = """
from settings_test import *
DATABASES = {{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": "{place}/db.sqlite3"}}}}
BASE_DIR = MEDIA_ROOT = "{place}"
R2MAINT = {{**R2MAINT, "BUCKET": "file:{place}/bucket"}}
"""
FILL = """
import django
django.setup()
from pathlib import Path
from django.conf import settings
from r2maint.bucket import Upload, open_bucket
from r2maint.conf import load
from tests.appdirectory.models import AppSubmission
(Path(settings.MEDIA_ROOT) / "icon.png").write_bytes(b"\\x89PNG\\r\\n\\x1a\\n")
AppSubmission.objects.bulk_create(
    AppSubmission(
        tracking_id=str(number),
        app_icon_url="/media/icon.png",
        main_image_en=f"https://media.example.org/submissions/{number}.png",
    )
    for number in range(1500)
)
list(open_bucket(load()).put_many(Upload(key=f"submissions/{n}/x.png", body=b"x") for n in range(300)))
"""


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full")
@pytest.mark.parametrize("kind", [Spool, SortedRows])
@pytest.mark.parametrize("is_closed", [True, False], ids=["closed", "dropped"])
def test_rows_that_a_full_disk_did_not_take_are_dropped_silently(kind, is_closed, monkeypatch):
    ignored = list[object]()
    monkeypatch.setattr("sys.unraisablehook", ignored.append)
    monkeypatch.setattr("tempfile.TemporaryFile", lambda: FULL.open("w+b"))
    rows = kind()
    rows.extend([("a", 1)])
    with pytest.raises(OSError) as raised:
        list(rows if kind is Spool else rows.rest())
    assert raised.value.errno == errno.ENOSPC
    if is_closed and kind is SortedRows:
        rows.close()
    del rows, raised
    gc.collect()
    assert not ignored


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> dict:
    """The environment of processes with rows and objects whose plans need room."""
    place = tmp_path_factory.mktemp("full")
    (place / "fullsettings.py").write_text(PROJECT.format(place=place))
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("R2_")},
        "DJANGO_SETTINGS_MODULE": "fullsettings",
        "PYTHONPATH": f"{place}{os.pathsep}{ROOT}",
    }
    migrate = [sys.executable, str(ROOT / "manage.py"), "migrate", "-v0", "--run-syncdb"]
    subprocess.run(migrate, env=environment, check=True)
    subprocess.run([sys.executable, "-c", FILL], env=environment, check=True)
    return environment


@pytest.fixture(params=SIZES)
def small_disk(request, tmp_path):
    """A directory with so much room."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("needs root, to mount a small disk")
    words = ["mount", "-t", "tmpfs", "-o", f"size={request.param}", "tmpfs", str(tmp_path)]
    if subprocess.run(words, capture_output=True).returncode:
        pytest.skip("this machine mounts no tmpfs")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.parametrize(
    "command", ["migrate_media_to_r2", "verify_urls", "purge_orphans", "reoptimize", "usage_report"]
)
def test_a_full_tmpdir_ends_every_command_with_one_sentence(project, small_disk, command):
    done = subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), command],
        env={**project, "TMPDIR": str(small_disk)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    if done.returncode == 1:
        assert done.stderr.startswith("CommandError: ")
        assert "TMPDIR" in done.stderr
    assert done.returncode in (0, 1, 3)
    assert done.stderr.count("\n") == (done.returncode != 0)
    assert not list(small_disk.iterdir())
