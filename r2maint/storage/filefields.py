"""The configured bucket as a Django storage, for file fields."""

from __future__ import annotations

import io
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from django.core.files import File
from django.core.files.storage import Storage
from django.utils import timezone
from django.utils.deconstruct import deconstructible

from r2maint import conf
from r2maint.bucket import Headers, ObjectInfo, Upload, head, put
from r2maint.conf import Config, setting_values
from r2maint.errors import ConfigError, NoSuchKey, PreconditionFailed
from r2maint.keys import Addresses, Kind, Target, host_of, join, redact
from r2maint.keys.text import URL
from r2maint.storage.places import shared_bucket

if TYPE_CHECKING:
    from typing import Self

logger = logging.getLogger("r2maint.storage")

_CONNECTION = {
    *("access_key", "secret_key", "bucket_name", "endpoint_url", "region_name", "custom_domain"),
}
"""Options in django-storages' names that `conf` reads from STORAGES["default"]."""
IN_MEMORY_BYTES = 4 * 2**20
_SAVES = 5
"""Names tried before a save gives up."""
_OWN = ".r2maint"


@deconstructible(path="r2maint.storage.R2Storage")
class R2Storage(Storage):
    """Files of FileFields in the bucket that R2MAINT configures.

    `location` stands before every name; names and keys are kept exactly as they are. Nothing is
    overwritten, and `delete` deletes nothing: `purge_orphans` does, once nothing names the object.
    Other options are those of the connection, in django-storages' names; they must agree with
    R2MAINT, which is read at each use. Errors of the bucket are raised as BucketError, and never
    taken for an absent file.
    """

    def __init__(self, location: str = "", **connection: Any) -> None:
        for name in connection:
            if name not in _CONNECTION:
                raise setting_values.unknown(
                    "R2Storage", name, {"location", *_CONNECTION}, "option"
                )
        self.location = location.strip("/")
        self._named = (connection.get("bucket_name"), connection.get("endpoint_url"))

    @property
    def bucket_name(self) -> str:
        """The configured bucket, "" when there is none."""
        return self._config().bucket

    @property
    def endpoint_url(self) -> str | None:
        """The S3 endpoint; None for a bucket in a directory."""
        connection = self._config().connection
        return connection.endpoint_url if connection else None

    def _config(self) -> Config:
        config = conf.load()
        bucket, endpoint = self._named
        connection = config.connection
        is_other = bucket and bucket != config.bucket
        if endpoint and connection:
            is_other = is_other or host_of(endpoint) != host_of(connection.endpoint_url)
        if is_other:
            raise ConfigError(
                f"R2Storage is given another bucket than R2MAINT: {bucket!r}.",
                "It works on the configured bucket alone; leave bucket_name and endpoint_url out.",
            )
        return config

    # Reading

    def exists(self, name: str) -> bool:
        """Tell whether there is such an object. Raises: BucketError for any doubt."""
        key = self._find_key(name)
        return bool(key) and head(shared_bucket(self._config()), key) is not None

    def size(self, name: str) -> int:
        """Return the size in bytes. Raises: FileNotFoundError, BucketError."""
        return self._info(name).size

    def get_modified_time(self, name: str) -> datetime:
        """Return when the object was stored: aware with USE_TZ, else in the default time zone.

        Raises: FileNotFoundError, BucketError.
        """
        at = self._info(name).modified_at
        # Django's clock tells USE_TZ.
        if timezone.is_aware(timezone.now()):
            return at
        return timezone.make_naive(at, timezone.get_default_timezone())

    def url(self, name: str | None) -> str:
        """Return the public URL; a name that is a whole URL already comes back unchanged."""
        if name and _is_url(name):
            return name
        return Addresses.from_config(self._config()).url_for(join(self.location, name or ""))

    def listdir(self, path: str) -> tuple[list[str], list[str]]:
        """Return the directories and the files right below a path, sorted.

        One Class A request per 1,000 objects below it, at any depth. Raises: BucketError.
        """
        inside = "/".join(filter(None, (self.location, path.strip("/"))))
        prefix = f"{inside}/" if inside else ""
        directories, files = set(), []
        for rest in self._below(prefix):
            first, slash, _ = rest.partition("/")
            if not slash:
                files.append(rest)
            elif first and (prefix or first != _OWN):
                directories.add(first)
        return sorted(directories), sorted(filter(None, files))

    def _below(self, prefix: str) -> Iterator[str]:
        for page in shared_bucket(self._config()).list_pages(prefix):
            for item in page:
                yield item.key[len(prefix) :]

    def _open(self, name: str, mode: str = "rb") -> File[Any]:
        """Return the object as a file: in memory when it is small, else on disk until closed."""
        if set(mode) - set("rbt"):
            raise io.UnsupportedOperation(
                f"R2Storage opens files for reading only, not {mode!r}: {redact(name)!r}."
                " Save other bytes under a name of their own."
            )
        return _ReopenedFile(partial(self._fetched, name), name, mode)

    def _fetched(self, name: str, mode: str) -> IO[Any]:
        with tempfile.TemporaryDirectory(prefix="r2maint-") as directory:
            path = Path(directory) / "object"
            try:
                shared_bucket(self._config()).download(self._key(name), path)
            except NoSuchKey as error:
                raise _absent(name) from error
            file = _kept(path)
        return file if "b" in mode else io.TextIOWrapper(file, encoding="utf-8")

    def _info(self, name: str) -> ObjectInfo:
        info = head(shared_bucket(self._config()), self._key(name))
        if info is None:
            raise _absent(name)
        return info

    def _key(self, name: str) -> str:
        key = self._find_key(name)
        if not key:
            raise _absent(name)
        return key

    def _find_key(self, name: str) -> str:
        """Return the key a name means, "" for a URL of another place."""
        if not _is_url(name):
            return join(self.location, name)
        target: Target | None = Addresses.from_config(self._config()).locate(name)
        return target.key if target and target.kind is Kind.BUCKET else ""

    # Writing

    def save(self, name: str | None, content: Any, max_length: int | None = None) -> str:
        """Store a file under a name that nobody has, and return the name. Raises: BucketError."""
        for _ in range(_SAVES - 1):
            try:
                return super().save(name, content, max_length)
            except PreconditionFailed:
                # Somebody took the name since it was found free; the next round finds another.
                continue
        return super().save(name, content, max_length)

    def _save(self, name: str, content: Any) -> str:
        """Store the content under this very name. Raises: PreconditionFailed where it is taken."""
        # Pillow comes with it, which importing this module must not load.
        from r2maint.storage.content import AS_IT_IS, read_content

        config = self._config()
        with read_content(content, AS_IT_IS) as checked:
            upload = Upload(
                key=join(self.location, name),
                body=checked.body,
                headers=Headers(
                    content_type=checked.content_type,
                    cache_control=config.cache_control,
                    metadata={"sha256": checked.sha256},
                ),
                sha256=checked.sha256,
            )
            put(shared_bucket(config), upload)
        return name

    def delete(self, name: str) -> None:
        """Give up a name. Nothing is deleted: another row may name the same object.

        `purge_orphans` removes it once nothing does. Until then the name stays taken.
        """
        if not name:
            raise ValueError("The name must be given to delete().")
        logger.info("Given up, for purge_orphans to remove: %r.", redact(name))


class _ReopenedFile(File):  # type: ignore[type-arg]  # Django's is generic in stubs only
    """A file of the bucket; opened after it was closed, as image fields do, it is fetched again."""

    def __init__(self, fetch: Callable[[str], IO[Any]], name: str, mode: str) -> None:
        super().__init__(fetch(mode), name)
        self._fetch = fetch
        self.mode = mode

    def open(self, mode: str | None = None, *args: Any, **kwargs: Any) -> Self:
        if self.closed:
            self.file = self._fetch(mode or self.mode)
        else:
            self.seek(0)
        return self


def _kept(path: Path) -> IO[bytes]:
    """Return a file with the bytes of one that is about to be removed."""
    with path.open("rb") as source:
        if path.stat().st_size <= IN_MEMORY_BYTES:
            return io.BytesIO(source.read())
        kept = tempfile.TemporaryFile()  # noqa: SIM115 (closed by whoever reads it)
        shutil.copyfileobj(source, kept)
    kept.seek(0)
    return kept


def _is_url(name: str) -> bool:
    return URL.match(name.lstrip()) is not None


def _absent(name: str) -> FileNotFoundError:
    return FileNotFoundError(f"The object does not exist: {redact(name)!r}.")
