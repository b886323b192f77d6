"""Which addresses may be fetched from: public ones, and hosts that a setting names. Pure.

The decision falls where libcurl opens a socket, on the address it is about to connect to, so no
spelling of a URL, no redirect and no name server that changes its mind gets round it.
Source: https://www.iana.org/assignments/iana-ipv4-special-registry (and ipv6).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING

from r2maint.http.urls import PORTS, place_of, plain_host, plain_place, split_url

if TYPE_CHECKING:
    from r2maint.conf import Config

Address = IPv4Address | IPv6Address
NOT_HTTP = "it is no http(s) URL"
_CARRIERS = (
    (ip_network("::ffff:0:0/96"), 0),  # IPv4-mapped, RFC 4291
    (ip_network("64:ff9b::/96"), 0),  # NAT64, RFC 6052
    (ip_network("2002::/16"), 80),  # 6to4, RFC 3056
)
"""Networks whose addresses stand for an IPv4 address, and how many bits follow it."""
_NEVER = tuple(
    ip_network(text)
    for text in (
        *("0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15"),
        *("240.0.0.0/4", "64:ff9b:1::/48", "100::/64", "2001::/23", "3fff::/20", "5f00::/16"),
        "fec0::/10",
    )
)
"""What is not the public internet, whether or not this Python's `is_global` knows it."""


@dataclass(frozen=True, slots=True)
class Guard:
    """Tells which URLs and addresses may be fetched from."""

    private: frozenset[tuple[str, int]] = frozenset()
    """(host, port) that may have private addresses."""

    @classmethod
    def from_config(cls, config: Config) -> Guard:
        """Allow the hosts of PUBLIC_URL, ALIASES, ENDPOINT_URL, SITE_HOSTS and FETCH_ALLOW.

        A URL allows its own port; a bare host allows 80 and 443.
        """
        endpoint = config.connection.endpoint_url if config.connection else ""
        urls = (config.public_url, *config.aliases, endpoint)
        hosts = (*config.site_hosts, *config.fetch_allow)
        named = [place for url in urls if url for place in _places_of_url(url)]
        return cls(frozenset(named + [place for host in hosts for place in _places(host)]))

    def objection(self, url: str) -> str:
        """Return why a URL must not be asked for at all, "" if it may."""
        if plain_place(url):
            return ""
        parts = split_url(url)
        if parts is None or parts.scheme not in PORTS or not parts.hostname:
            return NOT_HTTP
        if "@" in parts.netloc:
            return "it holds credentials"
        return ""

    def admits(self, url: str, address: str) -> bool:
        """Tell whether `address` may be connected to for `url`."""
        place = place_of(url)
        return is_public(address) or (place is not None and place in self.private)


def is_public(address: str) -> bool:
    """Tell whether an IP address is on the public internet; what cannot be read is not."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return _is_global(_meant(found))


def _is_global(address: Address) -> bool:
    special = address.is_multicast or address.is_reserved or address.is_unspecified
    if special or any(address in network for network in _NEVER):
        return False
    return address.is_global


def _meant(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address stands for, any other address itself."""
    for network, shift in _CARRIERS:
        if address in network:
            return IPv4Address(int(address) >> shift & 0xFFFFFFFF)
    return address


def _places_of_url(url: str) -> Iterator[tuple[str, int]]:
    if place := place_of(url):
        yield place


def _places(host: str) -> Iterator[tuple[str, int]]:
    """Yield the places that "host" or "host:port" means."""
    parts = split_url(f"//{host}")
    if parts is not None and parts.hostname:
        ports = (parts.port,) if parts.port else tuple(PORTS.values())
        for port in ports:
            yield plain_host(parts.hostname), port
