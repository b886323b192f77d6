"""Looks at every reference: a chain of stages, each of which passes findings on, flat in memory.

Level `bucket` asks for the listing and nothing else. What may look at rows again comes late.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

from r2maint.batching import batched
from r2maint.bucket import Bucket, Expiry
from r2maint.conf import Config
from r2maint.control import Control
from r2maint.errors import AccessDenied
from r2maint.keys import Addresses
from r2maint.references.columns import discover
from r2maint.references.reading import Scope, iter_references, still_named
from r2maint.spool import Spool
from r2maint.verify.expected import Expected
from r2maint.verify.gathering import Gathered, gathered, gathered_with_trouble
from r2maint.verify.items import FAILING, Finding, Level, Outcome, Verification
from r2maint.verify.judging import Judge
from r2maint.verify.memory import Memory, open_memory

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


@dataclass(slots=True, kw_only=True)
class _Tally:
    """What the findings of one run come to."""

    show_all: bool
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    unconfirmed: Counter[Outcome] = field(default_factory=Counter)
    recovered: int = 0
    rested: int = 0

    def counted(self, findings: Iterable[Finding]) -> Iterator[Finding]:
        """Count every finding; yield those that are to be shown."""
        for finding in findings:
            (self.outcomes if finding.is_confirmed else self.unconfirmed)[finding.outcome] += 1
            self.recovered += finding.has_recovered
            self.rested += finding.is_rested
            if self.show_all or not finding.is_fine:
                yield finding


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
    memory = open_memory(
        bucket.name,
        look.level,
        fail_on=look.fail_on,
        confirm_after=look.confirm_after,
        recheck=look.recheck,
    )
    tally = _Tally(show_all=look.show_all)
    with ExitStack() as stack:
        found = _gather(config, addresses, bucket, scope, control, look, memory, stack)
        tally.outcomes[Outcome.OK] += found.fine
        findings = memory.rested(_confirmed(found.findings))
        items = Spool.of(tally.counted(memory.remembered(findings)))
    memory.settle()
    return Verification(
        items=items,
        outcomes=tally.outcomes,
        fail_on=look.fail_on,
        recovered=tally.recovered,
        unconfirmed=tally.unconfirmed,
        rested=tally.rested,
        unremembered=memory.unremembered,
    )


def _gather(
    config: Config,
    addresses: Addresses,
    bucket: Bucket,
    scope: Scope,
    control: Control,
    look: Look,
    memory: Memory,
    stack: ExitStack,
) -> Gathered:
    """Compare rows and listing; in short where nobody wants to hear of what is fine."""
    columns = discover(config, addresses, scope)
    lengths = {(each.database, each.model, each.field): each.max_length for each in columns}
    judge = Judge(addresses=addresses, lengths=lengths, expiries=_expiries(bucket, look.level))
    references = iter_references(columns, addresses, scope, control=control, strict=True)
    pages = partial(bucket.list_pages, scope.prefix)
    if look.level is not Level.BUCKET or look.show_all:
        return stack.enter_context(
            gathered(references, pages, judge, prefix=scope.prefix, control=control)
        )
    expected = stack.enter_context(
        Expected(lengths, scope.prefix, memory.suspects() or frozenset())
    )
    return stack.enter_context(
        gathered_with_trouble(
            references, pages, judge, expected, prefix=scope.prefix, control=control
        )
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


def _confirmed(findings: Iterable[Finding]) -> Iterator[Finding]:
    """Yield the findings but for alarms about values that were edited since they were read.

    Rows are read long before the listing ends: who replaces a picture meanwhile deletes the object
    its row named.
    """
    for batch in batched(findings, _ROWS):
        alarming = [each.reference for each in batch if each.outcome in FAILING]
        named = still_named(alarming)
        yield from (
            each for each in batch if each.outcome not in FAILING or each.reference in named
        )
