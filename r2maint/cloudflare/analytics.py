"""What Cloudflare's analytics count of one bucket: operations, storage by day, bandwidth.

Thirty whole days (UTC), as the bill's month has. The counts may be sampled and are no invoice.
Source: https://developers.cloudflare.com/r2/platform/metrics-analytics/
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from r2maint.cloudflare.api import API_URL, Cloudflare
from r2maint.cloudflare.graphql import BANDWIDTH, OPERATIONS, STORAGE, AnalyticsQuery
from r2maint.cloudflare.operation_classes import CLOUDFLARE, OperationClass, is_billed
from r2maint.conf import Config
from r2maint.control import Control
from r2maint.errors import CloudflareRefusal, ConfigError
from r2maint.pricing import INFREQUENT_ACCESS, MONTH_DAYS, STANDARD, ClassUsage, Usage, priced_as
from r2maint.rendering.units import format_bytes, format_count


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """Requests of one type on objects of one storage class."""

    name: str
    storage_class: str
    """As S3 names it; "" where analytics do not tell."""
    requests: int
    """Billed as what `operation_class` says."""
    unbilled: int
    """Refused, or failed within R2."""

    @property
    def operation_class(self) -> OperationClass:
        return CLOUDFLARE.class_of(self.name)

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "class": self.operation_class.value,
            "storage_class": self.storage_class,
            "requests": self.requests,
            "unbilled": self.unbilled,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDay:
    """The most that was stored at any time of a day."""

    day: date
    bytes: Mapping[str, int]
    """By storage class ("" where analytics do not tell), each at its own peak; no metadata."""
    objects: int

    def as_dict(self) -> dict[str, Any]:
        return {
            "day": self.day.isoformat(),
            "bytes": sum(self.bytes.values()),
            "bytes_by_class": dict(self.bytes),
            "objects": self.objects,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Bandwidth:
    """Bytes that went in and out; transfers under 100 KiB are left out by Cloudflare."""

    uploaded_bytes: int
    downloaded_bytes: int

    def as_dict(self) -> dict[str, int]:
        return {"uploaded_bytes": self.uploaded_bytes, "downloaded_bytes": self.downloaded_bytes}


@dataclass(frozen=True, slots=True, kw_only=True)
class Analytics:
    """Thirty days of one bucket, as Cloudflare counts them."""

    bucket: str
    """As analytics name it: with its jurisdiction before it."""
    first_day: date
    last_day: date
    operations: tuple[Operation, ...]
    storage: tuple[StoredDay, ...]
    """Days that analytics know, the oldest first."""
    bandwidth: Bandwidth | None
    """None where Cloudflare does not offer it."""

    def requests(self, operation_class: OperationClass) -> int:
        """Return how many requests are billed as a class, in every storage class."""
        return _total(each for each in self.operations if each.operation_class is operation_class)

    @property
    def unclassified(self) -> dict[str, int]:
        """Operations of no known class, and how many requests each."""
        names = {
            each.name
            for each in self.operations
            if each.operation_class is OperationClass.UNCLASSIFIED and each.requests
        }
        return {
            name: _total(each for each in self.operations if each.name == name)
            for name in sorted(names)
        }

    @property
    def peaks(self) -> dict[date, Mapping[str, int]]:
        """The most bytes of each day whose storage classes are known, by storage class."""
        return {each.day: each.bytes for each in self.storage if "" not in each.bytes}

    def sizes(self) -> Iterator[tuple[str, int]]:
        """Yield what a reader compares first: the most and least of a day, and what moved."""
        if self.storage:
            by_size = sorted(self.storage, key=lambda each: sum(each.bytes.values()))
            for what, each in (("Most", by_size[-1]), ("Least", by_size[0])):
                yield f"{what} in a day's peak, {each.day}", sum(each.bytes.values())
        if self.bandwidth:
            yield "Uploaded (over 100 KiB at once)", self.bandwidth.uploaded_bytes
            yield "Downloaded (over 100 KiB at once)", self.bandwidth.downloaded_bytes

    def added_to(self, month: Usage) -> Usage:
        """Return a month with these operations in place of its own.

        Those of unknown storage class count as Standard's, unless only Infrequent Access is stored.
        """
        only_infrequent = month.infrequent_access.byte_days and not month.standard.byte_days
        default = INFREQUENT_ACCESS if only_infrequent else STANDARD
        return replace(
            month,
            standard=self._counted(month.standard, STANDARD, default),
            infrequent_access=self._counted(month.infrequent_access, INFREQUENT_ACCESS, default),
        )

    def _counted(self, usage: ClassUsage, storage_class: str, default: str) -> ClassUsage:
        mine = [
            each
            for each in self.operations
            if priced_as(each.storage_class or default) == storage_class
        ]
        return replace(
            usage,
            class_a=_total(each for each in mine if each.operation_class is OperationClass.A),
            class_b=_total(each for each in mine if each.operation_class is OperationClass.B),
        )

    def as_dict(self) -> dict[str, Any]:
        return {
            "bucket": self.bucket,
            "first_day": self.first_day.isoformat(),
            "last_day": self.last_day.isoformat(),
            "operations": {
                "class_a": self.requests(OperationClass.A),
                "class_b": self.requests(OperationClass.B),
                "free": self.requests(OperationClass.FREE),
                "unclassified": self.requests(OperationClass.UNCLASSIFIED),
                "unbilled": sum(each.unbilled for each in self.operations),
                "by_type": [each.as_dict() for each in self.operations],
            },
            "unclassified": self.unclassified,
            "storage": [each.as_dict() for each in self.storage],
            "bandwidth": self.bandwidth.as_dict() if self.bandwidth else None,
            "classes_as_of": CLOUDFLARE.as_of.isoformat(),
            "classes_source": CLOUDFLARE.source,
        }

    @property
    def assumption(self) -> str:
        """What a bill with these operations takes for granted, in a sentence."""
        counts = [
            f"{self.requests(each):,} Class {each.value}"
            for each in (OperationClass.A, OperationClass.B)
        ]
        return (
            f"{' and '.join(counts)} operations from {self.first_day} to"
            f" {self.last_day} (UTC), as Cloudflare's analytics count them: these may be sampled."
        )

    @property
    def egress_assumptions(self) -> tuple[str, ...]:
        """What a comparison with these downloads takes for granted; nothing without any told."""
        if self.bandwidth is None:
            return ()
        return (
            f"Egress is the {format_bytes(self.bandwidth.downloaded_bytes)} downloaded from"
            f" {self.first_day} to {self.last_day} (UTC), as Cloudflare's analytics count them:"
            " without transfers under 100 KiB, so that it may be more. --egress replaces it.",
        )

    def notes(self) -> Iterator[str]:
        """Yield what a reader of the figures must know."""
        if self.unclassified:
            named = ", ".join(f"{name} {count:,}" for name, count in self.unclassified.items())
            total = format_count(self.requests(OperationClass.UNCLASSIFIED), "operation")
            yield (
                f"{total} of a type no published list has, so in no class and not in the bill:"
                f" {named}."
            )
        if not self.operations:
            yield (
                f"Cloudflare's analytics count no operation of the bucket {self.bucket!r} from"
                f" {self.first_day} to {self.last_day}: is that its name, and this its account?"
            )
        if self.bandwidth is None:
            yield "Cloudflare's analytics gave no bandwidth of this bucket."


def _total(operations: Iterable[Operation]) -> int:
    return sum(each.requests for each in operations)


def ask_analytics(
    config: Config, *, now: datetime, control: Control | None = None, api_url: str = API_URL
) -> Analytics:
    """Return the last 30 whole days (UTC) before `now` of the configured bucket.

    Raises: ConfigError where a setting is missing, CloudflareError where there is no whole answer,
    Stopped.
    """
    bucket = _bucket_name(config)
    until = datetime.combine(now.astimezone(UTC), time(), tzinfo=UTC)
    question = AnalyticsQuery(
        api=Cloudflare(token=config.api_token, api_url=api_url, control=control or Control()),
        account_id=_account_id(config),
        bucket=bucket,
        since=until - timedelta(days=MONTH_DAYS),
        until=until,
    )
    return Analytics(
        bucket=question.bucket,
        first_day=question.since.date(),
        last_day=(until - timedelta(days=1)).date(),
        operations=_operations(question),
        storage=_storage(question),
        bandwidth=_bandwidth(question),
    )


def _account_id(config: Config) -> str:
    if config.account_id.isascii() and config.account_id.isalnum():
        return config.account_id
    hint = "Set R2MAINT['ACCOUNT_ID'], or CLOUDFLARE_ACCOUNT_ID in the environment, to the id on"
    raise ConfigError("There is no account id.", f"{hint} the R2 overview page of the dashboard.")


def _bucket_name(config: Config) -> str:
    if config.bucket.startswith("file:"):
        raise ConfigError(
            "Cloudflare has no analytics of a bucket in a directory.",
            "Leave --analytics out, or set BUCKET to the one on R2.",
        )
    place = config.connection.jurisdiction if config.connection else ""
    return f"{place}_{config.bucket}" if place not in ("", "default") else config.bucket


# Reading rows


def _operations(question: AnalyticsQuery) -> tuple[Operation, ...]:
    counts: dict[tuple[str, str], list[int]] = {}
    dimensions = "actionType actionStatus responseStatusCode"
    for row in question.rows_by_class(OPERATIONS, "sum { requests }", dimensions):
        billed = is_billed(row.number("dimensions", "responseStatusCode"), row.text("actionStatus"))
        count = counts.setdefault((row.text("actionType"), row.storage_class), [0, 0])
        count[not billed] += row.number("sum", "requests")
    most_first = sorted(counts.items(), key=lambda item: (-sum(item[1]), item[0]))
    return tuple(
        Operation(name=name, storage_class=storage_class, requests=billed, unbilled=unbilled)
        for (name, storage_class), (billed, unbilled) in most_first
    )


def _storage(question: AnalyticsQuery) -> tuple[StoredDay, ...]:
    peaks: dict[date, dict[str, int]] = {}
    objects: dict[datetime, int] = {}
    fields = "max { payloadSize objectCount }"
    for row in question.rows_by_class(STORAGE, fields, "datetime"):
        of_day = peaks.setdefault(row.moment.date(), {})
        size = row.number("max", "payloadSize")
        of_day[row.storage_class] = max(of_day.get(row.storage_class, 0), size)
        at_once = objects.get(row.moment, 0) + row.number("max", "objectCount")
        objects[row.moment] = at_once
    most: dict[date, int] = {}
    for moment, count in objects.items():
        most[moment.date()] = max(most.get(moment.date(), 0), count)
    return tuple(StoredDay(day=day, bytes=peaks[day], objects=most[day]) for day in sorted(peaks))


def _bandwidth(question: AnalyticsQuery) -> Bandwidth | None:
    fields = "sum { bytesUpload bytesDownload } dimensions { date }"
    try:
        rows = list(question.rows(BANDWIDTH, fields))
    except CloudflareRefusal:
        # The newest of the datasets; the bill does without it. The token was good for the others.
        return None
    return Bandwidth(
        uploaded_bytes=sum(row.number("sum", "bytesUpload") for row in rows),
        downloaded_bytes=sum(row.number("sum", "bytesDownload") for row in rows),
    )
