"""Why one object is kept, or when it falls due: `purge_orphans --explain`.

In: a key or a URL as a person writes it. Out: an `Explanation`: which object is meant, what names
it and where, what earlier runs saw and did, and the verdict a purge would give now.
"""

from r2maint.purge.explain.plan import Explanation, explain

__all__ = ["Explanation", "explain"]
