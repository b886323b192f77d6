"""Store smaller versions of the pictures rows name, and point every reference at them.

A new version gets a key of its own beside the old one; the old object stays, becomes an orphan, and
is what an undo goes back to. A picture is skipped before it is encoded when any of its references
could not be written. A concurrent edit of one reference wins and leaves the others to follow.
"""

from __future__ import annotations

import hashlib
import heapq
import os
from collections import Counter, deque
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain

from r2maint.batching import batched
from r2maint.bucket import (
    IMMUTABLE,
    Bucket,
    Headers,
    ObjectInfo,
    Upload,
    head,
    put,
)
from r2maint.conf import Config
from r2maint.control import Control
from r2maint.entries import Entry
from r2maint.errors import BucketError, NoSuchKey, PreconditionFailed, Stopped, UsageError
from r2maint.images import (
    RECIPE_KEY,
    SOURCE_KEY,
    Encoded,
    ImageError,
    Job,
    Recipe,
    Skip,
    can_write,
    reencode_many,
)
from r2maint.journal import Journal
from r2maint.keys import Addresses
from r2maint.models import ChangeKind, ChangeState
from r2maint.pricing import load_prices
from r2maint.references.columns import Scope
from r2maint.references.swap import Swapped, swap
from r2maint.reoptimize.items import Action, Item, Reoptimization, Version, count_items
from r2maint.reoptimize.selection import Selected, Writer, iter_selected, make_writer
from r2maint.spool import Spool

SAMPLE = 20
"""Pictures a plan encodes."""
_HEADS = 1000
_BROKEN = {"corrupt", "empty", "crashed", "encoder_failed", "out_of_memory", "too_slow"}
"""Reasons that are findings; the others only say that nothing is to be gained."""

__all__ = [
    "SAMPLE",
    "Action",
    "Item",
    "Reoptimization",
    "apply_reoptimize",
    "plan_reoptimize",
]


# Planning


def plan_reoptimize(
    config: Config,
    addresses: Addresses,
    bucket: Bucket,
    *,
    scope: Scope,
    control: Control,
    recipe: Recipe | None = None,
    overrides: Collection[str] = (),
    sample: int = SAMPLE,
    processes: bool = True,
) -> Reoptimization:
    """Return which pictures would be re-encoded, and what a sample of them says it would save.

    One LIST per 1,000 objects, one HEAD per picture, one GET per sampled one. `overrides` names the
    parameters of `recipe` ("to", "max_size") that win over `FIELDS`. The `limit` of `scope` is the
    number of pictures converted. Raises: UsageError, DatabaseError, BucketError, Stopped.
    """
    recipe = recipe or Recipe()
    if not can_write(recipe.to):
        raise UsageError(
            f"This Pillow cannot write the format: {recipe.to!r}.", "Install Pillow 11.3 or newer."
        )
    writer, stored = make_writer(config, addresses), Counter[str]()
    selected = iter_selected(
        config,
        writer,
        bucket,
        scope=scope,
        recipe=recipe,
        overrides=overrides,
        stored=stored,
        control=control,
    )
    looked_at = Spool.of(_look(selected, bucket, control))
    chosen = _sample(looked_at, sample)
    with closing(_encode(chosen, bucket, control, processes)) as encoded:
        tracked = control.track(encoded, "Encoding a sample", len(chosen), unit="picture")
        tried = {item.key: _measured(item, version, writer) for item, version in tracked}
    items = Spool.of(tried.get(item.key, item) for item in looked_at)
    tally = count_items(items, _remaining_share(tried.values()))
    return Reoptimization(
        items=items,
        tally=tally.limited_to(scope.limit),
        sampled=len(tried),
        scope=scope,
        stored=stored,
        prices=load_prices(config.prices),
        freed_at=bucket.now() + config.undo_window,
    )


def _look(selected: Iterable[Selected], bucket: Bucket, control: Control) -> Iterator[Item]:
    """Yield every picture, skipped where its metadata carry the recipe it would be made with."""
    tracked = control.track(selected, "Looking at pictures", unit="picture")
    for batch in batched(tracked, _HEADS):
        heads = bucket.head_many(each.object.key for each in batch if not each.reason)
        for each in batch:
            item = Item(selected=each, action=Action.CONVERT)
            if each.reason:
                yield replace(item, action=Action.SKIP, reason=each.reason)
            else:
                answer = next(heads)
                yield _judged(item, answer.error, answer.value)


def _judged(item: Item, error: BucketError | None, info: ObjectInfo | None) -> Item:
    """Return the item, settled if what a HEAD or GET says of its object is reason enough."""
    if isinstance(error, NoSuchKey):
        return replace(item, action=Action.SKIP, reason="gone")
    if info is None:
        return replace(item, action=Action.FAIL, reason=error.code if error else "failed")
    if info.etag != item.selected.object.etag:
        return replace(item, action=Action.SKIP, reason="changed")
    if info.headers.metadata.get(RECIPE_KEY) == item.selected.recipe.fingerprint:
        return replace(item, action=Action.SKIP, reason="already")
    return item


def _sample(items: Iterable[Item], size: int) -> list[Item]:
    """Return the candidates whose keys hash lowest: spread evenly, the same ones every time."""
    candidates = (item for item in items if item.action is Action.CONVERT)
    return heapq.nsmallest(size, candidates, key=lambda item: _sha256(item.key.encode()))


def _remaining_share(tried: Iterable[Item]) -> float:
    """Return what part of their bytes sampled pictures keep; a skipped one keeps all."""
    measured = [(item.bytes_before, item.bytes_after or item.bytes_before) for item in tried]
    before = sum(before for before, _ in measured)
    return sum(after for _, after in measured) / before if before else 1.0


# Encoding


def _encode(
    items: Iterable[Item], bucket: Bucket, control: Control, processes: bool
) -> Generator[tuple[Item, Version | None], None, None]:
    """Fetch and re-encode; yield each item with its new version, or settled without one.

    Lazy: about twice as many pictures as there are workers are in memory.
    """
    settled: deque[Item] = deque()
    workers = max(1, min(control.workers, os.cpu_count() or 1))
    jobs = _jobs(items, bucket, settled)
    with closing(reencode_many(jobs, workers=workers, processes=processes)) as results:
        for finished in results:
            item, source, sha256 = finished.label
            if isinstance(finished.result, Encoded):
                yield (
                    item,
                    Version(
                        encoded=finished.result,
                        source=source,
                        source_sha256=sha256,
                        fingerprint=item.selected.recipe.fingerprint,
                    ),
                )
            else:
                yield _unencoded(item, finished.result), None
            while settled:
                yield settled.popleft(), None
    while settled:
        yield settled.popleft(), None


def _jobs(
    items: Iterable[Item], bucket: Bucket, settled: deque[Item]
) -> Iterator[Job[tuple[Item, ObjectInfo, str]]]:
    asked: deque[Item] = deque()

    def keys() -> Iterator[str]:
        for item in items:
            asked.append(item)
            yield item.key

    for answer in bucket.get_many(keys()):
        found = answer.value
        item = _judged(asked.popleft(), answer.error, found.info if found else None)
        if found is None or item.action is not Action.CONVERT:
            settled.append(item)
        else:
            yield Job((item, found.info, _sha256(found.body)), found.body, item.selected.recipe)


def _unencoded(item: Item, result: Skip | ImageError) -> Item:
    failed = isinstance(result, ImageError) and result.reason in _BROKEN
    return replace(item, action=Action.FAIL if failed else Action.SKIP, reason=result.reason)


def _measured(item: Item, version: Version | None, writer: Writer) -> Item:
    """Return the item with what its new version would be, or is."""
    if version is None:
        return item
    encoded = version.encoded
    sha256 = _sha256(encoded.body)
    return replace(
        item,
        new_key=writer.new_key(item.selected, sha256=sha256, ext=encoded.type.ext),
        format=encoded.type.content_type,
        bytes_after=len(encoded.body),
        ssim=encoded.ssim,
    )


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# Applying


def apply_reoptimize(
    plan: Reoptimization,
    config: Config,
    addresses: Addresses,
    bucket: Bucket,
    journal: Journal,
    *,
    control: Control,
    processes: bool = True,
) -> Reoptimization:
    """Upload new versions, then rewrite every reference to each; return what happened.

    A stop request ends it between two pictures; the next run takes up the rest.
    Raises: BucketError and DatabaseError that every further item would meet too; LeaseHeld.
    """
    writer = make_writer(config, addresses)
    stops: list[Stopped] = []
    candidates = (item for item in plan.items if item.action is Action.CONVERT)
    settled = (item for item in plan.items if item.action is not Action.CONVERT)
    converter = _Converter(writer=writer, bucket=bucket, journal=journal, control=control)
    with closing(_encode(candidates, bucket, control, processes)) as encoded:
        done = _until_limit(converter.convert(encoded), plan, control, stops)
        items = Spool.of(chain(settled, done))
    tally = count_items(items)
    return replace(
        plan,
        items=items,
        tally=replace(tally, candidates=plan.tally.candidates),
        converted=tally.candidates,
        applied=True,
        freed_at=bucket.now() + config.undo_window,
        stopped=stops[0] if stops else None,
    )


def _until_limit(
    items: Iterator[Item], plan: Reoptimization, control: Control, stops: list[Stopped]
) -> Iterator[Item]:
    left = plan.scope.limit
    tracked = control.track(items, "Re-encoding", plan.tally.candidates, unit="picture")
    try:
        for item in tracked if left != 0 else ():
            yield item
            if left is not None and item.action is Action.CONVERT:
                left -= 1
                if not left:
                    return
    except Stopped as stop:
        stops.append(stop)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Converter:
    """Stores new versions and points rows at them, one picture after the other."""

    writer: Writer
    bucket: Bucket
    journal: Journal
    control: Control

    def convert(self, encoded: Iterable[tuple[Item, Version | None]]) -> Iterator[Item]:
        for item, version in encoded:
            if version is None:
                yield item
            else:
                self.control.check()
                yield self._convert(_measured(item, version, self.writer), version)

    def _convert(self, item: Item, version: Version) -> Item:
        sha256 = _sha256(version.encoded.body)
        reason = self._store(item.new_key, version, sha256)
        if reason:
            return replace(_unmeasured(item), action=Action.FAIL, reason=reason)
        source = head(self.bucket, item.key)
        if source is None or source.etag != version.source.etag:
            # Somebody stored another picture under the old key: rows must go on naming that one.
            reason = "changed" if source else "gone"
            return replace(_unmeasured(item), action=Action.SKIP, reason=reason)
        size = (version.encoded.width, version.encoded.height)
        rewrites = self.writer.rewrites(item.selected, item.new_key, sha256, size)
        return _swapped(
            item, [how for _, how in swap(rewrites, self.journal, control=self.control)]
        )

    def _store(self, key: str, version: Version, sha256: str) -> str:
        """Upload a new version; return why that failed, or "".

        The journal names the key before its bytes are sent, so that no purge takes an object whose
        rows are still to be rewritten.
        """
        body = version.encoded.body
        entry = Entry(kind=ChangeKind.UPLOAD, key=key, sha256=sha256, bytes=len(body))
        self.journal.intend([entry])
        try:
            put(self.bucket, Upload(key=key, body=body, headers=_headers(version, sha256)))
        except PreconditionFailed:
            # A run that was killed before its rows followed, or a twin whose picture is the same.
            if not _holds(head(self.bucket, key), len(body), sha256):
                return "key_taken"
        except BucketError as error:
            if error.ends_run:
                raise
            return error.code
        self.journal.settle([entry], ChangeState.DONE)
        return ""


def _holds(found: ObjectInfo | None, size: int, sha256: str) -> bool:
    return (
        found is not None and found.size == size and found.headers.metadata.get("sha256") == sha256
    )


def _headers(version: Version, sha256: str) -> Headers:
    """Return the old object's own metadata and class, with what is new."""
    old = version.source.headers
    own = {RECIPE_KEY: version.fingerprint, SOURCE_KEY: version.source_sha256}
    return Headers(
        content_type=version.encoded.type.content_type,
        cache_control=IMMUTABLE,
        metadata={**old.metadata, "sha256": sha256, **own},
        storage_class=old.storage_class,
    )


def _swapped(item: Item, outcomes: Sequence[Swapped]) -> Item:
    done = outcomes.count(Swapped.DONE)
    rest = [how for how in outcomes if how is not Swapped.DONE]
    reason = rest[0].value if rest else ""
    if done:
        return replace(item, reason=reason, rewritten=done, kept=len(rest))
    lost = all(how in (Swapped.CHANGED, Swapped.GONE) for how in rest)
    # The new object is an orphan now, for a purge to find.
    return replace(_unmeasured(item), action=Action.SKIP if lost else Action.FAIL, reason=reason)


def _unmeasured(item: Item) -> Item:
    return replace(item, new_key="", format="", bytes_after=None, ssim=None)
