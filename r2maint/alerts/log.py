"""One ERROR on the logger `r2maint` for a run that failed, was refused or has findings.

Django's AdminEmailHandler, Sentry and every other handler of that logger carry it on. The record
has the sentence that stderr shows and no traceback: frames hold credentials and rows.
"""

from __future__ import annotations

import logging

from r2maint.errors import Declined, UsageError
from r2maint.rendering import Report

_logger = logging.getLogger("r2maint")
# Without any handler Python itself would print records on stderr, where the sentence is already.
_logger.addHandler(logging.NullHandler())

_FAILURES = (1, 3, 4)
"""Exit codes; another holder of the lease and a stop that was asked for are none."""
_SOMEBODY_KNOWS = (Declined.code, UsageError.code)


def is_due(report: Report, *, is_check: bool) -> bool:
    """Tell whether a run failed, was refused, or found what it was told to watch for.

    Work that `--check` found is an answer to a question, not a failure.
    """
    if report.error and report.error["code"] in _SOMEBODY_KNOWS:
        return False
    is_answer = is_check and not (report.applied or report.error or report.verdict)
    return report.exit_code in _FAILURES and not is_answer


def raise_for(report: Report, sentence: str) -> None:
    """Log how a run ended, in the sentence that stderr shows."""
    _log(
        report.command,
        report.bucket,
        sentence,
        run_id=report.run_id,
        exit_code=report.exit_code or 1,
    )


def raise_unexpected(command: str, bucket: str, error: Exception) -> None:
    """Log that a run broke off; of the error its type alone, as its text may quote anything."""
    sentence = f"It broke off with an unexpected {type(error).__name__}."
    _log(command, bucket, sentence, run_id=None, exit_code=1)


def _log(command: str, bucket: str, sentence: str, *, run_id: str | None, exit_code: int) -> None:
    facts = {"command": command, "bucket": bucket, "run_id": run_id, "exit_code": exit_code}
    where = f", bucket {bucket}" if bucket else ""
    _logger.error("%s%s: %s", command, where, sentence, extra=facts)
