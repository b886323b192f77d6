"""Objects for a purge that runs as a command, and the settings of a process of its own."""

from __future__ import annotations

from r2maint.bucket import Upload

NAMED = "submissions/QAD-1/icon 1.webp"
AT_ONCE = ("--grace", "0", "--no-second-look", "--max-delete", "100%", "--override", "class")


def fill(bucket, *keys: str) -> None:
    list(bucket.put_many(Upload(key=key, body=key.encode()) for key in keys))


def media(bucket) -> list[str]:
    listed = (item.key for page in bucket.list_pages() for item in page)
    return [key for key in listed if not key.startswith(".r2maint/")]


SETTINGS = """
from settings_test import *
DATABASES = {{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": {database!r}}}}}
BASE_DIR = {directory!r}
MEDIA_ROOT = {directory!r}
R2MAINT = {{**R2MAINT, "BUCKET": "file:" + {bucket!r}}}
"""
