"""`manage.py migrate_media_to_r2`: local media that rows name move into the bucket."""

from __future__ import annotations

from django.core.management.base import CommandParser

from r2maint.errors import UsageError
from r2maint.images import Recipe
from r2maint.journal.journal import Journal
from r2maint.management.commands._base import Options, R2Command, Work
from r2maint.migrate.apply import apply_migration
from r2maint.migrate.plan import plan_migration
from r2maint.migrate.remove_local.apply import apply_removal
from r2maint.migrate.remove_local.plan import plan_removal
from r2maint.migrate.remove_local.result import GONE, Removal, RemovalAction, RemovalItem
from r2maint.migrate.result import Migration, MigrationAction, MigrationItem
from r2maint.rendering import ReportColumn, Unit

_OF_MOVING = ("remote", "optimize", "model", "field", "where", "prefix", "limit", "database")
"""Options that say what is moved, and how."""


class Command(R2Command):
    help = (
        "Upload the local media that rows name, once per source, and rewrite the rows to the"
        " bucket's URLs. FileFields keep their names, and so their keys. Nothing local is removed"
        " but by --remove-local: the files a finished run moved, where nothing names them and the"
        " bucket holds their very bytes."
    )
    examples = (
        "manage.py migrate_media_to_r2 --apply",
        "manage.py migrate_media_to_r2 --model submissions.AppSubmission --limit 100 --apply"
        " --no-input --format json",
        "manage.py migrate_media_to_r2 --remove-local 20261123T161200Z-ab12cd",
    )
    columns = (
        ReportColumn("action", "Action"),
        ReportColumn("source", "Source"),
        ReportColumn("key", "Key"),
        ReportColumn("bytes", "Size", Unit.BYTES),
        ReportColumn("reason", "Reason"),
        ReportColumn("url", in_text=False),
        ReportColumn("sha256", in_text=False),
        ReportColumn("references", in_text=False),
    )

    def add_own_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--remote",
            action="store_true",
            help="Fetch external images, too, that fields named in FIELDS point at; with --apply.",
        )
        parser.add_argument(
            "--optimize",
            action="store_true",
            help="Re-encode pictures on the way, as reoptimize does; names keep their bytes.",
        )
        parser.add_argument(
            "--remove-local",
            metavar="RUN",
            help="Move nothing: remove the local files that this finished run moved.",
        )

    def is_fine(self, item: MigrationItem | RemovalItem) -> bool:
        if isinstance(item, RemovalItem):
            return item.reason == GONE
        is_quiet = not (item.to_rewrite or item.changed or item.refused)
        return item.action is MigrationAction.REUSE and is_quiet

    def is_urgent(self, item: MigrationItem | RemovalItem) -> bool:
        if isinstance(item, RemovalItem):
            return item.action is not RemovalAction.REMOVE
        return item.action in (MigrationAction.SKIP, MigrationAction.FAIL) or bool(
            item.changed or item.refused
        )

    def plan(self, work: Work, options: Options) -> Migration | Removal:
        at = work.config, work.addresses, work.bucket
        if (run_id := options["remove_local"]) is not None:
            _refuse_others(options)
            return plan_removal(run_id, *at, control=work.control)
        return plan_migration(
            *at,
            scope=work.scope,
            control=work.control,
            remote=options["remote"],
            recipe=Recipe() if options["optimize"] else None,
        )

    def apply(self, plan: Migration | Removal, work: Work, journal: Journal) -> Migration | Removal:
        at = work.config, work.addresses, work.bucket
        if isinstance(plan, Removal):
            return apply_removal(plan, *at, journal, control=work.control)
        return apply_migration(plan, *at, journal, scope=work.scope, control=work.control)


def _refuse_others(options: Options) -> None:
    for name in _OF_MOVING:
        if options.get(name):
            raise UsageError(
                f"--{name} does not go with --remove-local: a run's files are judged as a whole.",
                "Pass one of them.",
            )
