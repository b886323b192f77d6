"""After a migration: values that still name what was moved, written since or refused."""

from __future__ import annotations

from collections.abc import Iterable

from r2maint.control import Control
from r2maint.inventory import Inventory
from r2maint.keys import Kind
from r2maint.migrate.gathering import Gatherer, origin_of
from r2maint.migrate.items import Action, Item
from r2maint.migrate.naming import Namer
from r2maint.references.reading import Scope, Shape, iter_references


def count_still_named(
    items: Iterable[Item], namer: Namer, scope: Scope, *, control: Control
) -> int:
    """Return how many values in scope still name a source whose rows were to follow it.

    Reads the rows once more. Names keep their value and do not count.
    """
    moved = [item for item in items if item.action in _MOVED and item.url]
    if not moved:
        return 0
    gatherer = Gatherer(
        config=namer.config,
        addresses=namer.addresses,
        columns=tuple(namer.columns.values()),
        remote=any(item.is_remote for item in moved),
    )
    with Inventory() as inventory:
        inventory.add_names(item.source for item in moved)
        references = iter_references(
            namer.columns.values(), namer.addresses, scope, control=control
        )
        places = (each for each in references if each.target.kind is not Kind.BUCKET)
        return sum(
            each.shape is not Shape.NAME and inventory.is_named(origin_of(each).source)
            for each in gatherer.gather(places)
        )


_MOVED = (Action.UPLOAD, Action.REUSE)
