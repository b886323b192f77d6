"""`manage.py r2_runs`: what was done, and the way back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, cast

from django.core.management.base import CommandParser

from r2maint.bucket import Bucket
from r2maint.conf import Config
from r2maint.errors import BucketError, ConfigError, UsageError
from r2maint.journal.journal import Journal
from r2maint.management.commands._base import Options, R2Command, Work
from r2maint.management.commands._options import duration, storable
from r2maint.rendering import ReportColumn, Section, Unit
from r2maint.runs.plan import Unreached, list_runs, show_run
from r2maint.runs.prune import Pruning, apply_pruning, plan_pruning
from r2maint.runs.result import RunListing
from r2maint.runs.undo.apply import apply_undo
from r2maint.runs.undo.plan import plan_undo
from r2maint.runs.undo.result import Only, Undo, UndoAction, UndoItem

_RUN = (
    ReportColumn("run_id", "Run"),
    ReportColumn("command", "Command"),
    ReportColumn("bucket", "Bucket"),
    ReportColumn("state", "State"),
    ReportColumn("started_at", "Started"),
    ReportColumn("finished_at", "Finished"),
)
_CHANGE = (
    ReportColumn("kind", "Kind"),
    ReportColumn("model", "Model"),
    ReportColumn("pk", "Row"),
    ReportColumn("field", "Field"),
    ReportColumn("path", "Element"),
    ReportColumn("old", "Old"),
    ReportColumn("new", "New"),
    ReportColumn("key", "Key"),
)
_PRUNED = (
    ReportColumn("action", "Action"),
    *_RUN[:2],
    ReportColumn("finished_at", "Finished"),
    ReportColumn("changes", "Changes", Unit.COUNT),
    ReportColumn("reason", "Reason"),
)
_SHOWN = (ReportColumn("state", "State"), *_CHANGE)
_UNDO = (ReportColumn("action", "Action"), *_CHANGE, ReportColumn("reason", "Reason"))
_WHOLE = "a run is shown and undone as a whole, or by the keys of its objects."


class Command(R2Command):
    help = (
        "List the runs of the writing commands, show one with its changes, or undo it: values go"
        " back by compare-and-swap, deleted objects come out of quarantine, and removed local files"
        " out of the bucket. An edit made since wins, and nothing is overwritten."
    )
    examples = (
        "manage.py r2_runs",
        "manage.py r2_runs 20261123T161200Z-ab12cd --undo --key submissions/1/icon.webp",
        "manage.py r2_runs 20261123T161200Z-ab12cd --undo --apply --no-input",
    )
    rejects: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("--model", "--field", "--where", "--limit", "--database"), _WHOLE
    )

    def add_own_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "run",
            nargs="?",
            default="",
            metavar="RUN",
            help="The id of a run; without one, all runs are listed.",
        )
        parser.add_argument(
            "--undo", action="store_true", help="Plan the undo of RUN; --apply carries it out."
        )
        parser.add_argument(
            "--key",
            action="append",
            default=[],
            metavar="KEY",
            help="With --undo: only what is about this object. Repeatable.",
        )
        parser.add_argument(
            "--prune",
            type=duration,
            metavar="90d",
            help="Remove the journal of runs that ended this long ago; --apply carries it out.",
        )

    def open_bucket(self, config: Config, options: Options) -> Bucket:
        try:
            return super().open_bucket(config, options)
        except (ConfigError, BucketError) as error:
            if options["undo"] or options["prune"] is not None:
                raise
            # The journal can be looked at without.
            return cast("Bucket", Unreached(config.bucket, error))

    def plan(self, work: Work, options: Options) -> Undo | Pruning | RunListing:
        _require_one_mode(options)
        run_id = options["run"]
        if options["prune"] is not None:
            return plan_pruning(work.config, work.bucket, options["prune"], control=work.control)
        if not options["undo"]:
            return show_run(run_id, work.bucket) if run_id else list_runs(work.bucket)
        at = work.config, work.addresses, work.bucket
        only = Only(prefix=work.scope.prefix, keys=frozenset(options["key"]))
        return plan_undo(run_id, *at, only=only, control=work.control)

    def apply(self, plan: Undo | Pruning, work: Work, journal: Journal) -> Undo | Pruning:
        if isinstance(plan, Pruning):
            return apply_pruning(plan, work.bucket, journal, control=work.control)
        return apply_undo(
            plan, work.config, work.addresses, work.bucket, journal, control=work.control
        )

    def journal_options(self, options: Options) -> dict[str, Any]:
        if options["prune"] is not None:
            return storable({"prune": True, "older_than": options["prune"]})
        narrowed = {name: options[name] for name in ("key", "prefix") if options[name]}
        return {"undo": options["run"], **narrowed}

    def is_fine(self, item: Any) -> bool:
        return isinstance(item, UndoItem) and item.action is UndoAction.KEPT

    def headline(self, result: Undo | Pruning | RunListing, *, applied: bool) -> str:
        if isinstance(result, RunListing):
            return "what was done."
        return super().headline(result, applied=applied)

    def sections(self, result: Undo | Pruning | RunListing) -> tuple[Section, ...]:
        columns: tuple[ReportColumn, ...] = _PRUNED if isinstance(result, Pruning) else _UNDO
        if isinstance(result, RunListing):
            columns = _RUN if result.is_of_runs else _SHOWN
        return (Section(columns=columns, rows=(item.as_dict() for item in result.items)),)


def _require_one_mode(options: Options) -> None:
    is_pruning, narrowed = options["prune"] is not None, options["key"] or options["prefix"]
    if is_pruning and (options["undo"] or options["run"]):
        raise UsageError("--prune takes no run: it removes the journal of all that are old.")
    if options["apply"] and not (options["undo"] or is_pruning):
        raise UsageError("--apply needs --undo or --prune: listing runs changes nothing.")
    if narrowed and not options["undo"]:
        raise UsageError("--key and --prefix need --undo.")
    if options["undo"] and not options["run"]:
        raise UsageError("--undo needs the id of a run.", "manage.py r2_runs lists them.")
