"""What complete runs saw orphaned, and since when: the first of the two looks before a deletion."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from django.db import connections, transaction
from django.db.models import Max

from r2maint.bucket import StoredObject
from r2maint.database.upserts import parameter
from r2maint.journal import journal
from r2maint.keys import digest
from r2maint.models import Sighting
from r2maint.scratch.batches import batched

BATCH = 900
"""SQLite before 3.32 takes at most 999 parameters."""

_COLUMNS = (
    "bucket",
    "key",
    "key_digest",
    "etag",
    "modified_at",
    "circumstances",
    "first_seen_at",
    "last_seen_at",
)
_OBJECT = _COLUMNS[3:6]
"""While these are the same, first seen stays as it is."""
_PENDING = 20_000


@lru_cache(maxsize=8)
def _upsert(alias: str, rows: int) -> str:
    ops, is_mariadb = connections[alias].ops, connections[alias].vendor == "mysql"
    table = ops.quote_name(Sighting._meta.db_table)
    names = {name: ops.quote_name(name) for name in _COLUMNS}
    # MariaDB assigns in this order, each from what stands there by then.
    old = {name: quoted if is_mariadb else f"{table}.{quoted}" for name, quoted in names.items()}
    given = {n: f"VALUES({q})" if is_mariadb else f"excluded.{q}" for n, q in names.items()}
    same = " AND ".join(f"{old[name]} = {given[name]}" for name in _OBJECT)
    first = f"CASE WHEN {same} THEN {old['first_seen_at']} ELSE {given['first_seen_at']} END"
    sets = [f"{names['first_seen_at']} = {first}"]
    sets += [f"{names[name]} = {given[name]}" for name in (*_OBJECT, "last_seen_at")]
    conflict = "ON CONFLICT (bucket, key_digest) DO UPDATE SET"
    row = f"({', '.join(['%s'] * len(_COLUMNS))})"
    return (
        f"INSERT INTO {table} ({', '.join(names.values())}) VALUES {', '.join([row] * rows)}"
        f" {'ON DUPLICATE KEY UPDATE' if is_mariadb else conflict} {', '.join(sets)}"
    )


class Sightings:
    """The sightings of one bucket under one set of circumstances, as of one moment."""

    def __init__(self, bucket: str, circumstances: str, now: datetime) -> None:
        self._bucket = bucket
        self.circumstances = circumstances
        self._now = now
        rows = Sighting.objects.using(journal.home()).filter(bucket=bucket)
        last = rows.aggregate(last=Max("last_seen_at"))["last"]
        # Two runs within one second of the bucket's clock are two runs.
        self._stamp = max(now, last + timedelta(microseconds=1)) if last else now
        self._is_first = last is None
        self._pending: dict[str, StoredObject] = {}

    def first_seen(self, orphans: Sequence[StoredObject]) -> Mapping[str, datetime]:
        """Return key -> when an earlier run first saw this very object orphaned, where one did."""
        if self._is_first:
            return {}
        by_digest = {digest(item.key): item for item in orphans}
        rows = Sighting.objects.using(journal.home()).filter(
            bucket=self._bucket,
            circumstances=self.circumstances,
            key_digest__in=list(by_digest),
        )
        seen = rows.values_list("key_digest", "etag", "modified_at", "first_seen_at")
        return {
            item.key: first
            for name, etag, modified_at, first in seen
            if (item := by_digest[name]).etag == etag and item.modified_at == modified_at
        }

    def disregard(self) -> None:
        """Let nothing count that was seen before; what is recorded now counts later."""
        self._is_first = True

    def record(self, orphans: Iterable[StoredObject]) -> None:
        """Remember these objects as orphaned now; `forget_others` writes down the last of them."""
        for item in orphans:
            self._pending[digest(item.key)] = item
        if len(self._pending) >= _PENDING:
            self._write()

    def forget_others(self) -> None:
        """Forget what was not recorded now: it is named again, or gone."""
        self._write()
        stale = Sighting.objects.using(journal.home()).filter(bucket=self._bucket)
        stale.filter(last_seen_at__lt=self._stamp).delete()

    def _write(self) -> None:
        connection = connections[journal.home()]
        with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
            # In the order of the index, which lets neighbours share its pages.
            for batch in batched(sorted(self._pending.items()), BATCH // len(_COLUMNS)):
                values = [value for name, item in batch for value in self._row(name, item)]
                cursor.execute(_upsert(connection.alias, len(batch)), values)
        self._pending.clear()

    def carry_over(self, circumstances: str) -> None:
        """Let what was seen count under `circumstances`, which only differ in name."""
        rows = Sighting.objects.using(journal.home()).filter(bucket=self._bucket)
        rows.filter(circumstances=self.circumstances).update(circumstances=circumstances)

    def _row(self, name: str, item: StoredObject) -> tuple[Any, ...]:
        alias = journal.home()
        modified_at = parameter(alias, item.modified_at)
        now, stamp = parameter(alias, self._now), parameter(alias, self._stamp)
        head = (self._bucket, item.key, name, item.etag, modified_at)
        return (*head, self.circumstances, now, stamp)


def iter_seen(bucket: str, keys: Iterable[str]) -> Iterator[tuple[str, str, datetime]]:
    """Yield (key, ETag, last seen) of those of some keys that a run saw orphaned."""
    for names in batched(sorted(set(map(digest, keys))), BATCH):
        rows = Sighting.objects.using(journal.home()).filter(bucket=bucket, key_digest__in=names)
        yield from rows.values_list("key", "etag", "last_seen_at")
