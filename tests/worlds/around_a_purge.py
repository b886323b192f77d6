"""What goes on around a purge: rows of other connections, uploads, a source file, two clocks.

Rows are committed by a connection of their own to the database file, so that they come in the
middle of whatever r2maint reads. The world remembers what it did: what names an object, since when
without a gap, and what every object should hold.
"""

from __future__ import annotations

import html
import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import NamedTuple
from unicodedata import normalize
from urllib.parse import quote

from r2maint.bucket import Headers
from r2maint.keys import identity
from tests.fakes import R2Fake, Stored

ANCHOR = "submissions/anchor.webp"
"""Always named, so that no database is ever empty."""
KEYS = (
    "submissions/a.webp",
    "submissions/a.webp.bak",
    "submissions/b c (1).webp",
    "submissions/café/é.webp",
    "submissions/d%20e.webp",
    "apps/f+g&h.png",
)
HOUR = timedelta(hours=1)
UNDO_WINDOW = 12 * HOUR
SOURCE = "links.ts"
TABLES = {
    "oddities_article": "(body) VALUES (?)",
    "oddities_listing": "(cover_url, notes) VALUES ('', ?)",
    "oddities_softdeleted": "(deleted, picture_url) VALUES (1, ?)",
    "legacy_banner": "(path) VALUES (?)",
    "nobodys": "(data) VALUES (?)",
}
"""Table -> what of INSERT follows its name: a text anybody knows of, and some that nobody does."""
FORMS: dict[str, Callable[[str], str]] = {
    "plain": lambda key: key,
    "url": lambda key: f"see https://any.example/{quote(key)}?a=1.",
    "raw": lambda key: f"https://old.example:8443/media/{key}",
    "decomposed": lambda key: json.dumps([normalize("NFD", key)]),
    "all escaped": lambda key: "/" + "".join(f"%{byte:02x}" for byte in key.encode()),
    "in a query": lambda key: f"//p.example/?u={quote('https://m.example/' + quote(key), safe='')}",
    "json in json": lambda key: json.dumps({"a": json.dumps({"b": [f"//m.example/{key}"]})}),
    "html": lambda key: f'<img alt="x" src="/{html.escape(key)}">',
}


class Row(NamedTuple):
    table: str
    number: int
    key: str


class Content(NamedTuple):
    """What must come back of an object."""

    body: bytes
    headers: Headers


def content(stored: Stored) -> Content:
    return Content(stored.body, stored.info.headers)


class World:
    """Everything that is not r2maint's; `tick` orders what happens."""

    def __init__(self, bucket: R2Fake, database: str, source: Path) -> None:
        self.bucket = bucket
        self.tick = 0
        self.skew = timedelta(0)
        """By how much this machine's clock is ahead of the bucket's."""
        self.rows: list[Row] = []
        self.filed: set[str] = set()
        self.rewritten: list[tuple[datetime, str]] = []
        """When a run took a key out of a row, and which: an undo needs it for a while."""
        self.in_flight: set[str] = set()
        """Keys that a run has uploaded and no row names yet."""
        self.unread: set[str] = set()
        """What the settings leave out: tables, and "files"."""
        self.since: dict[str, int] = {}
        """Key -> the tick since when something names it, without a gap."""
        self.expected: dict[str, Content] = {}
        """What somebody uploaded and nobody but a purge took away."""
        self._versions = 0
        self._source = source
        self._database = sqlite3.connect(database, isolation_level=None)
        self._begin()

    def _begin(self) -> None:
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute("CREATE TABLE IF NOT EXISTS nobodys (data)")
        for table in TABLES:
            self._database.execute(f"DELETE FROM {table}")
        self._write_source()
        for key in (ANCHOR, *KEYS):
            self.upload(key, body=b"first", age=9 * HOUR)
        self.name(ANCHOR, "oddities_article", "plain")

    def close(self) -> None:
        self._database.close()

    # Clocks

    def machine_now(self) -> datetime:
        return self.bucket.clock() + self.skew

    def pass_time(self, by: timedelta) -> None:
        self.bucket.clock.move(by)
        self.look()

    # What names objects

    def named(self, now: datetime) -> set[str]:
        """Return what something names when an undo's needs are judged by this clock."""
        names = {row.key for row in self.rows if row.table not in self.unread}
        names |= self.in_flight | (self.filed if "files" not in self.unread else set())
        return names | {key for at, key in self.rewritten if at >= now - UNDO_WINDOW}

    def look(self) -> None:
        """Take note of what is named by now, and since when."""
        self.tick += 1
        named = self.named(self.machine_now())
        self.since = {key: self.since.get(key, self.tick) for key in named}

    def name(self, key: str, table: str, form: str) -> None:
        with self._changed_rows():
            self._insert(key, table, form)

    def forget(self, key: str) -> None:
        with self._changed_rows():
            for row in [row for row in self.rows if row.key == key]:
                self._delete(row)

    def move(self, row: Row, table: str, form: str) -> None:
        """Move what a row names to another table, in one transaction."""
        with self._changed_rows():
            self._delete(row)
            self._insert(row.key, table, form)

    def file(self, *keys: str) -> None:
        """Let a source file name exactly these keys."""
        self.filed = set(keys)
        self._write_source()
        self.look()

    @contextmanager
    def _changed_rows(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        yield
        self._database.execute("COMMIT")
        self.look()

    def _insert(self, key: str, table: str, form: str) -> None:
        done = self._database.execute(f"INSERT INTO {table} {TABLES[table]}", [FORMS[form](key)])
        assert done.lastrowid is not None
        self.rows.append(Row(table, done.lastrowid, key))

    def _delete(self, row: Row) -> None:
        self._database.execute(f"DELETE FROM {row.table} WHERE rowid = ?", [row.number])
        self.rows.remove(row)

    def _write_source(self) -> None:
        text = "\n".join(f"const u = 'https://m/{quote(key)}'" for key in sorted(self.filed))
        self._source.write_text(text or "// nothing", encoding="utf-8")

    def committed_deletion(self, key: str) -> str | None:
        """Return where the copy of what is about to be deleted lies, as others can read it."""
        sql = "SELECT new FROM r2maint_change WHERE kind = 'delete' AND state = 'intended' AND old = ?"
        found = self._database.execute(f"{sql} ORDER BY id DESC", [key]).fetchone()
        return None if found is None else str(found[0])

    # Objects

    def upload(self, key: str, *, body: bytes, age: timedelta, decomposed: bool = False) -> None:
        """Store a version of an object, told from every other by its metadata."""
        self._versions += 1
        cold = self._versions % 5 == 0
        headers = Headers(
            content_type=f"image/{self._versions % 3}",
            metadata={"version": str(self._versions)},
            storage_class="STANDARD_IA" if cold else "STANDARD",
        )
        spelling = normalize("NFD", key) if decomposed else key
        self.bucket.add(spelling, body, headers=headers, age=age)
        self.expected[key] = Content(body, headers)
        self.tick += 1

    def take(self, key: str) -> None:
        """Delete an object, as its owner may."""
        self.bucket.objects.pop(identity(key), None)
        self.expected.pop(key, None)
        self.tick += 1

    # At random

    def touch(self, chance: Random, key: str) -> str:
        """Do to an object what is hardest to see: name it, or replace it by what looks like it."""
        stored = self.bucket.objects.get(identity(key))
        what = chance.choice(["name", "same second", "same bytes"])
        if what == "name" or stored is None:
            self.name(key, chance.choice([*TABLES]), chance.choice([*FORMS]))
        elif what == "same bytes":
            self.upload(key, body=stored.body, age=chance.choice([timedelta(0), HOUR, 9 * HOUR]))
        else:
            body = b"other" if stored.body == b"first" else b"first"
            self.upload(key, body=body, age=self.bucket.now() - stored.info.modified_at)
        return f"{what} {key}"

    def happen(self, chance: Random, keys: tuple[str, ...] = KEYS) -> str:
        """Let one thing happen, to one of these keys if it is about a key; return what it was."""
        key, table, form = chance.choice(keys), chance.choice([*TABLES]), chance.choice([*FORMS])
        what = chance.choice([*_WEIGHTS.elements()])
        if what in ("upload", "upload with a row"):
            body = chance.choice([b"first", b"other", str(self._versions).encode()])
            age = chance.choice([timedelta(0), HOUR, 9 * HOUR, 9 * HOUR])
            self.upload(key, body=body, age=age, decomposed=chance.random() < 0.2)
        if what in ("name", "upload with a row"):
            self.name(key, table, form)
        elif what == "forget":
            self.forget(key)
        elif what == "move" and (rows := [row for row in self.rows if row.key in keys]):
            self.move(chance.choice(rows), table, form)
        elif what == "take":
            self.take(key)
        elif what == "file":
            self.file(*self.filed, key)
        elif what == "time":
            self.pass_time(chance.randrange(4) * HOUR)
        return f"{what} {key} {form} {table}"


_WEIGHTS = Counter(
    {
        "name": 4,
        "upload": 4,
        "upload with a row": 2,
        "move": 4,
        "forget": 2,
        "take": 1,
        "file": 1,
        "time": 1,
    }
)
