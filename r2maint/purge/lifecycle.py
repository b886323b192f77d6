"""What the bucket's own lifecycle rules do to objects that are named, or kept for an undo."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

from r2maint.bucket import Bucket, Expiry
from r2maint.errors import AccessDenied, BucketError
from r2maint.quarantine.manifest import PREFIX
from r2maint.rendering import format_count

CountNamed = Callable[[str], int]
"""How many named objects are below a prefix."""


def lifecycle_notes(
    bucket: Bucket, count_named: CountNamed, *, undo_window: timedelta
) -> Iterator[str]:
    """Yield a sentence for each rule that works against what r2maint keeps.

    One Class B request. Where rules cannot be read, that is said: they refuse nothing.
    """
    try:
        rules = bucket.expiries()
    except BucketError as error:
        # Other servers than R2 may know of no rules at all.
        why = "the token may not" if isinstance(error, AccessDenied) else error.message.rstrip(".")
        yield (
            f"Lifecycle rules could not be read ({why}): whether one deletes named objects or"
            " copies in quarantine is not known."
        )
        return
    for rule in rules:
        yield from _notes(rule, count_named(rule.prefix), undo_window)


def _notes(rule: Expiry, named: int, undo_window: timedelta) -> Iterator[str]:
    told = f"Lifecycle rule {rule.name or '(no name)'!r} deletes {_what(rule)} {_when(rule)}"
    if named:
        yield f"{told}: {format_count(named, 'object')} of these something names."
    if PREFIX.startswith(rule.prefix) or rule.prefix.startswith(PREFIX):
        yield f"{told}: copies in quarantine too, and nothing of them can be undone after that."
        if not rule.at and rule.days < undo_window.days:
            yield f"UNDO_WINDOW is {undo_window.days} days, and that rule leaves {rule.days}."


def _what(rule: Expiry) -> str:
    return f"what is below {rule.prefix!r}" if rule.prefix else "every object"


def _when(rule: Expiry) -> str:
    if rule.at:
        return f"on {rule.at:%Y-%m-%d}"
    return f"{format_count(rule.days, 'day')} after it was written"
