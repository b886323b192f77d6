"""A plan as its reader wants it before saying yes: where, what, when, and what it passes over."""

from __future__ import annotations

from collections.abc import Iterator

from r2maint.bucket import StoredObject
from r2maint.purge.items import PurgePlan
from r2maint.purge.overview import object_row
from r2maint.purge.verdicts import UNNAMED
from r2maint.rendering import Column, Section, Unit, format_bytes, format_count

_SHOWN = 10
_EXTREMES = 3
_OBJECTS, _SIZE = Column("objects", "Objects", Unit.COUNT), Column("bytes", "Size", Unit.BYTES)
_KEY, _MODIFIED = Column("key", "Key"), Column("modified_at", "Modified")
_PREFIX = Column("prefix", "Prefix")
_LATER = (
    Column("later_objects", "Due later", Unit.COUNT),
    Column("later_bytes", "Size", Unit.BYTES),
)
_ALL = (Column("verdict", "Verdict"), _KEY, _SIZE, Column("due_at", "Due"))
_OMISSIONS = (Column("name", "Entry"), Column("reason", "Reason"), Column("told", "Outcome"))
_PASSED_OVER = (Column("what", "What"), _OBJECTS, _SIZE, Column("reason", "Why"))


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
        columns=(Column("date", "On (UTC)"), _OBJECTS, _SIZE),
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
    columns = (Column("which", "Age"), _KEY, _SIZE, _MODIFIED)
    found = [_aged("oldest", stored) for stored in plan.overview.oldest[:_EXTREMES]] + [
        _aged("youngest", stored) for stored in plan.overview.youngest[:_EXTREMES]
    ]
    yield Section(title="Oldest and youngest", columns=columns, rows=found)


def _aged(which: str, stored: StoredObject) -> dict[str, object]:
    return {"which": which, **object_row(stored)}
