"""Daily sizes whose future is known: processes to test a forecast on, and what is best possible."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from statistics import NormalDist, median
from typing import NamedTuple

from r2maint.usage.time_series import fit

HISTORY = 90
AHEAD = 90
MEGABYTE = 10**6
_START = 20_000 * MEGABYTE
_DRIFT = 50 * MEGABYTE
_TENTH = NormalDist().inv_cdf(0.9)


@dataclass(frozen=True)
class Process:
    """How sizes come about."""

    grow: Callable[[Random], list[float]]
    """Returns HISTORY + AHEAD days."""
    deviation: Callable[[int], float]
    """Of the size so many days after HISTORY, for one who knows the process and its parameters."""
    has_holes: bool = False

    def oracle_width(self, ahead: int) -> float:
        """Return the width of the shortest interval that holds 80%."""
        return 2 * _TENTH * self.deviation(ahead)

    def history(self, sizes: list[float], random: Random) -> list[tuple[int, float]]:
        """Return the days seen, of some without three in ten and two weeks in a row."""
        days = list(enumerate(sizes[:HISTORY]))
        if not self.has_holes:
            return days
        hole = random.randrange(10, 60)
        return [
            (day, size)
            for day, size in days
            if day == HISTORY - 1 or not (hole <= day < hole + 14 or random.random() < 0.3)
        ]


def _line(random: Random, noise: float) -> list[float]:
    return [_START + _DRIFT * day + random.gauss(0, noise) for day in range(HISTORY + AHEAD)]


def _walk(random: Random, step: float, noise: float) -> list[float]:
    level, sizes = float(_START), []
    for _ in range(HISTORY + AHEAD):
        level += random.gauss(_DRIFT, step)
        sizes.append(level + random.gauss(0, noise))
    return sizes


def _steps(random: Random, step: float, noise: float) -> list[float]:
    level, sizes = float(_START), []
    for day in range(HISTORY + AHEAD):
        level += random.gauss(8 * _DRIFT, step) if day % 7 == 3 else 0
        sizes.append(level + random.gauss(0, noise))
    return sizes


def _jumped(random: Random, noise: float) -> list[float]:
    jump, at = random.choice((-1, 1)) * 6000 * MEGABYTE, random.randrange(20, 70)
    return [size + jump * (day >= at) for day, size in enumerate(_line(random, noise))]


def _walk_deviation(ahead: int, step: float, noise: float) -> float:
    """Return that of a Kalman filter in its steady state."""
    ratio = (step / noise) ** 2 if noise else 0
    level = (ratio + math.sqrt(ratio**2 + 4 * ratio)) / 2
    known = level / (level + 1) * noise**2
    return math.sqrt(known + ahead * step**2 + noise**2)


def _steps_deviation(ahead: int, step: float, noise: float) -> float:
    steps = sum(day % 7 == 3 for day in range(HISTORY, HISTORY + ahead))
    return math.sqrt(steps * step**2 + noise**2)


_NOISE, _STEP = 300.0 * MEGABYTE, 100.0 * MEGABYTE
_SMALL = 30.0 * MEGABYTE

_LINE = Process(lambda random: _line(random, _NOISE), lambda ahead: _NOISE)
_WALK = Process(
    lambda random: _walk(random, _STEP, 0), lambda ahead: _walk_deviation(ahead, _STEP, 0)
)
_SEEN_WALK = Process(
    lambda random: _walk(random, _SMALL, _NOISE),
    lambda ahead: _walk_deviation(ahead, _SMALL, _NOISE),
)
_STEPS = Process(
    lambda random: _steps(random, _STEP, _SMALL),
    lambda ahead: _steps_deviation(ahead, _STEP, _SMALL),
)
PROCESSES: Mapping[str, Process] = {
    "line with noise": _LINE,
    "random walk with drift": _WALK,
    "random walk seen through noise": _SEEN_WALK,
    "weekly steps": _STEPS,
    "line with one jump": Process(lambda random: _jumped(random, _NOISE / 2), lambda _: _NOISE / 2),
    "line with missing days": Process(_LINE.grow, _LINE.deviation, has_holes=True),
    "random walk with missing days": Process(_WALK.grow, _WALK.deviation, has_holes=True),
    "weekly steps with missing days": Process(_STEPS.grow, _STEPS.deviation, has_holes=True),
}


class Trial(NamedTuple):
    """What was predicted of one day, and what came."""

    low: float
    high: float
    truth: float

    def holds(self, factor: float) -> bool:
        """Tell whether the truth lies in the interval, made so many times as wide."""
        middle, half = (self.low + self.high) / 2, factor * (self.high - self.low) / 2
        return abs(self.truth - middle) <= half


Trials = Mapping[int, list[Trial]]
"""By days ahead."""


def try_out(name: str, *, seeds: int) -> Trials:
    """Return what 80% intervals were predicted 30 and 90 days ahead, and what came."""
    found: dict[int, list[Trial]] = {30: [], 90: []}
    for seed in range(seeds):
        random = Random(f"{name} {seed}")
        sizes = PROCESSES[name].grow(random)
        course = fit(PROCESSES[name].history(sizes, random))
        for ahead, results in found.items():
            day = HISTORY - 1 + ahead
            coming = course.on(day)
            results.append(Trial(coming.quantile(0.1), coming.quantile(0.9), sizes[day]))
    return found


def coverage(results: list[Trial], factor: float = 1) -> float:
    """Return the share of intervals, made so many times as wide, that hold the truth."""
    return sum(trial.holds(factor) for trial in results) / len(results)


def width_ratio(name: str, ahead: int, results: list[Trial]) -> float:
    """Return the median width in terms of that of one who knows the process."""
    width = median(trial.high - trial.low for trial in results)
    return width / PROCESSES[name].oracle_width(ahead)
