"""Taking a run back: `r2_runs RUN --undo`.

In: the changes of one run. Out: an `Undo` plan with each change as it can go back today, its target
proved to exist; applied, values by compare-and-swap, objects from quarantine, removed local files.
"""

from r2maint.runs.undo.apply import apply_undo
from r2maint.runs.undo.plan import plan_undo

__all__ = ["apply_undo", "plan_undo"]
