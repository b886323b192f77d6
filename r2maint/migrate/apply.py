"""Carries a planned migration out: upload, verify, rewrite, batch by batch.

Bytes are hashed again as they are sent, the server checks them, and only then do rows change: by
compare-and-swap, journalled. While one batch is being rewritten the next one is under way. Nothing
local is removed, nothing in the bucket is overwritten.
"""

from __future__ import annotations

import tempfile
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from r2maint.bucket import Bucket, Headers, ObjectInfo, Result, Upload
from r2maint.bucket.r2_limits import is_md5
from r2maint.conf import Config
from r2maint.control import Control
from r2maint.errors import BucketError, PreconditionFailed, Stopped
from r2maint.http import Limiter
from r2maint.journal.entries import Entry
from r2maint.journal.journal import Journal
from r2maint.keys import Addresses
from r2maint.local_files.read_file import is_as_it_was, md5_of
from r2maint.migrate.plan import make_namer
from r2maint.migrate.prepare import Preparer, Ready
from r2maint.migrate.result import Migration, MigrationAction, MigrationItem, count_item
from r2maint.migrate.still_named import MovedSources
from r2maint.models import ChangeKind, ChangeState
from r2maint.references.edit_cell import Swapped
from r2maint.references.reference import Reference
from r2maint.references.rewrite import swap
from r2maint.references.rewrite_row import RewriteOutcome
from r2maint.references.scope import Scope
from r2maint.scratch.spool import Spool

BATCH = 500
"""Sources uploaded before their rows are rewritten."""
OPEN_WEIGHT = 10
"""As so many others one counts that is to be fetched or re-encoded: a stop loses what was made of
the sources whose rows do not follow yet."""

Sent = list[Result[Upload, ObjectInfo]]


class _UnderWay(NamedTuple):
    """A batch whose uploads were handed over."""

    batch: list[Ready]
    entries: list[Entry]
    sent: Future[Sent]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mover:
    """Moves batches of sources, each one sent while the rows of the one before it follow."""

    bucket: Bucket
    journal: Journal
    control: Control
    preparer: Preparer
    is_over: threading.Event = field(default_factory=threading.Event)
    """Set when nobody waits for uploads any more."""

    def moved(self, items: Iterable[MigrationItem]) -> Iterator[MigrationItem]:
        """Yield every item as it ended. Raises `Stopped` once the uploads under way have ended."""
        pool = ThreadPoolExecutor(1, thread_name_prefix="r2maint-upload")
        before: _UnderWay | None = None
        try:
            for batch in _batches(items):
                try:
                    self.control.check()
                    ready = list(self.preparer.ready(batch))
                except Stopped:
                    break
                begun = self._begin(ready, pool)
                if before:
                    yield from self._finish(before)
                before = begun
            if before:
                yield from self._finish(before)
            self.control.check()
        finally:
            self.is_over.set()
            pool.shutdown(cancel_futures=True)

    def _begin(self, batch: list[Ready], pool: ThreadPoolExecutor) -> _UnderWay:
        """Hand over a batch's uploads.

        The journal names source and key before any byte is sent: so no purge takes an object whose
        rows are still to be rewritten, and a later run finds the key again.
        """
        sending = [each for each in batch if each.body is not None]
        entries = [
            Entry(
                kind=ChangeKind.UPLOAD,
                old=each.item.source,
                key=each.item.key,
                sha256=each.item.sha256,
                bytes=each.item.bytes,
            )
            for each in sending
        ]
        self.journal.intend(entries)
        sent = pool.submit(lambda: list(self.bucket.put_many(self._uploads(sending))))
        return _UnderWay(batch, entries, sent)

    def _uploads(self, sending: Iterable[Ready]) -> Iterator[Upload]:
        """Yield uploads until a stop: a batch of large files takes longer than anybody waits."""
        for each in sending:
            if self.is_over.is_set() or self.control.stop():
                return
            yield _upload(each)

    def _finish(self, under_way: _UnderWay) -> Iterator[MigrationItem]:
        """Settle a batch's uploads, prove what is reused, and point the rows at what is stored."""
        ended = list(_ended(under_way))
        sent = [item for each, item in ended if each.body is not None]
        # What a stop left unsent comes last.
        pairs = list(zip(sent, under_way.entries, strict=False))
        for wanted, state in ((True, ChangeState.DONE), (False, ChangeState.CONFLICT)):
            done = [
                entry for item, entry in pairs if (item.action is MigrationAction.UPLOAD) is wanted
            ]
            self.journal.settle(done, state)
        for each in under_way.batch:
            if each.body is not None and each.body.parent == self.preparer.directory:
                each.body.unlink(missing_ok=True)
        unchanged = [_unless_changed(item) for _, item in ended]
        yield from self._rewrite(_proved(unchanged, self.bucket))

    def _rewrite(self, items: Sequence[MigrationItem]) -> Iterator[MigrationItem]:
        """Point the rows at what is stored; yield each item with the rewrites that were done.

        A stop leaves the rest of them to the next run.
        """
        wanted = [rewrite for item in items for rewrite in item.rewrites]
        outcomes: dict[Reference, RewriteOutcome] = {}
        with suppress(Stopped):
            for outcome in swap(wanted, self.journal, control=self.control):
                outcomes[outcome.rewrite.reference] = outcome
        yield from (_swapped(item, outcomes) for item in items)


def _batches(items: Iterable[MigrationItem]) -> Iterator[list[MigrationItem]]:
    """Yield the items in batches that take about the same time each."""
    batch: list[MigrationItem] = []
    weight = 0
    for item in items:
        batch.append(item)
        weight += OPEN_WEIGHT if item.is_open else 1
        if weight >= BATCH:
            yield batch
            batch, weight = [], 0
    if batch:
        yield batch


def apply_migration(
    plan: Migration,
    config: Config,
    addresses: Addresses,
    bucket: Bucket,
    journal: Journal,
    *,
    scope: Scope,
    control: Control,
) -> Migration:
    """Upload, then rewrite, batch by batch; return what happened.

    A stop request ends it between two batches; the next run takes up the rest. Afterwards the rows
    in scope are read once more for values that still name what was moved.
    Raises: BucketError and DatabaseError that every further item would meet too; LeaseHeld.
    """
    counts, stops = Counter[str](), list[Stopped]()
    namer = make_namer(config, addresses, scope)
    with MovedSources() as sources, tempfile.TemporaryDirectory(prefix="r2maint-") as directory:
        preparer = Preparer(
            namer=namer,
            bucket=bucket,
            directory=Path(directory),
            control=control,
            limiter=Limiter(control.rate),
        )
        mover = _Mover(bucket=bucket, journal=journal, control=control, preparer=preparer)
        moved = _until_stopped(mover, plan, control, stops)
        items = Spool.of(_counted(moved, counts, sources))
        if not stops:
            try:
                still = sources.count_still_named(namer, scope, control=control)
            except Stopped as stop:
                stops.append(stop)
            else:
                counts["still_named"] = still
    for name in _PLANNED:
        counts[name] = plan.counts[name]
    stopped = stops[0] if stops else None
    return replace(plan, items=items, counts=counts, applied=True, stopped=stopped)


_PLANNED = ("to_upload", "to_rewrite", "embedded_left", "private_left", "external_left")


def _until_stopped(
    mover: _Mover, plan: Migration, control: Control, stops: list[Stopped]
) -> Iterator[MigrationItem]:
    size = 0 if plan.forecast.unknown else plan.counts["bytes"]
    with control.progress(len(plan.items), "Migrating", "file", size) as advance:
        try:
            for item in mover.moved(plan.items):
                advance(1, item.bytes if item.action is MigrationAction.UPLOAD else 0)
                yield item
        except Stopped as stop:
            stops.append(stop)


def _counted(
    items: Iterable[MigrationItem], counts: Counter[str], sources: MovedSources
) -> Iterator[MigrationItem]:
    for item in items:
        sources.add(item)
        yield count_item(counts, item, applied=True)


def _upload(each: Ready) -> Upload:
    item, body = each
    assert body is not None
    headers = Headers(
        content_type=item.content_type,
        cache_control=item.cache_control,
        metadata={"sha256": item.sha256, **item.marks},
    )
    return Upload(key=item.key, body=body, headers=headers, sha256=item.sha256)


def _ended(under_way: _UnderWay) -> Iterator[tuple[Ready, MigrationItem]]:
    """Yield what was ready and how it ended, without what a stop left unsent."""
    results = iter(under_way.sent.result())
    for each in under_way.batch:
        if each.body is None:
            yield each, each.item
        elif result := next(results, None):
            yield each, _sent(each.item, result.error)


def _sent(item: MigrationItem, error: BucketError | None) -> MigrationItem:
    if error is None:
        return item
    if isinstance(error, PreconditionFailed):
        return replace(item, action=MigrationAction.REUSE)
    return _failed(item, error.code)


def _proved(items: Sequence[MigrationItem], bucket: Bucket) -> list[MigrationItem]:
    """Fail every reused key that does not hold the item's bytes at this moment."""
    reused = [item.key for item in items if item.action is MigrationAction.REUSE]
    heads = iter(bucket.head_many(reused))
    return [
        _proof(item, next(heads).value) if item.action is MigrationAction.REUSE else item
        for item in items
    ]


def _proof(item: MigrationItem, stored: ObjectInfo | None) -> MigrationItem:
    if stored is None:
        return _failed(item, "gone")
    return item if _holds(stored, item) else _failed(item, "key_taken")


def _holds(stored: ObjectInfo, item: MigrationItem) -> bool:
    """Tell whether an object is the item's source: by MD5 where its ETag is one, else by SHA-256.

    Of bytes that are in no local file the recorded SHA-256 alone tells.
    """
    if stored.size != item.bytes:
        return False
    if is_md5(stored.etag) and not (item.is_remote or item.recipe):
        return stored.etag == md5_of(item.source)
    return stored.headers.metadata.get("sha256") == item.sha256


def _unless_changed(item: MigrationItem) -> MigrationItem:
    """Fail an item whose file was written again: rows must go on naming the newer bytes."""
    is_stored = item.action in (MigrationAction.UPLOAD, MigrationAction.REUSE)
    if not is_stored or item.is_remote or not item.modified_ns:
        return item
    size = item.bytes if item.recipe is None else None
    if not is_as_it_was(item.source, size=size, modified_ns=item.modified_ns):
        return _failed(item, "changed")
    return item


def _failed(item: MigrationItem, reason: str) -> MigrationItem:
    return replace(item, action=MigrationAction.FAIL, reason=reason, rewrites=())


def _swapped(item: MigrationItem, outcomes: Mapping[Reference, RewriteOutcome]) -> MigrationItem:
    """Return the item with what was done; rewrites a stop left undone count as nothing."""
    if not item.rewrites:
        return item
    ended = [outcomes[r.reference] for r in item.rewrites if r.reference in outcomes]
    done = tuple(each.rewrite for each in ended if each.how is Swapped.DONE)
    if len(done) == len(item.rewrites):
        return item
    changed = sum(each.how in (Swapped.CHANGED, Swapped.GONE) for each in ended)
    refused = [each for each in ended if each.how in _REFUSED]
    reason = refused[0].reason if refused else item.reason
    return replace(item, rewrites=done, changed=changed, refused=len(refused), reason=reason)


_REFUSED = (Swapped.TOO_LONG, Swapped.BUSY, Swapped.REFUSED)
