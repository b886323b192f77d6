"""`manage.py purge_orphans`: objects that nothing names are quarantined and deleted."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

from django.core.management.base import CommandParser

from r2maint.cloudflare import API_URL
from r2maint.errors import Stopped, UsageError
from r2maint.journal.journal import Journal
from r2maint.management.commands import _purge_modes as quarantine
from r2maint.management.commands._base import Options, R2Command, Work
from r2maint.management.commands._options import duration, not_empty
from r2maint.purge.apply import apply_purge
from r2maint.purge.brakes import NAMES, MaxDelete
from r2maint.purge.cdn_cache import Caches, owing_runs, purge_runs
from r2maint.purge.explain.plan import Explanation, explain
from r2maint.purge.explain.result import KeyExplanation
from r2maint.purge.plan import plan_purge
from r2maint.purge.report import plan_sections
from r2maint.purge.result import PurgeOptions, PurgeOutcome, PurgePlan
from r2maint.purge.verdict import PurgeItem, PurgeVerdict
from r2maint.rendering import ReportColumn, Section, Unit

_ALL = "anything in any table may name an object, so every reference counts."
Item = PurgeItem | KeyExplanation | quarantine.Item
Result = PurgePlan | PurgeOutcome | Explanation | quarantine.Planned
_FINE = (
    PurgeVerdict.PROTECTED,
    PurgeVerdict.DERIVED,
    PurgeVerdict.KIN,
    PurgeVerdict.UNMANAGED,
)

_CACHED = (
    "Caches may serve what is deleted until its max-age is over; --purge-cache lets Cloudflare's"
    " forget it."
)
_UNPURGED = (
    "Caches may still serve some of what was deleted: the next --purge-cache --apply purges them,"
    " and so does 'Purge Everything' in the dashboard."
)
_NOT_EXPLAINED = (
    "apply",
    "adopt",
    "hard",
    "prefix",
    "limit",
    "max_delete",
    "empty_quarantine",
    "abort_uploads",
    "purge_cache",
)


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
    api_url: ClassVar[str] = API_URL
    """Of Cloudflare's API."""
    _caches: Caches | None = None
    columns = (
        ReportColumn("verdict", in_text=False),
        ReportColumn("action", "Action"),
        ReportColumn("key", "Key"),
        ReportColumn("bytes", "Size", Unit.BYTES),
        ReportColumn("modified_at", in_text=False),
        ReportColumn("due_at", in_text=False),
        ReportColumn("reason", "Reason"),
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
            help="Refuse to delete more than this, of the managed objects (default 25%%, and 10"
            " points over the last accepted run).",
        )
        add(
            "--override",
            action="append",
            default=[],
            choices=NAMES,
            metavar="BRAKE",
            help=f"Go on although this brake holds: {', '.join(NAMES)}. Repeatable.",
        )
        add(
            "--include-kin",
            action="store_true",
            help="Judge images beside a named object, as its variants lie (photo.large.jpg beside"
            " photo.jpg), like any other object; without it they are kept.",
        )
        add(
            "--adopt",
            action="store_true",
            help="Make this database the bucket's, and no other.",
        )
        add(
            "--explain",
            action="append",
            default=[],
            type=not_empty,
            metavar="KEY",
            help="Tell why the object of this key, or of its URL, stays or goes, and what names it;"
            " changes nothing. Repeatable.",
        )
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
        add(
            "--purge-cache",
            action="store_true",
            help="Let Cloudflare's caches forget what was deleted (needs API_TOKEN and ZONE_ID).",
        )

    def journal_options(self, options: Options) -> dict[str, Any]:
        given = options["max_delete"]
        kept = {**options, "max_delete": str(given) if given else None}
        return super().journal_options({**kept, **quarantine.about(options)})

    def is_fine(self, item: Item) -> bool:
        if isinstance(item, PurgeItem):
            return item.verdict in _FINE
        return not isinstance(item, KeyExplanation) and quarantine.is_fine(item)

    def is_urgent(self, item: Item) -> bool:
        if isinstance(item, PurgeItem | KeyExplanation):
            return item.verdict is PurgeVerdict.ORPHAN
        return quarantine.is_urgent(item)

    def headline(self, result: Result, *, applied: bool) -> str:
        if isinstance(result, Explanation):
            return result.headline
        return super().headline(result, applied=applied)

    def sections(self, result: Result) -> Iterable[Section]:
        if isinstance(result, Explanation):
            return result.sections()
        if isinstance(result, PurgePlan):
            return plan_sections(result)
        return tuple(quarantine.sections(result))

    def plan(self, work: Work, options: Options) -> PurgePlan | Explanation | quarantine.Planned:
        if options["explain"]:
            _refuse_with_explain(options)
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
            include_kin=options["include_kin"],
        )
        if texts := options["explain"]:
            return explain(
                work.config,
                work.addresses,
                work.bucket,
                texts,
                asked,
                now=work.clock.now(),
                control=work.control,
            )
        self._caches = None
        if options["purge_cache"]:
            self._caches = Caches.from_config(
                work.config, control=work.control, api_url=self.api_url
            )
        now = work.clock.now()
        plan = plan_purge(
            work.config,
            work.bucket,
            asked,
            now=now,
            remembers=not work.clock.is_local,
            control=work.control,
        )
        if self._caches is None:
            return replace(plan, notes=(*plan.notes, _CACHED)) if plan.has_work else plan
        return replace(plan, uncached=owing_runs(self.name, work.bucket.name))

    def apply(
        self, plan: PurgePlan | quarantine.Planned, work: Work, journal: Journal
    ) -> PurgeOutcome | quarantine.Planned:
        if not isinstance(plan, PurgePlan):
            return quarantine.apply(plan, work, journal)
        # Before anything is deleted: a token that is refused is seen now.
        caches = self._caches.proved() if self._caches else None
        outcome = apply_purge(plan, work.config, work.bucket, journal, control=work.control)
        if caches is None or outcome.stopped:
            return outcome
        try:
            result = purge_runs(caches, (*plan.uncached, journal.run_id))
        except Stopped as reason:
            return replace(outcome, stopped=reason)
        counts = {"cache_purged": result.purged, "cache_failed": result.failed}
        notes = (f"{_UNPURGED} {result.reason}",) if result.failed else ()
        return replace(outcome, counts={**outcome.counts, **counts}, notes=(*outcome.notes, *notes))


def _refuse_with_explain(options: Options) -> None:
    for name in _NOT_EXPLAINED:
        if options[name] not in (None, False, ""):
            raise UsageError(
                f"--explain does not go with --{name.replace('_', '-')}: it only tells.",
                "Pass one of them.",
            )


def limit(text: str) -> MaxDelete:
    """Return "120" or "60%" as a limit."""
    try:
        return MaxDelete.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
