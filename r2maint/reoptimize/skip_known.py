"""What is known of each picture before its bytes are read: by the ledger, or by its metadata."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from r2maint.bucket import Bucket, ObjectInfo
from r2maint.control import Control
from r2maint.errors import BucketError, NoSuchKey
from r2maint.images import Recipe
from r2maint.reoptimize.ledger import BATCH, BROKEN, Ledger, Record
from r2maint.reoptimize.result import ReoptimizeAction, ReoptimizeItem
from r2maint.reoptimize.select import Selected
from r2maint.scratch.batches import batched

_HASHED = re.compile(r"(?<![0-9a-f])[0-9a-f]{16}(?![0-9a-f])")
"""What every key has that r2maint makes."""


def look(
    selected: Iterable[Selected], ledger: Ledger, bucket: Bucket, control: Control
) -> Iterator[ReoptimizeItem]:
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
            item = ReoptimizeItem(selected=each, action=ReoptimizeAction.CONVERT)
            record = known.get(item.key)
            if each.reason:
                yield replace(
                    item, action=ReoptimizeAction.SKIP, reason=each.reason, detail=each.detail
                )
            elif record is not None:
                yield settled(item, record)
            elif _HASHED.search(item.key):
                answer = next(heads)
                yield judged(item, answer.error, answer.value, ledger)
            else:
                yield item


def judged(
    item: ReoptimizeItem, error: BucketError | None, info: ObjectInfo | None, ledger: Ledger
) -> ReoptimizeItem:
    """Return the item, left if what a HEAD or GET says of its object is reason enough."""
    if isinstance(error, NoSuchKey):
        return replace(item, action=ReoptimizeAction.SKIP, reason="gone")
    if info is None:
        return replace(item, action=ReoptimizeAction.FAIL, reason=error.code if error else "failed")
    if info.etag != item.selected.object.etag:
        return replace(item, action=ReoptimizeAction.SKIP, reason="changed")
    record = replace(Record.told_by(info), key=item.key)
    if record.fingerprint or _HASHED.search(item.key):
        ledger.note(record)
    return settled(item, record)


def settled(item: ReoptimizeItem, record: Record) -> ReoptimizeItem:
    """Return the item, left if its recipe would change nothing of what is recorded."""
    if not is_settled(record, item.selected.recipe, item.bytes_before):
        return item
    return left(item, record.reason)


def left(item: ReoptimizeItem, reason: str) -> ReoptimizeItem:
    """Return the item as one whose object stays for a reason of its own."""
    return replace(
        item,
        action=ReoptimizeAction.FAIL if reason in BROKEN else ReoptimizeAction.SKIP,
        reason=reason,
    )


_RANK = {"webp": 0, "avif": 1, "auto": 2}
"""Formats by what they save: what one of them made is not made anew by one before it."""
_OF_BYTES = frozenset(
    (
        *("animated", "corrupt", "empty", "several_pages", "too_large", "too_many_pixels"),
        "unsupported",
    )
)
"""Reasons of what the bytes are, whatever quality or size is asked for."""
_SMALL_ALREADY = frozenset(("already_webp", "already_avif"))
_FINGERPRINT = re.compile(
    r"(?P<version>\d+) (?P<to>\w+) q(?P<quality>\d+) m(?P<method>\d+)"
    r" (?:any|(?P<width>\d+)x(?P<height>\d+)) max(?P<limit>\d+) ssim(?P<least>\S*)"
    r" (?P<encoders>pillow/.*)"
)


def is_settled(record: Record, recipe: Recipe, size: int) -> bool:
    """Tell whether `recipe` would change nothing of what is recorded of an object of `size` bytes.

    What a recipe made is made anew by a stronger one alone: a format that saves more, a lower
    quality or floor of similarity, a box or a limit it exceeds; never because of another encoder.
    What was left is tried again wherever the new recipe may come to another end.
    """
    now, maker = _Parameters.read(recipe.fingerprint), _Parameters.read(record.made_by)
    if now and maker and not _is_stronger(now, maker, record, size):
        return True
    earlier = _Parameters.read(record.fingerprint)
    if now is None or earlier is None:
        return record.fingerprint == recipe.fingerprint
    if record.reason in _OF_BYTES:
        return now.outset == earlier.outset
    if record.reason in _SMALL_ALREADY:
        within = not now.limit or size <= now.limit
        return now.version == earlier.version and within and _fits(record, now.box)
    return _ends_alike(now, earlier, record, recipe)


@dataclass(frozen=True, slots=True)
class _Parameters:
    """What a fingerprint tells of its recipe."""

    version: str
    to: str
    encoders: str
    method: str
    quality: int
    box: tuple[int, int] | None
    limit: int
    least: float | None

    @classmethod
    def read(cls, fingerprint: str) -> _Parameters | None:
        found = _FINGERPRINT.fullmatch(fingerprint)
        if found is None or found["to"] not in _RANK:
            return None
        return cls(
            version=found["version"],
            to=found["to"],
            encoders=found["encoders"],
            method=found["method"],
            quality=int(found["quality"]),
            box=(int(found["width"]), int(found["height"])) if found["width"] else None,
            limit=int(found["limit"]),
            least=float(found["least"]) if found["least"] else None,
        )

    @property
    def outset(self) -> tuple[str, ...]:
        return self.version, self.to, self.encoders


def _is_stronger(now: _Parameters, earlier: _Parameters, record: Record, size: int) -> bool:
    lowers = now.least is not None and (earlier.least is None or now.least < earlier.least)
    return (
        _RANK[now.to] > _RANK[earlier.to]
        or now.quality < earlier.quality
        or 0 < now.limit < size
        or (lowers and now.to == "auto")
        or not (_fits(record, now.box) or _holds(now.box, earlier.box))
    )


def _ends_alike(now: _Parameters, earlier: _Parameters, record: Record, recipe: Recipe) -> bool:
    """Tell whether a picture that was left for what came of it would be left again."""
    is_same = (now.outset, now.method, now.limit, now.least) == (
        *(earlier.outset, earlier.method, earlier.limit, earlier.least),
    )
    same_box = now.box == earlier.box or (_fits(record, now.box) and _fits(record, earlier.box))
    if record.reason != "not_smaller":
        return is_same and same_box and now.quality == earlier.quality
    # Bytes that were too many do not become fewer at a higher quality; a limit lowers it again.
    same_quality = now.quality == earlier.quality
    no_fewer = same_quality or (now.quality > earlier.quality and not now.limit)
    return is_same and same_box and no_fewer and recipe.min_saving_percent >= record.min_saving


def _fits(record: Record, box: tuple[int, int] | None) -> bool:
    """Tell whether the recorded picture is known to be within a box, turned or not."""
    if box is None:
        return True
    sides = (record.width, record.height)
    within = 0 < sides[0] <= box[0] and 0 < sides[1] <= box[1]
    return within and (bool(record.made_by) or (sides[1] <= box[0] and sides[0] <= box[1]))


def _holds(box: tuple[int, int] | None, other: tuple[int, int] | None) -> bool:
    if box is None or other is None:
        return box is None
    return other[0] <= box[0] and other[1] <= box[1]
