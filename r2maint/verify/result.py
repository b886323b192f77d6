"""What is true of one reference, and of all of them. Values only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from r2maint.bucket.protocol import StoredObject
from r2maint.errors import Stopped
from r2maint.keys import Kind, redact
from r2maint.references.reference import Reference
from r2maint.rendering import format_count
from r2maint.rendering.admin_links import admin_url
from r2maint.scratch.spool import Spool
from r2maint.verify.repairs.repair import Counts, Repair, RepairAction, told, total
from r2maint.verify.verdicts.outcomes import FAILING, FINE, Level, Outcome

if TYPE_CHECKING:
    from r2maint.verify.source_files import SourceLine


RECOVERED, UNCONFIRMED = "recovered", "unconfirmed"
GROUPS = (
    *(outcome.value for outcome in Outcome if outcome not in FINE),
    RECOVERED,
    UNCONFIRMED,
    *(outcome.value for outcome in Outcome if outcome in FINE),
)
"""What reports group findings by, in their order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """How one URL, key or file fared in the runs that looked at it, this one included."""

    failures: int = 0
    """Runs in a row, up to the last one that could tell."""
    first_failed_at: datetime | None = None
    """The first of those runs."""
    last_ok_at: datetime | None = None


FINDING_BYTES = 1024
"""Of memory that one takes, about."""


class Finding(NamedTuple):
    """One reference and what is true of it. A tuple: there may be millions."""

    reference: Reference
    outcome: Outcome
    key: str = ""
    url: str = ""
    """Where it is, or would be, served; of other hosts as stored."""
    status: int | None = None
    """Of the HTTP answer; None where nothing was asked or nothing answered."""
    detail: str = ""
    advice: str = ""
    stored: StoredObject | None = None
    """What the listing says of the object the reference means."""
    history: History | None = None
    """None where nothing is known, or nothing to tell."""
    is_confirmed: bool = True
    """It failed as many runs in a row as an alarm takes."""
    has_recovered: bool = False
    """It was reported as failing, and passes now; `history` is the one that ended."""
    repair: Repair | None = None
    """None where nothing that was asked for would mend it."""
    is_answer: bool = False
    """It answers --url or --key, and is told even when it is fine."""
    of_host: bool = False
    """Its whole host cannot be judged: it is counted, and said of the host once."""

    @property
    def group(self) -> str:
        """Under which of GROUPS reports show it."""
        if not self.is_confirmed:
            return UNCONFIRMED
        is_news = self.has_recovered and self.outcome in FINE
        return RECOVERED if is_news else self.outcome.value

    @property
    def is_fine(self) -> bool:
        """Whether nobody needs to hear of it, or not yet."""
        if self.repair is not None or self.is_answer:
            return False
        if not self.is_confirmed or self.of_host:
            return True
        return self.outcome in FINE and not self.has_recovered

    @property
    def is_rested(self) -> bool:
        """Whether it was skipped because its URL was fine lately."""
        is_local = self.reference.target.kind is Kind.LOCAL and self.stored is None
        return self.outcome is Outcome.SKIPPED and not is_local

    def judged(self, outcome: Outcome, status: int | None, detail: str, advice: str) -> Finding:
        """Return the finding as an answer says, without what only comes after answers."""
        reference, _, key, url, _, _, _, stored, *_ = self
        return Finding(reference, outcome, key, url, status, detail, advice, stored)

    def as_dict(self) -> dict[str, Any]:
        reference, history = self.reference, self.history
        return {
            "reference": reference.as_dict(),
            "key": self.key or None,
            "url": redact(self.url) or None,
            "outcome": self.outcome.value,
            "status": self.status,
            "detail": self.detail or None,
            "advice": self.advice or None,
            "first_failed_at": history and history.first_failed_at,
            "failures": history and history.failures,
            "last_ok_at": history and history.last_ok_at,
            "confirmed": self.is_confirmed,
            "recovered": self.has_recovered,
            "admin_url": admin_url(reference.model, reference.pk),
            "repair": self.repair.as_dict() if self.repair else None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """Every finding but those that are FINE, unless all were asked for."""

    items: Spool[Finding]
    outcomes: Mapping[Outcome, int]
    level: Level = Level.BUCKET
    fail_on: frozenset[Outcome] = FAILING
    recovered: int = 0
    """References that failed when they were last looked at, and are fine now."""
    cannot_judge: tuple[str, ...] = ()
    """Hosts most of whose answers say nothing, in order."""
    unconfirmed: Mapping[Outcome, int] = field(default_factory=dict)
    """What failed, but in too few runs in a row; not among `outcomes`."""
    shows_all: bool = False
    """Whether the items are all findings."""
    rested: int = 0
    """References skipped because their URL was fine lately."""
    unremembered: str = ""
    """Why nothing is remembered of this run, in a sentence; "" when it is."""
    repairs: Counts | None = None
    """None unless repairs were asked for."""
    planned: Counts | None = None
    """What the plan counted; None before it is applied."""
    stopped: Stopped | None = None
    looked_up: str = ""
    """The URL or key that was asked about, in place of everything."""
    remarks: tuple[str, ...] = ()
    """What else a reader must know, in sentences."""
    files: tuple[SourceLine, ...] | None = None
    """Lines of EXTRA_REFERENCES that name the bucket by another base than PUBLIC_URL; None when no
    files are configured."""

    @property
    def findings(self) -> bool:
        failed = total(self.repairs or {}, RepairAction.FAIL) if self.planned else 0
        return bool(failed) or any(self.outcomes.get(outcome) for outcome in self.fail_on)

    @property
    def has_work(self) -> bool:
        if self.repairs is None:
            return self.findings
        return total(self.repairs, RepairAction.PLAN) > 0

    @property
    def question(self) -> str:
        """Ask whether to repair; for plans with repairs."""
        counts = self.repairs or {}
        count = total(counts, RepairAction.PLAN)
        return f"Repair {format_count(count, 'reference')} ({told(counts)})?"

    @property
    def databases(self) -> frozenset[str]:
        """The aliases whose rows are to be rewritten."""
        mended = (item for item in self.items if item.repair is not None)
        return frozenset(item.reference.database for item in mended)

    @property
    def extra(self) -> dict[str, Any]:
        return {} if self.files is None else {"files": [line.as_dict() for line in self.files]}

    @property
    def references(self) -> int:
        return sum(self.outcomes.values()) + sum(self.unconfirmed.values())

    @property
    def local(self) -> int:
        """References to local files, among those skipped."""
        return self.outcomes.get(Outcome.SKIPPED, 0) - self.rested

    @property
    def notes(self) -> tuple[str, ...]:
        return (*self._notes(), *self.remarks)

    def _notes(self) -> Iterator[str]:
        if not self.references and not self.looked_up:
            yield (
                "No value in scope names an object or a local file: PUBLIC_URL, ALIASES and"
                " LOCAL_MEDIA say which addresses do."
            )
        if self.local:
            yield (
                f"{format_count(self.local, 'reference')} to local files, skipped here:"
                " migrate_media_to_r2 says which it moves and which stay private."
            )
        if self.rested:
            references = format_count(self.rested, "reference")
            yield f"{references} not asked about again, as --recheck says: fine lately."
        if unconfirmed := sum(self.unconfirmed.values()):
            told = "" if self.shows_all else "; --all lists them"
            yield (
                f"{format_count(unconfirmed, 'reference')} failed, but not yet in as many runs in"
                f" a row as --confirm-after says{told}."
            )
        if self.unremembered:
            yield self.unremembered

    def summary(self) -> dict[str, Any]:
        total = self.references
        unchecked = self.outcomes.get(Outcome.SKIPPED, 0) + self.outcomes.get(Outcome.EXTERNAL, 0)
        return {
            "references": total,
            "checked": total - unchecked,
            "outcomes": {outcome.value: self.outcomes.get(outcome, 0) for outcome in Outcome},
            "recovered": self.recovered,
            "cannot_judge": list(self.cannot_judge),
            "unconfirmed": {each.value: count for each, count in self.unconfirmed.items()},
            **self._repaired(),
        }

    def _repaired(self) -> dict[str, int]:
        """Return how many references can be repaired, were, and could not be."""
        if self.repairs is None:
            return {}
        return {
            "repairable": total(self.planned or self.repairs, RepairAction.PLAN),
            "repaired": total(self.repairs, RepairAction.DONE),
            "not_repaired": total(self.repairs, RepairAction.FAIL, RepairAction.CHANGED),
        }
