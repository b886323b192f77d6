"""The part of a bucket's listing on which the judgement of a few keys depends."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from unicodedata import normalize

from r2maint.bucket import Bucket, StoredObject
from r2maint.bucket.find import find_stored
from r2maint.keepset.find_keys import MAX_ROOTS
from r2maint.keys import order
from r2maint.object_index.objects import outermost
from r2maint.purge.judge import PurgeJudge
from r2maint.purge.variants.kin import kin_starts
from r2maint.quarantine.manifest import is_own

_LITERAL = re.compile(r"[\x00-\x7f]*?(?=[*?\[]|[^\x00-\x7f]|$)", re.S)


def needs_whole(judge: PurgeJudge) -> bool:
    """Tell whether any key of the bucket may decide about any other one.

    Without a few prefixes under which to look, a text is taken for the longest key it ends with.
    """
    prefixes = judge.prefixes
    return len(prefixes) > MAX_ROOTS or not all(each.endswith("/") for each in prefixes)


def list_neighbours(
    bucket: Bucket, keys: Iterable[str], judge: PurgeJudge
) -> Iterator[list[StoredObject]]:
    """Yield pages of what decides about `keys`, in no order; some objects may come twice.

    Themselves and every longer key that begins like one, which a text may mean in its place; the
    objects they may be renditions of, likewise; and what EXTRA_REFERENCES reads.
    """
    wanted = list(keys)
    for key in wanted:
        yield from _below(bucket, key)
    starts = {start for key in wanted for start in originals(judge, key)}
    stored = find_stored(bucket, starts).objects.values()
    for key in {item.key for item in stored}:
        yield from _below(bucket, key)
    for start in starts:
        yield from _below(bucket, f"{start}.")
    patterns = judge.config.extra_references.objects
    for prefix in outermost(match[0] for each in patterns if (match := _LITERAL.match(each))):
        yield from _below(bucket, prefix)


def originals(judge: PurgeJudge, key: str) -> list[str]:
    """Return every key, with or without its extension, of which `key` may be a rendition or kin."""
    starts: list[str] = []

    def refuse(start: str) -> bool:
        starts.append(start)
        return False

    judge.derivations.is_kept(key, refuse)
    return [*starts, *kin_starts(key)]


def without_own(pages: Iterable[list[StoredObject]]) -> Iterator[list[StoredObject]]:
    """Leave out r2maint's own objects, as a plan does."""
    return ([item for item in page if not is_own(item.key)] for page in pages)


def _below(bucket: Bucket, prefix: str) -> Iterator[list[StoredObject]]:
    # R2 takes both spellings for one; a directory and other S3 servers do not.
    for spelled in sorted({prefix, normalize("NFC", prefix), normalize("NFD", prefix)}, key=order):
        yield from bucket.list_pages(spelled)
