"""The SDK's errors, told once: which thing, and what to do next. No message holds a secret."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from botocore import exceptions as sdk
from botocore.parsers import ResponseParserError

from r2maint.errors import (
    AccessDenied,
    BucketError,
    BucketUnreachable,
    NoSuchBucket,
    NoSuchKey,
    ObjectLocked,
    ObjectRejected,
    PreconditionFailed,
    Unsupported,
)
from r2maint.http.request import Failure, Reason

WRITES = frozenset(
    {"PutObject", "CopyObject", "DeleteObject", "DeleteObjects", "CreateMultipartUpload"}
    | {"UploadPart", "CompleteMultipartUpload", "AbortMultipartUpload"}
)
_DELETES = frozenset({"DeleteObject", "DeleteObjects"})
DENIED = frozenset(
    {"401", "403", "AccessDenied", "Unauthorized", "Forbidden", "InvalidAccessKeyId"}
    | {"SignatureDoesNotMatch", "ExpiredRequest", "ExpiredToken", "InvalidToken", "NotEntitled"}
    | {"RequestTimeTooSkewed", "AuthorizationHeaderMalformed", "InvalidRegionName"}
    | {"PermanentRedirect", "301"}
)
_WRONG_KEYS = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch"})
"""Answers no token's permissions explain."""
REJECTED = frozenset(
    {"InvalidObjectName", "KeyTooLongError", "EntityTooLarge", "EntityTooSmall", "InvalidArgument"}
    | {"MetadataTooLarge", "BadDigest", "InvalidDigest", "MissingContentLength", "InvalidRequest"}
    | {"InvalidPart", "InvalidPartOrder", "InvalidStorageClass", "NotImplemented"}
)
_UNKNOWN = frozenset({"NotImplemented", "MethodNotAllowed", "501", "405"})
ABSENT = frozenset({"NoSuchKey", "404", "NotFound"})
_NO_S3_SERVER = "Check ENDPOINT_URL: something other than an S3 server may answer there."
TAKEN = frozenset({"PreconditionFailed", "412", "ConditionalRequestConflict"})


@dataclass(frozen=True, slots=True)
class RequestTarget:
    """Where requests go, as sentences name it."""

    bucket: str
    host: str

    def __str__(self) -> str:
        return f"{self.bucket!r} at {self.host}"


@contextmanager
def translated(place: RequestTarget, key: str = "") -> Iterator[None]:
    """Raise botocore's errors as ours; `key` is the object asked about, "" for the bucket."""
    try:
        yield
    except sdk.ClientError as error:
        raise from_answer(error, place, key) from error
    except sdk.SSLError as error:
        raise untrusted(place) from error
    except (sdk.HTTPClientError, sdk.ConnectionError, sdk.IncompleteReadError) as error:
        raise unreachable(place, type(error).__name__) from error
    except sdk.ParamValidationError as error:
        raise ObjectRejected(f"The object cannot be sent: {key!r} ({error}).") from error
    except (sdk.BotoCoreError, ResponseParserError) as error:
        raise BucketError(
            f"The answer cannot be read: {type(error).__name__} from {place.host}.", _NO_S3_SERVER
        ) from error


def no_answer(failure: Failure, place: RequestTarget, key: str = "") -> BucketError:
    """Return the error of a request that the bulk engine got no answer to."""
    if failure.reason is Reason.TLS:
        return untrusted(place)
    if failure.reason is Reason.UNREADABLE:
        return ObjectRejected(f"The local file cannot be read: {key!r} ({failure.detail}).")
    return unreachable(place, failure.detail)


def untrusted(place: RequestTarget) -> BucketUnreachable:
    """Return the error of a certificate that nobody vouches for."""
    return BucketUnreachable(
        f"The certificate of the endpoint is not trusted: {place.host}.",
        "Check ENDPOINT_URL and this machine's clock; AWS_CA_BUNDLE names a private authority.",
    )


def unreachable(place: RequestTarget, why: str) -> BucketUnreachable:
    """Return the error of an endpoint that does not answer."""
    return BucketUnreachable(
        f"The endpoint does not answer: {place.host} ({why}).",
        "Check ENDPOINT_URL, the account id in it, and this machine's network.",
    )


def from_answer(error: sdk.ClientError, place: RequestTarget, key: str) -> BucketError:
    """Return the error that a refusing answer means."""
    answer: Mapping[str, Any] = error.response
    code = str(answer.get("Error", {}).get("Code", ""))
    status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    message = str(answer.get("Error", {}).get("Message", ""))
    return explain(place, key, error.operation_name, code=code, status=status, message=message)


def explain(
    place: RequestTarget, key: str, operation: str, *, code: str, status: int = 0, message: str = ""
) -> BucketError:
    """Return the error for one error code of R2 or S3.

    Source: https://developers.cloudflare.com/r2/api/error-codes/
    """
    if code == "NoSuchBucket":
        return NoSuchBucket(
            f"The bucket does not exist: {place}.",
            "Check BUCKET, and the jurisdiction: a bucket answers only at its own endpoint.",
        )
    if code == "ObjectLockedByBucketPolicy":
        return ObjectLocked(
            f"A bucket lock protects the object: {key!r}.",
            "It can be changed when the lock rule ends or is removed in Cloudflare's dashboard.",
        )
    if code in DENIED or _is_about_credentials(code, message):
        return AccessDenied(
            f"{operation} was refused: {place} ({code}).", _access_hint(code, operation)
        )
    return _about_object(key, code) or _other(place, key, operation, code, status, message)


def _about_object(key: str, code: str) -> BucketError | None:
    if code in ABSENT and key:
        return NoSuchKey(f"The object does not exist: {key!r}.")
    if code in TAKEN:
        return PreconditionFailed(f"The condition does not hold: {key!r} is taken or was changed.")
    return None


def _other(
    place: RequestTarget, key: str, operation: str, code: str, status: int, message: str
) -> BucketError:
    # Such sentences of the server name sizes, headers and parts, and never a key or a signature.
    reason = f"{code}: {message[:200]}" if message else code
    what = f"{key!r}" if key else str(place)
    if code in _UNKNOWN and not key:
        return Unsupported(
            f"The server does not know this request: {operation} of {place} ({code}).",
            "Cloudflare R2 does; servers that take its place often do not.",
        )
    if code in REJECTED:
        return ObjectRejected(f"{operation} was refused: {what} ({reason}).")
    if status in (502, 503, 504) or (not key and (status >= 500 or status == 429)):
        return BucketUnreachable(
            f"The bucket is overloaded or out of order: {place} ({reason}).",
            "Run the command again later, or with fewer --workers or a --rate.",
        )
    hint = "" if key else _NO_S3_SERVER
    return BucketError(f"{operation} failed: {what} ({reason}).", hint)


def _is_about_credentials(code: str, message: str) -> bool:
    # R2 answers 400 InvalidArgument to an access key of the wrong length and to no signature.
    return code == "InvalidArgument" and (
        "access key" in message.lower() or message == "Authorization"
    )


def _access_hint(code: str, operation: str) -> str:
    if code == "RequestTimeTooSkewed":
        return "The clock of this machine is wrong."
    if code in ("PermanentRedirect", "301"):
        return "Check ENDPOINT_URL: that address sends its visitors elsewhere."
    if code in ("AuthorizationHeaderMalformed", "InvalidRegionName"):
        return 'R2 knows the region "auto" only: set REGION to it, and check ENDPOINT_URL.'
    if code in ("Unauthorized", "401") and operation in WRITES:
        return (
            "If reading works with the same keys, the token is read-only, or something overrides "
            "botocore's request_checksum_calculation='when_required', which R2 needs."
        )
    if operation in _DELETES and code not in _WRONG_KEYS:
        return (
            "If writing works with the same keys, their permission leaves out deleting: give the"
            " token Object Read & Write on this bucket."
        )
    if operation in WRITES and code not in _WRONG_KEYS:
        return "If reading works, give the token Object Read & Write on this bucket."
    return "Check ACCESS_KEY_ID and SECRET_ACCESS_KEY, and that the token covers this bucket."
