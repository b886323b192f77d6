"""The SDK's dicts as the bucket's values, and headers as the SDK's arguments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any

from r2maint.bucket.protocol import Expiry, Headers, ObjectInfo, PendingUpload
from r2maint.errors import NoClock

Answer = Mapping[str, Any]

_HEADERS = {
    "content_type": "ContentType",
    "cache_control": "CacheControl",
    "content_disposition": "ContentDisposition",
    "content_encoding": "ContentEncoding",
    "content_language": "ContentLanguage",
}
"""But Expires, of which botocore makes a time, and keeps the text beside it."""


def info(key: str, answer: Answer) -> ObjectInfo:
    """Return what a HEAD or GET answered about `key`."""
    return ObjectInfo(
        key=key,
        size=answer["ContentLength"],
        etag=etag(answer),
        modified_at=answer["LastModified"].astimezone(UTC),
        headers=Headers(
            **{name: answer.get(theirs, "") for name, theirs in _HEADERS.items()},
            expires=answer.get("ExpiresString", ""),
            metadata=dict(answer.get("Metadata", {})),
            storage_class=answer.get("StorageClass", "STANDARD"),
        ),
    )


def etag(answer: Answer) -> str:
    """Return the ETag of an answer as `plain_etag` writes it."""
    return plain_etag(str(answer.get("ETag", "")))


def plain_etag(text: str) -> str:
    """Return an ETag without quotes and without the mark of a weak one.

    A gateway that compresses answers calls the ETag weak in some of them (`W/"…"`): it is the same
    version all the same, and only plain ETags are compared with each other.
    """
    return text.strip().removeprefix("W/").strip('"')


def date(answer: Answer) -> datetime:
    """Return the server's time, aware UTC, from the Date of any answer."""
    return parsed_date(answer["ResponseMetadata"]["HTTPHeaders"].get("date", ""))


@lru_cache(maxsize=64)
def parsed_date(text: str) -> datetime:
    """Return the time a header tells, aware UTC. Raises: NoClock."""
    try:
        return parsedate_to_datetime(text).astimezone(UTC)
    except (TypeError, ValueError) as error:
        raise NoClock(
            f"The bucket does not tell its time: the Date of its answer is {text!r}.",
            "A proxy may remove it; r2maint judges ages by the bucket's clock only.",
        ) from error


def retries(answer: Answer) -> int:
    """Return how many attempts came before the one that was answered."""
    return int(answer.get("ResponseMetadata", {}).get("RetryAttempts", 0))


def pending_upload(answer: Answer) -> PendingUpload:
    """Return one entry of ListMultipartUploads."""
    return PendingUpload(
        key=answer["Key"],
        upload_id=answer["UploadId"],
        initiated_at=answer["Initiated"].astimezone(UTC),
    )


def expiries(answer: Answer) -> Iterator[Expiry]:
    """Yield the rules of GetBucketLifecycleConfiguration that are on and delete objects.

    Other conditions than the prefix, which R2 does not have, are passed over: the rule may delete.
    """
    for rule in answer.get("Rules", ()):
        ends = rule.get("Expiration", {})
        if rule.get("Status") != "Enabled" or not (ends.get("Days") or ends.get("Date")):
            continue
        narrowed = rule.get("Filter", {})
        at = ends.get("Date")
        yield Expiry(
            name=rule.get("ID", ""),
            prefix=narrowed.get("And", narrowed).get("Prefix") or rule.get("Prefix") or "",
            days=ends.get("Days", 0),
            at=at.astimezone(UTC) if at else None,
        )


def header_arguments(headers: Headers) -> dict[str, Any]:
    """Return `headers` as PutObject, CopyObject and CreateMultipartUpload take them.

    The storage class is always sent: without one the object gets the bucket's default.
    """
    named = {theirs: getattr(headers, name) for name, theirs in _HEADERS.items()}
    named["Expires"] = headers.expires
    return {
        **{theirs: value for theirs, value in named.items() if value},
        "Metadata": dict(headers.metadata),
        "StorageClass": headers.storage_class,
    }
