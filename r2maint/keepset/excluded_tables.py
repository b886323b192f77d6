"""Which tables and databases the entries of NOT_REFERENCES leave out: each entry one thing.

An entry is an alias ("archive" or "archive.*"), a model ("app.Model": its table in every database),
or a table: by its bare name, with its schema, its alias, or both. One that fits two things is an
error, because what it was not meant for would be left out in silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from django.apps import apps
from django.db import connections, models

from r2maint.conf import setting_values
from r2maint.database.aliases import is_excluded
from r2maint.database.text_table import Barred, TextTable, text_table


class ExcludedTables:
    """NOT_REFERENCES, and which of its entries meant something."""

    def __init__(self, reasons: Mapping[str, str]) -> None:
        self._reasons = reasons
        self._entries: dict[str, str] = {}
        """Full name of a table -> the entry that means it."""
        self._used: set[str] = set()

    def aliases(self) -> list[str]:
        """Return the aliases that are read."""
        return [alias for alias in connections if not self._excludes_alias(alias)]

    def _excludes_alias(self, alias: str) -> bool:
        self._used |= {alias, f"{alias}.*"} & set(self._reasons)
        return is_excluded(alias, self._reasons)

    def look_up(self, tables: Iterable[TextTable | Barred]) -> None:
        """Find the tables that each entry means, among all that are there.

        Raises: ConfigError for an entry that means more than one thing.
        """
        every = [text_table(table) for table in tables]
        for entry in self._reasons:
            found = find_meaning(entry, every)
            self._entries |= dict.fromkeys((table.full_name for table in found), entry)

    def excludes(self, table: TextTable | Barred) -> bool:
        """Tell whether an entry leaves this table out."""
        entry = self._entries.get(text_table(table).full_name)
        if entry is not None:
            self._used.add(entry)
        return entry is not None

    def notes(self) -> Iterator[str]:
        """Yield a sentence for each entry."""
        for name, reason in self._reasons.items():
            if name in self._used:
                yield f"Not read for references: {name} ({reason})."
            else:
                yield f"NOT_REFERENCES names no table that exists: {name!r}."


def find_meaning(entry: str, tables: Sequence[TextTable]) -> list[TextTable]:
    """Return the tables that an entry means, none for an alias. Raises: ConfigError for two."""
    of_model = _tables_of_model(entry, tables)
    called = [table for table in tables if table.is_called(entry) and table not in of_model]
    meanings = [f"{entry}.*"] if entry in connections else []
    meanings += [_spelling(table, tables) for table in [*of_model[:1], *called]]
    setting_values.require_one_meaning(entry, meanings)
    return of_model or called


def _tables_of_model(entry: str, tables: Sequence[TextTable]) -> list[TextTable]:
    """Return the table of a model in each database, as the ORM finds it there."""
    model = _model(entry)
    if model is None:
        return []
    name = model._meta.db_table.replace('"."', ".").replace("`.`", ".").strip('"`')
    same = [table for table in tables if table.name == name]
    return same or [table for table in tables if table.is_called(name)][:1]


def _model(label: str) -> type[models.Model] | None:
    try:
        return apps.get_model(label)
    except (LookupError, ValueError):
        return None


def _spelling(table: TextTable, tables: Sequence[TextTable]) -> str:
    """Return the short name of a table with its alias, or the full one where two are called so."""
    is_one = sum(other.is_called(table.label) for other in tables) == 1
    return table.label if is_one and _model(table.label) is None else table.full_name
