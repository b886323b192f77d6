"""Pack a small site into one file, and unpack it anywhere.

A site is a directory with `rows.sqlite3` (the database), `bucket/` (a directory bucket) and
`media/` (local files). The archive holds both SQLite files as SQL text, so that it depends on no
version of SQLite, every other file as it is, and `site.json`, which says how the site was made and
what is expected of it. Only the standard library: the generator imports this module while the rest
of the project comes from another checkout.
"""

from __future__ import annotations

import io
import json
import sqlite3
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

FACTS = "site.json"
_SQL = ".sql"
_PRAGMAS = ("application_id", "user_version")
"""What a dump leaves out; a directory bucket knows its index by the first."""


def pack(site: Path, facts: dict[str, Any], target: Path) -> None:
    """Write the site and its facts to `target`; the same site gives the same bytes."""
    text = json.dumps(facts, indent=1, ensure_ascii=False)
    with tarfile.open(target, "w:xz") as archive:
        _add(archive, FACTS, text.encode())
        for path in sorted(path for path in site.rglob("*") if path.is_file()):
            name = str(path.relative_to(site))
            if name.endswith(("-journal", "-wal", "-shm")):
                continue  # of a killed transaction, which opening the database rolled back
            if path.suffix == ".sqlite3":
                _add(archive, name + _SQL, dump(path).encode())
            else:
                _add(archive, name, path.read_bytes())


def unpack(source: Path, site: Path) -> dict[str, Any]:
    """Make the site in an empty directory, and return its facts."""
    facts: dict[str, Any] = {}
    with tarfile.open(source) as archive:
        for member in archive:
            file = archive.extractfile(member)
            assert file is not None
            body = file.read()
            if member.name == FACTS:
                facts = json.loads(body)
                continue
            path = site / member.name.removesuffix(_SQL)
            path.parent.mkdir(parents=True, exist_ok=True)
            if member.name.endswith(_SQL):
                restore(body.decode(), path)
            else:
                path.write_bytes(body)
    return facts


def dump(path: Path) -> str:
    """Return a SQLite database as SQL.

    Raises: SystemExit unless the SQL makes the very same tables, values and types.
    """
    text = "\n".join(_statements(path))
    copy = path.with_name("copy-of-" + path.name)
    try:
        restore(text, copy)
        if _contents(copy) != _contents(path):
            raise SystemExit(f"The database does not survive a dump: {path}.")
    finally:
        copy.unlink(missing_ok=True)
    return text


def restore(text: str, path: Path) -> None:
    """Make a SQLite database of what `dump` returned."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA synchronous = OFF")
        database.executescript(text)


def _statements(path: Path) -> Iterator[str]:
    with closing(sqlite3.connect(path)) as database:
        for pragma in _PRAGMAS:
            yield f"PRAGMA {pragma} = {database.execute(f'PRAGMA {pragma}').fetchone()[0]};"
        yield from database.iterdump()


def _contents(path: Path) -> list[Any]:
    with closing(sqlite3.connect(path)) as database:
        found: list[Any] = [database.execute(f"PRAGMA {each}").fetchone() for each in _PRAGMAS]
        schema = database.execute("SELECT type, name, sql FROM sqlite_master ORDER BY 1, 2")
        found += schema.fetchall()
        tables = [name for kind, name, _ in found[len(_PRAGMAS) :] if kind == "table"]
        for table in tables:
            columns = [row[1] for row in database.execute(f'PRAGMA table_info("{table}")')]
            cells = ", ".join(f'"{name}", typeof("{name}")' for name in columns)
            rows = database.execute(f'SELECT {cells} FROM "{table}"')
            found.append((table, sorted(map(repr, rows))))
    return found


def _add(archive: tarfile.TarFile, name: str, body: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(body)
    archive.addfile(member, io.BytesIO(body))


def text_of(source: Path) -> str:
    """Return all that is in an archive as one text, to search in."""
    with tarfile.open(source) as archive:
        bodies = (archive.extractfile(member) for member in archive)
        return "\n".join(body.read().decode(errors="replace") for body in bodies if body)
