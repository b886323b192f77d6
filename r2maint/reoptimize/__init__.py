"""Smaller versions of the pictures rows name, under new keys."""

from r2maint.reoptimize.plan import apply_reoptimize, plan_reoptimize

__all__ = ["apply_reoptimize", "plan_reoptimize"]
