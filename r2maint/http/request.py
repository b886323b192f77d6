"""What is asked of the engine, and what comes of it. Values only; knows no libcurl."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from r2maint.errors import R2MaintError

L = TypeVar("L")


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What S3 requests are signed with (AWS Signature Version 4).

    Each of them needs the header `x-amz-content-sha256`, in which the server reads the body's hash.
    """

    access_key_id: str = field(repr=False)
    secret_access_key: str = field(repr=False)
    region: str


class Request(NamedTuple):
    """One HTTP request. A tuple, as Answer is: there may be millions."""

    url: str
    """ASCII; sent as it is, dots and all. With credentials, dotted segments are refused."""
    method: str = "GET"
    headers: tuple[str, ...] = ()
    """"Name: value" each; "Name;" for an empty value."""
    body: bytes | Path | None = None
    """A file is streamed; `size` bytes of it. A POST or PUT without body has an empty one."""
    size: int = 0
    max_bytes: int | None = None
    """Of the answer's body: a longer one is a failure, before or while it arrives."""
    enough_bytes: int | None = None
    """Of the answer's body: once so many are there, the rest is not waited for."""
    seconds: float | None = None
    """For one attempt as a whole; None for as long as bytes keep coming."""
    redirects: int = 0
    """How many may be followed; with 0 a redirect is an answer like any other."""
    note: object = None
    """The caller's own, given back with the outcome."""


class Answer(NamedTuple):
    """A whole answer, whatever its status."""

    status: int
    url: str
    """Of the last hop."""
    headers: Mapping[str, str]
    """Names in lower case; of a repeated one the last."""
    body: bytes
    http_version: str = ""
    """"1.0", "1.1", "2" or "3"."""


class Reason(StrEnum):
    """Why there is no answer."""

    BAD_URL = "bad_url"
    """No http(s) URL, or one with credentials in it."""
    NOT_PUBLIC = "not_public"
    """Every address of its host is private, and no setting allows the host."""
    TOO_LARGE = "too_large"
    TOO_SLOW = "too_slow"
    REDIRECTS = "redirects"
    """Too many."""
    NO_HOST = "no_host"
    """The name does not resolve."""
    NO_ANSWER = "no_answer"
    """The connection was refused, broken, or spoke no HTTP."""
    TLS = "tls"
    UNREADABLE = "unreadable"
    """The file that was to be sent cannot be read, or is shorter than said."""
    BAD_HEADER = "bad_header"
    """Not printable ASCII."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A request without an answer, after the last attempt."""

    reason: Reason
    detail: str
    """In words; names no credentials."""


@dataclass(slots=True, kw_only=True)
class RequestOutcome(Generic[L]):
    """How one request ended: exactly one of `answer`, `failure` and `error`, or none of them.

    A value all the same; frozen, each would take twice as long to make.
    """

    label: L
    answer: Answer | None = None
    failure: Failure | None = None
    error: R2MaintError | None = None
    """What making the request raised; nothing was sent."""
    note: object = None
    attempts: int = 0
    """How often it was sent, which may be more often than asked for: see `Attempt.sendings`."""
