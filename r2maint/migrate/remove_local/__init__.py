"""Removing the local files a finished migration moved: `--remove-local RUN`.

In: the uploads of one finished run, the files as they are, and the keep set. Out: a `Removal` plan;
applied, each file whose very bytes are in the bucket and that nothing names goes, and what was
named meanwhile is brought back.
"""

from r2maint.migrate.remove_local.apply import apply_removal
from r2maint.migrate.remove_local.plan import plan_removal

__all__ = ["apply_removal", "plan_removal"]
