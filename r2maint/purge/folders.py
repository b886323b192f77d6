"""Objects counted by folder, no deeper than a reader can use. Pure, and flat in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from r2maint.keys import identity

DEPTH = 2
"""Folders told apart below a managed prefix."""
_MOST = 10
"""Folders of one name's kind: more are ids, dates and the like, and become one "*"."""
_ANY = "*"


class Amount(NamedTuple):
    """How many objects, and their bytes."""

    objects: int = 0
    bytes: int = 0

    def plus(self, objects: int, size: int) -> Amount:
        return Amount(self.objects + objects, self.bytes + size)


NOTHING = Amount()


class FolderRow(NamedTuple):
    """What one folder holds of what nothing names."""

    prefix: str
    """"submissions/*/icons/", with "*" for any folder."""
    due: Amount
    """Deleted now."""
    later: Amount
    """Not old enough, or not known long enough."""


@dataclass(slots=True)
class _Folder:
    due: Amount = NOTHING
    later: Amount = NOTHING
    inner: dict[str, _Folder] = field(default_factory=dict)

    def within(self, name: str) -> _Folder:
        if _ANY in self.inner:
            return self.inner[_ANY]
        if name not in self.inner and len(self.inner) >= _MOST:
            self.inner = {_ANY: _merged(list(self.inner.values()))}
            return self.inner[_ANY]
        return self.inner.setdefault(name, _Folder())

    def absorb(self, other: _Folder) -> None:
        self.due = self.due.plus(*other.due)
        self.later = self.later.plus(*other.later)
        for name, folder in other.inner.items():
            self.within(name).absorb(folder)


class Folders:
    """Counts objects below the managed prefixes, folder by folder."""

    def __init__(self, prefixes: tuple[str, ...]) -> None:
        self._roots = {prefix: _Folder() for prefix in prefixes}

    def add(self, key: str, size: int, *, is_due: bool) -> None:
        name = identity(key)
        root = next(prefix for prefix in self._roots if name.startswith(prefix))
        folder = self._roots[root]
        for part in name[len(root) :].split("/")[:-1][:DEPTH]:
            folder = folder.within(part)
        if is_due:
            folder.due = folder.due.plus(1, size)
        else:
            folder.later = folder.later.plus(1, size)

    def rows(self) -> tuple[FolderRow, ...]:
        """Return every folder with what lies in it and no folder below, most bytes first."""
        found = (row for prefix, folder in self._roots.items() for row in _rows(prefix, folder))
        return tuple(sorted(found, key=lambda row: (-row.due.bytes, -row.later.bytes, row.prefix)))


def _merged(folders: list[_Folder]) -> _Folder:
    whole = _Folder()
    for folder in folders:
        whole.absorb(folder)
    return whole


def _rows(prefix: str, folder: _Folder) -> Iterator[FolderRow]:
    if folder.due.objects or folder.later.objects:
        yield FolderRow(prefix, folder.due, folder.later)
    for name, inner in folder.inner.items():
        yield from _rows(f"{prefix}{name}/", inner)
