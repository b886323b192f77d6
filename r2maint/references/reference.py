"""A reference: one cell, or one element in it, that names a key or a file. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from r2maint.keys import Addresses, Target, redact
from r2maint.references.column import Column

JOINED_ON = "rows of other tables find theirs by this column (to_field)"
"""Why `value_for` gives none for some columns."""


class Shape(StrEnum):
    """How a value spells what it names."""

    URL = "url"
    NAME = "name"
    """A FileField's name, or one in a text column that `FIELDS` names."""
    PATH = "path"
    """An absolute path on this site."""
    EMBEDDED = "embedded"
    """A URL or absolute path inside longer text."""


class Reference(NamedTuple):
    """One cell, or one element in it, and what it names. A tuple: there may be millions."""

    database: str
    model: str
    """"app.Model" of the class whose table owns the column."""
    pk: str
    """As text; `model._meta.pk.to_python` gives it back."""
    field: str
    path: str
    """JSON pointer of the element; "" for the whole value."""
    value: str
    """As stored (decoded, of JSON); EMBEDDED: the address alone, as it stands in the text."""
    shape: Shape
    target: Target

    def as_dict(self) -> dict[str, str]:
        """Return what reports show: no credentials, no signatures."""
        return {
            "database": self.database,
            "model": self.model,
            "pk": self.pk,
            "field": self.field,
            "path": self.path,
            "value": redact(self.value),
        }


def value_for(reference: Reference, column: Column, key: str, addresses: Addresses) -> str | None:
    """Return the text that names `key` in the place of a reference; None when none can."""
    if column.is_joined_on:
        return None
    if reference.shape is Shape.NAME:
        return column.name_of(key)
    return addresses.url_for(key) if addresses.public_url else None
