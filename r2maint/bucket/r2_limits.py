"""What R2 accepts as a key and as headers, checked before anything is sent.

Source: https://developers.cloudflare.com/r2/platform/limits/
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from r2maint.bucket.protocol import Headers, Upload
from r2maint.errors import BucketError, ObjectRejected, PreconditionFailed
from r2maint.keys.key_templates import MAX_KEY_BYTES

MAX_METADATA_BYTES = 8192

_CHUNK_BYTES = 2**20
_PLAIN_MD5 = re.compile(r"[0-9a-f]{32}")


def can_exist(key: str) -> bool:
    """Return whether a bucket can hold this key at all: 1 to 1,024 bytes of UTF-8."""
    try:
        return 0 < len(key.encode()) <= MAX_KEY_BYTES
    except UnicodeEncodeError:
        return False


def require_key(key: str) -> None:
    """Raise ObjectRejected for a key no bucket can hold."""
    if not can_exist(key):
        raise ObjectRejected(
            f"The key cannot be stored: {key[:80]!r}.",
            "A key is 1 to 1,024 bytes of valid UTF-8.",
        )


def stored_headers(key: str, headers: Headers) -> Headers:
    """Return `headers` as a bucket keeps them: metadata names in lower case, a storage class.

    Raises: ObjectRejected for what cannot be signed and sent as a header.
    """
    metadata = {name.lower(): value.strip() for name, value in headers.metadata.items()}
    size = sum(len(name) + len(value) for name, value in metadata.items())
    if size > MAX_METADATA_BYTES:
        raise ObjectRejected(
            f"The metadata is larger than {MAX_METADATA_BYTES:,} bytes: {key!r} has {size:,}."
        )
    texts = (*_plain_headers(headers), *metadata, *metadata.values())
    if not _is_plain("".join(texts)):
        text = next(text for text in texts if not _is_plain(text))
        raise ObjectRejected(
            f"A header is not printable ASCII: {text[:80]!r} of {key!r}.",
            "Encode such a value before it is stored (RFC 2047 for metadata).",
        )
    storage_class = headers.storage_class or "STANDARD"
    if metadata == headers.metadata and storage_class == headers.storage_class:
        return headers
    return replace(headers, metadata=metadata, storage_class=storage_class)


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable()


def _plain_headers(headers: Headers) -> tuple[str, ...]:
    return (
        headers.content_type,
        headers.cache_control,
        headers.content_disposition,
        headers.content_encoding,
        headers.content_language,
        headers.expires,
        headers.storage_class,
    )


class Digest(NamedTuple):
    """What a body is known by."""

    size: int
    """Bytes."""
    md5: str
    """Hex; what an ETag is made of."""
    sha256: str
    """Hex; what requests are signed with."""


def measure(upload: Upload) -> Digest:
    """Return the digest of what is to be stored.

    Raises: ObjectRejected when the local file cannot be read, or when the bytes at hand are not
    those the caller means to store.
    """
    if isinstance(upload.body, bytes):
        digest = measure_bytes(upload.body)
    else:
        try:
            digest = measure_file(upload.body)
        except OSError as error:
            raise unreadable(upload.body, error) from error
    require_expected(upload, digest.sha256)
    return digest


def require_expected(upload: Upload, sha256: str) -> None:
    """Raise ObjectRejected when the bytes at hand are not those the caller means to store."""
    if upload.sha256 and upload.sha256 != sha256:
        raise ObjectRejected(
            f"The source changed since it was planned: {upload.key!r}.",
            "Nothing was stored under this key; run the command again.",
        )


def measure_bytes(body: bytes) -> Digest:
    """Return the digest of bytes in memory."""
    md5 = hashlib.md5(body, usedforsecurity=False).hexdigest()
    return Digest(len(body), md5, hashlib.sha256(body).hexdigest())


def measure_file(path: Path) -> Digest:
    """Return the digest of a file, reading it once."""
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    size = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            md5.update(chunk)
            sha256.update(chunk)
            size += len(chunk)
    return Digest(size, md5.hexdigest(), sha256.hexdigest())


def unreadable(path: Path, error: OSError) -> ObjectRejected:
    """Return the error that tells why a local file could not be stored."""
    return ObjectRejected(f"The local file cannot be read: {str(path)!r} ({error.strerror}).")


def is_md5(etag: str) -> bool:
    """Tell whether an ETag looks like the MD5 of its object; that of parts does not."""
    return _PLAIN_MD5.fullmatch(etag) is not None


def require_same_bytes(key: str, etag: str, md5: str) -> None:
    """Raise BucketError when the answer's ETag is an MD5, and not that of the bytes sent."""
    if is_md5(etag) and etag != md5:
        raise BucketError(
            f"The bucket answered with the checksum of other bytes: {key!r}.",
            "Nothing points at this object; run the command again.",
        )


def is_pinned(etag: str, if_match: str) -> bool:
    """Tell whether the ETag of a copy is what that of its source, as pinned, lets expect.

    Only two MD5s can be compared: a copy of a multipart upload has an ETag of its own.
    """
    return etag == if_match or not (is_md5(etag) and is_md5(if_match))


def not_pinned(source: str) -> PreconditionFailed:
    """Return the error of a copy whose source was not as pinned."""
    return PreconditionFailed(f"The object changed since it was read: {source!r}.")
