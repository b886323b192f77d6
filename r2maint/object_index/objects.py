"""The scratch index of one run: what is in the bucket, and which of it is named.

Everything lies in one temporary SQLite file and streams out of it in key order, so that memory
stays flat however large the bucket is. Keys are compared by `keys.identity`: R2 takes two Unicode
spellings of a name for one object.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from operator import itemgetter
from typing import Any

from r2maint import keys
from r2maint.bucket.protocol import StoredObject
from r2maint.control import Control
from r2maint.keepset.find_keys import MAX_ROOTS, KeyFinder
from r2maint.scratch.batches import batched
from r2maint.scratch.scratch_index import ScratchIndex

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LAST = "\U0010ffff"
_FETCH = 2000
# What SQLite before 3.32 takes.
_MAX_PARAMETERS = 999
_SCHEMA = """
CREATE TABLE objects (
    id TEXT NOT NULL, spelling TEXT NOT NULL, size INTEGER NOT NULL, etag TEXT NOT NULL,
    modified INTEGER NOT NULL, class TEXT NOT NULL, PRIMARY KEY (id, spelling)
) WITHOUT ROWID;
CREATE TABLE found (id TEXT NOT NULL);
CREATE TABLE absent (id TEXT PRIMARY KEY NOT NULL) WITHOUT ROWID;
CREATE TABLE names (id TEXT PRIMARY KEY NOT NULL) WITHOUT ROWID;
"""
COLUMNS = "o.id, o.spelling, o.size, o.etag, o.modified, o.class"
"""What `unpack` takes."""
# "/" is the character after ".".
_SPELLED = "(n.id = :start OR (n.id > :start || '.' AND n.id < :start || '/'))"
_AMONG = """
WITH starts (start) AS (VALUES {values})
SELECT start FROM starts
 WHERE EXISTS (SELECT 1 FROM names n JOIN objects o ON o.id = n.id WHERE n.id = start)
    OR EXISTS (SELECT 1 FROM names n JOIN objects o ON o.id = n.id
                WHERE n.id > start || '.' AND n.id < start || '/'
                  AND substr(n.id, length(start) + 2) NOT GLOB '*[^0-9A-Za-z]*')
"""
_UNNAMED = "NOT EXISTS (SELECT 1 FROM names n WHERE n.id = o.id)"


@dataclass(frozen=True, slots=True)
class Totals:
    """How many objects, and their bytes."""

    count: int
    bytes: int


class Inventory(ScratchIndex):
    """A temporary index of objects and names; a context manager.

    Fill it (`add_*`), then read it (`iter_*`). One thread at a time.
    """

    def __init__(self, schema: str = "") -> None:
        """With the tables of `schema` beside its own."""
        super().__init__(_SCHEMA + schema)

    def add_objects(self, pages: Iterable[Sequence[StoredObject]], *, control: Control) -> Totals:
        """Store the listing and return its totals.

        Raises whatever the listing raises: a partial listing is never a result.
        """
        count = size = 0
        for page in self.storing(pages, control=control):
            count += len(page)
            size += sum(map(itemgetter(1), page))
        return Totals(count, size)

    def storing(
        self,
        pages: Iterable[Sequence[StoredObject]],
        *,
        control: Control,
        only: Container[str] | None = None,
    ) -> Iterator[Sequence[StoredObject]]:
        """Yield the pages of a listing, each once its objects are stored; of `only` these ones.

        `only` holds keys as `keys.identity` has them.
        """
        with control.progress(None, "Listing", "object") as advance:
            for page in pages:
                control.check()
                kept = page if only is None else [o for o in page if keys.identity(o.key) in only]
                self.add_page(kept)
                yield page
                advance(len(page))

    def add_page(self, page: Iterable[StoredObject]) -> None:
        """Store some objects of a listing."""
        self._insert("REPLACE INTO objects", list(map(_pack, page)))

    def add_names(self, names: Iterable[str]) -> None:
        """Store keys that something names; other strings do no harm."""
        self._insert("INSERT INTO found", list(zip(map(keys.identity, names), strict=True)))

    def add_absent(self, names: Iterable[str]) -> None:
        """Store keys that something names although there is no such object."""
        self._db.executemany(
            "INSERT OR IGNORE INTO absent VALUES (?)", ((keys.identity(name),) for name in names)
        )

    def _iter_ids(self, prefixes: Iterable[str]) -> Iterator[list[str]]:
        """Yield the identities of the keys below `prefixes`, in lists, in key order."""
        for prefix in outermost(prefixes):
            where, bounds = _below(prefix)
            cursor = self._db.execute(f"SELECT id FROM objects o WHERE {where}", bounds)
            while rows := cursor.fetchmany(_FETCH):
                yield [row[0] for row in rows]

    def finder(
        self,
        prefixes: Iterable[str] = ("",),
        locations: Iterable[str] = (),
        *,
        absent: bool = True,
    ) -> KeyFinder:
        """Return a finder of all keys below `prefixes`, and of what is `absent` there.

        Of a key below one of `locations`, what follows the location names it too.
        """
        below = outermost(prefixes)
        names = self._iter_ids(below)
        roots = self.roots(below, limit=MAX_ROOTS)
        expected = self._count("SELECT count(*) FROM objects")
        finder = KeyFinder(names, roots, expected=expected, is_key=self.has_object, absent=absent)
        for location in map(keys.identity, locations):
            start = f"{location}/"
            inside = outermost(
                start if start.startswith(prefix) else prefix
                for prefix in below
                if start.startswith(prefix) or prefix.startswith(start)
            )
            rest = ([name[len(start) :] for name in page] for page in self._iter_ids(inside))
            finder.under[location] = KeyFinder(
                rest,
                self._roots_below(start, MAX_ROOTS),
                expected=expected,
                is_key=partial(self._is_below, start),
            )
            certain = finder.under[location].certain
            finder.certain |= {keys.join(location, name) for name in certain}
        return finder

    def _is_below(self, start: str, name: str) -> bool:
        return self.has_object(start + name)

    def _roots_below(self, start: str, limit: int) -> tuple[str, ...] | None:
        """Return the first segments, each with its "/", of what follows `start` in keys."""
        found: list[str] = []
        if not self._add_roots(start, found, limit, len(start)) or len(found) > limit:
            return None
        return tuple(found)

    def iter_objects(self, prefix: str = "") -> Iterator[StoredObject]:
        """Yield the objects whose key starts with `prefix`, in key order."""
        yield from self._objects(prefix, "1")

    def iter_unnamed(self, prefixes: Iterable[str]) -> Iterator[StoredObject]:
        """Yield the objects below `prefixes` that no added name means, in key order."""
        self._settle_names()
        for prefix in outermost(prefixes):
            yield from self._objects(prefix, _UNNAMED)

    def iter_named(self, prefixes: Iterable[str]) -> Iterator[StoredObject]:
        """Yield the objects below `prefixes` that an added name means, in key order."""
        self._settle_names()
        for prefix in outermost(prefixes):
            yield from self._objects(prefix, f"NOT ({_UNNAMED})")

    def totals(self, prefixes: Iterable[str] = ("",), *, named: bool | None = None) -> Totals:
        """Return count and bytes of the objects below `prefixes`; of (un)named ones only."""
        self._settle_names()
        test = {None: "1", True: f"NOT ({_UNNAMED})", False: _UNNAMED}[named]
        count = size = 0
        for prefix in outermost(prefixes):
            where, bounds = _below(prefix)
            row = self._db.execute(
                f"SELECT count(*), coalesce(sum(size), 0) FROM objects o WHERE {where} AND {test}",
                bounds,
            ).fetchone()
            count, size = count + row[0], size + row[1]
        return Totals(count, size)

    def named_among(self, starts: Collection[str]) -> set[str]:
        """Return those of some identities that name an object, as they are or with an extension.

        One extension alone: "a" is not "a.large.jpg".
        """
        self._settle_names()
        found: set[str] = set()
        for batch in batched(starts, _MAX_PARAMETERS):
            values = ", ".join(["(?)"] * len(batch))
            found.update(row[0] for row in self._db.execute(_AMONG.format(values=values), batch))
        return found

    def iter_names(self) -> Iterator[list[str]]:
        """Yield the added names, in lists, in key order."""
        self._settle_names()
        cursor = self._db.execute("SELECT id FROM names ORDER BY id")
        while rows := cursor.fetchmany(_FETCH):
            yield [row[0] for row in rows]

    def count_names(self) -> int:
        """Return how many different names were added."""
        self._settle_names()
        return self._count("SELECT count(*) FROM names")

    def forget_names(self) -> None:
        """Take back what `add_names` was given."""
        self._settle_names()
        self._db.execute("DELETE FROM names")

    def discard_absent(self, names: Iterable[str]) -> None:
        """Take back what `add_absent` was given."""
        self._db.executemany(
            "DELETE FROM absent WHERE id = ?", ((keys.identity(name),) for name in names)
        )

    def count_absent(self) -> int:
        """Return how many keys `add_absent` was given."""
        return self._count("SELECT count(*) FROM absent")

    def is_named(self, key: str) -> bool:
        """Tell whether an added name means `key`."""
        self._settle_names()
        sql = "SELECT count(*) FROM names WHERE id = ?"
        return bool(self._count(sql, (keys.identity(key),)))

    def has_object(self, key: str) -> bool:
        """Tell whether an added object is called `key`."""
        sql = "SELECT count(*) FROM (SELECT 1 FROM objects WHERE id = ? LIMIT 1)"
        return bool(self._count(sql, (keys.identity(key),)))

    def etags(self, names: Sequence[str]) -> dict[str, str]:
        """Return identity -> ETag of the added objects that some keys, at most 900, mean."""
        ids = list(map(keys.identity, names))
        marks = ", ".join("?" * len(ids))
        return dict(self._db.execute(f"SELECT id, etag FROM objects WHERE id IN ({marks})", ids))

    def has_named(self, start: str) -> bool:
        """Tell whether an object is named whose key is `start`, with or without an extension."""
        self._settle_names()
        sql = f"SELECT count(*) FROM names n JOIN objects o ON o.id = n.id WHERE {_SPELLED}"
        return bool(self._count(sql, {"start": keys.identity(start)}))

    def has_named_squeezed(self, start: str) -> bool:
        """Tell the same of a key that holds spaces, spelled without them."""
        self._settle_names()
        squeezed = "replace(id, ' ', '')"
        self._db.execute(
            f"CREATE INDEX IF NOT EXISTS squeezed ON names ({squeezed}) WHERE instr(id, ' ')"
        )
        spelled = _SPELLED.replace("n.id", squeezed)
        sql = f"SELECT count(*) FROM names WHERE instr(id, ' ') AND {spelled}"
        return bool(self._count(sql, {"start": keys.identity(start)}))

    def iter_spelled(self, start: str) -> Iterator[str]:
        """Yield the objects' keys that are `start`, with or without an extension; as identities."""
        sql = f"SELECT id FROM objects n WHERE {_SPELLED}"
        return (row[0] for row in fetched(self._db.execute(sql, {"start": keys.identity(start)})))

    def roots(self, prefixes: Iterable[str] = ("",), *, limit: int) -> tuple[str, ...] | None:
        """Return the first path segments, each with its "/", of the keys below `prefixes`.

        A prefix that ends in "/" counts as one. None when there are more than `limit`, or when a
        key has no "/" at all.
        """
        found: list[str] = []
        for prefix in outermost(prefixes):
            if prefix.endswith("/"):
                found.append(prefix)
            elif not self._add_roots(prefix, found, limit):
                return None
        return tuple(found) if len(found) <= limit else None

    def _add_roots(self, prefix: str, found: list[str], limit: int, skipped: int = 0) -> bool:
        low, top = prefix, prefix + _LAST
        while len(found) <= limit:
            row = self._db.execute(
                "SELECT id FROM objects WHERE id >= ? AND id < ? ORDER BY id LIMIT 1", (low, top)
            ).fetchone()
            if row is None:
                return True
            head, slash, _ = row[0][skipped:].partition("/")
            if not slash:
                return False
            found.append(head + "/")
            # "0" is the character after "/": the first key that is not below this segment.
            low = row[0][:skipped] + head + "0"
        return False

    def _objects(self, prefix: str, test: str) -> Iterator[StoredObject]:
        where, bounds = _below(prefix)
        sql = f"SELECT {COLUMNS} FROM objects o WHERE {where} AND {test} ORDER BY id, spelling"
        return map(unpack, fetched(self._db.execute(sql, bounds)))

    def _insert(self, into: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert many rows a statement, which takes little more than half the time of one each."""
        if not rows:
            return
        step = _MAX_PARAMETERS // len(rows[0])
        whole = len(rows) - len(rows) % step
        for start in range(0, whole, step):
            values = tuple(itertools.chain.from_iterable(rows[start : start + step]))
            self._db.execute(_insertion(into, len(rows[0]), step), values)
        self._db.executemany(_insertion(into, len(rows[0]), 1), rows[whole:])

    def _settle_names(self) -> None:
        # Sorted first: inserting in key order never goes back to a page that left the cache.
        self._db.execute("INSERT OR IGNORE INTO names SELECT id FROM found ORDER BY id")
        self._db.execute("DELETE FROM found")

    def _count(self, sql: str, bounds: Sequence[Any] | Mapping[str, Any] = ()) -> int:
        return int(self._db.execute(sql, bounds).fetchone()[0])


@lru_cache(maxsize=16)
def _insertion(into: str, width: int, rows: int) -> str:
    row = f"({', '.join('?' * width)})"
    return f"{into} VALUES {', '.join([row] * rows)}"


def outermost(prefixes: Iterable[str]) -> tuple[str, ...]:
    """Return `prefixes` as identities, in key order, without those below another."""
    kept: list[str] = []
    for prefix in sorted(set(map(keys.identity, prefixes)), key=keys.order):
        if not kept or not prefix.startswith(kept[-1]):
            kept.append(prefix)
    return tuple(kept)


def _below(prefix: str) -> tuple[str, tuple[str, ...]]:
    if not prefix:
        return "1", ()
    return "o.id >= ? AND o.id < ?", (prefix, prefix + _LAST)


def _pack(item: StoredObject) -> tuple[Any, ...]:
    key, size, etag, modified_at, storage_class = item
    name = key if key.isascii() else keys.identity(key)
    return (
        name,
        "" if name == key else key,
        size,
        etag,
        (modified_at - _EPOCH) // _MICROSECOND,
        "" if storage_class == "STANDARD" else storage_class,
    )


def unpack(row: tuple[Any, ...]) -> StoredObject:
    """Return the object of a row of the table `objects`."""
    name, spelling, size, etag, modified, storage_class = row
    modified_at = _EPOCH + modified * _MICROSECOND
    return StoredObject(spelling or name, size, etag, modified_at, storage_class or "STANDARD")


def fetched(cursor: sqlite3.Cursor) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a query, a few thousand in memory."""
    while rows := cursor.fetchmany(_FETCH):
        yield from rows
