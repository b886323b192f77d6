"""Which bucket or directory a Django storage writes to."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from django.core.files.storage import FileSystemStorage

from r2maint.conf import Config
from r2maint.errors import ConfigError
from r2maint.keys import Addresses, host_of

_ANY_NAME = "name"


class StoragePlace(StrEnum):
    """Where the files of a storage are."""

    BUCKET = "bucket"
    """In the configured bucket."""
    LOCAL = "local"
    """In a directory of this machine."""
    OTHER = "other"
    """In another bucket, or anywhere else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageLocation:
    """Where a storage keeps the file of a name."""

    place: StoragePlace
    prefix: str = ""
    """BUCKET: what stands before the name in its key; "" or ends in "/"."""
    root: Path | None = None
    """LOCAL: the directory."""
    base_url: str = ""
    """LOCAL: where it is served; "" if it is not."""


def storage_location(storage: Any, config: Config) -> StorageLocation:
    """Return where `field.storage` keeps its files, without asking the network.

    django-storages' S3Storage and its like are known by `bucket_name`, `endpoint_url` and
    `location`. Raises: ConfigError when the storage cannot be made.
    """
    try:
        return _local(storage) or _remote(storage, config)
    except Exception as error:
        # Settings of the storage, secrets among them, may be quoted by the original message.
        raise ConfigError(
            f"A storage cannot be used: {type(error).__name__}.", "Look at STORAGES."
        ) from None


def _local(storage: Any) -> StorageLocation | None:
    if not isinstance(storage, FileSystemStorage):
        return None
    base_url = storage.base_url or ""
    return StorageLocation(
        place=StoragePlace.LOCAL, root=Path(storage.location), base_url=str(base_url)
    )


def _remote(storage: Any, config: Config) -> StorageLocation:
    bucket = getattr(storage, "bucket_name", None)
    if not config.bucket or bucket != config.bucket or not _same_endpoint(storage, config):
        return StorageLocation(place=StoragePlace.OTHER)
    location = str(getattr(storage, "location", "") or "").strip("/")
    return StorageLocation(place=StoragePlace.BUCKET, prefix=f"{location}/" if location else "")


def _same_endpoint(storage: Any, config: Config) -> bool:
    """Tell whether the storage asks the same server; one that names none is believed.

    An S3Storage whose endpoint is None speaks to AWS.
    """
    if config.connection is None or not hasattr(storage, "endpoint_url"):
        return True
    return host_of(storage.endpoint_url or "") == host_of(config.connection.endpoint_url)


def is_served(root: Path, base_url: str, addresses: Addresses) -> bool:
    """Tell whether the address a storage gives its files leads to the directory they are in.

    Then they are public already. A storage that was given a directory of its own and no address
    still says MEDIA_URL, where nobody finds its files.
    """
    found = addresses.locate(f"{base_url.rstrip('/')}/{_ANY_NAME}") if base_url else None
    if found is None or found.root is None:
        return False
    return (found.root / found.key).parent.resolve() == root.resolve()
