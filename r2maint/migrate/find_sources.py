"""Which references name a source to be moved, and where its bytes are."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from django.core.files.storage import default_storage

from r2maint.conf import Config
from r2maint.keys import Addresses, Kind
from r2maint.local_files.read_file import is_file
from r2maint.local_files.storage_locations import StoragePlace, is_served, storage_location
from r2maint.references.column import Column
from r2maint.references.reference import Reference, Shape


@dataclass(slots=True, kw_only=True)
class Gatherer:
    """Picks the references of a migration out of all; counts what it leaves."""

    config: Config
    addresses: Addresses
    columns: tuple[Column, ...]
    remote: bool
    left: Counter[str] = field(default_factory=Counter)
    _private: frozenset[tuple[str, str, str]] = frozenset()
    _locations: dict[tuple[str, str, str], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._private = frozenset(
            _place_of(column) for column in self.columns if self._is_private(column)
        )
        usual = storage_location(default_storage, self.config).prefix
        self._locations = {
            _place_of(column): column.location
            for column in self.columns
            # Where a storage of another location kept its files before, nobody can tell.
            if column.place is StoragePlace.BUCKET and (column.is_named or column.location == usual)
        }

    def _is_private(self, column: Column) -> bool:
        """Tell whether nothing serves the files of a column's storage, and no setting names it.

        Nothing becomes public unasked (promise 10).
        """
        return (
            column.local_root is not None
            and not column.is_named
            and not is_served(column.local_root, column.base_url, self.addresses)
        )

    def gather(self, references: Iterable[Reference]) -> Iterator[tuple[str, Reference]]:
        """Yield what names a source, and the `Origin` it names, as text.

        Of several readings of a value the one that is a file counts. The references are without
        their directory: a Path takes longer to spool than all the rest.
        """
        for each in references:
            kind = each.target.kind
            if kind is Kind.LOCAL:
                if each.shape is Shape.NAME and _cell(each) in self._private:
                    self.left["private_left"] += 1
                else:
                    yield _of_file(each)
            elif kind is Kind.EXTERNAL:
                if self.remote:
                    yield _of_url(each)
                else:
                    self.left["external_left"] += 1
            elif each.shape is Shape.NAME:
                yield from self._left_behind(each)

    def _left_behind(self, reference: Reference) -> Iterator[tuple[str, Reference]]:
        """Yield the name of a file that was stored locally before `STORAGES` was switched.

        Its value means the bucket by now; LOCAL_MEDIA still has the file.
        """
        location = self._locations.get(_cell(reference))
        key = reference.target.key
        if location is None or not key.startswith(location):
            return
        name = key[len(location) :]
        for _, root in self.config.local_media:
            if is_file(root, name):
                yield str(Origin(str(root), name)), reference
                return


def _of_url(reference: Reference) -> tuple[str, Reference]:
    """Return a reference by its URL; one without a scheme is meant as the site is, with TLS."""
    url = reference.value.strip()
    url = f"https:{url}" if url.startswith("//") else url
    return str(Origin("", url)), reference._replace(target=reference.target._replace(key=url))


def _of_file(reference: Reference) -> tuple[str, Reference]:
    """Return a reference by the one reading of its value that is a file, if any is.

    "/media/50%20off.png" may mean the file "50 off.png", or one whose name holds "%20".
    """
    target = reference.target
    root, key = target.root, target.key
    assert root is not None
    if target.spellings:
        key = next((each for each in (key, *target.spellings) if is_file(root, each)), key)
    found = reference._replace(target=target._replace(key=key, root=None, spellings=()))
    return str(Origin(str(root), key)), found


class Origin(NamedTuple):
    """Where the bytes of one source are."""

    root: str
    """The directory of LOCAL_MEDIA or of a storage; "" for a URL."""
    name: str
    """The path below it, or the URL."""

    @property
    def source(self) -> str:
        """The source as reports name it: the file's path, or the URL."""
        return f"{self.root}{os.sep}{self.name}" if self.root else self.name

    @classmethod
    def parse(cls, text: str) -> Origin:
        return cls(*text.split("\0", 1))

    def __str__(self) -> str:
        return f"{self.root}\0{self.name}"


def _place_of(column: Column) -> tuple[str, str, str]:
    return column.database, column.model, column.field


def _cell(reference: Reference) -> tuple[str, str, str]:
    return reference.database, reference.model, reference.field
