"""Store smaller versions of the pictures rows name, and point every reference at them.

A new version gets a key of its own beside the old one; the old object stays, becomes an orphan, and
is what an undo goes back to. A picture is skipped before it is encoded when any of its references
could not be written, or when anything else names it. All its references follow in one transaction,
or none does: a concurrent edit of one leaves all of them to the next run.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain

from r2maint.bucket import IMMUTABLE, Bucket, Headers, ObjectInfo, Upload, head, put
from r2maint.conf import Config
from r2maint.control import Control
from r2maint.errors import BucketError, PreconditionFailed, Stopped, UsageError
from r2maint.images import RECIPE_KEY, SOURCE_KEY, Recipe, can_write
from r2maint.journal.entries import Entry
from r2maint.journal.journal import Journal
from r2maint.keys import Addresses
from r2maint.models import ChangeKind, ChangeState
from r2maint.object_index.join import ReferenceIndex
from r2maint.pricing import load_prices
from r2maint.references.edit_cell import Swapped
from r2maint.references.rewrite import swap_all
from r2maint.references.scope import Scope
from r2maint.reoptimize.encode import Trial, Tried, sha256_of, unmeasured
from r2maint.reoptimize.ledger import Ledger
from r2maint.reoptimize.other_references import hold_back
from r2maint.reoptimize.records import ALREADY, Record
from r2maint.reoptimize.result import Action, Item, Reoptimization, Version, count_items
from r2maint.reoptimize.select import iter_selected, make_writer
from r2maint.reoptimize.skip_known import look
from r2maint.scratch.spool import Spool

SAMPLE = 20
"""Pictures a plan encodes."""

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

    One LIST per 1,000 objects; for pictures that the ledger does not know one HEAD, where their
    key may be of our making; one GET per sampled one, whose new version is kept for `apply`. The
    rest of the database is read once, if there is anything to convert. `overrides` names the
    parameters of `recipe` ("to", "max_size") that win over `FIELDS`. The `limit` of `scope` is the
    number of pictures converted. Raises: UsageError, DatabaseError, BucketError, Stopped.
    """
    recipe = recipe or Recipe()
    if not can_write(recipe.to):
        raise UsageError(
            f"This Pillow cannot write the format: {recipe.to!r}.", "Install Pillow 11.3 or newer."
        )
    writer, stored = make_writer(config, addresses), Counter[str]()
    with Ledger(bucket.name) as ledger, ReferenceIndex() as listed:
        selected = iter_selected(
            config,
            writer,
            bucket,
            listed,
            scope=scope,
            recipe=recipe,
            overrides=overrides,
            stored=stored,
            control=control,
        )
        looked_at = Spool.of(look(selected, ledger, bucket, control))
        ledger.forget_others(listed, scope.prefix)
        looked_at = hold_back(looked_at, config, bucket, writer, listed, scope.prefix, control)
        trial = Trial(
            bucket=bucket, writer=writer, ledger=ledger, control=control, processes=processes
        )
        tried = Spool.of(_try(_sample(looked_at, sample), trial))
    measured = {item.key: item for item, _ in tried}
    items = Spool.of(measured.get(item.key, item) for item in looked_at)
    tally = count_items(items, _remaining_share(measured.values()))
    return Reoptimization(
        items=items,
        tally=tally.limited_to(scope.limit),
        sampled=len(measured),
        versions=tried,
        scope=scope,
        stored=stored,
        prices=load_prices(config.prices),
        freed_at=bucket.now() + config.undo_window,
        unremembered=ledger.unremembered,
    )


def _try(chosen: list[Item], trial: Trial) -> Iterator[Tried]:
    with closing(trial.run(chosen)) as tried:
        yield from trial.control.track(tried, "Encoding a sample", len(chosen), unit="picture")


def _sample(items: Iterable[Item], size: int) -> list[Item]:
    """Return the candidates whose keys hash lowest: spread evenly, the same ones every time."""
    candidates = (item for item in items if item.action is Action.CONVERT)
    return heapq.nsmallest(size, candidates, key=lambda item: sha256_of(item.key.encode()))


def _remaining_share(tried: Iterable[Item]) -> float:
    """Return what part of their bytes sampled pictures keep; a skipped one keeps all."""
    measured = [(item.bytes_before, item.bytes_after or item.bytes_before) for item in tried]
    before = sum(before for before, _ in measured)
    return sum(after for _, after in measured) / before if before else 1.0


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
    with Ledger(bucket.name) as ledger:
        trial = Trial(
            bucket=bucket, writer=writer, ledger=ledger, control=control, processes=processes
        )
        converter = _Converter(trial=trial, journal=journal)
        with closing(trial.run(_untried(plan))) as encoded:
            done = converter.convert(chain(converter.unchanged(plan.versions), encoded))
            rest = (item for item in plan.items if item.action is not Action.CONVERT)
            items = Spool.of(chain(rest, _until_limit(done, plan, control, stops)))
    tally = count_items(items)
    return replace(
        plan,
        items=items,
        tally=replace(tally, candidates=plan.tally.candidates),
        converted=tally.candidates,
        applied=True,
        freed_at=bucket.now() + config.undo_window,
        stopped=stops[0] if stops else None,
        unremembered=ledger.unremembered,
    )


def _untried(plan: Reoptimization) -> Iterator[Item]:
    """Yield what is to be converted and has no version yet."""
    tried = {item.key for item, _ in plan.versions}
    candidates = (item for item in plan.items if item.action is Action.CONVERT)
    return (item for item in candidates if item.key not in tried)


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

    trial: Trial
    journal: Journal

    def unchanged(self, planned: Iterable[Tried]) -> Iterator[Tried]:
        """Yield the versions a plan made; none of what was replaced since."""
        for item, version in planned:
            if version is None:
                continue
            reason = self._lost(item, version)
            if reason:
                yield replace(unmeasured(item), action=Action.SKIP, reason=reason), None
            else:
                yield item, version

    def convert(self, tried: Iterable[Tried]) -> Iterator[Item]:
        for item, version in tried:
            if version is None:
                yield item
            else:
                self.trial.control.check()
                yield self._convert(item, version)

    def _convert(self, item: Item, version: Version) -> Item:
        sha256 = sha256_of(version.encoded.body)
        stored = self._store(item.new_key, version, sha256)
        if isinstance(stored, str):
            return replace(unmeasured(item), action=Action.FAIL, reason=stored)
        if reason := self._lost(item, version):
            return replace(unmeasured(item), action=Action.SKIP, reason=reason)
        size = (version.encoded.width, version.encoded.height)
        rewrites = self.trial.writer.rewrites(item.selected, item.new_key, sha256, size)
        how = swap_all(rewrites, self.journal, control=self.trial.control)
        if how is Swapped.DONE:
            self.trial.ledger.note(_made(item, version, stored))
            return replace(item, rewritten=len(rewrites))
        # The new object is an orphan now, for the next run to use or a purge to find.
        is_lost = how in (Swapped.CHANGED, Swapped.GONE)
        action = Action.SKIP if is_lost else Action.FAIL
        return replace(unmeasured(item), action=action, reason=how.value)

    def _lost(self, item: Item, version: Version) -> str:
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


def _made(item: Item, version: Version, stored: ObjectInfo) -> Record:
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
