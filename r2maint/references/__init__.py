"""What rows say of media, and how a value is exchanged: the only code that writes users' rows.

In: the project's models, `FIELDS`, and the scope of the options. Out: columns (`discover`), the
references in their cells (`read_rows`), and a compare-and-swap of each that is to name another key
(`rewrite`), journalled in the same transaction.
"""

from r2maint.references.column import Column
from r2maint.references.discover_columns import discover
from r2maint.references.read_rows import iter_references
from r2maint.references.reference import Reference, Shape
from r2maint.references.scope import Scope

__all__ = ["Column", "Reference", "Scope", "Shape", "discover", "iter_references"]
