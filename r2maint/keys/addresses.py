"""URL <-> key <-> field value: what a stored text points at, and the URL to store for a key. Pure.

Keys are opaque: one comes out exactly as the text spells it, and is compared by `identity`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, Protocol

from r2maint.errors import ConfigError
from r2maint.keys.domains import R2_DOMAIN
from r2maint.keys.text import (
    URL,
    inside,
    is_plain,
    join,
    name_spellings,
    normal_host,
    path_spellings,
    quote_key,
    readings,
    split_base,
)

_SIGNED = re.compile(r"[?&;](?:X-Amz-Signature|X-Amz-Credential|Signature)=", re.IGNORECASE)


class Kind(StrEnum):
    """Where a text points."""

    BUCKET = "bucket"
    LOCAL = "local"
    EXTERNAL = "external"
    NOTHING = "nothing"
    """Nowhere: it stands where an address is expected, and is none."""


class Via(StrEnum):
    """By which form of address."""

    PUBLIC = "public"
    ALIAS = "alias"
    ENDPOINT = "endpoint"
    PRESIGNED = "presigned"
    NAME = "name"
    PATH = "path"
    URL = "url"
    """A URL of a host that is neither the bucket's nor, below LOCAL_MEDIA, this site's."""


class Target(NamedTuple):
    """What a stored text means. A tuple, because runs make millions."""

    kind: Kind
    via: Via
    key: str = ""
    """BUCKET: the exact key. LOCAL: the path below `root`, with "/". EXTERNAL: ""."""
    root: Path | None = None
    """LOCAL: the directory of LOCAL_MEDIA."""
    spellings: tuple[str, ...] = ()
    """Other keys (or paths) the same text could mean, likeliest first."""


_BUCKET = Kind.BUCKET
_EXTERNAL = Target(Kind.EXTERNAL, Via.URL)
_TRANSFORMED = "/cdn-cgi/image/"
"""Cloudflare answers below this path itself, from the picture named further on in the URL; it is no
key. Source: developers.cloudflare.com/images/transform-images/transform-via-url/"""

_TRANSFORMED_KEY = _TRANSFORMED[1:]


class Endpoint(Protocol):
    """Where the bucket answers signed requests; `conf.Connection` is one."""

    @property
    def endpoint_url(self) -> str: ...
    @property
    def account_id(self) -> str: ...


class AddressSettings(Protocol):
    """The settings that say which addresses mean the bucket or this site; `conf.Config` has them.

    A protocol, because `conf` reads keys and not the other way round.
    """

    @property
    def bucket(self) -> str: ...
    @property
    def connection(self) -> Endpoint | None: ...
    @property
    def public_url(self) -> str: ...
    @property
    def aliases(self) -> tuple[str, ...]: ...
    @property
    def local_media(self) -> tuple[tuple[str, Path], ...]: ...
    @property
    def site_hosts(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class _Base:
    """What lies below one place: `path` starts and ends with "/"."""

    path: str
    via: Via
    root: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """The URLs and paths that mean this bucket or this site's media."""

    public_url: str
    bucket: str
    account_id: str
    hosts: Mapping[str, tuple[_Base, ...]]
    """host[:port] in lower case -> bases, longest path first."""
    paths: tuple[_Base, ...]
    """LOCAL_MEDIA prefixes that are paths, longest first."""
    shortcuts: tuple[tuple[str, Via], ...]
    """Literal beginnings of the usual URLs, so that most values need no parsing."""

    @classmethod
    def from_config(cls, config: AddressSettings) -> Addresses:
        """Return the addresses `config` declares."""
        paths = tuple(_path_bases(config.local_media))
        hosts = _by_host(_host_bases(config, paths))
        return cls(
            public_url=config.public_url,
            bucket=config.bucket,
            account_id=config.connection.account_id if config.connection else "",
            hosts=hosts,
            paths=paths,
            shortcuts=tuple(_shortcuts(config, hosts)),
        )

    def locate(self, value: str) -> Target | None:
        """Return what a URL or an absolute path of this site means; None for any other text.

        White space around the value is ignored: the caller keeps the stored value as it is. A
        value of several lines is text, not an address. http(s) URLs of other places are EXTERNAL,
        and so is the bare address of the bucket.
        """
        for start, via in self.shortcuts:
            if value.startswith(start):
                rest = value[len(start) :]
                if is_plain(rest) and not rest.startswith(_TRANSFORMED_KEY):
                    return Target(_BUCKET, via, rest)
        return self._parse(value) if "/" in value else None

    def locate_name(
        self, name: str, *, location: str = "", root: Path | None = None
    ) -> Target | None:
        """Return what the value of a FileField means; None for an empty one.

        `location` is the key prefix of the field's storage. With `root` the storage is that local
        directory. Some projects keep whole URLs in these fields: they mean what the URL means.
        """
        if not name.strip():
            return None
        if URL.match(name.lstrip()):
            return self._parse(name)
        if root is not None:
            return _local((name,), root)
        key = join(location, name)
        return Target(Kind.BUCKET, Via.NAME, key, spellings=name_spellings(name, location, key))

    def url_for(self, key: str) -> str:
        """Return the public URL of a key, percent-encoded ASCII.

        `locate` gives the key back exactly, whatever it is. The dots of "." and ".." segments are
        encoded too; browsers resolve them all the same and cannot reach such keys, other clients
        can. Raises: ConfigError without a public URL, ValueError for "".
        """
        if not self.public_url:
            raise ConfigError("No public URL is configured.", "Set R2MAINT['PUBLIC_URL'].")
        if not key:
            raise ValueError("An empty key has no URL.")
        return self.public_url + quote_key(key)

    def republished(self, url: str) -> tuple[Via, str] | None:
        """Return by which base of the bucket a URL begins, and the URL with PUBLIC_URL for it.

        What follows the base stays as it is written: a key, a placeholder of some program, nothing.
        None for a URL of any other place.
        """
        match = URL.match(url)
        path = url[match.end() :] if match else ""
        bases = self._bases(normal_host(match[2])) if match else ()
        base = next((each for each in bases if f"{path}/".startswith(each.path)), None)
        if base is None or base.root is not None:
            return None
        if len(path) < len(base.path):  # the base itself, without its last "/"
            return base.via, self.public_url.rstrip("/")
        rest = path[len(base.path) :]
        if base.via is Via.ENDPOINT and _SIGNED.search(rest):
            return Via.PRESIGNED, self.public_url + rest.partition("?")[0]
        return base.via, self.public_url + rest

    def _parse(self, value: str) -> Target | None:
        text = value.lstrip()
        if text[0] != "/" and "://" not in text[:8]:
            return None
        if "\n" in text.rstrip() or "\r" in text.rstrip():
            return None
        match = URL.match(text)
        if match is None:
            return _first_below(text, self.paths)
        host, path = normal_host(match[2]), text[match.end() :]
        if path.startswith(_TRANSFORMED):
            return _EXTERNAL
        target = _first_below(path, self._bases(host))
        if target is None and (match[1] or "." in host):
            return _EXTERNAL
        return target

    def _bases(self, host: str) -> tuple[_Base, ...]:
        """Return what is known of a host; R2 endpoints also of a jurisdiction yet to come."""
        found = self.hosts.get(host)
        if found is not None or not self.account_id or not host.endswith(f".{R2_DOMAIN}"):
            return found or ()
        labels = host.split(".")
        if labels[0] == self.account_id:
            return (_Base(f"/{self.bucket}/", Via.ENDPOINT),)
        if labels[:2] == [self.bucket, self.account_id]:
            return (_Base("/", Via.ENDPOINT),)
        return ()


def _shortcuts(
    config: AddressSettings, hosts: Mapping[str, tuple[_Base, ...]]
) -> Iterator[tuple[str, Via]]:
    urls = [(config.public_url, Via.PUBLIC), *((url, Via.ALIAS) for url in config.aliases)]
    for url, via in urls:
        host, path = split_base(url)
        nested = [base for base in hosts.get(host, ()) if base.path.startswith(path)]
        if url and all(base.path == path for base in nested):
            yield url, via


def _path_bases(local_media: tuple[tuple[str, Path], ...]) -> Iterator[_Base]:
    for prefix, root in local_media:
        if prefix.startswith("/"):
            for path in path_spellings(prefix):
                yield _Base(path, Via.PATH, root)


def _host_bases(config: AddressSettings, paths: tuple[_Base, ...]) -> Iterator[tuple[str, _Base]]:
    yield from _url_bases(config.public_url, Via.PUBLIC)
    for url in config.aliases:
        yield from _url_bases(url, Via.ALIAS)
    if config.connection is not None:
        yield from _endpoint_bases(config.connection.endpoint_url, config.bucket)
    for prefix, root in config.local_media:
        if not prefix.startswith("/"):
            yield from _url_bases(prefix, Via.PATH, root)
    for host in config.site_hosts:
        for base in paths:
            yield normal_host(host), base


def _url_bases(url: str, via: Via, root: Path | None = None) -> Iterator[tuple[str, _Base]]:
    if url:
        host, path = split_base(url)
        for spelled in path_spellings(path):
            yield host, _Base(spelled, via, root)


def _endpoint_bases(endpoint: str, bucket: str) -> Iterator[tuple[str, _Base]]:
    host, path = split_base(f"{endpoint}/")
    yield host, _Base(f"{path}{bucket}/", Via.ENDPOINT)
    yield f"{bucket}.{host}", _Base(path, Via.ENDPOINT)


def _by_host(pairs: Iterator[tuple[str, _Base]]) -> dict[str, tuple[_Base, ...]]:
    hosts: dict[str, list[_Base]] = {}
    for host, base in pairs:
        hosts.setdefault(host, []).append(base)
    return {
        host: tuple(sorted(bases, key=lambda base: -len(base.path)))
        for host, bases in hosts.items()
    }


def _first_below(rest: str, bases: tuple[_Base, ...]) -> Target | None:
    for base in bases:
        if rest.startswith(base.path):
            return _below(rest[len(base.path) :], base)
    return None


def _below(rest: str, base: _Base) -> Target | None:
    """Return the target of what follows a base in a URL or path; None when nothing does."""
    keys = readings(rest)
    if not keys:
        return None
    if base.root is not None:
        return _local(keys, base.root)
    signed = base.via is Via.ENDPOINT and _SIGNED.search(rest)
    return Target(Kind.BUCKET, Via.PRESIGNED if signed else base.via, keys[0], None, keys[1:])


def _local(paths: tuple[str, ...], root: Path) -> Target | None:
    """Return the file below `root`; None for a path that leads out of it or to no file."""
    first = inside(paths[0])
    if not first:
        return None
    others = dict.fromkeys(inside(path) for path in paths[1:])
    spellings = tuple(path for path in others if path and path != first)
    return Target(Kind.LOCAL, Via.PATH, first, root, spellings)
