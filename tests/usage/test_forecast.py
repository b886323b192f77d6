"""Where sizes go: intervals that hold the truth as often as they say, and limits they cross."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from functools import cache
from math import isfinite
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2maint.pricing import GB, INFREQUENT_ACCESS, STANDARD, average, bill, days_of_month, month_of
from r2maint.usage.daily_totals import MAX_GROUPS, Day
from r2maint.usage.forecast import (
    CrossingForecast,
    Limit,
    forecast,
    grown,
    size_at_budget,
    size_at_free_tier,
    split,
)
from r2maint.usage.time_series import fit
from tests.usage.growing_sizes import PROCESSES, Trials, coverage, try_out, width_ratio

START = date(2026, 8, 1)


@cache
def trials(name: str) -> Trials:
    return try_out(name, seeds=200)


@pytest.mark.parametrize("ahead", [30, 90])
@pytest.mark.parametrize("name", PROCESSES)
def test_an_80_percent_interval_holds_the_truth_in_70_to_90_percent(name, ahead):
    results = trials(name)[ahead]
    held, ratio = coverage(results), width_ratio(name, ahead, results)
    figures = f"holds {held:.1%}, {ratio:.2f} times as wide as the oracle's"
    assert 0.7 <= held <= 0.9, figures
    assert ratio <= 2, figures


@pytest.mark.parametrize("ahead", [30, 90])
@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize("factor", [0.5, 2])
def test_intervals_of_half_or_twice_the_width_would_be_noticed(name, ahead, factor):
    assert not 0.7 <= coverage(trials(name)[ahead], factor) <= 0.9


# What the series shows


def test_a_rare_jump_is_no_growth():
    sizes = [10 * GB + 5 * GB * (day >= 40) + day % 3 * GB / 100 for day in range(90)]
    course = fit(list(enumerate(sizes)))
    assert course.jumps == (40,)
    assert abs(course.per_day) < GB / 500


def test_what_jumps_often_grows():
    sizes = [10 * GB + day // 10 * GB + day % 3 * GB / 100 for day in range(90)]
    course = fit(list(enumerate(sizes)))
    assert course.jumps == ()
    assert GB / 20 < course.per_day < GB / 5


def test_growth_on_one_weekday_is_not_taken_for_noise():
    sizes = [10 * GB + (day + 4) // 7 * GB for day in range(90)]
    coming = fit(list(enumerate(sizes))).on(89 + 70)
    assert coming.quantile(0.9) - coming.quantile(0.1) < GB
    assert coming.quantile(0.1) < sizes[-1] + 10 * GB < coming.quantile(0.9)


def test_reports_on_workdays_alone_are_enough():
    points = [(day, day * GB + day % 5 * GB / 10) for day in range(90) if day % 7 < 5]
    coming = fit(points).on(119)
    assert coming.quantile(0.1) < 119 * GB < coming.quantile(0.9)


@pytest.mark.parametrize("size", [0, 1, 10 * GB])
def test_what_never_changed_is_expected_to_stay(size):
    coming = fit([(day, float(size)) for day in range(7)]).on(36)
    assert coming.quantile(0.1) <= size <= coming.quantile(0.9)
    assert coming.quantile(0.9) - coming.quantile(0.1) < size / 100 + 100


def test_the_same_size_a_week_long_does_not_make_the_next_year_certain():
    coming = fit([(day, 10.0 * GB) for day in range(7)]).on(36)
    assert coming.quantile(0.9) > coming.quantile(0.1)


@given(
    count=st.integers(7, 71),
    missing=st.sets(st.integers(7, 70)),
    sizes=st.lists(st.sampled_from([0, 1, GB, GB + 1, 2 * GB, 10**16]), min_size=71, max_size=71),
    steady=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_whatever_was_seen_a_forecast_is_numbers(count, missing, sizes, steady):
    days = [day for day in range(count) if day not in missing]
    points = [(day, float(sizes[day % 7 if steady else day])) for day in days]
    coming = fit(points).on(points[-1][0] + 30)
    low, high = coming.quantile(0.1), coming.quantile(0.9)
    assert isfinite(low)
    assert isfinite(high)
    assert low < high
    assert 0 <= coming.chance_above(GB) <= 1 + 1e-9


# Forecasts


def prices(stored) -> Decimal:
    return bill(month_of(stored)).total_usd


def days(count: int, *, first: int = 5 * GB, a_day: int = GB // 10, every: int = 1) -> list[Day]:
    return [
        Day(
            day=START + timedelta(days=each),
            standard=first + a_day * each + (each % 5 - 2) * GB // 100,
            infrequent_access=0,
        )
        for each in range(0, count, every)
    ]


def month(history, until: date) -> list:
    return days_of_month({each.day: {STANDARD: each.standard} for each in history}, until=until)


def told(history, *limits: Limit, **options):
    seen = month(history, history[-1].day) if history else []
    return forecast(history, month=seen, limits=limits, pricing=prices, **options)


@pytest.mark.parametrize("count", [0, 1, 6])
def test_fewer_than_7_days_tell_nothing_yet(count):
    found = told(days(count), Limit("max stored", GB))
    assert "cannot be told yet" in found.reason
    assert "needs 7" in found.reason
    assert not found.horizons
    assert not found.crossings
    assert found.as_dict()["bytes"] == {}


def test_a_forecast_reaches_5_times_as_far_as_its_history():
    assert [each.days for each in told(days(7)).horizons] == [30]
    assert [each.days for each in told(days(19)).horizons] == [30, 90]
    assert [each.days for each in told(days(74)).horizons] == [30, 90, 365]
    assert [each.days for each in told(days(74), horizons=(7, 366)).horizons] == [7]


def test_the_bill_of_a_forecast_is_that_of_the_30_days_that_end_with_it():
    (horizon,) = told(days(90), horizons=(90,)).horizons
    assert horizon.day == START + timedelta(days=179)
    assert horizon.bytes.low < 22.9 * GB < horizon.bytes.high
    assert abs(horizon.bytes.expected - 22.9 * GB) < GB
    later = days(180)
    assert horizon.usd.expected == prices(average(month(later, later[-1].day)))
    assert horizon.usd.expected < prices({STANDARD: horizon.bytes.expected})
    assert horizon.usd.low <= horizon.usd.expected <= horizon.usd.high
    assert isinstance(horizon.usd.high, Decimal)


def test_nothing_shrinks_below_nothing():
    (horizon,) = told(days(60, first=7 * GB, a_day=-GB // 10), horizons=(90,)).horizons
    assert horizon.bytes == (0, 0, 0)


def test_a_limit_is_crossed_on_a_day_with_its_interval():
    found = told(days(40), Limit("free tier", 10 * GB)).crossings[0]
    assert found.state == "expected"
    assert found.earliest <= found.expected <= found.latest
    assert abs(found.expected - (START + timedelta(days=50))) <= timedelta(days=3)
    assert found.as_dict()["expected"] == found.expected.isoformat()


def over(budget: str) -> Limit:
    return Limit("budget", 0, lambda stored: prices(stored) > Decimal(budget))


def test_a_budget_is_crossed_when_the_bill_of_the_month_is_and_not_when_one_day_is_too_large():
    known = days(60, first=100 * GB, a_day=GB)
    budget = "2.25"
    later = days(200, first=100 * GB, a_day=GB)
    bills = ((each.day, prices(average(month(later, each.day)))) for each in later)
    truth = next(day for day, usd in bills if usd > Decimal(budget))
    found = told(known, over(budget)).crossings[0]
    assert found.state == "expected"
    assert abs(found.expected - truth) <= timedelta(days=1)
    one_day = next(each.day for each in later if prices({STANDARD: each.bytes}) > Decimal(budget))
    assert truth - one_day > timedelta(days=10)


def test_a_bucket_emptied_yesterday_is_over_its_budget_until_the_month_is():
    full = [*days(60, first=100 * GB, a_day=0), Day(day=START + timedelta(days=60), **GONE)]
    assert told(full, over("1.25")).crossings[0].state == "crossed"
    assert told(full, Limit("max stored", GB)).crossings[0].state != "crossed"


GONE = {"standard": 0, "infrequent_access": 0}


def test_noise_of_days_evens_out_in_a_month():
    random = Random(3)
    noisy = [
        Day(day=each.day, standard=each.standard + int(random.gauss(0, GB)), infrequent_access=0)
        for each in days(60, first=100 * GB, a_day=GB // 10)
    ]
    (horizon,) = told(noisy, horizons=(60,)).horizons
    of_a_day = horizon.bytes.high - horizon.bytes.low
    of_a_month = (horizon.usd.high - horizon.usd.low) / Decimal("0.015") * GB
    assert of_a_month < of_a_day * Decimal("0.8")


def test_a_limit_that_is_crossed_already_has_no_day():
    found = told(days(40), Limit("free tier", 8 * GB)).crossings[0]
    assert (found.state, found.expected) == ("crossed", None)


def test_a_limit_beyond_the_reach_is_not_in_sight():
    found = told(days(40), Limit("max stored", 10**15)).crossings[0]
    assert (found.state, found.earliest, found.latest) == ("not in sight", None, None)


def test_a_limit_that_growth_may_reach_but_need_not_is_possible():
    random = Random(5)
    noise = [int(random.gauss(0, GB / 20)) for _ in range(30)]
    # The same forwards and backwards, so that it shows no drift either way.
    still = [
        Day(day=START + timedelta(days=each), standard=9 * GB + size, infrequent_access=0)
        for each, size in enumerate([*noise, *reversed(noise)])
    ]
    found = told(still, Limit("max stored", 9 * GB + GB // 10)).crossings[0]
    assert (found.state, found.expected, found.latest) == ("possible", None, None)
    assert found.earliest > still[-1].day


def test_a_shrinking_bucket_crosses_nothing():
    shrinking = days(60, first=20 * GB, a_day=-GB // 10)
    found = told(shrinking, Limit("max stored", 20 * GB)).crossings[0]
    assert found.state == "not in sight"


# Limits as sizes


def test_the_free_tier_is_of_the_part_in_standard():
    half = Day(day=START, standard=GB, infrequent_access=GB)
    assert size_at_free_tier(10 * GB, half) == 20 * GB
    assert size_at_free_tier(10 * GB, Day(day=START, standard=0, infrequent_access=GB)) is None
    assert size_at_free_tier(10 * GB, Day(day=START, standard=0, infrequent_access=0)) == 10 * GB
    assert split(3, half) == {STANDARD: 2, INFREQUENT_ACCESS: 1}


@pytest.mark.parametrize(
    ("budget", "size"), [("0", 10 * GB), ("0.014", 10 * GB), ("0.015", 11 * GB), ("15", 1010 * GB)]
)
def test_a_budget_is_the_largest_size_it_pays_for(budget, size):
    standard = Day(day=START, standard=GB, infrequent_access=0)
    assert size_at_budget(Decimal(budget), standard, prices) == size


def test_a_budget_that_pays_for_nothing_is_crossed_and_a_free_bucket_never_crosses_one():
    standard = Day(day=START, standard=0, infrequent_access=0)
    assert size_at_budget(Decimal(1), standard, lambda stored: Decimal(2)) == -1
    assert size_at_budget(Decimal(1), standard, lambda stored: Decimal(0)) is None
    assert CrossingForecast(limit=Limit("budget", -1), state="crossed").as_dict()["bytes"] is None
    assert CrossingForecast(limit=Limit("budget", 0), state="crossed").as_dict()["bytes"] == 0


# Growth


def test_growth_is_from_the_first_to_the_last_day_that_has_the_listing():
    found = grown(
        [
            (START, {"type": {"png": 100, "jpg": 50}}),
            (START + timedelta(days=5), {"prefix/2": {"a/b/": 1}}),
            (START + timedelta(days=10), {"type": {"png": 400, "webp": 10}}),
        ],
        ("type", "prefix/1", "prefix/2"),
    )
    assert {each.name: each.bytes_per_day for each in found["type"]} == {
        "png": 30,
        "jpg": -5,
        "webp": 1,
    }
    assert [each.name for each in found["type"]] == ["png", "jpg", "webp"]
    assert set(found) == {"type"}


def test_a_group_that_was_too_small_to_be_kept_has_no_growth():
    full = {f"{number}/": 10 for number in range(MAX_GROUPS)}
    found = grown(
        [(START, {"prefix/1": full}), (START + timedelta(days=1), {"prefix/1": {"new/": 5}})],
        ("prefix/1",),
    )
    assert "new/" not in {each.name for each in found["prefix/1"]}
    assert len(found["prefix/1"]) == MAX_GROUPS
