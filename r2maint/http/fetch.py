"""Fetches URLs that strangers wrote: http(s) only, public addresses only, with caps on everything.

Source: OWASP, "Server Side Request Forgery Prevention"; the rules are DESIGN's, "Fetching".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import ClassVar

from r2maint.errors import R2MaintError
from r2maint.http.engine import Engine
from r2maint.http.request import Answer, Failure, Reason, Request, RequestOutcome
from r2maint.http.retry import Limiter, Pace
from r2maint.http.ssrf_guard import Guard
from r2maint.http.urls import as_sent
from r2maint.keys.text import redact

_ACCEPT = ("Accept: image/*,*/*;q=0.5", "Accept-Encoding: identity")
_AHEAD = 2
_GONE = (404, 410)


class FetchError(R2MaintError):
    """A URL that was not fetched; `reason` is one of a report's words.

    "not_http", "credentials", "not_public", "too_large", "too_slow", "too_many_redirects", "gone"
    (404, 410), or "unsure": any other answer, and trouble with TLS, names or the network.
    """

    code: ClassVar[str] = "fetch"

    def __init__(self, reason: str, url: str, detail: str) -> None:
        super().__init__(f"Not fetched: {redact(url)} ({detail}).", _HINTS.get(reason, ""))
        self.reason = reason


_HINTS = {
    "not_public": "FETCH_ALLOW in R2MAINT names hosts that may be private.",
    "unsure": "Run again later; nothing was decided from it.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchLimits:
    """What one fetch may take."""

    max_bytes: int = 10 * 2**20
    seconds: float = 60.0
    """For each hop as a whole."""
    redirects: int = 5
    attempts: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A body, whole, and where it came from. Its `content_type` is a claim and proves nothing."""

    url: str
    final_url: str
    status: int
    content_type: str
    body: bytes


def fetch(url: str, *, guard: Guard, limits: FetchLimits | None = None) -> Fetched:
    """Return what a URL answers. Raises: FetchError."""
    ((_, found),) = fetch_many([url], guard=guard, limits=limits, workers=1)
    if isinstance(found, FetchError):
        raise found
    return found


def fetch_many(
    urls: Iterable[str],
    *,
    guard: Guard,
    limits: FetchLimits | None = None,
    workers: int = 8,
    per_host: int = 4,
    limiter: Limiter | None = None,
) -> Iterator[tuple[str, Fetched | FetchError]]:
    """Yield what each URL answers, in order; at most twice `workers` bodies are in memory."""
    limits = limits or FetchLimits()
    pace = Pace(workers=workers, per_host=per_host, ahead=_AHEAD, attempts=limits.attempts)
    engine = Engine(pace, limiter=limiter, guard=guard)
    try:
        with closing(engine.send_many(urls, lambda url: _request(url, guard, limits))) as sent:
            for outcome in sent:
                yield outcome.label, _judged(outcome)
    finally:
        engine.close()


def _request(url: str, guard: Guard, limits: FetchLimits) -> Request:
    objection = guard.objection(url.strip())
    if objection:
        reason = "credentials" if "credentials" in objection else "not_http"
        raise FetchError(reason, url, objection)
    return Request(
        url=as_sent(url.strip()),
        headers=_ACCEPT,
        max_bytes=limits.max_bytes,
        seconds=limits.seconds,
        redirects=limits.redirects,
    )


def _judged(outcome: RequestOutcome[str]) -> Fetched | FetchError:
    url = outcome.label
    if isinstance(outcome.error, FetchError):
        return outcome.error
    if outcome.failure is not None:
        return _failed(url, outcome.failure)
    answer = outcome.answer
    assert answer is not None
    if answer.status == 200:
        return _fetched(url, answer)
    reason = "gone" if answer.status in _GONE else "unsure"
    return FetchError(reason, url, f"it answers {answer.status}")


def _fetched(url: str, answer: Answer) -> Fetched:
    return Fetched(
        url=url,
        final_url=answer.url,
        status=answer.status,
        content_type=answer.headers.get("content-type", ""),
        body=answer.body,
    )


def _failed(url: str, failure: Failure) -> FetchError:
    words = {
        Reason.BAD_URL: "credentials" if "credentials" in failure.detail else "not_http",
        Reason.NOT_PUBLIC: "not_public",
        Reason.TOO_LARGE: "too_large",
        Reason.TOO_SLOW: "too_slow",
        Reason.REDIRECTS: "too_many_redirects",
    }
    return FetchError(words.get(failure.reason, "unsure"), url, failure.detail)
