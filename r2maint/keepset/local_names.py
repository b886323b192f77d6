"""Which texts of the keep set name a local file, where the bucket has an object of the same name.

A file is named by its path below the directory it is served from, under any host. Left out is only
what certainly means the bucket: names of a field whose storage is the bucket, and its own URLs.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from django.apps import apps
from django.db import connections, models, router

from r2maint.conf import Config
from r2maint.database.snapshot import SEPARATOR
from r2maint.keepset.read_texts import JOURNAL
from r2maint.keys import Addresses, Kind
from r2maint.keys.text import inside
from r2maint.local_files.storage_locations import StorageLocation, StoragePlace, storage_location

# As far as no reader could see a second address in it: a query, a further scheme, an escaped ":" or
# "/" and whatever may end a URL are searched like any other text.
_URL = re.compile(
    r"https?://[0-9a-z.:_-]+(?:/(?:[0-9a-z._~-]|%(?!2f|3a|5c|25)[0-9a-f]{2})+)+", re.IGNORECASE
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileNames:
    """Tells what part of a text may name local files; a `Part` of a reading."""

    addresses: Addresses
    in_bucket: frozenset[str]
    """Sources that hold names of the bucket ("default.appdirectory_app.main_image_en")."""
    roots: tuple[Path, ...]
    """Real directories below which a file may be named, deepest first."""

    @classmethod
    def from_config(cls, config: Config, addresses: Addresses) -> FileNames:
        """Return what `config` and the storages of all models say. Raises: ConfigError."""
        fields = list(_iter_fields(config))
        roots = {root.resolve() for _, root in config.local_media}
        roots |= {place.root.resolve() for _, place in fields if place and place.root}
        return cls(
            addresses=addresses,
            in_bucket=_bucket_sources(fields),
            roots=tuple(sorted(roots, key=lambda root: -len(root.parts))),
        )

    def __call__(self, source: str, text: str) -> str:
        """Return the text without what certainly means the bucket.

        Of the journal nothing is left: an undo brings back a file that one of its values names.
        """
        if source == JOURNAL:
            return ""
        if source in self.in_bucket:
            cells = (cell for cell in text.split(SEPARATOR) if not _is_name(cell))
            text = SEPARATOR.join(cells)
        return _URL.sub(self._unless_bucket, text) if "://" in text else text

    def name_of(self, path: Path) -> str:
        """Return the shortest path a text can name this real path by; "" outside every root."""
        for root in self.roots:
            if path.is_relative_to(root):
                return path.relative_to(root).as_posix()
        return ""

    def _unless_bucket(self, url: re.Match[str]) -> str:
        target = self.addresses.locate(url[0])
        return " " if target is not None and target.kind is Kind.BUCKET else url[0]


def _is_name(cell: str) -> bool:
    """Tell whether a FileField's value is a name, and neither an address nor a path elsewhere."""
    return inside(cell) == cell and ":" not in cell and "\\" not in cell


_Field = tuple["models.Field[object, object]", StorageLocation | None]


def _iter_fields(config: Config) -> Iterator[_Field]:
    """Yield every column of every model, with the location of a FileField's storage."""
    for model in apps.get_models(include_auto_created=True):
        for field in model._meta.local_concrete_fields:
            if isinstance(field, models.FileField):
                yield field, storage_location(field.storage, config)
            else:
                yield field, None


def _bucket_sources(fields: list[_Field]) -> frozenset[str]:
    """Return the sources whose every field keeps its files in the bucket."""
    places: defaultdict[str, set[StoragePlace | None]] = defaultdict(set)
    for field, location in fields:
        table = field.model._meta.db_table.replace('"', "")
        for alias in connections:
            # A router that keeps the model out of a database leaves the table there to others.
            is_here = router.allow_migrate_model(alias, field.model)
            place = location.place if location and is_here else None
            places[f"{alias}.{table}.{field.column}"].add(place)
    return frozenset(source for source, found in places.items() if found == {StoragePlace.BUCKET})
