"""Cloudflare's API. The only caller of it; the bucket itself speaks S3.

Source: https://developers.cloudflare.com/api/
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import requests
from requests.auth import AuthBase

from r2maint.control import Control
from r2maint.errors import CloudflareError, CloudflareRefusal, ConfigError
from r2maint.http.retry import PASSING, TOO_MANY, wait_seconds

API_URL = "https://api.cloudflare.com/client/v4"
MAX_URLS = 100
"""URLs in one request on every plan but Enterprise, which takes 500. Source:
https://developers.cloudflare.com/cache/how-to/purge-cache/#availability-and-limits"""
_TIMEOUT_SECONDS = (10, 60)
_FOREIGN = 1082
""" "You can only purge files for this zone"."""
_TOKEN = frozenset({1000, 6003, 6111, 7003, 9106, 9109, 10000})
"""No token, not this one's zone, no such zone, or a token that is none (any more)."""
_BUSY = frozenset({971, 1083})
"""Rate limits that do not always come with a status of 429."""
_DENIED = (401, 403, 404)
_MAX_TOLD = 200

# What GraphQL's errors say, of which many come with a status of 200. Source:
# https://developers.cloudflare.com/analytics/graphql-api/errors/
_SAYS_DENIED = ("not authorized", "unauthorized", "does not have access", "authentication error")
_SAYS_BUSY = ("budget depleted", "please repeat your request", "rate limit")
_SAYS_PASSING = ("try again later", "internal server error", *_SAYS_BUSY)
_SAYS_TOO_WIDE = ("reduced time period", "time range", "excessive resources")


class _Bearer(AuthBase):
    """The token; as an `auth`, so that no .netrc can replace it."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """What an answer says: a result, or in `failure` what is wrong."""

    failure: str = ""
    result: Any = None
    is_passing: bool = False
    """Another answer may come in a moment."""
    is_busy: bool = False
    """Too many requests."""
    is_denied: bool = False
    """To this token, whatever it asks for there."""
    is_foreign: bool = False
    is_too_wide: bool = False
    is_strange: bool = False
    """Not from Cloudflare's API at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cloudflare:
    """One account's API. Proxies are taken from the environment, as `requests` does."""

    token: str = field(repr=False)
    api_url: str = API_URL
    control: Control = field(default_factory=Control, repr=False)
    """Heard while waiting for another attempt."""
    attempts: int = 6
    """Of one request."""

    def __post_init__(self) -> None:
        if not self.token:
            hint = "Set R2MAINT['API_TOKEN'], or CLOUDFLARE_API_TOKEN in the environment."
            raise ConfigError("There is no token for Cloudflare's API.", hint)
        if not (self.token.isascii() and self.token.isprintable()) or " " in self.token:
            hint = "Copy it again, without the spaces and line breaks around it."
            raise ConfigError("The token for Cloudflare's API holds characters none has.", hint)

    def purge_urls(self, zone_id: str, urls: Sequence[str]) -> None:
        """Let the caches of a zone forget at most 100 URLs; one that is not cached is no error.

        Raises: CloudflareRefusal when the request itself is refused, `is_foreign` for a URL of
        another zone; CloudflareError when there is no answer to go by, after all attempts.
        """
        told = self._ask(f"/zones/{zone_id}/purge_cache", {"files": list(urls)}, _read)
        if told.failure:
            may = "Give the token the permission 'Zone > Cache Purge > Purge' for this zone, and"
            raise _refusal(told, denied=f"{may} check ZONE_ID.")

    def query(self, text: str, variables: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what a GraphQL query about an account's analytics gives as `data`, whole.

        Raises: CloudflareRefusal when the query is refused, `is_general` when the token is,
        `is_too_wide` when it asks for too much at once; CloudflareError as `purge_urls`.
        """
        told = self._ask("/graphql", {"query": text, "variables": dict(variables)}, _read_graphql)
        if told.failure:
            needed = "it needs the permission 'Account > Account Analytics > Read' for the account"
            denied = f"Make a new token if this one has expired; {needed} in ACCOUNT_ID."
            raise _refusal(told, denied=denied)
        data: Mapping[str, Any] = told.result
        return data

    def _ask(
        self, path: str, body: Mapping[str, Any], read: Callable[[requests.Response], _Told]
    ) -> _Told:
        """Send JSON and return what the answer says, of success or of refusal.

        Sent again while the answer may pass, as `Retry-After` says: for requests that may be made
        twice. Raises: CloudflareError.
        """
        for attempt in range(1, self.attempts + 1):
            headers: Mapping[str, str] = {}
            self.control.check()
            try:
                answer = self._send(path, body)
            except requests.RequestException as error:
                # Its own message may quote a proxy with its password.
                told = _Told(failure=type(error).__name__, is_passing=True)
            else:
                told = self._cleaned(read(answer))
                if not told.is_passing:
                    return told
                headers = answer.headers
            seconds = wait_seconds(attempt + 2, headers)
            if seconds is None or attempt == self.attempts:
                break
            self._wait(seconds)
        hint = "Check the network, or try again later; https://www.cloudflarestatus.com/ tells of"
        raise CloudflareError(
            f"Cloudflare's API gave no answer to {path.rpartition('/')[2]}: {told.failure}.",
            "Too many requests: try again in five minutes." if told.is_busy else f"{hint} outages.",
        )

    def _send(self, path: str, body: Mapping[str, Any]) -> requests.Response:
        return requests.request(
            "POST",
            self.api_url + path,
            json=body,
            auth=_Bearer(self.token),
            timeout=_TIMEOUT_SECONDS,
            allow_redirects=False,
        )

    def _cleaned(self, told: _Told) -> _Told:
        text = " ".join(told.failure.split()).replace(self.token, "…").rstrip(".")
        # What another server wrote may hold the escapes that steer a terminal.
        plain = "".join(each for each in text if each.isprintable())
        return replace(told, failure=plain[:_MAX_TOLD])

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.control.check()
            time.sleep(min(left, 0.2))


def _refusal(told: _Told, *, denied: str) -> CloudflareRefusal:
    hint = denied if told.is_denied else ""
    if told.is_strange:
        hint = "Something else answers in its place: check HTTPS_PROXY and the network."
    return CloudflareRefusal(
        f"Cloudflare's API refused: {told.failure}.",
        hint,
        is_foreign=told.is_foreign,
        is_general=told.is_denied,
        is_too_wide=told.is_too_wide,
    )


# Reading answers: an error may come with a status of 200, and a proxy's answer without any JSON


def _read(answer: requests.Response) -> _Told:
    """Read an answer in the envelope of the REST API."""
    document = _document(answer)
    if answer.ok and document.get("success") is True:
        return _Told(result=document.get("result"))
    errors = _errors(document)
    codes = frozenset(one["code"] for one in errors if isinstance(one.get("code"), int))
    texts = (f"{one.get('code')} {one.get('message')}" for one in errors)
    is_foreign = _FOREIGN in codes
    return _Told(
        failure=_failure(answer, document, texts),
        is_passing=answer.status_code in PASSING or bool(_BUSY & codes),
        is_busy=answer.status_code == TOO_MANY or bool(_BUSY & codes),
        is_denied=(answer.status_code in _DENIED or bool(_TOKEN & codes)) and not is_foreign,
        is_foreign=is_foreign,
        is_strange=not document,
    )


def _read_graphql(answer: requests.Response) -> _Told:
    """Read an answer of GraphQL; a token is refused in the envelope of the REST API, too."""
    document = _document(answer)
    if not document or "success" in document:
        return _read(answer)
    data = document.get("data")
    # What comes beside an error is a part at best.
    if answer.ok and not document.get("errors") and isinstance(data, Mapping):
        return _Told(result=data)
    texts = [str(one.get("message")) for one in _errors(document)]
    said = " ".join(texts).lower()

    def says(phrases: Sequence[str]) -> bool:
        return any(phrase in said for phrase in phrases)

    is_too_wide = says(_SAYS_TOO_WIDE)
    return _Told(
        failure=_failure(answer, document, texts),
        is_passing=(answer.status_code in PASSING or says(_SAYS_PASSING)) and not is_too_wide,
        is_busy=answer.status_code == TOO_MANY or says(_SAYS_BUSY),
        is_denied=answer.status_code in _DENIED or says(_SAYS_DENIED),
        is_too_wide=is_too_wide,
    )


def _document(answer: requests.Response) -> Mapping[str, Any]:
    """Return the JSON object of an answer, {} if it is none."""
    try:
        document = answer.json()
    except (ValueError, RecursionError):  # Beyond JSON: too deep, or an integer too long.
        document = None
    return document if isinstance(document, dict) else {}


def _errors(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    errors = document.get("errors")
    return [one for one in errors if isinstance(one, dict)] if isinstance(errors, list) else []


def _failure(answer: requests.Response, document: Mapping[str, Any], texts: Iterable[str]) -> str:
    told = "; ".join(texts) if document else "no JSON"
    status = f"HTTP {answer.status_code}"
    return f"{status}, {told}" if told else status
