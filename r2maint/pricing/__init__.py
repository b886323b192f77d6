"""What a month costs, by published rules and in exact decimals. Pure.

In: what a month was used for (`month`) and dated price lists (`price_lists`, with R2MAINT["PRICES"]
over them: `configured_prices`). Out: Cloudflare's bill (`bill`), the same month elsewhere
(`amazon_s3`), and what Infrequent Access would save (`infrequent_access`).
"""

from r2maint.pricing.amazon_s3 import Amounts, Offer, compare
from r2maint.pricing.bill import Bill, bill, storage_bill, storage_saving
from r2maint.pricing.configured_prices import load_prices
from r2maint.pricing.infrequent_access import BreakEven, Moved, break_even
from r2maint.pricing.month import (
    ClassUsage,
    Usage,
    average,
    byte_days,
    days_known,
    days_of_month,
    month_of,
    month_of_peaks,
    priced_as,
)
from r2maint.pricing.price_lists import (
    AWS_S3,
    CLOUDFLARE,
    GB,
    INFREQUENT_ACCESS,
    MILLION,
    MONTH_DAYS,
    STANDARD,
    FreeTier,
    Prices,
    Rates,
    S3Prices,
    Tier,
)

__all__ = [
    "AWS_S3",
    "CLOUDFLARE",
    "GB",
    "INFREQUENT_ACCESS",
    "MILLION",
    "MONTH_DAYS",
    "STANDARD",
    "Amounts",
    "Bill",
    "BreakEven",
    "ClassUsage",
    "FreeTier",
    "Moved",
    "Offer",
    "Prices",
    "Rates",
    "S3Prices",
    "Tier",
    "Usage",
    "average",
    "bill",
    "break_even",
    "byte_days",
    "compare",
    "days_known",
    "days_of_month",
    "load_prices",
    "month_of",
    "month_of_peaks",
    "priced_as",
    "storage_bill",
    "storage_saving",
]
