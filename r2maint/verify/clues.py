"""The scratch index of what missing references could mean.

Two passes fill it: the values that are looked for, then whatever has one of them. It lies in a
temporary file, so that memory stays flat however much is missing.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Any

from r2maint.scratch.scratch_index import ScratchIndex

MAX_FOUND = 20
"""Of each value; more of them would tell no more."""
_BITS = 1 << 24
_SCHEMA = """
CREATE TABLE wanted (what INTEGER, value TEXT, PRIMARY KEY (what, value)) WITHOUT ROWID;
CREATE TABLE found (what INTEGER, value TEXT, at REAL, payload BLOB);
CREATE INDEX found_value ON found (what, value);
"""


class Clue(int, Enum):
    """What a value is."""

    KEY = 0
    """A key, by identity."""
    SPELLING = 1
    """A key without its encoding, in lower case."""
    STEM = 2
    """A key's last segment without its extension."""
    CONTENT = 3
    """ETag and size."""
    ETAG = 4
    """An MD5, of an object whose size nobody wrote down."""
    SIZE = 5
    COPY = 6
    """Wanted: a key in quarantine. Found, by the key it was deleted from: a copy."""
    RECORD = 7
    """Found: what was written down of the bytes of a key."""


class Clues(ScratchIndex):
    """A temporary index of values and what has them; a context manager. One thread at a time."""

    def __init__(self) -> None:
        super().__init__(_SCHEMA)
        self._bits = bytearray(_BITS // 8)
        """Which values may be wanted: most of a listing is not, and needs no query."""

    def want(self, what: Clue, values: Iterable[str]) -> None:
        """Look for these from now on."""
        rows = ((what, value) for value in self._marked(what, values))
        self._db.executemany("INSERT OR IGNORE INTO wanted VALUES (?, ?)", rows)

    def _marked(self, what: Clue, values: Iterable[str]) -> Iterator[str]:
        for value in values:
            place = hash((what, value)) % _BITS
            self._bits[place >> 3] |= 1 << (place & 7)
            yield value

    def wants(self, what: Clue, value: str) -> bool:
        """Tell whether a value is looked for."""
        place = hash((what, value)) % _BITS
        if not self._bits[place >> 3] & 1 << (place & 7):
            return False
        sql = "SELECT 1 FROM wanted WHERE what = ? AND value = ?"
        return self._db.execute(sql, (what, value)).fetchone() is not None

    def add(self, what: Clue, value: str, found: Any) -> None:
        """Store what has a wanted value; of each value the first twenty."""
        if self.wants(what, value):
            sql = (
                "INSERT INTO found SELECT :what, :value, 0, :found"
                " WHERE (SELECT count(*) FROM found WHERE what = :what AND value = :value) < :most"
            )
            row = {"what": what, "value": value, "found": pickle.dumps(found), "most": MAX_FOUND}
            self._db.execute(sql, row)

    def keep_newest(self, what: Clue, value: str, at: float, found: Any) -> None:
        """Store what is known of a value as of a time, in place of what is older."""
        sql = "SELECT max(at) FROM found WHERE what = ? AND value = ?"
        (newest,) = self._db.execute(sql, (what, value)).fetchone()
        if newest is None or newest <= at:
            self._db.execute("DELETE FROM found WHERE what = ? AND value = ?", (what, value))
            row = (what, value, at, pickle.dumps(found))
            self._db.execute("INSERT INTO found VALUES (?, ?, ?, ?)", row)

    def found(self, what: Clue, value: str) -> list[Any]:
        """Return what has this value, in the order it was added."""
        sql = "SELECT payload FROM found WHERE what = ? AND value = ? ORDER BY rowid"
        return [pickle.loads(row[0]) for row in self._db.execute(sql, (what, value))]
