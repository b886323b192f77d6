"""`manage.py r2_runs`: what was done, and the way back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from django.core.management.base import CommandParser

from r2maint.errors import UsageError
from r2maint.journal import Journal
from r2maint.management.commands._base import Options, R2Command, Work
from r2maint.report import Column, Section
from r2maint.runs import Listing, list_runs, show_run
from r2maint.undo import Undo, apply_undo, plan_undo

_RUN = (
    Column("run_id", "Run"),
    Column("command", "Command"),
    Column("bucket", "Bucket"),
    Column("state", "State"),
    Column("started_at", "Started"),
    Column("finished_at", "Finished"),
)
_CHANGE = (
    Column("kind", "Kind"),
    Column("model", "Model"),
    Column("pk", "Row"),
    Column("field", "Field"),
    Column("path", "Element"),
    Column("old", "Old"),
    Column("new", "New"),
    Column("key", "Key"),
)
_SHOWN = (Column("state", "State"), *_CHANGE)
_UNDO = (Column("action", "Action"), *_CHANGE, Column("reason", "Reason"))
_WHOLE = "a run is shown and undone as a whole."


class Command(R2Command):
    help = (
        "List the runs of the writing commands, show one with its changes, or undo it: values go"
        " back by compare-and-swap, deleted objects come out of quarantine, and removed local files"
        " out of the bucket. An edit made since wins, and nothing is overwritten."
    )
    examples = (
        "manage.py r2_runs",
        "manage.py r2_runs 20261123T161200Z-ab12cd --undo",
        "manage.py r2_runs 20261123T161200Z-ab12cd --undo --apply --no-input",
    )
    rejects: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("--model", "--field", "--where", "--prefix", "--limit", "--database"), _WHOLE
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

    def plan(self, work: Work, options: Options) -> Undo | Listing:
        run_id = options["run"]
        if not options["undo"]:
            if options["apply"]:
                raise UsageError("--apply needs --undo: listing runs changes nothing.")
            return show_run(run_id) if run_id else list_runs()
        if not run_id:
            raise UsageError("--undo needs the id of a run.", "manage.py r2_runs lists them.")
        return plan_undo(run_id, work.config, work.addresses, work.bucket, control=work.control)

    def apply(self, plan: Undo, work: Work, journal: Journal) -> Undo:
        return apply_undo(
            plan, work.config, work.addresses, work.bucket, journal, control=work.control
        )

    def journal_options(self, options: Options) -> dict[str, Any]:
        return {"undo": options["run"]}

    def headline(self, result: Undo | Listing, *, applied: bool) -> str:
        if isinstance(result, Listing):
            return "what was done."
        return super().headline(result, applied=applied)

    def sections(self, result: Undo | Listing) -> tuple[Section, ...]:
        columns: tuple[Column, ...] = _UNDO
        if isinstance(result, Listing):
            columns = _RUN if result.is_of_runs else _SHOWN
        return (Section(columns=columns, rows=(item.as_dict() for item in result.items)),)
