"""Deletes many objects so that each one is accounted for: deleted, refused, or nobody knows.

Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from r2maint.bucket import r2_limits
from r2maint.bucket.list_parser import read_deletions
from r2maint.bucket.sdk_client import RETRIED
from r2maint.bucket.sdk_errors import RequestTarget, explain, translated
from r2maint.errors import AccessDenied, BucketError, NoSuchKey

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Permit = Callable[[], object]

_ATTEMPTS = 4
"""For keys of a batch that the server was too busy for."""
_FIRST_WAIT_SECONDS = 0.5
_NOT_IN_XML = re.compile("[\x00-\x1f\x7f\ufffe\uffff]")
"""What an XML body cannot carry, or not unchanged."""


class _Refusal(NamedTuple):
    code: str
    message: str


class BatchDeleter:
    """Deletes objects of one bucket; may be used from several threads."""

    def __init__(self, client: S3Client, bucket: str, place: RequestTarget) -> None:
        self._client = client
        self._bucket = bucket
        self._place = place
        self._permits = threading.local()
        for operation in ("DeleteObject", "DeleteObjects"):
            # Every attempt passes here, also those that the SDK makes by itself minutes later.
            client.meta.events.register_first(f"before-send.s3.{operation}", self._ask)

    def delete(self, keys: Iterable[str], permit: Permit) -> dict[str, BucketError]:
        """Delete at most 1,000 keys; return the errors by key.

        Raises: what `permit` raises; AccessDenied when not one key may be deleted; BucketError.
        """
        self._permits.current = permit
        errors: dict[str, BucketError] = {}
        plain = []
        for key in filter(r2_limits.can_exist, keys):
            if not _NOT_IN_XML.search(key):
                plain.append(key)
            elif error := self._delete_one(key):
                errors[key] = error
        return errors | (self._delete_many(plain) if plain else {})

    def _ask(self, **event: object) -> None:
        self._permits.current()

    def _delete_many(self, keys: list[str]) -> dict[str, BucketError]:
        refusals = self._delete_batch(keys)
        for attempt in range(1, _ATTEMPTS):
            busy = [key for key, refusal in refusals.items() if refusal.code in RETRIED]
            if not busy:
                break
            time.sleep(random.random() * _FIRST_WAIT_SECONDS * 2.0**attempt)
            refusals = {k: r for k, r in refusals.items() if r.code not in RETRIED}
            refusals |= self._delete_batch(busy)
        errors = {key: self._explained(key, refusal) for key, refusal in refusals.items()}
        self._require_any_allowed(keys, errors)
        return errors

    def _delete_batch(self, keys: list[str]) -> dict[str, _Refusal]:
        """Send one request; return what was not deleted, and why."""
        # Not "Quiet": an answer that leaves out what it deleted cannot be told from half an answer.
        wanted = {"Objects": [{"Key": key} for key in keys], "Quiet": False}
        with translated(self._place):
            answer = self._client.delete_objects(Bucket=self._bucket, Delete=wanted)  # type: ignore[arg-type]
        deleted, refused = read_deletions(answer["Page"], self._place)  # type: ignore[typeddict-item]
        return {
            key: _Refusal(*refused.get(key, ("", "")))
            for key in keys
            if key in refused or key not in deleted
        }

    def _explained(self, key: str, refusal: _Refusal) -> BucketError:
        if not refusal.code:
            return BucketError(
                f"The bucket did not say whether it deleted the object: {key!r}.",
                "The next run looks again.",
            )
        return explain(
            self._place, key, "DeleteObjects", code=refusal.code, message=refusal.message
        )

    def _require_any_allowed(self, keys: list[str], errors: Mapping[str, BucketError]) -> None:
        denied = [error for error in errors.values() if isinstance(error, AccessDenied)]
        if len(denied) == len(keys):
            raise denied[0]

    def _delete_one(self, key: str) -> BucketError | None:
        try:
            with translated(self._place, key):
                self._client.delete_object(Bucket=self._bucket, Key=key)
        except NoSuchKey:
            return None
        except BucketError as error:
            if error.ends_run:
                raise
            return error
        return None
