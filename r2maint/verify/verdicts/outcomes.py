"""What may be true of a reference, and how closely one looks. Values only."""

from __future__ import annotations

from enum import StrEnum


class Level(StrEnum):
    """What is asked; each level asks all that the one before it does."""

    BUCKET = "bucket"
    """The listing alone."""
    HTTP = "http"
    """A HEAD of every public and external URL."""
    CONTENT = "content"
    """Every body, compared with the listing and decoded."""


class Outcome(StrEnum):
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

    __hash__ = str.__hash__  # that of Enum is Python, and asked several times a finding


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


UPLOAD_AGAIN = "Upload the file again, or correct the value."
NAME_ANOTHER = "Name another address, or a copy of your own."
OPEN_IT = "Open it in a browser: see what visitors get."
RUN_AGAIN = "Run again later."
