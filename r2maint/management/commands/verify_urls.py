"""`manage.py verify_urls`: which references name something that is not there, and why."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import ClassVar

from django.core.management.base import CommandParser

from r2maint.management.commands._base import Options, R2Command, Work
from r2maint.management.commands._options import duration, positive
from r2maint.report import Column, Section, Suite, Unit
from r2maint.verify import FAILING, Finding, Look, Outcome, Verification, verify_urls
from r2maint.verify.groups import Sections, Suites


class Command(R2Command):
    help = (
        "Compare every reference in the database with the listing of the bucket. Reads only: rows"
        " and one LIST per 1,000 objects."
    )
    examples = (
        "manage.py verify_urls",
        "manage.py verify_urls --model submissions.AppSubmission --format csv --output broken.csv",
        "manage.py verify_urls --fail-on missing,alias --no-progress",
    )
    writes = False
    formats = ("text", "json", "jsonl", "csv", "junit")
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
        Column("detail", "Detail"),
        Column("advice", "Advice"),
        Column("failures", "Runs", Unit.COUNT),
        Column("first_failed_at", "First failed"),
        Column("admin_url", "Admin"),
        Column("key", in_text=False),
        Column("url", in_text=False),
        Column("last_ok_at", in_text=False),
        Column("confirmed", in_text=False),
        Column("recovered", in_text=False),
        Column("reference.database", in_text=False),
    )

    def add_own_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--level",
            choices=["bucket"],
            default="bucket",
            help="What to ask: bucket, the listing alone (default).",
        )
        parser.add_argument(
            "--fail-on",
            type=_outcomes,
            default=FAILING,
            metavar="OUTCOMES",
            help="Exit with 3 on these outcomes, comma-separated"
            f" (default {','.join(sorted(FAILING))}).",
        )

        parser.add_argument(
            "--confirm-after",
            type=positive,
            default=1,
            metavar="N",
            help="Report only what failed in N runs in a row (default 1).",
        )
        parser.add_argument(
            "--recheck",
            type=duration,
            default=timedelta(0),
            metavar="7d",
            help="Do not ask again about URLs that were fine within this long; not at level"
            " bucket, which asks about none.",
        )

    def is_fine(self, item: Finding) -> bool:
        return item.is_fine

    def headline(self, result: Verification, *, applied: bool) -> str:
        return "every reference against the listing."

    def verdict(self, result: Verification) -> str:
        found = {each: result.outcomes.get(each, 0) for each in sorted(result.fail_on)}
        told = (f"{count:,} {outcome.value}" for outcome, count in found.items() if count)
        return f"References that need mending: {', '.join(told)}."

    def sections(self, result: Verification) -> Iterable[Section]:
        return Sections(result.items, self.columns)

    def suites(self, result: Verification) -> Iterable[Suite]:
        return Suites(result.items, result.fail_on)

    def plan(self, work: Work, options: Options) -> Verification:
        return verify_urls(
            work.config,
            work.addresses,
            work.bucket,
            scope=work.scope,
            control=work.control,
            look=Look(
                fail_on=options["fail_on"],
                show_all=options["all"],
                confirm_after=options["confirm_after"],
                recheck=options["recheck"],
            ),
        )


def _outcomes(text: str) -> frozenset[Outcome]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    known = [outcome.value for outcome in Outcome]
    for name in names:
        if name not in known:
            raise ArgumentTypeError(f"{name!r} is none of {', '.join(known)}.")
    return frozenset(map(Outcome, names))
