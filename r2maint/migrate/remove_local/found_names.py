"""What one reading of the keep set names of some local files, and of the objects they became."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from r2maint.bucket import StoredObject
from r2maint.database.snapshot import split
from r2maint.keepset.find_keys import FoundNames, KeyFinder
from r2maint.keepset.local_names import FileNames
from r2maint.keepset.read_texts import JOURNAL
from r2maint.migrate.remove_local.result import RemovalItem
from r2maint.object_index.objects import Inventory

_NEVER = datetime(1970, 1, 1, tzinfo=UTC)
"""Nothing counts here but the name."""


class MovedNames:
    """Two temporary indexes of names, of files and of keys; a context manager.

    Apart, because a key may be spelled like the path of another file.
    """

    def __init__(self, names: FileNames) -> None:
        self._names = names
        self._indexes = ExitStack()

    def __enter__(self) -> Self:
        self._files = self._indexes.enter_context(Inventory())
        self._objects = self._indexes.enter_context(Inventory())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._indexes.__exit__(kind, error, trace)

    def look_for(self, items: Iterable[RemovalItem]) -> None:
        """Add files and objects to those that are looked for."""
        for item in items:
            self._files.add_page([_named(self._names.name_of(item.real))])
            self._objects.add_page([_named(item.original.key)])

    def file_finder(self) -> KeyFinder:
        return self._files.finder()

    def object_part(self) -> ObjectPart:
        return ObjectPart(self._names, self._objects)

    def take(self, source: str, found: FoundNames) -> None:
        self._files.add_names(found.names)

    def is_file_named(self, item: RemovalItem) -> bool:
        return self._files.is_named(self._names.name_of(item.real))

    def is_object_named(self, item: RemovalItem) -> bool:
        return self._objects.is_named(item.original.key)


@dataclass(slots=True)
class ObjectPart:
    """The part of a text that may name files; notes by the way which objects the whole names.

    The journal does not count for those: it goes on naming an object that every row has lost.
    """

    names: FileNames
    objects: Inventory
    finder: KeyFinder = field(init=False)

    def __post_init__(self) -> None:
        self.finder = self.objects.finder()

    def __call__(self, source: str, text: str) -> str:
        if source != JOURNAL:
            for piece in split(text):
                self.objects.add_names(self.finder.find(piece).names)
        return self.names(source, text)


def _named(name: str) -> StoredObject:
    return StoredObject(name, 0, "", _NEVER)
