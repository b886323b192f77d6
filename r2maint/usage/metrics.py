"""A usage report as gauges, in base units: bytes, dollars, seconds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from r2maint.rendering import Metric
from r2maint.usage.groups import OTHER

MAX_SERIES = 50
"""Groups of each kind that are series of their own; every one costs the monitoring system memory
for ever. What follows the largest is "(other)"."""

_SUMMARY = {
    "objects": ("objects", "Objects in the bucket."),
    "bytes": ("bytes", "Bytes in the bucket."),
    "referenced_bytes": ("referenced_bytes", "Bytes of objects that a model field names."),
    "orphan_bytes": ("orphan_bytes", "Bytes of objects that no model field names."),
    "quarantined_bytes": ("quarantined_bytes", "Bytes a purge put aside."),
    "duplicate_bytes": ("duplicate_bytes", "Bytes of copies beyond the first."),
    "missing_references": ("missing_references", "References that name an absent object."),
    "pending_uploads": ("pending_uploads", "Multipart uploads begun and not ended."),
}
_PARTS = ("storage", "class_a", "class_b", "retrieval", "total")
_WAYS = ("upload", "download")
_GROUPED = {
    "bytes": ("bytes", "Bytes of each group, the largest by themselves."),
    "objects": ("objects", "Objects of each group."),
    "usd_per_month": ("dollars", "Share of the month's storage bill."),
}

Document = Mapping[str, Any]


def metrics_of(
    bucket: str, summary: Document, extra: Document, *, limits: Mapping[str, bool]
) -> Iterator[Metric]:
    """Yield the gauges of a report, from the summary and the further keys of its document.

    `limits` tells of each limit that was set whether it is crossed. What is unknown (None) has no
    sample. The last gauge is the time: alert on its age, as a report that could not be made leaves
    the one before in place.
    """
    here = {"bucket": bucket}
    for name, (suffix, help) in _SUMMARY.items():
        yield from _gauge(f"bucket_{suffix}", help, [(here, summary.get(name))])
    cost = extra["cost"]
    parts = [({**here, "part": part}, cost[f"{part}_usd"]) for part in _PARTS]
    yield from _gauge("bill_dollars", "The month's bill in US dollars, and its parts.", parts)
    yield from _groups(here, extra["groups"])
    savings = {saving["what"]: saving for saving in extra["savings"]}
    for name, unit in (("bytes", "bytes"), ("usd_per_month", "dollars")):
        saved = [({**here, "what": what}, each[name]) for what, each in savings.items()]
        yield from _gauge(f"saving_{unit}", "What the month's bill could be without.", saved)
    crossed = [({**here, "limit": name}, int(is_over)) for name, is_over in limits.items()]
    yield from _gauge(
        "limit_crossed", "1 for a limit that is crossed, 0 for one that holds.", crossed
    )
    yield from _operations(here, extra["analytics"])
    yield from _forecast(here, extra["forecast"], extra["history"])
    now = datetime.now(tz=UTC).timestamp()
    told_at = "When this was measured, in seconds since 1970."
    yield from _gauge("report_timestamp_seconds", told_at, [(here, round(now, 3))])


def _operations(here: Mapping[str, str], analytics: Document | None) -> Iterator[Metric]:
    if analytics is None:
        return
    requests = [
        ({**here, **_labels_of(each), "billed": billed}, each[count])
        for each in analytics["operations"]["by_type"]
        for billed, count in (("yes", "requests"), ("no", "unbilled"))
    ]
    told = "Requests of the last 30 whole days, by Cloudflare's analytics."
    yield from _gauge("operations", told, requests)
    moved = analytics["bandwidth"] or {}
    transfers = [({**here, "direction": way}, moved.get(f"{way}ed_bytes")) for way in _WAYS]
    told = "Bytes of the same days, transfers under 100 KiB left out."
    yield from _gauge("bandwidth_bytes", told, transfers)


def _labels_of(operation: Document) -> dict[str, str]:
    return {
        "operation": operation["name"],
        "class": operation["class"],
        "storage_class": operation["storage_class"],
    }


def _forecast(
    here: Mapping[str, str], told: Document, history: Sequence[Document]
) -> Iterator[Metric]:
    for unit, key in (("bytes", "bytes"), ("dollars", "usd")):
        samples = [
            ({**here, "days": days, "bound": bound}, span[bound])
            for days, span in told[key].items()
            for bound in ("expected", "low", "high")
        ]
        help = f"In so many days, in {unit}; low and high hold 8 of 10 cases."
        yield from _gauge(f"forecast_{unit}", help, samples)
    days = [
        ({**here, "limit": each["limit"].replace(" ", "-")}, _crossed_at(each, history))
        for each in told["crossings"]
    ]
    yield from _gauge(
        "forecast_crossing_timestamp_seconds",
        "The day on which a limit is as likely as not crossed, in seconds since 1970; the day of"
        " the report where it is crossed already.",
        days,
    )


def _crossed_at(crossing: Document, history: Sequence[Document]) -> float | None:
    day = history[-1]["day"] if crossing["state"] == "crossed" else crossing["expected"]
    if day is None:
        return None
    return datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()


def _gauge(
    name: str, help: str, samples: Iterable[tuple[Mapping[str, str], Any]]
) -> Iterator[Metric]:
    known = tuple((labels, _number(value)) for labels, value in samples if value is not None)
    if known:
        yield Metric(name=f"r2maint_{name}", help=help, samples=known)


def _number(value: Any) -> int | float | Decimal:
    return Decimal(value) if isinstance(value, str) else value


def _groups(here: Mapping[str, str], groups: Mapping[str, list[Document]]) -> Iterator[Metric]:
    listings = {by: _largest(found) for by, found in groups.items()}
    for name, (unit, help) in _GROUPED.items():
        samples = [
            ({**here, "by": by, "name": group}, counts[name])
            for by, found in listings.items()
            for group, counts in found.items()
        ]
        yield from _gauge(f"group_{unit}", help, samples)


def _largest(groups: list[Document]) -> dict[str, dict[str, Any]]:
    """Return what is counted of each group by its name, all beyond MAX_SERIES together."""
    largest = sorted(groups, key=lambda group: (group["name"] == OTHER, -group["bytes"]))
    found: dict[str, dict[str, Any]] = {}
    for at, group in enumerate(largest):
        name = group["name"] if at < MAX_SERIES else OTHER
        counted = found.setdefault(name, dict.fromkeys(_GROUPED, 0))
        for each in _GROUPED:
            counted[each] += _number(group[each])
    return found
