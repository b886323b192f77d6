"""Stores one upload so that the server checks the bytes: whole, or in parts when it is large.

Source: https://developers.cloudflare.com/r2/objects/multipart-objects/
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from r2maint.bucket import r2_limits
from r2maint.bucket.parallel import run_ahead
from r2maint.bucket.protocol import Headers, Upload
from r2maint.bucket.sdk_values import Answer, etag, header_arguments, retries
from r2maint.errors import PreconditionFailed

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PARTS_ABOVE_BYTES = 64 * 2**20
"""Larger bodies are sent in parts."""
PART_BYTES = 16 * 2**20
MAX_PARTS = 10_000
_PARTS_AT_ONCE = 4
_PARTS_BYTES = 128 * 2**20
"""In memory at once, about."""


class _Part(NamedTuple):
    number: int
    body: bytes
    md5: bytes


class Sender:
    """Stores uploads in one bucket. Raises botocore's errors."""

    def __init__(self, client: S3Client, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    def send(self, upload: Upload, headers: Headers) -> tuple[Answer, int]:
        """Store the upload; return the last answer and the size in bytes.

        One Class A request; in parts, one for each of them and three more.
        Raises: ObjectRejected for an unreadable file, BucketError when other bytes were stored.
        """
        digest = r2_limits.measure(upload)
        try:
            with _opened(upload.body) as body:
                if digest.size > PARTS_ABOVE_BYTES:
                    return self._send_parts(upload, headers, body, digest), digest.size
                return self._send_whole(upload, headers, body, digest), digest.size
        except OSError as error:
            assert isinstance(upload.body, Path)
            raise r2_limits.unreadable(upload.body, error) from error

    def _send_whole(
        self, upload: Upload, headers: Headers, body: BinaryIO, digest: r2_limits.Digest
    ) -> Answer:
        try:
            answer: Answer = self._client.put_object(
                Bucket=self._bucket,
                Key=upload.key,
                Body=body,
                ContentMD5=as_base64(bytes.fromhex(digest.md5)),
                **_condition(upload),
                **header_arguments(headers),
            )
        except ClientError as error:
            answer = self._stored_by_lost_attempt(error, upload.key, digest.size, digest.md5)
        r2_limits.require_same_bytes(upload.key, etag(answer), digest.md5)
        return answer

    def _send_parts(
        self, upload: Upload, headers: Headers, body: BinaryIO, digest: r2_limits.Digest
    ) -> Answer:
        self._require_absent(upload)
        self._abort_earlier(upload.key)
        target: dict[str, Any] = {"Bucket": self._bucket, "Key": upload.key}
        begun = self._client.create_multipart_upload(**target, **header_arguments(headers))
        target["UploadId"] = begun["UploadId"]
        try:
            parts, expected, sent = self._parts(upload, target, body, part_bytes(digest.size))
            r2_limits.require_expected(replace(upload, sha256=digest.sha256), sent)
            answer = self._complete(upload, target, parts, digest, expected)
        except BaseException:
            # What cannot be aborted costs storage until R2 removes it after seven days.
            with suppress(BotoCoreError, ClientError):
                self._client.abort_multipart_upload(**target)
            raise
        if retries(begun):
            # An attempt whose answer was lost has begun an upload that nobody knows.
            self._abort_earlier(upload.key)
        return answer

    def _abort_earlier(self, key: str) -> None:
        """Abort what a run that was killed has begun under this key: parts start clean."""
        # Cloudflare's emulator does not list uploads; they then end by themselves.
        with suppress(ClientError):
            answer = self._client.list_multipart_uploads(Bucket=self._bucket, Prefix=key)
            for pending in answer.get("Uploads", ()):
                if pending["Key"] == key:
                    self._client.abort_multipart_upload(
                        Bucket=self._bucket, Key=key, UploadId=pending["UploadId"]
                    )

    def _require_absent(self, upload: Upload) -> None:
        """Raise before gigabytes are sent in vain; the condition is checked again at the end."""
        if not upload.if_absent:
            return
        with suppress(ClientError):
            self._client.head_object(Bucket=self._bucket, Key=upload.key)
            raise PreconditionFailed(f"The key is taken: {upload.key!r}.")

    def _parts(
        self, upload: Upload, target: dict[str, Any], body: BinaryIO, length: int
    ) -> tuple[list[Any], str, str]:
        """Send the body, a few parts at once.

        Return the parts, the ETag they will have together, and the SHA-256 of all bytes.
        """
        digests, whole = hashlib.md5(usedforsecurity=False), hashlib.sha256()

        def numbered() -> Iterator[_Part]:
            for number, chunk in enumerate(_chunks(body, length), start=1):
                digest = hashlib.md5(chunk, usedforsecurity=False).digest()
                digests.update(digest)
                whole.update(chunk)
                yield _Part(number, chunk, digest)

        at_once = max(1, min(_PARTS_AT_ONCE, _PARTS_BYTES // length))
        sent = run_ahead(lambda part: self._send_part(target, part), numbered(), workers=at_once)
        parts, done = [], 0
        for part, future in sent:
            parts.append(future.result())
            done += len(part.body)
            if upload.progress:
                upload.progress(done)
        return parts, f"{digests.hexdigest()}-{len(parts)}", whole.hexdigest()

    def _send_part(self, target: dict[str, Any], part: _Part) -> dict[str, Any]:
        answer = self._client.upload_part(
            **target, PartNumber=part.number, Body=part.body, ContentMD5=as_base64(part.md5)
        )
        return {"PartNumber": part.number, "ETag": f'"{etag(answer)}"'}

    def _complete(
        self,
        upload: Upload,
        target: dict[str, Any],
        parts: list[Any],
        digest: r2_limits.Digest,
        expected: str,
    ) -> Answer:
        try:
            answer: Answer = self._client.complete_multipart_upload(
                **target, MultipartUpload={"Parts": parts}, **_condition(upload)
            )
        except ClientError as error:
            # Not every server makes the ETag of parts as R2 does: some have that of the whole.
            return self._stored_by_lost_attempt(
                error, upload.key, digest.size, expected, digest.md5
            )
        return answer

    def _stored_by_lost_attempt(
        self, error: ClientError, key: str, size: int, *etags: str
    ) -> Answer:
        """Return the answer to a HEAD if an attempt whose answer was lost stored these very bytes.

        The next attempt then meets its own object: PreconditionFailed, or NoSuchUpload for parts.
        """
        code = error.response["Error"].get("Code")
        if retries(error.response) and code in ("PreconditionFailed", "412", "NoSuchUpload"):
            with suppress(ClientError):
                answer: Answer = self._client.head_object(Bucket=self._bucket, Key=key)
                if answer["ContentLength"] == size and etag(answer) in etags:
                    return answer
        raise error


def part_bytes(size: int) -> int:
    """Return the size of each part but the last: R2 wants them equal, and at most 10,000."""
    return max(PART_BYTES, -(-size // MAX_PARTS))


def _condition(upload: Upload) -> dict[str, Any]:
    if upload.if_absent:
        return {"IfNoneMatch": "*"}
    return {"IfMatch": f'"{upload.if_match}"'} if upload.if_match else {}


def _opened(body: bytes | Path) -> BinaryIO:
    return io.BytesIO(body) if isinstance(body, bytes) else body.open("rb")


def _chunks(source: BinaryIO, length: int) -> Iterator[bytes]:
    while chunk := source.read(length):
        yield chunk


def as_base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()
