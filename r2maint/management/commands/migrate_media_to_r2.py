"""`manage.py migrate_media_to_r2`: local media that rows name move into the bucket."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from r2maint.images import Recipe
from r2maint.journal import Journal
from r2maint.management.commands._base import Options, R2Command, Work
from r2maint.migrate.items import Action, Item, Migration
from r2maint.migrate.moving import apply_migration
from r2maint.migrate.planning import plan_migration
from r2maint.report import Column, Unit


class Command(R2Command):
    help = (
        "Upload the local media that rows name, once per source, and rewrite the rows to the"
        " bucket's URLs. FileFields keep their names, and so their keys. Nothing local is removed."
    )
    examples = (
        "manage.py migrate_media_to_r2",
        "manage.py migrate_media_to_r2 --apply",
        "manage.py migrate_media_to_r2 --model submissions.AppSubmission --limit 100 --apply"
        " --no-input --format json",
    )
    columns = (
        Column("action", "Action"),
        Column("source", "Source"),
        Column("key", "Key"),
        Column("bytes", "Size", Unit.BYTES),
        Column("reason", "Reason"),
        Column("url", in_text=False),
        Column("sha256", in_text=False),
        Column("references", in_text=False),
    )

    def add_own_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--remote",
            action="store_true",
            help="Fetch external images, too, that fields named in FIELDS point at.",
        )
        parser.add_argument(
            "--optimize",
            action="store_true",
            help="Re-encode pictures on the way, as reoptimize does; names keep their bytes.",
        )

    def is_fine(self, item: Item) -> bool:
        is_quiet = not (item.to_rewrite or item.changed or item.refused)
        return item.action is Action.REUSE and is_quiet

    def is_urgent(self, item: Item) -> bool:
        return item.action in (Action.SKIP, Action.FAIL) or bool(item.changed or item.refused)

    def plan(self, work: Work, options: Options) -> Migration:
        return plan_migration(
            work.config,
            work.addresses,
            work.bucket,
            scope=work.scope,
            control=work.control,
            remote=options["remote"],
            recipe=Recipe() if options["optimize"] else None,
        )

    def apply(self, plan: Any, work: Work, journal: Journal) -> Migration:
        return apply_migration(
            plan,
            work.config,
            work.addresses,
            work.bucket,
            journal,
            scope=work.scope,
            control=work.control,
        )
