"""One setting's value at a time: checked, normalised, or refused in a sentence. Pure."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any, TypeVar
from urllib.parse import urlsplit

from r2maint.errors import ConfigError, suggest
from r2maint.keys.domains import is_s3_endpoint
from r2maint.keys.key_templates import check_template

T = TypeVar("T")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_DURATION = re.compile(r"([0-9]{1,9})([smhd])")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_HOST = re.compile(r"[^\s/?#@\\:]+(:\d{1,5})?|\[[0-9a-fA-F:]+\](:\d{1,5})?")
_LABEL = re.compile(r"\w+\.\w+")
DERIVED_PRESETS = ("easy_thumbnails", "sorl", "imagekit", "versatileimagefield")
RENDITION_SETTINGS = (
    "THUMBNAIL_BASEDIR",
    "THUMBNAIL_SUBDIR",
    "THUMBNAIL_PREFIX",
    "THUMBNAIL_NAMER",
    "IMAGEKIT_CACHEFILE_DIR",
    "IMAGEKIT_CACHEFILE_NAMER",
    "IMAGEKIT_SPEC_CACHEFILE_NAMER",
    "VERSATILEIMAGEFIELD_SETTINGS",
)
"""What the presets of DERIVED follow of their apps' own settings."""
ENCODINGS = ("webp", "avif", "auto")


class UnknownName(ConfigError):
    """A setting, option, model or field that does not exist."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldRule:
    """What `FIELDS` says of one field."""

    key: str = ""
    """Template of new keys; "" for the default."""
    max_size: tuple[int, int] | None = None
    """Width and height in pixels."""
    max_bytes: int | None = None
    to: str = ""
    """"webp", "avif", "auto" or "" for the command's own."""
    text: bool = False
    """Whether URLs embedded in longer text are rewritten too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtraReferences:
    """Where keys are named outside every database."""

    files: tuple[str, ...] = ()
    """Globs, relative to BASE_DIR."""
    callables: tuple[str, ...] = ()
    """Dotted paths."""
    objects: tuple[str, ...] = ()
    """Globs of keys whose objects are read as text."""


def parse_duration(text: str) -> timedelta:
    """Return the time "90s", "30m", "12h" or "7d" means; "0" is none.

    Raises: ValueError.
    """
    if text == "0":
        return timedelta(0)
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no duration: write 90s, 30m, 12h, 7d or 0.")
    try:
        return timedelta(**{_UNITS[match[2]]: int(match[1])})
    except OverflowError:
        raise ValueError(f"{text!r} is no duration: it is too long.") from None


def unknown(where: str, word: object, known: Collection[str], kind: str = "setting") -> ConfigError:
    """Return the error about a name that `where` does not have."""
    hint = suggest(str(word), known) or f"Known are: {', '.join(sorted(known))}."
    return UnknownName(f"{where} has no {kind} {word!r}.", hint)


_LISTED = 5
"""Spellings in one error."""


def wrong(name: str, why: str, hint: str = "") -> ConfigError:
    """Return the error about a malformed value; `why` never quotes a secret."""
    return ConfigError(f"{name} {why}.", hint)


def require_one_meaning(entry: str, meanings: Sequence[str]) -> None:
    """Raise ConfigError where an entry of NOT_REFERENCES has several meanings, spelled here."""
    if len(meanings) > 1:
        more = f" and {len(meanings) - _LISTED:,} more" if len(meanings) > _LISTED else ""
        raise wrong(
            "R2MAINT['NOT_REFERENCES']",
            f"has an entry that means {len(meanings):,} things: {entry!r}",
            f"Write which are meant: {', '.join(map(repr, meanings[:_LISTED]))}{more}.",
        )


def parse_text(name: str, value: Any, hint: str = "") -> str:
    if not isinstance(value, str):
        if value is None:
            raise wrong(name, "must be a string, not None", "Leave it out when there is none.")
        raise wrong(name, f"must be a string, not {type(value).__name__}", hint)
    return value.strip()


def parse_line(name: str, value: Any) -> str:
    text = parse_text(name, value)
    if any(character < " " for character in text):
        raise wrong(name, "must be one line")
    return text


def parse_python(name: str, value: Any) -> str:
    """Accept the absolute path of an interpreter; "" is this process's own."""
    path = parse_line(name, os.fspath(value) if isinstance(value, os.PathLike) else value)
    if path and not os.path.isabs(path):
        raise wrong(name, "must be an absolute path", "Write /srv/site/venv/bin/python.")
    return path


def parse_label(name: str, value: Any) -> str:
    """Accept what can stand between two dots of a host name."""
    text = parse_text(name, value)
    if not re.fullmatch(r"[\w-]*", text, re.ASCII):
        raise wrong(name, "holds more than letters, digits, '-' and '_'")
    return text


def parse_duration_setting(name: str, value: Any) -> timedelta:
    if isinstance(value, timedelta) and value >= timedelta(0):
        return value
    try:
        return parse_duration(parse_text(name, value, "Write 90s, 30m, 12h, 7d or 0."))
    except ValueError as error:
        raise wrong(name, "is malformed", str(error)) from None


def parse_texts(name: str, value: Any) -> tuple[str, ...]:
    """Accept a list, a tuple or a set; a lone string would be read letter by letter."""
    if isinstance(value, str) or not isinstance(value, (list, tuple, set, frozenset)):
        raise wrong(name, f"must be a list of strings, not {type(value).__name__}")
    items = sorted(value, key=str) if isinstance(value, (set, frozenset)) else value
    texts = tuple(parse_text(f"{name}[{index}]", item) for index, item in enumerate(items))
    if not all(texts):
        raise wrong(name, "holds an empty string")
    return texts


def parse_mapping(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise wrong(name, f"must be a dict, not {type(value).__name__}")
    for key in value:
        if not isinstance(key, str) or not key:
            raise wrong(name, f"has a name that is no text: {key!r}")
    return dict(value)


def parse_http_url(name: str, value: Any, example: str = "https://media.example.org/") -> str:
    """Return an http(s) URL of a place, without "/" at its end, query or fragment."""
    text = parse_line(name, value)
    try:
        parts = urlsplit(text)
        named = parts.hostname and parts.port != 0 and not re.search(r"\s", parts.netloc)
    except ValueError:
        raise wrong(name, "is no URL") from None
    if parts.username is not None or parts.password is not None:
        raise wrong(name, "holds a user name or password", "Leave what is before the '@' out.")
    if parts.scheme not in ("http", "https") or not named:
        raise wrong(name, "must be an http(s) URL", f"Write {example}.")
    if parts.query or parts.fragment:
        raise wrong(name, "has a query or fragment", "Write the address of the place alone.")
    return text.rstrip("/")


def parse_base_url(name: str, value: Any) -> str:
    """Return the URL a key is appended to: it ends in "/"."""
    return f"{parse_http_url(name, value)}/" if value != "" else ""


def parse_public_url(name: str, value: Any) -> str:
    """Return a base URL that readers without credentials can open."""
    url = parse_base_url(name, value)
    if url and is_s3_endpoint(urlsplit(url).netloc):
        raise wrong(
            name,
            "is an S3 endpoint, which answers signed requests only",
            "Connect a custom domain to the bucket, or enable its r2.dev address.",
        )
    return url


def parse_endpoint_url(name: str, value: Any) -> str:
    example = "https://<account>.r2.cloudflarestorage.com"
    return parse_http_url(name, value, example) if value != "" else ""


def parse_base_urls(name: str, value: Any) -> tuple[str, ...]:
    return tuple(
        parse_base_url(f"{name}[{i}]", url) for i, url in enumerate(parse_texts(name, value))
    )


def parse_hosts(name: str, value: Any) -> tuple[str, ...]:
    hosts = parse_texts(name, value)
    for host in hosts:
        if not _HOST.fullmatch(host):
            raise wrong(
                name, f"holds {host!r}", "Write host names: example.org or example.org:8000."
            )
    return tuple(host.lower() for host in hosts)


def parse_prefixes(name: str, value: Any) -> tuple[str, ...]:
    prefixes = parse_texts(name, value)
    for prefix in prefixes:
        if not prefix.endswith("/"):
            raise wrong(name, f"holds {prefix!r}", f"A prefix ends in '/': {prefix + '/'!r}.")
        if prefix.startswith(".r2maint/"):
            raise wrong(name, f"holds {prefix!r}", "That prefix is r2maint's own.")
    return prefixes


def parse_derived(name: str, value: Any) -> tuple[str, ...]:
    patterns = parse_texts(name, value)
    for pattern in patterns:
        if pattern not in DERIVED_PRESETS and not set(pattern) & set("{*?["):
            hint = suggest(pattern, DERIVED_PRESETS) or "Write a pattern: '{stem}__sized__*'."
            raise wrong(name, f"holds {pattern!r}, neither a preset nor a pattern", hint)
    return patterns


def parse_extra_references(name: str, value: Any) -> ExtraReferences:
    known = {field.name for field in fields(ExtraReferences)}
    given = parse_mapping(name, value)
    for key in given:
        if key not in known:
            raise unknown(name, key, known, "kind")
    return ExtraReferences(**{key: parse_texts(f"{name}[{key!r}]", given[key]) for key in given})


def parse_reasons(name: str, value: Any) -> dict[str, str]:
    reasons = {
        key: parse_line(f"{name}[{key!r}]", why) for key, why in parse_mapping(name, value).items()
    }
    for key, why in reasons.items():
        if not why:
            raise wrong(f"{name}[{key!r}]", "gives no reason", "Say why it names no object.")
    return reasons


def parse_bucket(name: str, value: Any) -> str:
    text = parse_line(name, value)
    if text == "" or _BUCKET.fullmatch(text) or (text.startswith("file:") and text[5:].strip("/")):
        return text
    raise wrong(name, f"is {text!r}", 'Write the bucket\'s name, or "file:" and a directory.')


def parse_rules(name: str, value: Any) -> dict[str, dict[str, FieldRule]]:
    rules: dict[str, dict[str, FieldRule]] = {}
    for label, by_field in parse_mapping(name, value).items():
        if not _LABEL.fullmatch(label):
            raise wrong(name, f"holds {label!r}", "Write app.Model.")
        where = f"{name}[{label!r}]"
        rules[label] = {
            field: _rule(f"{where}[{field!r}]", rule)
            for field, rule in parse_mapping(where, by_field).items()
        }
    return rules


def _rule(name: str, value: Any) -> FieldRule:
    parsers: dict[str, Callable[[str, Any], Any]] = {
        "key": _parse_template,
        "max_size": _parse_size,
        "max_bytes": _parse_count,
        "to": _parse_encoding,
        "text": _parse_flag,
    }
    given = parse_mapping(name, value)
    for option in given:
        if option not in parsers:
            raise unknown(name, option, parsers, "option")
    return FieldRule(**{key: parsers[key](f"{name}[{key!r}]", given[key]) for key in given})


def _parse_template(name: str, value: Any) -> str:
    template = parse_line(name, value)
    try:
        check_template(template)
    except ValueError as error:
        raise wrong(name, "is no key template", str(error)) from None
    return template


def _parse_size(name: str, value: Any) -> tuple[int, int]:
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise wrong(name, "must be [width, height]")
    return _parse_count(name, value[0]), _parse_count(name, value[1])


def _parse_count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise wrong(name, f"must be a whole number above 0, not {value!r}")
    return value


def _parse_encoding(name: str, value: Any) -> str:
    text = parse_text(name, value)
    if text and text not in ENCODINGS:
        raise wrong(name, f"is {text!r}", f"Write one of {', '.join(ENCODINGS)}.")
    return text


def _parse_flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise wrong(name, f"must be True or False, not {value!r}")
    return value
