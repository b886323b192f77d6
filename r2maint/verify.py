"""Say of every reference whether the bucket holds what it names.

Level `bucket`: rows are read first and the bucket is listed second, so that a file uploaded with
its row in between is found. One Class A request per 1,000 objects, none per reference.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import chain
from typing import Any

from r2maint.batching import batched
from r2maint.bucket import Bucket, StoredObject
from r2maint.conf import Config
from r2maint.control import Control
from r2maint.inventory import Inventory
from r2maint.keys import Addresses, Kind, Via, identity
from r2maint.references.columns import discover
from r2maint.references.reading import Reference, Scope, Shape, iter_references, still_named
from r2maint.report import format_count
from r2maint.sources import UnusableSource, is_file, locate_file
from r2maint.spool import Spool

BATCH = 1000
_ROWS = 500


class Outcome(str, Enum):
    """What is true of one reference, as far as the listing tells."""

    OK = "ok"
    MISSING = "missing"
    EMPTY = "empty"
    EXTERNAL = "external"
    ALIAS = "alias"
    PRIVATE_ENDPOINT = "private_endpoint"
    PRESIGNED = "presigned"
    RESPELLED = "respelled"
    SKIPPED = "skipped"


FAILING = frozenset((Outcome.MISSING, Outcome.EMPTY, Outcome.PRIVATE_ENDPOINT, Outcome.PRESIGNED))
"""Outcomes that end a run with exit code 3, unless told otherwise."""
FINE = frozenset((Outcome.OK, Outcome.EXTERNAL, Outcome.SKIPPED))
"""Outcomes that nobody has to act on."""

_BY_ADDRESS = {
    Via.ALIAS: (Outcome.ALIAS, "another base of this bucket", "Rewrite it to PUBLIC_URL."),
    Via.ENDPOINT: (
        Outcome.PRIVATE_ENDPOINT,
        "the S3 endpoint answers only signed requests",
        "Rewrite it to PUBLIC_URL.",
    ),
    Via.PRESIGNED: (
        Outcome.PRESIGNED,
        "a presigned URL ends within seven days",
        "Rewrite it to PUBLIC_URL.",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One reference and what is true of it."""

    reference: Reference
    outcome: Outcome
    key: str = ""
    url: str = ""
    detail: str = ""
    advice: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {
            "reference": self.reference.as_dict(),
            "key": self.key or None,
            "url": self.url or None,
            "outcome": self.outcome.value,
            "status": None,
            "detail": self.detail or None,
            "advice": self.advice or None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """Every finding but those that are FINE, unless all were asked for."""

    items: Spool[Finding]
    outcomes: Mapping[Outcome, int]
    fail_on: frozenset[Outcome] = FAILING

    @property
    def findings(self) -> bool:
        return any(self.outcomes.get(outcome) for outcome in self.fail_on)

    @property
    def has_work(self) -> bool:
        return self.findings

    @property
    def notes(self) -> tuple[str, ...]:
        if not any(self.outcomes.values()):
            return (
                "No value in scope names an object or a local file: PUBLIC_URL, ALIASES and"
                " LOCAL_MEDIA say which addresses do.",
            )
        if local := self.outcomes.get(Outcome.SKIPPED):
            references = format_count(local, "reference")
            return (
                f"{references} to local files, skipped here: migrate_media_to_r2 says which it"
                " moves and which stay private.",
            )
        return ()

    def summary(self) -> dict[str, Any]:
        total = sum(self.outcomes.values())
        unchecked = self.outcomes.get(Outcome.SKIPPED, 0) + self.outcomes.get(Outcome.EXTERNAL, 0)
        return {
            "references": total,
            "checked": total - unchecked,
            "outcomes": {outcome.value: self.outcomes.get(outcome, 0) for outcome in Outcome},
            # A listing is whole or the run fails, so nothing recovers and no host is in doubt.
            "recovered": 0,
            "cannot_judge": [],
        }


def verify_urls(
    config: Config,
    addresses: Addresses,
    bucket: Bucket,
    *,
    scope: Scope,
    control: Control,
    show_all: bool = False,
    fail_on: frozenset[Outcome] = FAILING,
) -> Verification:
    """Compare every reference with the listing.

    Raises: UsageError, DatabaseError, BucketError (a partial listing judges nothing), Stopped.
    """
    outcomes: Counter[Outcome] = Counter()

    def counted(findings: Iterable[Finding]) -> Iterator[Finding]:
        for finding in findings:
            outcomes[finding.outcome] += 1
            if show_all or finding.outcome not in FINE:
                yield finding

    with Inventory() as inventory:
        apart = Spool.of(_read_references(config, addresses, inventory, scope, control))
        inventory.add_objects(bucket.list_pages(scope.prefix), control=control)
        findings = chain(_join(inventory, addresses, scope, control), apart)
        items = Spool.of(counted(_confirmed(findings)))
    return Verification(items=items, outcomes=outcomes, fail_on=fail_on)


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
    return _local(reference)


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


def _local(reference: Reference) -> Finding:
    root, target = reference.target.root, reference.target
    assert root is not None
    spelled = (path for path in (target.key, *target.spellings) if is_file(root, path))
    try:
        locate_file(root, next(spelled, target.key))
    except UnusableSource as unusable:
        return Finding(
            reference=reference,
            outcome=Outcome.MISSING,
            detail=unusable.detail,
        )
    return Finding(
        reference=reference,
        outcome=Outcome.SKIPPED,
        detail="a local file",
        advice="Move it with migrate_media_to_r2.",
    )


def _join(
    inventory: Inventory, addresses: Addresses, scope: Scope, control: Control
) -> Iterator[Finding]:
    for stored, references in inventory.join_references():
        control.check()
        for reference in references:
            if reference.target.key.startswith(scope.prefix):
                yield _judge(reference, stored, addresses)


def _judge(reference: Reference, stored: StoredObject | None, addresses: Addresses) -> Finding:
    key = reference.target.key
    if stored is None:
        if reference.target.kind is Kind.LOCAL:
            return _local(reference)
        outcome, detail, advice = Outcome.MISSING, "no such object in the bucket", ""
    elif stored.size == 0:
        outcome, detail, advice = Outcome.EMPTY, "the object has 0 bytes", ""
    elif identity(stored.key) != identity(key):
        outcome, detail, advice = (
            Outcome.RESPELLED,
            f"the bucket holds {stored.key!r}",
            "Rewrite it to that key.",
        )
    else:
        outcome, detail, advice = _BY_ADDRESS.get(reference.target.via, (Outcome.OK, "", ""))
    return Finding(
        reference=reference,
        outcome=outcome,
        key=key,
        url=addresses.url_for(key) if addresses.public_url else "",
        detail=detail,
        advice=advice,
    )
