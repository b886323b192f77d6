"""The verdict on one body: is it what the listing says, what its name promises, and whole?"""

from __future__ import annotations

from hashlib import md5
from urllib.parse import urlsplit

from r2maint.bucket.protocol import StoredObject
from r2maint.bucket.r2_limits import is_md5
from r2maint.http import Answer
from r2maint.images.formats import (
    HEAD_BYTES,
    FileType,
    is_same_type,
    plain_type,
    sniff,
    type_of_name,
)
from r2maint.verify.verdicts.by_http import (
    UrlVerdict,
    advice_on_version,
    is_encoded,
    is_transformed,
)
from r2maint.verify.verdicts.outcomes import NAME_ANOTHER, UPLOAD_AGAIN, Outcome

WHOLE_BYTES = 32 * 2**20
"""Of longer bodies only the beginning is read: their size and type are all that is compared."""
_TEXT = frozenset(("image/svg+xml",))
"""Types whose first bytes may be anything."""


def judge_content(
    answer: Answer, *, url: str, stored: StoredObject | None, most: int
) -> UrlVerdict:
    """Return the verdict on an answer whose headers are as they should be, by its body.

    `most` is how many bytes of a body are read, and one more of a longer one.
    """
    body, told = answer.body, answer.headers
    if is_encoded(told):
        return UrlVerdict(Outcome.OK, answer.status)
    is_same = not is_transformed(told)
    comparable = stored is not None and stored.size <= most and is_same
    detail = differs(body, stored) if stored is not None and comparable else ""
    if detail:
        return UrlVerdict(Outcome.CORRUPT, answer.status, detail, advice_on_version(answer))
    header, is_whole = told.get("content-type", ""), len(body) <= most
    found = judge_body(
        body, header=header, url=url, stored=stored, is_whole=is_whole, is_strict=is_same
    )
    return found._replace(status=answer.status)


def judge_body(
    body: bytes,
    *,
    header: str,
    url: str,
    stored: StoredObject | None,
    is_whole: bool,
    is_strict: bool = True,
) -> UrlVerdict:
    """Return what is true of a file by its bytes; of one's own strictly, of a stranger's not.

    A stranger may serve another kind of picture than the name promises, and so may Cloudflare where
    it makes pictures smaller: `is_strict` is False then. `is_whole` is False for the beginning of a
    file.
    """
    advice = UPLOAD_AGAIN if stored else NAME_ANOTHER
    if not body:
        return UrlVerdict(Outcome.EMPTY, detail="it has 0 bytes", advice=advice)
    kind = sniff(body[:HEAD_BYTES])
    promises = [type_of_name(stored.key if stored else urlsplit(url).path), plain_type(header)]
    is_own = stored is not None and is_strict
    wrong = [each for each in promises if not _agrees(each, kind, is_own=is_own)]
    if wrong:
        found = kind.content_type if kind else "no known type's"
        detail = f"its bytes are {found}, and it is named or served as {wrong[0]}"
        advice = "Upload the right file, under its own type." if stored else NAME_ANOTHER
        return UrlVerdict(Outcome.WRONG_TYPE, detail=detail, advice=advice)
    if kind is None or not kind.is_image or not is_whole:
        return UrlVerdict(Outcome.OK)
    return _decoded(body, advice)


def differs(body: bytes, stored: StoredObject) -> str:
    """Return how a whole body contradicts the listing, "" if it does not."""
    if len(body) != stored.size:
        more = "more than " if len(body) > stored.size else ""
        told = stored.size if more else len(body)
        return f"{more}{told:,} bytes came, the bucket holds {stored.size:,}"
    if is_md5(stored.etag) and md5(body, usedforsecurity=False).hexdigest() != stored.etag:
        return "other bytes came than the bucket holds: their MD5 is not its ETag"
    return ""


def _agrees(promised: str, kind: FileType | None, *, is_own: bool) -> bool:
    """Tell whether first bytes can be those of a type that a name or a header promises."""
    if not promised or promised in _TEXT:
        return True
    if kind is None:
        return not promised.startswith("image/")
    if is_own and type_of_name(kind.ext):
        return is_same_type(_ALIASES.get(promised, promised), kind) or not _is_known(promised)
    return not promised.startswith("image/") or kind.is_image


_ALIASES = {
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/vnd.microsoft.icon": "image/x-icon",
    "audio/mp3": "audio/mpeg",
    "audio/x-wav": "audio/wav",
    "audio/x-m4a": "audio/mp4",
}


def _is_known(promised: str) -> bool:
    return promised.partition("/")[0] in ("image", "audio", "video") or promised.endswith("/pdf")


def _decoded(body: bytes, advice: str) -> UrlVerdict:
    from r2maint.images import ImageError, inspect  # loads Pillow

    try:
        inspect(body)
    except ImageError as error:
        if error.reason == "corrupt":
            detail = "the picture does not decode to its end"
            return UrlVerdict(Outcome.CORRUPT, detail=detail, advice=advice)
    # What cannot be decoded here for its kind or size is no finding.
    return UrlVerdict(Outcome.OK)
