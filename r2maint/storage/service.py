"""Uploads from application code: one call, one new object, one URL for the row.

Nothing is overwritten and nothing is deleted: every upload gets a key of its own, and what a row no
longer names is left to `purge_orphans`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from r2maint import conf
from r2maint.conf import Config
from r2maint.errors import R2MaintError, StorageError
from r2maint.keys import Addresses, Kind, redact
from r2maint.signals import upload_failed
from r2maint.storage.naming import checked_prefix, stem_of, stem_of_file, stem_of_url, unique_key
from r2maint.storage.places import Progress, UploadPlace, choose_place

if TYPE_CHECKING:
    from r2maint.images import Recipe
    from r2maint.storage.content import Content

logger = logging.getLogger("r2maint.storage")

DEFAULT_PREFIX = "images"
"""Where `optimize_and_upload` puts what it is given no prefix for."""
FETCH_SECONDS = 60.0
"""How long each hop of a fetch may take; less suits a web request."""
MAX_LENGTH = 200
"""Characters of the URL returned: what a URLField holds unless told otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    """Where one upload goes."""

    place: UploadPlace
    prefix: str
    max_length: int | None
    progress: Progress | None

    def store(self, content: Content, stem: str) -> str:
        """Store the content under a key of its own; return what a row stores for it."""
        key = unique_key(self.prefix, stem, sha256=content.sha256, ext=content.ext, fits=self._fits)
        return self.place.store(key, content, self.progress or _say_nothing)

    def _fits(self, key: str) -> bool:
        return self.max_length is None or len(self.place.url_for(key)) <= self.max_length


def _say_nothing(done: int, total: int | None) -> None:
    """Stand in for the progress nobody asked for."""


def get_storage_service() -> R2StorageService:
    """Return the service for the settings as they are now; cheap enough to call every time.

    Raises: ConfigError for an unknown or malformed setting, as `manage.py check` does.
    """
    return R2StorageService()


def optimize_and_upload(
    url: str, max_size: tuple[int, int] | None = (2000, 2000), **options: Any
) -> str:
    """Call the method of the same name on a new service."""
    return get_storage_service().optimize_and_upload(url, max_size, **options)


class R2StorageService:
    """Stores files for application code, and returns the URLs that rows hold.

    May be shared by threads. Uploads go to the configured bucket, R2 or a `file:` one; when no
    bucket is configured at all, to Django's default storage. Every failure is a StorageError, told
    to the logger `r2maint.storage` and the signal `upload_failed` before it is raised.
    """

    def __init__(self, config: Config | None = None) -> None:
        self._config = conf.load() if config is None else config

    @property
    def endpoint(self) -> str:
        """The URL of the S3 endpoint, "" without one."""
        connection = self._config.connection
        return connection.endpoint_url if connection else ""

    @property
    def bucket(self) -> str:
        """The bucket's name, "file:" and a directory, or "" when none is configured."""
        return self._config.bucket

    def is_configured(self) -> bool:
        """Tell whether uploads go to a bucket: its connection and its public URL are known."""
        config = self._config
        is_reachable = config.connection is not None or config.bucket.startswith("file:")
        return is_reachable and bool(config.public_url)

    def upload_from_url(
        self,
        url: str,
        prefix: str,
        *,
        fallback: bool = False,
        max_bytes: int | None = None,
        seconds: float = FETCH_SECONDS,
        images_only: bool = True,
        max_length: int | None = MAX_LENGTH,
        progress: Progress | None = None,
    ) -> str:
        """Fetch a URL that anybody may have written, store what it answers, return its new URL.

        Only public http(s) addresses are asked, for `seconds` at each hop and attempt. At most
        `max_bytes` (10 MiB) are taken; the type is that of the magic bytes, and every frame of a
        picture is decoded. `fallback` returns `url` itself in place of raising. Raises:
        StorageError.
        """

        def upload(target: _Target) -> str:
            content = self._fetch(url, seconds, progress, images_only, max_bytes)
            return target.store(content, stem_of_url(url))

        return self._attempt(upload, prefix, max_length, progress, url, fallback)

    def upload_file(
        self,
        file: Any,
        prefix: str,
        *,
        name: str = "",
        max_bytes: int | None = None,
        images_only: bool = True,
        max_length: int | None = MAX_LENGTH,
        progress: Progress | None = None,
    ) -> str:
        """Store a file and return its URL.

        `file` is a path, bytes, a binary file object or a Django File, read from its beginning and
        streamed when it is large. `name` gives the key its stem where the file has no name. Images
        have at most 10 MiB, other files any size, unless `max_bytes` says so. Raises: StorageError.
        """

        def upload(target: _Target) -> str:
            # Pillow comes with it, which importing this module must not load.
            from r2maint.storage.content import Accepted, read_content

            accepted = Accepted(images_only=images_only, max_bytes=max_bytes)
            with read_content(file, accepted) as content:
                return target.store(content, stem_of(name) or stem_of_file(file))

        return self._attempt(upload, prefix, max_length, progress)

    def optimize_and_upload(
        self,
        url: str,
        max_size: tuple[int, int] | None = (2000, 2000),
        *,
        prefix: str = "",
        fallback: bool = False,
        max_bytes: int | None = None,
        seconds: float = FETCH_SECONDS,
        max_length: int | None = MAX_LENGTH,
        progress: Progress | None = None,
    ) -> str:
        """Fetch a picture, re-encode it as `reoptimize` does, store it, return its URL.

        A picture larger than `max_size` is fitted into it. One that would not get smaller, an
        animation, or any other that `reoptimize` skips, is stored as it is. `reoptimize` knows both
        by their metadata. Without a prefix they lie below "images/". Other arguments and errors are
        those of `upload_from_url`.
        """

        def upload(target: _Target) -> str:
            recipe = _recipe(max_size)
            content = self._fetch(url, seconds, progress, True, max_bytes)
            return target.store(_optimized(content, recipe), stem_of_url(url))

        where = prefix or DEFAULT_PREFIX
        return self._attempt(upload, where, max_length, progress, url, fallback)

    def delete(self, url_or_key: str) -> None:
        """Give up a reference. Nothing is deleted: others may name the same object.

        `purge_orphans` removes the object once no text in any database names it, after the grace
        period, into quarantine. Raises: StorageError "unknown_host" for a URL of another place.
        """
        if not self._is_ours(url_or_key):
            raise StorageError(
                f"Nothing of this bucket is named: {redact(url_or_key)!r}.",
                "Pass a URL below PUBLIC_URL or ALIASES, or a key.",
                "unknown_host",
            )
        logger.info("Given up, for purge_orphans to remove: %r.", redact(url_or_key))

    def _is_ours(self, url_or_key: str) -> bool:
        target = self._addresses.locate(url_or_key)
        if target is None:
            return "://" not in url_or_key and bool(url_or_key.strip("/"))
        # Without a bucket, uploads go to Django's default storage.
        is_local = target.kind is Kind.LOCAL and not self._config.bucket
        return target.kind is Kind.BUCKET or is_local

    @cached_property
    def _addresses(self) -> Addresses:
        return Addresses.from_config(self._config)

    def _fetch(
        self,
        url: str,
        seconds: float,
        progress: Progress | None,
        images_only: bool,
        max_bytes: int | None,
    ) -> Content:
        # Pillow and libcurl come with them.
        from r2maint.http import FetchLimits, Guard, fetch
        from r2maint.storage.content import Accepted, check_bytes

        if progress:
            progress(0, None)
        limits = FetchLimits(seconds=seconds)
        if max_bytes is not None:
            limits = replace(limits, max_bytes=max_bytes)
        answer = fetch(url, guard=Guard.from_config(self._config), limits=limits)
        return check_bytes(answer.body, Accepted(images_only=images_only, max_bytes=max_bytes))

    def _attempt(
        self,
        upload: Callable[[_Target], str],
        prefix: str,
        max_length: int | None,
        progress: Progress | None,
        url: str = "",
        fallback: bool = False,
    ) -> str:
        """Return what `upload` returns; tell of a failure, then raise it or fall back to `url`."""
        try:
            with _as_storage_errors():
                target = _Target(
                    place=choose_place(self._config, self._addresses),
                    prefix=checked_prefix(prefix),
                    max_length=max_length,
                    progress=progress,
                )
                return upload(target)
        except StorageError as error:
            self._tell(error, prefix, redact(url))
            if fallback:
                return url
            raise

    def _tell(self, error: StorageError, prefix: str, url: str) -> None:
        details = {"reason": error.reason, "prefix": prefix, "url": url}
        logger.error("Upload failed (%s): %r", error.reason, str(error), extra=details)
        upload_failed.send_robust(type(self), url=url, prefix=prefix, error=error)


@contextmanager
def _as_storage_errors() -> Iterator[None]:
    """Raise every expected failure as a StorageError with its own words."""
    try:
        yield
    except StorageError:
        raise
    except R2MaintError as error:
        reason = str(getattr(error, "reason", error.code))
        raise StorageError(error.message, error.hint, reason) from error


def _recipe(max_size: tuple[int, int] | None) -> Recipe:
    from r2maint.images import Recipe

    if max_size is not None and (len(max_size) != 2 or min(max_size) < 1):
        raise StorageError(
            f"No picture fits into {max_size!r}.", "Pass (width, height) in pixels.", "bad_size"
        )
    return Recipe(max_size=max_size)


def _optimized(content: Content, recipe: Recipe) -> Content:
    """Return the picture as `reoptimize` leaves it, marked so that it is not tried again."""
    from r2maint.images import RECIPE_KEY, SOURCE_KEY, Encoded, reencode
    from r2maint.storage.content import content_of

    assert isinstance(content.body, bytes)
    result = reencode(content.body, recipe)
    tried = {RECIPE_KEY: recipe.fingerprint}
    if not isinstance(result, Encoded):
        return replace(content, metadata=tried)
    return content_of(result.body, result.type, {**tried, SOURCE_KEY: content.sha256})
