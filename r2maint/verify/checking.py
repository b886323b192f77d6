"""Looks at every reference: rows first, the listing second, and what the level asks after both.

In that order a file uploaded with its row in between is found. One Class A request per 1,000
objects; level `bucket` asks nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain

from r2maint.batching import batched
from r2maint.bucket import Bucket
from r2maint.conf import Config
from r2maint.control import Control
from r2maint.inventory import Inventory
from r2maint.keys import Addresses, Kind
from r2maint.references.columns import discover
from r2maint.references.reading import Reference, Scope, Shape, iter_references, still_named
from r2maint.spool import Spool
from r2maint.verify.items import FAILING, Finding, Level, Outcome, Verification
from r2maint.verify.judging import joined, judge_local
from r2maint.verify.memory import open_memory

BATCH = 1000
_ROWS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How closely to look, and what to tell."""

    level: Level = Level.BUCKET
    fail_on: frozenset[Outcome] = FAILING
    show_all: bool = False
    confirm_after: int = 1
    """Runs in a row in which something must fail to be reported."""
    recheck: timedelta = timedelta(0)
    """How long a URL that was fine is not asked again."""


PLAIN_LOOK = Look()


def verify_urls(
    config: Config,
    addresses: Addresses,
    bucket: Bucket,
    *,
    scope: Scope,
    control: Control,
    look: Look = PLAIN_LOOK,
) -> Verification:
    """Compare every reference with the listing, and with what its URL answers where asked to.

    Raises: UsageError, DatabaseError, BucketError (a partial listing judges nothing), Stopped.
    """
    outcomes: Counter[Outcome] = Counter()
    unconfirmed: Counter[Outcome] = Counter()
    recovered = rested = 0

    def counted(findings: Iterable[Finding]) -> Iterator[Finding]:
        nonlocal recovered, rested
        for finding in findings:
            (outcomes if finding.is_confirmed else unconfirmed)[finding.outcome] += 1
            recovered += finding.has_recovered
            rested += finding.is_rested
            if look.show_all or not finding.is_fine:
                yield finding

    memory = open_memory(
        bucket.name,
        look.level,
        fail_on=look.fail_on,
        confirm_after=look.confirm_after,
        recheck=look.recheck,
    )

    with Inventory() as inventory:
        apart = Spool.of(_read_references(config, addresses, inventory, scope, control))
        inventory.add_objects(bucket.list_pages(scope.prefix), control=control)
        found = chain(joined(inventory, addresses, scope, control), apart)
        findings = memory.rested(_confirmed(found))
        items = Spool.of(counted(memory.remembered(findings)))
    memory.settle()
    return Verification(
        items=items,
        outcomes=outcomes,
        fail_on=look.fail_on,
        recovered=recovered,
        unconfirmed=unconfirmed,
        rested=rested,
        unremembered=memory.unremembered,
    )


def _read_references(
    config: Config, addresses: Addresses, inventory: Inventory, scope: Scope, control: Control
) -> Iterator[Finding]:
    """Index what names a key, and yield findings for what cannot."""
    columns = discover(config, addresses, scope)
    references = iter_references(columns, addresses, scope, control=control)
    for batch in batched(control.track(references, "Reading rows", unit="reference"), BATCH):
        inventory.add_references(reference for reference in batch if _names_key(reference))
        yield from (_apart(reference) for reference in batch if not _names_key(reference))


def _names_key(reference: Reference) -> bool:
    """Tell whether the bucket may hold it: a FileField's name is its key before the move too."""
    return reference.target.kind is Kind.BUCKET or reference.shape is Shape.NAME


def _apart(reference: Reference) -> Finding:
    if reference.target.kind is Kind.EXTERNAL:
        return Finding(reference=reference, outcome=Outcome.EXTERNAL, url=reference.value)
    return judge_local(reference)


def _confirmed(findings: Iterable[Finding]) -> Iterator[Finding]:
    """Yield the findings but for alarms about values that were edited since they were read.

    Rows are read long before the listing ends: who replaces a picture meanwhile deletes the object
    its row named.
    """
    for batch in batched(findings, _ROWS):
        alarming = [each.reference for each in batch if each.outcome is Outcome.MISSING]
        named = still_named(alarming)
        yield from (
            each for each in batch if each.outcome is not Outcome.MISSING or each.reference in named
        )
