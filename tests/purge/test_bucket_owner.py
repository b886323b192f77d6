from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import connections

from r2maint.models import Change, Identity, Run, Sighting
from r2maint.purge import bucket_owner
from r2maint.purge.bucket_owner import read_standing
from r2maint.purge.result import PurgeOptions
from tests.conftest import DATABASES
from tests.fakes import R2Fake
from tests.oddities.models import Article
from tests.worlds.few_objects import (
    AT_ONCE,
    NAMED,
    ORPHAN,
    WEEK,
    brakes,
    make_bucket,
    media,
    message,
    plan,
    purge,
    urls,
    verdicts,
)

pytestmark = pytest.mark.django_db(databases=DATABASES)

AGAIN = replace(AT_ONCE, adopt=False)
OWN_TABLES = (Run, Change, Sighting, Identity)


@pytest.fixture
def bucket(project) -> R2Fake:
    bucket = make_bucket(NAMED, ORPHAN)
    Article.objects.create(body=urls([NAMED]))
    return bucket


def clone() -> Callable[[], Callable]:
    """Copy r2maint's own rows; calling the copy puts them in place and returns the other side's."""
    rows = [row for model in OWN_TABLES for row in model.objects.all()]

    def put_in_place() -> Callable:
        other = clone()
        for model in OWN_TABLES:
            model.objects.all().delete()
        for row in rows:
            row.save(force_insert=True)
        return other

    return put_in_place


def add_orphan(bucket: R2Fake) -> None:
    bucket.add(ORPHAN, ORPHAN.encode(), age=timedelta(days=30))


def test_both_sides_of_a_clone_pass_until_one_applies(bucket):
    purge(bucket)
    add_orphan(bucket)
    copy = clone()
    assert brakes(plan(bucket, AGAIN)) == []
    original = copy()
    assert brakes(plan(bucket, AGAIN)) == []
    purge(bucket, AGAIN)
    assert brakes(plan(bucket, AGAIN)) == []
    original()
    add_orphan(bucket)
    assert brakes(plan(bucket, AGAIN)) == ["identity"]
    assert "another copy of this database" in message(plan(bucket, AGAIN), "identity")


def test_a_clone_that_is_adopted_shuts_the_other_side_out(bucket):
    purge(bucket)
    copy = clone()
    add_orphan(bucket)
    purge(bucket, AGAIN)
    original = copy()
    add_orphan(bucket)
    assert brakes(plan(bucket, AGAIN)) == ["identity"]
    purge(bucket)
    assert brakes(plan(bucket, AGAIN)) == []
    original()
    add_orphan(bucket)
    assert brakes(plan(bucket, AGAIN)) == ["identity"]


def test_a_backup_older_than_the_last_run_is_refused(bucket):
    purge(bucket)
    backup = clone()
    add_orphan(bucket)
    purge(bucket, AGAIN)
    backup()
    add_orphan(bucket)
    assert brakes(plan(bucket, AGAIN)) == ["identity"]
    assert ORPHAN in media(bucket)


def test_adopting_a_restored_backup_begins_with_the_first_look(bucket):
    purge(bucket)
    add_orphan(bucket)
    plan(bucket, PurgeOptions())
    backup = clone()
    bucket.clock.move(WEEK)
    purge(bucket, AGAIN)
    backup()
    add_orphan(bucket)
    adopting = replace(AT_ONCE, grace=WEEK, second_look=True)
    assert verdicts(plan(bucket, adopting)) == {ORPHAN: "waiting"}


def test_another_server_is_refused(bucket, monkeypatch):
    monkeypatch.setattr(bucket_owner, "_system", lambda: "7300000000000000001")
    purge(bucket)
    assert brakes(plan(bucket, AGAIN)) == []
    monkeypatch.setattr(bucket_owner, "_system", lambda: "7300000000000000002")
    assert "another database server" in message(plan(bucket, AGAIN), "identity")


def test_a_role_that_may_not_ask_for_the_server_is_refused_with_the_reason(bucket, monkeypatch):
    monkeypatch.setattr(bucket_owner, "_system", lambda: "7300000000000000001")
    purge(bucket)
    monkeypatch.setattr(bucket_owner, "_system", lambda: "")
    assert "pg_control_system" in message(plan(bucket, AGAIN), "identity")


@pytest.mark.django_db(databases=DATABASES)
def test_postgresql_tells_its_server(monkeypatch):
    monkeypatch.setattr("r2maint.purge.bucket_owner.journal.home", lambda: "postgres")
    assert bucket_owner._system().isdigit()


@pytest.mark.parametrize(
    ("setting", "what"), [("HOST", "host"), ("PORT", "host"), ("NAME", "name")]
)
def test_another_host_or_name_only_warns_until_the_next_run(bucket, monkeypatch, setting, what):
    purge(bucket)
    assert not any("The database's" in note for note in plan(bucket, AGAIN).notes)
    given = {**connections["default"].settings_dict, setting: "moved"}
    monkeypatch.setattr(connections["default"], "settings_dict", given)
    warned = plan(bucket, AGAIN)
    (note,) = (note for note in warned.notes if "The database's" in note)
    assert note.startswith(f"The database's {what} is another than in the last applied run.")
    assert brakes(warned) == []
    add_orphan(bucket)
    purge(bucket, AGAIN)
    assert read_standing(bucket).warnings == ()


def test_the_marker_tells_neither_host_nor_name(bucket):
    purge(bucket)
    marker = json.loads(bucket.body(bucket_owner.KEY))
    host, name = bucket_owner._place()
    assert marker["host"]
    assert marker["name"]
    assert not {host, name} & set(marker.values())


@pytest.mark.parametrize(
    "change",
    [{"nonce": 1}, {"salt": None}, {"owner_id": []}, {"next": True}, {"more": "x"}],
    ids=["a number", "null", "a list", "a boolean", "an unknown field"],
)
def test_a_forged_marker_refuses_and_is_not_taken_for_none(bucket, change):
    purge(bucket)
    told = json.loads(bucket.body(bucket_owner.KEY))
    bucket.add(bucket_owner.KEY, json.dumps({**told, **change}).encode())
    assert brakes(plan(bucket, AGAIN)) == ["identity"]
    assert "cannot be read" in message(plan(bucket, AGAIN), "identity")
    assert not read_standing(bucket).is_first


@pytest.mark.parametrize("body", [b"", b"\xff", b"[" * 60_000, b" " * 2**20])
def test_a_damaged_or_huge_marker_refuses_until_it_is_adopted(bucket, body):
    purge(bucket)
    bucket.add(bucket_owner.KEY, body)
    assert "cannot be read" in message(plan(bucket, AGAIN), "identity")
    bucket_owner.adopt(bucket, read_standing(bucket))
    assert read_standing(bucket).fault == ""
