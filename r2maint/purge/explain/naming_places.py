"""Where a key is named: the row and column, the line of a file, the callable, the object, the run.

Of what stands there only the words that name the key are told: a cell may hold anything.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from django.apps import apps

from r2maint.conf import Config
from r2maint.control import Control
from r2maint.database.find_rows import Hit, find_cells
from r2maint.database.snapshot import SEPARATOR, split
from r2maint.database.text_table import Barred, TextTable
from r2maint.errors import DatabaseError
from r2maint.journal import journal
from r2maint.keepset.extra_sources import open_file
from r2maint.keepset.find_keys import FoundNames, KeyFinder, NamingToken, token_of
from r2maint.keepset.model_defaults import MODEL_DEFAULTS
from r2maint.keepset.read_texts import JOURNAL, KeepSet, Reading, storage_locations
from r2maint.keepset.source_lines import iter_lines, shown
from r2maint.keys import matches_glob
from r2maint.models import Change, ChangeKind, Run
from r2maint.object_index.objects import Inventory
from r2maint.rendering.admin_links import admin_url

MAX_PLACES = 100
"""Of each source: a picture that a million rows name is described by some of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamingPlace:
    """One place that names a key."""

    kind: str
    """ "row", "file", "object", "callable", "default", "journal", or "omitted" for a row that keeps
    nothing."""
    source: str
    """As plans name it: "default.app_submissions.main_image_en"."""
    token: NamingToken
    row: Mapping[str, str] = field(default_factory=dict)
    """Primary key of the row, column by column."""
    model: str = ""
    """ "app.Model" of the table, or of the row that a run rewrote."""
    admin_url: str = ""
    where: str = ""
    """File, key of the object, or id of the run."""
    line: int | None = None
    until: datetime | None = None
    """When the undo window of a run closes; None otherwise, and for an unfinished run."""
    reason: str = ""
    """Why NOT_REFERENCES leaves it out."""

    @property
    def counts(self) -> bool:
        """Whether it keeps an object."""
        return self.kind != "omitted"

    @property
    def label(self) -> str:
        """The place in a few words."""
        if self.kind in ("row", "omitted"):
            row = ", ".join(f"{name} {value}" for name, value in self.row.items())
            return f"{self.source} ({row})" if row else self.source
        if self.kind == "journal":
            return f"run {self.where}"
        line = f":{self.line}" if self.line else ""
        return f"{self.where}{line}" if self.where else self.source

    def as_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "source": self.source,
            "place": self.label,
            "row": dict(self.row) or None,
            "model": self.model or None,
            "admin_url": self.admin_url or None,
            "where": self.where or None,
            "line": self.line,
            "text": self.token.text,
            "shape": self.token.shape,
            "escaped": self.token.is_escaped,
            "counts": self.counts,
            "until": self.until,
            "reason": self.reason or None,
        }


@dataclass(slots=True, kw_only=True)
class Search:
    """One look for a few keys in everything that can name them."""

    config: Config
    keep_set: KeepSet
    inventory: Inventory
    prefixes: tuple[str, ...]
    wanted: frozenset[str]
    """Identities."""
    now: datetime
    control: Control
    sources: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """Identity -> sources that name it."""
    _finder: KeyFinder = field(init=False)
    _text: str = ""
    _called: list[tuple[str, NamingPlace]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._finder = self.inventory.finder(self.prefixes, storage_locations(self.config))

    def read(self) -> Reading:
        """Read the whole keep set and add what is named to the inventory."""
        return self.keep_set.read(
            self._finder,
            self._take,
            object_keys=self._keys,
            part=self._remember,
            control=self.control,
        )

    def _keys(self) -> Iterator[str]:
        return (item.key for item in self.inventory.iter_objects())

    def _remember(self, source: str, text: str) -> str:
        self._text = text
        return text

    def _take(self, source: str, found: FoundNames) -> None:
        self.inventory.add_names(found.names)
        for name in found.names & self.wanted:
            self.sources[name][source] += 1
            if source.startswith("callable:"):
                self._add_called(source, name)

    def _add_called(self, source: str, name: str) -> None:
        for text in self._text.split(SEPARATOR):
            if name in self._finder.find(text).names and len(self._called) < MAX_PLACES:
                place = NamingPlace(kind="callable", source=source, token=token_of(text, name))
                self._called.append((name, place))

    # Where exactly

    def places(self) -> dict[str, list[NamingPlace]]:
        """Return the places of every wanted key, by its identity; reads again what named one."""
        found: defaultdict[str, list[NamingPlace]] = defaultdict(list)
        hit = {source for sources in self.sources.values() for source in sources}
        rows, code = self._rows(hit), self._defaults(hit)
        every = (rows, code, self._files(hit), self._objects(hit), self._journal(hit))
        for places in (*every, iter(self._called)):
            for name, place in places:
                if name in self.sources:
                    found[name].append(place)
        return found

    def omitted(self, names: frozenset[str], notes: list[str]) -> dict[str, list[NamingPlace]]:
        """Return where NOT_REFERENCES leaves out what names these keys; `notes` hears of faults."""
        found: defaultdict[str, list[NamingPlace]] = defaultdict(list)
        for entry, reason in self.config.not_references.items() if names else ():
            try:
                for name, place in self._omitted(entry, reason, names):
                    found[name].append(place)
            except DatabaseError as error:
                notes.append(f"What NOT_REFERENCES leaves out is not known: {entry}. {error}")
        return found

    def _omitted(
        self, entry: str, reason: str, names: frozenset[str]
    ) -> Iterator[tuple[str, NamingPlace]]:
        for connection, table in self.keep_set.iter_omitted_tables(entry):
            self.control.check()
            if isinstance(table, Barred):
                raise DatabaseError(f"{table.table.label}: {table.reason}.")
            hits = find_cells(connection, table, table.columns, self._found, self._texts(table))
            yield from self._described(table, hits, names, kind="omitted", reason=reason)

    def _rows(self, sources: set[str]) -> Iterator[tuple[str, NamingPlace]]:
        def columns(table: TextTable) -> list[str]:
            return [column for column in table.columns if f"{table.label}.{column}" in sources]

        for connection, table in self.keep_set.iter_tables(columns):
            hits = find_cells(connection, table, columns(table), self._found, self._texts(table))
            yield from self._described(table, hits, self.wanted, kind="row")

    def _texts(self, table: TextTable) -> Callable[[str, str], Iterable[str]]:
        return lambda column, text: self.keep_set.texts(table, column, text)

    def _found(self, text: str) -> set[str]:
        self.control.check()
        return self._finder.find(text).names & self.wanted

    def _described(
        self,
        table: TextTable,
        hits: Iterable[Hit],
        names: frozenset[str],
        *,
        kind: str,
        reason: str = "",
    ) -> Iterator[tuple[str, NamingPlace]]:
        told: Counter[tuple[str, str]] = Counter()
        most = MAX_PLACES * len(table.columns) * len(names)
        for hit in hits:
            for name in hit.names & names:
                told[name, hit.column] += 1
                if told[name, hit.column] <= MAX_PLACES:
                    yield name, self._row(table, hit, name, kind, reason)
            if sum(told.values()) > most:
                return

    def _row(self, table: TextTable, hit: Hit, name: str, kind: str, reason: str) -> NamingPlace:
        text = SEPARATOR.join(self.keep_set.texts(table, hit.column, hit.cell))
        model, pk = _model_of(table.name), _pk_of(table.name, hit.row)
        return NamingPlace(
            kind=kind,
            source=f"{table.label}.{hit.column}",
            token=token_of(text, name),
            row=hit.row,
            model=model,
            admin_url=(admin_url(model, pk) if model and pk else None) or "",
            reason=reason,
        )

    def _defaults(self, sources: set[str]) -> Iterator[tuple[str, NamingPlace]]:
        for holder, text in self.keep_set.iter_defaults() if MODEL_DEFAULTS in sources else ():
            for name in self._found_whole(text):
                yield (
                    name,
                    NamingPlace(
                        kind="default",
                        source=MODEL_DEFAULTS,
                        token=token_of(text, name),
                        where=f"default or choices of {holder}",
                    ),
                )

    def _files(self, sources: set[str]) -> Iterator[tuple[str, NamingPlace]]:
        for pattern, path in self.keep_set.iter_files():
            source = f"file:{pattern}"
            if source not in sources:
                continue
            told = Counter[str]()
            with open_file(path) as file:
                for line, text, _ in iter_lines(file):
                    for name in self._found(text):
                        told[name] += 1
                        if told[name] <= MAX_PLACES:
                            token, where = token_of(text, name), shown(path, self.config)
                            yield (
                                name,
                                NamingPlace(
                                    kind="file", source=source, token=token, where=where, line=line
                                ),
                            )

    def _objects(self, sources: set[str]) -> Iterator[tuple[str, NamingPlace]]:
        patterns = [source[7:] for source in sources if source.startswith("object:")]
        read = (key for key in self._keys() if any(matches_glob(key, one) for one in patterns))
        for pattern, key, texts in self.keep_set.iter_objects(read):
            found = {name: text for text in texts for name in self._found_whole(text)}
            for name, text in found.items():
                token, source = token_of(text, name), f"object:{pattern}"
                yield name, NamingPlace(kind="object", source=source, token=token, where=key)

    def _found_whole(self, text: str) -> set[str]:
        return set[str]().union(*map(self._found, split(text)))

    def _journal(self, sources: set[str]) -> Iterator[tuple[str, NamingPlace]]:
        if JOURNAL not in sources:
            return
        window = self.config.undo_window
        for change, texts in journal.kept_changes(undo_window=window, now=self.now):
            text = SEPARATOR.join(texts)
            for name in self._found_whole(text):
                yield name, _change_place(change, token_of(text, name), window)


def _change_place(change: Change, token: NamingToken, window: timedelta) -> NamingPlace:
    is_open = Run.objects.using(journal.home()).filter(
        pk=change.run_id, state__in=journal.UNFINISHED
    )
    is_new = change.kind == ChangeKind.UPLOAD or is_open.exists()
    return NamingPlace(
        kind="journal",
        source=JOURNAL,
        token=token,
        where=change.run_id,
        model=change.model,
        row={change.field: change.row} if change.field else {},
        until=None if is_new else change.at + window,
    )


@lru_cache(maxsize=1024)
def _model_of(table: str) -> str:
    """Return the model of a table, as "app.Model"; "" where none is known."""
    for model in apps.get_models(include_auto_created=True):
        if model._meta.db_table.replace('"', "") == table and not model._meta.proxy:
            return f"{model._meta.app_label}.{model.__name__}"
    return ""


def _pk_of(table: str, row: Mapping[str, str]) -> str:
    """Return the row's primary key as the admin spells it; "" where it has no single one."""
    if len(row) != 1:
        return ""
    ((column, value),) = row.items()
    model = _model_of(table)
    pk = apps.get_model(model)._meta.pk if model else None
    if pk is None or pk.column != column:
        return ""
    try:
        return str(pk.to_python(value))
    except Exception:
        # A value that the model's own field refuses has no page.
        return ""
