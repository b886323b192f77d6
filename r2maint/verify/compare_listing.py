"""Brings rows and listing together: one finding a reference, before anything else is asked.

Rows are read first and the bucket is listed second, so that a file uploaded with its row in between
is found. One Class A request per 1,000 objects.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

from r2maint.bucket import Bucket
from r2maint.bucket.find import find_stored
from r2maint.bucket.protocol import StoredObject
from r2maint.control import Control
from r2maint.keys import Kind
from r2maint.object_index.expected_objects import Expected
from r2maint.object_index.join import ReferenceIndex
from r2maint.references.reference import Reference, Shape
from r2maint.scratch.batches import batched
from r2maint.scratch.spool import Spool
from r2maint.verify.result import Finding
from r2maint.verify.verdicts.by_listing import ListingJudge, judge_apart
from r2maint.verify.verdicts.outcomes import Outcome

_Pages = Iterable[Sequence[StoredObject]]
_Columns = tuple[tuple[Any, ...], ...]
"""A page column by column, which is pickled in a seventh of the time."""
Listing = Callable[[], _Pages]
"""Called once the rows were read, and not before."""

_BATCH = 1000
_MOST_KEYS = 50_000
"""Keys held in memory, so that of the listing their objects alone are stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """What came of comparing every reference with the listing."""

    fine: int
    """References that are in order and have no finding."""
    findings: Iterator[Finding]
    """The others; of those that name keys, the ones of one object together."""
    objects: Callable[[], Iterable[StoredObject]]
    """Gives the listing again."""


@contextmanager
def gathered(
    references: Iterable[Reference],
    list_pages: Listing,
    judge: ListingJudge,
    *,
    prefix: str,
    control: Control,
    suspects: Container[str] | None = None,
) -> Iterator[Gathered]:
    """Give a finding for every reference whose key starts with `prefix`.

    With `suspects` only for those to one of these, and for what is not plainly in order.
    """
    expected = Expected(
        judge.lengths, prefix, suspects=suspects or frozenset(), tells_all=suspects is None
    )
    listed: Spool[_Columns] = Spool()
    with ReferenceIndex() as inventory, expected:
        apart = Spool.of(_sorted_out(references, inventory, expected, prefix=prefix))
        wanted = inventory.wanted(limit=_MOST_KEYS)
        pages = _kept(list_pages(), listed)
        expected.compare(inventory.storing(pages, control=control, only=wanted))
        told = (judge.judge(*each) for each in expected.iter_told())
        yield Gathered(
            fine=expected.fine,
            findings=chain(told, _joined(inventory, judge, prefix, control), apart),
            objects=lambda: _unkept(listed),
        )


def look_beyond(
    findings: Iterable[Finding], judge: ListingJudge, bucket: Bucket, *, prefix: str
) -> Iterator[Finding]:
    """Yield the findings, those of missing objects judged by what lies outside the prefix too.

    Another spelling of a key below the prefix may: only what is below it was listed.
    """
    for batch in batched(findings, _BATCH):
        lost = {each.reference for each in batch if each.outcome is Outcome.MISSING and each.key}
        spelled = chain.from_iterable(each.target.spellings for each in lost)
        beyond = find_stored(bucket, (key for key in spelled if not key.startswith(prefix))).objects
        for each in batch:
            spellings = each.reference.target.spellings if each.reference in lost else ()
            stored = next((beyond[key] for key in spellings if key in beyond), None)
            yield judge.judge(each.reference, stored) if stored else each


def _kept(pages: _Pages, listed: Spool[_Columns]) -> Iterator[Sequence[StoredObject]]:
    """Yield the pages, which `listed` keeps."""
    for page in pages:
        listed.extend([tuple(zip(*page, strict=True))])
        yield page


def _unkept(listed: Spool[_Columns]) -> Iterator[StoredObject]:
    for columns in listed:
        yield from map(StoredObject._make, zip(*columns, strict=True))


def _sorted_out(
    references: Iterable[Reference], inventory: ReferenceIndex, expected: Expected, *, prefix: str
) -> Iterator[Finding]:
    """Keep what names a key for the comparison, and yield findings for what cannot.

    With a prefix there are none: what names no key is outside it.
    """
    for batch in batched(references, _BATCH):
        others = expected.take(batch)
        inventory.add_references(each for each in others if _names_key(each))
        if not prefix:
            yield from (judge_apart(each) for each in others if not _names_key(each))


def _names_key(reference: Reference) -> bool:
    """Tell whether the bucket may hold it: a FileField's name is its key before the move too."""
    return reference.target.kind is Kind.BUCKET or reference.shape is Shape.NAME


def _joined(
    inventory: ReferenceIndex, judge: ListingJudge, prefix: str, control: Control
) -> Iterator[Finding]:
    for batch in batched(inventory.join_each_reference(), _BATCH):
        control.check()
        for stored, reference in batch:
            if reference.target.key.startswith(prefix):
                yield judge.judge(reference, stored)
