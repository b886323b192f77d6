"""Media into the bucket, and the rows that name them after it.

In: references to local (or, with --remote, external) media. Out: a `Migration` plan of one item a
source; applied, objects under new keys, then rows rewritten by compare-and-swap. Removing the local
files is a second, separate plan: `remove_local`.
"""

from r2maint.migrate.apply import apply_migration
from r2maint.migrate.plan import plan_migration

__all__ = ["apply_migration", "plan_migration"]
