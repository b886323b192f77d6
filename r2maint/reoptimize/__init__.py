"""Smaller versions of the pictures rows name, under new keys.

In: references to pictures, and a recipe. Out: a `Reoptimization` plan with a sample encoded and the
rest extrapolated; applied, new objects beside the old ones, then rows rewritten. What a recipe made
or could not better is written down in the ledger and never tried twice.
"""

from r2maint.reoptimize.apply import apply_reoptimize
from r2maint.reoptimize.plan import plan_reoptimize

__all__ = ["apply_reoptimize", "plan_reoptimize"]
