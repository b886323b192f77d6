"""Say of every reference whether what it names is there, whole, and served."""

from r2maint.verify.checking import Look, verify_urls
from r2maint.verify.items import FAILING, FINE, Finding, Level, Outcome, Verification

__all__ = [
    "FAILING",
    "FINE",
    "Finding",
    "Level",
    "Look",
    "Outcome",
    "Verification",
    "verify_urls",
]
