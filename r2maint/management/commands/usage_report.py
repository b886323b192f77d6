"""`manage.py usage_report`: what is in the bucket, who names it, and what it costs."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, ClassVar

from django.core.management.base import CommandParser

from r2maint.cloudflare import API_URL
from r2maint.cloudflare.analytics import Analytics, ask_analytics
from r2maint.errors import UsageError
from r2maint.management.commands._base import Options, R2Command, Work
from r2maint.management.commands._options import duration, gigabytes, natural, positive
from r2maint.pricing import GB
from r2maint.rendering import Metric, ReportColumn, Section, format_bytes, format_count, format_usd
from r2maint.signals import threshold_crossed
from r2maint.usage.forecast import HORIZONS
from r2maint.usage.groups import GroupBy
from r2maint.usage.metrics import metrics_of
from r2maint.usage.plan import measure_usage
from r2maint.usage.report import COUNTS, sections_of
from r2maint.usage.result import UsageOptions, UsageReport
from r2maint.usage.thresholds import Thresholds
from r2maint.usage.trend import Looking, known_peaks, look_over_time


class Command(R2Command):
    help = (
        "Report what is in the bucket by prefix, type, model field, storage class, age and size,"
        " and what it costs a month."
    )
    examples = (
        "manage.py usage_report",
        "manage.py usage_report --by prefix --depth 2 --top 10 --analytics",
        "manage.py usage_report --budget 25 --max-orphans 10% --format json --output usage.json",
    )
    writes = False
    plan_finds = True
    api_url: ClassVar[str] = API_URL
    """Of Cloudflare's API."""
    formats = ("text", "json", "jsonl", "csv", "html", "prometheus")
    rejects: ClassVar[Mapping[str, str]] = {"--limit": "a count of some objects is no count."}
    columns = (ReportColumn("by"), ReportColumn("name"), *COUNTS)

    def add_own_arguments(self, parser: CommandParser) -> None:
        add = parser.add_argument
        ways = [by.value for by in GroupBy]
        add(
            "--by",
            action="append",
            choices=ways,
            default=[],
            help="How objects are grouped. Repeatable (default: every way).",
        )
        add(
            "--depth",
            type=positive,
            default=1,
            metavar="N",
            help="Group prefixes by their first N segments (default 1).",
        )
        add(
            "--top",
            type=positive,
            metavar="N",
            help="Show the N largest groups, of which the others become one, and the N largest"
            " objects and sets of duplicates (default: all groups, 10 objects, 10 sets).",
        )
        add(
            "--sniff",
            action="store_true",
            help="Tell types by the first bytes of every object and not by its name. One Class B"
            " request an object.",
        )
        add(
            "--class-a",
            type=natural,
            metavar="N",
            help="Class A operations a month (writes, lists) to include in the bill.",
        )
        add(
            "--class-b",
            type=natural,
            metavar="N",
            help="Class B operations a month (reads) to include in the bill.",
        )
        add(
            "--retrieved",
            type=gigabytes,
            metavar="SIZE",
            help="What is read or copied out of Infrequent Access a month, to include in the bill:"
            " 500GB, 1.5TB, 1TiB.",
        )
        add(
            "--analytics",
            action="store_true",
            help="Ask Cloudflare for operations, daily storage and bandwidth of the last 30 days"
            " (needs API_TOKEN), and bill those operations, unless only a part of the bucket is"
            " reported on.",
        )
        add(
            "--compare",
            action="store_true",
            help="Price the same month at Amazon S3, too.",
        )
        add(
            "--egress",
            type=gigabytes,
            metavar="SIZE",
            help="What is sent to the internet a month, for --compare: 500GB, 1.5TB, 1TiB (default:"
            " what --analytics counts).",
        )
        add("--budget", type=dollars, metavar="USD", help="Exit with 3 if the bill is over this.")
        add(
            "--max-orphans",
            type=percent,
            metavar="P%",
            help="Exit with 3 if orphans are more than P%% of all bytes.",
        )
        add(
            "--max-missing",
            type=natural,
            metavar="N",
            help="Exit with 3 if more than N references name an object that is absent.",
        )
        add(
            "--max-stored",
            type=gigabytes,
            metavar="SIZE",
            help="Exit with 3 if more is stored; the forecast says when it will be: 500GB, 1.5TB.",
        )
        add(
            "--forecast",
            action="append",
            type=duration,
            default=[],
            metavar="90d",
            help="How far to look ahead. Repeatable (default: 30, 90 and 365 days).",
        )

    def plan(self, work: Work, options: Options) -> UsageReport:
        chosen, horizons = _chosen(options), _horizons(options["forecast"])
        now = work.clock.now()
        chosen = replace(
            chosen,
            # First: a token that is refused is seen before the whole bucket is listed.
            analytics=self._ask_analytics(work, options),
            peaks=known_peaks(work.bucket.name, work.scope, until=now.date()),
        )
        measured = measure_usage(
            work.config,
            work.addresses,
            work.bucket,
            scope=work.scope,
            control=work.control,
            options=chosen,
            now=now,
        )
        looking = Looking(
            options=chosen,
            scope=work.scope,
            at=work.clock.now(),
            horizons=horizons,
        )
        measured = look_over_time(measured, work.bucket.name, looking)
        if measured.crossed:
            threshold_crossed.send_robust(
                self.name,
                bucket=work.bucket.name,
                findings=tuple(crossing.message for crossing in measured.crossed),
                crossings=measured.crossed,
                summary=measured.summary(),
            )
        return measured

    def _ask_analytics(self, work: Work, options: Options) -> Analytics | None:
        if not options["analytics"]:
            return None
        if (options["class_a"], options["class_b"]) != (None, None):
            raise UsageError(
                "--analytics counts the operations that --class-a and --class-b give.",
                "Pass the one or the others.",
            )
        return ask_analytics(
            work.config, now=work.clock.now(), control=work.control, api_url=self.api_url
        )

    def headline(self, result: UsageReport, *, applied: bool) -> str:
        total = result.total
        return (
            f"{format_count(total.objects, 'object')}, {format_bytes(total.bytes)},"
            f" {format_usd(result.cost.total_usd)} a month."
        )

    def verdict(self, result: UsageReport) -> str:
        return " ".join(crossing.message for crossing in result.crossed)

    def metrics(self, result: UsageReport, bucket: str) -> Iterable[Metric]:
        return metrics_of(bucket, result.summary(), result.extra, limits=result.limits)

    def sections(self, result: UsageReport) -> tuple[Section, ...]:
        return sections_of(result)


def _chosen(options: Options) -> UsageOptions:
    return UsageOptions(
        by=tuple(map(GroupBy, options["by"])) or tuple(GroupBy),
        depth=options["depth"],
        top=options["top"],
        sniff=options["sniff"],
        class_a=options["class_a"] or 0,
        class_b=options["class_b"] or 0,
        retrieved_bytes=_bytes(options["retrieved"]) or 0,
        egress_bytes=_egress(options),
        compare=options["compare"],
        limits=Thresholds(
            budget=_exact(options["budget"]),
            max_orphans=_exact(options["max_orphans"]),
            max_missing=options["max_missing"],
            max_bytes=_bytes(options["max_stored"]),
        ),
    )


def _horizons(spans: Iterable[timedelta]) -> tuple[int, ...]:
    days = {span.days for span in spans}
    if 0 in days:
        raise UsageError("--forecast: it looks one day ahead at least.", "Write 30d or more.")
    return tuple(sorted(days)) or HORIZONS


def _bytes(gigabytes: Decimal | None) -> int | None:
    return None if gigabytes is None else int(Decimal(gigabytes) * GB)


def dollars(text: str) -> Decimal:
    """Return an amount of US dollars, 0 or above; a leading "$" is allowed."""
    return _amount(text.removeprefix("$"), text)


def percent(text: str) -> Decimal:
    """Return the P of "P%"."""
    return _amount(text.removesuffix("%"), text)


def _amount(number: str, text: str) -> Decimal:
    try:
        amount = Decimal(number)
    except InvalidOperation:
        amount = Decimal(-1)
    if not amount.is_finite() or amount < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no amount, 0 or above.")
    return amount


def _egress(options: Options) -> int | None:
    """Return bytes a month, None when not told."""
    if options["egress"] is not None and not options["compare"]:
        raise UsageError("--egress goes with --compare.", "R2 does not bill egress.")
    return _bytes(options["egress"])


def _exact(value: Any) -> Decimal | None:
    """Return a number given from code exactly: 25, or a float as it is written."""
    return None if value is None else Decimal(str(value))
