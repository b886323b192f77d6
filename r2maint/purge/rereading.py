"""Read the whole keep set again for a few objects: before they are deleted, and after."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from r2maint import journal
from r2maint.batching import batched
from r2maint.bucket import Bucket, StoredObject
from r2maint.conf import Config
from r2maint.control import Control
from r2maint.errors import Refused
from r2maint.inventory import Inventory
from r2maint.keepset.keyfinder import Found
from r2maint.keepset.reading import KeepSet, Reading, storage_locations

_BATCH = 1000
_KEPT_CELLS = 0.80
"""The part of the cells of the first reading that a later one must find."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rereading:
    """What is named by now."""

    named: frozenset[str]
    """Keys; few, because each was named while the run was under way."""
    reading: Reading

    def require_sources_of(self, before: Reading) -> None:
        """Raise Refused when a source holds far less than it did when the plan was made."""
        for source, names in before.names.items():
            now = self.reading.cells.get(source, 0)
            if names and now < _KEPT_CELLS * before.cells[source]:
                raise Refused(
                    f"A source holds far less than when the plan was made: {source}.",
                    "Nothing more is deleted. Find out what happened to it, then run again.",
                )


def read_again(
    objects: Iterable[StoredObject], config: Config, bucket: Bucket, *, control: Control
) -> Rereading:
    """Look for these objects in everything that can name one.

    Raises: DatabaseError, ConfigError or BucketError when anything cannot be read as a whole.
    """
    with Inventory() as inventory:
        inventory.add_objects(batched(objects, _BATCH), control=control)

        def take(source: str, found: Found) -> None:
            inventory.add_names(found.names)

        def listed() -> Iterator[str]:
            return (item.key for page in bucket.list_pages() for item in page)

        keep_set = KeepSet(config, bucket, now=journal.now())
        finder = inventory.finder(locations=storage_locations(config), absent=False)
        reading = keep_set.read(finder, take, object_keys=listed, control=control)
        named = frozenset(item.key for item in inventory.iter_named(("",)))
    return Rereading(named=named, reading=reading)
