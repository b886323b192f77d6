"""R2, or another S3 server, through boto3's core."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar
from urllib.parse import urlsplit

from botocore.exceptions import ClientError, HTTPClientError, IncompleteReadError

from r2maint.bucket import r2_limits, sdk_values
from r2maint.bucket.delete_many import BatchDeleter
from r2maint.bucket.list_guard import guarded, guarded_page
from r2maint.bucket.list_parser import read_page
from r2maint.bucket.parallel import in_order, raised
from r2maint.bucket.protocol import (
    Copy,
    Download,
    Expiry,
    ObjectInfo,
    Page,
    PendingUpload,
    Result,
    StoredObject,
    Upload,
    require_size,
)
from r2maint.bucket.sdk_client import make_client, taking_gzip
from r2maint.bucket.sdk_errors import RequestTarget, translated
from r2maint.bucket.signed_requests import Wire
from r2maint.bucket.upload_many import Sender
from r2maint.errors import BucketError, BucketUnreachable, InvalidListing, NoClock, NoSuchKey
from r2maint.http.retry import Limiter
from r2maint.scratch.batches import batched

if TYPE_CHECKING:
    from r2maint.conf.bucket_connection import Connection

BATCH_SIZE = 1000
"""Keys in one DeleteObjects or one page; R2 answers MalformedXML to more."""

_BODY_ATTEMPTS = 4
_NO_RULES = "NoSuchLifecycleConfiguration"
_CHUNK_BYTES = 2**16
_new_md5 = partial(hashlib.md5, usedforsecurity=False)

T = TypeVar("T")
V = TypeVar("V")


class R2Bucket:
    """One bucket behind an S3 endpoint; may be used from several threads."""

    def __init__(
        self, name: str, connection: Connection, *, workers: int = 8, rate: float | None = None
    ) -> None:
        self.name = name
        self._workers = max(workers, 1)
        limiter = Limiter(rate)
        self._client = make_client(connection, workers=self._workers, limiter=limiter)
        self._sender = Sender(self._client, name)
        self._place = RequestTarget(
            name, urlsplit(connection.endpoint_url).netloc.rpartition("@")[2]
        )
        self._deleter = BatchDeleter(self._client, name, self._place)
        self._wire = Wire(name, connection, self._place, workers=self._workers, limiter=limiter)
        self._answers = False
        self._probing = threading.Lock()

    def now(self) -> datetime:
        return sdk_values.date(self._list(max_keys=1))

    # Listing

    def list_pages(
        self, prefix: str = "", *, start_after: str = ""
    ) -> Iterator[list[StoredObject]]:
        return guarded(self._pages(prefix, start_after), prefix, start_after)

    def list_page(self, *, start_after: str) -> Page:
        more = {"StartAfter": start_after} if start_after else {}
        return guarded_page(self._page("", more), start_after)

    def _pages(self, prefix: str, start_after: str) -> Iterator[Page]:
        """Yield the pages; the next one is on its way while the caller works on this one."""
        more: dict[str, Any] = {"StartAfter": start_after} if start_after else {}
        ahead = ThreadPoolExecutor(1, thread_name_prefix="r2maint-listing")
        try:
            coming: Future[Page] | None = ahead.submit(self._page, prefix, more)
            while coming is not None:
                page = coming.result()
                coming = None
                if page.truncated and page.token:
                    more = {"ContinuationToken": page.token}
                    coming = ahead.submit(self._page, prefix, more)
                yield page
        finally:
            # A listing that a stop abandoned may be finalised in its own thread, which cannot wait
            # for itself.
            ahead.shutdown(wait=False, cancel_futures=True)

    def _page(self, prefix: str, more: dict[str, Any]) -> Page:
        return read_page(self._list(prefix=prefix, **more)["Page"], self._place)

    def _list(self, *, prefix: str = "", max_keys: int = 0, **more: Any) -> Any:
        with translated(self._place):
            return self._client.list_objects_v2(
                Bucket=self.name, Prefix=prefix, MaxKeys=max_keys or BATCH_SIZE, **more
            )

    def list_uploads(self, prefix: str = "") -> Iterator[PendingUpload]:
        marker = ("", "")
        seen = {marker}
        while True:
            answer = self._list_uploads(prefix, *marker)
            yield from map(sdk_values.pending_upload, answer.get("Uploads", ()))
            if not answer.get("IsTruncated"):
                return
            marker = (answer.get("NextKeyMarker", ""), answer.get("NextUploadIdMarker", ""))
            if marker in seen:
                raise InvalidListing("The listing of unfinished uploads goes in circles.")
            seen.add(marker)

    def _list_uploads(self, prefix: str, key: str, upload_id: str) -> Any:
        more: dict[str, Any] = {"KeyMarker": key, "UploadIdMarker": upload_id} if key else {}
        with translated(self._place):
            try:
                return self._client.list_multipart_uploads(Bucket=self.name, Prefix=prefix, **more)
            except self._client.exceptions.NoSuchUpload:
                # How `rclone serve s3` says that there is none.
                return {}

    def measure_uploads(
        self, uploads: Iterable[PendingUpload]
    ) -> Iterator[Result[PendingUpload, int]]:
        return in_order(self._measure_upload, uploads, workers=self._workers)

    def _measure_upload(self, upload: PendingUpload) -> int:
        pages = self._client.get_paginator("list_parts").paginate(**self._named(upload))
        with translated(self._place, upload.key):
            try:
                return sum(part["Size"] for page in pages for part in page.get("Parts", ()))
            except self._client.exceptions.NoSuchUpload as error:
                raise NoSuchKey(f"The upload is over: {upload.key!r}.") from error

    def abort_uploads(
        self, uploads: Iterable[PendingUpload]
    ) -> Iterator[Result[PendingUpload, None]]:
        return in_order(self._abort_upload, uploads, workers=self._workers)

    def _abort_upload(self, upload: PendingUpload) -> None:
        over = self._client.exceptions.NoSuchUpload
        with translated(self._place, upload.key), suppress(over):
            self._client.abort_multipart_upload(**self._named(upload))

    def _named(self, upload: PendingUpload) -> Any:
        return {"Bucket": self.name, "Key": upload.key, "UploadId": upload.upload_id}

    def expiries(self) -> tuple[Expiry, ...]:
        with translated(self._place):
            try:
                answer = self._client.get_bucket_lifecycle_configuration(Bucket=self.name)
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") == _NO_RULES:
                    return ()
                raise
        return tuple(sdk_values.expiries(answer))

    # Reading

    def head_many(self, keys: Iterable[str]) -> Iterator[Result[str, ObjectInfo]]:
        with closing(self._wire.head_many(keys, otherwise=self._head)) as results:
            yield from raised(map(self._looked_into, results))

    def _looked_into(self, result: Result[T, V]) -> Result[T, V]:
        """Return a result; raise what is wrong with bucket or token where that is why it failed."""
        if result.error is not None and not isinstance(result.error, BucketUnreachable):
            self._probe()
        return result

    def get_many(
        self, keys: Iterable[str], *, max_bytes: int | None = None
    ) -> Iterator[Result[str, Download]]:
        return in_order(partial(self._get, max_bytes), keys, workers=self._workers)

    def peek_many(self, keys: Iterable[str], *, count: int) -> Iterator[Result[str, bytes]]:
        otherwise = partial(self._peek, count)
        with closing(self._wire.peek_many(keys, count=count, otherwise=otherwise)) as results:
            yield from raised(map(self._looked_into, results))

    def _head(self, key: str) -> ObjectInfo:
        with self._about(key):
            return sdk_values.info(key, self._client.head_object(Bucket=self.name, Key=key))

    def _peek(self, count: int, key: str) -> bytes:
        with self._about(key):
            span = f"bytes=0-{count - 1}"
            answer = self._client.get_object(Bucket=self.name, Key=key, Range=span)
            with closing(answer["Body"]) as body:
                return bytes(body.read(count))

    def _get(self, max_bytes: int | None, key: str) -> Download:
        body = io.BytesIO()
        return Download(info=self._read_stored(key, body, max_bytes), body=body.getvalue())

    def download(self, key: str, path: Path, *, max_bytes: int | None = None) -> ObjectInfo:
        part = path.with_name(path.name + ".part")
        try:
            with part.open("wb") as file:
                info = self._read_stored(key, file, max_bytes)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        return info

    def _read_stored(self, key: str, target: BinaryIO, max_bytes: int | None) -> ObjectInfo:
        """Write the bytes that are stored to `target`.

        R2 and proxies unpack what is stored with Content-Encoding gzip for a client that does not
        take gzip. So bytes that are not those of the ETag are asked for once more by one that does.
        """
        info, md5 = self._read_into(key, target, max_bytes)
        if r2_limits.is_md5(info.etag) and info.etag != md5:
            with taking_gzip():
                info, _ = self._read_into(key, target, max_bytes)
        return info

    def _read_into(
        self, key: str, target: BinaryIO, max_bytes: int | None
    ) -> tuple[ObjectInfo, str]:
        """Write one object to `target`, again from its beginning when its body breaks off."""
        with self._about(key):
            for _ in range(_BODY_ATTEMPTS - 1):
                try:
                    return self._read_once(key, target, max_bytes)
                except (HTTPClientError, IncompleteReadError):
                    continue
            return self._read_once(key, target, max_bytes)

    def _read_once(
        self, key: str, target: BinaryIO, max_bytes: int | None
    ) -> tuple[ObjectInfo, str]:
        """Return what the answer tells of the object, and the MD5 of its body."""
        target.seek(0)
        target.truncate()
        answer, md5 = self._client.get_object(Bucket=self.name, Key=key), _new_md5()
        with closing(answer["Body"]) as body:
            require_size(key, answer.get("ContentLength", 0), max_bytes)
            for chunk in body.iter_chunks(_CHUNK_BYTES):
                target.write(chunk)
                require_size(key, target.tell(), max_bytes)
                md5.update(chunk)
        # An answer that was unpacked on its way may have no length.
        answer.setdefault("ContentLength", target.tell())
        return sdk_values.info(key, answer), md5.hexdigest()

    @contextmanager
    def _about(self, key: str) -> Iterator[None]:
        """Translate the errors of a request that reads one object."""
        if not r2_limits.can_exist(key):
            raise NoSuchKey(f"The object does not exist: {key!r}.")
        try:
            with translated(self._place, key):
                yield
        except BucketError as error:
            if not isinstance(error, BucketUnreachable):
                self._probe()
            raise

    def _probe(self) -> None:
        """List once, to raise what is wrong with bucket or token.

        The answer to a HEAD has a status and no reason; its 404 may mean a missing bucket.
        """
        with self._probing:
            if not self._answers:
                self._list(max_keys=1)
                self._answers = True

    # Writing

    def put_many(self, uploads: Iterable[Upload]) -> Iterator[Result[Upload, ObjectInfo]]:
        with closing(self._wire.put_many(uploads, otherwise=self._put)) as results:
            yield from raised(results)

    def copy_many(self, copies: Iterable[Copy]) -> Iterator[Result[Copy, ObjectInfo]]:
        with closing(self._wire.copy_many(copies, otherwise=self._copy)) as results:
            yield from raised(map(self._looked_into, results))

    def delete_many(
        self, keys: Iterable[str], *, permit: Callable[[], object] = bool
    ) -> Iterator[Result[str, None]]:
        delete = partial(self._deleter.delete, permit=permit)
        for batch in in_order(delete, batched(keys, BATCH_SIZE), workers=self._workers):
            if batch.error is not None:
                yield from (Result(request=key, error=batch.error) for key in batch.request)
            else:
                errors = batch.value or {}
                yield from (Result(request=key, error=errors.get(key)) for key in batch.request)

    def _put(self, upload: Upload) -> ObjectInfo:
        r2_limits.require_key(upload.key)
        headers = r2_limits.stored_headers(upload.key, upload.headers)
        with translated(self._place, upload.key):
            answer, size = self._sender.send(upload, headers)
        try:
            modified_at = sdk_values.date(answer)
        except NoClock:
            modified_at = self._head(upload.key).modified_at
        return ObjectInfo(
            key=upload.key,
            size=size,
            etag=sdk_values.etag(answer),
            modified_at=modified_at,
            headers=headers,
        )

    def _copy(self, copy: Copy) -> ObjectInfo:
        r2_limits.require_key(copy.target)
        with self._about(copy.source):
            answer = self._client.copy_object(
                Bucket=self.name,
                Key=copy.target,
                CopySource={"Bucket": self.name, "Key": copy.source},
                CopySourceIfMatch=f'"{copy.if_match}"',
                **_headers_of(copy),
            )
        if not r2_limits.is_pinned(sdk_values.etag(answer["CopyObjectResult"]), copy.if_match):
            raise r2_limits.not_pinned(copy.source)
        return self._head(copy.target)


def _headers_of(copy: Copy) -> Any:
    if copy.headers is None:
        return {"MetadataDirective": "COPY", "StorageClass": copy.storage_class}
    headers = r2_limits.stored_headers(copy.target, copy.headers)
    return {"MetadataDirective": "REPLACE", **sdk_values.header_arguments(headers)}
