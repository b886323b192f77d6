"""Types by magic bytes: the beginning of every object is read, and its name not believed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal

from r2maint.bucket import Bucket, StoredObject
from r2maint.images.formats import HEAD_BYTES, sniff
from r2maint.pricing import GB, INFREQUENT_ACCESS, MILLION, STANDARD, Prices, priced_as
from r2maint.rendering import format_count, format_money
from r2maint.usage.groups import type_of


class Sniffer:
    """Gives the types of objects, and tells afterwards what that cost. One Class B request each.

    Text formats have no magic bytes: their names tell, and so where an object cannot be read.
    """

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._asked: Counter[str] = Counter()
        self._read: Counter[str] = Counter()
        """Bytes, by the class they are priced as."""
        self._unlike = 0
        self._failed = 0

    def __call__(self, stored: Sequence[StoredObject]) -> Iterable[str]:
        sizes = {each.key: (each.size, priced_as(each.storage_class)) for each in stored}
        beginnings = self._beginnings({key: size for key, size in sizes.items() if size[0]})
        return [self._type(each.key, beginnings.get(each.key, b"")) for each in stored]

    def _beginnings(self, sizes: dict[str, tuple[int, str]]) -> dict[str, bytes]:
        found = {}
        for result in self._bucket.peek_many(sizes, count=HEAD_BYTES):
            _, priced = sizes[result.request]
            self._asked[priced] += 1
            if result.value is None:
                self._failed += 1
            else:
                self._read[priced] += len(result.value)
                found[result.request] = result.value
        return found

    def _type(self, key: str, beginning: bytes) -> str:
        named, found = type_of(key), sniff(beginning)
        if found is None:
            return named
        told = type_of(found.ext)
        self._unlike += told != named
        return told

    def told(self, prices: Prices) -> tuple[str, ...]:
        """Return what was asked, for how much, and what came of it, in sentences."""
        rates = {STANDARD: prices.standard, INFREQUENT_ACCESS: prices.infrequent_access}
        requests = (rates[name].class_b * count / MILLION for name, count in self._asked.items())
        retrieved = (rates[name].retrieval * size / GB for name, size in self._read.items())
        cost = sum((*requests, *retrieved), Decimal(0))
        asked = format_count(self._asked.total(), "Class B request")
        sentences = [
            f"Types are told by the first bytes: {asked}, ${format_money(cost)} at list price,"
            " before the free tier and Cloudflare's rounding."
        ]
        if self._unlike:
            objects = format_count(self._unlike, "object is", "objects are")
            sentences.append(f"{objects} of another type than the extension of the key tells.")
        if self._failed:
            objects = format_count(self._failed, "object")
            sentences.append(f"{objects} could not be read; their keys tell their types.")
        return tuple(sentences)
