"""`manage.py usage_report`: what is in the bucket, who names it, and what it costs."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, ClassVar

from django.core.management.base import CommandParser

from r2maint.cloudflare import API_URL
from r2maint.errors import UsageError
from r2maint.management.commands._base import Options, R2Command, Work
from r2maint.management.commands._options import duration, gigabytes, natural, positive
from r2maint.pricing import GB, load_prices
from r2maint.report import (
    Chart,
    Column,
    Metric,
    Section,
    Unit,
    format_bytes,
    format_count,
    format_usd,
)
from r2maint.signals import threshold_crossed
from r2maint.usage.analytics import Analytics, ask_analytics
from r2maint.usage.attribution import Large
from r2maint.usage.grouping import GroupBy
from r2maint.usage.limits import Limits
from r2maint.usage.measure import UsageOptions, UsageReport, measure_usage
from r2maint.usage.metrics import metrics_of
from r2maint.usage.outlook import HORIZONS
from r2maint.usage.overtime import Looking, known_peaks, look_over_time
from r2maint.usage.timetables import over_time

_COUNTS = (
    Column("objects", unit=Unit.COUNT),
    Column("bytes", "Size", Unit.BYTES),
    Column("usd_per_month", "USD a month", Unit.USD),
)


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
    columns = (Column("by"), Column("name"), *_COUNTS)

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
            " objects (default: all groups, 10 objects).",
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
            "--analytics",
            action="store_true",
            help="Ask Cloudflare for operations, daily storage and bandwidth of the last 30 days"
            " (needs API_TOKEN), and bill those operations.",
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
            help="What is sent to the internet a month, for --compare: 500GB, 1.5TB, 1TiB.",
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
        chosen = replace(
            chosen,
            # First: a token that is refused is seen before the whole bucket is listed.
            analytics=self._ask_analytics(work, options),
            peaks=known_peaks(work.bucket.name, work.scope, until=work.bucket.now().date()),
        )
        measured = measure_usage(
            work.config,
            work.addresses,
            work.bucket,
            scope=work.scope,
            control=work.control,
            options=chosen,
        )
        looking = Looking(
            options=chosen,
            prices=load_prices(work.config.prices),
            scope=work.scope,
            at=work.bucket.now(),
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
            work.config, now=work.bucket.now(), control=work.control, api_url=self.api_url
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
        return (
            *_groups(result),
            _history(result),
            _largest(result),
            _cost(result),
            *(_analytics(result.analytics) if result.analytics else ()),
            _savings(result),
            *over_time(result.outlook),
            _lines("assumed", result.cost.assumptions),
            *_comparison(result),
            _lines("over the limit", (crossing.message for crossing in result.crossed)),
        )


def _chosen(options: Options) -> UsageOptions:
    return UsageOptions(
        by=tuple(map(GroupBy, options["by"])) or tuple(GroupBy),
        depth=options["depth"],
        top=options["top"],
        sniff=options["sniff"],
        class_a=options["class_a"] or 0,
        class_b=options["class_b"] or 0,
        egress_bytes=_egress(options),
        compare=options["compare"],
        limits=Limits(
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


def _groups(result: UsageReport) -> Iterator[Section]:
    for by, groups in result.groups.items():
        columns = (Column("name", by.value.capitalize()), *_COUNTS)
        rows = [group.as_dict() for group in groups]
        yield Section(columns=columns, rows=rows, drawn="bytes")


def _history(result: UsageReport) -> Section:
    """Return the bytes of each day; without rows while no snapshots are kept."""
    return Section(
        title="Over time",
        columns=(Column("day"), _COUNTS[1]),
        rows=result.extra.get("history", ()),
        drawn="bytes",
        chart=Chart.LINE,
        in_text=False,
    )


def _largest(result: UsageReport) -> Section:
    columns = (
        Column("key", "Largest"),
        Column("bytes", "Size", Unit.BYTES),
        Column("owner", "Named by"),
    )
    rows = [
        {"key": large.key, "bytes": large.bytes, "owner": _owner(large)} for large in result.largest
    ]
    return Section(columns=columns, rows=rows)


def _owner(large: Large) -> str:
    """Return the first cell that names an object, and how many others do."""
    if not large.owners:
        return ""
    first, others = large.owners[0], large.references - 1
    told = f"{first.column.model} {first.pk} {first.column.field}"
    return f"{told} and {others:,} more" if others else told


def _cost(result: UsageReport) -> Section:
    cost = result.cost.as_dict()
    names = ("storage_usd", "class_a_usd", "class_b_usd", "retrieval_usd", "total_usd")
    titles = ("Storage", "Class A", "Class B", "Retrieval", "Total")
    rows = [{"cost": title, "usd": cost[name]} for title, name in zip(titles, names, strict=True)]
    columns = (Column("cost"), Column("usd", "USD a month", Unit.USD))
    return Section(columns=columns, rows=rows, drawn="usd")


def _analytics(analytics: Analytics) -> Iterator[Section]:
    days = f"{analytics.first_day} to {analytics.last_day} (UTC)"
    yield Section(
        title=f"Operations, {days}, by Cloudflare's analytics",
        columns=(
            Column("name", "Operation"),
            Column("storage_class", "Storage class"),
            Column("class", "Billed as"),
            Column("requests", "Requests", Unit.COUNT),
            Column("unbilled", "Not billed", Unit.COUNT),
        ),
        rows=[each.as_dict() for each in analytics.operations],
    )
    yield Section(
        title=f"Storage and bandwidth, {days}, by Cloudflare's analytics",
        columns=(Column("what", "What"), Column("bytes", "Size", Unit.BYTES)),
        rows=[{"what": what, "bytes": size} for what, size in analytics.sizes()],
    )


def _comparison(result: UsageReport) -> Iterator[Section]:
    if not result.comparison:
        return
    columns = (
        Column("provider"),
        Column("priced"),
        Column("storage_usd", "Storage", Unit.USD),
        Column("operations_usd", "Requests", Unit.USD),
        Column("egress_usd", "Egress", Unit.USD),
        Column("total_usd", "Total", Unit.USD),
    )
    rows = [
        {"provider": offer.provider, "priced": priced, **amounts.as_dict()}
        for offer in result.comparison
        for priced, amounts in (
            ("by its rules", offer.by_rules),
            ("list price × quantity", offer.at_list_price),
        )
    ]
    yield Section(title="Compared with Amazon S3, a month", columns=columns, rows=rows)
    yield _lines(
        "assumed in the comparison",
        [f"{offer.provider}: {line}" for offer in result.comparison for line in offer.assumptions],
    )


def _savings(result: UsageReport) -> Section:
    return Section(
        columns=(
            Column("what", "Without"),
            _COUNTS[1],
            Column("usd_per_month", "Saves a month", Unit.USD),
            Column("how", "By"),
        ),
        rows=[
            saving.as_dict() | {"what": saving.what.capitalize()}
            for saving in result.savings
            if saving.bytes
        ],
    )


def _lines(title: str, lines: Iterable[str]) -> Section:
    return Section(columns=(Column(title),), rows=[{title: line} for line in lines])


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
    if options["egress"] is None:
        return None
    if not options["compare"]:
        raise UsageError("--egress goes with --compare.", "R2 does not bill egress.")
    return int(options["egress"] * GB)


def _exact(value: Any) -> Decimal | None:
    """Return a number given from code exactly: 25, or a float as it is written."""
    return None if value is None else Decimal(str(value))
