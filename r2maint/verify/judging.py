"""The verdict on one reference, from what the listing says of its key. Pure but for local files."""

from __future__ import annotations

from collections.abc import Iterator

from r2maint.bucket.base import StoredObject
from r2maint.control import Control
from r2maint.inventory import Inventory
from r2maint.keys import Addresses, Kind, Target, Via, identity
from r2maint.references.reading import Reference, Scope
from r2maint.sources import UnusableSource, is_file, locate_file
from r2maint.verify.items import Finding, Outcome

_BY_ADDRESS = {
    Via.ALIAS: (
        Outcome.ALIAS,
        "another base of this bucket",
        "--repair alias rewrites it to PUBLIC_URL.",
    ),
    Via.ENDPOINT: (
        Outcome.PRIVATE_ENDPOINT,
        "the S3 endpoint answers only signed requests",
        "--repair endpoint rewrites it to PUBLIC_URL.",
    ),
    Via.PRESIGNED: (
        Outcome.PRESIGNED,
        "a presigned URL ends within seven days",
        "--repair presigned rewrites it to PUBLIC_URL.",
    ),
}


def joined(
    inventory: Inventory, addresses: Addresses, scope: Scope, control: Control
) -> Iterator[Finding]:
    """Yield a finding for each reference in the inventory whose key is in scope, in key order."""
    for stored, references in inventory.join_references():
        control.check()
        for reference in references:
            if reference.target.key.startswith(scope.prefix):
                yield judge(reference, stored, addresses)


def judge(reference: Reference, stored: StoredObject | None, addresses: Addresses) -> Finding:
    """Return what is true of a reference that names a key, given what is stored there."""
    key = reference.target.key
    if stored is None:
        if reference.target.kind is Kind.LOCAL:
            return judge_local(reference)
        outcome, detail, advice = Outcome.MISSING, "no such object in the bucket", ""
    elif stored.size == 0:
        outcome, detail, advice = Outcome.EMPTY, "the object has 0 bytes", ""
    elif identity(stored.key) != identity(key):
        outcome, detail, advice = (
            Outcome.RESPELLED,
            f"the bucket holds {stored.key!r}",
            "--repair respelled names that key.",
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
        stored=stored,
    )


def outcome_of(target: Target, key: str) -> Outcome:
    """Return what is true of an address whose object is there under `key`."""
    if identity(key) != identity(target.key):
        return Outcome.RESPELLED
    return _BY_ADDRESS[target.via][0] if target.via in _BY_ADDRESS else Outcome.OK


def judge_local(reference: Reference) -> Finding:
    """Return what is true of a reference to a local file."""
    root, target = reference.target.root, reference.target
    assert root is not None
    spelled = (path for path in (target.key, *target.spellings) if is_file(root, path))
    try:
        locate_file(root, next(spelled, target.key))
    except UnusableSource as unusable:
        return Finding(reference=reference, outcome=Outcome.MISSING, detail=unusable.detail)
    return Finding(
        reference=reference,
        outcome=Outcome.SKIPPED,
        detail="a local file",
        advice="Move it with migrate_media_to_r2.",
    )
