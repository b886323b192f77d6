"""A bucket of which only the listing is known, and what a report makes of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from r2maint.bucket import PendingUpload, Result, StoredObject
from r2maint.conf import load
from r2maint.control import Control
from r2maint.errors import NoSuchKey, Unsupported
from r2maint.keys import Addresses
from r2maint.pricing import STANDARD
from r2maint.references.scope import Scope
from r2maint.usage.plan import measure_usage
from r2maint.usage.result import UsageOptions, UsageReport
from tests.appdirectory.models import AppSubmission

NOW = datetime(2026, 11, 23, tzinfo=UTC)
PUBLIC = "https://media.example.org/"


class Listed:
    """Objects as large as a test likes, the beginning of some, and unfinished uploads.

    `uploads` is None where the server cannot list them.
    """

    name = "listed"

    def __init__(
        self,
        *objects: StoredObject,
        bodies: dict[str, bytes] | None = None,
        uploads: int | None = 0,
    ) -> None:
        self.objects, self.bodies, self.uploads = sorted(objects), bodies or {}, uploads

    def now(self) -> datetime:
        return NOW

    def list_pages(self, prefix="", *, start_after=""):
        yield [stored for stored in self.objects if stored.key.startswith(prefix)]

    def list_uploads(self, prefix=""):
        if self.uploads is None:
            raise Unsupported("The server does not know this request.")
        for number in range(self.uploads):
            yield PendingUpload(key=f"{number}", upload_id="", initiated_at=NOW)

    def measure_uploads(self, uploads):
        return (Result(request=upload, value=2048) for upload in uploads)

    def peek_many(self, keys, *, count):
        for key in keys:
            if key in self.bodies:
                yield Result(request=key, value=self.bodies[key][:count])
            else:
                yield Result(request=key, error=NoSuchKey(f"The object does not exist: {key!r}."))


def listed(
    key: str, size: int = 1000, *, etag: str = "", days: int = 0, storage_class: str = STANDARD
) -> StoredObject:
    """Return an object written `days` before NOW."""
    return StoredObject(key, size, etag or key, NOW - timedelta(days=days), storage_class)


def measure(
    bucket: Any,
    *,
    scope: Scope | None = None,
    control: Control | None = None,
    **options: Any,
) -> UsageReport:
    """Return the report of a bucket and the rows of the project."""
    config = load()
    return measure_usage(
        config,
        Addresses.from_config(config),
        bucket,
        scope=scope or Scope(),
        control=control or Control(),
        options=UsageOptions(**options),
    )


def submission(tracking_id: str, **values: Any) -> AppSubmission:
    return AppSubmission.objects.create(tracking_id=tracking_id, app_name_en="x", **values)
