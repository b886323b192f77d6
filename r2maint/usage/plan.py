"""What is in the bucket, who names it, and what it costs a month."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from r2maint.bucket import Bucket
from r2maint.cloudflare.analytics import Analytics
from r2maint.conf import Config
from r2maint.control import Control
from r2maint.keys import Addresses
from r2maint.pricing import Bill, Offer, Prices, load_prices
from r2maint.references.discover_columns import discover
from r2maint.references.read_rows import iter_references
from r2maint.references.scope import Scope
from r2maint.rendering import Refusal
from r2maint.usage.attribute import Attribution, Large
from r2maint.usage.cost import Month, larger
from r2maint.usage.count import UsageTally, types_by_name
from r2maint.usage.duplicates import Duplicates
from r2maint.usage.forecast import Outlook
from r2maint.usage.groups import Count, Group, GroupBy, groups_of
from r2maint.usage.notes import iter_notes
from r2maint.usage.remembered import iter_encoded, iter_sighted, measure_encoded
from r2maint.usage.savings import EncodedPictures, Removable, Saving, cooling, find_savings
from r2maint.usage.sniff_types import Sniffer
from r2maint.usage.thresholds import Measured, ThresholdCrossing, Thresholds, crossings, verdicts
from r2maint.usage.uploads import Pending, measure_pending

LARGEST = 10
"""Objects, and sets of duplicates, told one by one, unless `top` says how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageOptions:
    """How a report groups, prices and judges what it finds."""

    by: tuple[GroupBy, ...] = tuple(GroupBy)
    depth: int = 1
    """Segments of a prefix."""
    top: int | None = None
    """Groups of a listing, of which the rest is one; and of the largest objects and sets."""
    sniff: bool = False
    """Types by the first bytes of each object; one Class B request each."""
    class_a: int = 0
    """Operations a month."""
    class_b: int = 0
    retrieved_bytes: int = 0
    """Read or copied out of Infrequent Access a month."""
    analytics: Analytics | None = None
    """Its operations and daily peaks are billed in place of those given here, unless the report is
    of a part of the bucket."""
    egress_bytes: int | None = None
    """Bytes a month sent to the internet, for the comparison; None for what analytics count."""
    peaks: Mapping[date, Mapping[str, int]] = field(default_factory=dict)
    """The largest bytes by storage class of days before; without any, today's stay all month."""
    compare: bool = False
    """Whether the month is priced at Amazon S3, too."""
    limits: Thresholds = field(default_factory=Thresholds)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupItem:
    """One group as an item of the report."""

    by: GroupBy
    group: Group

    def as_dict(self) -> dict[str, Any]:
        return {"by": self.by.value, **self.group.as_dict()}


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageReport:
    """The whole picture of one bucket."""

    total: Count
    referenced: Count
    orphans: Count | None
    """What no field names; None when the references were narrowed, so that nobody can tell."""
    sighted: Count
    """Of these, what the last complete plan of a purge found orphaned."""
    quarantined: Count
    duplicates: Duplicates
    shared: Count
    """Named by several fields; counted once everywhere."""
    empty: Count
    missing_references: int
    pending: Pending | None
    """None when the server cannot tell."""
    groups: Mapping[GroupBy, tuple[Group, ...]]
    month: Month
    prices: Prices
    cost: Bill
    """Of that month, by these prices."""
    comparison: tuple[Offer, ...]
    """What others ask for the same month; empty unless asked for."""
    savings: tuple[Saving, ...]
    largest: tuple[Large, ...]
    limits: Mapping[str, bool]
    """Of each limit that was set, whether it is crossed."""
    crossed: tuple[ThresholdCrossing, ...]
    notes: tuple[str, ...]
    analytics: Analytics | None = None
    """None when nobody asked."""
    whole_groups: Mapping[GroupBy, Mapping[str, int]] = field(default_factory=dict)
    """The bytes of every group, whatever `top` says."""
    outlook: Outlook = field(default_factory=Outlook)
    has_work: bool = False
    stopped: None = None
    refusals: tuple[Refusal, ...] = ()

    @property
    def findings(self) -> bool:
        return bool(self.crossed)

    @property
    def items(self) -> tuple[GroupItem, ...]:
        return tuple(
            GroupItem(by=by, group=group) for by, found in self.groups.items() for group in found
        )

    def summary(self) -> dict[str, int | None]:
        return {
            "objects": self.total.objects,
            "bytes": self.total.bytes,
            "referenced_bytes": self.referenced.bytes,
            "orphan_bytes": None if self.orphans is None else self.orphans.bytes,
            "quarantined_bytes": self.quarantined.bytes,
            "missing_references": self.missing_references,
            "duplicate_bytes": self.duplicates.extra.bytes,
            "pending_uploads": self.pending.uploads if self.pending else None,
            "pending_upload_bytes": self.pending.bytes if self.pending else None,
            "shared_objects": self.shared.objects,
            "shared_bytes": self.shared.bytes,
            "duplicate_objects": self.duplicates.extra.objects,
            "empty_objects": self.empty.objects,
        }

    @property
    def extra(self) -> dict[str, Any]:
        return {
            "cost": self.cost.as_dict(),
            "groups": {
                by.value: [group.as_dict() for group in found] for by, found in self.groups.items()
            },
            "savings": [saving.as_dict() for saving in self.savings],
            "largest": [large.as_dict() for large in self.largest],
            "duplicates": [each.as_dict() for each in self.duplicates.largest],
            "comparison": [offer.as_dict() for offer in self.comparison],
            "analytics": self.analytics.as_dict() if self.analytics else None,
            **self.outlook.extra,
            "crossed": [crossing.message for crossing in self.crossed],
            "crossings": [crossing.as_dict() for crossing in self.crossed],
        }


def measure_usage(
    config: Config,
    addresses: Addresses,
    bucket: Bucket,
    *,
    scope: Scope,
    control: Control,
    options: UsageOptions,
) -> UsageReport:
    """Return what the bucket holds, by one listing and one reading of the references.

    Rows are read first, so that a file uploaded with its row in between is not called missing. One
    Class A request per 1,000 objects. A narrowed scope counts the objects its references name.
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
            now=bucket.now(),
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
