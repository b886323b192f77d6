"""Rows and objects that are verified."""

from __future__ import annotations

from r2maint.bucket import Upload, open_bucket, put
from r2maint.conf import load
from tests.appdirectory.models import AppSubmission

PUBLIC = "https://media.example.org/"


def submission(**values: object) -> AppSubmission:
    number = AppSubmission.objects.count() + 1
    return AppSubmission.objects.create(tracking_id=f"QAD-{number:06d}", **values)


def store(*keys: str) -> None:
    bucket = open_bucket(load())
    for key in keys:
        put(bucket, Upload(key=key, body=b"bytes"))
