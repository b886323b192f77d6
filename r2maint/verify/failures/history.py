"""What earlier runs saw, and what this one adds: since when something fails, and what recovered.

Counts change only when a run has looked at everything it set out to look at; what lies outside
its scope stays as it is. A run that was stopped leaves at most fresh successes.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property

from r2maint.database.connections import database_option
from r2maint.errors import DatabaseError, Stopped, UsageError
from r2maint.journal import journal
from r2maint.keys import Kind
from r2maint.scratch.batches import batched
from r2maint.scratch.spool import Spool
from r2maint.verify.failures.records import NoRecords, Records, Suspects, records_exist
from r2maint.verify.result import Finding, History
from r2maint.verify.verdicts.outcomes import FAILING, FINE, Level, Outcome

BATCH = 500
_MOST_FRESH = 5000
_FRESH_SECONDS = 2.0
"""Successes are written so many at once, or after so long: a commit takes as long as many rows."""
KEPT_FOR = timedelta(days=90)
"""How long what no run looks at any more is remembered."""
_OF_ADDRESS = frozenset(
    (
        Outcome.PRIVATE_ENDPOINT,
        Outcome.PRESIGNED,
        Outcome.ALIAS,
        Outcome.INVALID,
        Outcome.TOO_LONG,
    )
)
"""Outcomes that blame the address as it is stored, whatever it leads to."""
_THERE = frozenset(
    (Outcome.PRIVATE_ENDPOINT, Outcome.PRESIGNED, Outcome.ALIAS, Outcome.EXPIRING, Outcome.OK)
)
"""Outcomes of what is there, whole and served."""
_UNTOLD = frozenset((Outcome.UNSURE, Outcome.BLOCKED))
"""Outcomes that say neither; nor does what was not looked at."""
_NEVER = History()
_UNREMEMBERED = "Nothing is remembered of this run."


@dataclass(kw_only=True)
class Memory:
    """The memory of one run. Its stages pass every finding on, in order; flat in memory."""

    level: Level
    records: Records | NoRecords
    failing: frozenset[Outcome]
    now: datetime
    confirm_after: int = 1
    recheck: timedelta = timedelta(0)
    unremembered: str = ""
    """Why nothing is remembered, in a sentence; "" when it is."""
    _ended: Spool[str] = field(default_factory=Spool)
    """What passed, and had failed before."""
    _failures: Spool[tuple[str, History]] = field(default_factory=Spool)
    _fresh: set[str] = field(default_factory=set)
    """What passed, and is to be written soon."""
    _written_at: float = field(default_factory=time.monotonic)

    @property
    def is_required(self) -> bool:
        """Whether the run would judge wrongly without it."""
        return self.confirm_after > 1 or bool(self.recheck)

    def rested(self, findings: Iterable[Finding]) -> Iterator[Finding]:
        """Yield the findings, those whose URL was fine within `recheck` as SKIPPED.

        Comes before anything is asked. Raises: DatabaseError.
        """
        for batch in batched(findings, BATCH):
            known = self._read({subject_of(each) for each in batch if self._may_rest(each)})
            for finding in batch:
                yield self._at_rest(finding, known.get(subject_of(finding))) if known else finding

    def remembered(self, findings: Iterable[Finding]) -> Iterator[Finding]:
        """Yield the findings with their history; what recovered or lacks confirmation is marked.

        Comes after everything was asked; `settle` completes it. Raises: DatabaseError.
        """
        with self._fresh_kept():
            for batch in batched(findings, BATCH):
                failed = {subject_of(each) for each in batch if each.outcome in self.failing}
                passed = self._passed(batch, self.suspects) - failed
                unsure = {subject_of(each) for each in batch if each.outcome in _UNTOLD}
                known = self._read(failed | unsure | self.suspects.among(passed))
                self._note(failed, passed, known)
                if self.unremembered or not (failed or known):
                    yield from batch
                else:
                    yield from (self._told(each, passed, known) for each in batch)

    def settle(self) -> None:
        """Write down what changed, now that everything was looked at. Raises: DatabaseError."""
        with self._tolerant() as records, records.together():
            for ended in batched(self._ended, BATCH):
                if self.level is Level.BUCKET:
                    records.delete(ended)
                else:
                    records.renew(ended, self.now)
            # Last, because what both passed and failed has failed.
            for failures in batched(self._failures, BATCH):
                records.write(dict(failures), self.now)
            records.forget_before(self.now - KEPT_FOR)

    @cached_property
    def suspects(self) -> Suspects:
        """What failed when it was last looked at; read once."""
        try:
            return self.records.failing()
        except DatabaseError as error:
            self._go_on_without(error)
            return Suspects(())

    def _passed(self, batch: Iterable[Finding], suspects: Suspects) -> set[str]:
        """Return what is known to be fine, and may be remembered."""
        if self.level is Level.BUCKET and not suspects:
            return set()
        return {_object_of(each) for each in batch if self._has_passed(each)}

    def _read(self, subjects: Set[str]) -> Mapping[str, History]:
        known: Mapping[str, History] = {}
        if not self._fresh.isdisjoint(subjects):
            self._write_fresh()
        if subjects:
            with self._tolerant() as records:
                known = records.read(subjects)
        return known

    def _note(self, failed: Set[str], passed: Set[str], known: Mapping[str, History]) -> None:
        ended = {each for each in passed if known.get(each, _NEVER).failures}
        if ended:
            self._ended.extend(ended)
        if failed:
            self._failures.extend(
                (each, self._failing_again(known.get(each, _NEVER))) for each in failed
            )
        if self.level is not Level.BUCKET:
            self._fresh |= passed - ended
            is_due = time.monotonic() >= self._written_at + _FRESH_SECONDS
            if is_due or len(self._fresh) >= _MOST_FRESH:
                self._write_fresh()

    @contextmanager
    def _fresh_kept(self) -> Iterator[None]:
        """Write the last successes when all was looked at, or when the run is stopped."""
        try:
            yield
        except Stopped:
            self._write_fresh()
            raise
        self._write_fresh()

    def _write_fresh(self) -> None:
        fresh, self._fresh = self._fresh, set()
        if fresh:
            with self._tolerant() as records:
                records.renew(fresh, self.now)
        self._written_at = time.monotonic()

    def _told(self, finding: Finding, passed: Set[str], known: Mapping[str, History]) -> Finding:
        if finding.outcome in self.failing:
            history = self._failing_again(known.get(subject_of(finding), _NEVER))
            is_confirmed = history.failures >= self.confirm_after
            return finding._replace(history=history, is_confirmed=is_confirmed)
        before = known.get(_object_of(finding))
        if before is None or finding.is_rested:
            return finding
        if finding.outcome in _UNTOLD:
            return finding._replace(history=before)
        if before.failures < self.confirm_after or _object_of(finding) not in passed:
            return finding
        ended = replace(before, failures=0, last_ok_at=self.now)
        return finding._replace(history=ended, has_recovered=True)

    def _failing_again(self, before: History) -> History:
        first = before.first_failed_at if before.failures else self.now
        return replace(before, failures=before.failures + 1, first_failed_at=first)

    def _has_passed(self, finding: Finding) -> bool:
        """Tell whether what the reference leads to is known to be fine."""
        outcome = finding.outcome
        if outcome is Outcome.SKIPPED:
            return not finding.is_rested
        if outcome in self.failing and outcome not in _OF_ADDRESS:
            return False
        if outcome is Outcome.OK or self.level is Level.BUCKET:
            return outcome in _THERE
        return outcome in _THERE and finding.status is not None and finding.status < 400

    def _may_rest(self, finding: Finding) -> bool:
        would_be_asked = finding.outcome in (Outcome.OK, Outcome.EXTERNAL) and finding.url
        return bool(self.recheck and would_be_asked)

    def _at_rest(self, finding: Finding, history: History | None) -> Finding:
        """Return the finding as SKIPPED if it was fine lately and is the same object still."""
        last = history.last_ok_at if history is not None and not history.failures else None
        if not self._may_rest(finding) or last is None:
            return finding
        # What lies ahead was written by a clock that went wrong.
        if not self.now - self.recheck < last <= self.now:
            return finding
        if finding.stored is not None and finding.stored.modified_at > last:
            return finding
        detail = f"fine on {last:%Y-%m-%d}"
        return finding._replace(outcome=Outcome.SKIPPED, detail=detail, history=history)

    @contextmanager
    def _tolerant(self) -> Iterator[Records | NoRecords]:
        """Give the records; when they fail and nothing depends on them, go on without."""
        try:
            yield self.records
        except DatabaseError as error:
            self._go_on_without(error)

    def _go_on_without(self, error: DatabaseError) -> None:
        if self.is_required:
            raise error
        self.records = NoRecords()
        self.unremembered = f"{_UNREMEMBERED} {error}"


def open_memory(
    bucket: str,
    level: Level,
    *,
    fail_on: frozenset[Outcome] = FAILING,
    confirm_after: int = 1,
    recheck: timedelta = timedelta(0),
    now: datetime | None = None,
) -> Memory:
    """Return the memory of a run that looks at this bucket at this level.

    Levels have memories of their own. Without r2maint's tables nothing is remembered, and
    `unremembered` says so. Raises: UsageError for `recheck` at level `bucket`; DatabaseError when
    the tables are missing and `confirm_after` or `recheck` needs them.
    """
    if recheck and level is Level.BUCKET:
        raise UsageError(
            "--recheck does not go with --level bucket: it asks no URL.",
            "Leave it out, or pass --level http or content.",
        )
    memory = Memory(
        level=level,
        records=Records(bucket, level.value),
        failing=(FAILING | fail_on) - FINE - _UNTOLD,
        now=now or journal.now(),
        confirm_after=confirm_after,
        recheck=recheck,
    )
    if memory.is_required:
        journal.require_tables([journal.home()])
    elif not records_exist():
        memory.records = NoRecords()
        option = database_option(journal.home())
        memory.unremembered = f"{_UNREMEMBERED} Run manage.py migrate r2maint{option}."
    return memory


def subject_of(finding: Finding) -> str:
    """Return what a finding judges: an address as stored where that is to blame, else what it
    leads to."""
    return finding.reference.value if finding.outcome in _OF_ADDRESS else _object_of(finding)


def _object_of(finding: Finding) -> str:
    target = finding.reference.target
    if target.kind is Kind.LOCAL:
        return f"{target.root}/{target.key}"
    return finding.key or finding.url or finding.reference.value
