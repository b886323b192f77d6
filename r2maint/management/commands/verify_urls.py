"""`manage.py verify_urls`: which references name something that is not there, and why."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import ClassVar

from django.core.management.base import CommandParser

from r2maint.errors import Stopped, UsageError
from r2maint.journal.journal import Journal
from r2maint.keys import Addresses
from r2maint.management.commands._base import Options, R2Command, Work
from r2maint.management.commands._options import duration, not_empty, positive
from r2maint.rendering import ReportColumn, Section, Suite, Unit
from r2maint.verify import (
    FAILING,
    Finding,
    Level,
    Look,
    Outcome,
    RepairKind,
    Subject,
    Verification,
    apply_repairs,
    verify_urls,
)
from r2maint.verify.report import Sections, Suites

_KINDS = tuple(kind.value for kind in RepairKind)
_AGAIN = "Nothing was judged: run the same command again."
_SPARED = "With --recheck 1d it passes over the URLs that were fine by now."
_HEADLINES = {
    Level.BUCKET: "every reference against the listing.",
    Level.HTTP: "every reference against the listing and what its URL answers.",
    Level.CONTENT: "every reference against the listing and the file its URL serves.",
}


class Command(R2Command):
    help = (
        "Compare every reference in the database with the listing of the bucket, and where asked"
        " to with what its URL answers. --repair plans what would mend them, and --apply carries"
        " that out; without --repair nothing is written."
    )
    examples = (
        "manage.py verify_urls --model submissions.AppSubmission --format csv --output broken.csv",
        "manage.py verify_urls --level http --confirm-after 3 --no-progress",
        "manage.py verify_urls --repair alias,moved --apply",
    )
    formats = ("text", "json", "jsonl", "csv", "junit")
    plan_finds = True
    rejects: ClassVar[Mapping[str, str]] = {
        "--limit": "it looks at every reference in scope; narrow that with --model or --where."
    }
    columns = (
        ReportColumn("outcome", "Outcome"),
        ReportColumn("reference.model", "Model"),
        ReportColumn("reference.pk", "Row"),
        ReportColumn("reference.field", "Field"),
        ReportColumn("reference.path", "Element"),
        ReportColumn("reference.value", "Value"),
        ReportColumn("status", "Status"),
        ReportColumn("detail", "Detail"),
        ReportColumn("advice", "Advice"),
        ReportColumn("failures", "Runs", Unit.COUNT),
        ReportColumn("first_failed_at", "First failed"),
        ReportColumn("repair.action", "Repair"),
        ReportColumn("repair.new", "New value"),
        ReportColumn("repair.reason", "Reason"),
        ReportColumn("admin_url", "Admin"),
        ReportColumn("key", in_text=False),
        ReportColumn("url", in_text=False),
        ReportColumn("last_ok_at", in_text=False),
        ReportColumn("confirmed", in_text=False),
        ReportColumn("recovered", in_text=False),
        ReportColumn("reference.database", in_text=False),
        ReportColumn("repair.kind", in_text=False),
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
            f" (default: {', '.join(each.value for each in Outcome if each in FAILING)}).",
        )
        parser.add_argument(
            "--confirm-after",
            type=positive,
            default=1,
            metavar="N",
            help="Report only what failed in N runs in a row, and exit with 3 on that alone"
            " (default 1).",
        )
        parser.add_argument(
            "--recheck",
            type=duration,
            default=timedelta(0),
            metavar="7d",
            help="Do not ask again about URLs that were fine within this long; not at level"
            " bucket, which asks about none.",
        )
        parser.add_argument(
            "--repair",
            type=_kinds,
            metavar="KINDS",
            help=f"Plan repairs of these kinds, comma-separated: {', '.join(_KINDS)}, or all.",
        )
        parser.add_argument(
            "--url",
            type=not_empty,
            metavar="URL",
            help="Tell which values name what this URL means; looks at nothing else.",
        )
        parser.add_argument(
            "--key",
            type=not_empty,
            metavar="KEY",
            help="Tell which values name this key; looks at nothing else.",
        )

    def is_fine(self, item: Finding) -> bool:
        return item.is_fine

    def headline(self, result: Verification, *, applied: bool) -> str:
        if result.looked_up:
            return f"what names {result.looked_up!r}."
        if result.repairs is not None:
            return super().headline(result, applied=applied)
        return _HEADLINES[result.level]

    def verdict(self, result: Verification) -> str:
        failed = (each for each in Outcome if each in result.fail_on and result.outcomes.get(each))
        told = [f"{result.outcomes[each]:,} {each.value}" for each in failed]
        return f"References that need mending: {', '.join(told)}." if told else ""

    def sections(self, result: Verification) -> Iterable[Section]:
        return Sections(result.items, self.columns)

    def suites(self, result: Verification) -> Iterable[Suite]:
        return Suites(result.items, result.fail_on)

    def plan(self, work: Work, options: Options) -> Verification:
        look = _look(options, work.addresses)
        try:
            return verify_urls(
                work.config,
                work.addresses,
                work.bucket,
                scope=work.scope,
                control=work.control,
                look=look,
            )
        except Stopped as stopped:
            again = _AGAIN if look.level is Level.BUCKET else f"{_AGAIN} {_SPARED}"
            raise Stopped(stopped.reason, stopped.exit_code, again) from stopped

    def apply(self, plan: Verification, work: Work, journal: Journal) -> Verification:
        return apply_repairs(plan, work.addresses, work.bucket, journal, control=work.control)


def _look(options: Options, addresses: Addresses) -> Look:
    return Look(
        level=Level(options["level"]),
        fail_on=options["fail_on"],
        show_all=options["all"],
        confirm_after=options["confirm_after"],
        recheck=options["recheck"],
        repair=_asked_repairs(options),
        subject=_subject(options, addresses),
    )


def _asked_repairs(options: Options) -> frozenset[RepairKind] | None:
    kinds: frozenset[RepairKind] | None = options["repair"]
    if options["apply"] and kinds is None:
        raise UsageError(
            "--apply needs --repair: looking changes nothing.",
            f"--repair takes {','.join(_KINDS)}, or all.",
        )
    if kinds is not None and (options["url"] or options["key"]):
        raise UsageError("--repair goes with neither --url nor --key: they only tell.")
    return kinds


def _subject(options: Options, addresses: Addresses) -> Subject | None:
    url, key = options["url"], options["key"]
    if url and key:
        raise UsageError("--url and --key exclude each other.", "Pass one of them.")
    if url:
        return Subject.of_url(url, addresses)
    return Subject.of_key(key) if key else None


def _kinds(text: str) -> frozenset[RepairKind]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise ArgumentTypeError(f"{text!r} names nothing of {', '.join(_KINDS)}, all.")
    for name in names:
        if name not in (*_KINDS, "all"):
            raise ArgumentTypeError(f"{name!r} is none of {', '.join(_KINDS)}, all.")
    return frozenset(RepairKind) if "all" in names else frozenset(map(RepairKind, names))


def _outcomes(text: str) -> frozenset[Outcome]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    known = [outcome.value for outcome in Outcome]
    if not names:
        raise ArgumentTypeError(f"{text!r} names none of {', '.join(known)}.")
    for name in names:
        if name not in known:
            raise ArgumentTypeError(f"{name!r} is none of {', '.join(known)}.")
    return frozenset(map(Outcome, names))
