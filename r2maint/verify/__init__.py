"""Say of every reference whether what it names is there, whole, and served."""

from r2maint.probing.outcomes import FAILING, FINE, Level, Outcome
from r2maint.verify.checking import Look, verify_urls
from r2maint.verify.items import Finding, Verification
from r2maint.verify.lookup import Subject
from r2maint.verify.repairing import apply_repairs
from r2maint.verify.repairs import Repair, RepairAction, RepairKind

__all__ = [
    "FAILING",
    "FINE",
    "Finding",
    "Level",
    "Look",
    "Outcome",
    "Repair",
    "RepairAction",
    "RepairKind",
    "Subject",
    "Verification",
    "apply_repairs",
    "verify_urls",
]
