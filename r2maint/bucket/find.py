"""Which of many keys are stored, for as few requests as their neighbourhood allows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from r2maint.bucket.protocol import Bucket, StoredObject
from r2maint.errors import NoSuchKey
from r2maint.keys.text import identity

SPARSE = 8
"""A page that decides fewer keys than this costs more than a HEAD of each: a LIST is Class A, a
HEAD Class B, 12.5 times cheaper."""


class FoundObjects(NamedTuple):
    """What was looked for and is there, and what that took."""

    objects: dict[str, StoredObject]
    """By the key that was asked for."""
    lists: int
    heads: int


def find_stored(bucket: Bucket, keys: Iterable[str]) -> FoundObjects:
    """Return what is stored under each of some thousand keys.

    The sorted keys are looked for in pages of the listing, each of which begins where the next key
    must be and decides every key up to its end; where keys lie far apart, a HEAD asks for each.
    Raises: BucketError.
    """
    wanted = sorted(set(keys))
    objects: dict[str, StoredObject] = {}
    alone = [key for key in wanted if key != identity(key)]
    rest = [key for key in wanted if key == identity(key)]
    lists = 0
    while len(rest) >= SPARSE:
        page, end = _page(bucket, rest[0])
        lists += 1
        decided = [key for key in rest if end is None or key <= end]
        objects |= {key: page[key] for key in decided if key in page}
        rest = rest[len(decided) :]
        if len(decided) < SPARSE:
            few = SPARSE if decided else 1
            alone += rest[:few]
            rest = rest[few:]
    alone += rest
    return FoundObjects(objects | _heads(bucket, alone), lists, len(alone))


def _page(bucket: Bucket, first: str) -> tuple[dict[str, StoredObject], str | None]:
    """Return the page that begins where `first` must be, and the last key it decides.

    None when the listing ends with it. R2 may list another Unicode spelling of a key, in the place
    of its NFC form; of both forms the lesser one is sure to lie on the page.
    """
    page = bucket.list_page(start_after=first[:-1])
    named = {identity(item.key): item for item in page.objects}
    if not page.truncated:
        return named, None
    last = page.objects[-1].key if page.objects else ""
    return named, min(last, identity(last))


def _heads(bucket: Bucket, keys: list[str]) -> dict[str, StoredObject]:
    found: dict[str, StoredObject] = {}
    for result in bucket.head_many(keys):
        if result.value is not None:
            info = result.value
            found[result.request] = StoredObject(
                info.key, info.size, info.etag, info.modified_at, info.headers.storage_class
            )
        elif not isinstance(result.error, NoSuchKey):
            assert result.error is not None
            raise result.error
    return found
