"""`manage.py verify_urls`: which references name something that is not there, and why."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Mapping
from typing import ClassVar

from django.core.management.base import CommandParser

from r2maint.management.commands._base import Options, R2Command, Work
from r2maint.report import Column
from r2maint.verify import (
    FAILING,
    FINE,
    Finding,
    Level,
    Look,
    Outcome,
    Verification,
    verify_urls,
)


class Command(R2Command):
    help = (
        "Compare every reference in the database with the listing of the bucket, and where asked"
        " to with what its URL answers. Reads only: rows, one LIST per 1,000 objects, and at levels"
        " http and content each distinct URL once."
    )
    examples = (
        "manage.py verify_urls",
        "manage.py verify_urls --model submissions.AppSubmission --format csv --output broken.csv",
        "manage.py verify_urls --level http --fail-on missing,dead,blocked --no-progress",
    )
    writes = False
    plan_finds = True
    rejects: ClassVar[Mapping[str, str]] = {
        "--limit": "it looks at every reference in scope; narrow that with --model or --where."
    }
    columns = (
        Column("outcome", "Outcome"),
        Column("reference.model", "Model"),
        Column("reference.pk", "Row"),
        Column("reference.field", "Field"),
        Column("reference.path", "Element"),
        Column("reference.value", "Value"),
        Column("status", "Status"),
        Column("detail", "Detail"),
        Column("key", in_text=False),
        Column("url", in_text=False),
        Column("advice", in_text=False),
        Column("reference.database", in_text=False),
    )

    def add_own_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--level",
            choices=[level.value for level in Level],
            default=Level.BUCKET.value,
            help="What to ask: bucket, the listing alone (default); http, a HEAD of every public"
            " and external URL too; content, every file, compared with the listing and decoded.",
        )
        parser.add_argument(
            "--fail-on",
            type=_outcomes,
            default=FAILING,
            metavar="OUTCOMES",
            help="Exit with 3 on these outcomes, comma-separated"
            f" (default {','.join(sorted(FAILING))}).",
        )

    def is_fine(self, item: Finding) -> bool:
        return item.outcome in FINE

    def is_urgent(self, item: Finding) -> bool:
        return item.outcome in FAILING

    def headline(self, result: Verification, *, applied: bool) -> str:
        return "every reference against the listing."

    def verdict(self, result: Verification) -> str:
        found = {each: result.outcomes.get(each, 0) for each in sorted(result.fail_on)}
        told = (f"{count:,} {outcome.value}" for outcome, count in found.items() if count)
        return f"References that need mending: {', '.join(told)}."

    def plan(self, work: Work, options: Options) -> Verification:
        return verify_urls(
            work.config,
            work.addresses,
            work.bucket,
            scope=work.scope,
            control=work.control,
            look=Look(
                level=Level(options["level"]), fail_on=options["fail_on"], show_all=options["all"]
            ),
        )


def _outcomes(text: str) -> frozenset[Outcome]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    known = [outcome.value for outcome in Outcome]
    for name in names:
        if name not in known:
            raise ArgumentTypeError(f"{name!r} is none of {', '.join(known)}.")
    return frozenset(map(Outcome, names))
