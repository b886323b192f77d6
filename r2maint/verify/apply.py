"""Carries planned repairs out: restore, look once more, rewrite, batch by batch.

No value is exchanged before a HEAD in this run has shown its new object there and, where another
key was named, the old one absent. Values are compared and swapped, and journalled; restoring
overwrites nothing. No value is ever emptied.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from r2maint.bucket import Bucket, ObjectInfo, StoredObject, head
from r2maint.control import Control
from r2maint.errors import BucketError, NoSuchKey
from r2maint.journal.entries import Entry
from r2maint.journal.journal import Journal, home
from r2maint.keys import Addresses, redact
from r2maint.models import Change, ChangeKind, ChangeState
from r2maint.quarantine.manifest import LostObject, restore
from r2maint.references.edit_cell import Rewrite, Swapped
from r2maint.references.read_rows import still_named
from r2maint.references.reference import Reference
from r2maint.references.rewrite import swap
from r2maint.references.rewrite_row import RewriteOutcome
from r2maint.scratch.batches import batched
from r2maint.scratch.spool import Spool
from r2maint.verify.repairs.repair import OF_OTHERS, Repair, RepairAction, RepairKind, total
from r2maint.verify.result import Finding, Verification
from r2maint.verify.verdicts.by_listing import outcome_of
from r2maint.verify.verdicts.outcomes import Outcome

_BATCH = 200
"""References between two looks at a stop."""
_SWAPPED = {
    Swapped.DONE: (RepairAction.DONE, ""),
    Swapped.CHANGED: (RepairAction.CHANGED, "it was edited meanwhile"),
    Swapped.GONE: (RepairAction.CHANGED, "its row is gone"),
    Swapped.TOO_LONG: (RepairAction.FAIL, "its column has no room for it"),
    Swapped.BUSY: (RepairAction.FAIL, "its row stayed locked"),
    Swapped.REFUSED: (RepairAction.FAIL, "the database, or the text around it, refused it"),
}

_End = tuple[RepairAction, str]
"""How a repair ended, and why so."""
_GO_ON: _End = _SWAPPED[Swapped.DONE]
_Answers = Mapping[str, ObjectInfo | BucketError | None]
"""What a HEAD said, by key."""


class _Step(NamedTuple):
    """One planned repair."""

    finding: Finding
    repair: Repair

    @property
    def reference(self) -> Reference:
        return self.finding.reference

    @property
    def is_there(self) -> bool:
        """Whether its object need not be brought back first."""
        return self.repair.kind is not RepairKind.QUARANTINED


def apply_repairs(
    plan: Verification,
    addresses: Addresses,
    bucket: Bucket,
    journal: Journal,
    *,
    control: Control,
) -> Verification:
    """Repair what the plan says; return what is true of every reference then.

    A stop request ends it between two batches, or two objects to be restored.
    Raises: BucketError and DatabaseError that every further item would meet too; LeaseHeld.
    """
    _settle_interrupted(bucket, journal)
    repairer = _Repairer(addresses=addresses, bucket=bucket, journal=journal, control=control)
    outcomes, repairs = Counter(plan.outcomes), Counter[tuple[RepairKind, RepairAction]]()
    items = Spool.of(_counted(repairer.repaired(plan.items), outcomes, repairs))
    is_left = total(repairs, RepairAction.PLAN) > 0
    return replace(
        plan,
        items=items,
        outcomes=outcomes,
        repairs=repairs,
        planned=plan.repairs,
        stopped=control.stop() if is_left else None,
    )


def _counted(
    pairs: Iterable[tuple[Finding, Finding]],
    outcomes: Counter[Outcome],
    repairs: Counter[tuple[RepairKind, RepairAction]],
) -> Iterator[Finding]:
    for before, after in pairs:
        outcomes[before.outcome] -= 1
        outcomes[after.outcome] += 1
        if after.repair:
            repairs[after.repair.kind, after.repair.action] += 1
        yield after


def _settle_interrupted(bucket: Bucket, journal: Journal) -> None:
    """Find out what became of the objects a killed execution was about to bring back."""
    lines = Change.objects.using(home()).filter(
        run_id=journal.run_id, kind=ChangeKind.RESTORE, state=ChangeState.INTENDED
    )
    for change in list(lines) if journal.resumed else ():
        there = head(bucket, change.key)
        is_done = there is not None and (there.size, there.etag) == (change.bytes, change.etag)
        journal.settle([change], ChangeState.DONE if is_done else ChangeState.CONFLICT)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Repairer:
    """Repairs batches of references."""

    addresses: Addresses
    bucket: Bucket
    journal: Journal
    control: Control

    def repaired(self, findings: Spool[Finding]) -> Iterator[tuple[Finding, Finding]]:
        """Yield every finding as it was and as it is now; what a stop left is still planned."""
        with self.control.progress(len(findings), "Repairing", "reference") as advance:
            for batch in batched(findings, _BATCH):
                steps = [
                    _Step(each, each.repair)
                    for each in batch
                    if each.repair and each.repair.action is RepairAction.PLAN
                ]
                ends = {} if self.control.stop() else self._repair(steps)
                for each in batch:
                    end = ends.get(each.reference)
                    yield each, self._ended(each, each.repair, end) if end and each.repair else each
                advance(len(batch))

    def _repair(self, steps: list[_Step]) -> dict[Reference, _End]:
        """Return how these ended; what a stop left is absent."""
        ends = self._restored(steps)
        # What a stop left in quarantine has not ended, and is not gone on with.
        begun = {s.reference: _GO_ON for s in steps if s.is_there} | ends
        steps = [step for step in steps if begun.get(step.reference) is _GO_ON]
        answers = self._look(steps)
        faults = {step.reference: _fault(step.repair, answers) for step in steps}
        ends |= {at: (RepairAction.FAIL, fault) for at, fault in faults.items() if fault}
        return ends | self._rewritten([step for step in steps if not faults[step.reference]])

    # Restoring

    def _restored(self, steps: list[_Step]) -> dict[Reference, _End]:
        """Bring back what is in quarantine and still named, each object once; tell of each."""
        lost = [step for step in steps if not step.is_there]
        named = still_named(step.reference for step in lost)
        copies = {s.repair.key: s.repair.copy for s in lost if s.reference in named}
        back = dict(self._restore_all(copies))
        ends = {s.reference: back[s.repair.key] for s in lost if s.repair.key in back}
        edited = _SWAPPED[Swapped.CHANGED]
        return ends | {s.reference: edited for s in lost if s.reference not in named}

    def _restore_all(self, copies: Mapping[str, str]) -> Iterator[tuple[str, _End]]:
        for key, copy in copies.items():
            if self.control.stop():
                return
            info = head(self.bucket, copy)
            step = Entry(
                kind=ChangeKind.RESTORE,
                key=key,
                old=copy,
                etag=info.etag if info else "",
                bytes=info.size if info else None,
            )
            self.journal.intend([step])
            ended = restore(self.bucket, LostObject(key, copy, step.bytes, step.etag))
            state = ChangeState.DONE if ended.done else ChangeState.CONFLICT
            self.journal.settle([step], state)
            yield key, _GO_ON if ended.done else (RepairAction.FAIL, ended.reason)

    # Rewriting

    def _look(self, steps: Iterable[_Step]) -> _Answers:
        """Return what is there now, under every key these name or named."""
        keys = {key: None for step in steps for key in (step.repair.key, *step.repair.absent)}
        return {each.request: each.value or each.error for each in self.bucket.head_many(keys)}

    def _rewritten(self, steps: list[_Step]) -> dict[Reference, _End]:
        """Exchange the values; one that stays as it is, its object being back, is done already."""
        rewrites = [
            Rewrite(reference=step.reference, new=step.repair.new, key=step.repair.key)
            for step in steps
            if step.repair.new != step.reference.value
        ]
        # A stop is heard between batches: here it would lose what became of this one.
        swapped = swap(rewrites, self.journal, control=Control())
        ends = {each.rewrite.reference: _end_of(each) for each in swapped}
        return {step.reference: ends.get(step.reference, _GO_ON) for step in steps}

    def _ended(self, finding: Finding, repair: Repair, end: _End) -> Finding:
        """Return what is true of a reference once its repair has ended so."""
        action, reason = end
        after = finding._replace(repair=replace(repair, action=action, reason=reason))
        if action is not RepairAction.DONE:
            return after
        stays = repair.new == finding.reference.value
        target = finding.reference.target
        return after._replace(
            outcome=outcome_of(target, repair.key) if stays else Outcome.OK,
            key=repair.key,
            url=self.addresses.url_for(repair.key) if self.addresses.public_url else "",
            detail="",
            advice="",
        )


def _end_of(outcome: RewriteOutcome) -> _End:
    action, reason = _SWAPPED[outcome.how]
    return action, outcome.detail or reason


def _fault(repair: Repair, answers: _Answers) -> str:
    """Return why a value must stay as it is; "" when its new object is proved to be there."""
    there = answers[repair.key]
    if isinstance(there, NoSuchKey):
        return f"the bucket does not hold {repair.key!r}"
    if not isinstance(there, ObjectInfo):
        return f"the bucket did not tell of {repair.key!r}"
    if not there.size:
        return f"the object has 0 bytes: {repair.key!r}"
    if repair.kind in OF_OTHERS and not _is_as_listed(there, repair.stored):
        return f"the object changed since it was listed: {repair.key!r}"
    present = (key for key in repair.absent if not isinstance(answers[key], NoSuchKey))
    return next((f"nothing proves that this key is absent: {redact(key)!r}" for key in present), "")


def _is_as_listed(there: ObjectInfo, stored: StoredObject | None) -> bool:
    return stored is not None and (there.etag, there.size) == (stored.etag, stored.size)
