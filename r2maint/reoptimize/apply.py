"""Store smaller versions of the pictures rows name, and point every reference at them.

1. Take the versions a plan encoded, except of pictures replaced since, and encode the rest.
2. Journal the key of each new object, then store it beside the old one: a key of its own.
3. Look at the old object once more; if it changed, leave its rows.
4. Rewrite all references to it in one transaction, or none: a concurrent edit of one leaves all of
   them to the next run.
5. Write down what was made, so that no later run encodes it again.

The old object stays, becomes an orphan, and is what an undo goes back to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain

from r2maint.bucket import IMMUTABLE, Bucket, Headers, ObjectInfo, Upload, head, put
from r2maint.bucket.clock import writers_time
from r2maint.conf import Config
from r2maint.control import Control
from r2maint.errors import BucketError, PreconditionFailed, Stopped
from r2maint.images import RECIPE_KEY, SOURCE_KEY
from r2maint.journal.entries import Entry
from r2maint.journal.journal import Journal
from r2maint.keys import Addresses
from r2maint.models import ChangeKind, ChangeState
from r2maint.references.edit_cell import Swapped
from r2maint.references.rewrite import swap_all
from r2maint.reoptimize.encode import Trial, Tried, sha256_of, unmeasured
from r2maint.reoptimize.ledger import ALREADY, Ledger, Record
from r2maint.reoptimize.result import (
    Reoptimization,
    ReoptimizeAction,
    ReoptimizeItem,
    Version,
    count_items,
)
from r2maint.reoptimize.select import make_writer
from r2maint.scratch.spool import Spool


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
    with Ledger(bucket.name) as ledger:
        trial = Trial(
            bucket=bucket,
            writer=writer,
            ledger=ledger,
            control=control,
            processes=processes,
            python=config.python,
        )
        converter = _Converter(trial=trial, journal=journal)
        with closing(trial.run(_untried(plan))) as encoded:
            done = converter.convert(chain(converter.unchanged(plan.versions), encoded))
            rest = (item for item in plan.items if item.action is not ReoptimizeAction.CONVERT)
            items = Spool.of(chain(rest, _until_limit(done, plan, control, stops)))
    tally = count_items(items)
    return replace(
        plan,
        items=items,
        tally=replace(tally, candidates=plan.tally.candidates),
        converted=tally.candidates,
        applied=True,
        freed_at=writers_time(bucket) + config.undo_window,
        stopped=stops[0] if stops else None,
        unremembered=ledger.unremembered,
    )


def _untried(plan: Reoptimization) -> Iterator[ReoptimizeItem]:
    """Yield what is to be converted and has no version yet."""
    tried = {item.key for item, _ in plan.versions}
    candidates = (item for item in plan.items if item.action is ReoptimizeAction.CONVERT)
    return (item for item in candidates if item.key not in tried)


def _until_limit(
    items: Iterator[ReoptimizeItem], plan: Reoptimization, control: Control, stops: list[Stopped]
) -> Iterator[ReoptimizeItem]:
    left = plan.scope.limit
    tracked = control.track(items, "Re-encoding", plan.tally.candidates, unit="picture")
    try:
        for item in tracked if left != 0 else ():
            yield item
            if left is not None and item.action is ReoptimizeAction.CONVERT:
                left -= 1
                if not left:
                    return
    except Stopped as stop:
        stops.append(stop)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Converter:
    """Stores new versions and points rows at them, one picture after the other."""

    trial: Trial
    journal: Journal

    def unchanged(self, planned: Iterable[Tried]) -> Iterator[Tried]:
        """Yield the versions a plan made; none of what was replaced since."""
        for item, version in planned:
            if version is None:
                continue
            reason = self._lost(item, version)
            if reason:
                yield replace(unmeasured(item), action=ReoptimizeAction.SKIP, reason=reason), None
            else:
                yield item, version

    def convert(self, tried: Iterable[Tried]) -> Iterator[ReoptimizeItem]:
        for item, version in tried:
            if version is None:
                yield item
            else:
                self.trial.control.check()
                yield self._convert(item, version)

    def _convert(self, item: ReoptimizeItem, version: Version) -> ReoptimizeItem:
        sha256 = sha256_of(version.encoded.body)
        stored = self._store(item.new_key, version, sha256)
        if isinstance(stored, str):
            return replace(unmeasured(item), action=ReoptimizeAction.FAIL, reason=stored)
        if reason := self._lost(item, version):
            return replace(unmeasured(item), action=ReoptimizeAction.SKIP, reason=reason)
        size = (version.encoded.width, version.encoded.height)
        rewrites = self.trial.writer.rewrites(item.selected, item.new_key, sha256, size)
        how = swap_all(rewrites, self.journal, control=self.trial.control)
        if how is Swapped.DONE:
            self.trial.ledger.note(_made(item, version, stored))
            return replace(item, rewritten=len(rewrites))
        # The new object is an orphan now, for the next run to use or a purge to find.
        is_lost = how in (Swapped.CHANGED, Swapped.GONE)
        action = ReoptimizeAction.SKIP if is_lost else ReoptimizeAction.FAIL
        return replace(unmeasured(item), action=action, reason=how.value)

    def _lost(self, item: ReoptimizeItem, version: Version) -> str:
        """Return why rows must go on naming the old key: somebody stored other bytes there."""
        source = head(self.trial.bucket, item.key)
        if source is None:
            return "gone"
        return "" if source.etag == version.source.etag else "changed"

    def _store(self, key: str, version: Version, sha256: str) -> ObjectInfo | str:
        """Upload a new version; return what is stored, or why that failed.

        The journal names the key before its bytes are sent, so that no purge takes an object whose
        rows are still to be rewritten.
        """
        body = version.encoded.body
        upload = Upload(key=key, body=body, headers=_headers(version, sha256))
        entry = Entry(kind=ChangeKind.UPLOAD, key=key, sha256=sha256, bytes=len(body))
        self.journal.intend([entry])
        try:
            stored = put(self.trial.bucket, upload)
        except PreconditionFailed:
            # A run that was killed before its rows followed, or a twin whose picture is the same.
            found = head(self.trial.bucket, key)
            if found is None or not _holds(found, len(body), sha256):
                return "key_taken"
            stored = found
        except BucketError as error:
            if error.ends_run:
                raise
            return error.code
        self.journal.settle([entry], ChangeState.DONE)
        return stored


def _holds(found: ObjectInfo, size: int, sha256: str) -> bool:
    return found.size == size and found.headers.metadata.get("sha256") == sha256


def _made(item: ReoptimizeItem, version: Version, stored: ObjectInfo) -> Record:
    return Record(
        key=item.new_key,
        etag=stored.etag,
        fingerprint=version.fingerprint,
        reason=ALREADY,
        bytes_before=item.bytes_before,
        bytes_after=item.bytes_after,
        min_saving=item.selected.recipe.min_saving_percent,
        width=version.encoded.width,
        height=version.encoded.height,
        source_sha256=version.source_sha256,
        made_by=version.fingerprint,
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
