"""Which account, keys and bucket: one of four sources, never a mixture. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from r2maint.keys.domains import account_of, build_endpoint, endpoint_without_bucket

R2_REGIONS = ("", "auto", "us-east-1")
"""All of them mean "auto". Source: developers.cloudflare.com/r2/api/s3/api/"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """What the bucket's S3 endpoint asks for; all of it from `source`."""

    source: str
    """"R2MAINT", "environment (R2_*)", "STORAGES['default']['OPTIONS']" or "AWS_* settings"."""
    access_key_id: str = field(repr=False)
    secret_access_key: str = field(repr=False)
    endpoint_url: str
    """Without a bucket and without "/" at its end."""
    region: str = "auto"
    account_id: str = ""
    """"" when the endpoint is not Cloudflare's."""
    jurisdiction: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionSource:
    """The connection settings one source gives; "" where it is silent."""

    label: str
    names: Mapping[str, str]
    """Our attribute -> the source's own name of it, as a sentence can show it."""
    access_key_id: str = field(default="", repr=False)
    secret_access_key: str = field(default="", repr=False)
    bucket: str = ""
    account_id: str = ""
    endpoint_url: str = ""
    jurisdiction: str = ""
    region: str = ""

    @property
    def is_set(self) -> bool:
        place = self.bucket or self.account_id or self.endpoint_url
        return bool(place or self.has_credentials)

    @property
    def has_credentials(self) -> bool:
        return bool(self.access_key_id or self.secret_access_key)


_ATTRIBUTES: tuple[tuple[str, dict[str, tuple[str, ...]]], ...] = (
    (
        "R2MAINT",
        {
            "access_key_id": ("ACCESS_KEY_ID",),
            "secret_access_key": ("SECRET_ACCESS_KEY",),
            "bucket": ("BUCKET",),
            "account_id": ("ACCOUNT_ID",),
            "endpoint_url": ("ENDPOINT_URL",),
            "jurisdiction": ("JURISDICTION",),
            "region": ("REGION",),
        },
    ),
    (
        "environment (R2_*)",
        {
            "access_key_id": ("R2_ACCESS_KEY_ID",),
            "secret_access_key": ("R2_SECRET_ACCESS_KEY",),
            "bucket": ("R2_BUCKET_NAME",),
            "account_id": ("R2_ACCOUNT_ID",),
            "endpoint_url": ("R2_ENDPOINT_URL",),
            "jurisdiction": ("R2_JURISDICTION",),
            "region": ("R2_REGION",),
        },
    ),
    (
        "STORAGES['default']['OPTIONS']",
        {
            "access_key_id": ("access_key",),
            "secret_access_key": ("secret_key",),
            "bucket": ("bucket_name",),
            "endpoint_url": ("endpoint_url",),
            "region": ("region_name",),
        },
    ),
    (
        "AWS_* settings",
        {
            "access_key_id": ("AWS_S3_ACCESS_KEY_ID", "AWS_ACCESS_KEY_ID"),
            "secret_access_key": ("AWS_S3_SECRET_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY"),
            "bucket": ("AWS_STORAGE_BUCKET_NAME",),
            "endpoint_url": ("AWS_S3_ENDPOINT_URL",),
            "region": ("AWS_S3_REGION_NAME",),
        },
    ),
)
"""In order of authority. Several names for one attribute: the first that is set, as
django-storages reads them. Source: storages/backends/s3.py, get_default_settings."""


def read_sources(*mappings: Mapping[str, Any]) -> tuple[ConnectionSource, ...]:
    """Return the four sources in order of authority.

    `mappings` are R2MAINT, the environment, the default storage's OPTIONS and Django's settings.
    """
    return tuple(
        _read_source(label, attributes, values)
        for (label, attributes), values in zip(_ATTRIBUTES, mappings, strict=True)
    )


def _read_source(
    label: str, attributes: Mapping[str, tuple[str, ...]], values: Mapping[str, Any]
) -> ConnectionSource:
    found: dict[str, str] = {}
    names: dict[str, str] = {}
    for attribute, candidates in attributes.items():
        name = next((name for name in candidates if values.get(name)), candidates[-1])
        value = values.get(name)
        # A key pasted into a secret store often ends in a newline.
        found[attribute] = value.strip() if isinstance(value, str) else ""
        names[attribute] = name
    return ConnectionSource(label=label, names=names, **found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The bucket and how to reach it, or in one sentence why it cannot be reached."""

    bucket: str = ""
    connection: Connection | None = None
    gap: str = ""


def choose(sources: tuple[ConnectionSource, ...]) -> Choice:
    """Take the first source that is complete, whole.

    R2MAINT may name the bucket alone; a source that names another bucket then lends it no keys.
    R2MAINT with half its credentials is an answer, not a reason to look elsewhere.
    """
    own = sources[0]
    named = next((source.bucket for source in sources if source.bucket), "")
    if named.startswith("file:"):
        return Choice(bucket=named)
    given = [source for source in sources if source.is_set]
    asked = given[:1] if own.has_credentials else given
    for source in asked:
        if not gap_of(source, own.bucket):
            bucket = own.bucket or source.bucket
            return Choice(bucket=bucket, connection=_connect(source, bucket))
    gaps = [gap_of(source, own.bucket) for source in _most_telling(asked)]
    return Choice(bucket=named, gap=gaps[0] if gaps else "")


def _most_telling(sources: list[ConnectionSource]) -> list[ConnectionSource]:
    return sorted(sources, key=lambda source: not source.has_credentials)


def gap_of(source: ConnectionSource, own_bucket: str = "") -> str:
    """Return in a sentence why a source is no whole connection, "" if it is one."""
    if own_bucket and source.bucket and own_bucket != source.bucket:
        return (
            f"R2MAINT['BUCKET'] is {own_bucket!r}, but the keys found are those of"
            f" {source.bucket!r} in {source.label}."
        )
    return _missing(source, own_bucket or source.bucket) or _contradiction(source)


def _missing(source: ConnectionSource, bucket: str) -> str:
    missing = [
        source.names[attribute]
        for attribute in ("access_key_id", "secret_access_key")
        if not getattr(source, attribute)
    ]
    if not bucket:
        missing.append(source.names["bucket"])
    if not (source.account_id or source.endpoint_url):
        missing.append(source.names.get("account_id", source.names["endpoint_url"]))
    return f"{source.label} is half set: it lacks {', '.join(missing)}." if missing else ""


def _contradiction(source: ConnectionSource) -> str:
    account, jurisdiction = account_of(source.endpoint_url)
    for attribute, told in (("account_id", account), ("jurisdiction", jurisdiction)):
        given = getattr(source, attribute)
        if account and given and given.lower() not in (told, "default"):
            return (
                f"{source.label} contradicts itself: {source.names['endpoint_url']} is of another"
                f" {attribute.split('_')[0]} than {source.names[attribute]}."
            )
    return ""


def _connect(source: ConnectionSource, bucket: str) -> Connection:
    endpoint = endpoint_without_bucket(source.endpoint_url, bucket) or build_endpoint(
        source.account_id, source.jurisdiction
    )
    account, jurisdiction = account_of(endpoint)
    return Connection(
        source=source.label,
        access_key_id=source.access_key_id,
        secret_access_key=source.secret_access_key,
        endpoint_url=endpoint,
        region="auto" if account else source.region or "auto",
        account_id=account,
        jurisdiction=jurisdiction,
    )
