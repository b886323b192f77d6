"""Which hosts' URLs name keys, so that the loss of a host's is noticed. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from functools import lru_cache

from r2maint import keys
from r2maint.keys.text import decode, normal_host

_URL = re.compile(
    r"//([^/\s\x00-\x1f\"'<>\\?#%()]{1,255})/([^\s\x00-\x1f\"'<>()\[\]{}|\\^`,;?#]{1,1024})"
)


def count_hosts(text: str, names: Collection[str]) -> Counter[str]:
    """Return host -> how many URLs of it in `text` name one of `names` (identities of keys).

    Only what is plainly a URL counts: it is the number that is compared from run to run.
    """
    hosts: Counter[str] = Counter()
    if not names or "//" not in text:
        return hosts
    for netloc, path in _URL.findall(text):
        if path in names or _names_one(keys.identity(decode(path)), names):
            hosts[_host(netloc)] += 1
    return hosts


def _names_one(path: str, names: Collection[str]) -> bool:
    while True:
        if path in names:
            return True
        _, slash, path = path.partition("/")
        if not slash:
            return False


_host = lru_cache(maxsize=1024)(normal_host)
