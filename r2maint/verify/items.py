"""What is true of one reference, and of all of them. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from r2maint.bucket.base import StoredObject
from r2maint.keys import redact
from r2maint.references.reading import Reference
from r2maint.report import format_count
from r2maint.spool import Spool


class Level(str, Enum):
    """What is asked; each level asks all that the one before it does."""

    BUCKET = "bucket"
    """The listing alone."""
    HTTP = "http"
    """A HEAD of every public and external URL."""
    CONTENT = "content"
    """Every body, compared with the listing and decoded."""


class Outcome(str, Enum):
    """What is true of one reference, in the order of a report: what is broken first."""

    MISSING = "missing"
    """Absent from our own bucket or directory."""
    DEAD = "dead"
    """Another host's URL that answers 404 or 410."""
    EMPTY = "empty"
    CORRUPT = "corrupt"
    """Other bytes than the listing says, or a picture that does not decode to its end."""
    WRONG_TYPE = "wrong_type"
    NOT_PUBLIC = "not_public"
    """The object is there and its public URL says 404, 410, 401 or 403."""
    PRIVATE_ENDPOINT = "private_endpoint"
    PRESIGNED = "presigned"
    QUARANTINED = "quarantined"
    EXPIRING = "expiring"
    """A lifecycle rule is about to delete the object."""
    INVALID = "invalid"
    """No address, in a column that is configured to hold one."""
    TOO_LONG = "too_long"
    """The address to be written would not fit the column."""
    RESPELLED = "respelled"
    ALIAS = "alias"
    BLOCKED = "blocked"
    """Bot walls and hotlink protection: browsers may well see the picture."""
    UNSURE = "unsure"
    OK = "ok"
    EXTERNAL = "external"
    """Another host's URL that was not asked."""
    SKIPPED = "skipped"
    """A local file, or a URL that was fine lately."""


FAILING = frozenset(
    (
        Outcome.MISSING,
        Outcome.DEAD,
        Outcome.EMPTY,
        Outcome.CORRUPT,
        Outcome.WRONG_TYPE,
        Outcome.NOT_PUBLIC,
        Outcome.PRIVATE_ENDPOINT,
        Outcome.PRESIGNED,
    )
)
"""Outcomes that end a run with exit code 3, unless told otherwise."""
FINE = frozenset((Outcome.OK, Outcome.EXTERNAL, Outcome.SKIPPED))
"""Outcomes that nobody has to act on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One reference and what is true of it."""

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
    of_host: bool = False
    """True where its whole host cannot be judged: counted, and said of the host once."""

    def as_dict(self) -> dict[str, Any]:
        return {
            "reference": self.reference.as_dict(),
            "key": self.key or None,
            "url": redact(self.url) or None,
            "outcome": self.outcome.value,
            "status": self.status,
            "detail": self.detail or None,
            "advice": self.advice or None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """Every finding but those that are FINE, unless all were asked for."""

    items: Spool[Finding]
    outcomes: Mapping[Outcome, int]
    fail_on: frozenset[Outcome] = FAILING
    recovered: int = 0
    """References that failed when they were last looked at, and are fine now."""
    cannot_judge: tuple[str, ...] = ()
    """Hosts most of whose answers say nothing, in order."""
    of_hosts: tuple[str, ...] = ()
    """What is to be said of whole hosts, in sentences."""
    local: int = 0
    """References to local files, among those skipped."""

    @property
    def findings(self) -> bool:
        return any(self.outcomes.get(outcome) for outcome in self.fail_on)

    @property
    def has_work(self) -> bool:
        return self.findings

    @property
    def notes(self) -> tuple[str, ...]:
        if not any(self.outcomes.values()):
            return (
                "No value in scope names an object or a local file: PUBLIC_URL, ALIASES and"
                " LOCAL_MEDIA say which addresses do.",
            )
        if self.local:
            references = format_count(self.local, "reference")
            return (
                *self.of_hosts,
                f"{references} to local files, skipped here: migrate_media_to_r2 says which it"
                " moves and which stay private.",
            )
        return self.of_hosts

    def summary(self) -> dict[str, Any]:
        total = sum(self.outcomes.values())
        unchecked = self.outcomes.get(Outcome.SKIPPED, 0) + self.outcomes.get(Outcome.EXTERNAL, 0)
        return {
            "references": total,
            "checked": total - unchecked,
            "outcomes": {outcome.value: self.outcomes.get(outcome, 0) for outcome in Outcome},
            "recovered": self.recovered,
            "cannot_judge": list(self.cannot_judge),
        }
