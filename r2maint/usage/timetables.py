"""Growth, forecast and crossings as the tables of a text report."""

from __future__ import annotations

from collections.abc import Iterator

from r2maint.rendering import ReportColumn, Section, Unit, format_bytes
from r2maint.usage.forecast import COVERAGE, SNIFFED, CrossingForecast, Forecast, Growth, Outlook

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
