"""One column of one table, and how its text is to be read."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field as dataclass_field
from enum import StrEnum
from pathlib import Path

from django.apps import apps
from django.db import models

from r2maint.conf import FieldRule
from r2maint.local_files.storage_locations import StoragePlace

Model = type[models.Model]


class ColumnKind(StrEnum):
    """How a cell holds text."""

    TEXT = "text"
    FILE = "file"
    JSON = "json"
    ARRAY = "array"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of one table of one database, and how its text is to be read."""

    database: str
    model: str
    """"app.Model" of the class whose table owns the column."""
    table: str
    column: str
    field: str
    pk_column: str
    kind: ColumnKind
    max_length: int | None = None
    """Characters of one value (of one element in an array); None without a limit."""
    rule: FieldRule = dataclass_field(default_factory=FieldRule)
    is_named: bool = False
    """`FIELDS` names it."""
    place: StoragePlace = StoragePlace.OTHER
    """Where the storage of its names keeps the files: a FILE's own one, the default one of any
    other column that `FIELDS` names."""
    location: str = ""
    """In the bucket: what stands before a name in its key; "" or ends in "/"."""
    local_root: Path | None = None
    """In a local directory: that directory."""
    base_url: str = ""
    """In a local directory: the address the storage gives it; "" for none."""
    is_joined_on: bool = False
    """Rows of other tables find theirs by its values (`to_field`): it is never rewritten alone."""
    width_field: str = ""
    height_field: str = ""

    @property
    def model_class(self) -> Model:
        return apps.get_model(self.model)

    def name_of(self, key: str) -> str | None:
        """Return the name that means `key`; None when the storage cannot reach it."""
        if self.place is not StoragePlace.BUCKET or not key.startswith(self.location):
            return None
        return key[len(self.location) :] or None
