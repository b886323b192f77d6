"""After a migration: values that still name what was moved, written since or refused."""

from __future__ import annotations

from r2maint.control import Control
from r2maint.keys import Kind
from r2maint.migrate.find_sources import Gatherer, Origin
from r2maint.migrate.new_keys import Namer
from r2maint.migrate.result import MigrationAction, MigrationItem
from r2maint.object_index.objects import Inventory
from r2maint.references.read_rows import iter_references
from r2maint.references.reference import Shape
from r2maint.references.scope import Scope


class MovedSources:
    """Takes note of what is moved, on disk; a context manager."""

    def __init__(self) -> None:
        self._inventory = Inventory()
        self._fresh: list[str] = []
        self._count = 0
        self._has_remote = False

    def __enter__(self) -> MovedSources:
        return self

    def __exit__(self, *error: object) -> None:
        self._inventory.close()

    def add(self, item: MigrationItem) -> None:
        """Take note of a source whose rows were to follow it."""
        if item.action in _MOVED and item.url:
            self._count += 1
            self._has_remote = self._has_remote or item.is_remote
            self._fresh.append(item.source)
            if len(self._fresh) == _BATCH:
                self._settle()

    def _settle(self) -> None:
        self._inventory.add_names(self._fresh)
        self._fresh = []

    def count_still_named(self, namer: Namer, scope: Scope, *, control: Control) -> int:
        """Return how many values in scope still name one of them.

        Reads the rows once more. Names keep their value and do not count.
        """
        self._settle()
        if not self._count:
            return 0
        gatherer = Gatherer(
            config=namer.config,
            addresses=namer.addresses,
            columns=tuple(namer.columns.values()),
            remote=self._has_remote,
        )
        columns = namer.columns.values()
        references = iter_references(columns, namer.addresses, scope, control=control)
        elsewhere = (each for each in references if each.target.kind is not Kind.BUCKET)
        return sum(
            each.shape is not Shape.NAME and self._inventory.is_named(Origin.parse(name).source)
            for name, each in gatherer.gather(elsewhere)
        )


_MOVED = (MigrationAction.UPLOAD, MigrationAction.REUSE)
_BATCH = 1000
