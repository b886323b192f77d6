"""The guard of a listing: one not surely whole and in order is an error, never a shorter list."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from operator import lt
from unicodedata import normalize

from r2maint.bucket.protocol import Page, StoredObject
from r2maint.errors import InvalidListing


def guarded(
    pages: Iterable[Page], prefix: str = "", start_after: str = ""
) -> Iterator[list[StoredObject]]:
    """Yield the objects of each page that has any, as long as the listing can be trusted.

    Order is that of UTF-8 bytes, which is how Python compares strings too. R2 takes the NFC and the
    NFD spelling of a key for one and shows the last one uploaded, so a listing in the order of the
    NFC spellings is in order as well.
    Raises: InvalidListing.
    """
    order = _Order(prefix, start_after)
    tokens: set[int] = set()
    for page in pages:
        order.require([item.key for item in page.objects])
        _require_progress(page, tokens)
        if page.objects:
            yield page.objects


def guarded_page(page: Page, start_after: str) -> Page:
    """Return one page if it can be trusted. Raises: InvalidListing."""
    _Order("", start_after).require([item.key for item in page.objects])
    _require_progress(page, set())
    return page


def _require_progress(page: Page, tokens: set[int]) -> None:
    if not page.truncated:
        return
    if not page.token:
        raise InvalidListing("The listing is cut short: a truncated page has no token.", _HINT)
    # The hash is enough: a false alarm is one in 10^13 at a million pages, and memory stays flat.
    if hash(page.token) in tokens:
        raise InvalidListing("The listing goes in circles: a token was given twice.", _HINT)
    tokens.add(hash(page.token))


class _Order:
    """Strictly increasing keys below one prefix, across pages."""

    def __init__(self, prefix: str, start_after: str) -> None:
        self._prefix = prefix
        self._last = start_after
        self._exact = self._composed = True

    def require(self, keys: list[str]) -> None:
        if not keys:
            return
        line = [self._last, *keys] if self._last else keys
        self._last = keys[-1]
        exact = _increasing(line)
        composed = exact
        if not (exact and all(map(str.isascii, line))):
            composed = _increasing([normalize("NFC", key) for key in line])
        self._exact &= exact
        self._composed &= composed
        if not (self._exact or self._composed):
            raise InvalidListing(f"The listing is out of order: after {_fault(line)!r}.", _HINT)
        self._require_prefix(keys)

    def _require_prefix(self, keys: list[str]) -> None:
        # Between two keys with the prefix, a strictly increasing line has no key without it.
        ends = (keys[0], keys[-1]) if self._exact else keys
        for key in ends:
            if not (key.startswith(self._prefix) or self._starts_composed(key)):
                raise InvalidListing(
                    f"The listing holds a key outside the prefix {self._prefix!r}: {key!r}.", _HINT
                )

    def _starts_composed(self, key: str) -> bool:
        return normalize("NFC", key).startswith(normalize("NFC", self._prefix))


_HINT = "Nothing was decided from it; run the command again."


def _increasing(keys: list[str]) -> bool:
    return all(map(lt, keys, keys[1:]))


def _fault(keys: list[str]) -> str:
    return next((a for a, b in pairwise(keys) if a >= b), keys[-1])
