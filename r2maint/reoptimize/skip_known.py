"""What is known of each picture before its bytes are read: by the ledger, or by its metadata."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from r2maint.bucket import Bucket, ObjectInfo
from r2maint.control import Control
from r2maint.errors import BucketError, NoSuchKey
from r2maint.reoptimize.ledger import BATCH, Ledger
from r2maint.reoptimize.records import BROKEN, Record
from r2maint.reoptimize.result import Action, Item
from r2maint.reoptimize.select import Selected
from r2maint.reoptimize.settled import is_settled
from r2maint.scratch.batches import batched

_HASHED = re.compile(r"(?<![0-9a-f])[0-9a-f]{16}(?![0-9a-f])")
"""What every key has that r2maint makes."""


def look(
    selected: Iterable[Selected], ledger: Ledger, bucket: Bucket, control: Control
) -> Iterator[Item]:
    """Yield every picture, left where what is known of it settles that.

    One HEAD for each that the ledger does not know and whose key may be of our making; of others
    the GET tells.
    """
    tracked = control.track(selected, "Looking at pictures", unit="picture")
    for batch in batched(tracked, BATCH):
        undecided = [each for each in batch if not each.reason]
        known = ledger.read([each.object for each in undecided])
        asked = [key for each in undecided if (key := each.object.key) not in known]
        heads = bucket.head_many(filter(_HASHED.search, asked))
        for each in batch:
            item = Item(selected=each, action=Action.CONVERT)
            record = known.get(item.key)
            if each.reason:
                yield replace(item, action=Action.SKIP, reason=each.reason, detail=each.detail)
            elif record is not None:
                yield settled(item, record)
            elif _HASHED.search(item.key):
                answer = next(heads)
                yield judged(item, answer.error, answer.value, ledger)
            else:
                yield item


def judged(item: Item, error: BucketError | None, info: ObjectInfo | None, ledger: Ledger) -> Item:
    """Return the item, left if what a HEAD or GET says of its object is reason enough."""
    if isinstance(error, NoSuchKey):
        return replace(item, action=Action.SKIP, reason="gone")
    if info is None:
        return replace(item, action=Action.FAIL, reason=error.code if error else "failed")
    if info.etag != item.selected.object.etag:
        return replace(item, action=Action.SKIP, reason="changed")
    record = replace(Record.told_by(info), key=item.key)
    if record.fingerprint or _HASHED.search(item.key):
        ledger.note(record)
    return settled(item, record)


def settled(item: Item, record: Record) -> Item:
    """Return the item, left if its recipe would change nothing of what is recorded."""
    if not is_settled(record, item.selected.recipe, item.bytes_before):
        return item
    return left(item, record.reason)


def left(item: Item, reason: str) -> Item:
    """Return the item as one whose object stays for a reason of its own."""
    return replace(item, action=Action.FAIL if reason in BROKEN else Action.SKIP, reason=reason)
