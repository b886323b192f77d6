"""Emptying the quarantine: what is old and unnamed goes, for good; everything else stays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from r2maint import conf
from r2maint.control import Control
from r2maint.errors import BucketError, LeaseHeld, ObjectLocked, Refused
from r2maint.journal import journal
from r2maint.journal.baselines import last_baseline
from r2maint.models import Change, ChangeKind, ChangeState, Identity, Run, RunState
from r2maint.pricing import GB
from r2maint.purge.apply import apply_purge
from r2maint.purge.brakes import MaxDelete
from r2maint.purge.empty_quarantine.apply import apply_emptying
from r2maint.purge.empty_quarantine.plan import plan_emptying
from r2maint.purge.empty_quarantine.result import Emptying, EmptyingOptions
from r2maint.purge.plan import plan_purge
from r2maint.purge.recheck_before_delete import Lifted
from r2maint.purge.result import PurgeOptions
from r2maint.quarantine.manifest import PREFIX, is_manifest, list_manifests, read_manifest, restore
from tests.conftest import DATABASES
from tests.fakes import FakeClock, LostLease, R2Fake, fail_on
from tests.oddities.models import Article

pytestmark = [pytest.mark.thorough, pytest.mark.django_db(databases=DATABASES)]

NAMED = [f"submissions/1/named-{number:02}.webp" for number in range(20)]
ORPHANS = [f"submissions/1/orphan-{number}.webp" for number in range(3)]
MONTH = timedelta(days=30)
PURGE = PurgeOptions(
    grace=timedelta(0), second_look=False, max_delete=MaxDelete.parse("100%"), adopt=True
)
AT_ONCE = EmptyingOptions(older_than=timedelta(0))


@pytest.fixture
def bucket(project) -> R2Fake:
    """A bucket whose quarantine holds three copies of a finished run, made a month ago."""
    made = R2Fake(clock=FakeClock(journal.now()))
    for key in NAMED:
        made.add(key, age=2 * MONTH)
    Article.objects.create(body=" ".join(f"https://media.example.org/{key}" for key in NAMED))
    purge(made, *ORPHANS)
    made.clock.move(MONTH)
    return made


def purge(bucket: R2Fake, *orphans: str, state: str = RunState.FINISHED) -> str:
    """Store these orphans and purge them; return the id of the run."""
    for key in orphans:
        bucket.add(key, key.encode(), age=MONTH)
    run = journal.open_journal(command="purge_orphans", bucket=bucket.name, options={})
    options = replace(PURGE, adopt=not Identity.objects.exists())
    apply_purge(plan_purge(conf.load(), bucket, options), conf.load(), bucket, run)
    run.finish(state=state, summary={})
    return run.run_id


def plan(bucket: R2Fake, **options) -> Emptying:
    return plan_emptying(conf.load(), bucket, EmptyingOptions(**options))


def open_run(bucket: R2Fake) -> journal.Journal:
    options = {"empty_quarantine": True}
    return journal.open_journal(command="purge_orphans", bucket=bucket.name, options=options)


def empty(bucket: R2Fake, control: Control | None = None, **options) -> Emptying:
    """Plan and apply, and close the run as the command does."""
    planned, run = plan(bucket, **options), open_run(bucket)
    state = RunState.STOPPED
    try:
        outcome = apply_emptying(planned, conf.load(), bucket, run, control=control)
        state = RunState.STOPPED if outcome.stopped else RunState.FINISHED
    finally:
        run.finish(state=state, summary=outcome_summary(state))
    return outcome


def outcome_summary(state: str) -> dict[str, str]:
    return {"state": str(state)}


def copies(bucket: R2Fake) -> list[str]:
    """The keys whose copies are there, by the manifests of each run."""
    entries = (e for name in list_manifests(bucket) for e in read_manifest(bucket, name)[1])
    return sorted(entry.key for entry in entries if entry.copy in bucket.objects)


def quarantine(bucket: R2Fake) -> list[str]:
    listed = bucket.keys()
    return [key for key in listed if key.startswith(PREFIX)]


def fates(result: Emptying) -> dict[str, str]:
    return {item.key: item.action.value for item in result.items}


def change_settings(settings, **values) -> None:
    settings.R2MAINT = {**settings.R2MAINT, **values}


# The plan


def test_a_plan_tells_what_goes_by_run_and_removes_nothing(bucket):
    before = bucket.keys()
    planned = plan(bucket)
    assert planned.summary() == {
        "copies": 3,
        "bytes": sum(map(len, ORPHANS)),
        "to_remove": 3,
        "to_remove_bytes": sum(map(len, ORPHANS)),
        "kept": 0,
        "removed": 0,
        "failed": 0,
        "oldest_at": bucket.now() - MONTH,
        "youngest_at": bucket.now() - MONTH,
        "saved_usd_per_month": Decimal(0),
    }
    (run,) = planned.extra["runs"]
    assert (run["run"], run["to_remove"]) == (Run.objects.get().pk, 3)
    assert planned.question == "Remove 3 copies (81 B) from quarantine for good?"
    assert bucket.keys() == before


def test_the_saving_is_what_the_bill_falls_by(bucket):
    for number, key in enumerate(name for name in quarantine(bucket) if not is_manifest(name)):
        stored = bucket.objects[key]
        size = (30, 4, 5)[number] * GB
        bucket.objects[key] = replace(stored, info=replace(stored.info, size=size))
    assert plan(bucket).saved_usd_per_month == 30 * Decimal("0.015")
    assert empty(bucket).saved_usd_per_month == 30 * Decimal("0.015")


def test_copies_are_old_by_the_clock_of_the_bucket(bucket):
    bucket.clock.move(-timedelta(seconds=1))
    planned = plan(bucket)
    assert fates(planned) == dict.fromkeys(ORPHANS, "kept")
    assert {item.due_at for item in planned.items} == {bucket.now() + timedelta(seconds=1)}
    assert not planned.has_work
    assert plan(bucket, older_than=timedelta(days=29)).has_work


def test_the_default_age_is_never_less_than_the_undo_window(bucket, settings):
    change_settings(settings, UNDO_WINDOW="60d")
    assert fates(plan(bucket)) == dict.fromkeys(ORPHANS, "kept")
    shorter = plan(bucket, older_than=MONTH)
    assert shorter.has_work
    assert any("shorter than UNDO_WINDOW (60 days)" in note for note in shorter.notes)
    assert not any("UNDO_WINDOW" in note for note in plan(bucket).notes)


def test_prefix_and_limit_narrow_what_goes(bucket):
    assert fates(plan(bucket, prefix=ORPHANS[1])) == {ORPHANS[1]: "plan"}
    assert sorted(fates(plan(bucket, limit=1)).values()) == ["kept", "kept", "plan"]
    empty(bucket, prefix=ORPHANS[1])
    assert copies(bucket) == [ORPHANS[0], ORPHANS[2]]


# What goes


def test_old_copies_go_and_their_manifest_after_them(bucket):
    deleted = []
    bucket.before = lambda operation, key: operation == "delete" and deleted.append(key)
    outcome = empty(bucket)
    assert fates(outcome) == dict.fromkeys(ORPHANS, "delete")
    assert outcome.summary()["removed"] == 3
    assert quarantine(bucket) == []
    assert [is_manifest(key) for key in deleted] == [False, False, False, True]


def test_every_removal_is_written_down_before_it_happens(bucket):
    seen = []

    def look(operation: str, key: str) -> None:
        if operation == "delete":
            lines = Change.objects.filter(kind=ChangeKind.DISCARD, new=key)
            seen.append(lines.get().state)

    bucket.before = look
    empty(bucket)
    assert seen == [ChangeState.INTENDED] * 4
    lines = Change.objects.filter(kind=ChangeKind.DISCARD)
    assert set(lines.values_list("state", flat=True)) == {ChangeState.DONE}
    assert set(lines.values_list("row", flat=True)) == {Run.objects.earliest("started_at").pk}


def test_a_manifest_that_still_has_copies_stays_and_restores_them(bucket):
    Article.objects.create(body=ORPHANS[1])
    empty(bucket)
    (manifest,) = list_manifests(bucket)
    results = [restore(bucket, entry) for entry in read_manifest(bucket, manifest)[1]]
    assert {one.key: one.done for one in results} == {key: key == ORPHANS[1] for key in ORPHANS}
    assert bucket.body(ORPHANS[1]) == ORPHANS[1].encode()


def test_a_later_purge_does_not_shelter_the_copies_of_an_earlier_one(bucket):
    purge(bucket, "submissions/2/young.webp")
    empty(bucket)
    assert copies(bucket) == ["submissions/2/young.webp"]
    assert len(list(list_manifests(bucket))) == 1


def test_the_copies_of_a_lost_database_go_by_their_manifests(bucket):
    Run.objects.all().delete()
    Change.objects.all().delete()
    Identity.objects.all().delete()
    planned = plan(bucket)
    assert [refusal.brake for refusal in planned.refusals] == ["identity"]
    assert fates(planned) == dict.fromkeys(ORPHANS, "plan")
    outcome = empty(bucket, lifted=Lifted(adopt=True))
    assert (outcome.summary()["removed"], quarantine(bucket)) == (3, [])
    assert not plan(bucket).refusals


# What stays


@pytest.mark.parametrize("back", [False, True], ids=["absent", "back"])
def test_a_copy_whose_key_a_row_names_again_stays(bucket, alias, back):
    if back:
        bucket.add(ORPHANS[1], b"others")
    Article.objects.using(alias).create(body=f"see https://old.example.net/{ORPHANS[1]}!")
    planned = plan(bucket)
    assert fates(planned) == dict.fromkeys(ORPHANS, "plan") | {ORPHANS[1]: "kept"}
    assert any("1 copy is kept because something names" in note for note in planned.notes)
    empty(bucket)
    assert copies(bucket) == [ORPHANS[1]]


def test_a_row_committed_after_the_plan_keeps_its_copy(bucket, alias):
    planned, run = plan(bucket), open_run(bucket)
    Article.objects.using(alias).create(body=ORPHANS[1])
    outcome = apply_emptying(planned, conf.load(), bucket, run)
    assert fates(outcome)[ORPHANS[1]] == "kept"
    assert copies(bucket) == [ORPHANS[1]]


@pytest.mark.parametrize(
    "values",
    [{"PROTECTED": ["*/orphan-1.webp"]}, {"DERIVED": ["*orphan-1.webp"]}],
    ids=["protected", "derived"],
)
def test_a_copy_of_what_settings_keep_stays(bucket, settings, values):
    change_settings(settings, **values)
    empty(bucket)
    assert copies(bucket) == [ORPHANS[1]]


def test_keys_that_are_managed_no_longer_are_looked_for_too(bucket, settings):
    change_settings(settings, MANAGED_PREFIXES=["apps/"])
    Article.objects.create(body=ORPHANS[1])
    empty(bucket, lifted=Lifted(overrides=frozenset({"source_lost"})))
    assert copies(bucket) == [ORPHANS[1]]


@pytest.mark.parametrize("state", [RunState.STOPPED, RunState.RUNNING])
def test_the_copies_of_an_unfinished_run_stay(bucket, state):
    Run.objects.update(state=state)
    planned = plan(bucket)
    assert fates(planned) == dict.fromkeys(ORPHANS, "kept")
    assert {item.reason for item in planned.items} == {
        "Its run is unfinished; the same command goes on with it."
    }


def test_the_copies_of_a_run_that_is_being_undone_stay(bucket):
    run = Run.objects.get().pk
    journal.open_journal(command="r2_runs", bucket=bucket.name, options={"undo": run})
    assert fates(plan(bucket)) == dict.fromkeys(ORPHANS, "kept")


def test_a_run_that_became_unfinished_since_the_plan_keeps_its_copies(bucket):
    planned, run = plan(bucket), open_run(bucket)
    Run.objects.exclude(pk=run.run_id).update(state=RunState.STOPPED)
    outcome = apply_emptying(planned, conf.load(), bucket, run)
    assert fates(outcome) == dict.fromkeys(ORPHANS, "kept")
    assert len(list(list_manifests(bucket))) == 1


def lose_manifest(bucket: R2Fake) -> None:
    (manifest,) = list_manifests(bucket)
    del bucket.objects[manifest]


def test_without_a_manifest_the_journal_tells_what_a_copy_is_of(bucket):
    lose_manifest(bucket)
    Article.objects.create(body=ORPHANS[1])
    assert fates(plan(bucket)) == dict.fromkeys(ORPHANS, "plan") | {ORPHANS[1]: "kept"}


def test_a_copy_that_nobody_knows_stays_unless_its_original_is_there_as_it_was(bucket):
    before = bucket.now() - MONTH
    lose_manifest(bucket)
    Change.objects.all().delete()
    planned = plan(bucket)
    assert [(item.key, item.action.value) for item in planned.items] == [("", "kept")] * 3
    assert any("3 copies are kept because no manifest" in note for note in planned.notes)
    # The purge copied this version, and never came to delete it.
    bucket.add(ORPHANS[1], ORPHANS[1].encode(), age=bucket.now() - before + MONTH)
    assert sorted(fates(plan(bucket)).items()) == [("", "kept"), (ORPHANS[1], "plan")]
    # Another version under the same key is not what the copy holds.
    bucket.add(ORPHANS[1], ORPHANS[1].encode(), age=MONTH)
    assert set(fates(plan(bucket))) == {""}


def test_a_damaged_manifest_stays_and_is_told_of(bucket):
    (manifest,) = list_manifests(bucket)
    bucket.add(manifest, bucket.body(manifest)[:-9], age=MONTH)
    Change.objects.all().delete()
    planned = plan(bucket)
    assert not planned.has_work
    assert any(manifest in note and "It stays." in note for note in planned.notes)


def test_hosts_of_other_copies_of_one_key_are_judged_each_by_its_age(bucket):
    purge(bucket, ORPHANS[0])
    empty(bucket)
    assert copies(bucket) == [ORPHANS[0]]
    (manifest,) = list_manifests(bucket)
    assert [one.key for one in read_manifest(bucket, manifest)[1]] == [ORPHANS[0]]


# Brakes


def test_another_database_empties_nothing(bucket):
    Identity.objects.update(nonce="other")
    planned = plan(bucket)
    assert [refusal.brake for refusal in planned.refusals] == ["identity"]
    with pytest.raises(Refused):
        apply_emptying(planned, conf.load(), bucket, open_run(bucket))
    assert copies(bucket) == ORPHANS


def test_a_doubtful_reading_empties_nothing(bucket):
    Article.objects.all().delete()
    Article.objects.create(body="nothing of the bucket")
    brakes = {refusal.brake for refusal in plan(bucket).refusals}
    assert {"empty", "source_lost"} <= brakes
    every = frozenset({"empty", "source_lost"})
    assert not plan(bucket, lifted=Lifted(overrides=every)).refusals


def test_many_missing_files_are_refused(bucket):
    Article.objects.create(body=" ".join(f"submissions/9/{n}.webp" for n in range(3)))
    assert [refusal.brake for refusal in plan(bucket).refusals] == ["missing"]


def test_what_only_quarantine_holds_counts_as_missing(bucket):
    Article.objects.create(body=" ".join(ORPHANS))
    assert [refusal.brake for refusal in plan(bucket).refusals] == ["missing"]


def test_a_bucket_adopted_by_another_database_since_the_plan_is_not_taken(bucket):
    planned, run = plan(bucket), open_run(bucket)
    Identity.objects.update(nonce="other")
    with pytest.raises(Refused, match="marker changed"):
        apply_emptying(planned, conf.load(), bucket, run)
    assert copies(bucket) == ORPHANS


def test_a_source_that_emptied_since_the_plan_empties_nothing(bucket):
    planned, run = plan(bucket), open_run(bucket)
    Article.objects.all().delete()
    with pytest.raises(Refused, match="oddities_article"):
        apply_emptying(planned, conf.load(), bucket, run)
    assert copies(bucket) == ORPHANS


@pytest.mark.parametrize("checks", range(3))
def test_nothing_is_removed_without_the_lease(bucket, checks):
    planned, run = plan(bucket), open_run(bucket)
    run.lease = LostLease(checks)
    with pytest.raises(LeaseHeld):
        apply_emptying(planned, conf.load(), bucket, run)
    assert copies(bucket) == ORPHANS


def test_an_emptying_is_not_what_the_next_purge_is_measured_by(bucket):
    before = last_baseline("purge_orphans", bucket.name)
    empty(bucket)
    assert last_baseline("purge_orphans", bucket.name) == before
    assert not plan_purge(conf.load(), bucket).unfinished


# Failing, stopping, being killed


def test_one_copy_that_fails_is_reported_and_keeps_its_manifest(bucket):
    name = next(name for name in quarantine(bucket) if not is_manifest(name))
    bucket.before = fail_on("delete", name, error=lambda: ObjectLocked("A bucket lock."))
    outcome = empty(bucket)
    assert outcome.findings
    assert sorted(fates(outcome).values()) == ["delete", "delete", "fail"]
    assert len(quarantine(bucket)) == 2
    bucket.before = lambda operation, key: None
    assert empty(bucket).summary()["removed"] == 1
    assert quarantine(bucket) == []


def test_stopped_in_the_middle_the_next_execution_goes_on(bucket, monkeypatch):
    monkeypatch.setattr("r2maint.purge.empty_quarantine.apply.BATCH", 1)
    control = Control()

    def stop(operation: str, key: str) -> None:
        if operation == "delete":
            control.signal_code = 130

    bucket.before = stop
    outcome = empty(bucket, control)
    assert (outcome.stopped.exit_code, len(copies(bucket))) == (130, 2)
    bucket.before = lambda operation, key: None
    outcome = empty(bucket)
    assert (outcome.summary()["removed"], quarantine(bucket)) == (3, [])
    assert Run.objects.count() == 2


class Killed(BaseException):
    """What no code catches, as no code outlives kill -9."""


def kill_at(number: int, *, after: bool) -> Callable[[R2Fake], None]:
    """Return what lets the process end before, or after, its nth write to the bucket."""

    def arm(bucket: R2Fake) -> None:
        left, delete = number, bucket._delete

        def before(operation: str, key: str) -> None:
            nonlocal left
            if operation in ("put", "delete"):
                left -= 1
                if left == -1 and not after:
                    raise Killed

        def die_afterwards(key: str) -> None:
            delete(key)
            if left == -1 and after and key.startswith(PREFIX):
                raise Killed

        bucket.before, bucket._delete = before, die_afterwards

    return arm


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("moment", range(6))
def test_killed_at_any_write_it_goes_on_and_ends_in_the_same_state(
    bucket, moment, after, monkeypatch
):
    monkeypatch.setattr("r2maint.purge.empty_quarantine.apply.BATCH", 1)
    planned, run = plan(bucket), open_run(bucket)
    kill_at(moment, after=after)(bucket)
    killed = False
    try:
        apply_emptying(planned, conf.load(), bucket, run)
    except Killed:
        killed = True
    assert killed or after, "the last and first writes are of the marker"
    bucket.before, bucket._delete = lambda operation, key: None, R2Fake._delete.__get__(bucket)
    outcome = empty(bucket)
    assert (quarantine(bucket), outcome.summary()["removed"]) == ([], 3)
    done = Change.objects.filter(kind=ChangeKind.DISCARD, state=ChangeState.DONE).exclude(old="")
    assert sorted(done.values_list("old", flat=True)) == ORPHANS
    assert Run.objects.filter(state=RunState.FINISHED).count() == 2
    assert not plan(bucket).has_work


def test_a_manifest_that_a_killed_emptying_left_without_copies_is_work(bucket):
    for name in quarantine(bucket):
        if not is_manifest(name):
            del bucket.objects[name]
    planned = plan(bucket)
    assert (planned.has_work, planned.summary()["to_remove"]) == (True, 0)
    empty(bucket)
    assert quarantine(bucket) == []


def test_a_listing_that_fails_decides_nothing(bucket):
    bucket.before = fail_on("list", error=lambda: BucketError("The listing failed."))
    with pytest.raises(BucketError):
        plan(bucket)
