"""Abort unfinished multipart uploads below the managed prefixes, once they are old.

Their parts are stored and billed, and no listing shows them. R2 aborts them by itself after seven
days, unless the bucket's lifecycle rules say otherwise. Under the lease no upload of r2maint's own
is under way; those of the application are told by their age alone.
Source: https://developers.cloudflare.com/r2/objects/multipart-objects/
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from r2maint.bucket import Bucket, PendingUpload
from r2maint.conf import Config
from r2maint.control import Control
from r2maint.errors import NoSuchKey, Stopped
from r2maint.journal import journal
from r2maint.journal.entries import Entry
from r2maint.journal.journal import Journal
from r2maint.keys import identity
from r2maint.models import ChangeKind, ChangeState
from r2maint.object_index.objects import outermost
from r2maint.purge.bucket_owner import Standing, read_standing, settle
from r2maint.purge.recheck_before_delete import Lifted, agree, require_no_brake
from r2maint.purge.verdict import PurgeAction
from r2maint.rendering import Refusal, format_bytes, format_count
from r2maint.scratch.batches import batched
from r2maint.scratch.spool import Spool

BATCH = 100
"""Uploads between two looks at the lease."""
SUMMARY = ("uploads", "to_abort", "bytes", "kept", "aborted", "failed")


class AbortItem(NamedTuple):
    """One unfinished upload, and what is made of it."""

    upload: PendingUpload
    bytes: int | None
    """Of its parts; None when it could not be told."""
    action: PurgeAction
    reason: str
    due_at: datetime

    def as_dict(self) -> dict[str, Any]:
        return {
            "key": self.upload.key,
            "bytes": self.bytes,
            "modified_at": self.upload.initiated_at,
            "verdict": "unfinished",
            "action": self.action.value,
            "due_at": self.due_at,
            "reason": self.reason,
            "upload_id": self.upload.upload_id,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class AbortOptions:
    """What a caller asks of one execution."""

    older_than: timedelta
    lifted: Lifted = field(default_factory=Lifted)
    prefix: str = ""
    limit: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Aborting:
    """The aborting of uploads as planned, or as it went."""

    options: AbortOptions
    items: Spool[AbortItem]
    counts: Mapping[str, int]
    standing: Standing
    oldest_at: datetime | None = None
    refusals: tuple[Refusal, ...] = ()
    applied: bool = False
    stopped: Stopped | None = None

    @property
    def has_work(self) -> bool:
        return bool(self.counts.get("to_abort"))

    @property
    def findings(self) -> bool:
        return bool(self.counts.get("failed"))

    @property
    def question(self) -> str:
        uploads = format_count(self.counts["to_abort"], "unfinished upload")
        return f"Abort {uploads} ({format_bytes(self.counts['bytes'])})?"

    @property
    def notes(self) -> tuple[str, ...]:
        if not self.has_work:
            return ()
        return ("Whoever is still sending parts of such an upload has to begin again.",)

    def summary(self) -> dict[str, Any]:
        counts = {name: self.counts.get(name, 0) for name in SUMMARY}
        return {**counts, "oldest_at": self.oldest_at}


def plan_aborting(
    config: Config,
    bucket: Bucket,
    options: AbortOptions,
    *,
    now: datetime | None = None,
    control: Control | None = None,
) -> Aborting:
    """Return which unfinished uploads could be aborted; writes nothing.

    One Class A request a page of the listing, and one an upload. `now` is the bucket's time unless
    given. Raises: Unsupported by servers that cannot list uploads; BucketError; Stopped.
    """
    journal.require_tables([journal.home()])
    now, control = now or bucket.now(), control or Control()
    counts: Counter[str] = Counter()
    items = Spool.of(_planned(config, bucket, options, now, control, counts))
    standing = read_standing(bucket)
    oldest = (item.upload.initiated_at for item in items if item.action is PurgeAction.PLAN)
    return Aborting(
        options=options,
        items=items,
        counts=counts,
        standing=standing,
        oldest_at=min(oldest, default=None),
        refusals=tuple(_refusals(config, standing, options.lifted)),
    )


def _planned(
    config: Config,
    bucket: Bucket,
    options: AbortOptions,
    now: datetime,
    control: Control,
    counts: Counter[str],
) -> Iterator[AbortItem]:
    managed, prefix = outermost(config.managed_prefixes or ("",)), identity(options.prefix)
    listed = control.track(bucket.list_uploads(), "Listing uploads", unit="upload")
    names = ((identity(upload.key), upload) for upload in listed)
    wanted = (u for name, u in names if name.startswith(managed) and name.startswith(prefix))
    for result in bucket.measure_uploads(wanted):
        if isinstance(result.error, NoSuchKey):
            continue
        due_at = result.request.initiated_at + options.older_than
        action, reason = PurgeAction.PLAN, "It was begun long ago."
        if due_at > now:
            action, reason = PurgeAction.KEPT, "It is too young."
        elif options.limit is not None and counts["to_abort"] >= options.limit:
            action, reason = PurgeAction.KEPT, "It is over --limit."
        counts["uploads"] += 1
        counts["to_abort" if action is PurgeAction.PLAN else "kept"] += 1
        counts["bytes"] += (result.value or 0) if action is PurgeAction.PLAN else 0
        yield AbortItem(result.request, result.value, action, reason, due_at)


def _refusals(config: Config, standing: Standing, lifted: Lifted) -> Iterator[Refusal]:
    if not config.managed_prefixes and "prefixes" not in lifted.overrides:
        message = "No managed prefixes are set, so uploads of the whole bucket would be aborted."
        hint = " Set R2MAINT['MANAGED_PREFIXES']."
        yield Refusal(brake="prefixes", message=message + hint, override="--override prefixes")
    if standing.fault and not (lifted.adopt or "identity" in lifted.overrides):
        message = f"It is not certain that this is the bucket's database: {standing.fault}."
        yield Refusal(brake="identity", message=message, override="--adopt")


def apply_aborting(
    plan: Aborting, bucket: Bucket, run: Journal, *, control: Control | None = None
) -> Aborting:
    """Abort the uploads of a plan; return what happened.

    Raises: Refused while a brake holds, LeaseHeld when the lease is lost, BucketError.
    """
    require_no_brake(plan.refusals)
    standing = agree(bucket, plan.standing, run, plan.options.lifted)
    _settle_interrupted(plan, run)
    stops: list[Stopped] = []
    items = Spool.of(_aborted(plan, bucket, run, control or Control(), stops))
    if not stops:
        settle(bucket, standing)
    ended = Counter(item.action for item in items)
    counts = {
        **plan.counts,
        "aborted": ended[PurgeAction.DELETE],
        "failed": ended[PurgeAction.FAIL],
    }
    stopped = stops[0] if stops else None
    return replace(plan, items=items, counts=counts, applied=True, stopped=stopped)


def _settle_interrupted(plan: Aborting, run: Journal) -> None:
    """Tell by the listing what became of the aborts that a killed execution was about to make."""
    there = {item.upload.upload_id for item in plan.items}
    lines = [c for c in journal.iter_changes(run.run_id) if c.state == ChangeState.INTENDED]
    run.settle((c for c in lines if c.new in there), ChangeState.CONFLICT)
    run.settle((c for c in lines if c.new not in there), ChangeState.DONE)


def _aborted(
    plan: Aborting, bucket: Bucket, run: Journal, control: Control, stops: list[Stopped]
) -> Iterator[AbortItem]:
    yield from (item for item in plan.items if item.action is not PurgeAction.PLAN)
    wanted = (item for item in plan.items if item.action is PurgeAction.PLAN)
    try:
        for batch in batched(control.track(wanted, "Aborting", unit="upload"), BATCH):
            yield from _abort(batch, bucket, run)
    except Stopped as reason:
        stops.append(reason)


def _abort(batch: list[AbortItem], bucket: Bucket, run: Journal) -> Iterator[AbortItem]:
    entries = [_entry(item) for item in batch]
    run.intend(entries)
    run.check_lease()
    results = list(bucket.abort_uploads(item.upload for item in batch))
    ends = list(zip(batch, entries, [result.error for result in results], strict=True))
    run.settle((entry for _, entry, error in ends if error), ChangeState.CONFLICT)
    run.settle((entry for _, entry, error in ends if not error), ChangeState.DONE)
    for item, _, error in ends:
        if error:
            yield item._replace(action=PurgeAction.FAIL, reason=error.message)
        else:
            yield item._replace(action=PurgeAction.DELETE)


def _entry(item: AbortItem) -> Entry:
    upload = item.upload
    return Entry(
        kind=ChangeKind.ABORT,
        old=upload.key,
        key=upload.key,
        new=upload.upload_id,
        bytes=item.bytes,
    )
