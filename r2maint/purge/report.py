"""A plan as its reader wants it before saying yes: where, what, when, and what it passes over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from r2maint.bucket import Bucket, Expiry, StoredObject
from r2maint.conf import Config
from r2maint.errors import AccessDenied, BucketError
from r2maint.keepset.read_texts import Reading
from r2maint.purge.cost import dollars
from r2maint.purge.judge import detected_presets
from r2maint.purge.overview import object_row
from r2maint.purge.result import PurgePlan
from r2maint.purge.variants.rendition_presets import APPS
from r2maint.purge.verdict import UNNAMED
from r2maint.quarantine.manifest import PREFIX
from r2maint.rendering import ReportColumn, Section, Unit, format_bytes, format_count

_SHOWN = 10
_EXTREMES = 3
_OBJECTS, _SIZE = (
    ReportColumn("objects", "Objects", Unit.COUNT),
    ReportColumn("bytes", "Size", Unit.BYTES),
)
_KEY, _MODIFIED = ReportColumn("key", "Key"), ReportColumn("modified_at", "Modified")
_PREFIX = ReportColumn("prefix", "Prefix")
_LATER = (
    ReportColumn("later_objects", "Due later", Unit.COUNT),
    ReportColumn("later_bytes", "Size", Unit.BYTES),
)
_ALL = (ReportColumn("verdict", "Verdict"), _KEY, _SIZE, ReportColumn("due_at", "Due"))
_OMISSIONS = (
    ReportColumn("name", "Entry"),
    ReportColumn("reason", "Reason"),
    ReportColumn("told", "Outcome"),
)
_PASSED_OVER = (ReportColumn("what", "What"), _OBJECTS, _SIZE, ReportColumn("reason", "Why"))


def plan_sections(plan: PurgePlan) -> Iterator[Section]:
    """Yield the tables that text shows of a plan, in the order of its reader's questions."""
    told = plan.overview.as_dict()
    count = plan.counts.get("orphans", 0)
    columns = (_PREFIX, *(_OBJECTS, _SIZE) * bool(count), *_LATER * bool(plan.overview.due))
    yield Section(title=_title(plan), columns=columns, rows=told["prefixes"])
    shown = "Largest" if count > _SHOWN else "These are"
    yield Section(title=shown, columns=(_KEY, _SIZE, _MODIFIED), rows=told["largest"][:_SHOWN])
    if count > _SHOWN:
        yield from _extremes(plan)
    yield Section(
        title="Due later, if nothing names it then",
        columns=(ReportColumn("date", "On (UTC)"), _OBJECTS, _SIZE),
        rows=told["due"],
    )
    if plan.options.everything:
        every = (item.as_dict() for item in plan.items)
        yield Section(title="Every object that nothing names", columns=_ALL, rows=every)
    elif not count:
        later = (item.as_dict() for item in plan.items if item.verdict in UNNAMED)
        yield Section(title="These are", columns=_ALL, rows=later)
    yield Section(title="Not counted", columns=_PASSED_OVER, rows=told["not_counted"])
    yield Section(
        title="Not read for references (NOT_REFERENCES)",
        columns=_OMISSIONS,
        rows=[{**one.as_dict(), "told": one.as_sentence()} for one in plan.omissions],
    )


def _title(plan: PurgePlan) -> str:
    count, size = plan.counts.get("orphans", 0), plan.counts.get("orphan_bytes", 0)
    if not count:
        return f"Nothing to delete of {format_count(plan.managed, 'managed object')}"
    share = f"{count / plan.managed:.1%} of {format_count(plan.managed, 'managed object')}"
    return f"To delete: {format_count(count, 'object')}, {format_bytes(size)} ({share})"


def _extremes(plan: PurgePlan) -> Iterator[Section]:
    columns = (ReportColumn("which", "Age"), _KEY, _SIZE, _MODIFIED)
    found = [_aged("oldest", stored) for stored in plan.overview.oldest[:_EXTREMES]] + [
        _aged("youngest", stored) for stored in plan.overview.youngest[:_EXTREMES]
    ]
    yield Section(title="Oldest and youngest", columns=columns, rows=found)


def _aged(which: str, stored: StoredObject) -> dict[str, object]:
    return {"which": which, **object_row(stored)}


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


CountNamed = Callable[[str], int]
"""How many named objects are below a prefix."""


def lifecycle_notes(
    bucket: Bucket, count_named: CountNamed, *, undo_window: timedelta
) -> Iterator[str]:
    """Yield a sentence for each rule that works against what r2maint keeps.

    One Class B request. Where rules cannot be read, that is said: they refuse nothing.
    """
    try:
        rules = bucket.expiries()
    except BucketError as error:
        # Other servers than R2 may know of no rules at all.
        why = "the token may not" if isinstance(error, AccessDenied) else error.message.rstrip(".")
        yield (
            f"Lifecycle rules could not be read ({why}): whether one deletes named objects or"
            " copies in quarantine is not known."
        )
        return
    for rule in rules:
        yield from _notes(rule, count_named(rule.prefix), undo_window)


def _notes(rule: Expiry, named: int, undo_window: timedelta) -> Iterator[str]:
    told = f"Lifecycle rule {rule.name or '(no name)'!r} deletes {_what(rule)} {_when(rule)}"
    if named:
        yield f"{told}: {format_count(named, 'object')} of these something names."
    if PREFIX.startswith(rule.prefix) or rule.prefix.startswith(PREFIX):
        yield f"{told}: copies in quarantine too, and nothing of them can be undone after that."
        if not rule.at and rule.days < undo_window.days:
            yield f"UNDO_WINDOW is {undo_window.days} days, and that rule leaves {rule.days}."


def _what(rule: Expiry) -> str:
    return f"what is below {rule.prefix!r}" if rule.prefix else "every object"


def _when(rule: Expiry) -> str:
    if rule.at:
        return f"on {rule.at:%Y-%m-%d}"
    return f"{format_count(rule.days, 'day')} after it was written"
