"""What keeps an object alive: every text of every database, searched for the keys that exist.

In: the keys of a listing, and all text (tables, schema, journal, files, callables, objects of
EXTRA_REFERENCES). Out: which keys any text names, in any spelling, and a count of each source, so
that a source that fell silent is noticed. When in doubt a key is named.
"""

from r2maint.keepset.read_texts import KeepSet, Reading

__all__ = ["KeepSet", "Reading"]
