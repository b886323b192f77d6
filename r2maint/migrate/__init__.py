"""Media into the bucket, and the rows that name them after it."""

from r2maint.migrate.moving import apply_migration
from r2maint.migrate.planning import plan_migration

__all__ = ["apply_migration", "plan_migration"]
