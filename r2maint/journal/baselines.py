"""What the next purge is measured by: what the last accepted run found, and plans since."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from django.db import transaction

from r2maint.journal import journal
from r2maint.models import Run, RunState


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What an accepted run found: applied, complete and not undone, whatever it overrode."""

    missing: float = 0.0
    """Share of managed references whose object is missing."""
    orphans: float = 0.0
    """Share of managed objects that nothing names."""
    names: Mapping[str, int] = field(default_factory=dict)
    """Source -> keys found in it: the most that this run, or a plan since, has found."""
    classes: tuple[str, ...] = ()
    """Classes of keys, as `purge.key_classes` makes them, of which something named one."""
    run_id: str = ""
    """"" when there is none to compare with."""

    @classmethod
    def read(cls, stored: Mapping[str, Any], run_id: str = "") -> Baseline:
        """Return the baseline that `as_dict` made; a first run's when there is none."""
        given = {**stored, "classes": tuple(stored.get("classes", ()))}
        return cls(**given, run_id=run_id) if stored else cls()

    def as_dict(self) -> dict[str, Any]:
        return {
            "missing": self.missing,
            "orphans": self.orphans,
            "names": dict(self.names),
            "classes": list(self.classes),
        }


def last_baseline(command: str, bucket: str) -> Baseline:
    """Return what the last accepted run of this command left; an empty one when there is none."""
    runs = Run.objects.using(journal.home()).filter(command=command, bucket=bucket)
    # Whoever undoes a run takes back that what it found was right.
    accepted = runs.filter(state=RunState.FINISHED, options__has_key="baseline")
    run = accepted.order_by("-finished_at", "-id").first()
    return Baseline.read(run.options["baseline"], run.pk) if run else Baseline()


def remember_names(last: Baseline, names: Mapping[str, int]) -> None:
    """Let the next purge expect at least what this plan found in each source."""
    if not last.run_id or not _grown(last.names, names):
        return
    with transaction.atomic(using=journal.home()):
        rows = Run.objects.using(journal.home()).select_for_update()
        run = rows.filter(pk=last.run_id).first()
        stored = run.options.get("baseline") if run else None
        if run is None or not stored:
            return
        # Another plan may have written since `last` was read.
        best = _most(Baseline.read(stored).names, names)
        raised = replace(Baseline.read(stored), names=best)
        run.options = {**run.options, "baseline": raised.as_dict()}
        run.save(using=journal.home(), update_fields=["options"])


def _grown(before: Mapping[str, int], now: Mapping[str, int]) -> bool:
    return any(count > before.get(source, 0) for source, count in now.items())


def _most(before: Mapping[str, int], now: Mapping[str, int]) -> dict[str, int]:
    sources: Iterable[str] = dict.fromkeys((*before, *now))
    most = {source: max(before.get(source, 0), now.get(source, 0)) for source in sources}
    return {source: count for source, count in most.items() if count}
