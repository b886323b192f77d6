"""What undone changes need: proved to exist, or proved to be in the bucket and brought back.

An old value may name an object or a local file; of a file that was removed the bucket may hold the
very bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from r2maint.bucket import Bucket
from r2maint.conf import Config
from r2maint.journal.journal import home
from r2maint.keys import Addresses, Kind, Target
from r2maint.local_files.read_file import is_file
from r2maint.local_files.restore_file import MovedFile, bring_back, head_faults, place_fault
from r2maint.models import Change, ChangeKind, ChangeState
from r2maint.references import urls_in_text
from r2maint.references.discover_columns import find_column
from r2maint.references.read_rows import target_of
from r2maint.references.reference import Shape

_REMOVED = (ChangeState.DONE, ChangeState.INTENDED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What was found out of one change."""

    reason: str = ""
    """Why it must not be undone, in a sentence; "" when it may."""
    original: MovedFile | None = None
    """The local file that has to come back first."""


_Found = Target | MovedFile | None
"""What one change needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prover:
    """Looks for what old values name, and for removed files. Only `bring_back` writes."""

    config: Config
    addresses: Addresses
    bucket: Bucket

    def prove(self, changes: Sequence[Change]) -> list[Proof]:
        """Return the proof of each change: of what an old value names, or of a removed file.

        One Class B request for each distinct object; what is in quarantine is proved by restoring.
        """
        found = self._needed(changes)
        absent = self._absent_objects(each for each in found if isinstance(each, Target))
        originals = list(dict.fromkeys(each for each in found if isinstance(each, MovedFile)))
        faults = dict(zip(originals, self._faults(originals), strict=True))
        proofs = []
        for change, each in zip(changes, found, strict=True):
            if isinstance(each, MovedFile):
                proofs.append(Proof(reason=faults[each], original=each))
            else:
                is_value = change.kind == ChangeKind.REWRITE
                proofs.append(Proof(reason=_objection(each, absent) if is_value else ""))
        return proofs

    def bring_back(self, original: MovedFile) -> str:
        """Write a removed file again; return why not in a sentence, "" when its bytes are there."""
        return _told(bring_back(self.bucket, original, self.config), original)

    # What is needed

    def _needed(self, changes: Sequence[Change]) -> list[_Found]:
        found = [self._needed_by(change) for change in changes]
        lost = {
            at: (changes[at], each)
            for at, each in enumerate(found)
            if isinstance(each, Target) and _is_lost(each)
        }
        originals = dict(zip(lost, _originals(list(lost.values())), strict=True))
        return [originals.get(at) or each for at, each in enumerate(found)]

    def _needed_by(self, change: Change) -> _Found:
        if change.kind == ChangeKind.REMOVE:
            return _original(Path(change.old), change)
        if change.kind != ChangeKind.REWRITE:
            return None
        column = find_column(change.database, change.model, change.field, self.config)
        if column is None:
            return None
        if change.shape == Shape.EMBEDDED.value:
            return urls_in_text.locate(change.old, self.addresses)
        found = target_of(column, change.old, self.addresses)
        return found and found[1]

    # Proofs

    def _absent_objects(self, targets: Iterable[Target]) -> set[str]:
        """Return the keys of targets that are not proved to be there in any of their spellings."""
        wanted = [each for each in targets if each.kind is Kind.BUCKET]
        absent = self._absent(sorted({each.key for each in wanted}))
        for target in wanted:
            others = set(target.spellings)
            if target.key in absent and others and self._absent(sorted(others)) != others:
                absent.discard(target.key)
        return absent

    def _absent(self, keys: list[str]) -> set[str]:
        """Return the keys that are not proved to be there."""
        return {result.request for result in self.bucket.head_many(keys) if result.value is None}

    def _faults(self, originals: Sequence[MovedFile]) -> Iterator[str]:
        """Yield why each file cannot come back, as far as its place and a HEAD tell."""
        faults = head_faults(self.bucket, originals)
        for original, fault in zip(originals, faults, strict=True):
            taken = place_fault(original, self.config)
            is_back = not taken and original.path.exists()
            yield _told(taken or ("" if is_back else fault), original)


def _objection(target: _Found, absent: set[str]) -> str:
    """Return why the old value must not come back; "" when what it names exists."""
    if not isinstance(target, Target):
        return "Its old value means nothing under today's settings; is LOCAL_MEDIA complete?"
    if target.kind is Kind.BUCKET and target.key in absent:
        return f"The bucket does not hold its old object: {target.key!r}."
    if _is_lost(target):
        return f"There is no such local file: {target.key!r}."
    return ""


def _is_lost(target: Target) -> bool:
    """Tell whether a target is a local file that is there under none of its spellings."""
    spellings = (target.key, *target.spellings)
    return target.root is not None and not any(is_file(target.root, each) for each in spellings)


# Files that are gone


def _originals(lost: Sequence[tuple[Change, Target]]) -> Iterator[MovedFile | None]:
    """Yield the file each of these changes led away from; None when no journal knows its bytes.

    A value may spell several paths: that of the upload or removal is taken, else the likeliest.
    """
    uploads = _recorded(ChangeKind.UPLOAD, sha256__in={change.sha256 for change, _ in lost} - {""})
    paths = {str(path) for change, target in lost if not change.sha256 for path in _paths(target)}
    removals = _recorded(ChangeKind.REMOVE, old__in=paths)
    for change, target in lost:
        here = _paths(target)
        if change.sha256:
            moved = {u.old for u in uploads if (u.key, u.sha256) == (change.key, change.sha256)}
            path = next((path for path in here if str(path) in moved), here[0])
            yield _original(path, change)
        else:
            removed = (change for change in removals if Path(change.old) in here)
            yield next((_original(Path(change.old), change) for change in removed), None)


def _recorded(kind: str, **conditions: set[str]) -> list[Change]:
    if not any(conditions.values()):
        return []
    changes = Change.objects.using(home()).filter(kind=kind, state__in=_REMOVED, **conditions)
    return list(changes.order_by("-pk"))


def _paths(target: Target) -> list[Path]:
    assert target.root is not None
    return [target.root / spelling for spelling in (target.key, *target.spellings)]


def _original(path: Path, change: Change) -> MovedFile:
    return MovedFile(path=path, key=change.key, sha256=change.sha256)


def _told(fault: str, original: MovedFile) -> str:
    return f"{_FAULTS.get(fault, fault)}: {original.path}." if fault else ""


_FAULTS = {
    "object_missing": "The bucket no longer holds the bytes of the removed file",
    "object_differs": "The object of the removed file holds other bytes",
    "object_unread": "The object of the removed file could not be read",
    "reencoded": "The bucket holds a re-encoded version only, not the removed file",
    "path_taken": "The path of the removed file is taken",
    "outside": "The removed file lay below no directory of today's LOCAL_MEDIA",
    "root_missing": "The directory of LOCAL_MEDIA is not there, for the removed file",
    "unreadable": "The path of the removed file cannot be read",
    "unwritable": "The removed file cannot be written",
}
