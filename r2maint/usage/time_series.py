"""Where a daily series is going, with how sure that is. Pure, plain floating point.

The model is a random walk with drift seen through noise (a "local level with drift"): its one ratio
says how much of the daily variance is lasting. At 0 the series is a straight line with noise, at 1
a pure random walk. Nobody knows the ratio, so none is chosen: each of a grid is fitted by
generalised least squares (a Kalman filter over the data and its regressors, where missing days
only let time pass) and weighed by its restricted likelihood; what is predicted is the mixture of
Student's t that follows. Uncertainty of drift and ratio is thereby part of every interval.

Two things are regressors where the daily changes show them: the day of the week, and jumps that
stand out from all other days and are rare, which are taken as events that do not come again.

Source: A. Harvey, Forecasting, Structural Time Series Models and the Kalman Filter (1989), §2.3,
§3.4 (diffuse start, regressors) and §4.1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import mul
from statistics import NormalDist, median
from typing import NamedTuple

Point = tuple[int, float]
"""A day, as a number, and the value seen on it."""

_ODDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Lasting against passing variance of one day: the grid between a line and a random walk."""
_LINE_PRIOR, _WALK_PRIOR = 0.26, 0.3
"""What a straight line and a pure random walk are given before the data are seen; the rest is
spread over the grid. Chosen on simulated series: docs/usage.md tells how often it is right."""
_FLOOR = 1e-4
"""The least standard deviation of a day, as a share of the last value: two equal days prove
nothing about the third."""
_PRECISION = 1e-12
"""What rounding may leave of the largest value."""
_STANDS_OUT = 6.0
"""Standard deviations of a daily change that make it a jump."""
_DAYS_A_JUMP = 30
_MIN_FOR_JUMPS = 21
_MIN_FOR_WEEKDAYS = 28
_F_OF_WEEKDAYS = 4.2
"""The 99.9% point of F with 6 and about 80 degrees of freedom."""
_LEAST_WEIGHT = 1e-4
_NORMAL = NormalDist()


class _Part(NamedTuple):
    """One member of the mixture on one day."""

    weight: float
    mean: float
    deviation: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """What is known of one coming day."""

    parts: tuple[_Part, ...]

    def chance_above(self, value: float) -> float:
        """Return the probability that the day's value is above `value`."""
        return math.fsum(
            part.weight * _NORMAL.cdf((part.mean - value) / part.deviation) for part in self.parts
        )

    def quantile(self, chance: float) -> float:
        """Return the value that the day's is below with this probability."""
        score = _NORMAL.inv_cdf(chance)
        of_parts = [part.mean + part.deviation * score for part in self.parts]
        low, high = min(of_parts), max(of_parts)
        for _ in range(30):  # To a billionth of what the parts disagree about.
            middle = (low + high) / 2
            if self.chance_above(middle) > 1 - chance:
                low = middle
            else:
                high = middle
        return (low + high) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fit:
    """The model at one ratio of lasting to all variance."""

    lasting: float
    likelihood: float
    variance: float
    """Of a day, lasting and passing together."""
    freedom: int
    level: float
    level_variance: float
    """Of the level on the last day, in units of `variance`."""
    effects: tuple[float, ...]
    carried: tuple[float, ...]
    """The regressors' own filtered level on the last day."""
    inverse: tuple[tuple[float, ...], ...]
    """Of the regressors' cross products."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """A fitted series."""

    last_day: int
    weekly: bool
    """The day of the week is accounted for."""
    jumps: tuple[int, ...]
    """The days whose change is taken as an event that does not come again."""
    _fits: tuple[tuple[float, _Fit], ...]
    _wider: float
    """Student's tails in terms of the normal's."""

    @property
    def per_day(self) -> float:
        """The drift of one day."""
        return sum(weight * each.effects[0] for weight, each in self._fits)

    def on(self, day: int, *, mean_of: int = 1) -> Prediction:
        """Return what is known of a day after the last one.

        With `mean_of` as part of the mean of so many days, in which passing ups and downs even out.
        """
        regressors = _regressors(day, weekly=self.weekly, jumps=self.jumps)
        ahead = day - self.last_day
        parts = (_part(weight, each, regressors, ahead, mean_of) for weight, each in self._fits)
        return Prediction(
            tuple(part._replace(deviation=self._wider * part.deviation) for part in parts)
        )


def fit(points: Sequence[Point], *, coverage: float = 0.8) -> Course:
    """Return the course of a series in the order of its days, at least 7 of them.

    `coverage` is of the intervals that will be asked for: there the tails are Student's exactly.
    """
    days = [day for day, _ in points]
    weekly = _has_weekdays(points)
    jumps = _jumps(points, weekly=weekly)
    regressors = [_regressors(day, weekly=weekly, jumps=jumps) for day in days]
    columns = [[value for _, value in points], *map(list, zip(*regressors, strict=True))]
    precision = _PRECISION * max(abs(value) for _, value in points)
    floor = max(_FLOOR * abs(points[-1][1]), precision, 1.0) ** 2
    fits = [_fitted(days, columns, lasting, floor) for lasting, _ in _PRIOR]
    middle = 0.5 + coverage / 2
    return Course(
        last_day=days[-1],
        weekly=weekly,
        jumps=jumps,
        _fits=tuple(_weighed(fits)),
        _wider=_student(middle, fits[0].freedom) / _NORMAL.inv_cdf(middle),
    )


def _grid() -> tuple[tuple[float, float], ...]:
    rest = (1 - _LINE_PRIOR - _WALK_PRIOR) / len(_ODDS)
    between = ((odds / (1 + odds), rest) for odds in _ODDS)
    return ((0.0, _LINE_PRIOR), *between, (1.0, _WALK_PRIOR))


_PRIOR = _grid()
"""Lasting share of the variance, and its prior weight."""


def _weighed(fits: Sequence[_Fit]) -> Iterator[tuple[float, _Fit]]:
    best = max(each.likelihood for each in fits)
    weights = [
        prior * math.exp(each.likelihood - best)
        for (_, prior), each in zip(_PRIOR, fits, strict=True)
    ]
    least = _LEAST_WEIGHT * sum(weights)
    kept = [pair for pair in zip(weights, fits, strict=True) if pair[0] >= least]
    total = sum(weight for weight, _ in kept)
    return ((weight / total, each) for weight, each in kept)


# Regressors


def _regressors(day: int, *, weekly: bool, jumps: Sequence[int]) -> tuple[float, ...]:
    weekdays = (float(day % 7 == each) for each in range(1, 7)) if weekly else ()
    return (float(day), *weekdays, *(float(day >= jump) for jump in jumps))


def _changes(points: Sequence[Point]) -> list[Point]:
    """Return the change to each day from the one before it, where both were seen."""
    return [
        (day, value - before)
        for (last, before), (day, value) in pairwise(points)
        if day == last + 1
    ]


def _has_weekdays(points: Sequence[Point]) -> bool:
    """Tell whether changes differ by the day of the week: one-way analysis of variance."""
    changes = _changes(points)
    groups = [[change for day, change in changes if day % 7 == each] for each in range(7)]
    if len(changes) < _MIN_FOR_WEEKDAYS or not all(groups):
        return False
    mean = sum(change for _, change in changes) / len(changes)
    centres = [sum(each) / len(each) for each in groups]
    pairs = list(zip(groups, centres, strict=True))
    between = sum(len(each) * (centre - mean) ** 2 for each, centre in pairs) / 6
    within = sum((change - centre) ** 2 for each, centre in pairs for change in each)
    return between > _F_OF_WEEKDAYS * within / (len(changes) - 7)


def _jumps(points: Sequence[Point], *, weekly: bool) -> tuple[int, ...]:
    changes = _changes(points)
    if len(changes) < _MIN_FOR_JUMPS:
        return ()
    usual = {
        each: median([c for day, c in changes if not weekly or day % 7 == each] or [0.0])
        for each in range(7)
    }
    unusual = {day: abs(change - usual[day % 7]) for day, change in changes}
    # By nine of ten, so that days without an upload do not make every upload a jump.
    deviation = sorted(unusual.values())[len(unusual) * 9 // 10] / _NORMAL.inv_cdf(0.95)
    found = tuple(day for day, change in unusual.items() if change > _STANDS_OUT * deviation)
    return found if len(found) <= max(2, len(points) // _DAYS_A_JUMP) else ()


# Generalised least squares at one ratio


def _fitted(
    days: Sequence[int], columns: Sequence[Sequence[float]], lasting: float, floor: float
) -> _Fit:
    """Return the fit: one filter whitens values and regressors alike, then least squares."""
    steps, level_variance = _steps(days, lasting)
    levels, (values, *regressors) = zip(
        *(_whitened(column, steps) for column in columns), strict=True
    )
    effects, inverse, log_determinant = _least_squares(values, regressors)
    freedom = max(1, len(values) - len(effects))
    explained = (sum(map(mul, effects, row)) for row in zip(*regressors, strict=True))
    residues = sum((value - told) ** 2 for value, told in zip(values, explained, strict=True))
    variance = max(residues / freedom, floor)
    log_variances = -2 * sum(math.log(scale) for _, scale in steps)
    return _Fit(
        lasting=lasting,
        likelihood=-0.5 * (freedom * math.log(variance) + log_variances + log_determinant),
        variance=variance,
        freedom=freedom,
        level=levels[0],
        level_variance=level_variance,
        effects=effects,
        carried=levels[1:],
        inverse=inverse,
    )


def _steps(days: Sequence[int], lasting: float) -> tuple[list[tuple[float, float]], float]:
    """Return for each day after the first its gain and scale, and the level's last variance."""
    passing = 1 - lasting
    steps, variance = [], passing
    for last, day in pairwise(days):
        variance += lasting * (day - last)
        total = variance + passing
        steps.append((variance / total, 1 / math.sqrt(total)))
        variance *= passing / total
    return steps, variance


def _whitened(
    column: Sequence[float], steps: Sequence[tuple[float, float]]
) -> tuple[float, list[float]]:
    """Return the last level of a column, and its surprises at equal variance."""
    level, surprises = column[0], []
    for value, (gain, scale) in zip(column[1:], steps, strict=True):
        surprise = value - level
        level += gain * surprise
        surprises.append(surprise * scale)
    return level, surprises


def _least_squares(
    values: Sequence[float], regressors: Sequence[Sequence[float]]
) -> tuple[tuple[float, ...], tuple[tuple[float, ...], ...], float]:
    """Return effects, inverse cross products and their log determinant; by Gauss and Jordan."""
    size, log_determinant = len(regressors), 0.0
    work = [
        [sum(map(mul, a, b)) for b in regressors] + [float(i == j) for j in range(size)]
        for i, a in enumerate(regressors)
    ]
    for i in range(size):
        pivot = work[i][i]
        log_determinant += math.log(pivot)
        work[i] = [value / pivot for value in work[i]]
        for j in range(size):
            if j != i:
                factor = work[j][i]
                work[j] = [a - factor * b for a, b in zip(work[j], work[i], strict=True)]
    inverse = tuple(tuple(row[size:]) for row in work)
    moments = [sum(map(mul, each, values)) for each in regressors]
    return tuple(sum(map(mul, row, moments)) for row in inverse), inverse, log_determinant


def _part(weight: float, fit: _Fit, regressors: Sequence[float], ahead: int, mean_of: int) -> _Part:
    new = [value - carried for value, carried in zip(regressors, fit.carried, strict=True)]
    mean = fit.level + sum(map(mul, fit.effects, new))
    unsure = sum(each * sum(map(mul, row, new)) for each, row in zip(new, fit.inverse, strict=True))
    passing = (1 - fit.lasting) / mean_of
    variance = fit.level_variance + fit.lasting * ahead + passing + unsure
    return _Part(weight, mean, math.sqrt(fit.variance * variance))


def _student(chance: float, freedom: int) -> float:
    """Return a quantile of Student's t.

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.5.
    """
    z = _NORMAL.inv_cdf(chance)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + math.fsum(term / freedom**power for power, term in enumerate(terms, start=1))
