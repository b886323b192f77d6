"""Removing what nothing names: the plan and its brakes, quarantine, deletion, and the way back.

In: a listing and the keep set. Out: a `PurgePlan` with a verdict on each object and the brakes that
refuse; applied, copies in the quarantine, then deletions, then what was named meanwhile put back.
`explain` says why one key is kept or not; `empty_quarantine` deletes old copies for good.
"""

from r2maint.purge.apply import apply_purge
from r2maint.purge.plan import plan_purge

__all__ = ["apply_purge", "plan_purge"]
