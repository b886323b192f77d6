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
from typing import TYPE_CHECKING, Any, BinaryIO

from botocore.exceptions import BotoCoreError, ClientError

from r2maint.bucket import rules
from r2maint.bucket.answers import Answer, etag, header_arguments, retries
from r2maint.bucket.base import Headers, Upload
from r2maint.errors import PreconditionFailed

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PARTS_ABOVE_BYTES = 64 * 2**20
"""Larger bodies are sent in parts."""
PART_BYTES = 16 * 2**20
MAX_PARTS = 10_000


class Sender:
    """Stores uploads in one bucket. Raises botocore's errors."""

    def __init__(self, client: S3Client, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    def send(self, upload: Upload, headers: Headers) -> tuple[Answer, int]:
        """Store the upload; return the last answer and the size in bytes.

        One Class A request; in parts, one for each of them and two more.
        Raises: ObjectRejected for an unreadable file, BucketError when other bytes were stored.
        """
        size, md5 = rules.measure(upload)
        rules.require_expected(upload, md5)
        try:
            with _opened(upload.body) as body:
                if size > PARTS_ABOVE_BYTES:
                    return self._send_parts(upload, headers, size, body, md5), size
                return self._send_whole(upload, headers, size, body, md5), size
        except OSError as error:
            assert isinstance(upload.body, Path)
            raise rules.unreadable(upload.body, error) from error

    def _send_whole(
        self, upload: Upload, headers: Headers, size: int, body: BinaryIO, md5: str
    ) -> Answer:
        try:
            answer: Answer = self._client.put_object(
                Bucket=self._bucket,
                Key=upload.key,
                Body=body,
                ContentMD5=_base64(bytes.fromhex(md5)),
                **_condition(upload),
                **header_arguments(headers),
            )
        except ClientError as error:
            answer = self._stored_by_lost_attempt(error, upload.key, size, md5)
        rules.require_same_bytes(upload.key, etag(answer), md5)
        return answer

    def _send_parts(
        self, upload: Upload, headers: Headers, size: int, body: BinaryIO, md5: str
    ) -> Answer:
        self._require_absent(upload)
        target: dict[str, Any] = {"Bucket": self._bucket, "Key": upload.key}
        begun = self._client.create_multipart_upload(**target, **header_arguments(headers))
        target["UploadId"] = begun["UploadId"]
        try:
            parts, expected, sent = self._parts(upload, target, body, part_bytes(size))
            rules.require_expected(replace(upload, md5=md5), sent)
            return self._complete(upload, target, parts, size, expected)
        except BaseException:
            # What cannot be aborted costs storage until R2 removes it after seven days.
            with suppress(BotoCoreError, ClientError):
                self._client.abort_multipart_upload(**target)
            raise

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
        """Send the body; return its parts, the ETag they will have, and the MD5 of all bytes."""
        parts: list[Any] = []
        digests, whole = (hashlib.md5(usedforsecurity=False) for _ in range(2))
        for number, chunk in enumerate(_chunks(body, length), start=1):
            digest = hashlib.md5(chunk, usedforsecurity=False).digest()
            digests.update(digest)
            whole.update(chunk)
            answer = self._client.upload_part(
                **target, PartNumber=number, Body=chunk, ContentMD5=_base64(digest)
            )
            parts.append({"PartNumber": number, "ETag": f'"{etag(answer)}"'})
            if upload.progress:
                upload.progress(body.tell())
        return parts, f"{digests.hexdigest()}-{len(parts)}", whole.hexdigest()

    def _complete(
        self, upload: Upload, target: dict[str, Any], parts: list[Any], size: int, expected: str
    ) -> Answer:
        try:
            answer: Answer = self._client.complete_multipart_upload(
                **target, MultipartUpload={"Parts": parts}, **_condition(upload)
            )
        except ClientError as error:
            return self._stored_by_lost_attempt(error, upload.key, size, expected)
        return answer

    def _stored_by_lost_attempt(
        self, error: ClientError, key: str, size: int, expected: str
    ) -> Answer:
        """Return the answer to a HEAD if an attempt whose answer was lost stored these very bytes.

        The next attempt then meets its own object: PreconditionFailed, or NoSuchUpload for parts.
        """
        code = error.response["Error"].get("Code")
        if retries(error.response) and code in ("PreconditionFailed", "412", "NoSuchUpload"):
            with suppress(ClientError):
                answer: Answer = self._client.head_object(Bucket=self._bucket, Key=key)
                if (answer["ContentLength"], etag(answer)) == (size, expected):
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


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()
