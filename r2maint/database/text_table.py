"""What the catalogue of a database tells: tables that can hold text, and how each is read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTable:
    """One table with the columns that can hold text."""

    database: str
    """The alias it is read through."""
    name: str
    """With its schema where the connection does not find it without."""
    schema: str = ""
    """Where it lies, "" where there are no schemas."""
    columns: tuple[str, ...]
    """One may stand twice, where it is read in two ways."""
    sql: str
    """Selects the columns, each as text or bytes."""
    is_counted: bool = True
    """False for what every database holds, an empty one too."""

    @property
    def label(self) -> str:
        """As reports name it: "default.app_submissions"."""
        return f"{self.database}.{self.name}"

    @property
    def bare_name(self) -> str:
        """Without its schema: "app_submissions"."""
        return self.name.removeprefix(f"{self.schema}.")

    @property
    def full_name(self) -> str:
        """With alias and schema, as only this table is called: "default.public.events"."""
        return ".".join(filter(None, (self.database, self.schema, self.bare_name)))

    def is_called(self, name: str) -> bool:
        """Tell whether a person may mean this table by `name`."""
        bare = self.bare_name
        return name in (self.label, self.full_name, self.name, bare, f"{self.schema}.{bare}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Barred:
    """A table that cannot be read as a whole, and why."""

    table: TextTable
    reason: str
    hint: str


def text_table(table: TextTable | Barred) -> TextTable:
    """Return the table itself, which may or may not be read."""
    return table.table if isinstance(table, Barred) else table


def quote_name(name: str) -> str:
    """Return an identifier as standard SQL quotes it; MariaDB has marks of its own."""
    return '"' + name.replace('"', '""') + '"'
