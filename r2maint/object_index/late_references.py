"""What a listing that passes by cannot settle: spellings. Joined when all of it has passed.

A reference may mean an object by another spelling than its first, and objects may be spelled in
another Unicode form than their identity. Few are, so that SQLite may bring both together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from r2maint import keys
from r2maint.object_index.named_objects import MAX_OWNERS, Naming, Rows
from r2maint.object_index.objects import COLUMNS, Inventory, unpack
from r2maint.scratch.batches import batched
from r2maint.scratch.sorted_rows import Ascending

Use = tuple[str, int, int, str, bool]
"""A key as it is spelled, the number of the reference, the number of its field, where in the
column the cell is, and whether the reference is missed where there is no such object."""
Cell = tuple[int, str]
"""The number of a field, and where in its column."""

_FETCH = 2000
_SCHEMA = """
CREATE TABLE uses (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL, spelling TEXT NOT NULL, place INTEGER NOT NULL,
    cell TEXT NOT NULL, is_missed INTEGER NOT NULL
);
CREATE TABLE spellings (seq INTEGER NOT NULL, rank INTEGER NOT NULL, id TEXT NOT NULL);
CREATE TABLE owned (
    id TEXT NOT NULL, spelling TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
    uses INTEGER NOT NULL, missed INTEGER NOT NULL, PRIMARY KEY (id, spelling)
) WITHOUT ROWID;
CREATE TABLE tried (id TEXT PRIMARY KEY NOT NULL, etag TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE sighted (id TEXT PRIMARY KEY NOT NULL, etag TEXT NOT NULL) WITHOUT ROWID;
CREATE TEMP TABLE large (id TEXT NOT NULL, spelling TEXT NOT NULL);
"""
_JOIN = "objects o LEFT JOIN owned w ON w.id = o.id AND w.spelling = o.spelling"


class Late(Inventory):
    """A scratch index of references, objects, and versions that earlier commands saw."""

    def __init__(self) -> None:
        super().__init__(_SCHEMA)

    # Filling

    def add_uses(self, uses: Iterable[Use]) -> None:
        """Keep references that are to be joined here."""
        for batch in batched(uses, _FETCH):
            self._insert("INSERT INTO uses", list(map(_spelled, batch)))

    def add_spellings(self, spellings: Sequence[tuple[int, int, str]]) -> None:
        """Keep (number of a reference, rank, identity) of keys it could mean, too."""
        self._insert("INSERT INTO spellings", spellings)

    def add_versions(self, table: str, versions: Iterable[tuple[str, str]]) -> None:
        """Keep (key, ETag) in the table "tried" or "sighted"."""
        for batch in batched(versions, _FETCH):
            rows = [(keys.identity(key), etag) for key, etag in batch]
            self._insert(f"REPLACE INTO {table}", rows)

    def versions(self, table: str) -> Ascending[tuple[str, str]]:
        """Return (identity, ETag) of a table, in order."""
        return self._ascending(f"SELECT id, etag FROM {table} ORDER BY id")

    def awaited(self) -> Ascending[tuple[str]]:
        """Return the identities that references, as far as they are known here, could mean; in
        order. Objects of these are to be joined here.
        """
        ids = "SELECT id FROM spellings UNION SELECT id FROM uses"
        return self._ascending(f"SELECT id FROM ({ids}) ORDER BY id")

    def settle(self) -> None:
        """Give every object its references, as `ReferenceIndex.join_references` does."""
        self._take_other_spellings()
        self._choose_among_spellings()
        # Sorted first: inserting in key order never goes back to a page that left the cache.
        self._db.execute(
            "INSERT INTO owned SELECT id, spelling, min(place), max(place), count(*),"
            " sum(is_missed) FROM uses GROUP BY id, spelling ORDER BY id, spelling"
        )

    def _take_other_spellings(self) -> None:
        """Let what names no object name the first of its other spellings that exists."""
        if not self._count("SELECT count(*) FROM (SELECT 1 FROM spellings LIMIT 1)"):
            return
        self._db.execute("CREATE INDEX spelled ON spellings (seq, rank)")
        self._db.execute(
            "CREATE TEMP TABLE lost AS SELECT u.id FROM (SELECT DISTINCT id FROM uses"
            " ORDER BY id) u WHERE NOT EXISTS (SELECT 1 FROM objects o WHERE o.id = u.id)"
        )
        self._db.execute(
            "UPDATE uses SET spelling = '', id = coalesce((SELECT s.id FROM spellings s"
            " WHERE s.seq = uses.seq AND EXISTS (SELECT 1 FROM objects o WHERE o.id = s.id)"
            " ORDER BY s.rank), id) WHERE id IN (SELECT id FROM lost)"
        )

    def _choose_among_spellings(self) -> None:
        """Where one identity has several objects, each has the references spelled like it.

        The first has the others. R2 has one object an identity, under whatever spelling.
        """
        self._db.execute(
            "UPDATE uses SET spelling = coalesce("
            "(SELECT o.spelling FROM objects o WHERE o.id = uses.id"
            " AND o.spelling = uses.spelling),"
            " (SELECT min(o.spelling) FROM objects o WHERE o.id = uses.id), '')"
            " WHERE spelling <> '' OR id IN (SELECT id FROM objects WHERE spelling <> '')"
        )

    # Reading

    def iter_rows(self) -> Iterator[Rows]:
        """Yield the objects and what is known of each, in key order."""
        cursor = self._db.execute(
            f"SELECT {COLUMNS}, w.first, w.last, w.uses, {_known('tried')}, {_known('sighted')}"
            f" FROM {_JOIN} ORDER BY o.id, o.spelling"
        )
        while rows := cursor.fetchmany(_FETCH):
            yield Rows(
                [unpack(row[:6]) for row in rows],
                [None if row[6] is None else Naming(*row[6:9]) for row in rows],
                [bool(row[9]) for row in rows],
                [bool(row[10]) for row in rows],
            )

    def count_missing(self) -> int:
        """Return how many references name an object that is absent."""
        return self._count(
            "SELECT coalesce(sum(w.missed), 0) FROM owned w WHERE NOT EXISTS"
            " (SELECT 1 FROM objects o WHERE o.id = w.id AND o.spelling = w.spelling)"
        )

    def cells_of(self, names: Iterable[str]) -> Mapping[str, list[Cell]]:
        """Return of some objects' keys the first cells that name each, in the order of reading."""
        rows = [(keys.identity(key), _spelling(key)) for key in names]
        self._insert("INSERT INTO large", rows)
        found: dict[str, list[Cell]] = {}
        for name, spelling, place, cell in self._large_uses():
            found.setdefault(spelling or name, []).append((place, cell))
        return found

    def _large_uses(self) -> Iterable[tuple[Any, ...]]:
        return self._db.execute(
            "SELECT id, spelling, place, cell FROM (SELECT seq, id, spelling, place, cell,"
            " row_number() OVER (PARTITION BY id, spelling ORDER BY seq) AS nth FROM uses"
            " WHERE (id, spelling) IN (SELECT id, spelling FROM large)) WHERE nth <= ?"
            " ORDER BY seq",
            (MAX_OWNERS,),
        )


def _spelled(use: Use) -> tuple[Any, ...]:
    key, seq, place, cell, is_missed = use
    return seq, keys.identity(key), _spelling(key), place, cell, is_missed


def _spelling(key: str) -> str:
    """Return a key that is not its own identity; else ""."""
    return "" if keys.is_composed(key) else key


def _known(table: str) -> str:
    return f"EXISTS (SELECT 1 FROM {table} t WHERE t.id = o.id AND t.etag = o.etag)"
