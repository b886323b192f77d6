"""What the options of one run limit it to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What the options of one run limit it to; empty means everything."""

    models: tuple[str, ...] = ()
    """"app.Model", in any case."""
    fields: tuple[str, ...] = ()
    """A field's name, or "app.Model.field"."""
    where: tuple[tuple[str, str], ...] = ()
    """(field, value); models without the field are left out."""
    prefix: str = ""
    """Of keys. Applied by the commands, each to the key it is about."""
    limit: int | None = None
    """Of items. Applied by the commands."""
    databases: tuple[str, ...] = ()

    @property
    def is_narrowed(self) -> bool:
        """Not all references are read, so that nobody can tell what nothing names."""
        return bool(self.models or self.fields or self.where or self.databases)

    @property
    def is_part(self) -> bool:
        """Not the whole bucket is looked at, whether by key or by reference."""
        return self.is_narrowed or bool(self.prefix)


EVERYTHING = Scope()
