"""Why a copy in quarantine stays whatever its age."""

from __future__ import annotations

from r2maint.bucket import Bucket
from r2maint.errors import BucketError, NoSuchKey
from r2maint.journal import journal
from r2maint.journal.journal import UNFINISHED
from r2maint.models import Run
from r2maint.purge.judge import PurgeJudge
from r2maint.quarantine.copies import CopyIndex
from r2maint.quarantine.manifest import read_manifest

_NAMED = "Something names its object again; r2_runs RUN --undo restores it."


def reason_to_stay(key: str, judge: PurgeJudge) -> str:
    """Return why the object of a copy is to be had, so that the copy stays, or ""."""
    if judge.inventory.is_named(key):
        return _NAMED
    if pattern := judge.protection(key):
        return f"Its object matches {pattern}; r2_runs RUN --undo restores it."
    if judge.is_rendition(key):
        return "Its object is a rendition of one that is kept."
    return ""


def spared_runs(bucket: str) -> dict[str, str]:
    """Return the runs whose copies stay whatever their age, each with the reason."""
    unfinished = Run.objects.using(journal.home()).filter(bucket=bucket, state__in=UNFINISHED)
    spared = {}
    for run in unfinished:
        spared[run.pk] = "Its run is unfinished; the same command goes on with it."
        if subject := run.options.get("undo"):
            spared[str(subject)] = "Its run is being undone."
    return spared


def holds_copies(bucket: Bucket, manifest: str, copies: CopyIndex) -> bool:
    """Tell whether one of the copies of a manifest is there; what cannot be read holds some."""
    try:
        return any(entry.copy in copies for entry in read_manifest(bucket, manifest)[1])
    except NoSuchKey:
        return False
    except BucketError as error:
        if error.ends_run:
            raise
        return True
