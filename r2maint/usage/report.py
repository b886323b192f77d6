"""A usage report as the tables and charts that text and html show."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from r2maint.cloudflare.analytics import Analytics
from r2maint.rendering import Chart, ReportColumn, Section, Unit, format_bytes
from r2maint.usage.attribute import Large
from r2maint.usage.duplicates import DuplicateSet
from r2maint.usage.forecast import COVERAGE, SNIFFED, CrossingForecast, Forecast, Growth, Outlook
from r2maint.usage.result import UsageReport

COUNTS = (
    ReportColumn("objects", unit=Unit.COUNT),
    ReportColumn("bytes", "Size", Unit.BYTES),
    ReportColumn("usd_per_month", "USD a month", Unit.USD),
)


def sections_of(result: UsageReport) -> tuple[Section, ...]:
    """Return everything there is to show, in the order of a reader's questions."""
    return (
        *_groups(result),
        _history(result),
        _largest(result),
        _duplicates(result),
        _cost(result),
        *(_analytics(result.analytics, result.month.is_part) if result.analytics else ()),
        _savings(result),
        *over_time(result.outlook),
        _lines("assumed", result.cost.assumptions),
        *_comparison(result),
        _lines("over the limit", (crossing.message for crossing in result.crossed)),
    )


def _groups(result: UsageReport) -> Iterator[Section]:
    for by, groups in result.groups.items():
        columns = (ReportColumn("name", by.value.capitalize()), *COUNTS)
        rows = [group.as_dict() for group in groups]
        yield Section(columns=columns, rows=rows, drawn="bytes")


def _history(result: UsageReport) -> Section:
    """Return the bytes of each day; without rows while no snapshots are kept."""
    return Section(
        title="Over time",
        columns=(ReportColumn("day"), COUNTS[1]),
        rows=result.extra.get("history", ()),
        drawn="bytes",
        chart=Chart.LINE,
        in_text=False,
    )


def _largest(result: UsageReport) -> Section:
    columns = (
        ReportColumn("key", "Largest"),
        ReportColumn("bytes", "Size", Unit.BYTES),
        ReportColumn("owner", "Named by"),
    )
    rows = [
        {"key": large.key, "bytes": large.bytes, "owner": _owner(large)} for large in result.largest
    ]
    return Section(columns=columns, rows=rows)


def _owner(large: Large) -> str:
    """Return the first cell that names an object, and how many others do."""
    if not large.owners:
        return ""
    first, others = large.owners[0], large.references - 1
    told = f"{first.column.model} {first.pk} {first.column.field}"
    return f"{told} and {others:,} more" if others else told


def _duplicates(result: UsageReport) -> Section:
    return Section(
        title="Stored more than once",
        lead="One of each set would do. What references name can go only when they name another.",
        columns=(
            ReportColumn("key"),
            ReportColumn("references", unit=Unit.COUNT),
            ReportColumn("storage_class"),
            ReportColumn("objects", "Copies", Unit.COUNT),
            ReportColumn("object_bytes", "Each", Unit.BYTES),
            ReportColumn("duplicate_bytes", "Could go", Unit.BYTES),
        ),
        rows=[row for each in result.duplicates.largest for row in _copies(each)],
    )


def _copies(found: DuplicateSet) -> Iterator[Mapping[str, object]]:
    """Yield the copies of a set; what is told of the set is in the row of the first."""
    told = {
        "objects": found.objects,
        "object_bytes": found.object_bytes,
        "duplicate_bytes": found.duplicate_bytes,
    }
    for at, copy in enumerate(found.copies):
        yield {
            "key": copy.key,
            "references": copy.references,
            "storage_class": copy.storage_class if found.infrequent_objects else "",
            **(dict.fromkeys(told, "") if at else told),
        }


def _cost(result: UsageReport) -> Section:
    cost = result.cost.as_dict()
    names = ("storage_usd", "class_a_usd", "class_b_usd", "retrieval_usd", "total_usd")
    titles = ("Storage", "Class A", "Class B", "Retrieval", "Total")
    rows = [{"cost": title, "usd": cost[name]} for title, name in zip(titles, names, strict=True)]
    columns = (ReportColumn("cost"), ReportColumn("usd", "USD a month", Unit.USD))
    return Section(columns=columns, rows=rows, drawn="usd")


def _analytics(analytics: Analytics, is_part: bool) -> Iterator[Section]:
    days = f"{analytics.first_day} to {analytics.last_day} (UTC)"
    if is_part:
        days = f"of the whole bucket, {days}"
    yield Section(
        title=f"Operations, {days}, by Cloudflare's analytics",
        columns=(
            ReportColumn("name", "Operation"),
            ReportColumn("storage_class", "Storage class"),
            ReportColumn("class", "Billed as"),
            ReportColumn("requests", "Requests", Unit.COUNT),
            ReportColumn("unbilled", "Not billed", Unit.COUNT),
        ),
        rows=[each.as_dict() for each in analytics.operations],
        drawn="requests",
    )
    yield Section(
        title=f"Storage by day, {days}, by Cloudflare's analytics",
        columns=(ReportColumn("day"), COUNTS[1]),
        rows=[each.as_dict() for each in analytics.storage],
        drawn="bytes",
        chart=Chart.LINE,
        in_text=False,
    )
    yield Section(
        title=f"Storage and bandwidth, {days}, by Cloudflare's analytics",
        columns=(ReportColumn("what", "What"), ReportColumn("bytes", "Size", Unit.BYTES)),
        rows=[{"what": what, "bytes": size} for what, size in analytics.sizes()],
    )


def _comparison(result: UsageReport) -> Iterator[Section]:
    if not result.comparison:
        return
    columns = (
        ReportColumn("provider"),
        ReportColumn("priced"),
        ReportColumn("storage_usd", "Storage", Unit.USD),
        ReportColumn("operations_usd", "Requests", Unit.USD),
        ReportColumn("egress_usd", "Egress", Unit.USD),
        ReportColumn("total_usd", "Total", Unit.USD),
    )
    rows = [
        {"provider": offer.provider, "priced": priced, **amounts.as_dict()}
        for offer in result.comparison
        for priced, amounts in (
            ("by its rules", offer.by_rules),
            ("list price × quantity", offer.at_list_price),
        )
    ]
    yield Section(title="Compared with Amazon S3, a month", columns=columns, rows=rows)
    yield Section(
        title="Compared with Amazon S3, by each one's rules",
        columns=(columns[0], columns[-1]),
        rows=[
            {"provider": offer.provider, **offer.by_rules.as_dict()} for offer in result.comparison
        ],
        drawn="total_usd",
        in_text=False,
    )
    yield _lines(
        "assumed in the comparison",
        [f"{offer.provider}: {line}" for offer in result.comparison for line in offer.assumptions],
    )


def _savings(result: UsageReport) -> Section:
    return Section(
        columns=(
            ReportColumn("what", "Without"),
            COUNTS[1],
            ReportColumn("usd_per_month", "Saves a month", Unit.USD),
            ReportColumn("how", "By"),
        ),
        rows=[
            saving.as_dict() | {"what": saving.what.capitalize()}
            for saving in result.savings
            if saving.bytes
        ],
    )


def _lines(title: str, lines: Iterable[str]) -> Section:
    return Section(columns=(ReportColumn(title),), rows=[{title: line} for line in lines])


_MOST_GROUPS = 10
"""Of a listing; json has all."""


def over_time(outlook: Outlook) -> Iterator[Section]:
    """Yield what there is to say about other days than today."""
    for listing, groups in outlook.growth.items():
        moved = [group for group in groups if group.bytes != group.bytes_before]
        if moved:
            yield _growth(listing, moved[:_MOST_GROUPS])
    if outlook.forecast.horizons:
        yield _sizes(outlook.forecast)
    if outlook.forecast.crossings:
        yield _crossings(outlook.forecast)


def _growth(listing: str, groups: list[Growth]) -> Section:
    by, _, way = listing.partition("/")
    told = f"{by.capitalize()}, by first bytes," if way == SNIFFED else by.capitalize()
    columns = (
        ReportColumn("name", f"{told} that changed"),
        ReportColumn("bytes", "Size", Unit.BYTES),
        ReportColumn("bytes_per_day", "A day", Unit.BYTES),
        ReportColumn("since"),
    )
    return Section(columns=columns, rows=[group.as_dict() for group in groups])


def _sizes(told: Forecast) -> Section:
    rows = [
        {
            "ahead": f"in {each.days} days",
            "day": each.day.isoformat(),
            **{f"{name}_bytes": size for name, size in each.bytes._asdict().items()},
            **{f"{name}_usd": amount for name, amount in each.usd._asdict().items()},
        }
        for each in told.horizons
    ]
    columns = (
        ReportColumn("ahead", "Forecast"),
        ReportColumn("day"),
        ReportColumn("expected_bytes", "Size", Unit.BYTES),
        ReportColumn("low_bytes", "From", Unit.BYTES),
        ReportColumn("high_bytes", "To", Unit.BYTES),
        ReportColumn("expected_usd", "USD a month", Unit.USD),
        ReportColumn("low_usd", "From", Unit.USD),
        ReportColumn("high_usd", "To", Unit.USD),
    )
    lead = (
        f"From {told.snapshots} days of snapshots since {told.since}, {format_bytes(told.per_day)}"
        f" a day; {COVERAGE:.0%} of cases lie between from and to."
    )
    return Section(lead=lead, columns=columns, rows=rows)


def _crossings(told: Forecast) -> Section:
    columns = (
        ReportColumn("limit", "Crossed"),
        ReportColumn("bytes", "Over", Unit.BYTES),
        ReportColumn("expected"),
        ReportColumn("earliest", "10% likely by"),
        ReportColumn("latest", "90% likely by"),
    )
    return Section(columns=columns, rows=[_crossing(each, told) for each in told.crossings])


def _crossing(crossing: CrossingForecast, told: Forecast) -> dict[str, object]:
    row = crossing.as_dict()
    row["limit"] = crossing.limit.name.capitalize()
    if crossing.state == "crossed":
        row["expected"] = "already"
    elif crossing.expected is None:
        row["expected"] = f"not by {told.until}"
    return row
