"""The journal: every change is written here before it is made, in the transaction that makes it.

In: what a run is about to do, and what became of it. Out: runs and changes to resume, report and
undo; and what earlier runs saw: orphans (`sightings`) and accepted counts (`baselines`). `home()`
says which database holds the runs.
"""

from r2maint.journal.entries import Entry
from r2maint.journal.journal import Journal, home, iter_changes, open_journal

__all__ = ["Entry", "Journal", "home", "iter_changes", "open_journal"]
