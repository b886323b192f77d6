"""References beside the objects they name, in one scratch index, and the join of both.

Streams in key order, so that memory stays flat however many there are of either.
"""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from r2maint import keys
from r2maint.bucket.protocol import StoredObject
from r2maint.object_index.objects import COLUMNS, Inventory, fetched, unpack
from r2maint.scratch.batches import batched

if TYPE_CHECKING:
    from r2maint.references.reference import Reference

Joined = tuple[StoredObject | None, tuple["Reference", ...]]

_BATCH = 2000
_SCHEMA = """
CREATE TABLE refs (seq INTEGER PRIMARY KEY, id TEXT NOT NULL, payload BLOB NOT NULL);
CREATE TABLE spellings (seq INTEGER NOT NULL, rank INTEGER NOT NULL, id TEXT NOT NULL);
"""


class ReferenceIndex(Inventory):
    """An inventory that holds references too: by the keys they name, or by other names."""

    def __init__(self) -> None:
        super().__init__(_SCHEMA)

    def add_references(self, references: Iterable[Reference]) -> int:
        """Store the references that name a key and return how many did; others are passed over."""
        count = 0
        for batch in batched((r for r in references if r.target.key), _BATCH):
            numbered = self._add_numbered((keys.identity(r.target.key), r) for r in batch)
            self._db.executemany(
                "INSERT INTO spellings VALUES (?, ?, ?)",
                (
                    (seq, rank, keys.identity(spelling))
                    for seq, r in numbered
                    for rank, spelling in enumerate(r.target.spellings)
                ),
            )
            count += len(batch)
        return count

    def add_groups(self, references: Iterable[tuple[str, Reference]]) -> None:
        """Store references by names of the caller's own, which `iter_groups` gives back."""
        for batch in batched(references, _BATCH):
            self._add_numbered(batch)

    def wanted(self, *, limit: int) -> frozenset[str] | None:
        """Return the keys, as identities, that references could mean; None for over `limit`."""
        ids = "SELECT id FROM refs UNION SELECT id FROM spellings LIMIT ?"
        found = frozenset(row[0] for row in self._db.execute(ids, (limit + 1,)))
        return found if len(found) <= limit else None

    def _add_numbered(self, named: Iterable[tuple[str, Reference]]) -> list[tuple[int, Reference]]:
        start = self._count("SELECT coalesce(max(seq), 0) FROM refs") + 1
        rows = [(seq, *each) for seq, each in enumerate(named, start)]
        self._db.executemany(
            "INSERT INTO refs VALUES (?, ?, ?)",
            ((seq, name, pickle.dumps(r, pickle.HIGHEST_PROTOCOL)) for seq, name, r in rows),
        )
        return [(seq, r) for seq, _, r in rows]

    def join_references(self) -> Iterator[Joined]:
        """Yield every object with the references that name it, and what is missing, in key order.

        `(object, references)`, `(object, ())` for an object no reference names, and
        `(None, references)` for a key that references name and the bucket lacks. A reference whose
        key is absent counts for the first of its other spellings that exists.
        """
        for objects, references in self._joined():
            yield from _share(objects, tuple(references))

    def join_each_reference(self) -> Iterator[tuple[StoredObject | None, Reference]]:
        """Yield what `join_references` does one by one, however many name one object."""
        for objects, references in self._joined():
            if len(objects) < 2:
                stored = objects[0] if objects else None
                yield from ((stored, each) for each in references)
            else:
                for item, same in _share(objects, tuple(references)):
                    yield from ((item, each) for each in same)

    def iter_groups(self) -> Iterator[tuple[str, tuple[Reference, ...]]]:
        """Yield what `add_groups` was given, the references of one name together, by name."""
        for name, pairs in itertools.groupby(self.iter_grouped(), key=itemgetter(0)):
            yield name, tuple(reference for _, reference in pairs)

    def iter_grouped(self) -> Iterator[tuple[str, Reference]]:
        """Yield what `add_groups` was given, by name, one by one."""
        return ((name, pickle.loads(row)) for name, row in self._packed_references())

    def _joined(self) -> Iterator[tuple[tuple[StoredObject, ...], Iterator[Reference]]]:
        """Yield the objects of each identity with the references that mean it, in key order."""
        self._settle_references()
        packed = itertools.groupby(self._packed_objects(), key=itemgetter(0))
        wanted = itertools.groupby(self._packed_references(), key=itemgetter(0))
        for here, there in _merge(packed, wanted):
            yield tuple(map(unpack, here)), (pickle.loads(row[1]) for row in there)

    def _packed_objects(self) -> Iterator[tuple[Any, ...]]:
        return fetched(self._db.execute(f"SELECT {COLUMNS} FROM objects o ORDER BY id, spelling"))

    def _packed_references(self) -> Iterator[tuple[Any, ...]]:
        return fetched(self._db.execute("SELECT id, payload FROM refs ORDER BY id, seq"))

    def _settle_references(self) -> None:
        self._db.execute("CREATE INDEX IF NOT EXISTS spelling ON spellings (seq, rank)")
        self._db.execute(
            "UPDATE refs SET id = coalesce((SELECT s.id FROM spellings s WHERE s.seq = refs.seq"
            " AND EXISTS (SELECT 1 FROM objects o WHERE o.id = s.id) ORDER BY s.rank), id)"
            " WHERE seq IN (SELECT seq FROM spellings)"
            " AND NOT EXISTS (SELECT 1 FROM objects o WHERE o.id = refs.id)"
        )
        self._db.execute("DELETE FROM spellings")


def _merge(
    left: Iterator[tuple[str, Iterator[Any]]], right: Iterator[tuple[str, Iterator[Any]]]
) -> Iterator[tuple[Iterable[Any], Iterable[Any]]]:
    """Pair the groups of two sorted streams by name; () where one has none."""
    here, there = next(left, None), next(right, None)
    while here or there:
        if there is None or (here and _before(here[0], there[0])):
            assert here is not None
            yield here[1], ()
            here = next(left, None)
        elif here is None or _before(there[0], here[0]):
            yield (), there[1]
            there = next(right, None)
        else:
            yield here[1], there[1]
            here, there = next(left, None), next(right, None)


def _before(one: str, other: str) -> bool:
    # SQLite orders text by its UTF-8 bytes, which is the order of code points, as in Python.
    return one < other


def _share(
    objects: tuple[StoredObject, ...], references: tuple[Reference, ...]
) -> Iterator[Joined]:
    """Give each object of one identity the references spelled like it; the first takes the rest."""
    if not objects:
        yield None, references
        return
    spelled = {item.key for item in objects[1:]}
    yield objects[0], tuple(r for r in references if r.target.key not in spelled)
    for item in objects[1:]:
        yield item, tuple(r for r in references if r.target.key == item.key)
