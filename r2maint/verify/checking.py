"""Looks at every reference: rows first, the listing second, and what the level asks after both.

In that order a file uploaded with its row in between is found. One Class A request per 1,000
objects; level `bucket` asks nothing else. What may look at rows again comes last.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
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
from r2maint.verify.asking import Asker
from r2maint.verify.hosts import Hosts
from r2maint.verify.items import FAILING, FINE, Finding, Level, Outcome, Verification
from r2maint.verify.judging import joined, judge_local
from r2maint.verify.stored import read_stored

BATCH = 1000
_ROWS = 500


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
    hosts = Hosts()

    def counted(findings: Iterable[Finding]) -> Iterator[Finding]:
        for finding in findings:
            outcomes[finding.outcome] += 1
            if look.show_all or not (finding.outcome in FINE or finding.of_host):
                yield finding

    with Inventory() as inventory:
        apart = Spool.of(_read_references(config, addresses, inventory, scope, control))
        inventory.add_objects(bucket.list_pages(scope.prefix), control=control)
        findings: Iterator[Finding] = chain(joined(inventory, addresses, scope, control), apart)
        if look.level is Level.CONTENT and not addresses.public_url:
            findings = read_stored(findings, bucket, control=control)
        if look.level is not Level.BUCKET:
            asker = Asker(
                config=config, bucket=bucket, level=look.level, control=control, hosts=hosts
            )
            findings = asker.asked(findings)
        items = Spool.of(counted(_confirmed(findings)))
    return Verification(
        items=items,
        outcomes=outcomes,
        fail_on=look.fail_on,
        cannot_judge=hosts.cannot_judge,
        of_hosts=tuple(hosts.notes()),
        local=outcomes[Outcome.SKIPPED],
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
        alarming = [each.reference for each in batch if each.outcome in FAILING]
        named = still_named(alarming)
        yield from (
            each for each in batch if each.outcome not in FAILING or each.reference in named
        )
