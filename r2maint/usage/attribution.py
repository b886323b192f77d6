"""Which field names which object: the listing joined with the rows, a number for each field.

Of a reference nothing is kept but what it means and where its cell is, so that a million take
little room, and SQLite brings both together without a Python value for each.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

from r2maint import keys
from r2maint.batching import batched
from r2maint.inventory import Inventory
from r2maint.keys import Kind
from r2maint.pricing import INFREQUENT_ACCESS, STANDARD
from r2maint.references.columns import Column
from r2maint.references.reading import Reference, Shape

MAX_OWNERS = 5
"""Cells told of one object; a placeholder may have a million."""

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_FETCH = 2000
# `cell` is a primary key, and a JSON pointer after "\0" where it is about an element.
_SCHEMA = """
CREATE TABLE uses (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL, spelling TEXT NOT NULL, place INTEGER NOT NULL,
    cell TEXT NOT NULL, is_missed INTEGER NOT NULL
);
CREATE TABLE owned (
    id TEXT NOT NULL, spelling TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
    uses INTEGER NOT NULL, missed INTEGER NOT NULL, PRIMARY KEY (id, spelling)
) WITHOUT ROWID;
CREATE TABLE tried (id TEXT PRIMARY KEY NOT NULL, etag TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE sighted (id TEXT PRIMARY KEY NOT NULL, etag TEXT NOT NULL) WITHOUT ROWID;
"""
_JOIN = "objects o LEFT JOIN owned w ON w.id = o.id AND w.spelling = o.spelling"
# "0" is the character after "/".
_NOT_OWN = "NOT (o.id >= '.r2maint/' AND o.id < '.r2maint0')"


class Row(NamedTuple):
    """An object and the fields that name it; a bare row of the scratch index where it is quick."""

    id: str
    spelling: str
    """The key where it is not its own identity; else ""."""
    size: int
    modified: int
    """Microseconds since 1970."""
    storage_class: str
    """"" for Standard."""
    first: int | None
    """The number of the first field, in alphabetical order, that names it; None for none."""
    last: int | None
    is_tried: int
    """A re-encoding has looked at it."""
    is_sighted: int
    """The last plan of a purge found it orphaned."""


class Owner(NamedTuple):
    """One cell, or element in it, that names an object."""

    column: Column
    pk: str
    path: str

    def as_dict(self) -> dict[str, str]:
        return {
            "database": self.column.database,
            "model": self.column.model,
            "table": self.column.table,
            "pk": self.pk,
            "field": self.column.field,
            "column": self.column.column,
            "path": self.path,
        }


class Large(NamedTuple):
    """One of the largest objects, with some of its owners."""

    key: str
    bytes: int
    modified_at: datetime
    storage_class: str
    references: int
    owners: tuple[Owner, ...]
    """At most `MAX_OWNERS`, in the order they were read."""

    def as_dict(self) -> dict[str, Any]:
        return {**self._asdict(), "owners": [owner.as_dict() for owner in self.owners]}


class Copies(NamedTuple):
    """Objects of one ETag, size and storage class, beyond the one that stays."""

    storage_class: str
    objects: int
    bytes: int


class Attribution(Inventory):
    """A scratch index of objects and of the fields that name them; a context manager.

    Add references, then objects, `settle` once, and read.
    """

    def __init__(self, columns: Iterable[Column], *, prefix: str = "", narrowed: bool) -> None:
        """With `narrowed` only objects that a reference names are there to be read."""
        super().__init__(_SCHEMA)
        self._columns = sorted(columns, key=lambda each: (name_of(each), each.database))
        self.names = tuple(map(name_of, self._columns))
        """"app.Model.field" by number."""
        self._places = {
            (each.database, each.model, each.field): number
            for number, each in enumerate(self._columns)
        }
        self._prefix = prefix
        self._is_narrowed, self._where = narrowed, "w.id IS NOT NULL" if narrowed else "1"
        self._seq = 0

    # Filling

    def add_uses(self, references: Iterable[Reference]) -> None:
        """Keep what names an object, or would if its file were moved already."""
        for batch in batched(references, _FETCH):
            uses: list[tuple[Any, ...]] = []
            spelled: list[tuple[int, int, str]] = []
            # A million come by here: unpacked at once, and no call without need.
            for seq, each in enumerate(batch, self._seq + 1):
                database, model, pk, field, path, _, shape, target = each
                kind, _, key, _, spellings = target
                if not key or not (kind is _BUCKET or shape is _NAME):
                    continue
                name = key if key.isascii() else keys.identity(key)
                spelling = "" if name == key else key
                place = self._places[database, model, field]
                cell = f"{pk}\0{path}" if path else pk
                # A FileField whose file is still local names no object yet, and misses none.
                is_missed = kind is _BUCKET and key.startswith(self._prefix)
                uses.append((seq, name, spelling, place, cell, is_missed))
                if spellings:
                    spelled += ((seq, n, keys.identity(k)) for n, k in enumerate(spellings))
            self._seq += len(batch)
            self._insert("INSERT INTO uses", uses)
            self._insert("INSERT INTO spellings", spelled)

    def add_tried(self, looked_at: Iterable[tuple[str, str]]) -> None:
        """Keep (key, ETag) of pictures a re-encoding has looked at."""
        self._add_versions("tried", looked_at)

    def add_sighted(self, seen: Iterable[tuple[str, str]]) -> None:
        """Keep (key, ETag) of what a purge found orphaned."""
        self._add_versions("sighted", seen)

    def _add_versions(self, table: str, versions: Iterable[tuple[str, str]]) -> None:
        for batch in batched(versions, _FETCH):
            rows = [(keys.identity(key), etag) for key, etag in batch]
            self._insert(f"REPLACE INTO {table}", rows)

    def settle(self) -> None:
        """Give every object its references, as `Inventory.join_references` does."""
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

    def iter_rows(self) -> Iterator[list[tuple[Any, ...]]]:
        """Yield a `Row` for each object, in lists, in key order."""
        known = ", ".join(map(self._known, ("tried", "sighted")))
        cursor = self._db.execute(
            "SELECT o.id, o.spelling, o.size, o.modified, o.class, w.first, w.last,"
            f" {known} FROM {_JOIN} WHERE {self._where} ORDER BY o.id, o.spelling"
        )
        while rows := cursor.fetchmany(_FETCH):
            yield rows

    def _known(self, table: str) -> str:
        """Return what tells whether a table knows the object; nothing is asked of an empty one."""
        if not self._count(f"SELECT count(*) FROM (SELECT 1 FROM {table} LIMIT 1)"):
            return "0"
        return f"EXISTS (SELECT 1 FROM {table} t WHERE t.id = o.id AND t.etag = o.etag)"

    def count_missing(self) -> int:
        """Return how many references name an object that is absent."""
        return self._count(
            "SELECT coalesce(sum(w.missed), 0) FROM owned w WHERE NOT EXISTS"
            " (SELECT 1 FROM objects o WHERE o.id = w.id AND o.spelling = w.spelling)"
        )

    def copies(self) -> Iterator[Copies]:
        """Yield the objects that repeat the bytes of another, r2maint's own apart.

        Equal ETag and size tell: of a multipart upload its parts count too, so that two of equal
        bytes in other parts are not found. A copy in Standard is the one that stays.
        """
        counted = _JOIN if self._is_narrowed else "objects o"
        groups = self._db.execute(
            "SELECT o.size, sum(o.class <> ?1), sum(o.class = ?1)"
            f" FROM {counted} WHERE {self._where} AND o.size > 0 AND {_NOT_OWN}"
            " GROUP BY o.size, o.etag HAVING count(*) > 1",
            (INFREQUENT_ACCESS,),
        )
        for size, standard, infrequent in groups:
            if standard > 1:
                yield Copies(STANDARD, standard - 1, (standard - 1) * size)
            if extra := infrequent - (not standard):
                yield Copies(INFREQUENT_ACCESS, extra, extra * size)

    def largest(self, count: int) -> tuple[Large, ...]:
        """Return the largest objects, the largest first."""
        # What is joined before it is cut to a few takes as long as all the rest.
        first = "ORDER BY o.size DESC, o.id, o.spelling LIMIT ?"
        cut = "objects o" if self._is_narrowed else f"(SELECT * FROM objects o {first}) o"
        self._db.execute(
            "CREATE TEMP TABLE large AS SELECT o.id, o.spelling, o.size, o.modified, o.class,"
            f" coalesce(w.uses, 0) FROM {cut} LEFT JOIN owned w ON w.id = o.id"
            f" AND w.spelling = o.spelling WHERE {self._where} {first}",
            (count,) if self._is_narrowed else (count, count),
        )
        owners = self._owners()
        return tuple(
            Large(
                key=spelling or name,
                bytes=size,
                modified_at=_EPOCH + timedelta(microseconds=modified),
                storage_class=storage_class or "STANDARD",
                references=uses,
                owners=tuple(owners.get((name, spelling), ())),
            )
            for name, spelling, size, modified, storage_class, uses in self._db.execute(
                "SELECT * FROM large ORDER BY rowid"
            )
        )

    def _owners(self) -> Mapping[tuple[str, str], list[Owner]]:
        found: dict[tuple[str, str], list[Owner]] = {}
        for name, spelling, place, cell in self._large_uses():
            pk, _, path = cell.partition("\0")
            owner = Owner(self._columns[place], pk, path)
            found.setdefault((name, spelling), []).append(owner)
        return found

    def _large_uses(self) -> sqlite3.Cursor:
        return self._db.execute(
            "SELECT id, spelling, place, cell FROM (SELECT seq, id, spelling, place, cell,"
            " row_number() OVER (PARTITION BY id, spelling ORDER BY seq) AS nth FROM uses"
            " WHERE (id, spelling) IN (SELECT id, spelling FROM large)) WHERE nth <= ?"
            " ORDER BY seq",
            (MAX_OWNERS,),
        )


def name_of(column: Column) -> str:
    """Return "app.Model.field"."""
    return f"{column.model}.{column.field}"


# Looking up a member of an Enum takes longer than comparing with it.
_BUCKET, _NAME = Kind.BUCKET, Shape.NAME
