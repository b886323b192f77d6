"""The month a report prices: what the listing and the days before tell, and what is assumed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal

from r2maint.cloudflare.analytics import Analytics
from r2maint.pricing import (
    MONTH_DAYS,
    Bill,
    Offer,
    Prices,
    Usage,
    bill,
    compare,
    days_known,
    days_of_month,
    month_of_peaks,
)
from r2maint.rendering import format_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Month:
    """The 30 days that end today."""

    stored: Mapping[str, int]
    """Bytes by storage class, now."""
    today: date
    class_a: int = 0
    class_b: int = 0
    retrieved_bytes: int = 0
    """Read or copied out of Infrequent Access."""
    egress_bytes: int | None = None
    """Bytes sent to the internet; None when nobody knows."""
    peaks: Mapping[date, Mapping[str, int]] = field(default_factory=dict)
    """The largest bytes by storage class of days before."""
    analytics: Analytics | None = None
    """Its operations count in place of `class_a` and `class_b`, and its downloads where nobody told
    `egress_bytes`."""
    is_part: bool = False
    """Not of the whole bucket. Analytics are, so that none of theirs is billed."""

    @property
    def usage(self) -> Usage:
        month = month_of_peaks(
            self._known, until=self.today, class_a=self.class_a, class_b=self.class_b
        )
        infrequent = replace(month.infrequent_access, retrieved_bytes=self.retrieved_bytes)
        month = replace(month, infrequent_access=infrequent)
        return self._counted.added_to(month) if self._counted else month

    @property
    def _counted(self) -> Analytics | None:
        return None if self.is_part else self.analytics

    @property
    def days(self) -> list[Mapping[str, int]]:
        """The peak of each day by storage class, today's last; one that nobody saw is filled in."""
        return days_of_month(self._known, until=self.today)

    @property
    def steady(self) -> Usage:
        """The month if all that is stored now stayed all of it: what savings are counted from."""
        return replace(self, peaks={}).usage

    @property
    def _known(self) -> dict[date, Mapping[str, int]]:
        before = self.peaks.get(self.today, {})
        return {**self.peaks, self.today: larger(self.stored, before)}

    def priced(self, stored: Mapping[str, int], prices: Prices) -> Decimal:
        """Return the bill in US dollars if `stored` stayed all month, with the same operations."""
        return bill(replace(self, stored=stored).steady, prices).total_usd

    def bill(self, prices: Prices) -> Bill:
        """Return the bill, with what this month takes for granted among its assumptions."""
        cost = bill(self.usage, prices)
        return replace(cost, assumptions=(*cost.assumptions, *self._assumptions()))

    def compare(self, prices: Prices) -> tuple[Offer, ...]:
        """Return what R2 and S3 ask for it."""
        egress_bytes, basis = self._egress()
        r2, s3 = compare(self.usage, egress_bytes=egress_bytes, prices=prices)
        return (r2, replace(s3, assumptions=(*s3.assumptions, *basis)))

    def _egress(self) -> tuple[int, tuple[str, ...]]:
        """Return bytes, and what they rest on where nobody gave them."""
        if self.egress_bytes is not None:
            return self.egress_bytes, ()
        if self._counted and self._counted.bandwidth:
            return self._counted.bandwidth.downloaded_bytes, self._counted.egress_assumptions
        return 0, ("No egress, which costs most: give --egress to include it.",)

    def _assumptions(self) -> tuple[str, ...]:
        return (
            self._storage(),
            self._retrieval(),
            self._operations(),
            "A group's amount is its share of the storage bill by bytes, free tier and"
            " rounding included; removing the group may save more or less.",
        )

    def _storage(self) -> str:
        known = days_known(self._known, until=self.today)
        if known == 1 and not self.peaks:
            return "What is stored now stays all month."
        return (
            f"Storage is the average of 30 daily peaks, {known} of {MONTH_DAYS} as {self._seen_by}"
            " saw them; another day counts as the one before it, or else as the first. What left"
            " Infrequent Access within 30 days is not seen."
        )

    def _retrieval(self) -> str:
        if not self.retrieved_bytes:
            return "Nothing is retrieved from Infrequent Access: --retrieved includes it."
        retrieved = format_bytes(self.retrieved_bytes)
        return f"{retrieved} are retrieved from Infrequent Access a month, as given."

    @property
    def _seen_by(self) -> str:
        return "reports and Cloudflare's analytics" if self._counted else "reports"

    def _operations(self) -> str:
        if self._counted:
            return self._counted.assumption
        if self.analytics:
            return (
                "No operations: Cloudflare counts those of the whole bucket, and this is a part."
                " --class-a and --class-b, in place of --analytics, include your own."
            )
        if not (self.class_a or self.class_b):
            return "No operations: --analytics, or --class-a and --class-b, include them."
        return (
            f"{self.class_a:,} Class A and {self.class_b:,} Class B operations a month, as given,"
            " in Standard unless every object is in Infrequent Access."
        )


def larger(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    """Return the larger of two sizes of each storage class."""
    return {name: max(one.get(name, 0), other.get(name, 0)) for name in {*one, *other}}
