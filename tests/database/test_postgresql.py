"""What PostgreSQL alone can do to a keep set."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import connections
from django.db.utils import DatabaseError as DjangoDatabaseError

from r2maint.database.postgresql_schema import definitions
from r2maint.errors import DatabaseError
from tests.conftest import DATABASES
from tests.servers.postgresql import copied
from tests.worlds.texts import KEY, OTHER, another_alias, change_settings, named, read

pytestmark = [
    pytest.mark.usefixtures("project"),
    pytest.mark.django_db(databases=DATABASES),
]


def sql(statement: str, *values: object) -> None:
    with connections["postgres"].cursor() as cursor:
        cursor.execute(statement, values or None)


@pytest.fixture
def beside(django_db_blocker) -> Iterator[None]:
    """A database of its own, under the alias "beside"."""
    server = connections["postgres"]
    with django_db_blocker.unblock():
        with server._nodb_cursor() as cursor:
            cursor.execute("DROP DATABASE IF EXISTS beside WITH (FORCE)")
            cursor.execute("CREATE DATABASE beside")
        with another_alias("beside", {**server.settings_dict, "NAME": "beside"}):
            yield


ATOMIC = "LANGUAGE sql BEGIN ATOMIC SELECT '{}'::text; END"
SAID = {
    "default": "CREATE TABLE said (n text DEFAULT '{}')",
    "generated column": "CREATE TABLE said (n text, m text GENERATED ALWAYS AS (n || '{}') STORED)",
    "check": "CREATE TABLE said (n text CHECK (n <> '{}'))",
    "exclusion": "CREATE TABLE said (n int, EXCLUDE USING btree (n WITH =) WHERE (n::text <> '{}'))",
    "view": "CREATE VIEW said AS SELECT '{}'::text",
    "materialized view": "CREATE MATERIALIZED VIEW said AS SELECT '{}'::text WITH NO DATA",
    "function": "CREATE FUNCTION said() RETURNS text LANGUAGE sql AS $$ SELECT '{}' $$",
    "plpgsql": "CREATE FUNCTION said() RETURNS text LANGUAGE plpgsql AS $$BEGIN RETURN '{}'; END$$",
    "standard body": f"CREATE FUNCTION said() RETURNS text {ATOMIC}",
    "standard procedure": f"CREATE PROCEDURE said() {ATOMIC}",
    "argument": "CREATE FUNCTION said(a text DEFAULT '{}') RETURNS text LANGUAGE sql RETURN a",
    "setting of a function": "CREATE FUNCTION said() RETURNS int LANGUAGE sql SET a.b = '{}' RETURN 1",
    "aggregate": "CREATE AGGREGATE said(text) (sfunc = textcat, stype = text, initcond = '{}')",
    "moving aggregate": (
        "CREATE AGGREGATE said(int) (sfunc = int4pl, stype = int, initcond = '0', msfunc = int4pl,"
        " minvfunc = int4mi, mstype = int, minitcond = '0');"
        "COMMENT ON AGGREGATE said(int) IS '{}'"
    ),
    "domain": "CREATE DOMAIN said AS text DEFAULT '{}'",
    "check of a domain": "CREATE DOMAIN said AS text CHECK (VALUE <> '{}')",
    "enum": "CREATE TYPE said AS ENUM ('a', '{}')",
    "composite": 'CREATE TYPE said AS ("{}" text)',
    "range": 'CREATE TYPE "{}" AS RANGE (subtype = text)',
    "rule": "CREATE RULE said AS ON DELETE TO oddities_article DO ALSO SELECT '{}'",
    "policy": "CREATE POLICY said ON oddities_article USING (body = '{}')",
    "policy of writing": "CREATE POLICY said ON oddities_article FOR INSERT WITH CHECK (body = '{}')",
    "trigger": (
        "CREATE TRIGGER said BEFORE UPDATE ON oddities_article FOR EACH ROW"
        " WHEN (NEW.body = '{}') EXECUTE FUNCTION suppress_redundant_updates_trigger()"
    ),
    "argument of a trigger": (
        "CREATE TRIGGER said BEFORE UPDATE ON oddities_article FOR EACH ROW"
        " EXECUTE FUNCTION tsvector_update_trigger('{}', 'b', 'c')"
    ),
    "partial index": "CREATE INDEX said ON oddities_article (id) WHERE body = '{}'",
    "index": "CREATE INDEX said ON oddities_article ((body || '{}'))",
    "statistics": "CREATE STATISTICS said ON (body || '{}'), id FROM oddities_article",
    "partition": (
        "CREATE TABLE said (n text) PARTITION BY LIST (n);"
        "CREATE TABLE said_1 PARTITION OF said FOR VALUES IN ('{}')"
    ),
    "partitions": "CREATE TABLE said (n text) PARTITION BY LIST ((n || '{}'))",
    "comment": "COMMENT ON TABLE oddities_article IS 'like {}'",
    "comment on a column": "COMMENT ON COLUMN oddities_article.body IS '{}'",
    "comment on the schema of old": "COMMENT ON SCHEMA public IS '{}'",
    "comment on the database": "COMMENT ON DATABASE {database} IS '{}'",
    "setting of the database": "ALTER DATABASE {database} SET app.picture = '{}'",
    "setting of a role": "ALTER ROLE postgres IN DATABASE {database} SET app.picture = '{}'",
    "publication": "CREATE PUBLICATION said FOR TABLE oddities_article WHERE (body = '{}')",
    "foreign server": (
        "CREATE FOREIGN DATA WRAPPER said; CREATE SERVER said FOREIGN DATA WRAPPER said"
        " OPTIONS (place '{}')"
    ),
    "foreign data wrapper": "CREATE FOREIGN DATA WRAPPER said OPTIONS (place '{}')",
    "event trigger": (
        "CREATE FUNCTION said() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN END; -- {} $$;"
        "CREATE EVENT TRIGGER said ON ddl_command_end EXECUTE FUNCTION said()"
    ),
    "column": 'CREATE TABLE said ("{}" int)',
}


@pytest.mark.parametrize("statement", SAID.values(), ids=SAID.keys())
def test_whatever_the_schema_says_is_read(statement):
    database = connections["postgres"].settings_dict["NAME"]
    sql(statement.format(KEY, database=database))
    assert named(KEY, OTHER) == {KEY}


def test_options_of_a_foreign_table_are_read(settings):
    sql("CREATE FOREIGN DATA WRAPPER said")
    sql("CREATE SERVER said FOREIGN DATA WRAPPER said OPTIONS (password 'submissions/secret')")
    sql(
        f"CREATE FOREIGN TABLE far (n text OPTIONS (of '{KEY}')) SERVER said"
        f" OPTIONS (place '{OTHER}')"
    )
    change_settings(settings, NOT_REFERENCES={"far": "another team's"})
    assert named(KEY, OTHER, "submissions/secret") == {KEY, OTHER}


def test_the_statement_for_older_versions_names_nothing_newer():
    assert "prqual" not in definitions(140000)
    assert "collicurules" not in definitions(150000)
    sql(definitions(120000))


# Replicas


def test_a_subscriber_refuses(beside, settings):
    with connections["beside"].cursor() as cursor:
        cursor.execute(
            "CREATE SUBSCRIPTION said CONNECTION 'host=nowhere.invalid' PUBLICATION p"
            " WITH (connect = false)"
        )
        try:
            with pytest.raises(DatabaseError, match=r"subscribes .* may lag behind: 'beside'"):
                named(KEY)
            change_settings(settings, NOT_REFERENCES={"beside": "filled from the primary"})
            assert named(KEY) == set()
        finally:
            cursor.execute("ALTER SUBSCRIPTION said SET (slot_name = NONE)")
            cursor.execute("DROP SUBSCRIPTION said")


def test_a_standby_refuses(django_db_blocker):
    given = connections["postgres"].settings_dict
    with (
        django_db_blocker.unblock(),
        copied(given["HOST"], standby=True) as host,
        another_alias("standby", {**given, "HOST": host}),
        pytest.raises(DatabaseError, match=r"is a replica.*'standby'"),
    ):
        named(KEY)


# Partitions


def test_a_partition_half_detached_is_read(beside):
    one, other = connections["beside"], connections["beside"].copy()
    try:
        with one.cursor() as cursor, other.cursor() as reader:
            cursor.execute("CREATE TABLE log (n int, v text) PARTITION BY LIST (n)")
            cursor.execute("CREATE TABLE log_1 PARTITION OF log FOR VALUES IN (1)")
            cursor.execute("CREATE TABLE log_2 PARTITION OF log FOR VALUES IN (2)")
            cursor.execute("INSERT INTO log VALUES (1, %s), (2, %s)", [KEY, OTHER])
            reader.execute("BEGIN; SELECT * FROM log")
            cursor.execute("SET statement_timeout = '200ms'")
            with pytest.raises(DjangoDatabaseError):
                cursor.execute("ALTER TABLE log DETACH PARTITION log_1 CONCURRENTLY")
            cursor.execute("RESET statement_timeout")
            reader.execute("ROLLBACK")
        found, reading = read(KEY, OTHER)
    finally:
        other.close()
    assert found == {KEY, OTHER}
    assert (reading.cells["beside.log_1.v"], reading.cells["beside.log.v"]) == (1, 1)


# Types


@pytest.mark.parametrize("name", ["vector", "geometry", "uuid", "tsvector"])
@pytest.mark.parametrize(
    "made", ["DOMAIN {} AS text", "TYPE {} AS (t text)", "TYPE {} AS RANGE (subtype = text)"]
)
def test_a_type_of_the_project_is_read_whatever_its_name(made, name):
    sql("CREATE SCHEMA art")
    sql(f"CREATE {made.format(f'art.{name}')}")
    value = f"({KEY})" if "(t" in made else f"[{KEY},zzz]" if "RANGE" in made else KEY
    sql(f"CREATE TABLE typed (c art.{name}, many art.{name}[])")
    sql("INSERT INTO typed (c) VALUES (%s)", value)
    assert named(KEY, OTHER) == {KEY}
    sql("UPDATE typed SET many = ARRAY[c, c]")
    sql("UPDATE typed SET c = NULL")
    assert named(KEY, OTHER) == {KEY}
