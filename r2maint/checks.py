"""Django system checks: what is wrong, or will disappoint, in the settings.

Errors (E) are unknown or malformed settings, everything else is a warning (W), so that no image
build breaks on a missing key. They read settings and the environment, no network, no database.
"""

from __future__ import annotations

import difflib
import importlib.util
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import django
from django.core import checks

from r2maint.conf import Config, build, find_errors, read_surroundings
from r2maint.conf.bucket_connection import R2_REGIONS, gap_of
from r2maint.conf.environment import Surroundings, connection_sources, custom_domains
from r2maint.conf.setting_values import UnknownName
from r2maint.errors import ConfigError
from r2maint.keys.domains import account_of, is_s3_endpoint
from r2maint.keys.text import host_of, redact

Found = Iterator[checks.CheckMessage]
_AWS_SETTINGS = """
    AWS_S3_ACCESS_KEY_ID AWS_S3_ADDRESSING_STYLE AWS_S3_CLIENT_CONFIG AWS_S3_CUSTOM_DOMAIN
    AWS_S3_ENDPOINT_URL AWS_S3_FILE_BUFFER_SIZE AWS_S3_FILE_OVERWRITE
    AWS_S3_FILE_NAME_CHARSET
    AWS_S3_MAX_MEMORY_SIZE AWS_S3_OBJECT_PARAMETERS AWS_S3_PROXIES AWS_S3_REGION_NAME
    AWS_S3_SECRET_ACCESS_KEY AWS_S3_SESSION_PROFILE AWS_S3_SIGNATURE_VERSION
    AWS_S3_TRANSFER_CONFIG AWS_S3_URL_PROTOCOL AWS_S3_USE_SSL AWS_S3_USE_THREADS AWS_S3_VERIFY
    AWS_STORAGE_BUCKET_NAME AWS_DEFAULT_ACL
""".split()  # noqa: SIM905 - a list literal of it is a page long
"""Source: storages/backends/s3.py, get_default_settings."""
_AWS_FAMILIES = ("AWS_S3_", "AWS_STORAGE_", "AWS_DEFAULT_")
_OPTIONS = "STORAGES['default']['OPTIONS']"
_PUBLIC_HINT = (
    "Connect a custom domain to the bucket (R2, your bucket, Settings, Public access) and set"
    " R2MAINT['PUBLIC_URL'] to it."
)


def register() -> None:
    """Make `manage.py check` run these checks, under the tag "r2maint"."""
    checks.register(check_settings, "r2maint")


def check_settings(app_configs: Any = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Return a message for everything found; never raise."""
    return _guarded(find_problems)


def find_problems() -> list[checks.CheckMessage]:
    """Return what is wrong with the settings of this process, errors first."""
    surroundings = read_surroundings()
    errors = find_errors(surroundings)
    found = [_error(error) for error in errors]
    for look in _AT_SURROUNDINGS:
        found.extend(_guarded(look, surroundings))
    if not errors:
        config = build(surroundings)
        for look_closer in _AT_CONFIG:
            found.extend(_guarded(look_closer, surroundings, config))
    return found


def _guarded(
    look: Callable[..., Iterable[checks.CheckMessage]], *args: Any
) -> list[checks.CheckMessage]:
    """Run one check; settings of other packages may hold anything, and must not stop Django."""
    try:
        return list(look(*args))
    except Exception as error:
        text = f"A check of the settings failed: {look.__name__}, {type(error).__name__}."
        return [_warning("W099", text, "Look at STORAGES and the AWS_* settings.")]


def _error(error: ConfigError) -> checks.CheckMessage:
    code = "E001" if isinstance(error, UnknownName) else "E002"
    return checks.Error(error.message, hint=error.hint or None, id=f"r2maint.{code}")


def _warning(code: str, message: str, hint: str) -> checks.CheckMessage:
    return checks.Warning(message, hint=hint, id=f"r2maint.{code}")


def _no_bucket(surroundings: Surroundings, config: Config) -> Found:
    if not config.bucket and not config.connection_gap:
        yield _warning(
            "W001",
            "r2maint has no bucket.",
            'Set R2MAINT["BUCKET"], or R2_ACCOUNT_ID, R2_ACCESS_KEY_ID, R2_SECRET_ACCESS_KEY and'
            ' R2_BUCKET_NAME in the environment. "file:var/bucket" is a bucket in a directory.',
        )


def _half_set(surroundings: Surroundings, config: Config) -> Found:
    if config.bucket.startswith("file:"):
        return
    gaps = [config.connection_gap]
    sources = connection_sources(surroundings)
    for source in sources:
        if config.connection is not None and source.label == config.connection.source:
            break
        if source.has_credentials:
            gaps.append(gap_of(source, sources[0].bucket))
    hint = "Complete it or remove it: a connection is taken from one place, never mixed."
    for gap in dict.fromkeys(filter(None, gaps)):
        yield _warning("W002", gap, hint)


def _not_public(surroundings: Surroundings, config: Config) -> Found:
    if config.bucket and not config.public_url:
        text = "No public URL is known, so no URL can be written into rows."
        yield _warning("W003", text, _PUBLIC_HINT)


def _endpoint_as_domain(surroundings: Surroundings) -> Found:
    domains = [(name, domain) for name, domain, _ in custom_domains(surroundings)]
    url = surroundings.environ.get("R2_PUBLIC_URL", "")
    for name, domain in [*domains, ("R2_PUBLIC_URL", host_of(url))]:
        if domain and is_s3_endpoint(domain.partition("/")[0]):
            yield _warning(
                "W004",
                f"{name} is an S3 endpoint, which answers signed requests only: its URLs are not"
                " public.",
                _PUBLIC_HINT,
            )


def _misspelt(surroundings: Surroundings) -> Found:
    for name in sorted(surroundings.django):
        if name in _AWS_SETTINGS or not name.startswith(_AWS_FAMILIES):
            continue
        near = difflib.get_close_matches(name, _AWS_SETTINGS, n=1, cutoff=0.85)
        if near:
            text = f"{name} is no setting of django-storages, which ignores it."
            yield _warning("W005", text, f"Did you mean {near[0]}?")


def _removed_setting(surroundings: Surroundings) -> Found:
    backend = surroundings.django.get("DEFAULT_FILE_STORAGE")
    if backend:
        effect = "ignored" if django.VERSION >= (5, 1) else "deprecated"
        yield _warning(
            "W006",
            f"DEFAULT_FILE_STORAGE is {effect}: Django 5.1 removed it.",
            f'Write STORAGES = {{"default": {{"BACKEND": "{backend}"}}, …}}.',
        )


def _acl(surroundings: Surroundings) -> Found:
    given, others = surroundings.storage_options, surroundings.django
    found = {
        "AWS_DEFAULT_ACL": others.get("AWS_DEFAULT_ACL"),
        f"{_OPTIONS}['default_acl']": given.get("default_acl"),
        "AWS_S3_OBJECT_PARAMETERS['ACL']": _acl_in(others.get("AWS_S3_OBJECT_PARAMETERS")),
        f"{_OPTIONS}['object_parameters']['ACL']": _acl_in(given.get("object_parameters")),
    }
    for name, acl in found.items():
        if acl and _speaks_to_r2(surroundings):
            yield _warning(
                "W007",
                f"{name} = {acl!r} has no effect: R2 has no access lists, objects stay as public"
                " or private as their bucket.",
                "Remove it. " + _PUBLIC_HINT,
            )


def _acl_in(parameters: Any) -> Any:
    return parameters.get("ACL") if isinstance(parameters, Mapping) else None


def _speaks_to_r2(surroundings: Surroundings) -> bool:
    endpoints = [source.endpoint_url for source in connection_sources(surroundings)]
    own_account = any(source.account_id for source in connection_sources(surroundings))
    return own_account or any(account_of(url)[0] for url in endpoints)


def _local_media(surroundings: Surroundings, config: Config) -> Found:
    if config.bucket and not config.local_media and "LOCAL_MEDIA" not in surroundings.own:
        yield _warning(
            "W008",
            "No local media is known: MEDIA_URL and MEDIA_ROOT are not both set beside the bucket,"
            " so /media/ paths still in rows mean no file.",
            'Keep R2MAINT["LOCAL_MEDIA"] = {"/media/": "/srv/media"} after the storage is'
            " switched; {} says that there is none.",
        )
    for prefix, root in config.local_media:
        if "LOCAL_MEDIA" in surroundings.own and not root.is_dir():
            text = f"R2MAINT['LOCAL_MEDIA'][{prefix!r}] is no directory here: {root}."
            yield _warning("W014", text, "Mount it, or correct the path.")


def _development_address(surroundings: Surroundings, config: Config) -> Found:
    host = host_of(config.public_url)
    if host.endswith(".r2.dev") and not surroundings.django.get("DEBUG"):
        yield _warning(
            "W009",
            f"The public URL is the development address {host}: R2 throttles it and no cache"
            " stands before it.",
            _PUBLIC_HINT + " Keep the old address in R2MAINT['ALIASES'].",
        )


def _prefixes(surroundings: Surroundings, config: Config) -> Found:
    if config.bucket and not config.managed_prefixes:
        yield _warning(
            "W010",
            "R2MAINT['MANAGED_PREFIXES'] is missing: purge_orphans removes nothing without it.",
            'Name the prefixes this project alone writes to: ["submissions/"].',
        )
    for prefix in config.managed_prefixes:
        if prefix.startswith("/"):
            text = f"R2MAINT['MANAGED_PREFIXES'] holds {prefix!r}, which matches only keys that"
            yield _warning("W015", f"{text} begin with '/'.", f"Write {prefix.lstrip('/')!r}.")


def _region(surroundings: Surroundings, config: Config) -> Found:
    connection = config.connection
    if connection is None or not connection.account_id:
        return
    for source in connection_sources(surroundings):
        if source.label == connection.source and source.region.lower() not in R2_REGIONS:
            text = f"{source.names['region']} is {source.region!r}; R2 has the region 'auto'."
            yield _warning("W011", text, "Write 'auto'; r2maint uses it all the same.")


def _protocol(surroundings: Surroundings) -> Found:
    for name, protocol in (
        ("AWS_S3_URL_PROTOCOL", surroundings.django.get("AWS_S3_URL_PROTOCOL")),
        (f"{_OPTIONS}['url_protocol']", surroundings.storage_options.get("url_protocol")),
    ):
        if isinstance(protocol, str) and protocol and not protocol.endswith(":"):
            text = f"{name} is {protocol!r}: django-storages makes URLs like {protocol}//host/key."
            yield _warning("W012", text, f"Write {protocol + ':'!r}, with the colon.")


def _backend(surroundings: Surroundings) -> Found:
    old = surroundings.django.get("DEFAULT_FILE_STORAGE")
    for backend in (surroundings.default_storage.get("BACKEND"), old):
        used = isinstance(backend, str) and backend.startswith("storages.")
        if used and importlib.util.find_spec("storages") is None:
            text = f"The storage {backend!r} needs django-storages, which is not installed."
            yield _warning("W013", text, "Run python -m pip install 'django-storages[s3]'.")


def _plain_http(surroundings: Surroundings, config: Config) -> Found:
    if urlsplit(config.public_url).scheme == "http" and not surroundings.django.get("DEBUG"):
        text = f"The public URL is plain http: {redact(config.public_url)}."
        yield _warning("W016", text, "Pages served over https block it: write https://.")


def _interpreter(surroundings: Surroundings, config: Config) -> Found:
    path = config.python
    if path and not (os.path.isfile(path) and os.access(path, os.X_OK)):
        text = f"R2MAINT['PYTHON'] is no program here: {path}."
        hint = "Write the path of the Python in this project's virtual environment."
        yield _warning("W017", text, hint)


_AT_SURROUNDINGS: tuple[Callable[[Surroundings], Found], ...] = (
    _endpoint_as_domain,
    _misspelt,
    _removed_setting,
    _acl,
    _protocol,
    _backend,
)
_AT_CONFIG: tuple[Callable[[Surroundings, Config], Found], ...] = (
    _no_bucket,
    _half_set,
    _not_public,
    _local_media,
    _development_address,
    _prefixes,
    _region,
    _plain_http,
    _interpreter,
)
