"""What R2 bills each operation as: dated data. What is in no published list is not guessed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum


class OperationClass(StrEnum):
    """How an operation is billed."""

    A = "A"
    """Writes and lists."""
    B = "B"
    """Reads."""
    FREE = "free"
    UNCLASSIFIED = "unclassified"
    """In no list Cloudflare publishes, so in no bill here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Classification:
    """Which operation is of which class, and the day the list was read."""

    classes: Mapping[str, OperationClass]
    as_of: date
    source: str

    def class_of(self, operation: str) -> OperationClass:
        """Return the class of an operation, by the exact name analytics have for it."""
        return self.classes.get(operation, OperationClass.UNCLASSIFIED)


def _all(operation_class: OperationClass, names: Iterable[str]) -> dict[str, OperationClass]:
    return dict.fromkeys(names, operation_class)


CLOUDFLARE = Classification(
    classes={
        **_all(
            OperationClass.A,
            (
                "CompleteMultipartUpload",
                "CopyObject",
                "CreateMultipartUpload",
                "LifecycleStorageTierTransition",
                "ListBuckets",
                "ListMultipartUploads",
                "ListObjects",
                "ListParts",
                "PutBucket",
                "PutBucketCors",
                "PutBucketEncryption",
                "PutBucketLifecycleConfiguration",
                "PutBucketStorageClass",
                "PutObject",
                "UploadPart",
                "UploadPartCopy",
            ),
        ),
        **_all(
            OperationClass.B,
            (
                "GetBucketCors",
                "GetBucketEncryption",
                "GetBucketLifecycleConfiguration",
                "GetBucketLocation",
                "GetObject",
                "HeadBucket",
                "HeadObject",
                "ReportUsageSummary",
                "UsageSummary",
            ),
        ),
        **_all(OperationClass.FREE, ("AbortMultipartUpload", "DeleteBucket", "DeleteObject")),
    },
    as_of=date(2026, 10, 1),
    source="https://developers.cloudflare.com/r2/pricing/",
)
"""PutBucketStorageClass and ReportUsageSummary are from Cloudflare's own analytics_r2_usage.py in
https://github.com/cloudflare/notebook-examples. DeleteObjects and ListObjectsV2 are in no list."""

_UNBILLED_STATUSES = frozenset({401, 403})


def is_billed(status: int, outcome: str) -> bool:
    """Tell whether a request is billed that ended with this HTTP status and `actionStatus`.

    Requests that are refused are not, nor are R2's own failures; other failures (412, 400) are.
    Sources: https://developers.cloudflare.com/r2/pricing/ (frequently asked questions); for R2's
    failures the statuses that analytics_r2_usage.py in cloudflare/notebook-examples counts.
    """
    return status not in _UNBILLED_STATUSES and outcome != "internalError"
