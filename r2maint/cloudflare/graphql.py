"""Rows of the datasets that Cloudflare's GraphQL has of a bucket: all of them, or an error.

Source: https://developers.cloudflare.com/r2/platform/metrics-analytics/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from r2maint.cloudflare.api import Cloudflare
from r2maint.errors import CloudflareError, CloudflareRefusal
from r2maint.pricing import INFREQUENT_ACCESS, STANDARD

OPERATIONS = "r2OperationsAdaptiveGroups"
STORAGE = "r2StorageAdaptiveGroups"
BANDWIDTH = "r2BandwidthUsageAdaptiveGroups"
MAX_ROWS = 10_000
"""Of one answer. More are left out without a word, so a full answer counts as cut short."""
_NARROWEST = timedelta(minutes=1)
"""A time that is not halved again."""
_CLASS = "storageClass"
"""A dimension the page does not list. Cloudflare's own analytics_r2_usage.py asks for it:
https://github.com/cloudflare/notebook-examples"""
_CLASSES = {"Standard": STANDARD, "InfrequentAccess": INFREQUENT_ACCESS}
_INSTEAD = "Try again later, or give --class-a and --class-b: the dashboard shows them."
_QUERY = """\
query ($account: string!, $bucket: string!, $since: Time!, $until: Time!) {
  viewer {
    accounts(filter: {accountTag: $account}) {
      rows: %(dataset)s(
        limit: %(limit)d
        filter: {bucketName: $bucket, datetime_geq: $since, datetime_lt: $until}
      ) { %(fields)s }
    }
  }
}"""


@dataclass(frozen=True, slots=True)
class AnalyticsRow:
    """One group of a dataset, read strictly: a count that is none is an error, never 0."""

    dataset: str
    values: Any

    def text(self, name: str) -> str:
        """Return a dimension that is a text."""
        value = self._value("dimensions", name)
        if not isinstance(value, str):
            raise _not_understood(self.dataset)
        return value

    def number(self, group: str, name: str) -> int:
        """Return a whole number, 0 or above, of "sum", "max" or "dimensions"."""
        value = self._value(group, name)
        if type(value) is not int or value < 0:
            raise _not_understood(self.dataset)
        return value

    @property
    def moment(self) -> datetime:
        """The dimension `datetime`, in UTC."""
        try:
            moment = datetime.fromisoformat(self.text("datetime"))
        except ValueError as error:
            raise _not_understood(self.dataset) from error
        if moment.tzinfo is None:
            raise _not_understood(self.dataset)
        return moment.astimezone(UTC)

    @property
    def storage_class(self) -> str:
        """As S3 names it; "" where the row does not tell."""
        # The dataset has none, or the operation is on no object.
        if self.values["dimensions"].get(_CLASS) is None:
            return ""
        name = self.text(_CLASS)
        return _CLASSES.get(name, name)

    def _value(self, group: str, name: str) -> Any:
        try:
            return self.values[group][name]
        except (KeyError, TypeError) as error:
            raise _not_understood(self.dataset) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalyticsQuery:
    """Which rows are wanted, of whatever dataset.

    What it gives raises CloudflareError where there is no whole answer, and Stopped.
    """

    api: Cloudflare
    account_id: str
    bucket: str
    """As analytics name it."""
    since: datetime
    until: datetime
    """The first moment that is too late."""

    def rows(self, dataset: str, fields: str) -> Iterator[AnalyticsRow]:
        """Yield every row of a dataset."""
        page = self._page(dataset, fields)
        if page is None:
            for half in self._halves(dataset):
                yield from half.rows(dataset, fields)
        else:
            yield from (AnalyticsRow(dataset, values) for values in page)

    def rows_by_class(self, dataset: str, values: str, dimensions: str) -> list[AnalyticsRow]:
        """Return every row of a dataset, by storage class where its schema knows any."""
        asked = "%s dimensions { %s }"
        try:
            return list(self.rows(dataset, asked % (values, f"{dimensions} {_CLASS}")))
        except CloudflareRefusal as refusal:
            if _CLASS not in refusal.message:
                raise
        return list(self.rows(dataset, asked % (values, dimensions)))

    def _halves(self, dataset: str) -> tuple[AnalyticsQuery, AnalyticsQuery]:
        length = self.until - self.since
        if length <= _NARROWEST:
            when = f"{self.since:%Y-%m-%d %H:%M} UTC"
            raise CloudflareError(
                f"Cloudflare's analytics give no whole answer: {dataset}, {when}.", _INSTEAD
            )
        middle = self.since + timedelta(seconds=length // timedelta(seconds=2))
        return replace(self, until=middle), replace(self, since=middle)

    def _page(self, dataset: str, fields: str) -> list[Any] | None:
        """Return what one answer holds, None when it may lack some."""
        try:
            data = self.api.query(
                _QUERY % {"dataset": dataset, "limit": MAX_ROWS, "fields": fields},
                {
                    "account": self.account_id,
                    "bucket": self.bucket,
                    "since": _instant(self.since),
                    "until": _instant(self.until),
                },
            )
        except CloudflareRefusal as refusal:
            if refusal.is_too_wide:
                return None
            raise CloudflareRefusal(
                refusal.message, refusal.hint or _INSTEAD, is_general=refusal.is_general
            ) from refusal
        page = _rows_of(data, dataset)
        return page if len(page) < MAX_ROWS else None


def _instant(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _rows_of(data: Mapping[str, Any], dataset: str) -> list[Any]:
    try:
        accounts = data["viewer"]["accounts"]
        rows = accounts[0]["rows"] if accounts else None
    except (KeyError, TypeError) as error:
        raise _not_understood(dataset) from error
    if not accounts:
        raise CloudflareError(
            "Cloudflare's analytics know nothing of this account.",
            "Check ACCOUNT_ID, and that the token is for this account.",
        )
    if not isinstance(rows, list):
        raise _not_understood(dataset)
    return rows


def _not_understood(dataset: str) -> CloudflareError:
    return CloudflareError(
        f"Cloudflare's analytics answered in an unknown form: {dataset}.", _INSTEAD
    )
