"""The aliases of DATABASES a command goes through: each database once.

Two aliases are one database only by proof: what one connection does, the other sees, and both find
the same tables by a bare name. Settings prove nothing: `OPTIONS` may lead elsewhere, and so may two
names to one server. Nor does what a server says of itself: a promoted copy says the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from django.db import Error as DjangoDatabaseError
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from r2maint.database.connections import absent_file, is_replica, reading
from r2maint.database.mariadb import mariadb_place, share_mariadb
from r2maint.database.postgresql import postgresql_place, share_postgresql
from r2maint.database.sqlite import sqlite_place
from r2maint.errors import UsageError, suggest

Place = tuple[object, ...]


def iter_aliases(named: Sequence[str] = (), *, excluded: Collection[str] = ()) -> Iterator[str]:
    """Yield the aliases named, or else all: each database once, and no read-only replica.

    Of those that an entry of NOT_REFERENCES excludes, none whose file does not exist.
    Raises: UsageError for an alias that is not configured; DatabaseError.
    """
    for alias in named:
        if alias not in connections:
            hint = suggest(alias, list(connections))
            raise UsageError(f"--database names no database: {alias!r}.", hint)
    aliases = sorted(named or connections, key=lambda alias: alias != "default")
    if not named:
        present = (a for a in aliases if not (is_excluded(a, excluded) and absent_file(a)))
        aliases = [alias for alias in present if not _is_replica(alias)]
    yield from distinct_aliases(aliases)


def is_excluded(alias: str, entries: Collection[str]) -> bool:
    """Tell whether an entry of NOT_REFERENCES names the whole database: "archive", "archive.*"."""
    return alias in entries or f"{alias}.*" in entries


def _is_replica(alias: str) -> bool:
    with reading(alias):
        return is_replica(connections[alias])


def distinct_aliases(aliases: Iterable[str]) -> Iterator[str]:
    """Yield the first alias of each database. Raises: DatabaseError for one that does not answer.

    Without a proof both are yielded: a database read twice harms nothing, one not read does.
    """
    seen: list[tuple[BaseDatabaseWrapper, Place]] = []
    for alias in aliases:
        connection = connections[alias]
        place = _place(connection)
        if not any(place == other and _is_one(connection, known) for known, other in seen):
            seen.append((connection, place))
            yield alias


def _place(connection: BaseDatabaseWrapper) -> Place:
    find = _PLACES.get(connection.vendor)
    with reading(connection.alias):
        return (connection.vendor, *(find(connection) if find else (connection.alias,)))


def _is_one(one: BaseDatabaseWrapper, other: BaseDatabaseWrapper) -> bool:
    if one is other or one.vendor not in _PROOFS:
        return True
    try:
        return _PROOFS[one.vendor](one, other)
    except DjangoDatabaseError:
        return False


_PLACES: dict[str, Callable[[BaseDatabaseWrapper], Place]] = {
    "sqlite": sqlite_place,
    "postgresql": postgresql_place,
    "mysql": mariadb_place,
}
"""What two connections to one database have in common; a difference proves that they are two."""
_PROOFS: dict[str, Callable[[BaseDatabaseWrapper, BaseDatabaseWrapper], bool]] = {
    "postgresql": share_postgresql,
    "mysql": share_mariadb,
}
"""Whether one connection sees what the other does. Of a file on this machine its place is proof."""
