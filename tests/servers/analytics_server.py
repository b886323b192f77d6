"""Cloudflare's GraphQL for R2, on this machine: it validates queries, groups rows and cuts answers.

The schema has the fields that https://developers.cloudflare.com/r2/platform/metrics-analytics/
documents and no others; `storageClass`, which that page leaves out, is there unless a test says so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from graphql import GraphQLError, build_schema, graphql_sync, parse, validate

from tests.servers.s3_server import Answer, Proxy, Request, proxy

SCHEMA = """
scalar Date
scalar Time
scalar string
scalar uint16
scalar uint64

type Query { viewer: viewer! }
type viewer { accounts(filter: AccountFilter_InputObject!): [account!]! }
input AccountFilter_InputObject { accountTag: string! }

type account {
  r2OperationsAdaptiveGroups(limit: uint64!, filter: OperationsFilter): [Operations!]!
  r2StorageAdaptiveGroups(limit: uint64!, filter: StorageFilter): [Storage!]!
  r2BandwidthUsageAdaptiveGroups(limit: uint64!, filter: BandwidthFilter): [Bandwidth!]!
}

input OperationsFilter {
  datetime_geq: Time, datetime_leq: Time, datetime_lt: Time, bucketName: string, actionType: string
}
type Operations { sum: OperationsSum!, dimensions: OperationsDimensions! }
type OperationsSum { requests: uint64! }
type OperationsDimensions {
  actionType: string!, actionStatus: string!, bucketName: string!, objectName: string!
  responseStatusCode: uint16!, datetime: Time!, storageClass: string!
}

input StorageFilter {
  datetime_geq: Time, datetime_leq: Time, datetime_lt: Time, bucketName: string
}
type Storage { max: StorageMax!, dimensions: StorageDimensions! }
type StorageMax {
  objectCount: uint64!, uploadCount: uint64!, payloadSize: uint64!, metadataSize: uint64!
}
type StorageDimensions { bucketName: string!, datetime: Time!, storageClass: string! }

input BandwidthFilter {
  datetime_geq: Time, datetime_leq: Time, datetime_lt: Time, bucketName: string
}
type Bandwidth { sum: BandwidthSum!, dimensions: BandwidthDimensions! }
type BandwidthSum { bytesUpload: uint64!, bytesDownload: uint64! }
type BandwidthDimensions { bucketName: string!, date: Date!, datetimeHour: Time! }
"""
_DATASETS = {
    "r2OperationsAdaptiveGroups": "operations",
    "r2StorageAdaptiveGroups": "storage",
    "r2BandwidthUsageAdaptiveGroups": "bandwidth",
}


def instant(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S%z")


@dataclass
class AnalyticsServer:
    """What the account did, and what goes wrong with asking for it."""

    account: str
    token: str
    now: datetime
    operations: list[dict[str, Any]] = field(default_factory=list)
    storage: list[dict[str, Any]] = field(default_factory=list)
    bandwidth: list[dict[str, Any]] = field(default_factory=list)
    schema_text: str = SCHEMA
    max_rows: int = 10_000
    widest: timedelta = timedelta(days=31)
    fault: Callable[[Request], Answer | str | None] = lambda request: None
    """Asked first; None for the answer itself."""
    proxy: Proxy | None = None

    @property
    def url(self) -> str:
        return self.proxy.url

    @property
    def requests(self) -> list[Request]:
        return self.proxy.requests

    def answer(self, request: Request) -> Answer | str:
        return self.fault(request) or self._answer(request)

    def _answer(self, request: Request) -> Answer:
        if (request.method, request.target) != ("POST", "/graphql"):
            return envelope(404, (7003, f"Could not route to {request.target}"))
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return envelope(403, (10000, "Authentication error"))
        body = json.loads(request.body)
        schema = self._schema
        if wrong := validate(schema, parse(body["query"])):
            return graphql(400, *(error.message for error in wrong))
        result = graphql_sync(schema, body["query"], variable_values=body.get("variables"))
        if result.errors:
            return graphql(200, *(error.message for error in result.errors))
        return Answer(200, json.dumps({"data": result.data, "errors": None}).encode(), JSON)

    @cached_property
    def _schema(self):
        schema = build_schema(self.schema_text)
        schema.query_type.fields["viewer"].resolve = lambda *_: {}
        schema.type_map["viewer"].fields["accounts"].resolve = self._accounts
        for name, attribute in _DATASETS.items():
            if name in schema.type_map["account"].fields:
                schema.type_map["account"].fields[name].resolve = self._groups_of(attribute)
        return schema

    def _accounts(self, _root, _info, filter):
        if filter["accountTag"] != self.account:
            raise GraphQLError("not authorized for that account")
        return [{}]

    def _groups_of(self, attribute: str):
        def resolve(_root, info, limit, filter):
            if not 0 < int(limit) <= 10_000:
                raise GraphQLError("limit must be positive number and not greater than 10000")
            since, until = instant(filter["datetime_geq"]), instant(filter["datetime_lt"])
            if until - since > self.widest:
                raise GraphQLError("query time range is too large. Max: 2678400s")
            if since < self.now - timedelta(days=31):
                raise GraphQLError("cannot request data older than 4w3d")
            wanted = selected(info, "dimensions")
            rows = [
                row
                for row in getattr(self, attribute)
                if since <= row["datetime"] < until and row["bucketName"] == filter["bucketName"]
            ]
            return grouped(rows, wanted)[: min(int(limit), self.max_rows)]

        return resolve


JSON = "application/json"
_SUMMED = ("requests", "bytesUpload", "bytesDownload")
_PEAKED = ("objectCount", "uploadCount", "payloadSize", "metadataSize")


def selected(info, group: str) -> list[str]:
    """Return the fields a query asks of one part of a row."""
    (node,) = info.field_nodes
    return [
        leaf.name.value
        for part in node.selection_set.selections
        if part.name.value == group
        for leaf in part.selection_set.selections
    ]


def grouped(rows: list[dict[str, Any]], dimensions: list[str]) -> list[dict[str, Any]]:
    """Return a row for each combination of dimensions, as an AdaptiveGroups dataset does."""
    groups: dict[tuple, dict[str, Any]] = {}
    for row in rows:
        told = {name: spelled(name, row) for name in dimensions}
        group = groups.setdefault(tuple(told.values()), {"dimensions": told, "sum": {}, "max": {}})
        for name in _SUMMED:
            group["sum"][name] = group["sum"].get(name, 0) + row.get(name, 0)
        for name in _PEAKED:
            group["max"][name] = max(group["max"].get(name, 0), row.get(name, 0))
    return list(groups.values())


def spelled(name: str, row: dict[str, Any]) -> Any:
    if name == "datetime":
        return row["datetime"].strftime("%Y-%m-%dT%H:%M:%SZ")
    if name == "date":
        return row["datetime"].strftime("%Y-%m-%d")
    return row[name]


def graphql(status: int, *messages: str) -> Answer:
    """An answer of errors alone, as GraphQL has it."""
    errors = [{"message": message, "path": None, "extensions": {}} for message in messages]
    return Answer(status, json.dumps({"data": None, "errors": errors}).encode(), JSON)


def envelope(status: int, *errors: tuple[int, str]) -> Answer:
    """An answer of errors in the envelope of the REST API."""
    told = [{"code": code, "message": message} for code, message in errors]
    document = {"success": False, "errors": told, "messages": [], "result": None}
    return Answer(status, json.dumps(document).encode(), JSON)


@contextmanager
def analytics_server(**state: Any) -> Iterator[AnalyticsServer]:
    """Run the server on a free port of this machine."""
    server = AnalyticsServer(**state)
    with proxy() as running:
        server.proxy = running
        running.fault = server.answer
        yield server
