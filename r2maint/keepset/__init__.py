"""What keeps an object alive: every text of every database, searched for the keys that exist."""

from r2maint.keepset.reading import KeepSet, Reading

__all__ = ["KeepSet", "Reading"]
