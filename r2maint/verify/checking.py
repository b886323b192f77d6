"""Looks at every reference: rows first, the listing second, and what the level asks after both.

In that order a file uploaded with its row in between is found. One Class A request per 1,000
objects; level `bucket` asks nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from r2maint.batching import batched
from r2maint.bucket import Bucket, Expiry
from r2maint.conf import Config
from r2maint.control import Control
from r2maint.errors import AccessDenied
from r2maint.inventory import Inventory
from r2maint.keys import Addresses, Kind
from r2maint.references.columns import discover
from r2maint.references.reading import Reference, Scope, Shape, iter_references, still_named
from r2maint.spool import Spool
from r2maint.verify.expected import Expected
from r2maint.verify.items import FAILING, FINE, Finding, Level, Outcome, Verification
from r2maint.verify.judging import Judge, joined, judge_apart

BATCH = 1000
_ROWS = 500
_MOST_KEYS = 50_000
"""Keys held in memory, so that of the listing their objects alone are stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How closely to look, and what to tell."""

    level: Level = Level.BUCKET
    fail_on: frozenset[Outcome] = FAILING
    show_all: bool = False


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

    def counted(findings: Iterable[Finding]) -> Iterator[Finding]:
        for finding in findings:
            outcomes[finding.outcome] += 1
            if look.show_all or finding.outcome not in FINE:
                yield finding

    columns = discover(config, addresses, scope)
    lengths = {(each.database, each.model, each.field): each.max_length for each in columns}
    judge = Judge(addresses=addresses, lengths=lengths, expiries=_expiries(bucket, look.level))
    references = iter_references(columns, addresses, scope, control=control, strict=True)
    with Inventory() as inventory, Expected(lengths, scope.prefix) as expected:
        plain = expected if not look.show_all else None
        apart = Spool.of(_sorted_out(references, inventory, plain))
        pages = bucket.list_pages(scope.prefix)
        wanted = inventory.wanted(limit=_MOST_KEYS)
        expected.compare(inventory.storing(pages, control=control, only=wanted))
        outcomes[Outcome.OK] += expected.fine
        odd = (judge.judge(*each) for each in expected.iter_odd())
        findings = chain(joined(inventory, judge, scope, control), odd, apart)
        items = Spool.of(counted(_confirmed(findings)))
    return Verification(
        items=items,
        outcomes=outcomes,
        fail_on=look.fail_on,
        local=outcomes[Outcome.SKIPPED],
    )


def _expiries(bucket: Bucket, level: Level) -> tuple[Expiry, ...]:
    """Return the lifecycle rules that delete objects, where the level allows to ask for them.

    A token of objects alone may not read them: nothing is said of rules then.
    """
    if level is Level.BUCKET:
        return ()
    try:
        return bucket.expiries()
    except AccessDenied:
        return ()


def _sorted_out(
    references: Iterable[Reference], inventory: Inventory, expected: Expected | None
) -> Iterator[Finding]:
    """Keep what names a key for the comparison, and yield findings for what cannot."""
    for batch in batched(references, BATCH):
        others = expected.take(batch) if expected else batch
        inventory.add_references(each for each in others if _names_key(each))
        yield from (judge_apart(each) for each in others if not _names_key(each))


def _names_key(reference: Reference) -> bool:
    """Tell whether the bucket may hold it: a FileField's name is its key before the move too."""
    return reference.target.kind is Kind.BUCKET or reference.shape is Shape.NAME


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
