"""What a plan's objects come to: by folder, by day, the largest, the oldest. Pure, and flat."""

from __future__ import annotations

import heapq
import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date
from typing import Any, NamedTuple

from r2maint.bucket import StoredObject
from r2maint.keys import identity
from r2maint.purge.verdict import UNNAMED, PurgeAction, PurgeItem, PurgeVerdict

LARGEST = 20
EXTREMES = 5
"""Of the oldest, and of the youngest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotCounted:
    """Objects of which a plan says only that it leaves them alone."""

    what: str
    amount: Amount
    reason: str

    def as_dict(self) -> dict[str, Any]:
        return {"what": self.what, **_told(self.amount), "reason": self.reason}


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """What a reader wants to know before saying yes."""

    folders: tuple[FolderRow, ...] = ()
    due: Mapping[date, Amount] = field(default_factory=dict)
    """Day (UTC) -> what falls due on it, if it is still an orphan then; in order."""
    largest: tuple[StoredObject, ...] = ()
    oldest: tuple[StoredObject, ...] = ()
    youngest: tuple[StoredObject, ...] = ()
    not_counted: tuple[NotCounted, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return {
            "prefixes": [_row(row) for row in self.folders],
            "due": [{"date": day.isoformat(), **_told(it)} for day, it in self.due.items()],
            "largest": [object_row(one) for one in self.largest],
            "oldest": [object_row(one) for one in self.oldest],
            "youngest": [object_row(one) for one in self.youngest],
            "not_counted": [one.as_dict() for one in self.not_counted],
        }


class PurgeTally:
    """Takes a plan's items one by one."""

    def __init__(self, prefixes: tuple[str, ...]) -> None:
        self._folders = Folders(prefixes)
        self._due: defaultdict[date, Amount] = defaultdict(Amount)
        self._kept: defaultdict[str, Amount] = defaultdict(Amount)
        self._largest = _Top(LARGEST)
        self._oldest, self._youngest = _Top(EXTREMES), _Top(EXTREMES)

    def add(self, item: PurgeItem) -> None:
        stored = item.object
        if item.action is PurgeAction.PLAN:
            self._folders.add(stored.key, stored.size, is_due=True)
            age = stored.modified_at.timestamp()
            self._largest.add(stored.size, stored)
            self._oldest.add(-age, stored)
            self._youngest.add(age, stored)
        elif item.verdict is PurgeVerdict.ORPHAN:
            self.leave("over_limit", stored)
        elif item.verdict in UNNAMED and item.due_at is not None:
            self._folders.add(stored.key, stored.size, is_due=False)
            day = item.due_at.astimezone(UTC).date()
            self._due[day] = self._due[day].plus(1, stored.size)
        else:
            self.leave(item.verdict.value, stored)

    def leave(self, what: str, stored: StoredObject) -> None:
        """Count an object that is left alone."""
        self._kept[what] = self._kept[what].plus(1, stored.size)

    def overview(self, further: Mapping[str, Amount]) -> Overview:
        """Return what it came to; `further` is what is left alone without being judged."""
        kept = {**self._kept, **further}
        return Overview(
            folders=self._folders.rows(),
            due=dict(sorted(self._due.items())),
            largest=self._largest.found(),
            oldest=self._oldest.found(),
            youngest=self._youngest.found(),
            not_counted=tuple(
                NotCounted(what=what, amount=kept[what], reason=reason)
                for what, reason in _REASONS.items()
                if what in kept and kept[what].objects
            ),
        )


_REASONS = {
    "unmanaged": "below no prefix of MANAGED_PREFIXES",
    "protected": "a pattern of PROTECTED or EXTRA_REFERENCES['objects'] matches",
    "derived": "renditions of objects that are kept (DERIVED)",
    "kin": "images beside a named object, as its variants would lie (--include-kin, DERIVED)",
    "outside_prefix": "unnamed, and not below --prefix",
    "over_limit": "unnamed and due, and over --limit",
    "own": "r2maint's own: marker, lease, and copies in quarantine",
}


class _Top:
    """The objects of the highest rank, the first listed among equals."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._heap: list[tuple[float, int, StoredObject]] = []
        self._number = itertools.count(0, -1)

    def add(self, rank: float, stored: StoredObject) -> None:
        entry = (rank, next(self._number), stored)
        if len(self._heap) < self._size:
            heapq.heappush(self._heap, entry)
        elif entry > self._heap[0]:
            heapq.heapreplace(self._heap, entry)

    def found(self) -> tuple[StoredObject, ...]:
        return tuple(stored for *_, stored in sorted(self._heap, reverse=True))


def object_row(stored: StoredObject) -> dict[str, Any]:
    """Return one object as reports show it."""
    return {"key": stored.key, "bytes": stored.size, "modified_at": stored.modified_at}


def _row(row: FolderRow) -> dict[str, Any]:
    return {
        "prefix": row.prefix,
        **_told(row.due),
        "later_objects": row.later.objects,
        "later_bytes": row.later.bytes,
    }


def _told(amount: Amount) -> dict[str, int]:
    return {"objects": amount.objects, "bytes": amount.bytes}


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
