"""Keep today's report as a snapshot, and look from all snapshots at what comes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import partial

from r2maint.database.connections import database_option
from r2maint.errors import DatabaseError
from r2maint.journal import journal
from r2maint.pricing import GB, INFREQUENT_ACCESS, MONTH_DAYS, STANDARD, priced_as
from r2maint.references.scope import Scope
from r2maint.rendering.as_json import encode
from r2maint.usage.daily_totals import Day, Snapshots, daily_peaks, snapshots_exist
from r2maint.usage.forecast import (
    GROWTH_WINDOW,
    HORIZONS,
    REACH,
    SNIFFED,
    WINDOW,
    Forecast,
    Limit,
    Outlook,
    Pricing,
    forecast,
    grown,
    size_at_budget,
    size_at_free_tier,
)
from r2maint.usage.groups import Count, GroupBy
from r2maint.usage.result import UsageOptions, UsageReport
from r2maint.usage.thresholds import Thresholds

_NOT_KEPT = "No snapshot was kept, so that there is no history and no forecast."


@dataclass(frozen=True, slots=True, kw_only=True)
class Looking:
    """What a look at other days needs to know beside the report."""

    options: UsageOptions
    scope: Scope
    at: datetime
    """Now, by the bucket's clock."""
    horizons: Sequence[int] = HORIZONS


def look_over_time(measured: UsageReport, bucket: str, looking: Looking) -> UsageReport:
    """Return the report with its outlook, after keeping it as the snapshot of its day.

    Only a report of the whole bucket is kept. Where none can be kept, the notes say so: nothing but
    history, growth and forecast depends on it.
    """
    outlook = _outlook(measured, bucket, looking)
    return replace(measured, outlook=outlook, notes=(*measured.notes, *outlook.notes))


def known_peaks(bucket: str, scope: Scope, *, until: date) -> dict[date, dict[str, int]]:
    """Return what earlier reports know of a bill's month: each day's peaks by storage class.

    Nothing for a part of the bucket, and nothing where snapshots cannot be read.
    """
    if scope.is_part:
        return {}
    try:
        return daily_peaks(bucket, MONTH_DAYS, until=until)
    except DatabaseError:
        return {}


def _outlook(measured: UsageReport, bucket: str, looking: Looking) -> Outlook:
    if looking.scope.is_part:
        reason = "The report is of a part of the bucket; snapshots are of the whole."
        return Outlook(forecast=Forecast(reason=reason))
    try:
        if not snapshots_exist():
            option = database_option(journal.home())
            return _without(f"Run manage.py migrate r2maint{option}.")
        return _looked(measured, Snapshots(bucket), looking)
    except DatabaseError as error:
        return _without(str(error))


def _without(why: str) -> Outlook:
    return Outlook(forecast=Forecast(reason=_NOT_KEPT), notes=(f"{_NOT_KEPT} {why}",))


def _looked(measured: UsageReport, snapshots: Snapshots, looking: Looking) -> Outlook:
    today = looking.at.date()
    listings = {by: listing_name(by, looking.options) for by in measured.whole_groups}
    seen = Day(
        day=today,
        **_by_class(measured.total),
        summary=json.loads(encode(measured.summary())),
        groups={listings[by]: groups for by, groups in measured.whole_groups.items()},
    )
    snapshots.keep(seen, looking.at)
    history = snapshots.read(today - WINDOW, today)
    pricing = partial(measured.month.priced, prices=measured.prices)
    told = forecast(
        history,
        month=measured.month.days,
        horizons=looking.horizons,
        limits=tuple(_limits(history[-1], measured, looking.options.limits, pricing)),
        pricing=pricing,
    )
    return Outlook(
        history=history,
        growth=grown(snapshots.iter_groups(today - GROWTH_WINDOW, today), tuple(listings.values())),
        forecast=told,
        notes=tuple(_notes(told, looking)),
    )


def listing_name(by: GroupBy, options: UsageOptions) -> str:
    """Return what a listing is kept under: groups told in another way are other groups."""
    way = ""
    if by is GroupBy.PREFIX:
        way = f"/{options.depth}"
    elif by is GroupBy.TYPE and options.sniff:
        way = f"/{SNIFFED}"
    return f"{by.value}{way}"


def _by_class(count: Count) -> dict[str, int]:
    sizes = {STANDARD: 0, INFREQUENT_ACCESS: 0}
    for storage_class, size in count.by_class.items():
        sizes[priced_as(storage_class)] += size
    return {"standard": sizes[STANDARD], "infrequent_access": sizes[INFREQUENT_ACCESS]}


def _limits(
    today: Day, measured: UsageReport, limits: Thresholds, pricing: Pricing
) -> Iterator[Limit]:
    free = measured.prices.free.storage * GB
    size = size_at_free_tier(free, today)
    if free and size is not None:
        yield Limit("free tier", size, lambda month: month.get(STANDARD, 0) > free)
    budget = limits.budget
    if budget is not None:
        affordable = size_at_budget(budget, today, pricing)
        if affordable is not None:
            yield Limit("budget", affordable, lambda month: pricing(month) > budget)
    if limits.max_bytes is not None:
        yield Limit("max stored", limits.max_bytes)


def _notes(told: Forecast, looking: Looking) -> Iterator[str]:
    if told.reason:
        yield f"Forecast: {told.reason}"
        return
    missed = [days for days in looking.horizons if days not in {h.days for h in told.horizons}]
    if missed:
        yield (
            f"The forecast reaches to {told.until}, {REACH} times as far as its snapshots go back:"
            f" too few for {', '.join(map(str, missed))} days ahead."
        )
    if told.jumps:
        days = ", ".join(map(str, told.jumps))
        yield f"The forecast takes what came or went on {days} as single events."
