"""What earlier reports saw of a bucket: one row a day in r2maint's own table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from django.db.models.functions import Greatest

from r2maint.database.connections import reading, table_names
from r2maint.journal import journal
from r2maint.models import Snapshot
from r2maint.pricing import INFREQUENT_ACCESS, STANDARD
from r2maint.rendering.cells import printable

KEPT_FOR = timedelta(days=3 * 365)
MAX_GROUPS = 100
"""Of a listing, the largest; what is smaller is not kept."""

Groups = Mapping[str, Mapping[str, int]]
"""Listing -> name of a group -> bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """What was seen of a bucket on one day."""

    day: date
    standard: int
    """Bytes: the day's peak."""
    infrequent_access: int
    summary: Mapping[str, Any] = field(default_factory=dict)
    """Of the day's last report."""
    groups: Groups = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """The peaks of both storage classes, which is what a bill counts."""
        return self.standard + self.infrequent_access

    def as_dict(self) -> dict[str, Any]:
        return {
            "day": self.day.isoformat(),
            "bytes": self.bytes,
            "standard_bytes": self.standard,
            "infrequent_access_bytes": self.infrequent_access,
            "objects": self.summary.get("objects"),
            "referenced_bytes": self.summary.get("referenced_bytes"),
            "orphan_bytes": self.summary.get("orphan_bytes"),
        }


def snapshots_exist() -> bool:
    """Tell whether there is a table to keep snapshots in. Raises: DatabaseError."""
    return Snapshot._meta.db_table in table_names(journal.home())


class Snapshots:
    """The snapshots of one bucket. Every method raises DatabaseError."""

    def __init__(self, bucket: str) -> None:
        self._bucket = bucket

    def keep(self, seen: Day, at: datetime) -> None:
        """Remember what was seen, and forget what is older than three years.

        Of several reports of one day the larger peak stays, of each storage class; all else is the
        last one's. A listing that the last one left out stays as it was.
        """
        with self._reading():
            row, is_new = self._rows().get_or_create(
                bucket=self._bucket, day=seen.day, defaults=_columns(seen, at)
            )
            if not is_new:
                columns = _columns(seen, at)
                columns["groups"] = {**row.groups, **columns["groups"]}
                for name in ("standard_bytes", "infrequent_access_bytes"):
                    columns[name] = Greatest(name, columns[name])
                self._rows().filter(pk=row.pk).update(**columns)
            self._rows().filter(day__lt=seen.day - KEPT_FOR).delete()

    def read(self, since: date, until: date) -> tuple[Day, ...]:
        """Return the days seen from `since` to `until`, in order, without their groups."""
        rows = self._rows().filter(day__gte=since, day__lte=until).order_by("day")
        names = ("day", "standard_bytes", "infrequent_access_bytes", "summary")
        with self._reading():
            return tuple(
                Day(day=day, standard=standard, infrequent_access=infrequent, summary=summary)
                for day, standard, infrequent, summary in rows.values_list(*names)
            )

    def iter_groups(self, since: date, until: date) -> Iterator[tuple[date, Groups]]:
        """Yield each day seen with its groups, in order; one in memory at a time."""
        rows = self._rows().filter(day__gte=since, day__lte=until).order_by("day")
        with self._reading():
            yield from rows.values_list("day", "groups").iterator(chunk_size=20)

    def _rows(self) -> Any:
        return Snapshot.objects.using(journal.home()).filter(bucket=self._bucket)

    def _reading(self) -> Any:
        return reading(journal.home(), Snapshot._meta.db_table)


def daily_peaks(bucket: str, days: int, *, until: date) -> dict[date, dict[str, int]]:
    """Return the largest bytes by storage class of each day seen, of `days` that end with `until`.

    Days without a report are left out. Raises: DatabaseError.
    """
    if not snapshots_exist():
        return {}
    found = Snapshots(bucket).read(until - timedelta(days=days - 1), until)
    return {
        each.day: {STANDARD: each.standard, INFREQUENT_ACCESS: each.infrequent_access}
        for each in found
    }


def _columns(seen: Day, at: datetime) -> dict[str, Any]:
    return {
        "standard_bytes": seen.standard,
        "infrequent_access_bytes": seen.infrequent_access,
        "summary": dict(seen.summary),
        "groups": {listing: _largest(groups) for listing, groups in seen.groups.items()},
        "at": at,
    }


def _largest(groups: Mapping[str, int]) -> dict[str, int]:
    # Printable, because PostgreSQL's JSON takes no NUL and no half of a surrogate pair.
    named = sorted(groups.items(), key=lambda item: (-item[1], item[0]))[:MAX_GROUPS]
    return {printable(name): size for name, size in named}
