"""Temporary files that keep memory flat: an SQLite index, spooled items and sorted rows.

In: iterables of any length. Out: the same values, looked up by key, read again in their order, or
sorted. Nothing here outlives the run; files lie in the directory of `tempfile`.
"""

from r2maint.scratch.batches import batched
from r2maint.scratch.scratch_index import ScratchIndex
from r2maint.scratch.sorted_rows import Ascending, SortedRows
from r2maint.scratch.spool import Spool

__all__ = ["Ascending", "ScratchIndex", "SortedRows", "Spool", "batched"]
