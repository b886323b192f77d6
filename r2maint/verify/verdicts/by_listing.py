"""The verdict on one reference, from what the listing says of its key. Pure but for local files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from operator import itemgetter

from r2maint.bucket.protocol import Expiry, StoredObject
from r2maint.keys import Addresses, Kind, Target, Via, identity
from r2maint.local_files.read_file import UnusableSource, is_file, locate_file
from r2maint.object_index.expected_objects import Lengths
from r2maint.references.reference import Reference, Shape
from r2maint.verify.result import Finding
from r2maint.verify.verdicts.outcomes import UPLOAD_AGAIN, Outcome

Verdict = tuple[Outcome, str, str]
"""Outcome, detail and advice."""

_FINE = (Outcome.OK, "", "")
_WIDEN = "Raise the field's max_length, or store the object under a shorter key."
_BY_ADDRESS = {
    Via.ALIAS: (
        Outcome.ALIAS,
        "another base of this bucket",
        "Let --repair alias rewrite it to PUBLIC_URL.",
    ),
    Via.ENDPOINT: (
        Outcome.PRIVATE_ENDPOINT,
        "the S3 endpoint answers only signed requests",
        "Let --repair endpoint rewrite it to PUBLIC_URL.",
    ),
    Via.PRESIGNED: (
        Outcome.PRESIGNED,
        "a presigned URL ends within seven days",
        "Let --repair presigned rewrite it to PUBLIC_URL.",
    ),
}
_UNUSABLE = {
    "missing": (Outcome.MISSING, "Put the file back, or correct the value."),
    "outside": (Outcome.MISSING, "Put the file below its directory, or correct the value."),
    "unreadable": (Outcome.UNSURE, "Run as a user who may read the file."),
}
"""By why a local file cannot be taken: the outcome and the advice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListingJudge:
    """What verdicts depend on beside reference and listing."""

    addresses: Addresses
    lengths: Lengths
    expiries: tuple[Expiry, ...] = ()

    def judge(self, reference: Reference, stored: StoredObject | None) -> Finding:
        """Return what is true of a reference that names a key, given what is stored there."""
        if stored is None and reference.target.kind is Kind.LOCAL:
            return _beside_bucket(judge_local(reference))
        key = reference.target.key
        outcome, detail, advice = self._verdict(reference, stored)
        return Finding(
            reference=reference,
            outcome=outcome,
            key=key,
            url=self.addresses.url_for(key) if self.addresses.public_url else "",
            detail=detail,
            advice=advice,
            stored=stored,
        )

    def _verdict(self, reference: Reference, stored: StoredObject | None) -> Verdict:
        if stored is None:
            return self._absence(reference)
        if stored.size == 0:
            return Outcome.EMPTY, "the object has 0 bytes", UPLOAD_AGAIN
        if found := _fault_of(reference.target, stored.key):
            return self._unless_too_long(reference, stored, found)
        return self._length_of(reference) or self._expiry_of(stored) or _FINE

    def _absence(self, reference: Reference) -> Verdict:
        detail = "no such object in the bucket"
        if len(reference.value) == self._room(reference):
            detail = f"{detail}; the value fills its column, and may be cut off"
            return Outcome.MISSING, detail, "Raise the field's max_length, and correct the value."
        return Outcome.MISSING, detail, UPLOAD_AGAIN

    def _room(self, reference: Reference) -> int | None:
        return self.lengths.get((reference.database, reference.model, reference.field))

    def _unless_too_long(
        self, reference: Reference, stored: StoredObject, found: Verdict
    ) -> Verdict:
        """Return the verdict, but TOO_LONG where its advice cannot be followed."""
        room = self._room(reference)
        if room is None or not self.addresses.public_url or reference.shape is not Shape.URL:
            return found
        length = len(self.addresses.url_for(stored.key))
        if length <= room:
            return found
        detail = f"{found[1]}; its public URL has {length} characters and the column takes {room}"
        return Outcome.TOO_LONG, detail, _WIDEN

    def _length_of(self, reference: Reference) -> Verdict | None:
        room = self._room(reference)
        if room is None or len(reference.value) <= room or reference.shape is Shape.EMBEDDED:
            return None
        detail = f"the value has {len(reference.value)} characters and the column takes {room}"
        return Outcome.TOO_LONG, detail, _WIDEN

    def _expiry_of(self, stored: StoredObject) -> Verdict | None:
        ends = [(each.ends_at(stored), each) for each in self.expiries if each.covers(stored.key)]
        if not ends:
            return None
        at, rule = min(ends, key=itemgetter(0))
        detail = f"the lifecycle rule {rule.name!r} deletes the object on {at:%Y-%m-%d}"
        return Outcome.EXPIRING, detail, "Narrow the rule's prefix, or move the object out of it."


def judge_apart(reference: Reference) -> Finding:
    """Return what is true of a reference that names no key."""
    if reference.target.kind is Kind.LOCAL:
        return judge_local(reference)
    if reference.target.kind is Kind.NOTHING:
        return Finding(
            reference=reference,
            outcome=Outcome.INVALID,
            detail="neither an address nor a file's name, in a column that FIELDS names",
            advice="Correct the value, or leave the column out of FIELDS.",
        )
    return Finding(reference=reference, outcome=Outcome.EXTERNAL, url=reference.value)


def outcome_of(target: Target, key: str) -> Outcome:
    """Return what is true of an address whose object is there under `key`."""
    return (_fault_of(target, key) or _FINE)[0]


def _fault_of(target: Target, key: str) -> Verdict | None:
    """Return what is wrong with an address whose object is there under `key`; None for nothing."""
    if identity(key) != identity(target.key):
        advice = "Let --repair respelled name that key."
        return Outcome.RESPELLED, f"the bucket holds {key!r}", advice
    return _BY_ADDRESS.get(target.via)


def _beside_bucket(finding: Finding) -> Finding:
    """Return a finding about the local file of a name whose key the bucket was asked for, too."""
    if finding.outcome is not Outcome.MISSING:
        return finding
    return finding._replace(detail=f"{finding.detail}, and no such object in the bucket")


def judge_local(reference: Reference) -> Finding:
    """Return what is true of a reference to a local file."""
    try:
        _require_readable(reference.target)
    except UnusableSource as unusable:
        outcome, advice = _UNUSABLE[unusable.reason]
        return Finding(reference=reference, outcome=outcome, detail=unusable.detail, advice=advice)
    return Finding(
        reference=reference,
        outcome=Outcome.SKIPPED,
        detail="a local file",
        advice="Move it with migrate_media_to_r2.",
    )


def _require_readable(target: Target) -> None:
    """Raises: UnusableSource for a local file that is not there, or not to be read."""
    root = target.root
    assert root is not None
    spelled = (path for path in (target.key, *target.spellings) if is_file(root, path))
    path = locate_file(root, next(spelled, target.key))
    if not os.access(path, os.R_OK, effective_ids=os.access in os.supports_effective_ids):
        raise UnusableSource("unreadable", f"no permission to read {path}")
