"""What MariaDB alone can do to a keep set and to a rewrite."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connections
from django.db.utils import DatabaseError as DjangoDatabaseError

from r2maint.database import connections as databases
from r2maint.database.aliases import iter_aliases
from r2maint.database.catalogue import list_tables
from r2maint.database.snapshot import iter_cells, open_snapshot
from r2maint.database.text_table import Barred, text_table
from r2maint.errors import DatabaseError
from r2maint.journal import journal
from r2maint.references.edit_cell import Rewrite, Swapped
from tests.appdirectory.models import AppSubmission
from tests.conftest import DATABASES, needs_mariadb
from tests.oddities.models import Article, SoftDeleted
from tests.servers import mariadb
from tests.worlds.rewriting import BASE, references, renamed, submissions, swapped
from tests.worlds.texts import KEY, OTHER, another_alias, change_settings, dropped, named, read

pytestmark = [
    needs_mariadb,
    pytest.mark.usefixtures("project"),
    pytest.mark.django_db(transaction=True, databases=DATABASES),
]


def sql(statement: str, *values: object) -> list[tuple[Any, ...]]:
    return databases.fetch(connections["mariadb"], statement, values or None)


@contextmanager
def table(columns: str, *values: object, options: str = "") -> Iterator[None]:
    """A table "typed" with one row."""
    with dropped("mariadb", "typed"):
        sql(f"CREATE TABLE typed ({columns}) {options}")
        if values:
            sql(f"INSERT INTO typed VALUES ({', '.join(['%s'] * len(values))})", *values)
        yield


ARABIC = "submissions/صورة/أيقونة 😀.webp"


@pytest.mark.parametrize(
    ("declared", "key"),
    [
        ("char(100)", ARABIC),
        ("varchar(100) COMPRESSED", ARABIC),
        ("varchar(100) INVISIBLE DEFAULT ''", ARABIC),
        ("tinytext", KEY),
        ("longtext CHARACTER SET utf16", ARABIC),
        ("varchar(100) CHARACTER SET utf8mb3", KEY),
        ("varchar(100) CHARACTER SET latin1", "submissions/café/é.png"),
        ("varchar(100) CHARACTER SET cp1256", "submissions/صورة.png"),
        ("binary(100)", KEY),
        ("mediumblob", ARABIC),
        ("json", '["submissions\\/a.png"]'),
        (f"enum('{KEY}', 'b')", KEY),
        (f"set('{KEY}', 'b')", KEY),
    ],
    ids=lambda value: value[:25],
)
def test_every_type_that_holds_text_is_read(declared, key):
    with table(f"n int, c {declared}"):
        sql("INSERT INTO typed (n, c) VALUES (1, %s)", key)
        wanted = "submissions/a.png" if declared == "json" else key
        assert named(wanted, OTHER) == {wanted}


def test_utf8_that_was_written_past_the_character_set_is_read():
    with table("c varchar(200) CHARACTER SET latin1"):
        sql("INSERT INTO typed VALUES (CONVERT(%s USING binary))", ARABIC)
        found, reading = read(ARABIC, OTHER)
        assert (found, reading.cells["mariadb.typed.c"]) == ({ARABIC}, 1)


def test_what_the_connection_cannot_show_is_read():
    sql("SET character_set_results = latin1")
    try:
        with table("c varchar(200)", ARABIC):
            assert named(ARABIC, OTHER) == {ARABIC}
    finally:
        sql("SET character_set_results = utf8mb4")


def test_a_cell_longer_than_a_packet_is_read_whole():
    size = int(sql("SELECT @@max_allowed_packet")[0][0])
    sql("SET GLOBAL max_allowed_packet = %s", 3 * size)
    connections["mariadb"].close()
    try:
        with table("c longtext CHARACTER SET latin1", "x" * size + f" {KEY} "):
            sql("SET GLOBAL max_allowed_packet = %s", size)
            connections["mariadb"].close()
            assert named(KEY, OTHER) == {KEY}
    finally:
        sql("SET GLOBAL max_allowed_packet = %s", size)


def test_old_versions_of_a_row_are_read():
    with table("n int, c varchar(100)", 1, KEY, options="WITH SYSTEM VERSIONING"):
        sql("UPDATE typed SET c = ''")
        assert named(KEY, OTHER) == {KEY}


@pytest.mark.parametrize("engine", ["MyISAM", "Aria", "MEMORY"])
def test_a_table_that_no_snapshot_holds_refuses(engine, settings):
    with table("c varchar(100)", KEY, options=f"ENGINE={engine}"):
        with pytest.raises(DatabaseError, match=rf"mariadb\.typed .*{engine}") as raised:
            named(KEY)
        assert "ENGINE=InnoDB" in raised.value.hint
        change_settings(settings, NOT_REFERENCES={"typed": "old log"})
        assert named(KEY) == set()


@contextmanager
def another_schema() -> Iterator[str]:
    name = f"{connections['mariadb'].settings_dict['NAME']}_other"
    sql(f"CREATE OR REPLACE DATABASE `{name}`")
    try:
        sql(f"CREATE TABLE `{name}`.banner (path varchar(200))")
        sql(f"INSERT INTO `{name}`.banner VALUES (%s)", KEY)
        yield name
    finally:
        sql(f"DROP DATABASE `{name}`")


def test_a_table_of_another_database_is_read_where_a_model_or_a_view_leads_to_it(monkeypatch):
    with another_schema() as other:
        assert named(KEY) == set()
        sql(f"CREATE VIEW shown AS SELECT b.path FROM oddities_article a JOIN `{other}`.banner b")
        Article.objects.using("mariadb").create()
        try:
            assert named(KEY) == {KEY}
        finally:
            sql("DROP VIEW shown")
        monkeypatch.setattr(Article._meta, "db_table", f"{other}`.`banner")
        assert named(KEY) == {KEY}


def test_a_view_is_read_that_a_function_feeds_from_another_database():
    with another_schema() as other:
        made = "CREATE FUNCTION fed() RETURNS text READS SQL DATA RETURN"
        sql(f"{made} (SELECT b.path FROM `{other}`.banner b)")
        sql("CREATE VIEW shown AS SELECT fed() AS path")
        try:
            assert named(KEY) == {KEY}
        finally:
            sql("DROP VIEW shown")
            sql("DROP FUNCTION fed")


def test_a_view_of_the_same_database_is_no_source():
    sql("CREATE VIEW shown AS SELECT a.body FROM oddities_article a")
    try:
        assert "mariadb.shown.body" not in read(KEY)[1].sources
    finally:
        sql("DROP VIEW shown")


@contextmanager
def as_user(*grants: str) -> Iterator[None]:
    """Connect as a user with these rights alone."""
    connection = connections["mariadb"]
    given, name = connection.settings_dict, connection.settings_dict["NAME"]
    user = name[:30]
    sql(f"CREATE OR REPLACE USER `{user}`@localhost IDENTIFIED BY 'known'")
    for grant in grants:
        sql(f"GRANT {grant.format(name=name)} TO `{user}`@localhost")
    before = {key: given[key] for key in ("USER", "PASSWORD")}
    connection.close()
    given |= {"USER": user, "PASSWORD": "known"}
    try:
        yield
    finally:
        connection.close()
        given |= before
        sql(f"DROP USER `{user}`@localhost")


@pytest.mark.parametrize(
    "grants",
    [
        ["SELECT ON `{name}`.app_submissions"],
        ["SELECT (body) ON `{name}`.oddities_article", "UPDATE ON `{name}`.*"],
    ],
    ids=["tables", "columns"],
)
def test_a_user_from_whom_tables_may_be_hidden_is_refused(grants):
    with (
        as_user(*grants),
        pytest.raises(DatabaseError, match="Tables may be hidden") as raised,
        open_snapshot("mariadb") as connection,
    ):
        list_tables(connection)
    assert "GRANT SELECT" in raised.value.hint


@pytest.mark.parametrize("grant", ["SELECT ON `{name}`.*", "SELECT ON *.*"])
def test_a_user_who_may_read_the_whole_database_is_enough(grant):
    with as_user(grant), open_snapshot("mariadb") as connection:
        tables = map(text_table, list_tables(connection))
        assert "mariadb.oddities_article" in {table.label for table in tables}


SEES_ALL = "SELECT, TRIGGER, EVENT, EXECUTE ON `{name}`.*"


def hidden() -> str:
    """Return what is to be granted, or "" where the user sees all that the schema says."""
    with open_snapshot("mariadb") as connection:
        (said,) = (t for t in list_tables(connection) if text_table(t).name == "information_schema")
    return said.hint if isinstance(said, Barred) else ""


@pytest.mark.parametrize(
    ("grants", "lacking"),
    [
        (["ALL ON `{name}`.*"], ""),
        ([SEES_ALL], ""),
        (["SELECT, TRIGGER, EVENT, EXECUTE ON *.*"], ""),
        ([r"SELECT, TRIGGER, EVENT, EXECUTE ON `r2maint\_%`.*"], ""),
        (["SELECT, TRIGGER, EVENT ON `{name}`.*", "SELECT ON mysql.proc"], ""),
        (["SELECT ON `{name}`.*"], "TRIGGER, EVENT, EXECUTE ON"),
        (["SELECT ON *.*"], "TRIGGER, EVENT ON"),
        (["SELECT, EVENT, EXECUTE ON `{name}`.*"], "TRIGGER ON"),
        (
            ["SELECT, EVENT, EXECUTE ON `{name}`.*", "TRIGGER ON `{name}`.app_submissions"],
            "TRIGGER ON",
        ),
    ],
    ids=lambda given: given if isinstance(given, str) else given[0][:30],
)
def test_a_user_from_whom_triggers_and_the_like_may_be_hidden_is_told(grants, lacking):
    with as_user(*grants):
        assert hidden().startswith(f"GRANT {lacking}") if lacking else not hidden()


def test_the_hidden_body_of_a_routine_refuses(settings):
    sql(f"CREATE FUNCTION said() RETURNS text RETURN '{KEY}'")
    try:
        with as_user(SEES_ALL):
            assert hidden() == "GRANT SELECT ON mysql.proc to it"
        with as_user(SEES_ALL, "SELECT ON mysql.proc"):
            assert not hidden()
    finally:
        sql("DROP FUNCTION said")


def test_a_replica_is_refused(monkeypatch):
    def fetch(connection, statement, values=None):
        if "read_only" in statement:
            return [(1,)]
        return actual(connection, statement, values)

    actual = databases.fetch
    monkeypatch.setattr(databases, "fetch", fetch)
    with pytest.raises(DatabaseError, match=r"is a replica.*'mariadb'"):
        named(KEY)
    assert "mariadb" not in list(iter_aliases())


@pytest.mark.parametrize(
    ("statement", "end"),
    [
        ("CHANGE MASTER TO MASTER_HOST = 'nowhere.invalid'", "RESET SLAVE ALL"),
        ("CHANGE MASTER 'other' TO MASTER_HOST = 'nowhere.invalid'", "RESET SLAVE 'other' ALL"),
        ("SET GLOBAL gtid_slave_pos = '0-7-5'", "SET GLOBAL gtid_slave_pos = ''"),
    ],
    ids=["stopped", "stopped, one of several", "only its position"],
)
def test_a_server_that_is_configured_as_a_replica_refuses(
    settings, own_server, django_db_blocker, statement, end
):
    # What a server is configured as holds for all that ask it, so that it is not the shared one.
    with django_db_blocker.unblock(), another_alias("follower", own_server):
        databases.fetch(connections["follower"], statement)
        try:
            with pytest.raises(DatabaseError, match="may lag behind: 'follower'"):
                named(KEY)
            change_settings(settings, NOT_REFERENCES={"follower": "a replica of the primary"})
            assert named(KEY) == set()
        finally:
            databases.fetch(connections["follower"], end)


@pytest.fixture(scope="module")
def own_server() -> dict[str, Any]:
    """The settings of a second server, for what would be seen by other tests on the first."""
    return {**connections["mariadb"].settings_dict, "HOST": mariadb.start(), "NAME": "r2maint"}


def test_mysql_is_refused_until_it_is_named(monkeypatch, settings):
    monkeypatch.setattr(connections["mariadb"], "mysql_is_mariadb", False)
    with pytest.raises(DatabaseError, match="MySQL cannot be searched"):
        named(KEY)
    change_settings(settings, NOT_REFERENCES={"mariadb": "other site"})
    assert named(KEY) == set()


def test_limits_of_the_site_are_lifted_for_the_reading_and_then_hold_again():
    sql("SET SESSION max_statement_time = 7, sql_select_limit = 1")
    try:
        Article.objects.using("mariadb").bulk_create([Article(body="a"), Article(body=KEY)])
        with open_snapshot("mariadb"):
            assert sql("SELECT @@max_statement_time, @@sql_select_limit") == [(0.0, 2**64 - 1)]
        assert named(KEY, OTHER) == {KEY}
        assert sql("SELECT @@max_statement_time, @@sql_select_limit") == [(7.0, 1)]
    finally:
        connections["mariadb"].close()


def test_a_table_altered_during_the_reading_refuses():
    other = connections["mariadb"].copy()
    with table("c varchar(100)", KEY):

        def read_while_it_is_altered() -> None:
            with open_snapshot("mariadb") as connection:
                databases.fetch(other, "ALTER TABLE typed ADD d int, ALGORITHM=COPY")
                list(iter_cells(connection, listed("typed")))

        try:
            with pytest.raises(DatabaseError, match="cannot be read as a whole: 'mariadb'"):
                read_while_it_is_altered()
        finally:
            other.close()


def listed(name: str) -> Any:
    return next(t for t in list_tables(connections["mariadb"]) if t.name == name)


def test_a_reading_that_ends_early_leaves_the_rest_on_the_server():
    sql("CREATE OR REPLACE TABLE typed AS SELECT REPEAT('x', 2000) AS c FROM seq_1_to_5000")

    def stop_at_once() -> None:
        with open_snapshot("mariadb") as connection:
            for _ in iter_cells(connection, listed("typed")):
                raise KeyboardInterrupt

    with dropped("mariadb", "typed"):
        with pytest.raises(KeyboardInterrupt):
            stop_at_once()
        assert sql("SELECT COUNT(*) FROM typed") == [(5000,)]


def test_what_the_schema_says_is_read():
    with table(f"n int, c varchar(100) DEFAULT '{KEY}', d varchar(100) AS (CONCAT('{OTHER}', n))"):
        assert named(KEY, OTHER, "submissions/b.png") == {KEY, OTHER}


@pytest.mark.parametrize(
    ("made", "dropped_by"),
    [
        ("TABLE said (n int) COMMENT '{}'", "TABLE said"),
        ("TABLE said (n int COMMENT '{}')", "TABLE said"),
        ("TABLE said (n enum('{}'))", "TABLE said"),
        ("TABLE said (n int CHECK (n <> '{}'))", "TABLE said"),
        ("TABLE said (n int, INDEX i (n) COMMENT '{}')", "TABLE said"),
        (
            "TABLE said (n varchar(99)) PARTITION BY LIST COLUMNS (n)"
            " (PARTITION p VALUES IN ('{}'))",
            "TABLE said",
        ),
        (
            "TABLE said (n int) PARTITION BY LIST (n) (PARTITION p VALUES IN (1) COMMENT '{}')",
            "TABLE said",
        ),
        ("VIEW said AS SELECT '{}'", "VIEW said"),
        ("FUNCTION said() RETURNS text RETURN '{}'", "FUNCTION said"),
        ("FUNCTION said() RETURNS text COMMENT '{}' RETURN 1", "FUNCTION said"),
        ("PROCEDURE said(a enum('{}')) SELECT 1", "PROCEDURE said"),
        (
            "TRIGGER said BEFORE INSERT ON oddities_article FOR EACH ROW SET @a = '{}'",
            "TRIGGER said",
        ),
        ("EVENT said ON SCHEDULE EVERY 1 YEAR DO SET @a = '{}'", "EVENT said"),
        ("EVENT said ON SCHEDULE EVERY 1 YEAR COMMENT '{}' DO SET @a = 1", "EVENT said"),
    ],
    ids=lambda text: "" if text.endswith("said") else text[:30],
)
def test_whatever_the_schema_says_is_read(made, dropped_by):
    sql(f"CREATE {made.format(KEY)}")
    try:
        assert named(KEY, OTHER) == {KEY}
    finally:
        sql(f"DROP {dropped_by}")


# Rewriting


def test_a_table_without_transactions_is_not_rewritten():
    record = journal.open_journal(command="test", bucket="quran-apps", options={})
    SoftDeleted.visible.using("mariadb").create(picture_url=f"{BASE}old.png")
    rewrites = [renamed(each) for each in references("mariadb", "oddities.SoftDeleted")]
    sql("ALTER TABLE oddities_softdeleted ENGINE=Aria")
    try:
        with pytest.raises(DatabaseError, match=r"no transactions: 'oddities_softdeleted' .*Aria"):
            swapped(rewrites, record)
    finally:
        sql("ALTER TABLE oddities_softdeleted ENGINE=InnoDB")
    assert SoftDeleted.visible.using("mariadb").get().picture_url == f"{BASE}old.png"


def test_mysql_is_not_written_to(monkeypatch):
    monkeypatch.setattr(connections["mariadb"], "mysql_is_mariadb", False)
    with pytest.raises(DatabaseError, match="MySQL is not supported"):
        journal.require_tables(["mariadb"])


def test_nothing_is_cut_where_the_server_would_cut_it():
    record = journal.open_journal(command="test", bucket="quran-apps", options={})
    submissions("mariadb", 2, app_icon_url=f"{BASE}old.png")
    found = references("mariadb", "appdirectory.AppSubmission", "app_icon_url")
    rewrites = [Rewrite(reference=each, new=f"{BASE}{'a' * 40}.png") for each in found]
    sql("ALTER TABLE app_submissions MODIFY app_icon_url varchar(40) NOT NULL")
    sql("SET SESSION sql_mode = ''")
    try:
        assert swapped(rewrites, record) == {Swapped.TOO_LONG: 2}
        assert sql("SELECT @@sql_mode") == [("",)]
    finally:
        connections["mariadb"].close()
        sql("ALTER TABLE app_submissions MODIFY app_icon_url varchar(200) NOT NULL")
    urls = AppSubmission.objects.using("mariadb").values_list("app_icon_url", flat=True)
    assert set(urls) == {f"{BASE}old.png"}


def test_the_journal_keeps_any_text_in_a_database_of_latin1():
    told = sql(
        "SELECT DISTINCT character_set_name, collation_name FROM information_schema.columns"
        " WHERE table_schema = DATABASE() AND table_name LIKE 'r2maint\\_%'"
        " AND character_set_name IS NOT NULL"
    )
    assert told == [("utf8mb4", "utf8mb4_bin")]


def test_a_snapshot_writes_nothing():
    with open_snapshot("mariadb"), pytest.raises(DjangoDatabaseError):
        Article.objects.using("mariadb").create(body="never")
