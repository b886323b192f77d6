"""Which value would mend a reference, of the kinds that were asked for. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from r2maint.bucket.protocol import StoredObject
from r2maint.keys import Addresses, Via, identity
from r2maint.references.column import Column
from r2maint.references.reference import JOINED_ON, Reference, Shape, value_for
from r2maint.verify.repairs.repair import OF_OTHERS, Repair, RepairAction, RepairKind
from r2maint.verify.result import Finding
from r2maint.verify.verdicts.outcomes import Outcome

_BY_OUTCOME = {
    Outcome.ALIAS: RepairKind.ALIAS,
    Outcome.PRIVATE_ENDPOINT: RepairKind.ENDPOINT,
    Outcome.PRESIGNED: RepairKind.PRESIGNED,
    Outcome.RESPELLED: RepairKind.RESPELLED,
}
_BY_BASE = {
    Via.ALIAS: RepairKind.ALIAS,
    Via.ENDPOINT: RepairKind.ENDPOINT,
    Via.PRESIGNED: RepairKind.PRESIGNED,
}
_WITH_QUERY = (Via.PUBLIC, Via.ALIAS)
"""Bases whose query and fragment say something to browsers, and nothing to the bucket."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mender:
    """Knows what each reference would have to say."""

    addresses: Addresses
    columns: Mapping[tuple[str, str, str], Column]
    """By database, model and field."""
    kinds: frozenset[RepairKind]

    @classmethod
    def of(
        cls, addresses: Addresses, columns: Iterable[Column], kinds: frozenset[RepairKind]
    ) -> Mender:
        by_name = {(column.database, column.model, column.field): column for column in columns}
        return cls(addresses=addresses, columns=by_name, kinds=kinds)

    def mended(self, findings: Iterable[Finding]) -> Iterator[Finding]:
        """Yield the findings, with a repair for those whose object is there by another address.

        Only what was listed with bytes in it is named.
        """
        for finding in findings:
            kind = _BY_OUTCOME.get(finding.outcome)
            if kind and finding.repair is None and finding.stored and finding.stored.size:
                finding = finding._replace(
                    repair=self.rewriting(finding.reference, finding.stored, kind)
                )
            # Advice is for those who did not ask for the repair.
            yield finding._replace(advice="") if finding.repair else finding

    def rewriting(
        self, reference: Reference, stored: StoredObject, *kinds: RepairKind
    ) -> Repair | None:
        """Return the repair that names an object, of the first kind that was asked for, if any."""
        kind = next((each for each in kinds if each in self.kinds), None)
        if kind is None:
            return None
        made = Repair(
            kind=kind,
            key=stored.key,
            new=self._value(reference, stored.key),
            stored=stored,
            absent=_others(reference, stored.key) if kind in OF_OTHERS else (),
        )
        return self._checked(reference, made)

    def restoring(self, reference: Reference, key: str, copy: str) -> Repair | None:
        """Return the repair that brings an object back; None when that was not asked for.

        The value stays, unless how it names the object is to be repaired too.
        """
        if RepairKind.QUARANTINED not in self.kinds:
            return None
        is_other = identity(key) != identity(reference.target.key)
        kind = RepairKind.RESPELLED if is_other else _BY_BASE.get(reference.target.via)
        new = self._value(reference, key) if kind in self.kinds else reference.value
        absent = _others(reference, key) if is_other and new != reference.value else ()
        made = Repair(kind=RepairKind.QUARANTINED, key=key, new=new, copy=copy, absent=absent)
        return self._checked(reference, made)

    def _value(self, reference: Reference, key: str) -> str:
        """Return the value that names `key`, with the query and fragment it had; "" for none."""
        column = self._column(reference)
        new = value_for(reference, column, key, self.addresses) if column else None
        return f"{new}{self._tail(reference, key)}" if new else ""

    def _tail(self, reference: Reference, key: str) -> str:
        if reference.shape is Shape.NAME or reference.target.via not in _WITH_QUERY:
            return ""
        value = reference.value.rstrip()
        cut = min((at for at in map(value.find, "?#") if at >= 0), default=len(value))
        plain = self.addresses.locate(value[:cut])
        # A key may hold a "?" or "#" that nobody encoded: then it is no query.
        is_of_key = key in reference.target.spellings and (
            plain is None or key not in (plain.key, *plain.spellings)
        )
        return "" if is_of_key else value[cut:]

    def _checked(self, reference: Reference, repair: Repair) -> Repair:
        """Return the repair, failed where the plan can tell already that its value cannot be."""
        column = self._column(reference)
        if column is None or not repair.new:
            what = "the storage of this field cannot name that key"
            why = what if reference.shape is Shape.NAME else "PUBLIC_URL is not configured"
            why = JOINED_ON if column and column.is_joined_on else why
            return replace(repair, action=RepairAction.FAIL, reason=why)
        room = None if reference.shape is Shape.EMBEDDED else column.max_length
        if room is not None and len(repair.new) > room:
            why = f"its column holds {room:,} characters, and this has {len(repair.new):,}"
            return replace(repair, action=RepairAction.FAIL, reason=why)
        return repair

    def _column(self, reference: Reference) -> Column | None:
        return self.columns.get((reference.database, reference.model, reference.field))


def _others(reference: Reference, key: str) -> tuple[str, ...]:
    """Return what else a value may mean beside `key`."""
    keys = (reference.target.key, *reference.target.spellings)
    return tuple(each for each in keys if identity(each) != identity(key))
