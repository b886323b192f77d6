from __future__ import annotations

import bz2
import gzip
import json
import lzma
import unicodedata
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from django.core.files.storage import Storage
from django.db import connections, transaction
from django.db.utils import DatabaseError as DjangoDatabaseError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from r2maint.database.snapshot import CHUNK, open_snapshot, split
from r2maint.errors import ConfigError, DatabaseError
from r2maint.models import Change, ChangeKind, ChangeState, Run
from tests.appdirectory.models import App, AppSubmission
from tests.conftest import DATABASES
from tests.fakes import R2Fake
from tests.oddities.models import Article, Gallery, LegacyBanner, SoftDeleted
from tests.worlds.texts import (
    KEY,
    NOW,
    OTHER,
    another_alias,
    change_settings,
    dropped,
    named,
    read,
)

pytestmark = pytest.mark.django_db(databases=DATABASES)


@pytest.fixture(autouse=True)
def _in_project(project):
    """Every test reads the settings of a project of its own."""


def test_nothing_is_named_by_empty_tables():
    assert named(KEY) == set()


def test_a_url_in_free_text_that_nobody_configured_is_found(alias):
    Article.objects.using(alias).create(body=f"See https://nobody.example/{KEY}, please.")
    assert named(KEY, OTHER) == {KEY}


def test_a_row_that_every_manager_hides_is_read(alias):
    SoftDeleted.visible.using(alias).create(deleted=True, picture_url=f"https://m/{KEY}")
    assert not SoftDeleted.visible.using(alias).exists()
    assert named(KEY, OTHER) == {KEY}


def test_an_unmanaged_table_is_read(alias):
    LegacyBanner.objects.using(alias).create(id=1, path=f"/{KEY}")
    assert named(KEY, OTHER) == {KEY}


def test_a_table_without_a_model_is_read(alias):
    column = '`a "column"`' if alias == "mariadb" else '"a ""column"""'
    table = connections[alias].ops.quote_name("left over")
    with connections[alias].cursor() as cursor, dropped(alias, table):
        cursor.execute(f"CREATE TABLE {table} ({column} text, n integer)")
        cursor.execute(f"INSERT INTO {table} VALUES (%s, 1)", [KEY])
        found, reading = read(KEY, OTHER)
    assert found == {KEY}
    assert reading.names[f'{alias}.left over.a "column"'] == 1


@pytest.mark.parametrize("ensure_ascii", [True, False], ids=["escaped", "raw"])
def test_json_is_read_at_any_depth(alias, ensure_ascii):
    key = "submissions/صورة التطبيق/icon 1.webp"
    content = {"a": [{"b": json.dumps([f"https://m/{key}"], ensure_ascii=ensure_ascii)}]}
    Gallery.objects.using(alias).create(id=uuid.uuid4(), content=content)
    assert named(key, OTHER) == {key}


def test_the_name_of_a_file_field_is_read(alias):
    App.objects.using(alias).create(name_en="A", main_image_en="apps/main/a b (1).png")
    assert named("apps/main/a b (1).png", "apps/main/b") == {"apps/main/a b (1).png"}


def test_a_decomposed_spelling_is_read(alias):
    key = "submissions/café.png"
    url = f"https://m/{quote(unicodedata.normalize('NFD', key))}"
    Article.objects.using(alias).create(body=url)
    assert named(unicodedata.normalize("NFC", key), OTHER) == {unicodedata.normalize("NFC", key)}


def test_the_last_of_many_rows_is_read(alias):
    bodies = [Article(body=f"{number} " + "words " * 200) for number in range(4000)]
    Article.objects.using(alias).bulk_create(bodies, batch_size=500)
    Article.objects.using(alias).create(body=f"at last https://m/{KEY}")
    assert named(KEY, OTHER) == {KEY}


def test_row_199_999_of_a_table_nobody_configured_is_read(alias):
    body = f"CASE i WHEN 199999 THEN 'see https://nobody.example/{quote(KEY)}.' ELSE 'words' END"
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000)"
    selected = f"{numbers} SELECT {body} FROM n"
    if alias == "mariadb":
        selected = f"SELECT {body.replace('CASE i', 'CASE seq')} FROM seq_1_to_200000"
    with connections[alias].cursor() as cursor, dropped(alias, "long_log"):
        cursor.execute("CREATE TABLE long_log (body text)")
        cursor.execute(f"INSERT INTO long_log {selected}")
        found, reading = read(KEY, OTHER)
    assert (found, reading.cells[f"{alias}.long_log.body"]) == ({KEY}, 200_000)


def test_a_primary_key_that_is_a_key_and_what_points_at_it_are_read(alias):
    with connections[alias].cursor() as cursor, dropped(alias, "frame", "picture"):
        cursor.execute("CREATE TABLE picture (name varchar(200) PRIMARY KEY)")
        cursor.execute("CREATE TABLE frame (picture varchar(200) REFERENCES picture (name))")
        cursor.execute("INSERT INTO picture VALUES (%s), (%s)", [KEY, OTHER])
        cursor.execute("INSERT INTO frame VALUES (%s)", [KEY])
        found, reading = read(KEY, OTHER)
    assert found == {KEY, OTHER}
    assert reading.names[f"{alias}.frame.picture"] == 1


def test_a_generated_column_is_read(alias):
    made = "CONCAT('submissions/', a)" if alias == "mariadb" else "'submissions/' || a"
    with connections[alias].cursor() as cursor, dropped(alias, "made"):
        cursor.execute(f"CREATE TABLE made (a text, b text GENERATED ALWAYS AS ({made}) STORED)")
        cursor.execute("INSERT INTO made (a) VALUES ('QAD-000001/icons/icon.webp')")
        assert named(KEY, OTHER) == {KEY}


def test_a_cell_of_megabytes_is_read_whole(alias):
    for shift in (0, 20, len(KEY) - 1):
        body = "x" * (CHUNK - shift) + f" {KEY} " + "y" * 2 * CHUNK
        Article.objects.using(alias).create(body=body)
        assert named(KEY, OTHER) == {KEY}
        Article.objects.using(alias).all().delete()


def test_long_texts_are_split_with_an_overlap():
    text = "".join(chr(97 + number % 26) for number in range(5 * CHUNK))
    pieces = list(split(text))
    assert len(pieces) == 5
    assert all(
        text[start : start + 5000] in "\0".join(pieces)
        for start in range(0, len(text) - 5000, 99_991)
    )


PARTS = st.text("aZ09-_. %+'&()[]\"\\,;?#@=é\u0301عم😀", min_size=1, max_size=15)
EMBEDDINGS = {
    "json": lambda key: json.dumps([f"https://m/{key}"]),
    "percent": lambda key: f"<img src='https://m/{quote(key)}'>",
    "prose": lambda key: f"انظر {key} هنا",
    "nested": lambda key: f"https://p/?u={quote('https://m/' + quote(key), safe='')}",
}


@pytest.mark.parametrize("embed", EMBEDDINGS.values(), ids=EMBEDDINGS.keys())
@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    parts=st.lists(
        PARTS, min_size=1, max_size=5, unique_by=lambda s: unicodedata.normalize("NFC", s)
    )
)
def test_whatever_a_row_names_is_kept(alias, embed, parts):
    keys = {unicodedata.normalize("NFC", f"submissions/{part}") for part in parts}
    Article.objects.using(alias).all().delete()
    Article.objects.using(alias).bulk_create(Article(body=embed(key)) for key in keys)
    assert named(*keys) == keys


# SQLite's liberties


def test_text_in_a_column_of_numbers_is_read():
    with connections["default"].cursor() as cursor:
        cursor.execute("CREATE TABLE loose (n integer, b blob, d datetime)")
        cursor.execute("INSERT INTO loose (n, d) VALUES (%s, %s)", [KEY, "no time"])
        cursor.execute("INSERT INTO loose (b) VALUES (%s)", [OTHER.encode()])
    assert named(KEY, OTHER) == {KEY, OTHER}


def test_text_that_is_no_utf8_is_read():
    with connections["default"].cursor() as cursor:
        cursor.execute(
            "INSERT INTO oddities_article (body) VALUES (CAST(%s AS TEXT))",
            [b"caf\xe9 " + KEY.encode()],
        )
    assert named(KEY) == {KEY}


def test_a_table_without_row_ids_is_read():
    with connections["default"].cursor() as cursor:
        cursor.execute("CREATE TABLE slim (k text PRIMARY KEY, v int) WITHOUT ROWID")
        cursor.execute("INSERT INTO slim VALUES (%s, 1)", [KEY])
    assert named(KEY, OTHER) == {KEY}


def test_text_with_nuls_in_it_is_read_whole():
    with connections["default"].cursor() as cursor:
        cursor.execute("INSERT INTO oddities_article (body) VALUES (%s)", [f"a\0b\0{KEY}\0"])
    assert named(KEY, OTHER) == {KEY}


@contextmanager
def another_database(name: str) -> Iterator[Any]:
    """A SQLite database of its own, under the alias "another"; the driver's connection to it."""
    if name != ":memory:":
        Path(name).touch()
    with another_alias("another", {**connections.databases["default"], "NAME": name}) as connection:
        connection.ensure_connection()
        yield connection.connection


@pytest.fixture
def unblocked(django_db_blocker):
    with django_db_blocker.unblock():
        yield


def test_bytes_in_a_database_of_utf16_are_read(tmp_path, unblocked):
    with another_database(str(tmp_path / "wide.sqlite3")) as raw:
        raw.execute("PRAGMA encoding = 'UTF-16'")
        raw.execute("CREATE TABLE wide (b blob, t text)")
        raw.execute("INSERT INTO wide VALUES (?, ?)", [KEY.encode(), "é" + OTHER])
        assert named(KEY, OTHER) == {KEY, OTHER}


def test_an_attached_database_and_a_temporary_table_are_read(tmp_path, unblocked):
    with another_database(str(tmp_path / "one.sqlite3")) as raw:
        raw.execute('ATTACH ? AS "the other"', [str(tmp_path / "two.sqlite3")])
        raw.execute('CREATE TABLE "the other".far (body text)')
        raw.execute('INSERT INTO "the other".far VALUES (?)', [KEY])
        raw.execute("CREATE TEMP TABLE near (body text)")
        raw.execute("INSERT INTO near VALUES (?)", [OTHER])
        found, reading = read(KEY, OTHER)
    assert found == {KEY, OTHER}
    assert reading.names["another.the other.far.body"] == 1


def test_two_databases_in_memory_are_two(unblocked):
    with another_database(":memory:") as raw:
        raw.execute("CREATE TABLE mine (body text)")
        raw.execute("INSERT INTO mine VALUES (?)", [KEY])
        with another_alias("a third", connections.databases["another"]) as third:
            third.ensure_connection()
            third.connection.execute("CREATE TABLE mine (body text)")
            third.connection.execute("INSERT INTO mine VALUES (?)", [OTHER])
            assert named(KEY, OTHER) == {KEY, OTHER}


def test_a_database_that_does_not_answer_refuses(tmp_path, unblocked):
    given = {**connections.databases["default"], "NAME": str(tmp_path / "no/such/dir/db")}
    with another_alias("down", given), pytest.raises(DatabaseError, match="'down'"):
        named(KEY)


# A database that holds nothing


def test_a_file_that_does_not_exist_refuses_and_is_not_created(tmp_path, monkeypatch, unblocked):
    monkeypatch.chdir(tmp_path)
    given = connections.databases["default"]
    for name in ("archive.sqlite3", "file:archive.sqlite3?mode=rwc", tmp_path / "archive.sqlite3"):
        with another_alias("archive", {**given, "NAME": name}):
            with pytest.raises(DatabaseError, match="does not exist: 'archive'") as raised:
                named(KEY)
            assert str(tmp_path / "archive.sqlite3") in raised.value.message
            assert not (tmp_path / "archive.sqlite3").exists()


@pytest.mark.parametrize("statement", ["", "CREATE TABLE old (u text, n int)"])
def test_a_database_without_a_cell_refuses_until_it_is_left_out(
    settings, tmp_path, unblocked, statement
):
    with another_database(str(tmp_path / "archive.sqlite3")) as raw:
        raw.execute(statement)
        with pytest.raises(DatabaseError, match=r"holds nothing.*: 'another'") as raised:
            named(KEY)
        assert "NOT_REFERENCES" in raised.value.hint
        change_settings(settings, NOT_REFERENCES={"another": "not filled yet"})
        assert named(KEY) == set()


def test_a_database_of_the_server_without_tables_refuses(unblocked):
    server = connections["postgres"]
    with server._nodb_cursor() as cursor:
        cursor.execute("DROP DATABASE IF EXISTS bare")
        cursor.execute("CREATE DATABASE bare")
    with another_alias("archive", {**server.settings_dict, "NAME": "bare"}) as connection:
        with pytest.raises(DatabaseError, match=r"holds nothing.*: 'archive'.*no table"):
            named(KEY)
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE old (n int); INSERT INTO old VALUES (1)")
        with pytest.raises(DatabaseError, match=r"holds nothing.*: 'archive'"):
            named(KEY)
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE log (u text)")
            cursor.execute("INSERT INTO log VALUES (%s)", [KEY])
        assert named(KEY, OTHER) == {KEY}


def test_a_database_whose_rows_are_all_left_out_is_not_empty(settings, tmp_path, unblocked):
    with another_database(str(tmp_path / "archive.sqlite3")) as raw:
        raw.execute("CREATE TABLE append_log (u text)")
        change_settings(settings, NOT_REFERENCES={"append_log": "a log"})
        with pytest.raises(DatabaseError, match="holds nothing"):
            named(KEY)
        raw.execute("INSERT INTO append_log VALUES (?)", [KEY])
        assert named(KEY) == set()


def test_the_connection_gives_text_again_afterwards():
    Article.objects.create(body="words")
    named(KEY)
    assert Article.objects.get().body == "words"


# PostgreSQL's types


def sql(statement: str, *values: object) -> None:
    with connections["postgres"].cursor() as cursor:
        cursor.execute(statement, values or None)


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        ("text[]", [f"https://m/{KEY}", "b"]),
        ("varchar(100)", KEY),
        ("char(100)", KEY),
        ("json", json.dumps([KEY]).replace("/", "\\/")),
        ("jsonb", json.dumps({"a": KEY})),
        ("bytea", KEY.encode()),
        ("link", KEY),
        ("pair", f'(1,"{KEY}")'),
        ("name", KEY),
        ("links", [KEY]),
        ("deep_bytes", KEY.encode()),
        ("bytea[]", [b"a", KEY.encode()]),
        ("sealed", rf'(1,"\\x{KEY.encode().hex()}")'),
        ("marks", KEY),
        ("marks[]", [KEY]),
        ("span", f"[{KEY},zzz]"),
        ("int", None),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 15 else "",
)
def test_every_type_that_holds_text_is_read(declared, value):
    sql("CREATE DOMAIN link AS text")
    sql("CREATE DOMAIN links AS text[]")
    sql("CREATE DOMAIN some_bytes AS bytea")
    sql("CREATE DOMAIN deep_bytes AS some_bytes")
    sql("CREATE TYPE pair AS (n integer, t text)")
    sql("CREATE TYPE sealed AS (n integer, b bytea)")
    # A label counts by itself.
    sql(f"CREATE TYPE marks AS ENUM ('a', '{KEY if declared.startswith('marks') else 'b'}')")
    sql("CREATE TYPE span AS RANGE (subtype = text)")
    sql(f"CREATE TABLE typed (c {declared})")
    sql("INSERT INTO typed VALUES (%s)", value)
    assert named(KEY, OTHER) == ({KEY} if value else set())


@pytest.mark.parametrize("output", ["hex", "escape"])
def test_bytes_in_an_array_are_read_whatever_their_output(output):
    key = "submissions/QAD-000001/صورة 1.webp"
    sql(f"SET LOCAL bytea_output = {output}")
    sql("CREATE TABLE typed (c bytea[])")
    sql("INSERT INTO typed VALUES (%s)", [key.encode()])
    assert named(key, OTHER) == {key}


@pytest.mark.parametrize("category", ["S", "U", "N", "R"])
def test_a_type_that_an_extension_made_is_read_whatever_its_category(category):
    sql("CREATE TYPE strange")
    made = "IMMUTABLE STRICT LANGUAGE internal AS"
    sql(f"CREATE FUNCTION stextin(cstring) RETURNS strange {made} 'textin'")
    sql(f"CREATE FUNCTION stextout(strange) RETURNS cstring {made} 'textout'")
    sql(
        "CREATE TYPE strange (INPUT = stextin, OUTPUT = stextout, LIKE = text,"
        f" CATEGORY = '{category}')"
    )
    sql("CREATE TABLE typed (c strange)")
    sql(f"INSERT INTO typed VALUES ('{KEY}')")
    assert named(KEY, OTHER) == {KEY}


def test_what_a_materialized_view_still_holds_is_read():
    sql("CREATE TABLE origin (body text)")
    sql("INSERT INTO origin VALUES (%s)", KEY)
    sql("CREATE MATERIALIZED VIEW held AS SELECT body FROM origin")
    sql("CREATE MATERIALIZED VIEW never_filled AS SELECT body FROM origin WITH NO DATA")
    sql("DELETE FROM origin")
    assert named(KEY, OTHER) == {KEY}


def test_a_temporary_table_is_read():
    sql("CREATE TEMP TABLE brief (body text)")
    sql("INSERT INTO brief VALUES (%s)", KEY)
    assert named(KEY, OTHER) == {KEY}


def test_in_a_schema_of_its_own_ours_are_still_no_sources():
    sql("CREATE SCHEMA tenant")
    sql("CREATE TABLE tenant.r2maint_sighting (key text)")
    sql("INSERT INTO tenant.r2maint_sighting VALUES (%s)", KEY)
    sql("SET LOCAL search_path = tenant, public")
    found, reading = read(KEY, OTHER)
    assert found == set()
    assert "postgres.oddities_article.body" in reading.sources


def test_other_schemas_are_read():
    sql("CREATE SCHEMA archive")
    sql("CREATE TABLE archive.article (body text)")
    sql("INSERT INTO archive.article VALUES (%s)", KEY)
    assert named(KEY, OTHER) == {KEY}


def test_partitions_are_read_once():
    sql("CREATE TABLE log (n integer, body text) PARTITION BY RANGE (n)")
    sql("CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM (1) TO (2)")
    sql("INSERT INTO log VALUES (1, %s)", KEY)
    found, reading = read(KEY)
    assert found == {KEY}
    assert reading.cells["postgres.log.body"] == 1
    assert "postgres.log_1.body" not in reading.sources


def test_children_of_a_table_are_read_once():
    sql("CREATE TABLE parent (body text)")
    sql("CREATE TABLE child () INHERITS (parent)")
    sql("INSERT INTO child VALUES (%s)", KEY)
    _, reading = read(KEY)
    assert (reading.cells["postgres.child.body"], reading.cells["postgres.parent.body"]) == (1, 0)


@pytest.fixture
def limited():
    """A role that may read only some tables, and is the current one."""
    sql("CREATE TABLE secret (body text)")
    sql("CREATE ROLE limited")
    sql("GRANT USAGE ON SCHEMA public TO limited")
    sql("GRANT ALL ON ALL TABLES IN SCHEMA public TO limited")
    yield
    sql("RESET ROLE")


def test_a_table_the_role_may_not_read_refuses(limited):
    sql("REVOKE ALL ON secret FROM limited")
    sql("SET ROLE limited")
    with pytest.raises(DatabaseError, match=r"postgres\.secret .*may not read"):
        named(KEY)


def test_row_level_security_refuses(limited):
    sql("ALTER TABLE secret ENABLE ROW LEVEL SECURITY")
    sql("SET ROLE limited")
    with pytest.raises(DatabaseError, match=r"postgres\.secret .*row-level security"):
        named(KEY)


def test_a_table_that_is_no_reference_need_not_be_readable(limited, settings):
    change_settings(settings, NOT_REFERENCES={"secret": "none of our business"})
    sql("REVOKE ALL ON secret FROM limited")
    sql("SET ROLE limited")
    _, reading = read(KEY)
    assert reading.notes == ("Not read for references: secret (none of our business).",)


# The snapshot


@pytest.mark.django_db(databases=DATABASES, transaction=True)
def test_a_snapshot_sees_one_moment_and_writes_nothing():
    with open_snapshot("postgres") as connection:
        count = Article.objects.using("postgres").count()
        other = connection.copy()
        with other.cursor() as cursor:
            cursor.execute("INSERT INTO oddities_article (body) VALUES ('later')")
        other.close()
        assert Article.objects.using("postgres").count() == count
        with pytest.raises(DjangoDatabaseError), transaction.atomic(using="postgres"):
            Article.objects.using("postgres").create(body="never")
    assert Article.objects.using("postgres").count() == count + 1


def test_a_table_that_breaks_is_an_error_without_its_values():
    broken = pytest.raises(DatabaseError, match="cannot be read as a whole: 'default'")
    with broken, open_snapshot("default") as connection, connection.cursor() as cursor:
        cursor.execute("SELECT * FROM nothing_of_the_kind")


# What is and is not read


@pytest.mark.parametrize("name", ["oddities.Article", "default.oddities_article"])
def test_what_is_no_reference_is_left_out_and_said(settings, name):
    change_settings(settings, NOT_REFERENCES={name: "old log"})
    Article.objects.create(body=KEY)
    found, reading = read(KEY)
    assert found == set()
    assert reading.notes == (f"Not read for references: {name} (old log).",)


def test_a_whole_database_can_be_left_out(settings):
    change_settings(settings, NOT_REFERENCES={"postgres": "analytics"})
    Article.objects.using("postgres").create(body=KEY)
    assert named(KEY) == set()


def test_a_name_that_leaves_nothing_out_is_said(settings):
    change_settings(settings, NOT_REFERENCES={"oddities.Artcle": "typing error"})
    assert read(KEY)[1].notes == ("NOT_REFERENCES names no table that exists: 'oddities.Artcle'.",)


def test_two_aliases_of_one_database_are_read_once(settings):
    Article.objects.create(body=KEY)
    connections.databases["again"] = connections.databases["default"]
    connections["again"] = connections["default"]
    try:
        _, reading = read(KEY)
    finally:
        del connections["again"], connections.databases["again"]
    aliases = {source.partition(".")[0] for source in reading.sources}
    assert aliases == {*DATABASES, "r2maint", "model defaults"}


def test_files_are_read(settings, project):
    (project / "src/deep").mkdir(parents=True)
    (project / "src/deep/data.ts").write_text(f"const a = 'https://m/{KEY}';", encoding="utf-8")
    change_settings(settings, EXTRA_REFERENCES={"files": ["src/**/*.ts"]})
    found, reading = read(KEY, OTHER)
    assert (found, reading.cells["file:src/**/*.ts"]) == ({KEY}, 1)


@pytest.mark.parametrize("pattern", ["none/*.ts", "src", "src/*.ts"])
def test_a_pattern_that_matches_no_file_refuses(settings, project, pattern):
    (project / "src/deep").mkdir(parents=True)
    (project / "src/deep/data.ts").touch()
    change_settings(settings, EXTRA_REFERENCES={"files": ["src/**/*.ts", pattern]})
    with pytest.raises(ConfigError, match="matches no file") as raised:
        named(KEY)
    assert repr(pattern) in raised.value.message
    assert "BASE_DIR" in raised.value.hint


def test_callables_are_read(settings):
    change_settings(
        settings, EXTRA_REFERENCES={"callables": ["tests.keepset.test_read_texts.iter_urls"]}
    )
    assert named(KEY, OTHER) == {KEY}


def iter_urls():
    yield f"https://m/{KEY}"


ARABIC = "submissions/صورة.webp"


@pytest.mark.parametrize(
    "returned",
    [
        f"<img src='{ARABIC}'>",
        ARABIC.encode(),
        [ARABIC.encode()],
        {"icon": ARABIC},
        {"icon": [ARABIC]}.items(),
    ],
    ids=["text", "bytes", "list of bytes", "mapping", "pairs"],
)
def test_whatever_a_callable_returns_is_read(settings, monkeypatch, returned):
    change_settings(
        settings, EXTRA_REFERENCES={"callables": ["tests.keepset.test_read_texts.iter_urls"]}
    )
    monkeypatch.setattr("tests.keepset.test_read_texts.iter_urls", lambda: returned)
    assert named(ARABIC, OTHER) == {ARABIC}


def test_a_callable_without_a_result_refuses(settings, monkeypatch):
    change_settings(
        settings, EXTRA_REFERENCES={"callables": ["tests.keepset.test_read_texts.iter_urls"]}
    )
    monkeypatch.setattr("tests.keepset.test_read_texts.iter_urls", lambda: None)
    with pytest.raises(ConfigError, match=r"iter_urls \(TypeError\)"):
        named(KEY)


def test_a_callable_that_fails_refuses(settings):
    change_settings(
        settings, EXTRA_REFERENCES={"callables": ["tests.keepset.test_read_texts.fail"]}
    )
    with pytest.raises(ConfigError, match=r"tests.keepset.test_read_texts.fail"):
        named(KEY)


def fail():
    raise ValueError


def test_objects_are_read(settings):
    change_settings(settings, EXTRA_REFERENCES={"objects": ["apps/*.json"]})
    bucket = R2Fake()
    bucket.add("apps/12.json", json.dumps({"icon": f"https://m/{KEY}"}).encode())
    assert named(KEY, OTHER, bucket=bucket) == {KEY}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("#EXTM3U\n#EXTINF:4,\nseg 0.ts\n", "seg 0.ts"),
        ('#EXT-X-MAP:URI="init.mp4",BYTERANGE=1\n', "init.mp4"),
        ('{"icon": "icons\\/a.png"}', "icons/a.png"),
        ("a { background: url(../x/b.png) }", "../x/b.png"),
        ("<img src=c.png>", "c.png"),
    ],
    ids=["playlist", "map", "json", "css", "html"],
)
def test_names_in_objects_count_relative_to_them(settings, text, name):
    change_settings(settings, EXTRA_REFERENCES={"objects": ["video/1/*"]})
    bucket = R2Fake()
    bucket.add("video/1/index", text.encode())
    key = "video/x/b.png" if name.startswith("..") else f"video/1/{name}"
    assert named(key, OTHER, bucket=bucket) == {key}


def test_a_pattern_that_matches_no_object_refuses(settings):
    change_settings(settings, EXTRA_REFERENCES={"objects": ["apps/*.json"]})
    with pytest.raises(ConfigError, match=r"matches no object: 'apps/\*\.json'"):
        named(KEY)


@pytest.mark.parametrize(
    "pack",
    [
        lambda text: text.encode("utf-16"),
        lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
        lambda text: gzip.compress(text.encode()),
        lambda text: bz2.compress(text.encode()),
        lambda text: lzma.compress(text.encode()),
        lambda text: b"\x00\xff" + text.encode() + b"\x00",
    ],
    ids=["utf-16", "big endian", "gzip", "bzip2", "xz", "binary"],
)
def test_files_are_unpacked_and_decoded(settings, project, pack):
    key = "submissions/صورة 1.webp"
    (project / "data").write_bytes(pack(f"x https://m/{key} y"))
    change_settings(settings, EXTRA_REFERENCES={"files": ["data"]})
    assert named(key, OTHER) == {key}


@pytest.mark.parametrize(
    "body", [b"PK\x03\x04...", gzip.compress(b"x" * 99)[:20]], ids=["zip", "cut"]
)
def test_a_file_that_cannot_be_unpacked_refuses(settings, project, body):
    (project / "data").write_bytes(body)
    change_settings(settings, EXTRA_REFERENCES={"files": ["data"]})
    with pytest.raises(ConfigError, match="data"):
        named(KEY)


def test_a_callable_that_fails_halfway_refuses(settings, monkeypatch):
    def halfway():
        yield KEY
        raise OSError

    change_settings(
        settings, EXTRA_REFERENCES={"callables": ["tests.keepset.test_read_texts.iter_urls"]}
    )
    monkeypatch.setattr("tests.keepset.test_read_texts.iter_urls", halfway)
    with pytest.raises(ConfigError, match=r"iter_urls \(OSError\)"):
        named(KEY)


def test_what_the_schema_says_is_read_and_counts_as_nothing(alias):
    with connections[alias].cursor() as cursor, dropped(alias, "fresh"):
        cursor.execute(f"CREATE TABLE fresh (icon text DEFAULT '/{KEY}')")
        cursor.execute(f"CREATE VIEW said AS SELECT '/{OTHER}' AS icon")
        try:
            found, reading = read(KEY, OTHER)
        finally:
            cursor.execute("DROP VIEW said")
    assert found == {KEY, OTHER}
    assert not [source for source, count in reading.cells.items() if count and "sql" in source]


def test_large_objects_are_read():
    sql("SELECT lo_from_bytea(0, %s)", f"https://m/{KEY}".encode())
    assert named(KEY, OTHER) == {KEY}


def test_with_no_window_nothing_is_kept_for_an_undo(settings):
    change_settings(settings, UNDO_WINDOW="0")
    run = Run.objects.create(
        id="1", command="reoptimize", bucket="b", state="finished", started_at=NOW
    )
    Change.objects.create(
        run_id=run.pk,
        kind=ChangeKind.REWRITE,
        state=ChangeState.DONE,
        old=KEY,
        at=NOW - timedelta(1),
    )
    assert named(KEY) == set()


@pytest.mark.parametrize(
    ("state", "kept"), [("intended", True), ("done", True), ("conflict", True), ("undone", False)]
)
def test_an_old_value_inside_the_window_keeps_unless_undone(state, kept):
    run = Run.objects.create(
        id="1", command="reoptimize", bucket="b", state="finished", started_at=NOW
    )
    Change.objects.create(run_id=run.pk, kind=ChangeKind.REWRITE, state=state, old=KEY, at=NOW)
    assert named(KEY) == ({KEY} if kept else set())


def test_objects_are_matched_whatever_their_spelling(settings):
    change_settings(settings, EXTRA_REFERENCES={"objects": ["apps/café*.json"]})
    bucket = R2Fake()
    bucket.add(unicodedata.normalize("NFD", "apps/café.json"), KEY.encode())
    assert named(KEY, OTHER, bucket=bucket) == {KEY}


def test_what_an_undo_would_need_is_kept():
    run = Run.objects.create(
        id="1", command="migrate_media_to_r2", bucket="b", state="finished", started_at=NOW
    )
    old = {"run_id": run.pk, "kind": ChangeKind.REWRITE, "state": ChangeState.DONE}
    Change.objects.create(**old, old=f"https://m/{KEY}", at=NOW - timedelta(days=29))
    Change.objects.create(**old, old=f"https://m/{OTHER}", at=NOW - timedelta(days=31))
    assert named(KEY, OTHER) == {KEY}


def test_the_journal_of_other_changes_keeps_nothing():
    Run.objects.create(
        id="1", command="purge_orphans", bucket="b", state="finished", started_at=NOW
    )
    Change.objects.create(run_id="1", kind=ChangeKind.DELETE, old=KEY, key=KEY, at=NOW)
    assert named(KEY) == set()


class PrefixedStorage(Storage):
    location = "submissions"


def test_a_file_name_counts_under_the_location_of_its_storage(alias, monkeypatch):
    monkeypatch.setattr(App._meta.get_field("main_image_en"), "storage", PrefixedStorage())
    App.objects.using(alias).create(name_en="A", main_image_en="QAD-000001/icons/icon.webp")
    assert named(KEY, OTHER) == {KEY}


def test_a_file_name_with_detours_counts_as_django_storages_resolves_it(alias, monkeypatch):
    monkeypatch.setattr(App._meta.get_field("main_image_en"), "storage", PrefixedStorage())
    App.objects.using(alias).create(name_en="A", main_image_en="./QAD-000001//icons/icon.webp")
    App.objects.using(alias).create(name_en="B", main_image_en="x/../QAD-000002/icons/icon.webp")
    assert named(KEY, OTHER) == {KEY, OTHER}


@pytest.mark.parametrize("field", ["app_icon_url", "screenshots_en"])
def test_a_bare_name_in_a_configured_field_counts_under_the_default_storage(
    alias, settings, monkeypatch, field
):
    monkeypatch.setattr("r2maint.keepset.read_texts.default_storage", PrefixedStorage())
    name = "QAD-000001/icons/icon.webp"
    value = ["x", name] if field == "screenshots_en" else name
    AppSubmission.objects.using(alias).create(tracking_id="QAD-1", **{field: value})
    assert named(KEY, OTHER) == {KEY}
    settings.R2MAINT = {**settings.R2MAINT, "FIELDS": {}}
    assert named(KEY, OTHER) == {KEY}, "code may write names of the default storage anywhere"


def test_a_file_name_that_was_copied_into_another_column_counts(alias, monkeypatch):
    monkeypatch.setattr(App._meta.get_field("main_image_en"), "storage", PrefixedStorage())
    Article.objects.using(alias).create(body="icon: [QAD-000001/icons/icon.webp], and more")
    assert named(KEY, OTHER) == {KEY}


def test_a_storage_that_cannot_be_made_refuses(monkeypatch):
    class Broken(Storage):
        @property
        def location(self):
            raise ImportError("secret")

    monkeypatch.setattr(App._meta.get_field("main_image_en"), "storage", Broken())
    with pytest.raises(ConfigError, match=r"main_image_en \(ImportError\)"):
        named(KEY)


def test_sources_are_named_by_their_column():
    AppSubmission.objects.create(tracking_id="QAD-1", app_icon_url=f"https://m/{KEY}")
    _, reading = read(KEY)
    assert {source for source, count in reading.names.items() if count} == {
        "default.app_submissions.app_icon_url"
    }


def test_no_table_of_ours_is_a_source():
    assert not [source for source in read(KEY)[1].sources if "r2maint_" in source]
