"""Where uploads go: the configured bucket, or Django's default storage when there is none."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from queue import SimpleQueue
from typing import TYPE_CHECKING, Protocol

from django.core.files import File
from django.core.files.storage import default_storage

from r2maint.bucket import IMMUTABLE, Bucket, Headers, Upload, open_bucket, put
from r2maint.conf import Config, Connection, require_connection
from r2maint.errors import R2MaintError, StorageError
from r2maint.keys import Addresses

if TYPE_CHECKING:
    from r2maint.storage.content import Content

Progress = Callable[[int, int | None], None]
"""Called with the bytes done and their total, which is None while it is unknown."""


class UploadPlace(Protocol):
    """Somewhere a key can be stored under."""

    def url_for(self, key: str) -> str:
        """Return what a row stores for the key."""

    def store(self, key: str, content: Content, progress: Progress) -> str:
        """Store the content under a key that nobody has; return what a row stores for it."""


def choose_place(config: Config, addresses: Addresses) -> UploadPlace:
    """Return where uploads go; a bucket that is half configured is nowhere.

    Raises: StorageError "not_configured" or "no_public_url".
    """
    if not (config.bucket or config.connection or config.connection_gap):
        return DefaultStorage()
    if not config.bucket.startswith("file:"):
        _require_whole(config)
    if not config.public_url:
        raise StorageError(
            "No public URL is configured.",
            "Set R2MAINT['PUBLIC_URL']: uploads return URLs below it.",
            "no_public_url",
        )
    return ConfiguredBucket(bucket=shared_bucket(config), addresses=addresses)


def _require_whole(config: Config) -> None:
    if config.connection is None:
        raise StorageError(
            config.connection_gap or "The bucket has no connection.",
            "Set the bucket, its account and both keys in one place, or none of them.",
            "not_configured",
        )


def shared_bucket(config: Config) -> Bucket:
    """Return the configured bucket; one client serves all threads of this process.

    Raises: ConfigError and NoSuchBucket, as `open_bucket` does.
    """
    if config.bucket.startswith("file:"):
        return open_bucket(config)
    # A forked worker must not speak over the sockets of its parent.
    return _remote_bucket(config.bucket, require_connection(config), os.getpid())


@lru_cache(maxsize=8)
def _remote_bucket(name: str, connection: Connection, pid: int) -> Bucket:
    return open_bucket(Config(bucket=name, connection=connection))


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfiguredBucket:
    """The bucket of the settings, R2 or a directory, and its public URL."""

    bucket: Bucket
    addresses: Addresses

    def url_for(self, key: str) -> str:
        return self.addresses.url_for(key)

    def store(self, key: str, content: Content, progress: Progress) -> str:
        """Store the content; the server checks the bytes. Raises: BucketError."""
        sent = SimpleQueue[int | None]()
        upload = Upload(
            key=key,
            body=content.body,
            headers=Headers(
                content_type=content.content_type,
                cache_control=IMMUTABLE,
                metadata={"sha256": content.sha256, **content.metadata},
            ),
            sha256=content.sha256,
            progress=sent.put,
        )
        progress(0, content.size)
        # The caller's own thread tells its progress: it may hold a database connection.
        with ThreadPoolExecutor(1, thread_name_prefix="r2maint-upload") as pool:
            stored = pool.submit(put, self.bucket, upload)
            stored.add_done_callback(lambda _: sent.put(None))
            while (done := sent.get()) is not None:
                progress(done, content.size)
        stored.result()
        progress(content.size, content.size)
        return self.url_for(key)


class DefaultStorage:
    """Django's default storage, as the project has set it up."""

    def url_for(self, key: str) -> str:
        with _told():
            return str(default_storage.url(key))

    def store(self, key: str, content: Content, progress: Progress) -> str:
        """Store the content, under another name if that storage wants one. Raises: StorageError."""
        progress(0, content.size)
        with _told(), content.opened() as file:
            name = default_storage.save(key, File(file, name=key))
            url = str(default_storage.url(name))
        progress(content.size, content.size)
        return url


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except R2MaintError:
        raise
    except Exception as error:
        # Storages raise whatever their libraries do, and may quote secrets in it.
        raise StorageError(
            f"Django's default storage failed: {type(error).__name__}.",
            "Look at STORAGES, MEDIA_URL and MEDIA_ROOT.",
            "default_storage",
        ) from error
