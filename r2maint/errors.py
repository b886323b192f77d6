"""Everything r2maint raises on purpose.

R2MaintError                 1   could not run
├── ConfigError              1   settings are wrong or missing
├── UsageError               2   options that do not fit together
├── DatabaseError            1   a database cannot be read or written as promised
├── BucketError              1   one request to the bucket failed
│   ├── BucketUnreachable        no answer, after retries
│   ├── AccessDenied             the credentials are wrong or may not do this
│   ├── NoSuchBucket
│   ├── InvalidListing           a page out of order, repeated or cut short
│   ├── Unsupported              the server does not know such requests
│   ├── NoClock                  the server does not tell its time
│   ├── NoSuchKey                ┐
│   ├── PreconditionFailed       │ about one object: the run goes on
│   ├── ObjectTooLarge           │
│   ├── ObjectLocked             │
│   └── ObjectRejected           ┘
├── CloudflareError          1   Cloudflare's API gave no answer to go by
│   └── CloudflareRefusal        it refused the request itself
├── StorageError             1   an upload of the application's own code failed
├── Refused                  4   a brake holds
├── Declined                 1   somebody said no, or nobody could be asked
├── LeaseHeld                5   another run is writing to this bucket
└── Stopped                      asked to stop: a signal (129, 130, 143) or --max-duration (6)

The numbers are exit codes. Messages read "what: which one." and hints say what to do next; neither
ever holds a secret.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar


class R2MaintError(Exception):
    """An expected failure, told in a sentence."""

    code: ClassVar[str] = "error"
    exit_code: int = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".rstrip()


class ConfigError(R2MaintError):
    code = "config"


class UsageError(R2MaintError):
    code = "usage"
    exit_code = 2


class DatabaseError(R2MaintError):
    code = "database"


class BucketError(R2MaintError):
    """A request the bucket did not fulfil.

    `ends_run` tells whether the next request would fail the same way.
    """

    code = "bucket"
    ends_run: ClassVar[bool] = False


class BucketUnreachable(BucketError):
    code = "unreachable"
    ends_run = True


class AccessDenied(BucketError):
    code = "access_denied"
    ends_run = True


class NoSuchBucket(BucketError):
    code = "no_such_bucket"
    ends_run = True


class InvalidListing(BucketError):
    """The listing cannot be trusted; the brake is `order`."""

    code = "order"
    ends_run = True


class Unsupported(BucketError):
    code = "unsupported"
    ends_run = True


class NoClock(BucketError):
    code = "no_clock"
    ends_run = True


class NoSuchKey(BucketError):
    code = "no_such_key"


class PreconditionFailed(BucketError):
    code = "precondition_failed"


class ObjectTooLarge(BucketError):
    code = "too_large"


class ObjectLocked(BucketError):
    code = "locked"


class ObjectRejected(BucketError):
    code = "rejected"


class CloudflareError(R2MaintError):
    code = "cloudflare"


class CloudflareRefusal(CloudflareError):
    """What was asked is refused, and would be again.

    `is_foreign`: a URL of another zone; `is_general`: whatever this token asks for there;
    `is_too_wide`: the same of a shorter time may be answered.
    """

    def __init__(
        self,
        message: str,
        hint: str = "",
        *,
        is_foreign: bool = False,
        is_general: bool = False,
        is_too_wide: bool = False,
    ) -> None:
        super().__init__(message, hint)
        self.is_foreign = is_foreign
        self.is_general = is_general
        self.is_too_wide = is_too_wide


class StorageError(R2MaintError):
    """An upload that did not happen; `reason` is one word of the table in docs/storage.md."""

    code = "storage"

    def __init__(self, message: str, hint: str = "", reason: str = "failed") -> None:
        super().__init__(message, hint)
        # Task queues pickle exceptions, and make them again from `args`.
        self.args = (message, hint, reason)
        self.reason = reason


class Refused(R2MaintError):
    """A brake holds; the report says which, with its examples and what lifts it."""

    code = "refused"
    exit_code = 4


class Declined(R2MaintError):
    """Somebody said no, or nobody could be asked."""

    code = "declined"


class LeaseHeld(R2MaintError):
    code = "lease_held"
    exit_code = 5


class Stopped(R2MaintError):
    """The run was asked to stop; `reason` is "signal" or "max-duration"."""

    code = "stopped"

    def __init__(
        self, reason: str, exit_code: int, hint: str = "Run the same command again to continue."
    ) -> None:
        super().__init__(f"Stopped by {reason}.", hint)
        self.reason = reason
        self.exit_code = exit_code


def suggest(word: str, known: Iterable[str]) -> str:
    """Return "Did you mean 'X'?", or "" when nothing known comes near."""
    candidates = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), candidates, n=1)
    return f"Did you mean {candidates[near[0]]!r}?" if near else ""
