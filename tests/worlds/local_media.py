"""A project with local media: files below MEDIA_ROOT, rows that name them, and what is stored."""

from __future__ import annotations

from pathlib import Path

from django.db import connections

from r2maint.bucket import get, open_bucket
from r2maint.conf import load
from r2maint.keys import Addresses
from tests.appdirectory.models import AppSubmission

PNG = b"\x89PNG\r\n\x1a\n"


def picture(project: Path, name: str, body: bytes = b"") -> bytes:
    """Write a file that starts like a PNG below MEDIA_ROOT and return its bytes."""
    content = PNG + (body or name.encode())
    path = project / "media" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return content


def submission(alias: str = "default", **values: object) -> AppSubmission:
    number = AppSubmission.objects.using(alias).count() + 1
    return AppSubmission.objects.using(alias).create(tracking_id=f"QAD-{number:06d}", **values)


def stored(url: str) -> bytes:
    """Return the bytes behind a value, as the bucket has them."""
    config = load()
    target = Addresses.from_config(config).locate(url)
    assert target is not None
    return get(open_bucket(config), target.key).body


def dump(alias: str) -> str:
    """Return every row of the example models as text."""
    with connections[alias].cursor() as cursor:
        rows = []
        for table in ("app_submissions", "appdirectory_app", "oddities_gallery"):
            cursor.execute(f"SELECT * FROM {table} ORDER BY 1")
            rows += [repr(row) for row in cursor.fetchall()]
    return "\n".join(rows)
