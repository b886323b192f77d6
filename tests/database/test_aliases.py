"""Which aliases are one database."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connections, transaction

from r2maint.database.aliases import distinct_aliases, iter_aliases
from r2maint.database.connections import fetch
from r2maint.errors import DatabaseError
from tests.conftest import DATABASES
from tests.servers.postgresql import copied
from tests.worlds.texts import another_alias

pytestmark = [
    pytest.mark.usefixtures("project"),
    pytest.mark.django_db(transaction=True, databases=DATABASES),
]


@pytest.fixture(autouse=True)
def _unblocked(django_db_blocker) -> Iterator[None]:
    with django_db_blocker.unblock():
        yield


@contextmanager
def again(alias: str, **given: Any) -> Iterator[None]:
    """Let the alias "again" lead where `alias` does, but for some settings."""
    with another_alias("again", {**connections[alias].settings_dict, **given}):
        yield


def is_one(alias: str) -> bool:
    return list(distinct_aliases([alias, "again"])) == [alias]


def test_two_connections_to_one_database_are_one(alias):
    with again(alias):
        assert is_one(alias)
        assert list(iter_aliases()) == list(DATABASES)
        assert len(list(iter_aliases(["again", alias]))) == 1


def test_inside_a_transaction_they_are_one_too(alias):
    with again(alias), transaction.atomic(alias):
        assert is_one(alias)
        assert fetch(connections[alias], "SELECT 1") == [(1,)]


def test_no_lock_is_left():
    with again("postgres"), transaction.atomic("postgres"):
        assert is_one("postgres")
        locks = "SELECT * FROM pg_locks WHERE locktype = 'advisory'"
        assert not fetch(connections["postgres"], locks)


def test_an_alias_that_differs_in_its_search_path_is_another():
    with again("postgres", OPTIONS={"options": "-c search_path=pg_catalog"}):
        assert not is_one("postgres")
        assert "again" in list(iter_aliases())
    with again("postgres", OPTIONS={"options": "-c search_path=public,nowhere"}):
        assert is_one("postgres")


def test_another_database_of_the_same_server_is_another(server):
    connection, quoted = connections[server], connections[server].ops.quote_name
    name = f"{connection.settings_dict['NAME']}_beside"
    with connection._nodb_cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {quoted(name)}")
    try:
        with again(server, NAME=name):
            assert not is_one(server)
    finally:
        with connection._nodb_cursor() as cursor:
            cursor.execute(f"DROP DATABASE {quoted(name)}")


def test_a_copy_of_a_server_is_another_although_it_says_the_same_of_itself():
    one = connections["postgres"]
    host = one.settings_dict["HOST"]
    with copied(host, standby=False) as copy, again("postgres", HOST=copy):
        says = "SELECT system_identifier, current_database() FROM pg_control_system()"
        assert fetch(connections["again"], says) == fetch(one, says)
        assert not is_one("postgres")
        assert "again" in list(iter_aliases())


def test_a_standby_is_no_alias_to_go_through():
    host = connections["postgres"].settings_dict["HOST"]
    with copied(host, standby=True) as copy, again("postgres", HOST=copy):
        assert not is_one("postgres")
        assert "again" not in list(iter_aliases())


def test_one_file_under_two_names_is_one(tmp_path):
    path = connections["default"].settings_dict["NAME"]
    os.symlink(os.path.abspath(path), tmp_path / "linked")
    with again("default", NAME=str(tmp_path / "linked")):
        assert is_one("default")
    with again("default", NAME=f"file:{os.path.abspath(path)}?mode=rw"):
        assert is_one("default")


def test_what_one_of_them_attaches_makes_two(tmp_path):
    with again("default"):
        fetch(connections["again"], "ATTACH %s AS beside", [str(tmp_path / "beside")])
        assert not is_one("default")


def test_a_file_that_does_not_exist_is_told_by_every_command(tmp_path):
    with (
        again("default", NAME=str(tmp_path / "typed wrong")),
        pytest.raises(DatabaseError, match="does not exist: 'again'"),
    ):
        list(iter_aliases())
    assert not (tmp_path / "typed wrong").exists()
