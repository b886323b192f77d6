"""What follows from settings that are not R2MAINT's own. Pure: `conf` reads them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from r2maint.conf import setting_values
from r2maint.conf.bucket_connection import ConnectionSource, read_sources
from r2maint.keys.domains import is_s3_endpoint
from r2maint.keys.text import host_of

_FILE = "file:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the settings module and the environment say, as they say it."""

    own: Any = field(repr=False)
    environ: Mapping[str, str] = field(repr=False)
    django: Mapping[str, Any] = field(repr=False)
    base_dir: Path

    @property
    def default_storage(self) -> Mapping[str, Any]:
        storages = self.django.get("STORAGES")
        default = storages.get("default") if isinstance(storages, Mapping) else None
        return default if isinstance(default, Mapping) else {}

    @property
    def storage_options(self) -> Mapping[str, Any]:
        given = self.default_storage.get("OPTIONS")
        return given if isinstance(given, Mapping) else {}


def connection_sources(surroundings: Surroundings) -> tuple[ConnectionSource, ...]:
    """Return what each of the four sources says of the connection."""
    return read_sources(
        surroundings.own,
        surroundings.environ,
        surroundings.storage_options,
        surroundings.django,
    )


def custom_domains(surroundings: Surroundings) -> Iterator[tuple[str, str, str]]:
    """Yield (setting, domain, bucket it belongs to) of the django-storages settings."""
    given, django = surroundings.storage_options, surroundings.django
    found = (
        (
            "STORAGES['default']['OPTIONS']['custom_domain']",
            given.get("custom_domain"),
            given.get("bucket_name"),
        ),
        (
            "AWS_S3_CUSTOM_DOMAIN",
            django.get("AWS_S3_CUSTOM_DOMAIN"),
            django.get("AWS_STORAGE_BUCKET_NAME"),
        ),
    )
    for name, domain, bucket in found:
        if isinstance(domain, str) and domain.strip(" /"):
            bare = domain.strip(" /").rpartition("://")[2]
            yield name, bare, bucket if isinstance(bucket, str) else ""


def public_url(surroundings: Surroundings, bucket: str) -> str:
    """Return the public address that settings other than R2MAINT name for this very bucket."""
    url = surroundings.environ.get("R2_PUBLIC_URL", "")
    if url and not is_s3_endpoint(host_of(url)):
        return setting_values.parse_base_url("R2_PUBLIC_URL", url)
    for name, domain, owner in custom_domains(surroundings):
        same = not owner or owner == bucket
        if same and not is_s3_endpoint(domain.partition("/")[0]):
            return setting_values.parse_base_url(name, f"https://{domain}")
    return ""


def absolute_bucket(bucket: str, base_dir: Path) -> str:
    """Return the bucket with the directory of a "file:" one made absolute."""
    if not bucket.startswith(_FILE):
        return bucket
    path = bucket.removeprefix(_FILE)
    if path.startswith("/"):
        path = "/" + path.lstrip("/")
    return f"{_FILE}{os.path.normpath(base_dir / path)}"


def local_media(
    surroundings: Surroundings, given: Mapping[str, Any], bucket_urls: tuple[str, ...]
) -> tuple[tuple[str, Path], ...]:
    """Return (URL prefix, directory) pairs, longest prefix first.

    Without LOCAL_MEDIA it is MEDIA_URL and MEDIA_ROOT, unless the bucket answers at that URL.
    """
    mapping = given.get("LOCAL_MEDIA")
    if mapping is None:
        mapping = _served_media(surroundings.django, bucket_urls)
    found = [
        _local_root(prefix, directory, surroundings.base_dir)
        for prefix, directory in mapping.items()
    ]
    return tuple(sorted(found, key=lambda item: (-len(item[0]), item[0])))


def _served_media(django: Mapping[str, Any], bucket_urls: tuple[str, ...]) -> dict[str, Any]:
    url, root = str(django.get("MEDIA_URL") or ""), django.get("MEDIA_ROOT")
    # Django shows an unset MEDIA_URL as "/", which every path on the site would match.
    if not root or url in ("", "/") or url in bucket_urls:
        return {}
    return {url if url.endswith("/") else f"{url}/": root}


def _local_root(prefix: str, directory: Any, base_dir: Path) -> tuple[str, Path]:
    name = f"R2MAINT['LOCAL_MEDIA'][{prefix!r}]"
    if not isinstance(directory, (str, os.PathLike)) or not os.fspath(directory):
        raise setting_values.wrong(name, "must be a directory")
    if not prefix.endswith("/"):
        raise setting_values.wrong(name, "must end in '/'", f"Write {prefix + '/'!r}.")
    if not prefix.startswith("/"):
        setting_values.parse_base_url(name, prefix)
    elif not prefix.strip("/"):
        raise setting_values.wrong(name, "would make every path of the site a file")
    return prefix, Path(os.path.normpath(base_dir / directory))
