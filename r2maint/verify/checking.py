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
from r2maint.bucket import Bucket
from r2maint.conf import Config
from r2maint.control import Control
from r2maint.inventory import Inventory
from r2maint.keys import Addresses, Kind
from r2maint.references.columns import discover
from r2maint.references.reading import Reference, Scope, Shape, iter_references, still_named
from r2maint.spool import Spool
from r2maint.verify.explaining import Explainer
from r2maint.verify.items import FAILING, Finding, Level, Outcome, Verification
from r2maint.verify.judging import joined, judge_local
from r2maint.verify.lookup import Lookup, Subject
from r2maint.verify.mending import Mender
from r2maint.verify.repairs import RepairAction, RepairKind
from r2maint.verify.sourcefiles import read_source_lines

BATCH = 1000
_ROWS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How closely to look, at what, and what to tell."""

    level: Level = Level.BUCKET
    fail_on: frozenset[Outcome] = FAILING
    show_all: bool = False
    repair: frozenset[RepairKind] | None = None
    """Kinds of repairs to plan; None for a report alone."""
    subject: Subject | None = None
    """What to look up, in place of everything."""


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
    repairs: Counter[tuple[RepairKind, RepairAction]] = Counter()
    remarks: list[str] = []
    lookup = Lookup(look.subject, bucket) if look.subject else None
    columns = discover(config, addresses, scope)
    columns = lookup.columns(columns) if lookup else columns

    def counted(findings: Iterable[Finding]) -> Iterator[Finding]:
        for finding in findings:
            outcomes[finding.outcome] += 1
            if finding.repair:
                repairs[finding.repair.kind, finding.repair.action] += 1
            if look.show_all or not finding.is_fine:
                yield finding

    with Inventory() as inventory:
        references = iter_references(columns, addresses, scope, control=control)
        references = lookup.meaning(references) if lookup else references
        apart = Spool.of(_read_references(references, inventory, control))
        pages = lookup.pages() if lookup else bucket.list_pages(scope.prefix)
        inventory.add_objects(pages, control=control)
        judged: Iterator[Finding] = chain(joined(inventory, addresses, scope, control), apart)
        judged = lookup.answers(judged) if lookup else judged
        mender = Mender.of(addresses, columns, look.repair or frozenset())
        explainer = Explainer(
            bucket=bucket,
            objects=inventory.iter_objects,
            mender=mender,
            control=control,
            remarks=remarks,
        )
        findings = mender.mended(explainer.explained(_confirmed(judged)))
        items = Spool.of(counted(findings))
    if lookup:
        remarks.append(lookup.remark(outcomes.total()))
    files = None if lookup else read_source_lines(config, addresses, remarks, control=control)
    return Verification(
        items=items,
        outcomes=outcomes,
        fail_on=look.fail_on,
        local=outcomes[Outcome.SKIPPED],
        repairs=None if look.repair is None else repairs,
        looked_up=lookup.asked if lookup else "",
        remarks=tuple(remarks),
        files=files,
    )


def _read_references(
    references: Iterable[Reference], inventory: Inventory, control: Control
) -> Iterator[Finding]:
    """Index what names a key, and yield findings for what cannot."""
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
