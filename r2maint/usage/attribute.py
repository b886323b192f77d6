"""Which field names which object: the rows compared with the listing while it arrives.

Of a reference nothing is kept but what it means and where its cell is; of an object that has
passed, what tells copies apart. So a million of both take little time and room. What no page alone
can settle waits in `object_index.late_references`.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import compress
from operator import itemgetter
from types import TracebackType
from typing import Any, NamedTuple

from r2maint import keys
from r2maint.bucket import StoredObject
from r2maint.control import Control
from r2maint.keys import Kind
from r2maint.object_index.late_references import Cell, Late, Use
from r2maint.object_index.named_objects import Naming, Rows
from r2maint.references.column import Column
from r2maint.references.reference import Reference, Shape
from r2maint.scratch.batches import batched
from r2maint.scratch.sorted_rows import SortedRows
from r2maint.usage.duplicates import Duplicates, Versions

_FETCH = 2000
_key_of = itemgetter(0)
"""Of an object."""


class Owner(NamedTuple):
    """One cell, or element in it, that names an object."""

    column: Column
    pk: str
    path: str

    def as_dict(self) -> dict[str, str]:
        return {
            "database": self.column.database,
            "model": self.column.model,
            "table": self.column.table,
            "pk": self.pk,
            "field": self.column.field,
            "column": self.column.column,
            "path": self.path,
        }


class Large(NamedTuple):
    """One of the largest objects, with some of its owners."""

    key: str
    bytes: int
    modified_at: datetime
    storage_class: str
    references: int
    owners: tuple[Owner, ...]
    """At most `MAX_OWNERS`, in the order they were read."""

    def as_dict(self) -> dict[str, Any]:
        return {**self._asdict(), "owners": [owner.as_dict() for owner in self.owners]}


class Attribution:
    """Objects and the fields that name them; a context manager.

    Add references and what is remembered, `join` the listing once, and read.
    """

    def __init__(
        self, columns: Iterable[Column], *, prefix: str = "", narrowed: bool, largest: int = 10
    ) -> None:
        """With `narrowed` only objects that a reference names are there to be read; `largest` is
        how many of the largest, and of the largest sets of duplicates, are told one by one.
        """
        self._columns = sorted(columns, key=lambda each: (name_of(each), each.database))
        self.names = tuple(map(name_of, self._columns))
        """"app.Model.field" by number."""
        self._places = {
            (each.database, each.model, each.field): number
            for number, each in enumerate(self._columns)
        }
        self._prefix, self._is_narrowed = prefix, narrowed
        self._late = Late()
        self._uses: SortedRows[Use] = SortedRows()
        self._seq = 0
        self._versions = Versions()
        self._most = largest
        self._largest = _Largest(largest)

    def __enter__(self) -> Attribution:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._uses.close()
        self._versions.close()
        self._late.__exit__(kind, error, trace)

    # Filling

    def add_uses(self, references: Iterable[Reference]) -> None:
        """Keep what names an object, or would if its file were moved already."""
        places, prefix = self._places, self._prefix
        for batch in batched(references, _FETCH):
            uses: list[Use] = []
            respelled: list[Use] = []
            spellings: list[tuple[int, int, str]] = []
            # A million come by here: unpacked at once, and no call without need.
            for seq, each in enumerate(batch, self._seq):
                database, model, pk, field, path, _, shape, target = each
                kind, _, key, _, others = target
                if not key or not (kind is _BUCKET or shape is _NAME):
                    continue
                # A FileField whose file is still local names no object yet, and misses none.
                is_missed = kind is _BUCKET and key.startswith(prefix)
                cell = f"{pk}\0{path}" if path else pk
                use = (key, seq, places[database, model, field], cell, is_missed)
                (uses if key.isascii() or keys.is_composed(key) else respelled).append(use)
                if others:
                    spellings += ((seq, n, keys.identity(k)) for n, k in enumerate(others))
            self._seq += len(batch)
            self._uses.extend(uses)
            self._late.add_uses(respelled)
            self._late.add_spellings(spellings)

    def add_tried(self, looked_at: Iterable[tuple[str, str]]) -> None:
        """Keep (key, ETag) of pictures a re-encoding has looked at."""
        self._late.add_versions("tried", looked_at)

    def add_sighted(self, seen: Iterable[tuple[str, str]]) -> None:
        """Keep (key, ETag) of what a purge found orphaned."""
        self._late.add_versions("sighted", seen)

    # Joining

    def join(self, pages: Iterable[Sequence[StoredObject]], *, control: Control) -> Iterator[Rows]:
        """Yield the objects of a listing and what is known of each, every object once.

        As `ReferenceIndex.join_references` joins them. Raises whatever the listing raises.
        """
        yield from filter(None, map(self._noted, self._passing(pages, control)))
        self._late.add_uses(self._uses.rest())
        self._late.settle()
        for rows in self._late.iter_rows():
            control.check()
            yield from filter(None, (self._noted(rows),))

    def _passing(self, pages: Iterable[Sequence[StoredObject]], control: Control) -> Iterator[Rows]:
        """Yield what can be settled at once; the rest waits."""
        awaited = self._late.awaited()
        tried, sighted = self._late.versions("tried"), self._late.versions("sighted")
        with control.progress(None, "Listing", "object") as advance:
            for page in pages:
                control.check()
                composed = _composed(page)
                # Another spelling may lie in the place of its composed form: it tells of no place.
                last = composed[-1].key if composed else ""
                # A million may lie between two pages: no more is kept than there are objects.
                here = set(map(_key_of, composed))
                plain = self._plain(
                    page, composed, {name for (name,) in awaited.up_to(last) if name in here}
                )
                yield Rows(
                    plain,
                    self._namings(plain, last),
                    _are_known(plain, dict(_only(here, tried.up_to(last)))),
                    _are_known(plain, dict(_only(here, sighted.up_to(last)))),
                )
                advance(len(page))

    def _plain(
        self,
        page: Sequence[StoredObject],
        composed: Sequence[StoredObject],
        awaited: Container[str],
    ) -> Sequence[StoredObject]:
        """Return the objects only references spelled like them can mean; the others wait."""
        plain = [each for each in composed if each.key not in awaited] if awaited else composed
        if len(plain) < len(page):
            self._late.add_page(sorted(set(page).difference(plain)))
        return plain

    def _namings(self, stored: Sequence[StoredObject], last: str) -> Sequence[Naming | None]:
        """Return what names each of some objects; references of others up to `last` wait."""
        found: dict[str, Naming | None] = dict.fromkeys(map(_key_of, stored))
        self._late.add_uses(self._given(found, last))
        return list(found.values())

    def _given(self, found: dict[str, Naming | None], last: str) -> Iterator[Use]:
        """Give objects their references, and yield those that have none of these objects."""
        for use in self._uses.up_to(last):
            key, _, place, cell, _ = use
            if key not in found:
                yield use
            elif naming := found[key]:
                naming.add(place, cell)
            else:
                found[key] = Naming(place, place, 1, [(place, cell)])

    def _noted(self, rows: Rows) -> Rows | None:
        """Return those of some objects that are counted, and keep what is asked of them later."""
        if self._is_narrowed:
            rows = rows.only([naming is not None for naming in rows.namings])
        self._versions.add(rows)
        self._largest.add(rows)
        return rows if rows.stored else None

    # Reading

    def count_missing(self) -> int:
        """Return how many references name an object that is absent."""
        return self._late.count_missing()

    def duplicates(self) -> Duplicates:
        """Return what is stored more than once, r2maint's own apart. To be asked once."""
        return self._versions.duplicates(self._most)

    def largest(self) -> tuple[Large, ...]:
        """Return the largest objects, the largest first."""
        found = self._largest.found()
        waited = [stored.key for stored, naming in found if naming and not naming.cells]
        cells = self._late.cells_of(waited)
        return tuple(
            Large(
                key=stored.key,
                bytes=stored.size,
                modified_at=stored.modified_at,
                storage_class=stored.storage_class,
                references=naming.count if naming else 0,
                owners=self._owners(naming.cells or cells[stored.key] if naming else ()),
            )
            for stored, naming in found
        )

    def _owners(self, cells: Iterable[Cell]) -> tuple[Owner, ...]:
        parted = ((place, *cell.partition("\0")) for place, cell in cells)
        return tuple(Owner(self._columns[place], pk, path) for place, pk, _, path in parted)


class _Largest:
    """The largest of all objects that pass, with what names them."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._found: list[tuple[StoredObject, Naming | None]] = []
        self._least = 0
        """Bytes below which nothing is among them."""

    def add(self, rows: Rows) -> None:
        large = [each.size >= self._least for each in rows.stored]
        self._found += compress(zip(rows.stored, rows.namings, strict=True), large)
        if len(self._found) > 2 * self._count + _FETCH:
            self._cut()

    def found(self) -> Sequence[tuple[StoredObject, Naming | None]]:
        """Return them, the largest first."""
        self._cut()
        return self._found

    def _cut(self) -> None:
        self._found.sort(key=lambda pair: _rank(pair[0]))
        if len(self._found) > self._count:
            del self._found[self._count :]
            self._least = self._found[-1][0].size


def _composed(page: Sequence[StoredObject]) -> Sequence[StoredObject]:
    """Return the objects whose key is its own identity."""
    if all(map(str.isascii, map(_key_of, page))):
        return page
    return [each for each in page if keys.is_composed(each.key)]


def _only(names: Container[str], versions: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    return (version for version in versions if version[0] in names)


def _are_known(stored: Sequence[StoredObject], versions: Mapping[str, str]) -> Sequence[bool]:
    if not versions:
        return [False] * len(stored)
    return [versions.get(each.key) == each.etag for each in stored]


def _rank(stored: StoredObject) -> tuple[Any, ...]:
    name = keys.identity(stored.key)
    return -stored.size, name, "" if name == stored.key else stored.key


def name_of(column: Column) -> str:
    """Return "app.Model.field"."""
    return f"{column.model}.{column.field}"


# Looking up a member of an Enum takes longer than comparing with it.
_BUCKET, _NAME = Kind.BUCKET, Shape.NAME
