"""What is in the bucket, who names it, and what it costs a month."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime

from r2maint.bucket import Bucket
from r2maint.conf import Config
from r2maint.control import Control
from r2maint.keys import Addresses
from r2maint.pricing import Prices, load_prices
from r2maint.references.discover_columns import discover
from r2maint.references.read_rows import iter_references
from r2maint.references.scope import Scope
from r2maint.usage.attribute import Attribution, Large
from r2maint.usage.cost import Month, larger
from r2maint.usage.count import Pending, UsageTally, measure_pending, types_by_name
from r2maint.usage.duplicates import Duplicates
from r2maint.usage.earlier_runs import iter_encoded, iter_sighted, measure_encoded
from r2maint.usage.groups import groups_of
from r2maint.usage.notes import iter_notes
from r2maint.usage.result import LARGEST, UsageOptions, UsageReport
from r2maint.usage.savings import EncodedPictures, Removable, cooling, find_savings
from r2maint.usage.sniff_types import Sniffer
from r2maint.usage.thresholds import Measured, crossings, verdicts


def measure_usage(
    config: Config,
    addresses: Addresses,
    bucket: Bucket,
    *,
    scope: Scope,
    control: Control,
    options: UsageOptions,
    now: datetime | None = None,
) -> UsageReport:
    """Return what the bucket holds, by one listing and one reading of the references.

    Rows are read first, so that a file uploaded with its row in between is not called missing. One
    Class A request per 1,000 objects. A narrowed scope counts the objects its references name.
    `now` is the bucket's time unless given.
    Raises: UsageError, ConfigError, DatabaseError, BucketError, Stopped.
    """
    prices = load_prices(config.prices)
    columns = discover(config, addresses, scope)
    with Attribution(
        columns,
        prefix=scope.prefix,
        narrowed=scope.is_narrowed,
        largest=options.top or LARGEST,
    ) as attribution:
        attribution.add_uses(iter_references(columns, addresses, scope, control=control))
        attribution.add_tried(iter_encoded(bucket.name))
        attribution.add_sighted(iter_sighted(bucket.name))
        sniffer = Sniffer(bucket) if options.sniff else None
        tally = UsageTally(
            by=options.by,
            depth=options.depth,
            now=now or bucket.now(),
            names=attribution.names,
            types=sniffer or types_by_name,
        )
        tally.read(attribution.join(bucket.list_pages(scope.prefix), control=control))
        found = _Found(
            tally=tally,
            duplicates=attribution.duplicates(),
            missing=attribution.count_missing(),
            largest=attribution.largest(),
            pending=measure_pending(bucket, scope.prefix),
            encoded=measure_encoded(bucket.name),
            sniffed=sniffer.told(prices) if sniffer else (),
            scope=scope,
        )
    month = Month(
        stored=tally.total.by_class,
        today=tally.now.date(),
        class_a=options.class_a,
        class_b=options.class_b,
        retrieved_bytes=options.retrieved_bytes,
        egress_bytes=options.egress_bytes,
        peaks=_peaks(options, is_whole=not scope.is_part),
        analytics=options.analytics,
        is_part=scope.is_part,
    )
    return _conclude(found, month, prices, options)


def _peaks(options: UsageOptions, *, is_whole: bool) -> Mapping[date, Mapping[str, int]]:
    """Return the peaks of days before, the larger of what was seen; Cloudflare's are of the whole.

    Either may have missed one: reports look once a day, and analytics are samples.
    """
    counted = options.analytics.peaks if options.analytics and is_whole else {}
    days = {*options.peaks, *counted}
    return {day: larger(options.peaks.get(day, {}), counted.get(day, {})) for day in days}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    tally: UsageTally
    duplicates: Duplicates
    missing: int
    largest: tuple[Large, ...]
    pending: Pending | None
    encoded: EncodedPictures
    sniffed: tuple[str, ...]
    scope: Scope


# Pricing and judging


def _conclude(found: _Found, month: Month, prices: Prices, options: UsageOptions) -> UsageReport:
    tally, stored = found.tally, month.stored
    cost = month.bill(prices)
    orphans = None if found.scope.is_narrowed else tally.orphans
    measured = Measured(
        total_usd=cost.total_usd,
        bytes=tally.total.bytes,
        orphan_bytes=None if orphans is None else orphans.bytes,
        missing=found.missing,
    )
    crossed = tuple(crossings(options.limits, measured))
    removable = Removable(
        orphans=orphans,
        sighted=tally.sighted,
        quarantined=tally.quarantined,
        duplicates=found.duplicates.extra,
        pictures=tally.pictures,
        encoded=found.encoded,
    )
    return UsageReport(
        total=tally.total,
        referenced=tally.referenced,
        orphans=orphans,
        sighted=tally.sighted,
        quarantined=tally.quarantined,
        duplicates=found.duplicates,
        shared=tally.shared,
        empty=tally.empty,
        missing_references=found.missing,
        pending=found.pending,
        groups={
            by: groups_of(tally.listings[by], by, cost, stored, top=options.top)
            for by in options.by
        },
        month=month,
        prices=prices,
        cost=cost,
        comparison=month.compare(prices) if options.compare else (),
        savings=(
            *find_savings(removable, stored=stored, prices=prices),
            *cooling(tally.settled, month.steady, prices),
        ),
        largest=found.largest,
        limits=verdicts(options.limits, crossed),
        crossed=crossed,
        notes=(
            *iter_notes(tally, prefix=found.scope.prefix, orphans=orphans, pending=found.pending),
            *found.sniffed,
            *(options.analytics.notes() if options.analytics else ()),
        ),
        analytics=options.analytics,
        whole_groups={
            by: {name: count.bytes for name, count in tally.listings[by].counts.items()}
            for by in options.by
        },
    )
