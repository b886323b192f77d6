"""What an entry of NOT_REFERENCES leaves out, and what it must not."""

from __future__ import annotations

import pytest
from django.db import connections

from r2maint import conf
from r2maint.errors import ConfigError
from r2maint.keys import Addresses
from r2maint.references import discover
from tests.conftest import DATABASES
from tests.oddities.models import Article
from tests.worlds.texts import (
    KEY,
    OTHER,
    another_alias,
    change_settings,
    named,
    read,
)

pytestmark = [
    pytest.mark.usefixtures("project"),
    pytest.mark.django_db(databases=DATABASES),
]


def sql(alias: str, statement: str, *values: object) -> None:
    with connections[alias].cursor() as cursor:
        cursor.execute(statement, values or None)


def left_out(settings, *entries: str) -> None:
    change_settings(settings, NOT_REFERENCES=dict.fromkeys(entries, "a log"))


def refused(match: str) -> str:
    """Return the hint with which a reading is refused."""
    with pytest.raises(ConfigError, match=match) as raised:
        named(KEY)
    return raised.value.hint


@pytest.fixture
def events():
    """A table of the same name in two schemas; each names one key."""
    sql("postgres", "CREATE SCHEMA tenant7")
    for schema, key in (("public", KEY), ("tenant7", OTHER)):
        sql("postgres", f"CREATE TABLE {schema}.events (poster text)")
        sql("postgres", f"INSERT INTO {schema}.events VALUES (%s)", key)


def test_a_bare_name_in_two_schemas_is_an_error(settings, events):
    left_out(settings, "events")
    hint = refused("means 2 things: 'events'")
    assert "'postgres.events', 'postgres.tenant7.events'" in hint


@pytest.mark.parametrize(
    ("entry", "kept"),
    [
        ("postgres.events", OTHER),
        ("public.events", OTHER),
        ("postgres.public.events", OTHER),
        ("tenant7.events", KEY),
        ("postgres.tenant7.events", KEY),
    ],
)
def test_a_table_may_be_spelled_with_schema_and_alias(settings, events, entry, kept):
    left_out(settings, entry)
    found, reading = read(KEY, OTHER)
    assert found == {kept}
    assert reading.notes == (f"Not read for references: {entry} (a log).",)


def test_a_bare_name_in_one_schema_is_enough(settings, events):
    sql("postgres", "DROP TABLE public.events")
    left_out(settings, "events")
    assert named(KEY, OTHER) == set()


def test_a_bare_name_in_two_databases_is_an_error(settings):
    left_out(settings, "oddities_article")
    hint = refused(f"means {len(DATABASES)} things: 'oddities_article'")
    assert "'default.oddities_article', 'postgres.oddities_article'" in hint


def test_a_name_that_is_an_alias_and_a_table_is_an_error(settings, django_db_blocker):
    given = {**connections.databases["default"], "NAME": ":memory:"}
    with django_db_blocker.unblock(), another_alias("archive", given) as archive:
        archive.ensure_connection()
        for alias in ("default", "archive"):
            sql(alias, "CREATE TABLE archive (u text)" if alias == "default" else "SELECT 1")
        sql("default", "INSERT INTO archive VALUES (%s)", KEY)
        left_out(settings, "archive")
        hint = refused("means 2 things: 'archive'")
        assert "'archive.*', 'default.archive'" in hint
        left_out(settings, "archive.*")
        assert named(KEY, OTHER) == {KEY}
        left_out(settings, "archive.*", "default.archive")
        assert named(KEY, OTHER) == set()


def test_a_table_in_a_schema_called_like_an_alias_is_told_from_it(settings):
    sql("postgres", 'CREATE SCHEMA "default"')
    sql("postgres", 'CREATE TABLE "default".oddities_article (u text)')
    left_out(settings, "default.oddities_article")
    hint = refused("means 2 things: 'default.oddities_article'")
    assert "'default.main.oddities_article', 'postgres.default.oddities_article'" in hint
    left_out(settings, "default.main.oddities_article")
    Article.objects.create(body=KEY)
    assert named(KEY) == set()


def test_a_model_is_its_own_table_in_every_database_and_no_other(settings):
    sql("postgres", "CREATE SCHEMA tenant7")
    sql("postgres", "CREATE TABLE tenant7.oddities_article (body text)")
    sql("postgres", "INSERT INTO tenant7.oddities_article VALUES (%s)", OTHER)
    for alias in DATABASES:
        Article.objects.using(alias).create(body=KEY)
    left_out(settings, "oddities.Article")
    assert named(KEY, OTHER) == {OTHER}


def test_a_table_called_like_a_model_is_told_from_it(settings):
    sql("postgres", "CREATE SCHEMA oddities")
    sql("postgres", 'CREATE TABLE oddities."Article" (body text)')
    left_out(settings, "oddities.Article")
    hint = refused("means 2 things: 'oddities.Article'")
    assert "'postgres.oddities.Article'" in hint


def test_an_alias_without_a_file_can_be_left_out(settings, django_db_blocker, tmp_path):
    path = tmp_path / "archive.sqlite3"
    given = {**connections.databases["default"], "NAME": str(path)}
    with django_db_blocker.unblock(), another_alias("archive", given):
        left_out(settings, "archive")
        assert named(KEY) == set()
        assert not path.exists()


def test_what_may_be_rewritten_follows_the_same_spellings(settings):
    def models(alias: str) -> set[str]:
        config = conf.load()
        columns = discover(config, Addresses.from_config(config))
        return {column.model for column in columns if column.database == alias}

    assert "oddities.Article" in models("default")
    left_out(settings, "default.oddities_article", "postgres.*")
    assert "oddities.Article" not in models("default")
    assert models("postgres") < models("default") | {"oddities.Article"}
    left_out(settings, "oddities_article")
    with pytest.raises(ConfigError, match="means"):
        models("default")
