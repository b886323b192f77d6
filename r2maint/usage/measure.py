"""What is in the bucket, who names it, and what it costs a month."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

from r2maint.bucket import Bucket, StoredObject
from r2maint.conf import Config
from r2maint.control import Control
from r2maint.errors import Unsupported
from r2maint.inventory import Inventory, Joined
from r2maint.keys import Addresses, Kind
from r2maint.pricing import Bill, Offer, Prices, load_prices, priced_as, storage_saving
from r2maint.purge.quarantine import PREFIX as QUARANTINE_PREFIX
from r2maint.purge.quarantine import is_own
from r2maint.references.columns import Scope, discover
from r2maint.references.reading import Reference, Shape, iter_references
from r2maint.report import Refusal, format_bytes, format_count
from r2maint.usage.analytics import Analytics
from r2maint.usage.cost import Month
from r2maint.usage.grouping import (
    MAX_GROUPS,
    Count,
    Group,
    GroupBy,
    Listing,
    Namer,
    fields_of,
    groups_of,
    namers,
)
from r2maint.usage.limits import Crossing, Limits, crossings, verdicts
from r2maint.usage.outlook import Outlook


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageOptions:
    """How a report groups, prices and judges what it finds."""

    by: tuple[GroupBy, ...] = tuple(GroupBy)
    depth: int = 1
    """Segments of a prefix."""
    top: int | None = None
    """Groups of a listing; the rest is one."""
    class_a: int = 0
    """Operations a month."""
    class_b: int = 0
    analytics: Analytics | None = None
    """Its operations and daily peaks are billed in place of those given here."""
    egress_bytes: int | None = None
    """Bytes a month sent to the internet, for the comparison; None when nobody knows."""
    peaks: Mapping[date, Mapping[str, int]] = field(default_factory=dict)
    """The largest bytes by storage class of days before; without any, today's stay all month."""
    compare: bool = False
    """Whether the month is priced at Amazon S3, too."""
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Saving:
    """What would no longer be stored, and by how much the bill would fall."""

    what: str
    bytes: int
    usd_per_month: Decimal

    def as_dict(self) -> dict[str, Any]:
        return {"what": self.what, "bytes": self.bytes, "usd_per_month": self.usd_per_month}


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
    quarantined: Count
    duplicates: Count
    """Copies beyond the first of equal ETag and size."""
    missing_references: int
    pending_uploads: int | None
    """None when the server cannot tell."""
    groups: Mapping[GroupBy, tuple[Group, ...]]
    cost: Bill
    comparison: tuple[Offer, ...]
    """What others ask for the same month; empty unless asked for."""
    savings: tuple[Saving, ...]
    limits: Mapping[str, bool]
    """Of each limit that was set, whether it is crossed."""
    crossed: tuple[Crossing, ...]
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
            "duplicate_bytes": self.duplicates.bytes,
            "pending_uploads": self.pending_uploads,
        }

    @property
    def extra(self) -> dict[str, Any]:
        return {
            "cost": self.cost.as_dict(),
            "groups": {
                by.value: [group.as_dict() for group in found] for by, found in self.groups.items()
            },
            "savings": [saving.as_dict() for saving in self.savings],
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
    is_narrowed = bool(scope.models or scope.fields or scope.where or scope.databases)
    with Inventory() as inventory:
        references = iter_references(
            discover(config, addresses, scope), addresses, scope, control=control
        )
        inventory.add_references(filter(_may_name_object, references))
        inventory.add_objects(bucket.list_pages(scope.prefix), control=control)
        found = control.track(inventory.join_references(), "Counting")
        now = bucket.now()
        tally = _Tally(
            listings={by: Listing() for by in options.by},
            namers=namers(depth=options.depth, now=now),
            prefix=scope.prefix,
        )
        with closing(_Copies()) as copies:
            tally.read(copies.record(_in_scope(found, is_narrowed)))
            duplicates = copies.count()
    pending = _count_uploads(bucket, scope.prefix)
    month = Month(
        stored=tally.total.by_class,
        today=now.date(),
        class_a=options.class_a,
        class_b=options.class_b,
        egress_bytes=options.egress_bytes,
        peaks=_peaks(options, is_whole=not (is_narrowed or scope.prefix)),
        analytics=options.analytics,
    )
    return _conclude(tally, duplicates, pending, month, prices, options, is_narrowed=is_narrowed)


def _peaks(options: UsageOptions, *, is_whole: bool) -> Mapping[date, Mapping[str, int]]:
    """Return the peaks of days before; Cloudflare's are of the whole bucket, and of all moments."""
    counted = options.analytics.peaks if options.analytics and is_whole else {}
    return {**options.peaks, **counted}


def _count_uploads(bucket: Bucket, prefix: str) -> int | None:
    try:
        return sum(1 for _ in bucket.list_uploads(prefix))
    except Unsupported:
        return None


def _may_name_object(reference: Reference) -> bool:
    return reference.target.kind is Kind.BUCKET or reference.shape is Shape.NAME


def _in_scope(found: Iterable[Joined], is_narrowed: bool) -> Iterator[Joined]:
    return (pair for pair in found if pair[1] or not is_narrowed)


# Counting


@dataclass(slots=True, kw_only=True)
class _Tally:
    """Everything one pass over the join counts."""

    listings: Mapping[GroupBy, Listing]
    namers: Mapping[GroupBy, Namer]
    prefix: str
    total: Count = field(default_factory=Count)
    referenced: Count = field(default_factory=Count)
    orphans: Count = field(default_factory=Count)
    quarantined: Count = field(default_factory=Count)
    shared: Count = field(default_factory=Count)
    missing_references: int = 0

    def read(self, found: Iterable[Joined]) -> None:
        for stored, references in found:
            if stored is None:
                self._add_missing(references)
            else:
                self._add(stored, references)

    def _add_missing(self, references: tuple[Reference, ...]) -> None:
        # A FileField whose file is still local names no object yet, and misses none.
        self.missing_references += sum(
            reference.target.kind is Kind.BUCKET and reference.target.key.startswith(self.prefix)
            for reference in references
        )

    def _add(self, stored: StoredObject, references: tuple[Reference, ...]) -> None:
        counts = [self.total, *self._kinds(stored, references)]
        for count in counts:
            count.add(stored)
        for by, listing in self.listings.items():
            listing.add(self.namers[by](stored, references), stored)

    def _kinds(self, stored: StoredObject, references: tuple[Reference, ...]) -> Iterator[Count]:
        if stored.key.startswith(QUARANTINE_PREFIX):
            yield self.quarantined
        elif references:
            yield self.referenced
            if len(fields_of(references)) > 1:
                yield self.shared
        elif not is_own(stored.key):
            yield self.orphans


_ROWS = 1000


class _Copies:
    """Objects of equal ETag and size, found on disk: SQLite's "" is a temporary file."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.execute("CREATE TABLE seen (etag TEXT, size INTEGER, class TEXT)")
        self._db.execute("BEGIN")
        self._rows: list[tuple[str, int, str]] = []

    def close(self) -> None:
        self._db.close()

    def record(self, found: Iterable[Joined]) -> Iterator[Joined]:
        """Yield what comes, and remember its objects."""
        for pair in found:
            stored = pair[0]
            if stored is not None and stored.size and not is_own(stored.key):
                self._rows.append((stored.etag, stored.size, priced_as(stored.storage_class)))
                if len(self._rows) == _ROWS:
                    self._flush()
            yield pair

    def _flush(self) -> None:
        self._db.executemany("INSERT INTO seen VALUES (?, ?, ?)", self._rows)
        self._rows.clear()

    def count(self) -> Count:
        """Return the copies beyond the first; a copy in Standard is the one that stays."""
        self._flush()
        duplicates = Count()
        rows = self._db.execute(
            "SELECT class, sum(copies), sum(copies * size) FROM (SELECT class, size, count(*) -"
            " (class = min(class) OVER (PARTITION BY etag, size)) AS copies"
            " FROM seen GROUP BY etag, size, class) GROUP BY class HAVING sum(copies)"
        )
        for storage_class, copies, size in rows:
            duplicates.add_bytes(size, storage_class, copies)
        return duplicates


# Pricing and judging


def _conclude(
    tally: _Tally,
    duplicates: Count,
    pending: int | None,
    month: Month,
    prices: Prices,
    options: UsageOptions,
    *,
    is_narrowed: bool,
) -> UsageReport:
    stored = month.stored
    cost = month.bill(prices)
    orphans = None if is_narrowed else tally.orphans
    crossed = tuple(_crossed(tally, orphans, cost, options.limits))
    removable = {"orphans": orphans, "quarantine": tally.quarantined, "duplicates": duplicates}
    return UsageReport(
        total=tally.total,
        referenced=tally.referenced,
        orphans=orphans,
        quarantined=tally.quarantined,
        duplicates=duplicates,
        missing_references=tally.missing_references,
        pending_uploads=pending,
        groups={
            by: groups_of(tally.listings[by], by, cost, stored, top=options.top)
            for by in options.by
        },
        cost=cost,
        comparison=month.compare(prices) if options.compare else (),
        savings=tuple(
            _saving(what, count, stored, prices)
            for what, count in removable.items()
            if count is not None
        ),
        limits=verdicts(options.limits, crossed),
        crossed=crossed,
        notes=tuple(_notes(tally, options, orphans, pending)),
        analytics=options.analytics,
        whole_groups={
            by: {name: count.bytes for name, count in tally.listings[by].counts.items()}
            for by in options.by
        },
    )


def _saving(what: str, count: Count, stored: Mapping[str, int], prices: Prices) -> Saving:
    amount = storage_saving(count.by_class, stored=stored, prices=prices)
    return Saving(what=what, bytes=count.bytes, usd_per_month=amount)


def _crossed(
    tally: _Tally, orphans: Count | None, cost: Bill, limits: Limits
) -> Iterator[Crossing]:
    return crossings(
        limits,
        total_usd=cost.total_usd,
        bytes=tally.total.bytes,
        orphan_bytes=None if orphans is None else orphans.bytes,
        missing=tally.missing_references,
    )


def _notes(
    tally: _Tally, options: UsageOptions, orphans: Count | None, pending: int | None
) -> Iterator[str]:
    if pending is None:
        yield "Unfinished uploads are not counted: this server cannot list them."
    elif pending:
        yield (
            f"{format_count(pending, 'unfinished upload')}: billed until R2 aborts them, after 7"
            " days unless a rule says otherwise. purge_orphans --abort-uploads does it now."
        )
    if tally.shared.objects:
        yield (
            f"{format_count(tally.shared.objects, 'object')}"
            f" ({format_bytes(tally.shared.bytes)}) named by several fields; each counts once, for"
            " the first field in alphabetical order."
        )
    if orphans is None:
        yield (
            "Only objects named by the given models, fields, rows and databases are counted; what"
            " is an orphan cannot be told from them."
        )
    elif orphans.objects:
        yield (
            f"{format_count(orphans.objects, 'orphan')}: no model field names them. purge_orphans"
            " also reads every other text in the database, and may keep some."
        )
    if options.analytics is not None:
        yield from options.analytics.notes()
    if any(tally.listings[by].is_folded for by in options.by):
        yield f'Over {MAX_GROUPS:,} groups in a listing: those met later are in "(other)".'
