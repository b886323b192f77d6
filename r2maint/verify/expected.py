"""The references that can mean one key only, compared with a listing while it arrives.

Most references of most projects are such: a public URL, or a name, in plain ASCII. Nothing of them
is kept but the key and the place of the cell, in a temporary SQLite file; the listing, which comes
in the order of keys, is never stored for them. So a million take seconds and next to no memory.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from operator import itemgetter
from types import TracebackType
from typing import Any

from r2maint.bucket.base import StoredObject
from r2maint.keys import Kind, Target, Via, identity
from r2maint.references.reading import Reference, Shape
from r2maint.spool import Spool
from r2maint.verify.judging import Lengths

Judged = tuple[Reference, StoredObject | None]
"""A reference and what the listing holds under its key."""

_FETCH = 5000
_SCHEMA = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA temp_store = FILE;
PRAGMA cache_size = -16384;
CREATE TABLE expected (
    seq INTEGER PRIMARY KEY, place INTEGER NOT NULL, key TEXT NOT NULL, pk TEXT NOT NULL,
    path TEXT NOT NULL, value TEXT NOT NULL
);
"""
_COLUMNS = "place, key, pk, path, value"
_WIDTH = 5
# SQLite before 3.32 takes 999 parameters.
_ROWS = 999 // _WIDTH
# Looking up a member of an Enum takes longer than comparing with it.
_BUCKET, _PUBLIC, _NAME = Kind.BUCKET, Via.PUBLIC, Via.NAME
_Place = tuple[str, str, str, str]
"""Database, model, field and shape."""


class Expected:
    """Plain references and how each compares with the listing; a context manager.

    `take` them all, `compare` once, then read `fine` and `iter_odd`.
    """

    def __init__(self, lengths: Lengths, prefix: str = "") -> None:
        """A value longer than its column takes is not plain. Of references whose key does not start
        with `prefix` nothing is told.
        """
        self._lengths, self._prefix = lengths, prefix
        # A database without a name lies in a temporary file and ends with its connection.
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.executescript(_SCHEMA)
        self._db.execute("BEGIN")
        self._places: dict[_Place, int] = {}
        self._odd: Spool[tuple[int, StoredObject | None]] = Spool()
        self._composed: dict[str, StoredObject] = {}
        """Objects whose key is ASCII once it is composed; the listing has them after all others."""
        self.fine = 0
        """How many references name an object that is there and holds bytes."""

    def __enter__(self) -> Expected:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._db.close()

    def take(self, references: Iterable[Reference]) -> list[Reference]:
        """Keep the plain ones; return the others, in order."""
        others: list[Reference] = []
        cells: list[Any] = []
        for each in references:
            target = each.target
            room = self._lengths.get((each.database, each.model, each.field))
            if not _is_plain(target) or (room is not None and len(each.value) > room):
                others.append(each)
            elif target.key.startswith(self._prefix):
                place = each.database, each.model, each.field, each.shape.value
                number = self._places.setdefault(place, len(self._places))
                cells += (number, target.key, each.pk, each.path, each.value)
        self._insert(cells)
        return others

    def compare(self, pages: Iterable[Sequence[StoredObject]]) -> None:
        """Compare with a whole listing, page by page. Raises whatever the listing raises."""
        self._odd = Spool.of(self._compared(pages))

    def iter_odd(self) -> Iterator[Judged]:
        """Yield the references that name no object, or an empty one, in key order."""
        places = list(self._places)
        for seq, stored in self._odd:
            row = self._db.execute(f"SELECT {_COLUMNS} FROM expected WHERE seq = ?", (seq,))
            reference = _reference(row.fetchone(), places)
            yield reference, stored or self._composed.get(reference.target.key)

    def _insert(self, cells: list[Any]) -> None:
        step = _ROWS * _WIDTH
        for start in range(0, len(cells), step):
            values = cells[start : start + step]
            self._db.execute(_insertion(len(values) // _WIDTH), values)

    def _compared(
        self, pages: Iterable[Sequence[StoredObject]]
    ) -> Iterator[tuple[int, StoredObject | None]]:
        """Yield the number of every reference that is not fine, and count those that are."""
        wanted = _Ascending(self._db.execute("SELECT key, seq FROM expected ORDER BY key, seq"))
        for page in pages:
            there = {each.key: each for each in page}
            self._composed.update((identity(key), there[key]) for key in there if _is_odd(key))
            for key, seq in wanted.up_to(page[-1].key) if page else ():
                stored = there.get(key)
                if stored is not None and stored.size:
                    self.fine += 1
                else:
                    yield seq, stored
        for _, seq in wanted.rest():
            yield seq, None


class _Ascending:
    """Rows (key, seq) of a sorted query, taken up to one key after another."""

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._cursor = cursor
        self._rows: list[tuple[str, int]] = []

    def up_to(self, key: str) -> Iterator[tuple[str, int]]:
        """Yield the rows not taken yet whose key comes before `key` or is it."""
        while self._rows or self._fetch():
            end = bisect_right(self._rows, key, key=itemgetter(0))
            taken, self._rows = self._rows[:end], self._rows[end:]
            yield from taken
            if self._rows:
                return

    def rest(self) -> Iterator[tuple[str, int]]:
        """Yield the rows not taken yet."""
        while self._rows or self._fetch():
            taken, self._rows = self._rows, []
            yield from taken

    def _fetch(self) -> bool:
        self._rows = self._cursor.fetchmany(_FETCH)
        return bool(self._rows)


def _is_plain(target: Target) -> bool:
    """Tell whether a reference means one key, whose bytes are the same in every Unicode form."""
    is_named = target.via is _PUBLIC or target.via is _NAME
    return is_named and target.kind is _BUCKET and not target.spellings and target.key.isascii()


def _is_odd(key: str) -> bool:
    """Tell whether a key with letters beyond ASCII is, composed, one without: K for U+212A."""
    return not key.isascii() and identity(key).isascii()


def _reference(row: tuple[int, str, str, str, str], places: Sequence[_Place]) -> Reference:
    number, key, pk, path, value = row
    database, model, field, shape = places[number]
    via = Via.NAME if shape == Shape.NAME.value else Via.PUBLIC
    target = Target(Kind.BUCKET, via, key)
    return Reference(database, model, pk, field, path, value, Shape(shape), target)


@lru_cache(maxsize=16)
def _insertion(rows: int) -> str:
    row = f"({', '.join('?' * _WIDTH)})"
    return f"INSERT INTO expected ({_COLUMNS}) VALUES {', '.join([row] * rows)}"
