"""Cloudflare's API. The only caller of it; the bucket itself speaks S3.

Source: https://developers.cloudflare.com/api/
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import requests
from requests.auth import AuthBase

from r2maint.control import Control
from r2maint.errors import CloudflareError, CloudflareRefusal, ConfigError
from r2maint.transfer.pacing import PASSING, wait_seconds

API_URL = "https://api.cloudflare.com/client/v4"
MAX_URLS = 100
"""URLs in one request on every plan but Enterprise, which takes 500. Source:
https://developers.cloudflare.com/cache/how-to/purge-cache/#availability-and-limits"""
_TIMEOUT_SECONDS = (10, 60)
_FOREIGN = 1082
""" "You can only purge files for this zone"."""
_TOKEN = frozenset({6003, 6111, 7003, 9106, 9109, 10000})
"""No token, not this one's zone, or no such zone."""
_BUSY = frozenset({971, 1083})
"""Rate limits that do not always come with a status of 429."""
_MAX_TOLD = 200


class _Bearer(AuthBase):
    """The token; as an `auth`, so that no .netrc can replace it."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


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
        self.call(
            "POST",
            f"/zones/{zone_id}/purge_cache",
            {"files": list(urls)},
            permission="Zone > Cache Purge > Purge",
        )

    def call(self, method: str, path: str, body: Mapping[str, Any], *, permission: str) -> Any:
        """Send JSON and return what the answer's envelope holds as `result`.

        `permission` is what the token needs, for whoever reads the error. Sent again after 429 and
        5xx, as `Retry-After` says: for requests that may be made twice. Raises as `purge_urls`.
        """
        failure = ""
        for attempt in range(1, self.attempts + 1):
            headers: Mapping[str, str] = {}
            self.control.check()
            try:
                answer = self._send(method, path, body)
            except requests.RequestException as error:
                # Its own message may quote a proxy with its password.
                failure = type(error).__name__
            else:
                codes, failure = _errors(answer, self.token)
                if answer.status_code not in PASSING and not _BUSY & codes:
                    return _result(answer, codes, failure, permission)
                headers = answer.headers
            seconds = wait_seconds(attempt + 2, headers)
            if seconds is None or attempt == self.attempts:
                break
            self._wait(seconds)
        raise CloudflareError(
            f"Cloudflare's API did not do {path.rpartition('/')[2]}: {failure}.",
            "Try again later; https://www.cloudflarestatus.com/ tells of outages.",
        )

    def _send(self, method: str, path: str, body: Mapping[str, Any]) -> requests.Response:
        return requests.request(
            method,
            self.api_url + path,
            json=body,
            auth=_Bearer(self.token),
            timeout=_TIMEOUT_SECONDS,
            allow_redirects=False,
        )

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.control.check()
            time.sleep(min(left, 0.2))


def _result(answer: requests.Response, codes: frozenset[int], told: str, permission: str) -> Any:
    if not told:
        return answer.json().get("result")
    is_about_token = answer.status_code in (401, 403, 404) or bool(_TOKEN & codes)
    hint = f"Give the token the permission {permission!r} for this zone, and check ZONE_ID."
    raise CloudflareRefusal(
        f"Cloudflare's API refused: {told}.",
        hint if is_about_token and _FOREIGN not in codes else "",
        is_foreign=_FOREIGN in codes,
        is_general=is_about_token and _FOREIGN not in codes,
    )


def _errors(answer: requests.Response, token: str) -> tuple[frozenset[int], str]:
    """Return the codes of an answer and what it tells; "" for success.

    An error may come with a status of 200, and a proxy's answer without any JSON.
    """
    status = f"HTTP {answer.status_code}"
    try:
        document = answer.json()
    except requests.JSONDecodeError:
        document = None
    if not isinstance(document, dict):
        return frozenset(), f"{status}, no JSON"
    if answer.ok and document.get("success") is True:
        return frozenset(), ""
    errors = [one for one in document.get("errors") or () if isinstance(one, dict)]
    codes = frozenset(one["code"] for one in errors if isinstance(one.get("code"), int))
    texts = (f"{one.get('code')} {one.get('message')}" for one in errors)
    told = " ".join("; ".join(texts).split()).replace(token, "…").rstrip(".")[:_MAX_TOLD]
    return codes, f"{status}, {told}" if told else status
