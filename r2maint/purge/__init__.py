"""Removing what nothing names: the plan and its brakes, quarantine, deletion, and the way back."""

from r2maint.purge.deletion import apply_purge
from r2maint.purge.items import PurgeOptions
from r2maint.purge.plan import plan_purge

__all__ = ["PurgeOptions", "apply_purge", "plan_purge"]
