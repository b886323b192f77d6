"""What was done: every run and every change of one, the way back, and forgetting old runs.

In: the journal, and the bucket's manifests where a database lost it. Out: lists; `undo`, which puts
values, objects and files back; `prune`, which removes journal rows that no undo needs any more.
"""

from r2maint.runs.plan import list_runs, show_run

__all__ = ["list_runs", "show_run"]
