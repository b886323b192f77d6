"""How an execution ends: every expected failure as one sentence, one code, one exit code."""

from __future__ import annotations

import errno
import os

from django.db import Error as DjangoDatabaseError
from django.db import OperationalError, ProgrammingError

from r2maint.control import Control
from r2maint.errors import ConfigError, DatabaseError, R2MaintError, Stopped
from r2maint.rendering import Report

_SPACE = "Plans are kept in temporary files: TMPDIR names another directory for them."


class Unwritable(R2MaintError):
    """The report has nowhere to go."""

    code = "output"

    def __init__(
        self, path: str | os.PathLike[str], error: OSError, run_id: str | None = None
    ) -> None:
        done = f"Run {run_id} is recorded; r2_runs shows it." if run_id else ""
        super().__init__(f"The report cannot be written: {path} ({error.strerror}).", done)


def as_told(error: BaseException, control: Control) -> R2MaintError:
    """Return an expected error as the one that is reported."""
    if isinstance(error, R2MaintError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return Stopped("signal", control.signal_code or 130)
    if isinstance(error, DjangoDatabaseError):
        return _database_error(error)
    if isinstance(error, OSError):
        where = f": {error.filename}" if error.filename else ""
        told = f"{error.strerror or type(error).__name__}{where}."
        return R2MaintError(told, _SPACE if error.errno == errno.ENOSPC and not where else "")
    return ConfigError(f"{error}".rstrip(".") + ".")


def _database_error(error: DjangoDatabaseError) -> DatabaseError:
    kind = type(error).__name__
    if not isinstance(error, OperationalError | ProgrammingError):
        # The text of other errors quotes the values of a row.
        return DatabaseError(f"The database refused a statement ({kind}).")
    lines = str(error).strip().splitlines() or [kind]
    unmigrated = "no such table" in lines[0] or "does not exist" in lines[0]
    hint = "Run manage.py migrate." if unmigrated else "Check DATABASES and that the server is up."
    return DatabaseError(f"The database refused: {lines[0].rstrip('.')}.", hint)


def closing(report: Report) -> str:
    """Return the sentence a command that does not exit with 0 ends in, on stderr."""
    if report.error:
        return f"{report.error['message']} {report.error['hint']}".rstrip()
    if report.exit_code == 4:
        brakes = ", ".join(refusal.brake for refusal in report.refusals)
        done = "It stopped there." if report.applied else "Nothing was changed."
        return f"Refused: {brakes}. {done} The report says what lifts each."
    if report.stopped_by:
        return f"Stopped by {report.stopped_by}. Run the same command again to continue."
    if report.verdict:
        return report.verdict
    if report.applied:
        return "Finished with findings or failed items; the report names them."
    return "There are findings, or work to do; the report names them."
