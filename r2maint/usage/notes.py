"""What a reader of the figures must know beside them, in sentences. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from r2maint.rendering import format_bytes, format_count
from r2maint.usage.count import Pending, UsageTally
from r2maint.usage.groups import MAX_GROUPS, Count


def iter_notes(
    tally: UsageTally, *, prefix: str, orphans: Count | None, pending: Pending | None
) -> Iterator[str]:
    """Yield them; `orphans` is None where nobody can tell, and so is `pending`."""
    if prefix and not tally.total.objects:
        yield f"Nothing that is counted has a key below {prefix!r}: is --prefix spelled right?"
    yield from _about_uploads(pending)
    if tally.shared.objects:
        yield (
            f"{_objects(tally.shared)} named by several fields; each counts once, for the first"
            " field in alphabetical order."
        )
    if tally.empty.objects:
        yield f"{format_count(tally.empty.objects, 'object')} without a byte."
    yield from _about_orphans(tally, orphans)
    if any(listing.is_folded for listing in tally.listings.values()):
        yield f'Over {MAX_GROUPS:,} groups in a listing: those met later are in "(other)".'


def _about_uploads(pending: Pending | None) -> Iterator[str]:
    if pending is None:
        yield "Unfinished uploads are not counted: this server cannot list them."
    elif pending.uploads:
        untold = f", {pending.unmeasured} of unknown size" if pending.unmeasured else ""
        yield (
            f"{format_count(pending.uploads, 'unfinished upload')}"
            f" ({format_bytes(pending.bytes)} of parts{untold}): billed until R2 aborts them, after"
            " 7 days unless a rule says otherwise, and not in the totals."
            " purge_orphans --abort-uploads does it now."
        )


def _about_orphans(tally: UsageTally, orphans: Count | None) -> Iterator[str]:
    if orphans is None:
        yield (
            "Only objects named by the given models, fields, rows and databases are counted; what"
            " is an orphan cannot be told from them."
        )
    elif orphans.objects:
        yield (
            f"{format_count(orphans.objects, 'orphan')}: no model field names them. purge_orphans"
            " also reads every other text in the database, and may keep some."
        )
        if tally.sighted.objects:
            yield f"Its last plan found {_objects(tally.sighted)} of them named nowhere."


def _objects(count: Count) -> str:
    return f"{format_count(count.objects, 'object')} ({format_bytes(count.bytes)})"
