"""Objects of a listing in a scratch index, and references joined with them.

In: a listing, page by page, and references in any order. Out: each reference beside the objects it
could mean, each object beside what names it. Memory stays flat at ten million of both.
"""

from r2maint.object_index.join import ReferenceIndex
from r2maint.object_index.objects import Inventory

__all__ = ["Inventory", "ReferenceIndex"]
