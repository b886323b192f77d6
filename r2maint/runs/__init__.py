"""What was done: every run and every change of one, the way back, and forgetting old runs.

In: the journal, and the bucket's manifests where a database lost it. Out: lists; `undo`, which puts
values, objects and files back; `prune`, which removes journal rows that no undo needs any more.
"""

from r2maint.runs.plan import list_runs, show_run
from r2maint.runs.prune import apply_pruning, plan_pruning
from r2maint.runs.undo import apply_undo, plan_undo

__all__ = [
    "apply_pruning",
    "apply_undo",
    "list_runs",
    "plan_pruning",
    "plan_undo",
    "show_run",
]
