"""Say of every reference whether what it names is there, whole, and served.

In: references, a listing, and, at levels http and content, answers of public URLs. Out: a
`Verification` with an outcome and an advice for each; `apply_repairs` rewrites what has one sure
answer. `asking` asks URLs, `verdicts` judges what came, `failures` remembers earlier runs, and
`repairs` finds where a lost object went.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from r2maint.verify.apply import apply_repairs
    from r2maint.verify.lookup import Subject
    from r2maint.verify.plan import Look, verify_urls
    from r2maint.verify.repairs.repair import Repair, RepairAction, RepairKind
    from r2maint.verify.result import Finding, Verification
    from r2maint.verify.verdicts.outcomes import FAILING, FINE, Level, Outcome

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

_MODULES = {
    "apply": ("apply_repairs",),
    "lookup": ("Subject",),
    "plan": ("Look", "verify_urls"),
    "repairs.repair": ("Repair", "RepairAction", "RepairKind"),
    "result": ("Finding", "Verification"),
    "verdicts.outcomes": ("FAILING", "FINE", "Level", "Outcome"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    """Load what is asked for: processes that only ask URLs do without Django."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
