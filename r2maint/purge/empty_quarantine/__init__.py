"""Deleting old quarantine copies for good: `purge_orphans --empty-quarantine`.

In: the quarantine's manifests and the keep set. Out: an `Emptying` plan; applied, copies old enough
are deleted, except those that a row names again and those of runs that can still be undone.
"""

from r2maint.purge.empty_quarantine.apply import apply_emptying
from r2maint.purge.empty_quarantine.plan import plan_emptying

__all__ = ["apply_emptying", "plan_emptying"]
