"""Which pictures something names that could not follow them: those stay as they are.

The keep set is read for them as a purge reads it: every text of every database, files, callables
and objects of `EXTRA_REFERENCES`. r2maint's own journal does not count.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from r2maint import keys
from r2maint.bucket import Bucket
from r2maint.conf import Config
from r2maint.control import Control
from r2maint.journal import journal
from r2maint.keepset.find_keys import FoundNames
from r2maint.keepset.read_texts import JOURNAL, KeepSet, storage_locations
from r2maint.object_index.objects import Inventory
from r2maint.reoptimize.result import ReoptimizeAction, ReoptimizeItem
from r2maint.reoptimize.select import Writer
from r2maint.scratch.batches import batched
from r2maint.scratch.scratch_index import ScratchIndex
from r2maint.scratch.spool import Spool

_SCHEMA = """
CREATE TABLE named (
    id TEXT NOT NULL, source TEXT NOT NULL, PRIMARY KEY (id, source)
) WITHOUT ROWID;
"""
_BATCH = 1000


class _Namings(ScratchIndex):
    """Which sources name which keys."""

    def __init__(self) -> None:
        super().__init__(_SCHEMA)

    def add(self, source: str, names: Iterable[str]) -> None:
        rows = ((keys.identity(name), source) for name in names)
        self._db.executemany("INSERT OR IGNORE INTO named VALUES (?, ?)", rows)

    def sources(self, key: str) -> list[str]:
        sql = "SELECT source FROM named WHERE id = ? ORDER BY source"
        return [source for (source,) in self._db.execute(sql, (keys.identity(key),))]


def hold_back(
    items: Spool[ReoptimizeItem],
    config: Config,
    bucket: Bucket,
    writer: Writer,
    listed: Inventory,
    prefix: str,
    control: Control,
) -> Spool[ReoptimizeItem]:
    """Return all items; what something else than its references names is skipped, "not_swappable".

    The whole database is read once, unless nothing is to be converted.
    Raises: DatabaseError, ConfigError or BucketError when a source cannot be read; Stopped.
    """
    wanted = (item.selected.object for item in items if item.action is ReoptimizeAction.CONVERT)
    with Inventory() as candidates, _Namings() as namings:
        if not candidates.add_objects(batched(wanted, _BATCH), control=Control()).count:
            return items

        def take(source: str, found: FoundNames) -> None:
            if source and source != JOURNAL:
                namings.add(source, filter(candidates.has_object, found.names))

        finder = candidates.finder(locations=storage_locations(config))
        KeepSet(config, bucket, now=journal.now()).read(
            finder,
            take,
            object_keys=lambda: _listed_keys(listed, bucket, prefix),
            control=control,
        )
        return Spool.of(_held_back(items, namings, writer))


def _listed_keys(listed: Inventory, bucket: Bucket, prefix: str) -> Iterator[str]:
    """Yield every key of the bucket, of which only those below `prefix` were listed so far."""
    if not prefix:
        return (item.key for item in listed.iter_objects())
    return (item.key for page in bucket.list_pages() for item in page)


def _held_back(
    items: Iterable[ReoptimizeItem], namings: _Namings, writer: Writer
) -> Iterator[ReoptimizeItem]:
    for item in items:
        if item.action is ReoptimizeAction.CONVERT:
            own = set(_sources_of(item, writer))
            if others := [each for each in namings.sources(item.key) if each not in own]:
                detail = f"also named in {', '.join(others)}"
                item = replace(
                    item, action=ReoptimizeAction.SKIP, reason="not_swappable", detail=detail
                )
        yield item


def _sources_of(item: ReoptimizeItem, writer: Writer) -> Iterator[str]:
    """Yield the columns of the item's references, as the keep set names them."""
    for reference in item.references:
        if column := writer.column(reference):
            table = column.table.replace('"', "")
            yield f"{column.database}.{table}.{column.column}"
