"""Growth, forecast and crossings as the tables of a text report."""

from __future__ import annotations

from collections.abc import Iterator

from r2maint.rendering import Column, Section, Unit, format_bytes
from r2maint.usage.forecast import COVERAGE, SNIFFED, Crossing, Forecast, Growth, Outlook

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
        Column("name", f"{told} that changed"),
        Column("bytes", "Size", Unit.BYTES),
        Column("bytes_per_day", "A day", Unit.BYTES),
        Column("since"),
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
        Column("ahead", "Forecast"),
        Column("day"),
        Column("expected_bytes", "Size", Unit.BYTES),
        Column("low_bytes", "From", Unit.BYTES),
        Column("high_bytes", "To", Unit.BYTES),
        Column("expected_usd", "USD a month", Unit.USD),
        Column("low_usd", "From", Unit.USD),
        Column("high_usd", "To", Unit.USD),
    )
    lead = (
        f"From {told.snapshots} days of snapshots since {told.since}, {format_bytes(told.per_day)}"
        f" a day; {COVERAGE:.0%} of cases lie between from and to."
    )
    return Section(lead=lead, columns=columns, rows=rows)


def _crossings(told: Forecast) -> Section:
    columns = (
        Column("limit", "Crossed"),
        Column("bytes", "Over", Unit.BYTES),
        Column("expected"),
        Column("earliest", "10% likely by"),
        Column("latest", "90% likely by"),
    )
    return Section(columns=columns, rows=[_crossing(each, told) for each in told.crossings])


def _crossing(crossing: Crossing, told: Forecast) -> dict[str, object]:
    row = crossing.as_dict()
    row["limit"] = crossing.limit.name.capitalize()
    if crossing.state == "crossed":
        row["expected"] = "already"
    elif crossing.expected is None:
        row["expected"] = f"not by {told.until}"
    return row
