"""References by public URL or by name, compared with a listing while it arrives.

Most references of most projects are such. Nothing of them is kept but the key and the place of the
cell, in a temporary SQLite file; the listing, which comes in the order of keys, is never stored for
them. So a million take seconds and next to no memory.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from r2maint.bucket.protocol import StoredObject
from r2maint.keys import Kind, Target, Via, identity, is_composed
from r2maint.references.reference import Reference, Shape
from r2maint.scratch.batches import batched
from r2maint.scratch.scratch_index import ScratchIndex
from r2maint.scratch.spool import Spool

Lengths = Mapping[tuple[str, str, str], int | None]
"""(database, model, field) -> how many characters one value may have; None for any."""
Judged = tuple[Reference, StoredObject | None]
"""A reference and what the listing holds under its key."""

_SCHEMA = """
CREATE TABLE expected (
    seq INTEGER PRIMARY KEY, place INTEGER NOT NULL, key TEXT NOT NULL, pk TEXT NOT NULL,
    path TEXT NOT NULL, value TEXT NOT NULL
);
CREATE TABLE spellings (key TEXT NOT NULL, seq INTEGER NOT NULL, rank INTEGER NOT NULL);
CREATE TABLE kept (key TEXT PRIMARY KEY NOT NULL, stored BLOB NOT NULL) WITHOUT ROWID;
"""
_COLUMNS = "place, key, pk, path, value"
_WIDTH = 6
# SQLite before 3.32 takes 999 parameters.
_ROWS = 999 // _WIDTH
# Looking up a member of an Enum takes longer than comparing with it.
_BUCKET, _PUBLIC, _URL, _NAME = Kind.BUCKET, Via.PUBLIC, Shape.URL, Shape.NAME
_Place = tuple[str, str, str, bool]
"""Database, model and field, and whether a name stands there."""


class Expected(ScratchIndex):
    """Plain references and how each compares with the listing; a context manager.

    `take` them all, `compare` once, then read `fine` and `iter_told`.
    """

    def __init__(
        self,
        lengths: Lengths,
        prefix: str = "",
        *,
        suspects: Container[str] = frozenset(),
        tells_all: bool = False,
    ) -> None:
        """A value longer than its column takes is not plain, nor one whose key is a suspect. Of
        references whose key does not start with `prefix` nothing is told; with `tells_all` all
        others are, those that are fine too.
        """
        self._lengths, self._prefix, self._suspects = lengths, prefix, suspects
        self._tells_all = tells_all
        super().__init__(_SCHEMA, cache_kib=16384)
        self._seq = 0
        self._places: dict[_Place, tuple[int, int]] = {}
        """Their numbers, and how many characters a value may have."""
        self._told: Spool[tuple[int, StoredObject | None]] = Spool()
        self.fine = 0
        """How many references, of which nothing is told, name an object that holds bytes."""

    def take(self, references: Iterable[Reference]) -> list[Reference]:
        """Keep the plain ones; return the others, in order."""
        others: list[Reference] = []
        cells: list[Any] = []
        spelled: list[tuple[str, int, int]] = []
        for each in references:
            target = each.target
            if not _is_plain(each) or target.key in self._suspects:
                others.append(each)
                continue
            place = each.database, each.model, each.field, each.shape is _NAME
            number, room = self._places.get(place) or self._add_place(place)
            if len(each.value) > room:
                others.append(each)
            elif target.key.startswith(self._prefix):
                cells += (self._seq, number, target.key, each.pk, each.path, each.value)
                if target.spellings:
                    spelled += ((identity(k), self._seq, n) for n, k in enumerate(target.spellings))
                self._seq += 1
        self._insert(cells)
        self._db.executemany("INSERT INTO spellings VALUES (?, ?, ?)", spelled)
        return others

    def _add_place(self, place: _Place) -> tuple[int, int]:
        room = self._lengths.get(place[:3])
        found = self._places[place] = len(self._places), sys.maxsize if room is None else room
        return found

    def compare(self, pages: Iterable[Sequence[StoredObject]]) -> None:
        """Compare with a whole listing, page by page. Raises whatever the listing raises."""
        self._told = Spool.of(self._compared(pages))
        self._db.execute("CREATE INDEX spelled ON spellings (seq, rank)")

    def iter_told(self) -> Iterator[Judged]:
        """Yield references with what is stored, by key: those that name no object, an empty one, or
        one of another spelling.
        """
        for batch in batched(self._told, _ROWS):
            references = self._references([seq for seq, _ in batch])
            for seq, stored in batch:
                if stored is None:
                    yield self._absent(seq, references[seq])
                else:
                    yield references[seq], stored

    def _references(self, seqs: list[int]) -> dict[int, Reference]:
        places = list(self._places)
        marks = ", ".join("?" * len(seqs))
        sql = f"SELECT seq, {_COLUMNS} FROM expected WHERE seq IN ({marks})"
        return {seq: _reference(row, places) for seq, *row in self._db.execute(sql, seqs)}

    def _absent(self, seq: int, reference: Reference) -> Judged:
        """Return a reference with its spellings, and the likeliest of them that there is."""
        target = reference.target._replace(spellings=self._spellings_of(seq))
        return reference._replace(target=target), self._kept_under(target)

    def _spellings_of(self, seq: int) -> tuple[str, ...]:
        rows = self._db.execute("SELECT key FROM spellings WHERE seq = ? ORDER BY rank", (seq,))
        return tuple(key for (key,) in rows)

    def _kept_under(self, target: Target) -> StoredObject | None:
        """Return the object of another spelling that a reference means: the likeliest there is."""
        for key in (target.key, *target.spellings):
            if row := self._db.execute("SELECT stored FROM kept WHERE key = ?", (key,)).fetchone():
                found: StoredObject = pickle.loads(row[0])
                return found
        return None

    def _insert(self, cells: list[Any]) -> None:
        step = _ROWS * _WIDTH
        for start in range(0, len(cells), step):
            values = cells[start : start + step]
            self._db.execute(_insertion(len(values) // _WIDTH), values)

    def _compared(
        self, pages: Iterable[Sequence[StoredObject]]
    ) -> Iterator[tuple[int, StoredObject | None]]:
        """Yield the number of every reference that is to be told, and count the others."""
        wanted = self._ascending("SELECT key, seq FROM expected ORDER BY key, seq")
        spelled = self._ascending("SELECT key, seq FROM spellings ORDER BY key")
        for page in filter(None, pages):
            there = {each.key: each for each in page}
            # Another spelling may lie in the place of its composed form: it tells of no place.
            last = next((each.key for each in reversed(page) if is_composed(each.key)), "")
            self._keep(each for each in page if not is_composed(each.key))
            self._keep(there[key] for key, _ in spelled.up_to(last) if key in there)
            for key, seq in wanted.up_to(last):
                stored = there.get(key)
                if stored is None or not stored.size or self._tells_all:
                    yield seq, stored
                else:
                    self.fine += 1
        for _, seq in wanted.rest():
            yield seq, None

    def _keep(self, objects: Iterable[StoredObject]) -> None:
        self._db.executemany(
            "INSERT OR IGNORE INTO kept VALUES (?, ?)",
            ((identity(each.key), pickle.dumps(each)) for each in objects),
        )


def _is_plain(reference: Reference) -> bool:
    """Tell whether a reference is a public URL or a name, its key in the listing's own form."""
    target, shape = reference.target, reference.shape
    is_plain = (target.via is _PUBLIC and shape is _URL) or (
        shape is _NAME and target.kind is _BUCKET
    )
    return is_plain and is_composed(target.key)


def _reference(row: Sequence[Any], places: Sequence[_Place]) -> Reference:
    number, key, pk, path, value = row
    database, model, field, is_name = places[number]
    shape, via = (_NAME, Via.NAME) if is_name else (_URL, _PUBLIC)
    target = Target(_BUCKET, via, key)
    return Reference(database, model, pk, field, path, value, shape, target)


@lru_cache(maxsize=16)
def _insertion(rows: int) -> str:
    row = f"({', '.join('?' * _WIDTH)})"
    return f"INSERT INTO expected VALUES {', '.join([row] * rows)}"
