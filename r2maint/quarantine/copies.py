"""A scratch index of what lies in quarantine: each copy, of what it is, and who made it.

Manifests tell that, in whatever database their runs were made; the journal tells of the copies of
a run that ended before its manifest. What neither knows is recognised where its original, in the
very version that was copied, is still listed: the name of a copy is a digest of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from r2maint.bucket import StoredObject
from r2maint.journal import journal
from r2maint.models import Change, ChangeKind
from r2maint.quarantine.manifest import PREFIX, Quarantined, is_manifest, version_digest
from r2maint.scratch.batches import batched
from r2maint.scratch.scratch_index import ScratchIndex

_BATCH = 500
_FETCH = 2000
_SCHEMA = """
CREATE TABLE copies (
    name TEXT PRIMARY KEY NOT NULL, size INTEGER NOT NULL, etag TEXT NOT NULL, at INTEGER NOT NULL,
    class TEXT NOT NULL, key TEXT NOT NULL DEFAULT '', run TEXT NOT NULL DEFAULT '',
    made INTEGER NOT NULL DEFAULT 0, known INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE digests (digest TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (digest, name))
WITHOUT ROWID;
"""
_COLUMNS = "name, size, etag, at, class, key, run, made, known"


class Copied(NamedTuple):
    """One copy in quarantine."""

    copy: StoredObject
    key: str
    """Of its original; "" when nobody knows."""
    run_id: str
    """"" when nobody knows."""
    made_at: datetime
    is_known: bool
    """What it is a copy of is known, or its original is there."""


class CopyIndex(ScratchIndex):
    """A temporary index of copies; a context manager. Fill it (`add_*`), then read it."""

    def __init__(self) -> None:
        super().__init__(_SCHEMA)

    def add_copies(self, items: Iterable[StoredObject]) -> None:
        """Store copies as listed; manifests are passed over."""
        self._db.executemany(
            "INSERT OR REPLACE INTO copies (name, size, etag, at, class) VALUES (?, ?, ?, ?, ?)",
            (
                (item.key, item.size, item.etag, _seconds(item.modified_at), item.storage_class)
                for item in items
                if not is_manifest(item.key)
            ),
        )

    def add_entries(
        self, run_id: str, written_at: datetime, entries: Iterable[Quarantined]
    ) -> None:
        """Learn from one manifest; of several that hold a copy, the last one written counts."""
        self._db.executemany(
            "UPDATE copies SET key = ?, run = ?, known = 1, made = max(made, ?) WHERE name = ?",
            ((e.key, run_id, _seconds(written_at), e.copy) for e in entries),
        )

    def add_journal(self) -> None:
        """Learn from the journal what no manifest tells."""
        for batch in batched(self._unknown(), _BATCH):
            lines = Change.objects.using(journal.home()).filter(
                kind=ChangeKind.QUARANTINE, new__in=batch
            )
            told = lines.values_list("old", "run_id", "new")
            self._db.executemany(
                "UPDATE copies SET key = ?, run = ?, known = 1 WHERE name = ?", told
            )

    def add_originals(self, listed: Iterable[StoredObject]) -> None:
        """Learn which copies nobody knows have their original, as it was, in the listing."""
        unknown = ((name.rpartition("/")[2], name) for name in self._unknown())
        self._db.executemany("INSERT INTO digests VALUES (?, ?)", unknown)
        if not self._db.execute("SELECT 1 FROM digests LIMIT 1").fetchone():
            return
        self._db.executemany(
            "UPDATE copies SET key = ?, known = 1"
            " WHERE name IN (SELECT name FROM digests WHERE digest = ?)",
            ((item.key, version_digest(item)) for item in listed),
        )

    def __contains__(self, name: str) -> bool:
        sql = "SELECT 1 FROM copies WHERE name = ?"
        return self._db.execute(sql, (name,)).fetchone() is not None

    def __iter__(self) -> Iterator[Copied]:
        """Yield every copy, those of one run together."""
        cursor = self._db.execute(f"SELECT {_COLUMNS} FROM copies ORDER BY name")
        while rows := cursor.fetchmany(_FETCH):
            for name, size, etag, at, storage_class, key, run, made, known in rows:
                copy = StoredObject(name, size, etag, _time(at), storage_class)
                yield Copied(copy, key, run, _time(max(made, at)), bool(known))

    def _unknown(self) -> Iterator[str]:
        position = PREFIX
        sql = "SELECT name FROM copies WHERE NOT known AND name > ? ORDER BY name LIMIT ?"
        while rows := self._db.execute(sql, (position, _FETCH)).fetchall():
            yield from (name for (name,) in rows)
            position = rows[-1][0]


def _seconds(at: datetime) -> int:
    return int(at.timestamp())


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
