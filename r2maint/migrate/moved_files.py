"""Which local files a run of migration moved, by its journal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from django.db.models import QuerySet

from r2maint.journal import journal
from r2maint.keys import Addresses, Kind, Target
from r2maint.local_files.read_file import is_file
from r2maint.local_files.restore_file import MovedFile
from r2maint.models import Change, ChangeKind, ChangeState
from r2maint.scratch.batches import batched
from r2maint.scratch.spool import Spool

_BATCH = 100
_MOVED = (ChangeState.DONE, ChangeState.INTENDED)
"""A run that was killed after an upload, and finished since, found the object there."""


def iter_moved(run_id: str, addresses: Addresses) -> Iterator[MovedFile]:
    """Yield the files a run uploaded, then those it found in the bucket and rewrote values for.

    A file of the second kind is known by the old value alone: a FileField's name whose object was
    there already left nothing in the journal. Lazy; flat in memory.
    """
    for change in journal.iter_changes(run_id):
        if change.kind == ChangeKind.UPLOAD and _is_moved(change):
            yield MovedFile(path=Path(change.old), key=change.key, sha256=change.sha256)
    for alias in journal.journal_aliases():
        yield from _iter_reused(run_id, alias, addresses)


def _is_moved(upload: Change) -> bool:
    """Tell whether an upload is to be counted; one begun before a kill may be there twice."""
    if not Path(upload.old).is_absolute():
        return False
    if upload.state != ChangeState.INTENDED:
        return bool(upload.state == ChangeState.DONE)
    again = _uploads(upload.run_id, [upload.sha256]).filter(key=upload.key, old=upload.old)
    return not again.filter(state=ChangeState.DONE).exists()


def _iter_reused(run_id: str, alias: str, addresses: Addresses) -> Iterator[MovedFile]:
    rewrites = Change.objects.using(alias).filter(
        run_id=run_id, kind=ChangeKind.REWRITE, state=ChangeState.DONE
    )
    values = rewrites.exclude(sha256="").order_by("key").values_list("key", "sha256", "old")
    # Spooled, because hashing takes long, and SQLite lets nobody write while a query is open.
    spooled = Spool.of(values.distinct().iterator())
    by_key = groupby(spooled, key=itemgetter(0))
    for batch in batched(((key, list(group)) for key, group in by_key), _BATCH):
        sums = {sha256 for _, group in batch for _, sha256, _ in group}
        uploaded = set(_uploads(run_id, sums).values_list("key", "old"))
        for key, group in batch:
            found = _local_files(key, group, addresses)
            yield from (each for each in found if (key, str(each.path)) not in uploaded)


def _local_files(
    key: str, values: Iterable[tuple[str, str, str]], addresses: Addresses
) -> Iterator[MovedFile]:
    """Yield each local file that one of these old values, all rewritten to one key, means."""
    located = ((sha256, addresses.locate(old)) for _, sha256, old in values)
    found = {_path_of(t): sha256 for sha256, t in located if t and t.kind is Kind.LOCAL}
    for path, sha256 in found.items():
        yield MovedFile(path=path, key=key, sha256=sha256)


def _uploads(run_id: str, sums: Iterable[str]) -> QuerySet[Change]:
    uploads: QuerySet[Change] = Change.objects.using(journal.home()).filter(
        run_id=run_id, kind=ChangeKind.UPLOAD, state__in=_MOVED, sha256__in=sums
    )
    return uploads


def _path_of(target: Target) -> Path:
    assert target.root is not None
    spellings = (target.key, *target.spellings)
    there = (spelling for spelling in spellings if is_file(target.root, spelling))
    return target.root / next(there, target.key)
