"""Who names the bytes in the bucket, and what they cost."""

from r2maint.usage.measure import UsageOptions, measure_usage

__all__ = ["UsageOptions", "measure_usage"]
