"""What a report is made of: options, items, and the report. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from r2maint.cloudflare.analytics import Analytics
from r2maint.pricing import Bill, Offer, Prices
from r2maint.rendering import Refusal
from r2maint.usage.attribute import Large
from r2maint.usage.cost import Month
from r2maint.usage.count import Pending
from r2maint.usage.duplicates import Duplicates
from r2maint.usage.forecast import Outlook
from r2maint.usage.groups import Count, Group, GroupBy
from r2maint.usage.savings import Saving
from r2maint.usage.thresholds import ThresholdCrossing, Thresholds

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
