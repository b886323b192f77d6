"""Settings as one frozen value. The only reader of django.conf.settings and of the environment."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.apps import apps
from django.conf import settings

from r2maint.conf import setting_values
from r2maint.conf.bucket_connection import Choice, Connection, choose
from r2maint.conf.environment import (
    Surroundings,
    absolute_bucket,
    connection_sources,
    local_media,
    public_url,
)
from r2maint.conf.setting_values import ExtraReferences, FieldRule
from r2maint.errors import ConfigError, suggest


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Every setting, checked. Secrets appear in no repr."""

    bucket: str = ""
    """A name, "file:" and an absolute directory, or "" when none is set."""
    connection: Connection | None = None
    """None for a "file:" bucket, and when there is none: `connection_gap` says why."""
    connection_gap: str = ""
    """Why there is no connection, in a sentence; "" when there is one or nothing is set at all."""
    public_url: str = ""
    """Ends in "/"; "" if unset."""
    aliases: tuple[str, ...] = ()
    local_media: tuple[tuple[str, Path], ...] = ()
    """(URL prefix, directory), longest prefix first."""
    site_hosts: tuple[str, ...] = ()
    managed_prefixes: tuple[str, ...] = ()
    protected: tuple[str, ...] = ()
    derived: tuple[str, ...] = ()
    renditions: Mapping[str, Any] = field(default_factory=dict)
    """What apps that make thumbnails are told of their names, by their own settings."""
    extra_references: ExtraReferences = field(default_factory=ExtraReferences)
    not_references: Mapping[str, str] = field(default_factory=dict)
    """app.Model, table or database alias -> reason."""
    fields: Mapping[str, Mapping[str, FieldRule]] = field(default_factory=dict)
    """"app.Model" as the model itself spells it -> field -> rule."""
    grace: timedelta = timedelta(days=7)
    undo_window: timedelta = timedelta(days=30)
    cache_control: str = "public, max-age=86400"
    """For keys without a content hash."""
    fetch_allow: tuple[str, ...] = ()
    """host or host:port that may be private."""
    api_token: str = field(default="", repr=False)
    account_id: str = ""
    """Of the bucket, as Cloudflare's API names it."""
    zone_id: str = ""
    prices: Mapping[str, Any] = field(default_factory=dict)
    python: str = ""
    """The interpreter of helper processes; "" for `sys.executable`."""
    base_dir: Path = field(default_factory=Path.cwd)


_PARSERS: dict[str, Callable[[str, Any], Any]] = {
    "BUCKET": setting_values.parse_bucket,
    "ACCOUNT_ID": setting_values.parse_label,
    "ACCESS_KEY_ID": setting_values.parse_text,
    "SECRET_ACCESS_KEY": setting_values.parse_text,
    "JURISDICTION": setting_values.parse_label,
    "ENDPOINT_URL": setting_values.parse_endpoint_url,
    "REGION": setting_values.parse_line,
    "PUBLIC_URL": setting_values.parse_public_url,
    "ALIASES": setting_values.parse_base_urls,
    "LOCAL_MEDIA": setting_values.parse_mapping,
    "SITE_HOSTS": setting_values.parse_hosts,
    "MANAGED_PREFIXES": setting_values.parse_prefixes,
    "PROTECTED": setting_values.parse_texts,
    "DERIVED": setting_values.parse_derived,
    "EXTRA_REFERENCES": setting_values.parse_extra_references,
    "NOT_REFERENCES": setting_values.parse_reasons,
    "FIELDS": setting_values.parse_rules,
    "GRACE": setting_values.parse_duration_setting,
    "UNDO_WINDOW": setting_values.parse_duration_setting,
    "CACHE_CONTROL": setting_values.parse_line,
    "FETCH_ALLOW": setting_values.parse_hosts,
    "API_TOKEN": setting_values.parse_text,
    "ZONE_ID": setting_values.parse_line,
    "PRICES": setting_values.parse_mapping,
    "PYTHON": setting_values.parse_python,
}
SETTINGS = tuple(_PARSERS)
"""Every name R2MAINT may hold."""
_PLAIN = (
    "ALIASES",
    "SITE_HOSTS",
    "MANAGED_PREFIXES",
    "PROTECTED",
    "DERIVED",
    "EXTRA_REFERENCES",
    "NOT_REFERENCES",
    "GRACE",
    "UNDO_WINDOW",
    "CACHE_CONTROL",
    "FETCH_ALLOW",
    "PRICES",
    "PYTHON",
)
"""Settings that go into Config under their own name in lower case."""

_CLOUDFLARE = {
    "ACCOUNT_ID": "CLOUDFLARE_ACCOUNT_ID",
    "API_TOKEN": "CLOUDFLARE_API_TOKEN",
    "ZONE_ID": "CLOUDFLARE_ZONE_ID",
}
"""Settings, and the variables that Cloudflare's own tools read the same from."""


def load() -> Config:
    """Return the configuration, read anew.

    Raises: ConfigError for an unknown or malformed setting. That no bucket is configured is no
    error here: `require_connection` and `open_bucket` say so.
    """
    return build(read_surroundings())


_NO_CONNECTION = (
    "Set BUCKET, ACCOUNT_ID, ACCESS_KEY_ID and SECRET_ACCESS_KEY in R2MAINT, or R2_BUCKET_NAME,"
    " R2_ACCOUNT_ID, R2_ACCESS_KEY_ID and R2_SECRET_ACCESS_KEY in the environment: all in one"
    ' place, never mixed. "BUCKET": "file:var/bucket" is a bucket in a directory.'
)


def require_connection(config: Config) -> Connection:
    """Return the connection, or raise the ConfigError that says what is missing."""
    if config.connection is not None:
        return config.connection
    raise ConfigError(config.connection_gap or "No bucket is configured.", _NO_CONNECTION)


def read_surroundings() -> Surroundings:
    """Take down every setting r2maint looks at."""
    base_dir = getattr(settings, "BASE_DIR", None)
    return Surroundings(
        own=getattr(settings, "R2MAINT", {}),
        environ={
            name: value.strip()
            for name, value in os.environ.items()
            if name.startswith("R2_") or name in _CLOUDFLARE.values()
        },
        django=dict(_django_settings()),
        base_dir=Path(base_dir or Path.cwd()).absolute(),
    )


def _django_settings() -> Iterator[tuple[str, Any]]:
    names = {"DEBUG", "MEDIA_ROOT", "MEDIA_URL", "STORAGES"}
    names.update(name for name in setting_values.RENDITION_SETTINGS if hasattr(settings, name))
    names.update(name for name in dir(settings) if name.startswith("AWS_"))
    if settings.is_overridden("DEFAULT_FILE_STORAGE"):
        names.add("DEFAULT_FILE_STORAGE")
    with warnings.catch_warnings():
        # Django 4.2 warns whoever reads DEFAULT_FILE_STORAGE; the project is told by a check.
        warnings.simplefilter("ignore")
        for name in sorted(names):
            yield name, getattr(settings, name, None)


def build(surroundings: Surroundings) -> Config:
    """Return what `surroundings` mean.

    Raises: ConfigError, the first of `find_errors`.
    """
    given, errors = _parse(surroundings)
    if errors:
        raise errors[0]
    choice = _choose(surroundings)
    url = given.get("PUBLIC_URL") or public_url(surroundings, choice.bucket)
    aliases = given.get("ALIASES", ())
    return Config(
        **{name.lower(): given[name] for name in _PLAIN if name in given},
        api_token=_cloudflare(surroundings, given, "API_TOKEN"),
        account_id=_account(surroundings, given, choice),
        zone_id=_cloudflare(surroundings, given, "ZONE_ID"),
        bucket=absolute_bucket(choice.bucket, surroundings.base_dir),
        connection=choice.connection,
        connection_gap=choice.gap,
        public_url=url,
        local_media=local_media(surroundings, given, (url, *aliases)),
        fields=dict(_labelled(given.get("FIELDS", {}))),
        renditions={
            name: surroundings.django[name]
            for name in setting_values.RENDITION_SETTINGS
            if name in surroundings.django
        },
        base_dir=surroundings.base_dir,
    )


def _cloudflare(surroundings: Surroundings, given: Mapping[str, Any], name: str) -> str:
    return str(given.get(name) or surroundings.environ.get(_CLOUDFLARE[name], ""))


def _account(surroundings: Surroundings, given: Mapping[str, Any], choice: Choice) -> str:
    known = choice.connection.account_id if choice.connection else ""
    return known or _cloudflare(surroundings, given, "ACCOUNT_ID")


def _choose(surroundings: Surroundings) -> Choice:
    choice = choose(connection_sources(surroundings))
    if choice.connection is not None:
        name = f"The endpoint in {choice.connection.source}"
        setting_values.parse_http_url(name, choice.connection.endpoint_url)
    return choice


def find_errors(surroundings: Surroundings) -> list[ConfigError]:
    """Return an error for every unknown or malformed setting."""
    errors = _parse(surroundings)[1]
    if not errors:
        try:
            build(surroundings)
        except ConfigError as error:
            errors = [error]
    return errors


def _parse(surroundings: Surroundings) -> tuple[dict[str, Any], list[ConfigError]]:
    given: dict[str, Any] = {}
    errors: list[ConfigError] = []
    if not isinstance(surroundings.own, Mapping):
        return given, [setting_values.wrong("R2MAINT", "must be a dict")]
    for name, value in surroundings.own.items():
        try:
            if name not in _PARSERS:
                raise setting_values.unknown("R2MAINT", name, SETTINGS)
            given[name] = _PARSERS[name](f"R2MAINT[{name!r}]", value)
        except ConfigError as error:
            errors.append(error)
    errors.extend(_environment_errors(surroundings.environ, surroundings.own))
    return given, errors


def _environment_errors(
    environ: Mapping[str, str], own: Mapping[str, Any]
) -> Iterator[ConfigError]:
    parsers = {
        "R2_BUCKET_NAME": setting_values.parse_bucket,
        "R2_ENDPOINT_URL": setting_values.parse_endpoint_url,
        "R2_PUBLIC_URL": setting_values.parse_base_url,
    }
    for name, parse in parsers.items():
        if own.get(name.removeprefix("R2_").removesuffix("_NAME")):
            continue
        try:
            parse(f"{name} in the environment", environ.get(name, ""))
        except ConfigError as error:
            yield error


def _labelled(
    rules: Mapping[str, Mapping[str, FieldRule]],
) -> Iterator[tuple[str, Mapping[str, FieldRule]]]:
    """Yield the rules under the labels the models themselves use.

    Raises: ConfigError for a model or field that does not exist.
    """
    if not apps.models_ready:
        return
    labels = {
        model._meta.label.lower(): model for model in apps.get_models(include_auto_created=True)
    }
    for label, by_field in rules.items():
        model = labels.get(label.lower())
        if model is None:
            known = [model._meta.label for model in labels.values()]
            raise setting_values.UnknownName(
                f"R2MAINT['FIELDS'] names no model of this project: {label!r}.",
                suggest(label, known) or "Write app.Model of an installed app.",
            )
        names = [field.name for field in model._meta.concrete_fields]
        for name in by_field:
            if name not in names:
                raise setting_values.unknown(f"R2MAINT['FIELDS'][{label!r}]", name, names, "field")
        yield model._meta.label, by_field
