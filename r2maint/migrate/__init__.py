"""Local media into the bucket, and the rows that name them after it."""

from r2maint.migrate.migration import apply_migration, plan_migration

__all__ = ["apply_migration", "plan_migration"]
