"""`manage.py purge_orphans`: objects that nothing names are quarantined and deleted."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from django.core.management.base import CommandParser

from r2maint.journal import Journal
from r2maint.management.commands import _quarantine as quarantine
from r2maint.management.commands._base import Options, R2Command, Work
from r2maint.management.commands._options import duration
from r2maint.purge.brakes import NAMES, MaxDelete
from r2maint.purge.deletion import PurgeOutcome, apply_purge
from r2maint.purge.items import PurgeItem, PurgeOptions, PurgePlan, Verdict
from r2maint.purge.plan import plan_purge
from r2maint.report import Column, Section, Unit

_ALL = "anything in any table may name an object, so every reference counts."
Item = PurgeItem | quarantine.Item
_FINE = (Verdict.PROTECTED, Verdict.DERIVED, Verdict.UNMANAGED)


class Command(R2Command):
    help = (
        "Delete the objects below MANAGED_PREFIXES that nothing in any database names, in any"
        " spelling, under any host. They are copied into quarantine first, and r2_runs puts them"
        " back. An object must be older than the grace period, and an earlier run, a plan too, must"
        " have seen it orphaned as long ago. Old copies go with --empty-quarantine, unfinished"
        " uploads with --abort-uploads."
    )
    examples = (
        "manage.py purge_orphans",
        "manage.py purge_orphans --grace 14d --apply",
        "manage.py purge_orphans --empty-quarantine --older-than 60d --apply --no-input",
    )
    rejects: ClassVar[Mapping[str, str]] = {
        "--model": _ALL,
        "--field": _ALL,
        "--where": _ALL,
        "--database": _ALL,
    }
    columns = (
        Column("verdict", "Verdict"),
        Column("action", "Action"),
        Column("key", "Key"),
        Column("bytes", "Size", Unit.BYTES),
        Column("modified_at", "Modified"),
        Column("due_at", "Due"),
        Column("reason", "Reason"),
    )

    def add_own_arguments(self, parser: CommandParser) -> None:
        add = parser.add_argument
        add(
            "--grace",
            type=duration,
            metavar="7d",
            help="How old an object must be, and how long known as an orphan (default GRACE).",
        )
        add(
            "--no-second-look",
            dest="second_look",
            action="store_false",
            help="Do not ask for an earlier run that saw the same orphans.",
        )
        add(
            "--max-delete",
            type=limit,
            metavar="N|P%",
            help="Refuse to delete more than this, of the managed objects (default 25%%).",
        )
        add(
            "--override",
            action="append",
            default=[],
            choices=NAMES,
            metavar="BRAKE",
            help=f"Go on although this brake holds: {', '.join(NAMES)}. Repeatable.",
        )
        add("--adopt", action="store_true", help="Make this the database of the bucket.")
        add(
            "--empty-quarantine",
            action="store_true",
            help="Look for no orphans: remove old copies from quarantine, for good.",
        )
        add(
            "--older-than",
            type=duration,
            metavar="30d",
            help="With --empty-quarantine: how old copies must be (default 30d, or UNDO_WINDOW).",
        )
        add(
            "--abort-uploads",
            type=duration,
            metavar="7d",
            help="Look for no orphans: abort multipart uploads begun this long ago and unfinished.",
        )
        add("--hard", action="store_true", help="Keep no copies. This cannot be undone.")

    def journal_options(self, options: Options) -> dict[str, Any]:
        given = options["max_delete"]
        kept = {**options, "max_delete": str(given) if given else None}
        return super().journal_options({**kept, **quarantine.about(options)})

    def is_fine(self, item: Item) -> bool:
        return item.verdict in _FINE if isinstance(item, PurgeItem) else quarantine.is_fine(item)

    def is_urgent(self, item: Item) -> bool:
        if isinstance(item, PurgeItem):
            return item.verdict is Verdict.ORPHAN
        return quarantine.is_urgent(item)

    def plan(self, work: Work, options: Options) -> PurgePlan | quarantine.Planned:
        quarantine.require_one_mode(options)
        if planned := quarantine.plan(work, options):
            return planned
        asked = PurgeOptions(
            grace=options["grace"],
            second_look=options["second_look"],
            max_delete=options["max_delete"],
            overrides=frozenset(options["override"]),
            adopt=options["adopt"],
            hard=options["hard"],
            prefix=work.scope.prefix,
            limit=work.scope.limit,
            everything=options["all"],
        )
        return plan_purge(work.config, work.bucket, asked, control=work.control)

    def apply(
        self, plan: PurgePlan | quarantine.Planned, work: Work, journal: Journal
    ) -> PurgeOutcome | quarantine.Planned:
        if not isinstance(plan, PurgePlan):
            return quarantine.apply(plan, work, journal)
        return apply_purge(plan, work.config, work.bucket, journal, control=work.control)

    def sections(self, result: PurgePlan | PurgeOutcome | quarantine.Planned) -> Iterable[Section]:
        return tuple(quarantine.sections(result))


def limit(text: str) -> MaxDelete:
    """Return "120" or "60%" as a limit."""
    try:
        return MaxDelete.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
