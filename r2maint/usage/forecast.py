"""How a bucket grew, where it is going, and when it crosses a limit. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from r2maint.pricing import INFREQUENT_ACCESS, MONTH_DAYS, STANDARD, average
from r2maint.rendering import format_count
from r2maint.usage.daily_totals import MAX_GROUPS, Day, Groups
from r2maint.usage.time_series import Course, Prediction, fit

WINDOW = timedelta(days=180)
"""What is older tells less about tomorrow than it costs to believe it."""
GROWTH_WINDOW = timedelta(days=90)
HORIZONS = (30, 90, 365)
"""Days ahead."""
MIN_DAYS = 7
REACH = 5
"""A forecast reaches so many times as far as the history it stands on."""
COVERAGE = 0.8
SNIFFED = "sniffed"
"""After the "/" of a listing of types that were told by the first bytes."""
METHOD = (
    "Random walk with drift seen through noise, fitted to daily peaks of up to 180 days and"
    " averaged over its ratio of lasting to passing changes by restricted likelihood; missing days"
    " only let time pass. Weekdays are accounted for where daily changes show them; rare jumps are"
    " taken as events that do not come again. Intervals hold the truth in 8 of 10 cases. A bill is"
    " of the 30 daily peaks that end with its day."
)

_CHANCES = (0.5, (1 - COVERAGE) / 2, (1 + COVERAGE) / 2)
"""Of being below: the expected, the low and the high end."""

Pricing = Callable[[Mapping[str, int]], Decimal]
"""A month's bill of bytes by storage class."""


class Span(NamedTuple):
    """Three bytes, or three amounts: the middle, and what holds 8 of 10 cases."""

    expected: Any
    low: Any
    high: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Horizon:
    """What is expected of one coming day."""

    days: int
    day: date
    bytes: Span
    usd: Span
    """The bill of the 30 days that end with it, with today's operations and mix of storage
    classes."""


class Limit(NamedTuple):
    """Something that growth may cross."""

    name: str
    bytes: int
    """More than these are over it, mixed by storage class as today; -1 where none at all is too
    much."""
    of_month: Callable[[Mapping[str, int]], bool] | None = None
    """Of what a bill is about: tells whether the average of 30 daily peaks, by storage class, is
    over it. None for a limit of what is stored on a day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossingForecast:
    """When a limit is crossed: the first days at which that is 10%, 50% and 90% likely."""

    limit: Limit
    state: str
    """ "crossed", "expected", "possible" (10% likely, but not 50%) or "not in sight"."""
    expected: date | None = None
    earliest: date | None = None
    latest: date | None = None
    """None where that is later than the forecast reaches."""

    def as_dict(self) -> dict[str, Any]:
        days = {name: getattr(self, name) for name in ("expected", "earliest", "latest")}
        return {
            "limit": self.limit.name,
            "bytes": self.limit.bytes if self.limit.bytes >= 0 else None,
            "state": self.state,
            **{name: day and day.isoformat() for name, day in days.items()},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What is to be expected of the bucket's size, or why that cannot be told."""

    snapshots: int = 0
    """Days it stands on."""
    since: date | None = None
    until: date | None = None
    """The last day it reaches."""
    reason: str = ""
    """Why there is none, in a sentence."""
    per_day: int = 0
    """Bytes."""
    weekly: bool = False
    jumps: tuple[date, ...] = ()
    horizons: tuple[Horizon, ...] = ()
    crossings: tuple[CrossingForecast, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return {
            "method": METHOD,
            "interval_percent": round(COVERAGE * 100),
            "reason": self.reason or None,
            "snapshots": self.snapshots,
            "since": self.since and self.since.isoformat(),
            "until": self.until and self.until.isoformat(),
            "bytes_per_day": None if self.reason else self.per_day,
            "weekly": self.weekly,
            "jumps": [day.isoformat() for day in self.jumps],
            "bytes": {str(each.days): _span(each, each.bytes) for each in self.horizons},
            "usd": {str(each.days): _span(each, each.usd) for each in self.horizons},
            "crossings": [each.as_dict() for each in self.crossings],
        }


def _span(horizon: Horizon, span: Span) -> dict[str, Any]:
    return {"day": horizon.day.isoformat(), **span._asdict()}


class Growth(NamedTuple):
    """How one group grew."""

    name: str
    bytes: int
    """On the last day."""
    bytes_before: int
    """On the first day."""
    since: date
    until: date

    @property
    def bytes_per_day(self) -> int:
        return round((self.bytes - self.bytes_before) / (self.until - self.since).days)

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "bytes": self.bytes,
            "bytes_before": self.bytes_before,
            "since": self.since.isoformat(),
            "bytes_per_day": self.bytes_per_day,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """Everything a report says about other days than today."""

    history: tuple[Day, ...] = ()
    growth: Mapping[str, tuple[Growth, ...]] = field(default_factory=dict)
    """Listing -> its groups, those that changed most first."""
    forecast: Forecast = field(default_factory=Forecast)
    notes: tuple[str, ...] = ()

    @property
    def extra(self) -> dict[str, Any]:
        """The top-level keys of the document."""
        return {
            "history": [day.as_dict() for day in self.history],
            "growth": {
                name.partition("/")[0]: [each.as_dict() for each in groups]
                for name, groups in self.growth.items()
            },
            "forecast": self.forecast.as_dict(),
        }


# Growth

_End = tuple[date, Mapping[str, int]]


def grown(
    days: Iterable[tuple[date, Groups]], listings: Sequence[str]
) -> dict[str, tuple[Growth, ...]]:
    """Return for each listing how its groups grew from the first to the last day that has it.

    A group that one of the two days does not name had no bytes on it, unless the day holds as many
    groups as are kept: then nobody can tell, and the group is left out.
    """
    ends: dict[str, tuple[_End, _End]] = {}
    for day, groups in days:
        for name in listings:
            if name in groups:
                last = (day, groups[name])
                ends[name] = (ends[name][0], last) if name in ends else (last, last)
    return {
        name: tuple(sorted(_grown(*pair), key=lambda each: (-abs(each.bytes_per_day), each.name)))
        for name, pair in ends.items()
        if pair[0][0] < pair[1][0]
    }


def _grown(first: _End, last: _End) -> Iterator[Growth]:
    (since, before), (until, after) = first, last
    for name in before.keys() | after.keys():
        known = all(name in each or len(each) < MAX_GROUPS for each in (before, after))
        if known:
            yield Growth(name, after.get(name, 0), before.get(name, 0), since, until)


# Forecast


def forecast(
    history: Sequence[Day],
    *,
    month: Sequence[Mapping[str, int]],
    horizons: Sequence[int] = HORIZONS,
    limits: Sequence[Limit] = (),
    pricing: Pricing,
) -> Forecast:
    """Return what is to be expected after the last day of a history, in the order of its days.

    `month` has the bytes by storage class of the 30 days that end with the last day: what bills of
    the next 29 days are still about.
    """
    points = [(day.day.toordinal(), float(day.bytes)) for day in history]
    if len(points) < MIN_DAYS:
        return Forecast(snapshots=len(points), reason=_too_few(len(points)))
    course = fit(points, coverage=COVERAGE)
    last, reach = history[-1], REACH * (points[-1][0] - points[0][0])
    ahead = range(last.day.toordinal() + 1, last.day.toordinal() + 1 + reach)
    coming = _Coming(
        last=last,
        sizes=[course.on(day) for day in ahead],
        month=average(month),
        months=[list(_months(course, last, month, ahead, chance)) for chance in _CHANCES],
    )
    return Forecast(
        snapshots=len(points),
        since=history[0].day,
        until=last.day + timedelta(days=reach),
        per_day=round(course.per_day),
        weekly=course.weekly,
        jumps=tuple(map(date.fromordinal, course.jumps)),
        horizons=tuple(coming.horizon(days, pricing) for days in horizons if days <= reach),
        crossings=tuple(map(coming.crossing, limits)),
    )


def _too_few(days: int) -> str:
    return (
        f"It cannot be told yet: there {'is' if days == 1 else 'are'}"
        f" {format_count(days, 'day')} of snapshots, and a forecast needs {MIN_DAYS}. Each"
        " usage_report of the whole bucket keeps one."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Coming:
    """The days after the last one, and the months that end with each."""

    last: Day
    sizes: Sequence[Prediction]
    month: Mapping[str, int]
    """The average of the 30 days that end with the last one, by storage class."""
    months: Sequence[Sequence[Mapping[str, int]]]
    """The same of each coming day, at each of `_CHANCES`."""

    def horizon(self, days: int, pricing: Pricing) -> Horizon:
        size = self.sizes[days - 1]
        return Horizon(
            days=days,
            day=self._day(days),
            bytes=Span(*(max(0, round(size.quantile(chance))) for chance in _CHANCES)),
            usd=Span(*(pricing(months[days - 1]) for months in self.months)),
        )

    def crossing(self, limit: Limit) -> CrossingForecast:
        is_over = limit.of_month
        if is_over(self.month) if is_over else self.last.bytes > limit.bytes:
            return CrossingForecast(limit=limit, state="crossed")
        expected, latest, earliest = map(self._first, self._over(limit))
        state = "expected" if expected else "possible" if earliest else "not in sight"
        return CrossingForecast(
            limit=limit, state=state, earliest=earliest, expected=expected, latest=latest
        )

    def _over(self, limit: Limit) -> Iterator[Iterable[bool]]:
        """Yield for each of `_CHANCES` whether being under the limit is no likelier, day by day."""
        if limit.of_month:
            yield from (map(limit.of_month, months) for months in self.months)
            return
        above = [size.chance_above(limit.bytes) for size in self.sizes]
        for chance in _CHANCES:
            yield [each >= 1 - chance for each in above]

    def _first(self, is_over: Iterable[bool]) -> date | None:
        return next((self._day(days) for days, over in enumerate(is_over, 1) if over), None)

    def _day(self, days: int) -> date:
        return self.last.day + timedelta(days=days)


def _months(
    course: Course, last: Day, month: Sequence[Mapping[str, int]], ahead: range, chance: float
) -> Iterator[dict[str, int]]:
    """Yield the average of the 30 days that end with each coming day, all at one likelihood."""
    days = deque(month, maxlen=MONTH_DAYS)
    for day in ahead:
        size = course.on(day, mean_of=MONTH_DAYS).quantile(chance)
        days.append(split(max(0, round(size)), last))
        yield average(days)


# Sizes, classes and money


def split(size: int, like: Day) -> dict[str, int]:
    """Return bytes by storage class, mixed as on a day; all Standard where it had none."""
    infrequent = size * like.infrequent_access // like.bytes if like.bytes else 0
    return {STANDARD: size - infrequent, INFREQUENT_ACCESS: infrequent}


def size_at_free_tier(free_bytes: int, like: Day) -> int | None:
    """Return how many bytes have `free_bytes` of Standard among them; None when none ever do."""
    if not like.bytes:
        return free_bytes
    return free_bytes * like.bytes // like.standard if like.standard else None


def size_at_budget(budget: Decimal, like: Day, pricing: Pricing) -> int | None:
    """Return the most bytes whose bill is within the budget; -1 when no size's is.

    None when storage is so cheap that every size's is.
    """
    low, high = -1, 10**18
    if pricing(split(high, like)) <= budget:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if pricing(split(middle, like)) <= budget else (low, middle)
    return low
