"""What keeps an object alive: the whole of every database as text, files, callables and objects.

Wider than `references`: no model, manager or setting narrows it, and nothing in it is rewritten.
Whatever cannot be read as a whole is an error, because a key that was not seen is deleted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

from django.apps import apps
from django.core.files.storage import FileSystemStorage, default_storage
from django.db import connections, models
from django.db.backends.base.base import BaseDatabaseWrapper

from r2maint import keys
from r2maint.bucket import Bucket
from r2maint.conf import Config
from r2maint.control import Control
from r2maint.database.aliases import distinct_aliases
from r2maint.database.catalogue import list_tables
from r2maint.database.connections import fetch, reading
from r2maint.database.snapshot import SEPARATOR, iter_cells, open_snapshot, split
from r2maint.database.text_table import Barred, TextTable, text_table
from r2maint.errors import ConfigError, DatabaseError
from r2maint.journal import journal
from r2maint.keepset.excluded_tables import ExcludedTables
from r2maint.keepset.extra_sources import (
    iter_callables,
    iter_files,
    iter_object_texts,
    iter_objects,
)
from r2maint.keepset.find_keys import FoundNames, KeyFinder
from r2maint.keepset.model_defaults import MODEL_DEFAULTS, iter_model_defaults
from r2maint.keepset.walk_files import matching_files
from r2maint.keys.text import decode, normal_host
from r2maint.scratch.batches import batched

Take = Callable[[str, FoundNames], object]
"""Told the source ("default.app_submissions.main_image_en") and what one piece of it names."""
Part = Callable[[str, str], str]
"""Given a source and what it holds: the part that is searched."""

JOURNAL = "r2maint.journal"
"""The source of what r2maint itself still needs."""
_BATCH = 1000
_LISTED = re.compile(r'"((?:[^"\\]|\\.)*)"|[^",{}\[\]]+')
"""The texts of JSON, or of an array as PostgreSQL writes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one reading of the keep set went through."""

    cells: Mapping[str, int]
    """Source -> cells, lines or strings that hold anything."""
    names: Mapping[str, int]
    """Source -> keys found in it, counted once a piece."""
    notes: tuple[str, ...]
    """What was left out, and why."""
    hosts: Mapping[str, int]
    """Host -> URLs of it that name a key."""

    @property
    def named(self) -> dict[str, int]:
        """Source, or "host:" and a host -> keys found in it, or by URLs under it."""
        hosts = {f"host:{host}": count for host, count in self.hosts.items()}
        return {**self.names, **hosts}

    @property
    def sources(self) -> tuple[str, ...]:
        """Everything that was read, by name."""
        return tuple(sorted(self.cells))


class KeepSet:
    """Everything that can keep an object alive; read as often as a run needs it."""

    def __init__(self, config: Config, bucket: Bucket, *, now: datetime) -> None:
        """`now` decides which undo windows are open."""
        self._config = config
        self._bucket = bucket
        self._now = now

    def read(
        self,
        finder: KeyFinder,
        take: Take,
        *,
        object_keys: Callable[[], Iterable[str]] = tuple,
        part: Part = lambda source, text: text,
        control: Control,
    ) -> Reading:
        """Look for the finder's keys in every source and hand over what each piece names.

        `object_keys` gives the keys of the listing, of which those that
        EXTRA_REFERENCES["objects"] means are read too. `part` leaves out what names nothing that is
        looked for; an object is named by the whole.
        Raises: DatabaseError, ConfigError or BucketError when a source cannot be read as a whole;
        what was handed over before is then worth nothing.
        """
        cells: Counter[str] = Counter()
        names: Counter[str] = Counter()
        hosts: Counter[str] = Counter()
        notes: list[str] = []
        # Closed at once when it is stopped: it holds a snapshot open.
        with closing(self._iter_pieces(object_keys, notes)) as pieces:
            for source, text, count in control.track(pieces, "Reading references", unit="piece"):
                cells[source] += count
                for piece in split(part(source, text)):
                    found = finder.find(piece)
                    names[source] += len(found.names)
                    hosts.update(count_hosts(piece, found.names))
                    take(source, found)
        take("", FoundNames(names=finder.certain))
        return Reading(cells=cells, names=names, notes=tuple(notes), hosts=hosts)

    def iter_omitted(self, name: str) -> Generator[tuple[str, str, int], None, None]:
        """Yield (source, text, cells) of what one entry of NOT_REFERENCES keeps from being read.

        Lazy, so that a caller may stop after some of it.
        Raises: DatabaseError when it cannot be read as a whole.
        """
        locations = _name_locations(self._config)
        for connection, table in self.iter_omitted_tables(name):
            yield from _iter_table(connection, _require_readable(table), locations)

    # For whoever asks where exactly

    def iter_tables(
        self, wanted: Callable[[TextTable], object]
    ) -> Iterator[tuple[BaseDatabaseWrapper, TextTable]]:
        """Yield those of the tables that are wanted, each while its snapshot is open."""
        excluded = self._excluded()
        for alias in distinct_aliases(excluded.aliases()):
            with open_snapshot(alias) as connection:
                for table in filter(wanted, list(_readable(list_tables(connection), excluded))):
                    yield connection, table

    def iter_omitted_tables(
        self, entry: str
    ) -> Iterator[tuple[BaseDatabaseWrapper, TextTable | Barred]]:
        """Yield the tables that one entry of NOT_REFERENCES leaves out, likewise."""
        alias = entry.removesuffix(".*")
        if alias in connections:
            with open_snapshot(alias) as connection:
                yield from ((connection, table) for table in list_tables(connection))
            return
        excluded = self._excluded({entry: ""})
        for alias in self._aliases():
            with open_snapshot(alias) as connection:
                tables = list(filter(excluded.excludes, list_tables(connection)))
                yield from ((connection, table) for table in tables)

    def _excluded(self, reasons: Mapping[str, str] | None = None) -> ExcludedTables:
        """Return NOT_REFERENCES, or some of its entries. Raises: ConfigError, DatabaseError."""
        excluded = ExcludedTables(self._config.not_references if reasons is None else reasons)
        if self._config.not_references:
            excluded.look_up(chain.from_iterable(map(_list_tables, self._aliases())))
        return excluded

    def _aliases(self) -> Iterator[str]:
        """Yield the aliases that are read, one of each database."""
        return distinct_aliases(ExcludedTables(self._config.not_references).aliases())

    def texts(self, table: TextTable, column: str, text: str) -> Iterator[str]:
        """Yield what is searched of some cells of a column: the cells, and names in full."""
        yield text
        yield from _located(text, _name_locations(self._config).get((table.name, column), ()))

    def iter_defaults(self) -> Iterator[tuple[Any, str]]:
        """Yield (field, text) of what models name; of files their names in full too."""
        naming = set(_naming_fields(self._config))
        for field, texts in iter_model_defaults():
            text = SEPARATOR.join(texts)
            locations = filter(None, [_location(field)] if field in naming else [])
            yield field, SEPARATOR.join((text, *_located(text, locations)))

    def iter_files(self) -> Iterator[tuple[str, Path]]:
        """Yield (pattern, file) of EXTRA_REFERENCES."""
        for pattern in self._config.extra_references.files:
            for path in matching_files(self._config.base_dir, pattern):
                yield pattern, path

    def iter_objects(self, object_keys: Iterable[str]) -> Iterator[tuple[str, str, Iterator[str]]]:
        """Yield (pattern, key, texts) of each object of EXTRA_REFERENCES. Raises: BucketError."""
        return iter_object_texts(self._config, self._bucket, object_keys)

    # One reading

    def _iter_pieces(
        self, object_keys: Callable[[], Iterable[str]], notes: list[str]
    ) -> Generator[tuple[str, str, int], None, None]:
        yield from self._iter_databases(notes)
        yield from self._iter_journal()
        yield MODEL_DEFAULTS, "", 0
        for _, text in self.iter_defaults():
            # Code changes on purpose: no count that falls is a source that was lost.
            yield MODEL_DEFAULTS, text, 0
        yield from iter_files(self._config)
        yield from iter_callables(self._config)
        yield from iter_objects(self._config, self._bucket, object_keys)

    def _iter_databases(self, notes: list[str]) -> Iterator[tuple[str, str, int]]:
        excluded = self._excluded()
        for alias in distinct_aliases(excluded.aliases()):
            with open_snapshot(alias) as connection:
                yield from self._iter_database(connection, excluded)
        notes.extend(excluded.notes())

    def _iter_database(
        self, connection: BaseDatabaseWrapper, excluded: ExcludedTables
    ) -> Iterator[tuple[str, str, int]]:
        locations = _name_locations(self._config)
        tables = list_tables(connection)
        is_empty = True
        for table in list(_readable(tables, excluded)):
            for source, text, count in _iter_table(connection, table, locations):
                is_empty = is_empty and not count
                yield source, text, count
        left_out = (t for t in tables if text_table(t).is_counted and excluded.excludes(t))
        if is_empty and not any(_has_rows(connection, table) for table in left_out):
            raise _nothing_in(connection.alias, tables)

    def _iter_journal(self) -> Iterator[tuple[str, str, int]]:
        yield JOURNAL, "", 0
        kept = journal.kept_values(undo_window=self._config.undo_window, now=self._now)
        for batch in batched(kept, _BATCH):
            yield JOURNAL, SEPARATOR.join(batch), len(batch)


def _list_tables(alias: str) -> tuple[TextTable | Barred, ...]:
    with reading(alias):
        return list_tables(connections[alias])


def _readable(
    tables: Iterable[TextTable | Barred], excluded: ExcludedTables
) -> Iterator[TextTable]:
    # Also those of another schema: the journal is read through the alias that finds them.
    own = {model._meta.db_table for model in apps.get_app_config("r2maint").get_models()}
    for table in tables:
        if not excluded.excludes(table) and text_table(table).bare_name not in own:
            yield _require_readable(table)


def _has_rows(connection: BaseDatabaseWrapper, table: TextTable | Barred) -> bool:
    if isinstance(table, Barred):
        return True  # it cannot be looked into, and need not be
    return bool(fetch(connection, f"SELECT 1 FROM ({table.sql}) counted LIMIT 1"))


def _nothing_in(alias: str, tables: Iterable[TextTable | Barred]) -> DatabaseError:
    """Return the error of a database that names nothing because nothing is in it."""
    labels = [each.label for each in map(text_table, tables) if each.is_counted]
    more = f" and {len(labels) - 3:,} more" if len(labels) > 3 else ""
    found = f"no text in {', '.join(labels[:3])}{more}" if labels else "no table with text"
    return DatabaseError(
        f"A database holds nothing that could name an object: {alias!r} ({found}).",
        "Check its entry in DATABASES: this looks like another database than the site's. If it is"
        " meant to be empty, give the alias and the reason in R2MAINT['NOT_REFERENCES'].",
    )


def _require_readable(table: TextTable | Barred) -> TextTable:
    if isinstance(table, Barred):
        raise DatabaseError(
            f"A table cannot be read as a whole: {table.table.label} ({table.reason}).",
            f"{table.hint}, or give the table and a reason in R2MAINT['NOT_REFERENCES'].",
        )
    return table


def _iter_table(
    connection: Any, table: TextTable, locations: Mapping[tuple[str, str], frozenset[str]]
) -> Iterator[tuple[str, str, int]]:
    for column in table.columns:
        yield f"{table.label}.{column}", "", 0
    for column, text, count in iter_cells(connection, table):
        source = f"{table.label}.{column}"
        yield source, text, count if table.is_counted else 0
        for named in _located(text, locations.get((table.name, column), ())):
            yield source, named, 0


def _located(text: str, locations: Iterable[str]) -> Iterator[str]:
    """Yield the names in some cells as the keys they are below each location."""
    for location in locations:
        names = (name for cell in text.split(SEPARATOR) for name in _iter_names(cell))
        yield SEPARATOR.join(keys.join(location, name.lstrip("/")) for name in names)


def _iter_names(cell: str) -> Iterator[str]:
    """Yield what may be a file's name in a cell: all of it, and each text of JSON or an array."""
    yield cell
    if cell[:1] in ("[", "{", '"'):
        yield from (found[1] or found[0] for found in _LISTED.finditer(cell))


def storage_locations(config: Config) -> tuple[str, ...]:
    """Return what may stand before a file's name in its key: for each storage that files have.

    Raises: ConfigError for a storage that cannot be used.
    """
    found = {_location(field) for field in _naming_fields(config)} | {_location(None)}
    return tuple(sorted(filter(None, found)))


def _name_locations(config: Config) -> dict[tuple[str, str], frozenset[str]]:
    """Return (table, column) -> what stands before the names of its files in their keys."""
    found: dict[tuple[str, str], frozenset[str]] = {}
    for field in _naming_fields(config):
        if location := _location(field):
            place = (field.model._meta.db_table.replace('"', ""), str(field.column))
            found[place] = found.get(place, frozenset()) | {location}
    return found


def _naming_fields(config: Config) -> Iterator[Any]:
    """Yield every FileField, and the fields of `FIELDS`, which may hold such names too."""
    for model in apps.get_models(include_auto_created=True):
        for field in model._meta.local_concrete_fields:
            if isinstance(field, models.FileField):
                yield field
    for label, rules in config.fields.items():
        yield from (apps.get_model(label)._meta.get_field(name) for name in rules)


def _location(field: Any) -> str:
    try:
        storage = field.storage if isinstance(field, models.FileField) else default_storage
        if isinstance(storage, FileSystemStorage):
            return ""
        return str(getattr(storage, "location", "") or "").strip("/")
    except Exception as error:
        # Settings of the storage, secrets among them, may be quoted by the original message.
        raise ConfigError(
            f"A storage cannot be used: that of {field} ({type(error).__name__}).",
            "Look at STORAGES.",
        ) from None


_URL = re.compile(
    r"//([^/\s\x00-\x1f\"'<>\\?#%()]{1,255})/([^\s\x00-\x1f\"'<>()\[\]{}|\\^`,;?#]{1,1024})"
)


def count_hosts(text: str, names: Collection[str]) -> Counter[str]:
    """Return host -> how many URLs of it in `text` name one of `names` (identities of keys).

    Only what is plainly a URL counts: it is the number that is compared from run to run.
    """
    hosts: Counter[str] = Counter()
    if not names or "//" not in text:
        return hosts
    for netloc, path in _URL.findall(text):
        if path in names or _names_one(keys.identity(decode(path)), names):
            hosts[_host(netloc)] += 1
    return hosts


def _names_one(path: str, names: Collection[str]) -> bool:
    while True:
        if path in names:
            return True
        _, slash, path = path.partition("/")
        if not slash:
            return False


_host = lru_cache(maxsize=1024)(normal_host)
