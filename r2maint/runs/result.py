"""A list of runs, or of the changes of one. Values only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from r2maint.journal.run_facts import ChangeFacts, RunFacts

LOST = "manifest"
"""The state of a run that only the bucket knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunListing:
    """Runs, or the changes of one: nothing to apply."""

    items: Iterable[RunFacts] | Iterable[ChangeFacts]
    facts: Mapping[str, Any]
    is_of_runs: bool = False
    notes: tuple[str, ...] = ()
    has_work: bool = False

    def summary(self) -> dict[str, Any]:
        return dict(self.facts)
