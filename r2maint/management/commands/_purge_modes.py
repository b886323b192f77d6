"""What `purge_orphans` does when it looks for no orphans: copies in quarantine, and uploads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from r2maint.errors import UsageError
from r2maint.journal.journal import Journal
from r2maint.management.commands._base import Options, Work
from r2maint.management.commands._output import ReportItems
from r2maint.purge.abort_uploads import (
    Aborting,
    AbortItem,
    AbortOptions,
    apply_aborting,
    plan_aborting,
)
from r2maint.purge.empty_quarantine.apply import apply_emptying
from r2maint.purge.empty_quarantine.plan import plan_emptying
from r2maint.purge.empty_quarantine.result import Emptying, EmptyingItem, EmptyingOptions
from r2maint.purge.recheck_before_delete import Lifted
from r2maint.purge.verdict import PurgeAction
from r2maint.rendering import ReportColumn, Section, Unit

Planned = Emptying | Aborting
Item = EmptyingItem | AbortItem

_RUNS = (
    ReportColumn("run", "Run"),
    ReportColumn("made_at", "Quarantined"),
    ReportColumn("copies", "Copies", Unit.COUNT),
    ReportColumn("bytes", "Size", Unit.BYTES),
    ReportColumn("to_remove", "To remove", Unit.COUNT),
    ReportColumn("to_remove_bytes", "Size", Unit.BYTES),
    ReportColumn("kept", "Kept", Unit.COUNT),
)
_ITEMS = (
    ReportColumn("action", "Action"),
    ReportColumn("key", "Key"),
    ReportColumn("bytes", "Size", Unit.BYTES),
    ReportColumn("modified_at", "Since"),
    ReportColumn("run", "Run"),
    ReportColumn("reason", "Reason"),
)
_OF_ORPHANS = {
    "grace": None,
    "max_delete": None,
    "second_look": True,
    "hard": False,
    "purge_cache": False,
}
"""Options that say which orphans go, and how, with their defaults."""


def require_one_mode(options: Options) -> None:
    """Raise UsageError for options that do not go together."""
    modes = [name for name in ("empty_quarantine", "abort_uploads") if _is_given(options[name])]
    if len(modes) > 1:
        raise UsageError(
            "--empty-quarantine and --abort-uploads exclude each other.", "Run one, then the other."
        )
    if options["older_than"] is not None and not options["empty_quarantine"]:
        raise UsageError("--older-than needs --empty-quarantine: it is the age of copies.")
    for name, default in _OF_ORPHANS.items():
        if modes and options[name] != default:
            given = "no-second-look" if name == "second_look" else name.replace("_", "-")
            mode = modes[0].replace("_", "-")
            raise UsageError(f"--{given} does not go with --{mode}: no orphans are looked for.")


def _is_given(value: Any) -> bool:
    # A duration of 0 is one.
    return value is not None and value is not False


def about(options: Options) -> dict[str, Any]:
    """Return what the journal is told of the mode: an interrupted run goes on whatever its age."""
    if not _is_given(options["abort_uploads"]):
        return {}
    return {"abort_uploads": True, "older_than": options["abort_uploads"]}


def plan(work: Work, options: Options) -> Planned | None:
    """Return the plan of the mode that the options ask for; None for an ordinary purge."""
    lifted = Lifted(adopt=options["adopt"], overrides=frozenset(options["override"]))
    more: dict[str, Any] = {
        "lifted": lifted,
        "prefix": work.scope.prefix,
        "limit": work.scope.limit,
    }
    if options["empty_quarantine"]:
        asked = EmptyingOptions(older_than=options["older_than"], **more)
        return plan_emptying(
            work.config, work.bucket, asked, now=work.clock.now(), control=work.control
        )
    if _is_given(options["abort_uploads"]):
        asked_of_uploads = AbortOptions(older_than=options["abort_uploads"], **more)
        return plan_aborting(
            work.config,
            work.bucket,
            asked_of_uploads,
            now=work.clock.now(),
            control=work.control,
        )
    return None


def apply(planned: Planned, work: Work, journal: Journal) -> Planned:
    """Carry the plan out and return what happened."""
    if isinstance(planned, Emptying):
        return apply_emptying(planned, work.config, work.bucket, journal, control=work.control)
    return apply_aborting(planned, work.bucket, journal, control=work.control)


def is_fine(item: Item) -> bool:
    """Tell whether an item is too young to be told of."""
    return item.action is PurgeAction.KEPT and item.reason == "It is too young."


def is_urgent(item: Item) -> bool:
    """Tell whether somebody may want to act on an item."""
    return item.action in (PurgeAction.KEPT, PurgeAction.FAIL)


def sections(result: Any) -> Iterator[Section]:
    """Yield the tables of text; none for an ordinary purge."""
    if isinstance(result, Emptying):
        yield Section(columns=_RUNS, rows=[each.as_dict() for each in result.runs])
    if isinstance(result, Emptying | Aborting):
        items = ReportItems(
            result.items, is_fine=is_fine, is_urgent=is_urgent, everything=False, is_brief=True
        )
        yield Section(columns=_ITEMS, rows=items)
