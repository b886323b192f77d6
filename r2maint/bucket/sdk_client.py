"""The S3 client: botocore set up for R2."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import botocore.session
from botocore.config import Config as ClientConfig

from r2maint.bucket.list_parser import PageBodiesFactory, set_page_aside
from r2maint.errors import ConfigError
from r2maint.http.retry import Limiter

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from r2maint.conf.bucket_connection import Connection

ATTEMPTS = 6
CONNECT_SECONDS = 10
READ_SECONDS = 60

RETRIED = frozenset(
    {"ClientDisconnect", "IncompleteBody", "InternalError", "ServiceUnavailable", "SlowDown"}
    | {"TooManyRequests"}
)
"""What passes when asked again; botocore's own list knows some of these.
Source: https://developers.cloudflare.com/r2/api/error-codes/"""

_CREATING = threading.Lock()
"""Clients may be shared between threads; the session that makes them may not."""


def make_client(connection: Connection, *, workers: int, limiter: Limiter) -> S3Client:
    """Return a client for threads; retries count against the limit like first attempts.

    Raises: ConfigError for an endpoint that is no URL.
    """
    try:
        client = _create(connection, workers)
    except ValueError as error:
        raise ConfigError(
            f"The endpoint is not a URL: {connection.endpoint_url!r}.",
            "Set ENDPOINT_URL to https://<account>.r2.cloudflarestorage.com.",
        ) from error
    client.meta.events.register_last("before-parameter-build.s3", _stay_here)
    # botocore runs handlers of a wildcard first: this one must come before "before-parse.s3.*".
    for operation in ("ListObjectsV2", "DeleteObjects"):
        client.meta.events.register(f"before-parse.*.{operation}", set_page_aside)
    # The stubs know no handler that answers; botocore takes the first answer as a delay.
    client.meta.events.register_last("needs-retry.s3", cast("Any", retry_delay))
    client.meta.events.register("before-send.s3", limiter.wait)
    client.meta.events.register("before-send.s3.GetObject", _ask_for_stored_bytes)
    return client


def _create(connection: Connection, workers: int) -> S3Client:
    with _CREATING:
        client = _session().create_client(
            "s3",
            endpoint_url=connection.endpoint_url,
            region_name=connection.region or "auto",
            aws_access_key_id=connection.access_key_id,
            aws_secret_access_key=connection.secret_access_key,
            config=_config(workers),
        )
    return cast("S3Client", client)


@cache
def _session() -> botocore.session.Session:
    """Return the session of this process: it keeps the service's model, slow to read."""
    # A profile of the AWS tools has no say here: an unknown AWS_PROFILE would stop the client.
    session = botocore.session.Session(session_vars={"profile": (None, None, None, None)})
    session.register_component("response_parser_factory", PageBodiesFactory())
    return session


def ca_bundle() -> str:
    """Return the file of certificates that AWS_CA_BUNDLE or the AWS configuration names, or ""."""
    with _CREATING:
        return str(_session().get_config_variable("ca_bundle") or "")


def _config(workers: int) -> ClientConfig:
    # Checksum trailers, botocore's default, fail on R2: Unauthorized from PutObject.
    return ClientConfig(
        signature_version="s3v4",
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path"},
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        max_pool_connections=max(workers, 1) + 2,
    )


_ENCODING = ContextVar("_ENCODING", default="identity")


@contextmanager
def taking_gzip() -> Iterator[None]:
    """Let the GetObject requests of this thread say that gzip is welcome."""
    token = _ENCODING.set("gzip")
    try:
        yield
    finally:
        _ENCODING.reset(token)


def _ask_for_stored_bytes(*, request: Any, **event: object) -> None:
    # After the request is signed: servers and proxies on the way change this header.
    request.headers["Accept-Encoding"] = _ENCODING.get()


def _stay_here(*, context: dict[str, Any], **event: object) -> None:
    # botocore takes a redirect for AWS's "wrong region" and asks for the region, without end when
    # that is redirected as well, as a web server's move to https is.
    context.setdefault("s3_redirect", {})["redirected"] = True


def retry_delay(*, response: Any, attempts: int, **event: object) -> float | None:
    """Return the seconds to wait before the next attempt, or None for no other attempt."""
    if response is None or attempts >= ATTEMPTS:
        return None
    code = response[1].get("Error", {}).get("Code")
    return random.random() * min(2.0**attempts, 20.0) if code in RETRIED else None
