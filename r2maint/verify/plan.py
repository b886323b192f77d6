"""Looks at every reference: a chain of stages, each of which passes findings on, flat in memory.

Level `bucket` asks for the listing and nothing else. What may look at rows again comes late.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from itertools import chain, islice

from r2maint.bucket import Bucket, Expiry
from r2maint.conf import Config
from r2maint.control import Control
from r2maint.errors import AccessDenied
from r2maint.http import Guard
from r2maint.keys import Addresses, host_of
from r2maint.references.column import Column
from r2maint.references.discover_columns import discover
from r2maint.references.read_rows import iter_references, still_named
from r2maint.references.reference import Reference
from r2maint.references.scope import Scope
from r2maint.scratch.batches import batched
from r2maint.scratch.spool import Spool
from r2maint.verify.asking.ask_urls import Asker
from r2maint.verify.asking.asking_processes import ProbersApart
from r2maint.verify.asking.host_notes import notes
from r2maint.verify.asking.prober import Prober
from r2maint.verify.asking.read_objects import read_stored
from r2maint.verify.compare_listing import Gathered, gathered, look_beyond
from r2maint.verify.failures.history import Memory, open_memory
from r2maint.verify.lookup import Lookup, Subject
from r2maint.verify.repairs.choose import Mender
from r2maint.verify.repairs.find_moved import Explainer
from r2maint.verify.repairs.repair import RepairAction, RepairKind
from r2maint.verify.result import Finding, Verification
from r2maint.verify.source_files import read_source_lines
from r2maint.verify.verdicts.by_listing import ListingJudge
from r2maint.verify.verdicts.outcomes import FAILING, Level, Outcome

_ROWS = 500
_MANY = 2000
"""References that are worth a process of its own for asking their URLs."""
_WITHOUT_PUBLIC_URL = {
    Level.HTTP: "PUBLIC_URL is not configured: objects of the bucket were compared with the listing"
    " alone.",
    Level.CONTENT: "PUBLIC_URL is not configured: files were read from the bucket, and nothing is"
    " known of what visitors get.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How closely to look, at what, and what to tell."""

    level: Level = Level.BUCKET
    fail_on: frozenset[Outcome] = FAILING
    show_all: bool = False
    confirm_after: int = 1
    """Runs in a row in which something must fail to be reported."""
    recheck: timedelta = timedelta(0)
    """How long a URL that was fine is not asked again."""
    repair: frozenset[RepairKind] | None = None
    """Kinds of repairs to plan; None for a report alone."""
    subject: Subject | None = None
    """What to look up, in place of everything."""


PLAIN_LOOK = Look()


@dataclass(slots=True, kw_only=True)
class _Tally:
    """What the findings of one run come to."""

    show_all: bool
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    unconfirmed: Counter[Outcome] = field(default_factory=Counter)
    repairs: Counter[tuple[RepairKind, RepairAction]] = field(default_factory=Counter)
    recovered: int = 0
    rested: int = 0

    def counted(self, findings: Iterable[Finding]) -> Iterator[Finding]:
        """Count every finding; yield those that are to be shown."""
        for finding in findings:
            (self.outcomes if finding.is_confirmed else self.unconfirmed)[finding.outcome] += 1
            self.recovered += finding.has_recovered
            self.rested += finding.is_rested
            if finding.repair:
                self.repairs[finding.repair.kind, finding.repair.action] += 1
            if self.show_all or not finding.is_fine:
                yield finding


@dataclass(frozen=True, slots=True, kw_only=True)
class _Walk:
    """What the stages of one run work with."""

    config: Config
    addresses: Addresses
    bucket: Bucket
    scope: Scope
    control: Control
    look: Look
    memory: Memory
    lookup: Lookup | None
    columns: tuple[Column, ...]
    judge: ListingJudge
    prober: ProbersApart
    remarks: list[str] = field(default_factory=list)
    """What else a reader must know, in sentences."""

    def gathered(self) -> AbstractContextManager[Gathered]:
        """Compare rows and listing; in short where nobody wants to hear of what is fine."""
        judge, control, prefix = self.judge, self.control, self.scope.prefix
        tells_all = self.look.show_all or self.lookup or self.look.level is not Level.BUCKET
        suspects = None if tells_all else self.memory.suspects or frozenset[str]()
        found = iter_references(
            self.columns, self.addresses, self.scope, control=control, strict=True
        )
        if self.lookup:
            found, pages = self.lookup.meaning(found), self.lookup.pages
        else:
            pages = partial(self.bucket.list_pages, prefix)
        if self.look.level is not Level.BUCKET:
            found = self._heralded(found)
        return gathered(found, pages, judge, prefix=prefix, control=control, suspects=suspects)

    def _heralded(self, references: Iterator[Reference]) -> Iterator[Reference]:
        """Yield the references; let the prober get ready meanwhile if they are many."""
        first = list(islice(references, _MANY))
        if len(first) == _MANY:
            self.prober.start()
        yield from chain(first, references)

    def findings(self, found: Gathered) -> Iterator[Finding]:
        """Yield every finding as it is told in the end."""
        compared = found.findings
        if self.scope.prefix and not self.lookup:
            compared = look_beyond(compared, self.judge, self.bucket, prefix=self.scope.prefix)
        findings = self._asked(self.memory.rested(compared))
        findings = _confirmed(self.lookup.answers(findings) if self.lookup else findings)
        mender = Mender.of(self.addresses, self.columns, self.look.repair or frozenset())
        explainer = Explainer(
            bucket=self.bucket,
            objects=found.objects,
            mender=mender,
            control=self.control,
            remarks=self.remarks,
        )
        return self.memory.remembered(mender.mended(explainer.explained(findings)))

    def _asked(self, findings: Iterator[Finding]) -> Iterator[Finding]:
        level, control = self.look.level, self.control
        if level is Level.BUCKET:
            return findings
        if level is Level.CONTENT and not self.addresses.public_url:
            findings = read_stored(findings, self.bucket, control=control)
        asker = Asker(
            prober=self.prober,
            bucket=self.bucket,
            control=control,
            public_host=host_of(self.config.public_url),
        )
        return asker.asked(findings)


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
    lookup = Lookup(look.subject, bucket) if look.subject else None
    columns = discover(config, addresses, scope)
    columns = lookup.columns(columns) if lookup else columns
    walk = _Walk(
        config=config,
        addresses=addresses,
        bucket=bucket,
        scope=scope,
        control=control,
        look=look,
        memory=memory,
        lookup=lookup,
        columns=columns,
        judge=ListingJudge(
            addresses=addresses,
            lengths={(c.database, c.model, c.field): c.max_length for c in columns},
            expiries=_expiries(bucket, look.level),
        ),
        prober=_prober(config, look.level, control),
    )
    tally = _Tally(show_all=look.show_all)
    with closing(walk.prober), walk.gathered() as found:
        tally.outcomes[Outcome.OK] += found.fine
        items = Spool.of(tally.counted(walk.findings(found)))
    if not lookup:
        # Who asks again and again about one value does not make it fail more often.
        memory.settle()
    return _told(walk, tally, items)


def _told(walk: _Walk, tally: _Tally, items: Spool[Finding]) -> Verification:
    look, lookup = walk.look, walk.lookup
    remarks = [*notes(walk.prober.hosts), *walk.remarks]
    if not walk.addresses.public_url and look.level in _WITHOUT_PUBLIC_URL:
        remarks.insert(0, _WITHOUT_PUBLIC_URL[look.level])
    if lookup:
        remarks.append(lookup.remark(tally.outcomes.total()))
        files = None
    else:
        files = read_source_lines(walk.config, walk.addresses, remarks, control=walk.control)
    return Verification(
        items=items,
        outcomes=tally.outcomes,
        level=look.level,
        fail_on=look.fail_on,
        recovered=tally.recovered,
        cannot_judge=walk.prober.hosts.cannot_judge,
        unconfirmed=tally.unconfirmed,
        shows_all=look.show_all,
        rested=tally.rested,
        unremembered=walk.memory.unremembered,
        repairs=None if look.repair is None else tally.repairs,
        looked_up=lookup.asked if lookup else "",
        remarks=tuple(remarks),
        files=files,
    )


def _prober(config: Config, level: Level, control: Control) -> ProbersApart:
    referers = tuple(f"Referer: https://{host}/" for host in config.site_hosts[:1])
    prober = Prober(
        level=level,
        guard=Guard.from_config(config),
        workers=control.workers,
        rate=control.rate,
        referers=referers,
    )
    return ProbersApart(prober, python=config.python)


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
