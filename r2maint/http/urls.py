"""URLs as they go over the wire, and the places they lead to. Pure."""

from __future__ import annotations

import re
from contextlib import suppress
from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from r2maint.keys.text import normal_host

Site = tuple[str, int]
"""Host and port."""
PORTS = {"http": 80, "https": 443}
_SAFE = "!#$%&'()*+,/:;=?@[]~"
"""What a URL may hold unescaped, and "%" of what is escaped already (RFC 3986 §2)."""


def split_url(url: str) -> SplitResult | None:
    """Return the parts of a URL, None for one that cannot be read."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts


def place_of(url: str) -> Site | None:
    """Return (host, port) of an http(s) URL, as hosts are compared; None for any other text."""
    origin = _ORIGIN.match(url)
    return _place_of_origin(origin[0] if origin else url)


def plain_place(url: str) -> Site | None:
    """Return the place of a URL that names it with no more than scheme, host and port."""
    origin = _ORIGIN.match(url)
    return _place_of_origin(origin[0]) if origin else None


# Plain enough to mean the same without the rest; one of a few, where URLs are many.
_ORIGIN = re.compile(r"[a-z]+://[\w.:-]+(?=/)", re.ASCII)


@lru_cache(maxsize=1024)
def _place_of_origin(url: str) -> Site | None:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        if "[" in parts.netloc:
            ip_address((host or "").partition("%")[0])  # older Pythons take anything in brackets
    except ValueError:
        return None
    if not host or parts.scheme not in PORTS:
        return None
    return plain_host(host), port or PORTS[parts.scheme]


def plain_host(hostname: str) -> str:
    """Return a host without port as hosts are compared."""
    return hostname if ":" in hostname else normal_host(hostname)


def as_sent(url: str) -> str:
    """Return a URL as it goes over the wire: host in IDNA, the rest percent-encoded ASCII.

    Raises: ValueError for one that cannot be read.
    """
    parts = urlsplit(url)
    if not parts.netloc.isascii():
        userinfo, at, _ = parts.netloc.rpartition("@")
        port = f":{parts.port}" if parts.port else ""
        host = plain_host(parts.hostname or "")
        parts = parts._replace(netloc=f"{userinfo}{at}{host}{port}")
    return quote(parts._replace(fragment="").geturl(), safe=_SAFE)


def redirected(url: str, location: str) -> str:
    """Return where a Location header leads from a URL; the header as it is if nowhere.

    Its bytes, read as Latin-1, mostly are UTF-8.
    """
    with suppress(UnicodeError):
        location = location.encode("latin-1").decode()
    try:
        return as_sent(urljoin(url, location))
    except ValueError:
        return location
