"""Which pictures would be re-encoded, and what a sample of them says it would save.

1. Read the references, and join them with the listing: pictures whose every reference can be
   written.
2. Skip what the ledger or an object's own metadata tells is made already, or cannot be bettered.
3. Hold back what anything else in the database names.
4. Encode a sample, evenly spread and the same every time; what it saves stands for the rest.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing
from datetime import datetime

from r2maint.bucket import Bucket
from r2maint.conf import Config
from r2maint.control import Control
from r2maint.errors import UsageError
from r2maint.images import Recipe, can_write
from r2maint.keys import Addresses
from r2maint.object_index.join import ReferenceIndex
from r2maint.pricing import load_prices
from r2maint.references.scope import Scope
from r2maint.reoptimize.encode import Trial, Tried, sha256_of
from r2maint.reoptimize.ledger import Ledger
from r2maint.reoptimize.other_references import hold_back
from r2maint.reoptimize.result import Reoptimization, ReoptimizeAction, ReoptimizeItem, count_items
from r2maint.reoptimize.select import iter_selected, make_writer
from r2maint.reoptimize.skip_known import look
from r2maint.scratch.spool import Spool

SAMPLE = 20
"""Pictures a plan encodes."""


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
    now: Callable[[], datetime] | None = None,
) -> Reoptimization:
    """Return which pictures would be re-encoded, and what a sample of them says it would save.

    One LIST per 1,000 objects; for pictures that the ledger does not know one HEAD, where their
    key may be of our making; one GET per sampled one, whose new version is kept for `apply`. The
    rest of the database is read once, if there is anything to convert. `overrides` names the
    parameters of `recipe` ("to", "max_size") that win over `FIELDS`. The `limit` of `scope` is the
    number of pictures converted. `now` tells the time; the bucket does
    unless given.
    Raises: UsageError, DatabaseError, BucketError, Stopped.
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
            bucket=bucket,
            writer=writer,
            ledger=ledger,
            control=control,
            processes=processes,
            python=config.python,
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
        freed_at=(now or bucket.now)() + config.undo_window,
        unremembered=ledger.unremembered,
    )


def _try(chosen: list[ReoptimizeItem], trial: Trial) -> Iterator[Tried]:
    with closing(trial.run(chosen)) as tried:
        yield from trial.control.track(tried, "Encoding a sample", len(chosen), unit="picture")


def _sample(items: Iterable[ReoptimizeItem], size: int) -> list[ReoptimizeItem]:
    """Return the candidates whose keys hash lowest: spread evenly, the same ones every time."""
    candidates = (item for item in items if item.action is ReoptimizeAction.CONVERT)
    return heapq.nsmallest(size, candidates, key=lambda item: sha256_of(item.key.encode()))


def _remaining_share(tried: Iterable[ReoptimizeItem]) -> float:
    """Return what part of their bytes sampled pictures keep; a skipped one keeps all."""
    measured = [(item.bytes_before, item.bytes_after or item.bytes_before) for item in tried]
    before = sum(before for before, _ in measured)
    return sum(after for _, after in measured) / before if before else 1.0
