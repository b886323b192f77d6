"""What a month costs, by published rules and in exact decimals. Pure.

`tables` has the dated price lists, `month` what a month was used for, `bill` Cloudflare's rules,
`comparing` the same month elsewhere, `tiering` what Infrequent Access would save, and `overriding`
R2MAINT["PRICES"].
"""

from r2maint.pricing.bill import Bill, bill, storage_bill, storage_saving
from r2maint.pricing.comparing import Amounts, Offer, compare
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
from r2maint.pricing.overriding import load_prices
from r2maint.pricing.tables import (
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
from r2maint.pricing.tiering import BreakEven, Moved, break_even

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
