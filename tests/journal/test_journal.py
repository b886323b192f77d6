"""The record of runs: begun, resumed, closed, and what it keeps alive."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.db import connections, transaction

from r2maint.errors import DatabaseError, LeaseHeld
from r2maint.journal import journal
from r2maint.journal.entries import Entry
from r2maint.journal.journal import (
    Journal,
    find_unfinished,
    iter_changes,
    kept_values,
    new_run_id,
    open_journal,
    require_tables,
)
from r2maint.models import Change, ChangeKind, ChangeState, Run, RunState
from r2maint.runs.plan import list_runs
from r2maint.signals import run_finished
from tests.conftest import DATABASES

pytestmark = pytest.mark.django_db(databases=DATABASES)


def opened(command: str = "migrate", bucket: str = "b", **options: object) -> Journal:
    return open_journal(command=command, bucket=bucket, options=options)


def upload(key: str) -> Entry:
    return Entry(kind=ChangeKind.UPLOAD, key=key)


def rewritten(run_id: str, alias: str = "default", **values: object) -> Change:
    given = {"kind": ChangeKind.REWRITE, "state": ChangeState.DONE, "at": journal.now()}
    return Change.objects.using(alias).create(run_id=run_id, **{**given, **values})


def kept(days: int = 30) -> set[str]:
    return set(kept_values(undo_window=timedelta(days=days), now=journal.now()))


def test_ids_sort_by_time_and_differ_within_a_second():
    at = journal.now()
    first, second = new_run_id(at), new_run_id(at)
    assert re.fullmatch(r"\d{8}T\d{6}Z-[0-9a-f]{6}", first)
    assert first != second
    assert first < new_run_id(at + timedelta(seconds=1))


@pytest.mark.parametrize("state", [None, RunState.STOPPED])
def test_an_unfinished_run_goes_on_under_its_own_id(state):
    first = opened(limit=1)
    if state:
        first.finish(state=state, summary={"uploaded": 1})
    again = opened(limit=2)
    assert (again.run_id, again.resumed) == (first.run_id, True)
    run = Run.objects.get()
    assert (run.state, run.options, run.finished_at) == (RunState.RUNNING, {"limit": 2}, None)


@pytest.mark.parametrize("state", [RunState.FINISHED, RunState.FAILED])
def test_a_run_that_ended_is_followed_by_a_new_one(state):
    first = opened()
    first.finish(state=state, summary={})
    again = opened()
    assert (again.run_id == first.run_id, again.resumed) == (False, False)


def test_runs_of_another_command_bucket_or_undone_run_are_not_resumed():
    ids = {
        opened("migrate", "b").run_id,
        opened("migrate", "c").run_id,
        opened("reoptimize", "b").run_id,
        opened("r2_runs", "b", undo="1").run_id,
        opened("r2_runs", "b", undo="2").run_id,
    }
    assert len(ids) == 5
    assert opened("r2_runs", "b", undo="1").run_id in ids


@pytest.mark.django_db(transaction=True, databases=DATABASES)
def test_what_is_intended_is_committed_before_the_deed():
    opened().intend(upload(f"k{n}") for n in range(501))
    other = connections["default"].copy()
    try:
        with other.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM r2maint_change WHERE state = 'intended'")
            assert cursor.fetchone() == (501,)
    finally:
        other.close()


@pytest.mark.django_db(transaction=True, databases=DATABASES)
def test_an_open_transaction_is_refused():
    run = opened()
    with transaction.atomic(), pytest.raises(DatabaseError, match="transaction is open"):
        run.intend([upload("k")])
    with transaction.atomic(), pytest.raises(DatabaseError, match="transaction is open"):
        opened()


def test_nothing_is_intended_without_the_lease():
    class LostLease:
        def check(self) -> None:
            raise LeaseHeld("lost")

    run = opened()
    run.lease = LostLease()
    with pytest.raises(LeaseHeld):
        run.intend([upload("k")])
    assert not Change.objects.exists()


def test_changes_are_settled_and_a_finished_run_is_announced():
    run = opened()
    changes = [upload("a"), upload("b")]
    run.intend(changes)
    run.settle(changes[:1], ChangeState.DONE)
    heard = []

    def listen(sender, signal, **facts):
        heard.append((sender, facts))

    run_finished.connect(listen)
    try:
        run.finish(state=RunState.FINISHED, summary={"uploaded": 1})
    finally:
        run_finished.disconnect(listen)
    assert [(c.key, c.state) for c in iter_changes(run.run_id)] == [
        ("a", "done"),
        ("b", "intended"),
    ]
    facts = {"run_id": run.run_id, "state": "finished", "summary": {"uploaded": 1}}
    assert heard == [("migrate", facts)]


def test_changes_of_every_database_belong_to_the_run(monkeypatch):
    monkeypatch.setattr(journal, "_BATCH", 1)
    for alias in DATABASES:
        for number in range(10):
            rewritten("r", alias, old=f"{alias}{number}")
    olds = [f"{alias}{number}" for alias in DATABASES for number in range(10)]
    assert [change.old for change in iter_changes("r")] == olds
    backwards = [f"{alias}{number}" for alias in DATABASES for number in reversed(range(10))]
    assert [change.old for change in iter_changes("r", newest_first=True)] == backwards


def test_old_values_are_kept_inside_the_undo_window(alias):
    run = opened()
    run.finish(state=RunState.FINISHED, summary={})
    old = journal.now() - timedelta(days=31)
    rewritten(run.run_id, alias, old="/media/a.png", new="n", old_key="media/a.png", key="k")
    rewritten(run.run_id, alias, old="too old", at=old)
    rewritten(run.run_id, alias, old="was undone", state=ChangeState.UNDONE)
    rewritten(run.run_id, alias, old="deleted", kind=ChangeKind.DELETE)
    assert kept() == {"/media/a.png", "media/a.png"}


def test_new_keys_of_unfinished_runs_are_kept(alias):
    run = opened()
    run.intend([upload("uploaded")])
    long_ago = journal.now() - timedelta(days=90)
    rewritten(run.run_id, alias, old="o", new="n", key="k", at=long_ago)
    assert kept() == {"uploaded", "n", "k"}
    run.finish(state=RunState.FINISHED, summary={})
    assert kept() == set()


def test_what_an_undo_replaced_is_not_kept():
    run = opened("r2_runs", undo="1")
    run.finish(state=RunState.FINISHED, summary={})
    rewritten(run.run_id, old="https://media.example.org/new.png")
    assert kept() == set()


@pytest.mark.parametrize("about", ["undo", "remove_local", "empty_quarantine", "prune"])
def test_a_run_about_something_else_is_not_gone_on_with(about):
    usual, other = opened(), opened(**{about: "1"})
    assert usual.run_id != other.run_id
    assert (opened().run_id, opened(**{about: "1"}).run_id) == (usual.run_id, other.run_id)


@pytest.mark.parametrize("names", ["ab", "ba"], ids=["in order", "at random"])
def test_of_two_runs_of_one_second_the_later_one_is_the_newest(names):
    at = journal.now().replace(microsecond=0)
    for number, name in enumerate(names):
        Run.objects.create(
            id=f"{at:%Y%m%dT%H%M%SZ}-{name}",
            command="purge_orphans",
            bucket="b",
            state=RunState.STOPPED,
            started_at=at + timedelta(microseconds=number),
        )
    assert [item.run_id[-1] for item in list_runs().items] == [names[1], names[0]]
    assert find_unfinished("purge_orphans", "b", {}).pk.endswith(names[1])


@pytest.mark.parametrize(
    ("database", "hint"),
    [
        ("default", "Run manage.py migrate r2maint."),
        ("postgres", "Run manage.py migrate r2maint --database postgres."),
    ],
)
def test_missing_tables_are_told_with_the_command_that_makes_them(database, hint):
    require_tables(DATABASES)
    with connections[database].cursor() as cursor:
        cursor.execute("ALTER TABLE r2maint_change RENAME TO elsewhere")
        with pytest.raises(DatabaseError) as caught:
            require_tables(DATABASES)
        cursor.execute("ALTER TABLE elsewhere RENAME TO r2maint_change")
    assert caught.value.message == f"r2maint's tables are missing: database {database!r}."
    assert caught.value.hint == hint


def test_an_unreachable_database_is_told_without_its_settings():
    connection = connections["postgres"]
    before = connection.settings_dict
    connection.close()
    connection.settings_dict = {**before, "HOST": "127.0.0.1", "PORT": "1", "PASSWORD": "s3cret"}
    try:
        with pytest.raises(DatabaseError, match="'postgres'") as caught:
            require_tables(["postgres"])
        assert "s3cret" not in str(caught.value)
    finally:
        connection.settings_dict = before


def test_who_wakes_up_late_leaves_a_run_that_another_finished_as_it_is():
    late, other = opened(), opened()
    assert other.run_id == late.run_id
    other.finish(state=RunState.FINISHED, summary={"uploaded": 3})
    late.finish(state=RunState.STOPPED, summary={})
    run = Run.objects.get()
    assert (run.state, run.summary) == (RunState.FINISHED, {"uploaded": 3})


def test_lines_are_settled_on_databases_that_return_no_ids_of_many(monkeypatch):
    features = connections["default"].features
    monkeypatch.setattr(features, "can_return_columns_from_insert", False)
    monkeypatch.setattr(type(features), "can_return_rows_from_bulk_insert", False)
    changes = [upload("a"), upload("b")]
    run = opened()
    run.intend(changes)
    run.settle(changes[:1], ChangeState.DONE)
    states = dict(Change.objects.values_list("key", "state"))
    assert states == {"a": ChangeState.DONE, "b": ChangeState.INTENDED}
