"""PUT, COPY, HEAD and short GETs of many objects through the bulk engine, signed.

They are answered as buckets answer.

libcurl signs with its native Signature Version 4 and the SHA-256 of the very bytes, so that the
server refuses any others. It resolves "." and ".." segments before it signs: `can_ask` is False for
keys that have them.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from datetime import datetime
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TypeVar, cast

from r2maint.bucket import r2_limits, upload_many
from r2maint.bucket.protocol import Copy, Headers, ObjectInfo, Result, Upload
from r2maint.bucket.sdk_client import CONNECT_SECONDS, READ_SECONDS, RETRIED, ca_bundle
from r2maint.bucket.sdk_errors import RequestTarget, explain, no_answer
from r2maint.bucket.sdk_values import parsed_date, plain_etag
from r2maint.bucket.small_files import read_small
from r2maint.conf.bucket_connection import Connection
from r2maint.errors import BucketError, NoClock, PreconditionFailed
from r2maint.http import Answer, Credentials, Engine, Limiter, Pace, Request, RequestOutcome
from r2maint.http.retry import is_passing
from r2maint.keys.text import quote_key

R = TypeVar("R")
V = TypeVar("V")
_Note = tuple[r2_limits.Digest, Headers]
"""What is known of an upload while it is under way."""

_EMPTY = sha256(b"").hexdigest()
_MADE = object()
"""Note of a request about a copy that was made."""
_STREAMED_ABOVE_BYTES = 2**20
"""Larger files are read again as they are sent, not kept in memory."""
_DOTS = re.compile(r"(?:^|/)\.{1,2}(?:/|$)")
_ERROR = re.compile(rb"<(Code|Message)>([^<]*)</")
_COPIED = re.compile(rb"<(?:\w+:)?CopyObjectResult\b")
_COPIED_ETAG = re.compile(rb"<(?:\w+:)?ETag>([^<]*)")
_SERVED = {
    "content_type": "content-type",
    "cache_control": "cache-control",
    "content_disposition": "content-disposition",
    "content_encoding": "content-encoding",
    "content_language": "content-language",
    "expires": "expires",
}
_META = "x-amz-meta-"
_ATTEMPTS = 8
"""The first waits are short: half a minute in all, like the SDK's six attempts."""
_AHEAD_OF_RETRY = 1024
"""Answers to PUT, COPY and HEAD are small."""


def can_ask(key: str) -> bool:
    """Tell whether libcurl can sign a request about this key."""
    may_have_dots = "/." in key or key.startswith(".")
    return not may_have_dots or _DOTS.search(key) is None


class Wire:
    """One bucket behind an S3 endpoint; may be used from several threads."""

    def __init__(
        self,
        name: str,
        connection: Connection,
        place: RequestTarget,
        *,
        workers: int,
        limiter: Limiter,
    ) -> None:
        self._place = place
        self._source = f"/{quote_key(name)}/"
        self._base = f"{connection.endpoint_url.rstrip('/')}{self._source}"
        self._engine = Engine(
            Pace(
                workers=workers,
                attempts=_ATTEMPTS,
                ahead_of_retry=_AHEAD_OF_RETRY,
                connect_seconds=CONNECT_SECONDS,
                stall_seconds=READ_SECONDS,
                is_passing=_may_pass,
                eases_off=True,
            ),
            limiter=limiter,
            credentials=Credentials(
                access_key_id=connection.access_key_id,
                secret_access_key=connection.secret_access_key,
                region=connection.region or "auto",
            ),
            ca_bundle=ca_bundle(),
        )

    def head_many(
        self, keys: Iterable[str], *, otherwise: Callable[[str], ObjectInfo]
    ) -> Generator[Result[str, ObjectInfo], None, None]:
        """Yield what is stored under each key; `otherwise` answers for keys it cannot ask for."""
        with closing(self._engine.send_many(keys, self._head)) as outcomes:
            for outcome in outcomes:
                yield _result(outcome, partial(self._found, outcome), otherwise)

    def peek_many(
        self, keys: Iterable[str], *, count: int, otherwise: Callable[[str], bytes]
    ) -> Generator[Result[str, bytes], None, None]:
        """Yield the first `count` bytes of each object; `otherwise` reads what it cannot."""
        with closing(self._engine.send_many(keys, partial(self._peek, count))) as outcomes:
            for outcome in outcomes:
                yield _result(outcome, partial(self._beginning, outcome, count), otherwise)

    def put_many(
        self, uploads: Iterable[Upload], *, otherwise: Callable[[Upload], ObjectInfo]
    ) -> Generator[Result[Upload, ObjectInfo], None, None]:
        """Store each upload; `otherwise` stores what it cannot carry."""
        with closing(self._engine.send_many(uploads, self._put)) as outcomes:
            for outcome in outcomes:
                yield _result(outcome, partial(self._stored, outcome), otherwise)

    def copy_many(
        self, copies: Iterable[Copy], *, otherwise: Callable[[Copy], ObjectInfo]
    ) -> Generator[Result[Copy, ObjectInfo], None, None]:
        """Copy each object and look at its copy; `otherwise` copies to keys it cannot ask for."""
        sent = self._engine.send_many(copies, self._copy, then=self._look_at_copy)
        with closing(sent) as outcomes:
            for outcome in outcomes:
                yield _result(outcome, partial(self._copied, outcome), otherwise)

    # Asking

    def _head(self, key: str) -> Request | None:
        if not (r2_limits.can_exist(key) and can_ask(key)):
            return None
        return self._request("HEAD", key, (f"x-amz-content-sha256: {_EMPTY}",))

    def _found(self, outcome: RequestOutcome[str]) -> ObjectInfo:
        answer = self._answer(outcome, outcome.label, "HeadObject")
        return _info(outcome.label, answer)

    def _peek(self, count: int, key: str) -> Request | None:
        if not (r2_limits.can_exist(key) and can_ask(key)):
            return None
        lines = (f"x-amz-content-sha256: {_EMPTY}", f"Range: bytes=0-{count - 1}")
        return self._request("GET", key, lines)._replace(enough_bytes=count)

    def _beginning(self, outcome: RequestOutcome[str], count: int) -> bytes:
        return self._answer(outcome, outcome.label, "GetObject").body[:count]

    # Storing

    def _put(self, upload: Upload) -> Request | None:
        """Return the request of an upload, its body measured now. Raises: ObjectRejected."""
        r2_limits.require_key(upload.key)
        headers = r2_limits.stored_headers(upload.key, upload.headers)
        if not can_ask(upload.key):
            return None
        body, size = _read(upload.body)
        if size > upload_many.PARTS_ABOVE_BYTES:
            return None
        digest = r2_limits.measure(upload if body is upload.body else _with_body(upload, body))
        lines = (
            f"x-amz-content-sha256: {digest.sha256}",
            f"Content-MD5: {upload_many.as_base64(bytes.fromhex(digest.md5))}",
            *_condition(upload),
            *_lines(headers),
        )
        return self._request("PUT", upload.key, lines, body, (digest, headers))

    def _stored(self, outcome: RequestOutcome[Upload]) -> ObjectInfo:
        upload = outcome.label
        digest, headers = cast("_Note", outcome.note)
        try:
            answer = self._answer(outcome, upload.key, "PutObject")
        except PreconditionFailed:
            return self._stored_by_lost_attempt(outcome, digest)
        etag = plain_etag(answer.headers.get("etag", ""))
        r2_limits.require_same_bytes(upload.key, etag, digest.md5)
        return ObjectInfo(
            key=upload.key,
            size=digest.size,
            etag=etag,
            modified_at=self._stored_at(upload.key, answer),
            headers=headers,
        )

    def _stored_at(self, key: str, answer: Answer) -> datetime:
        """Return when an object was stored: the Date of the answer, else what a HEAD tells."""
        try:
            return parsed_date(answer.headers.get("date", ""))
        except NoClock:
            head = self._head(key)
            assert head is not None
            found = self._engine.send(head)
            if found.answer is None or found.answer.status != 200:
                raise
            return parsed_date(found.answer.headers.get("last-modified", ""))

    def _stored_by_lost_attempt(
        self, outcome: RequestOutcome[Upload], digest: r2_limits.Digest
    ) -> ObjectInfo:
        """Return what is stored if an attempt whose answer was lost stored these very bytes."""
        key = outcome.label.key
        if outcome.attempts > 1:
            found = self._engine.send(self._head(key) or Request(url=self._base))
            if found.answer is not None and found.answer.status == 200:
                info = _info(key, found.answer)
                if (info.size, info.etag) == (digest.size, digest.md5):
                    return info
        raise PreconditionFailed(f"The condition does not hold: {key!r} is taken or was changed.")

    # Copying

    def _copy(self, copy: Copy) -> Request | None:
        """Return the request of a copy. Raises: ObjectRejected."""
        r2_limits.require_key(copy.target)
        if not can_ask(copy.target):
            return None
        lines = (
            f"x-amz-content-sha256: {_EMPTY}",
            f"x-amz-copy-source: {self._source}{quote_key(copy.source)}",
            f'x-amz-copy-source-if-match: "{copy.if_match}"',
            *_lines_of_copy(copy),
        )
        return self._request("PUT", copy.target, lines)

    def _look_at_copy(self, copy: Copy, answer: Answer) -> Request | None:
        """Return the HEAD of a copy that was made, so that its answer is what came of it."""
        is_pinned = r2_limits.is_pinned(_etag_of_copy(answer), copy.if_match)
        is_made = answer.status == 200 and _COPIED.search(answer.body[:512]) is not None
        if not (is_made and is_pinned):
            return None
        head = self._head(copy.target)
        return head._replace(note=_MADE) if head else None

    def _copied(self, outcome: RequestOutcome[Copy]) -> ObjectInfo:
        copy = outcome.label
        if outcome.note is _MADE:
            return _info(copy.target, self._answer(outcome, copy.target, "HeadObject"))
        answer = self._answer(outcome, copy.source, "CopyObject")
        if _COPIED.search(answer.body[:512]) is None:
            # An error may come with status 200, after the server began to answer.
            raise self._refused(answer, copy.source, "CopyObject")
        raise r2_limits.not_pinned(copy.source)

    # All

    def _request(
        self,
        method: str,
        key: str,
        lines: tuple[str, ...],
        body: bytes | Path | None = None,
        note: _Note | None = None,
    ) -> Request:
        return Request(
            url=self._base + quote_key(key),
            method=method,
            headers=lines,
            body=body,
            size=note[0].size if note else 0,
            note=note,
        )

    def _answer(self, outcome: RequestOutcome[R], key: str, operation: str) -> Answer:
        """Return the answer if it is a good one. Raises: BucketError."""
        if outcome.failure is not None:
            raise no_answer(outcome.failure, self._place, key)
        answer = outcome.answer
        assert answer is not None
        if answer.status in (200, 204, 206):
            return answer
        raise self._refused(answer, key, operation)

    def _refused(self, answer: Answer, key: str, operation: str) -> BucketError:
        told = _told(answer)
        return explain(
            self._place,
            key,
            operation,
            code=told.get("Code") or str(answer.status),
            status=answer.status,
            message=told.get("Message", ""),
        )


def _result(
    outcome: RequestOutcome[R], read: Callable[[], V], otherwise: Callable[[R], V]
) -> Result[R, V]:
    try:
        if outcome.error is not None:
            raise outcome.error
        unsent = outcome.answer is None and outcome.failure is None
        value = otherwise(outcome.label) if unsent else read()
    except BucketError as error:
        return Result(request=outcome.label, error=error)
    return Result(request=outcome.label, value=value)


def _may_pass(answer: Answer) -> bool:
    has_failed = answer.status >= 400 or b"<Error>" in answer.body[:512]
    return is_passing(answer) or (has_failed and _told(answer).get("Code") in RETRIED)


def _told(answer: Answer) -> Mapping[str, str]:
    """Return Code and Message of an error answer."""
    return {
        name.decode(): html.unescape(text.decode("utf-8", "replace"))
        for name, text in reversed(_ERROR.findall(answer.body[:4096]))
    }


def _read(body: bytes | Path) -> tuple[bytes | Path, int]:
    """Return a small file's bytes, so that it is read only once, or else the body; and its size.

    Raises: ObjectRejected when the file cannot be read.
    """
    if isinstance(body, bytes):
        return body, len(body)
    try:
        small = read_small(body, _STREAMED_ABOVE_BYTES)
    except OSError as error:
        raise r2_limits.unreadable(body, error) from error
    return (body if small.body is None else small.body), small.size


def _with_body(upload: Upload, body: bytes | Path) -> Upload:
    return Upload(key=upload.key, body=body, sha256=upload.sha256)


def _condition(upload: Upload) -> tuple[str, ...]:
    if upload.if_absent:
        return ("If-None-Match: *",)
    return (f'If-Match: "{upload.if_match}"',) if upload.if_match else ()


def _lines(headers: Headers) -> Iterator[str]:
    # The storage class is always sent: without one the object gets the bucket's default.
    yield f"x-amz-storage-class: {headers.storage_class}"
    for name, header in _SERVED.items():
        if value := getattr(headers, name):
            yield f"{header}: {value}"
    if not headers.content_type:
        yield "Content-Type: application/octet-stream"
    for name, value in headers.metadata.items():
        yield f"{_META}{name}: {value}" if value else f"{_META}{name};"


def _lines_of_copy(copy: Copy) -> Iterator[str]:
    if copy.headers is None:
        yield "x-amz-metadata-directive: COPY"
        yield f"x-amz-storage-class: {copy.storage_class}"
    else:
        yield "x-amz-metadata-directive: REPLACE"
        yield from _lines(r2_limits.stored_headers(copy.target, copy.headers))


def _etag_of_copy(answer: Answer) -> str:
    found = _COPIED_ETAG.search(answer.body[:4096])
    return plain_etag(html.unescape(found[1].decode("utf-8", "replace"))) if found else ""


def _info(key: str, answer: Answer) -> ObjectInfo:
    told = answer.headers
    return ObjectInfo(
        key=key,
        size=int(told.get("content-length", 0)),
        etag=plain_etag(told.get("etag", "")),
        modified_at=parsed_date(told.get("last-modified", "")),
        headers=Headers(
            **{name: told.get(header, "") for name, header in _SERVED.items()},
            metadata={
                name[len(_META) :]: value for name, value in told.items() if name.startswith(_META)
            },
            storage_class=told.get("x-amz-storage-class", "STANDARD"),
        ),
    )
