"""Pruning the journal: what is old and needed by nothing goes, and nothing else."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from r2maint import conf
from r2maint.bucket import Upload, open_bucket, put
from r2maint.control import Control
from r2maint.journal import journal
from r2maint.journal.entries import Entry
from r2maint.models import Change, ChangeKind, Run, RunState
from r2maint.runs.prune import Pruning, apply_pruning, plan_pruning
from tests.commands import apply, run
from tests.conftest import DATABASES

pytestmark = [pytest.mark.django_db(databases=DATABASES), pytest.mark.usefixtures("project")]

DAY = timedelta(days=1)


def ended(command: str = "migrate_media_to_r2", *, days: int = 100, state: str = "", **options):
    """A run that ended some days ago, with one change in each database."""
    bucket = open_bucket(conf.load()).name
    opened = journal.open_journal(command=command, bucket=bucket, options=options)
    opened.finish(state=state or RunState.FINISHED, summary={})
    at = journal.now() - days * DAY
    Run.objects.filter(pk=opened.run_id).update(finished_at=at)
    for alias in DATABASES:
        change = Change(run_id=opened.run_id, kind=ChangeKind.REWRITE, at=at)
        change.save(using=alias)
    return opened.run_id


def plan(older_than: timedelta = 90 * DAY) -> Pruning:
    config = conf.load()
    return plan_pruning(config, open_bucket(config), older_than, control=Control())


def reasons(planned: Pruning) -> dict[str, str]:
    return {item.run_id: item.reason for item in planned.items}


def left() -> set[str]:
    changes = (Change.objects.using(alias).values_list("run_id", flat=True) for alias in DATABASES)
    return {run_id for lines in changes for run_id in lines}


def test_old_runs_go_with_their_changes_in_every_database():
    old, young = ended(), ended(days=80)
    planned = plan()
    changes = len(DATABASES)
    assert planned.summary() == {"to_prune": 1, "changes": changes, "kept": 0, "pruned": 0}
    assert planned.question == f"Remove the journal of 1 run ({changes} changes)?"
    assert left() == {old, young}
    document = apply("r2_runs", "--prune", "90d")
    assert document["summary"]["pruned"] == 1
    assert left() == {young}
    assert set(Run.objects.values_list("pk", flat=True)) == {young, document["run_id"]}
    assert apply("r2_runs", "--prune", "90d")["run_id"] is None


@pytest.mark.parametrize("state", [RunState.STOPPED, RunState.RUNNING])
def test_an_unfinished_run_stays(state):
    old = ended(state=RunState.FINISHED)
    Run.objects.update(state=state)
    assert reasons(plan()) == {old: "It is unfinished."}


def test_what_could_be_undone_stays(settings):
    settings.R2MAINT = {**settings.R2MAINT, "UNDO_WINDOW": "120d"}
    old = ended()
    assert reasons(plan()) == {old: "It is inside UNDO_WINDOW."}
    assert not plan().has_work


def test_the_run_that_the_brakes_compare_with_stays():
    first, last = (ended("purge_orphans", baseline={"missing": 0.0}) for _ in range(2))
    assert reasons(plan()) == {first: "", last: "The next purge is measured by it."}


def test_a_run_that_is_being_undone_stays():
    old = ended()
    bucket = open_bucket(conf.load()).name
    journal.open_journal(command="r2_runs", bucket=bucket, options={"undo": old})
    assert reasons(plan()) == {old: "An unfinished run is about it."}


def test_a_run_on_another_bucket_stays():
    old = ended()
    Run.objects.update(bucket="elsewhere")
    assert reasons(plan()) == {old: "It wrote to another bucket."}


def test_a_run_with_copies_in_quarantine_stays_until_they_are_gone():
    old, bucket = ended("purge_orphans"), open_bucket(conf.load())
    copy = f".r2maint/quarantine/{'a' * 32}/{'0' * 64}"
    Change.objects.create(
        run_id=old, kind=ChangeKind.QUARANTINE, new=copy, at=journal.now() - 100 * DAY
    )
    put(bucket, Upload(key=f".r2maint/quarantine/{'a' * 32}/manifest-0001", body=b""))
    assert reasons(plan()) == {old: "Copies of it are in quarantine: empty that first."}
    list(bucket.delete_many([f".r2maint/quarantine/{'a' * 32}/manifest-0001"]))
    assert reasons(plan()) == {old: ""}


def test_what_became_needed_since_the_plan_stays():
    old, planned, bucket = ended(), plan(), open_bucket(conf.load())
    opened = journal.open_journal(command="r2_runs", bucket=bucket.name, options={"undo": old})
    opened.finish(state=RunState.STOPPED, summary={})
    again = journal.open_journal(command="r2_runs", bucket=bucket.name, options={"prune": True})
    outcome = apply_pruning(planned, bucket, again, control=Control())
    assert (outcome.summary()["pruned"], left()) == (0, {old})


class Killed(BaseException):
    """What no code catches, as no code outlives kill -9."""


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("number", range(2))
def test_killed_anywhere_it_goes_on_and_ends_in_the_same_state(monkeypatch, number, after):
    old = [ended(), ended()]
    bucket, deleted = open_bucket(conf.load()), Run.delete

    def kill(self, **given):
        is_last = self.pk == old[number]
        if not is_last or after:
            deleted(self, **given)
        if is_last:
            raise Killed

    options = {"prune": True}
    opened = journal.open_journal(command="r2_runs", bucket=bucket.name, options=options)
    monkeypatch.setattr(Run, "delete", kill)
    with pytest.raises(Killed):
        apply_pruning(plan(), bucket, opened, control=Control())
    monkeypatch.setattr(Run, "delete", deleted)
    again = journal.open_journal(command="r2_runs", bucket=bucket.name, options=options)
    apply_pruning(plan(), bucket, again, control=Control())
    assert (again.run_id, left()) == (opened.run_id, set())
    assert list(Run.objects.values_list("pk", flat=True)) == [again.run_id]


def test_a_pruning_cannot_be_undone():
    ended()
    pruned = apply("r2_runs", "--prune", "90d")["run_id"]
    document = run("r2_runs", pruned, "--undo", exit_code=2)
    assert "removed journal rows for good" in document["error"]["message"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--prune", "90d", "--undo", "RUN"),
        ("RUN", "--prune", "90d"),
        ("--prune", "old"),
        ("RUN", "--key", "a"),
        ("--prefix", "a/"),
    ],
    ids=" ".join,
)
def test_options_that_do_not_go_together_are_usage_errors(arguments):
    with pytest.raises(CommandError) as raised:
        call_command("r2_runs", *arguments, stdout=StringIO(), stderr=StringIO())
    assert raised.value.returncode == 2


def test_entries_of_a_run_are_pruned_in_batches(monkeypatch):
    monkeypatch.setattr("r2maint.runs.prune._BATCH", 2)
    old = ended()
    opened = journal.Journal(run_id=old, command="", bucket="", resumed=True)
    opened.intend(Entry(kind=ChangeKind.UPLOAD, key=f"{n}") for n in range(5))
    assert apply("r2_runs", "--prune", "90d")["summary"]["changes"] == 5 + len(DATABASES)
    assert left() == set()
