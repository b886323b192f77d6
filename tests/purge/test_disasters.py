"""What has cost others their files, each through the whole command: exit code, message, bucket."""

from __future__ import annotations

import json
import unicodedata
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import pytest
from django.db import connections

from r2maint import conf
from r2maint.bucket import Bucket, DirectoryBucket, Upload, open_bucket
from r2maint.control import Control
from r2maint.errors import Stopped
from r2maint.keepset.read_texts import KeepSet
from r2maint.models import Change, Identity, Run, Sighting
from r2maint.object_index.objects import Inventory
from tests.appdirectory.models import App, AppSubmission
from tests.commands import apply, run
from tests.conftest import DATABASES
from tests.oddities.models import Article, Gallery, LegacyBanner, SoftDeleted
from tests.servers.s3_server import FORWARD, Proxy, Request, proxy, s3_error

pytestmark = pytest.mark.django_db(databases=DATABASES)

KEY = "submissions/QAD-1/icons/icon 1.webp"
NAMED = tuple(f"submissions/{number}/named.webp" for number in range(4))
ORPHAN = "submissions/9/orphan.webp"
AT_ONCE = ("--grace", "0", "--no-second-look", "--max-delete", "100%", "--adopt")


def fill(bucket: Bucket, *keys: str) -> None:
    list(bucket.put_many(Upload(key=key, body=key.encode()) for key in keys))


def media(bucket: Bucket) -> set[str]:
    keys = {item.key for page in bucket.list_pages() for item in page}
    return {key for key in keys if not key.startswith(".r2maint/")}


def change_settings(settings: Any, **values: Any) -> None:
    settings.R2MAINT = {**settings.R2MAINT, **values}


def arranged(bucket: Bucket) -> Bucket:
    fill(bucket, *NAMED, ORPHAN, KEY)
    for number, key in enumerate(NAMED):
        AppSubmission.objects.create(tracking_id=f"QAD-{number}", app_icon_url=f"https://m/{key}")
    return bucket


@pytest.fixture
def bucket(project) -> Bucket:
    """A bucket in a directory: four objects that rows name, an orphan, and KEY."""
    return arranged(open_bucket(conf.load()))


@pytest.fixture
def anywhere(place) -> Bucket:
    """The same, in a directory and on an S3 server."""
    return arranged(open_bucket(conf.load()))


@pytest.fixture
def between(remote, settings, s3_server, monkeypatch) -> Iterator[Proxy]:
    """The same on an S3 server of pages of two keys, behind a proxy that can break."""
    monkeypatch.setattr("r2maint.bucket.r2.BATCH_SIZE", 2)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with proxy(s3_server) as state:
        arranged(open_bucket(conf.load()))
        change_settings(settings, ENDPOINT_URL=state.url)
        yield state


def require_untouched(bucket: Bucket) -> None:
    assert media(bucket) == {*NAMED, ORPHAN, KEY}
    assert not Change.objects.filter(kind="delete").exists()


# Listings


def test_a_listing_that_always_fails_on_page_two_deletes_nothing(between):
    def break_page_two(request: Request) -> Any:
        is_second = "continuation-token" in request.target
        return s3_error(500, "InternalError") if is_second else FORWARD

    between.fault = break_page_two
    document = apply("purge_orphans", *AT_ONCE, exit_code=1)
    assert document["error"]["code"] == "unreachable"
    assert (document["run_id"], document["items"]) == (None, [])
    between.fault = lambda request: FORWARD
    require_untouched(open_bucket(conf.load()))
    assert not Sighting.objects.exists()


def test_a_listing_that_fails_once_on_page_two_is_retried_and_misses_nothing(between):
    between.script(s3_error(500, "InternalError"), contains="continuation-token")
    document = apply("purge_orphans", *AT_ONCE)
    assert document["summary"]["objects"] == len(NAMED) + 2
    assert media(open_bucket(conf.load())) == {*NAMED}


# Databases


@pytest.mark.parametrize("words", ["", "words"], ids=["no rows", "rows that name nothing"])
def test_an_empty_database_deletes_nothing(anywhere, alias, words):
    AppSubmission.objects.all().delete()
    if words:
        Article.objects.using(alias).create(body=words)
    document = apply("purge_orphans", *AT_ONCE, exit_code=4)
    assert document["stopped_by"] == "empty"
    require_untouched(anywhere)


def test_another_database_whose_rows_name_other_objects_deletes_nothing(anywhere, alias):
    AppSubmission.objects.all().delete()
    Article.objects.using(alias).create(body=" ".join(f"/submissions/{n}.png" for n in range(9)))
    document = apply("purge_orphans", *AT_ONCE, exit_code=4)
    assert "missing" in {one["brake"] for one in document["refusals"]}
    require_untouched(anywhere)


def test_a_clone_of_the_database_is_refused_once_production_went_on(anywhere):
    apply("purge_orphans", *AT_ONCE)
    clone = Identity.objects.get()
    fill(anywhere, ORPHAN)
    apply("purge_orphans", *AT_ONCE)
    fill(anywhere, ORPHAN)
    clone.save()
    document = apply("purge_orphans", *AT_ONCE[:-1], exit_code=4)
    assert document["stopped_by"] == "identity"
    assert "another copy of this database has worked" in document["refusals"][0]["message"]
    assert document["refusals"][0]["override"] == "--adopt"
    assert ORPHAN in media(anywhere)


def test_a_database_restored_from_before_the_last_run_is_refused(anywhere):
    apply("purge_orphans", *AT_ONCE)
    dump = {model: list(model.objects.all()) for model in (Identity, Run, Change)}
    fill(anywhere, ORPHAN, KEY)
    apply("purge_orphans", *AT_ONCE)
    fill(anywhere, KEY)
    for model, rows in dump.items():
        model.objects.all().delete()
        model.objects.bulk_create(rows)
    document = apply("purge_orphans", *AT_ONCE[:-1], exit_code=4)
    assert document["stopped_by"] == "identity"
    assert KEY in media(anywhere), "a row that the dump lacks named it"


@pytest.mark.parametrize("owner", ["gone", "damaged"])
def test_a_marker_that_is_gone_or_damaged_is_refused(bucket, owner):
    apply("purge_orphans", *AT_ONCE)
    fill(bucket, ORPHAN)
    list(bucket.delete_many([".r2maint/owner"]))
    if owner == "damaged":
        fill(bucket, ".r2maint/owner")
    document = apply("purge_orphans", *AT_ONCE[:-1], exit_code=4)
    assert document["stopped_by"] == "identity"
    assert ORPHAN in media(bucket)


def test_a_column_that_was_emptied_since_the_last_run_is_refused(anywhere):
    apply("purge_orphans", *AT_ONCE)
    Article.objects.create(body=f"{NAMED[0]} is all that is left")
    AppSubmission.objects.update(app_icon_url="")
    document = apply("purge_orphans", *AT_ONCE, exit_code=4)
    lost = next(one for one in document["refusals"] if one["brake"] == "source_lost")
    assert "app_submissions.app_icon_url (4 before, 0 now)" in lost["message"]
    assert media(anywhere) == {*NAMED}


# What names an object


def in_four_levels_of_json(alias: str) -> None:
    content: Any = [f"https://m/{quote(KEY)}"]
    for name in "abcd":
        content = {name: [content]}
    Gallery.objects.using(alias).create(id=uuid.uuid4(), content=content)


def in_json_in_json(alias: str) -> None:
    content = json.dumps({"a": json.dumps({"b": json.dumps([f"https://m/{KEY}"])})})
    Article.objects.using(alias).create(body=content)


def in_a_row_that_managers_hide(alias: str) -> None:
    SoftDeleted.visible.using(alias).create(deleted=True, picture_url=f"https://m/{quote(KEY)}")


def in_an_unmanaged_table(alias: str) -> None:
    LegacyBanner.objects.using(alias).create(id=1, path=f"/{KEY}")


def in_a_table_without_a_model(alias: str) -> None:
    with connections[alias].cursor() as cursor:
        cursor.execute("CREATE TABLE forgotten (body text)")
        cursor.execute("INSERT INTO forgotten VALUES (%s)", [f"old: {KEY}"])


def under_a_host_that_no_setting_names(alias: str) -> None:
    Article.objects.using(alias).create(body=f"https://cdn-of-2019.example.net:8443/x/{quote(KEY)}")


def without_a_host(alias: str) -> None:
    Article.objects.using(alias).create(body=f"<img src='/{quote(KEY)}?v=2#top'>")


def as_the_name_of_a_file(alias: str) -> None:
    App.objects.using(alias).create(name_en="A", main_image_en=KEY)


@pytest.mark.parametrize(
    "hide",
    [
        in_four_levels_of_json,
        in_json_in_json,
        in_a_row_that_managers_hide,
        in_an_unmanaged_table,
        in_a_table_without_a_model,
        under_a_host_that_no_setting_names,
        without_a_host,
        as_the_name_of_a_file,
    ],
    ids=lambda function: function.__name__,
)
def test_an_object_that_is_named_where_nobody_looks_is_kept(bucket, alias, hide):
    hide(alias)
    apply("purge_orphans", *AT_ONCE)
    assert media(bucket) == {*NAMED, KEY}


@pytest.mark.parametrize(("stored", "written"), [("NFC", "NFD"), ("NFD", "NFC")])
@pytest.mark.parametrize("form", [str, quote], ids=["raw", "escaped"])
def test_the_other_spelling_of_an_accent_keeps_the_object(anywhere, alias, stored, written, form):
    key = unicodedata.normalize(stored, "submissions/café/Ångström.webp")
    fill(anywhere, key)
    text = form(unicodedata.normalize(written, key))
    Article.objects.using(alias).create(body=f"https://m/{text}")
    apply("purge_orphans", *AT_ONCE)
    assert media(anywhere) == {*NAMED, key}


def test_an_object_that_two_rows_share_outlives_one_of_them(bucket, alias):
    rows = [Article.objects.using(alias).create(body=f"https://m/{KEY}") for _ in range(2)]
    rows[0].delete()
    apply("purge_orphans", *AT_ONCE)
    assert KEY in media(bucket)
    rows[1].delete()
    apply("purge_orphans", *AT_ONCE, "--override", "source_lost")
    assert KEY not in media(bucket)


def test_a_url_in_a_source_file_keeps_the_object(bucket, settings, project):
    change_settings(settings, EXTRA_REFERENCES={"files": ["frontend/**/*.ts"]})
    (project / "frontend").mkdir()
    (project / "frontend" / "hero.ts").write_text(f"const hero = '/{quote(KEY)}'")
    apply("purge_orphans", *AT_ONCE)
    assert media(bucket) == {*NAMED, KEY}


def test_a_host_without_the_source_files_refuses(bucket, settings):
    change_settings(settings, EXTRA_REFERENCES={"files": ["frontend/**/*.ts"]})
    document = apply("purge_orphans", *AT_ONCE, exit_code=1)
    assert document["error"]["code"] == "config"
    assert "matches no file: 'frontend/**/*.ts'" in document["error"]["message"]
    assert "Run where these files are" in document["error"]["hint"]
    require_untouched(bucket)


def test_row_level_security_refuses(bucket):
    with connections["postgres"].cursor() as cursor:
        cursor.execute("CREATE TABLE secret (body text)")
        cursor.execute("INSERT INTO secret VALUES (%s)", [KEY])
        cursor.execute("ALTER TABLE secret ENABLE ROW LEVEL SECURITY")
        cursor.execute("CREATE ROLE tenant")
        cursor.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO tenant")
        cursor.execute("SET ROLE tenant")
    document = apply("purge_orphans", *AT_ONCE, exit_code=1)
    assert "postgres.secret (row-level security hides rows of it)" in document["error"]["message"]
    with connections["postgres"].cursor() as cursor:
        cursor.execute("RESET ROLE")
    require_untouched(bucket)


# Paths alone prove nothing


def test_objects_elsewhere_are_never_deleted_whatever_their_paths_look_like(anywhere):
    others = {"media/submissions/1/a.webp", "submissions", "submissions-old/1/a.webp", "Apps/a.png"}
    fill(anywhere, *others)
    apply("purge_orphans", *AT_ONCE)
    assert media(anywhere) == {*NAMED, *others}


# Meanwhile


@contextmanager
def at(monkeypatch: pytest.MonkeyPatch, method: str, act: Callable[[], None]) -> Iterator[None]:
    """Let something happen once, right after the listing or right before another request."""
    original = getattr(DirectoryBucket, method)
    left = [act]

    def call(self: DirectoryBucket, *arguments: Any, **options: Any) -> Any:
        if method == "list_pages":
            yield from list(original(self, *arguments, **options))
        if left:
            left.pop()()
        if method != "list_pages":
            yield from original(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(DirectoryBucket, method, call)
        yield
    assert not left


def test_an_upload_and_its_row_between_listing_and_reading_are_kept(bucket, alias, monkeypatch):
    later = "submissions/later.webp"

    def upload() -> None:
        fill(bucket, later)
        Article.objects.using(alias).create(body=f"https://m/{later}")

    with at(monkeypatch, "list_pages", upload):
        # For this plan the row names what is not there.
        document = apply("purge_orphans", *AT_ONCE, "--override", "missing")
    assert media(bucket) == {*NAMED, later}
    assert later not in {item["key"] for item in document["items"]}


def test_an_upload_whose_row_is_not_written_yet_is_too_young(bucket):
    document = apply("purge_orphans", *AT_ONCE[2:])
    assert {item["verdict"] for item in document["items"]} == {"too_young"}
    require_untouched(bucket)


def test_a_row_committed_before_the_second_reading_keeps_its_object(bucket, alias, monkeypatch):
    name = lambda: Article.objects.using(alias).create(body=f"https://m/{KEY}")  # noqa: E731
    with at(monkeypatch, "copy_many", name):
        document = apply("purge_orphans", *AT_ONCE)
    fates = {item["key"]: item["action"] for item in document["items"]}
    assert fates == {KEY: "kept", ORPHAN: "delete"}
    assert media(bucket) == {*NAMED, KEY}


def test_a_row_committed_after_the_second_reading_gets_its_object_back(bucket, alias, monkeypatch):
    name = lambda: Article.objects.using(alias).create(body=f"https://m/{KEY}")  # noqa: E731
    with at(monkeypatch, "delete_many", name):
        document = apply("purge_orphans", *AT_ONCE)
    fates = {item["key"]: item["action"] for item in document["items"]}
    assert fates == {KEY: "restore", ORPHAN: "delete"}
    assert media(bucket) == {*NAMED, KEY}


@pytest.fixture
def twin(alias) -> Iterator[str]:
    """A second alias of the same database."""
    connections.databases["twin"] = connections.databases[alias]
    connections["twin"] = connections[alias]
    yield "twin"
    del connections["twin"], connections.databases["twin"]


@pytest.fixture
def shared_file() -> Iterator[None]:
    """Let a row be written to SQLite while another connection reads."""
    with connections["default"].cursor() as cursor:
        cursor.execute("PRAGMA journal_mode = WAL")
    yield
    with connections["default"].cursor() as cursor:
        cursor.execute("PRAGMA journal_mode = DELETE")


@pytest.mark.django_db(transaction=True, databases=DATABASES)
@pytest.mark.parametrize("aliases", [1, 2])
def test_a_row_that_moves_to_another_table_while_it_is_read_keeps_its_object(
    bucket, alias, aliases, request, shared_file
):
    if aliases == 2:
        request.getfixturevalue("twin")
    SoftDeleted(picture_url=f"/{KEY}").save(using=alias)
    other = connections[alias].copy()
    moves = []

    def move(execute: Any, sql: str, *arguments: Any) -> Any:
        # Articles are read by then, and what is marked deleted is not.
        if not moves and "oddities_listing" in sql and sql.startswith("SELECT"):
            moves.append(sql)
            with other.cursor() as cursor:
                cursor.execute("BEGIN")
                cursor.execute("DELETE FROM oddities_softdeleted")
                cursor.execute("INSERT INTO oddities_article (body) VALUES (%s)", [KEY])
                cursor.execute("COMMIT")
        return execute(sql, *arguments)

    with connections[alias].execute_wrapper(move):
        document = run("purge_orphans", *AT_ONCE)
    other.close()
    assert moves
    assert {item["key"] for item in document["items"]} == {ORPHAN}


# Two looks, and one object that fails


@pytest.mark.parametrize(
    "change",
    [
        {"PROTECTED": ["apps/*.json", "apps/*.txt"]},
        {"MANAGED_PREFIXES": ["submissions/"]},
        {"NOT_REFERENCES": {"appdirectory.App": "archived"}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_settings_change_before_the_second_look_begins_again(bucket, settings, change):
    looking = (*AT_ONCE[:2], *AT_ONCE[3:])
    run("purge_orphans", *looking)
    change_settings(settings, **change)
    document = apply("purge_orphans", *looking)
    assert {item["verdict"] for item in document["items"]} == {"waiting"}
    require_untouched(bucket)
    assert apply("purge_orphans", *looking)["summary"]["deleted"] == 2


def test_one_object_that_cannot_be_copied_does_not_end_the_run(between):
    def refuse(request: Request) -> Any:
        source = {name.lower(): value for name, value in request.headers.items()}
        is_it = source.get("x-amz-copy-source", "").endswith("orphan.webp")
        return s3_error(400, "InvalidArgument") if is_it else FORWARD

    between.fault = refuse
    document = apply("purge_orphans", *AT_ONCE, exit_code=3)
    fates = {item["key"]: item["action"] for item in document["items"]}
    assert fates == {ORPHAN: "fail", KEY: "delete"}
    assert document["summary"]["failed"] == 1
    assert media(open_bucket(conf.load())) == {*NAMED, ORPHAN}


@pytest.mark.django_db(transaction=True, databases=DATABASES)
def test_a_reading_that_is_stopped_leaves_no_transaction_open(bucket, alias):
    Article.objects.using(alias).create(body="words")
    control, stops = Control(), []

    def stop(source: str, found: Any) -> None:
        control.signal_code = 130

    with Inventory() as inventory:
        keep_set = KeepSet(conf.load(), bucket, now=bucket.now())
        try:
            keep_set.read(inventory.finder(), stop, control=control)
        except Stopped as reason:
            # Who keeps the reason keeps its traceback, and every frame in it.
            stops.append(reason)
    assert stops
    assert not [name for name in DATABASES if is_in_transaction(name)]


def is_in_transaction(alias: str) -> bool:
    raw = connections[alias].connection
    if raw is None:
        return False
    if alias == "postgres":
        return bool(raw.info.transaction_status.value)
    if alias == "default":
        return raw.in_transaction
    raw.query("SELECT @@in_transaction")
    return raw.store_result().fetch_row() != ((0,),)
