"""A bucket and a database of a few objects and rows, and purges of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta

from r2maint import conf
from r2maint.journal import journal
from r2maint.models import RunState
from r2maint.purge.apply import apply_purge
from r2maint.purge.brakes import MaxDelete
from r2maint.purge.plan import plan_purge
from r2maint.purge.result import PurgeOptions, PurgeOutcome, PurgePlan
from tests.fakes import FakeClock, R2Fake

HOST = "https://media.example.org"
NAMED = "submissions/1/named.webp"
ORPHAN = "submissions/1/orphan.webp"
WEEK = timedelta(days=7)
AT_ONCE = PurgeOptions(
    grace=timedelta(0), second_look=False, max_delete=MaxDelete.parse("100%"), adopt=True
)


def make_bucket(*keys: str) -> R2Fake:
    """Return a bucket of objects a month old."""
    bucket = R2Fake(clock=FakeClock())
    for key in keys:
        bucket.add(key, key.encode(), age=timedelta(days=30))
    return bucket


def plan(bucket: R2Fake, options: PurgeOptions = AT_ONCE, **more) -> PurgePlan:
    return plan_purge(conf.load(), bucket, replace(options, **more))


def purge(bucket: R2Fake, options: PurgeOptions = AT_ONCE, **more) -> PurgeOutcome:
    """Plan and apply, and close the run as the command does."""
    planned = plan(bucket, options, **more)
    run = journal.open_journal(command="purge_orphans", bucket=bucket.name, options={})
    state = RunState.STOPPED
    try:
        outcome = apply_purge(planned, conf.load(), bucket, run)
        state = RunState.STOPPED if outcome.stopped else RunState.FINISHED
    finally:
        run.finish(state=state, summary={})
    return outcome


def verdicts(planned: PurgePlan) -> dict[str, str]:
    return {item.object.key: item.verdict.value for item in planned.items}


def brakes(planned: PurgePlan) -> list[str]:
    return [refusal.brake for refusal in planned.refusals]


def message(planned: PurgePlan, brake: str) -> str:
    return next(one.message for one in planned.refusals if one.brake == brake)


def media(bucket: R2Fake) -> list[str]:
    listed = bucket.keys()
    return [key for key in listed if not key.startswith(".r2maint/")]


def change_settings(settings, **values) -> None:
    settings.R2MAINT = {**settings.R2MAINT, **values}


def urls(keys: Iterable[str], host: str = HOST) -> str:
    """Return the URLs of some keys as one text."""
    return " ".join(f"{host}/{key}" for key in keys)
