"""What a plan says beside its numbers: money, and everything that is done otherwise than usual."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from r2maint.conf import Config
from r2maint.keepset.read_texts import Reading
from r2maint.purge.forecast import dollars
from r2maint.purge.items import PurgePlan
from r2maint.purge.judging import detected_presets
from r2maint.purge.presets import APPS
from r2maint.rendering import format_bytes

_CLOCKS = timedelta(hours=1)
"""By how much the bucket's clock and this machine's may differ before it is said."""


def reading_notes(
    config: Config, reading: Reading, *, now: datetime, here: datetime
) -> Iterator[str]:
    """Yield what is odd about what was read, and by which clock; `here` is this machine's."""
    for name in detected_presets(config):
        yield (
            f"{APPS[name]!r} is installed: what it derives is kept as with DERIVED {name!r}, by its"
            " own settings."
        )
    silent = [source for source in _named_sources(reading) if not reading.names.get(source)]
    for source in silent:
        yield f"EXTRA_REFERENCES names no object through {source!r}."
    if abs(now - here) > _CLOCKS:
        ahead = "ahead of" if now > here else "behind"
        yield (
            f"The bucket's clock is {_hours(now - here)} {ahead} this machine's; ages are counted"
            " by the bucket's."
        )


def closing_notes(plan: PurgePlan) -> Iterator[str]:
    """Yield what applying costs, saves, and cannot exclude."""
    if not plan.options.second_look:
        yield "One look only: no earlier run has to have seen these objects orphaned."
    if plan.counts.get("orphans"):
        yield plan.forecast.as_sentence()
        yield _saving(plan)
    if plan.options.hard:
        yield "No copies: what is deleted cannot be restored."
    yield (
        "R2 cannot exclude that a writer replaces the same key between the last look at an object"
        " and its deletion."
    )


def _saving(plan: PurgePlan) -> str:
    saved = dollars(plan.saved_usd_per_month)
    size = format_bytes(plan.counts["orphan_bytes"])
    if plan.options.hard:
        return f"It saves {saved} a month ({size})."
    return (
        f"It saves {saved} a month ({size}), but nothing before the quarantine is emptied: until"
        " then the copies in quarantine are stored, and billed, in place of the objects."
    )


def _named_sources(reading: Reading) -> list[str]:
    kinds = ("file:", "callable:", "object:")
    return [source for source in reading.sources if source.startswith(kinds)]


def _hours(apart: timedelta) -> str:
    hours = abs(apart) // timedelta(hours=1)
    return f"{hours:,} h" if hours < 48 else f"{hours // 24:,} days"
