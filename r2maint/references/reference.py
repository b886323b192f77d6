"""What a value must say, in its place and shape, to name another key. Pure."""

from __future__ import annotations

from r2maint.keys import Addresses
from r2maint.references.discover import Column
from r2maint.references.read_rows import Reference, Shape


def value_for(reference: Reference, column: Column, key: str, addresses: Addresses) -> str | None:
    """Return the text that names `key` in this place; None when none can."""
    if reference.shape is Shape.NAME:
        return column.name_of(key)
    return addresses.url_for(key) if addresses.public_url else None
