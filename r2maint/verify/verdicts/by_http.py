"""The verdict on one URL from the headers of its answer, or from there being none. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit

from r2maint.bucket.protocol import StoredObject
from r2maint.bucket.r2_limits import is_md5
from r2maint.bucket.sdk_values import plain_etag
from r2maint.http import Answer, Failure, Reason
from r2maint.http.retry import TOO_MANY, is_passing
from r2maint.images.formats import is_served_as, plain_type, type_of_name
from r2maint.verify.verdicts.outcomes import NAME_ANOTHER, OPEN_IT, RUN_AGAIN, Outcome

SERVED = frozenset((200, 206))
GONE = frozenset((404, 410))
_CLOSED = frozenset((401, 403))
_WALLED = frozenset((401, 403, 406, 451))
_TOTAL = re.compile(r"bytes \d+-\d+/(\d{1,18})", re.ASCII)
_LENGTH = re.compile(r"\d{1,18}", re.ASCII)
_TRANSFORMED = frozenset(("cf-polished", "cf-resized", "cf-bgj"))
"""Headers of pictures that Cloudflare made smaller on the way."""
_FROM_CACHE = frozenset(("hit", "stale", "updating", "revalidated"))
_PURGE = "Purge this URL from Cloudflare's cache."
_UNCHALLENGED = "Let a rule of the zone spare these files the challenge."
_LINKED = "Let the zone admit the first of SITE_HOSTS, which is sent as the Referer."
_ON_FAILURE = {
    Reason.BAD_URL: "Correct the value: nothing can be asked by it.",
    Reason.NOT_PUBLIC: "FETCH_ALLOW in R2MAINT names hosts that may be private.",
    Reason.REDIRECTS: "Name the address that its redirects lead to.",
    Reason.NO_HOST: "Check how the host is spelled; if that is right, run again later.",
    Reason.TLS: "See the certificate of the host: browsers may refuse it too.",
}
"""Failures that pass by themselves are left out."""


class UrlVerdict(NamedTuple):
    """What is true of a URL."""

    outcome: Outcome
    status: int | None = None
    detail: str = ""
    advice: str = ""


def judge_failure(failure: Failure) -> UrlVerdict:
    """Return the verdict on a URL without an answer: never more than unsure."""
    advice = _ON_FAILURE.get(failure.reason, RUN_AGAIN)
    return UrlVerdict(Outcome.UNSURE, None, failure.detail, advice)


def judge_answer(answer: Answer, *, url: str, stored: StoredObject | None) -> UrlVerdict:
    """Return the verdict by status and headers; `stored` is the object behind one's own URL."""
    if answer.status in SERVED:
        return judge_served(answer, url=url, stored=stored)
    if "cf-mitigated" in answer.headers:
        advice = _UNCHALLENGED if stored else OPEN_IT
        return _refused(answer, Outcome.BLOCKED, "Cloudflare challenges whoever asks", advice)
    if stored is None:
        return _of_stranger(answer)
    return _of_own(answer, url)


def judge_served(answer: Answer, *, url: str, stored: StoredObject | None) -> UrlVerdict:
    """Return whether what is served can be what the name promises and the listing says."""
    header = answer.headers.get("content-type", "")
    promised = type_of_name(stored.key if stored else urlsplit(url).path)
    if not is_served_as(promised, header):
        detail = f"it is served as {plain_type(header)}, and its name promises {promised}"
        advice = _advice_on_type(stored)
        return UrlVerdict(Outcome.WRONG_TYPE, answer.status, detail, advice)
    if stored is not None and (detail := other_version(answer, stored)):
        return UrlVerdict(Outcome.CORRUPT, answer.status, detail, advice_on_version(answer))
    return _fine(answer.status)


@lru_cache(maxsize=8)
def _fine(status: int) -> UrlVerdict:
    """Return one and the same verdict for all that is well: most are."""
    return UrlVerdict(Outcome.OK, status)


def other_version(answer: Answer, stored: StoredObject) -> str:
    """Return how the headers contradict the listing, "" if they do not."""
    if is_transformed(answer.headers):
        return ""
    size = _size(answer)
    if size is not None and size != stored.size:
        return f"its public URL serves {size:,} bytes, the bucket holds {stored.size:,}"
    etag = plain_etag(answer.headers.get("etag", ""))
    if etag != stored.etag and is_md5(etag) and is_md5(stored.etag):
        return "its public URL serves another version: its ETag is not that of the bucket"
    return ""


def advice_on_version(answer: Answer) -> str:
    """Return what to do about a public URL that serves other bytes than the bucket holds."""
    return _PURGE if is_cached(answer.headers) else "See what answers at PUBLIC_URL."


def is_transformed(headers: Mapping[str, str]) -> bool:
    """Tell whether the body was made another on its way, so that no size or checksum compares."""
    return is_encoded(headers) or not _TRANSFORMED.isdisjoint(headers)


def is_encoded(headers: Mapping[str, str]) -> bool:
    """Tell whether the body is compressed, so that its first bytes are not those of the file."""
    return headers.get("content-encoding", "") not in ("", "identity")


def is_cached(headers: Mapping[str, str]) -> bool:
    """Tell whether an answer came out of a cache."""
    age = headers.get("age", "0")
    return headers.get("cf-cache-status", "").lower() in _FROM_CACHE or age.strip("0") != ""


def _size(answer: Answer) -> int | None:
    """Return how long the whole body is, as far as the headers say."""
    if answer.status == 206:
        total = _TOTAL.fullmatch(answer.headers.get("content-range", ""))
        return int(total[1]) if total else None
    length = answer.headers.get("content-length", "")
    return int(length) if _LENGTH.fullmatch(length) else None


def _of_stranger(answer: Answer) -> UrlVerdict:
    if answer.status in GONE:
        return _refused(answer, Outcome.DEAD, advice=NAME_ANOTHER)
    if answer.status in _WALLED:
        return _refused(answer, Outcome.BLOCKED, advice=OPEN_IT)
    return _doubtful(answer)


def _of_own(answer: Answer, url: str) -> UrlVerdict:
    told = answer.headers
    if answer.status in GONE:
        if is_cached(told):
            return _refused(answer, Outcome.NOT_PUBLIC, "a cached answer", _PURGE)
        advice = "See that the domain of PUBLIC_URL is connected to this bucket, with this path."
        return _refused(answer, Outcome.NOT_PUBLIC, "", advice)
    if answer.status not in _CLOSED:
        return _doubtful(answer)
    if (urlsplit(url).hostname or "").endswith(".r2.dev"):
        advice = "Enable the bucket's r2.dev URL, or better set PUBLIC_URL to a custom domain."
        return _refused(answer, Outcome.NOT_PUBLIC, "r2.dev is disabled for this bucket", advice)
    if "cf-ray" in told and "cf-cache-status" not in told:
        # Source: developers.cloudflare.com/r2/platform/troubleshooting/
        why = "Hotlink Protection, or a rule of the zone"
        return _refused(answer, Outcome.BLOCKED, why, _LINKED)
    advice = "See which rule of the domain or of Cloudflare Access refuses visitors."
    return _refused(answer, Outcome.NOT_PUBLIC, "", advice)


def _doubtful(answer: Answer) -> UrlVerdict:
    """Return the verdict on an answer that says nothing of the file."""
    if answer.status == TOO_MANY:
        return _refused(answer, Outcome.UNSURE, advice="Run again later, with a lower --rate.")
    advice = RUN_AGAIN if is_passing(answer) else OPEN_IT
    return _refused(answer, Outcome.UNSURE, advice=advice)


def _refused(answer: Answer, outcome: Outcome, why: str = "", advice: str = "") -> UrlVerdict:
    detail = f"it answers {answer.status}: {why}" if why else f"it answers {answer.status}"
    return UrlVerdict(outcome, answer.status, detail, advice)


def _advice_on_type(stored: StoredObject | None) -> str:
    if stored is None:
        return OPEN_IT
    return "Store the object again with its own type, or see what answers at PUBLIC_URL."
