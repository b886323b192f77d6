"""Who names the bytes in the bucket, and what they cost.

In: a listing joined with references, Cloudflare's analytics, the price lists and earlier days. Out:
a `UsageReport`: totals, groups, the month's bill, savings, forecasts and crossed thresholds.
"""

from r2maint.usage.plan import measure_usage
from r2maint.usage.result import UsageOptions

__all__ = ["UsageOptions", "measure_usage"]
