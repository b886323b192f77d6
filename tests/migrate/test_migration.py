"""Local media move into the bucket and rows follow, once, whatever happens in between."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from urllib.parse import quote

import pytest
from django.core.files.storage import FileSystemStorage
from django.db import connections

from r2maint.bucket import DirectoryBucket, Headers, Upload, get, head, open_bucket, put
from r2maint.conf import load
from r2maint.control import Control
from r2maint.journal.journal import open_journal
from r2maint.keys import Addresses
from r2maint.management.commands import _base
from r2maint.migrate import apply_migration, plan_migration
from r2maint.models import Change, Run, RunState
from r2maint.references.scope import Scope
from tests.appdirectory.models import App, AppSubmission
from tests.commands import apply, run
from tests.conftest import DATABASES
from tests.oddities.models import Gallery, PromotedListing
from tests.worlds.local_media import PNG, dump, picture, stored, submission

pytestmark = pytest.mark.django_db(transaction=True, databases=DATABASES)


def test_a_plan_writes_nothing(project):
    picture(project, "icon.png")
    submission(app_icon_url="/media/icon.png")
    before = dump("default")

    planned = run("migrate_media_to_r2")

    assert planned["summary"]["to_upload"] == 1
    assert planned["applied"] is False
    assert planned["run_id"] is None
    assert dump("default") == before
    assert not (project / "bucket").exists()
    assert not Change.objects.exists()


def test_every_form_of_a_local_address_moves(project, alias):
    bodies = [picture(project, name) for name in ("a b.png", "c.png", "أيقونة.png", "100%.png")]
    row = submission(
        alias,
        app_icon_url="/media/a%20b.png",
        main_image_en="https://apps.example.org/media/c.png",
        main_image_ar=f"/media/{quote('أيقونة.png')}",
        screenshots_en=["/media/a b.png", "/media/100%.png", "https://elsewhere.example/x.png"],
        google_play_link="https://play.google.com/store/apps/details?id=org.example",
    )

    done = apply("migrate_media_to_r2")["summary"]

    row.refresh_from_db(using=alias)
    values = [row.app_icon_url, row.main_image_en, row.main_image_ar, *row.screenshots_en[:2]]
    assert [stored(value) for value in values] == [*bodies[:3], bodies[0], bodies[3]]
    assert all(value.startswith("https://media.example.org/") for value in values)
    assert row.screenshots_en[2] == "https://elsewhere.example/x.png"
    assert row.google_play_link == "https://play.google.com/store/apps/details?id=org.example"
    assert (done["uploaded"], done["rewritten"], done["failed"]) == (4, 5, 0)


def test_a_source_that_several_rows_name_is_uploaded_once_without_any_rows_id(project):
    picture(project, "shared.png")
    rows = [submission(app_icon_url="/media/shared.png") for _ in range(5)]

    done = apply("migrate_media_to_r2")

    assert done["summary"]["uploaded"] == 1
    (item,) = done["items"]
    assert not any(row.tracking_id in item["key"] for row in rows)
    assert len(item["references"]) == 5
    values = {AppSubmission.objects.get(pk=row.pk).app_icon_url for row in rows}
    assert values == {item["url"]}


def test_the_key_follows_the_template_and_the_magic_bytes(project):
    body = picture(project, "logo.jpeg")
    row = submission(app_icon_url="/media/logo.jpeg")

    (item,) = apply("migrate_media_to_r2")["items"]

    digest = hashlib.sha256(body).hexdigest()
    assert item["key"] == f"submissions/{row.tracking_id}/icons/logo.{digest[:16]}.png"
    info = head(open_bucket(load()), item["key"])
    assert info is not None
    assert info.headers.content_type == "image/png"
    assert info.headers.cache_control == "public, max-age=31536000, immutable"
    assert info.headers.metadata["sha256"] == digest


def test_a_file_fields_name_keeps_its_key_and_its_row(project):
    body = picture(project, "apps/icons/one two.png")
    app = App.objects.create(name_en="One")
    App.objects.filter(pk=app.pk).update(application_icon="apps/icons/one two.png")

    done = apply("migrate_media_to_r2")

    app.refresh_from_db()
    assert app.application_icon.name == "apps/icons/one two.png"
    info = head(open_bucket(load()), "apps/icons/one two.png")
    assert info is not None
    assert info.size == len(body)
    assert info.headers.cache_control == "public, max-age=86400"
    assert done["summary"]["rewritten"] == 0


def test_a_url_beside_a_file_field_shares_its_one_upload(project):
    picture(project, "apps/icons/one.png")
    app = App.objects.create(name_en="One")
    App.objects.filter(pk=app.pk).update(application_icon="apps/icons/one.png")
    row = submission(app_icon_url="/media/apps/icons/one.png")

    done = apply("migrate_media_to_r2")["summary"]

    row.refresh_from_db()
    assert row.app_icon_url == "https://media.example.org/apps/icons/one.png"
    assert (done["uploaded"], done["rewritten"]) == (1, 1)


def test_json_keeps_its_spacing_and_an_inherited_column_its_table(project, alias):
    picture(project, "deep.png")
    gallery = Gallery.objects.using(alias).create(content={"a": [{"b": "/media/deep.png"}], "n": 1})
    listing = PromotedListing(cover_url="/media/deep.png", banner_url="/media/deep.png")
    listing.save_base(using=alias, force_insert=True)

    apply("migrate_media_to_r2")

    gallery.refresh_from_db(using=alias)
    listing.refresh_from_db(using=alias)
    assert stored(gallery.content["a"][0]["b"]).startswith(PNG)
    assert listing.cover_url == listing.banner_url == gallery.content["a"][0]["b"]


def test_a_second_run_does_nothing(project):
    picture(project, "icon.png")
    picture(project, "apps/icons/one.png")
    submission(app_icon_url="/media/icon.png", screenshots_en=["/media/icon.png"])
    app = App.objects.create(name_en="One")
    App.objects.filter(pk=app.pk).update(application_icon="apps/icons/one.png")
    apply("migrate_media_to_r2")
    before = dump("default")

    again = apply("migrate_media_to_r2")["summary"]

    assert (again["to_upload"], again["uploaded"], again["rewritten"]) == (0, 0, 0)
    assert again["already_there"] == 1
    assert dump("default") == before


def test_undo_restores_every_value(project, alias):
    for name in ("icon.png", "one.png", "two.png"):
        picture(project, name)
    submission(
        alias,
        app_icon_url="https://apps.example.org/media/icon.png",
        screenshots_ar=["/media/one.png", "/media/two.png", "/media/one.png"],
    )
    Gallery.objects.using(alias).create(content={"x": "/media/two.png"})
    before = dump(alias)
    run_id = apply("migrate_media_to_r2")["run_id"]
    assert dump(alias) != before

    undone = apply("r2_runs", run_id, "--undo")

    assert dump(alias) == before
    assert undone["exit_code"] == 0


@pytest.mark.parametrize(
    ("name", "body", "reason"),
    [
        ("absent.png", None, "missing"),
        ("empty.png", b"", "empty"),
        ("words.png", b"no picture at all", "not_an_image"),
        ("huge.png", PNG + bytes(11 * 2**20), "too_large"),
    ],
    ids=["missing", "empty", "not an image", "too large"],
)
def test_an_unusable_source_is_skipped_and_the_row_keeps_its_value(project, name, body, reason):
    if body is not None:
        (project / "media" / name).write_bytes(body)
    gallery = Gallery.objects.create(content=[f"/media/{name}"])

    done = apply("migrate_media_to_r2", exit_code=3)

    (item,) = done["items"]
    assert (item["action"], item["reason"]) == ("skip", reason)
    gallery.refresh_from_db()
    assert gallery.content == [f"/media/{name}"]
    assert done["summary"]["skipped"] == 1


def test_other_bytes_under_the_wanted_key_are_never_overwritten(project):
    picture(project, "apps/icons/one.png")
    app = App.objects.create(name_en="One")
    App.objects.filter(pk=app.pk).update(application_icon="apps/icons/one.png")
    bucket = open_bucket(load())
    put(bucket, Upload(key="apps/icons/one.png", body=b"somebody else's", headers=Headers()))

    done = apply("migrate_media_to_r2", exit_code=3)

    (item,) = done["items"]
    assert (item["action"], item["reason"]) == ("fail", "key_taken")
    assert get(bucket, "apps/icons/one.png").body == b"somebody else's"


def test_the_same_bytes_under_the_wanted_key_are_reused(project):
    body = picture(project, "apps/icons/one.png")
    app = App.objects.create(name_en="One")
    App.objects.filter(pk=app.pk).update(application_icon="apps/icons/one.png")
    row = submission(app_icon_url="/media/apps/icons/one.png")
    put(open_bucket(load()), Upload(key="apps/icons/one.png", body=body))

    done = apply("migrate_media_to_r2")["summary"]

    row.refresh_from_db()
    assert (done["uploaded"], done["already_there"], done["rewritten"]) == (0, 1, 1)
    assert row.app_icon_url == "https://media.example.org/apps/icons/one.png"


def test_a_long_name_is_cut_to_the_column_and_the_hash_stays(project):
    name = "صورة" * 20 + ".png"
    body = picture(project, name)
    row = submission(app_icon_url=f"/media/{name}")

    (item,) = apply("migrate_media_to_r2")["items"]

    row.refresh_from_db()
    assert len(row.app_icon_url) <= 200
    assert hashlib.sha256(body).hexdigest()[:16] in row.app_icon_url
    assert stored(row.app_icon_url) == body
    assert row.app_icon_url == item["url"]


def test_a_file_outside_the_root_is_never_uploaded(project):
    (project / "secret.png").write_bytes(PNG + b"secret")
    (project / "media" / "innocent.png").symlink_to(project / "secret.png")
    submission(app_icon_url="/media/innocent.png", main_image_en="/media/../secret.png")

    done = apply("migrate_media_to_r2", exit_code=3)

    assert done["summary"]["uploaded"] == 0
    assert [item["reason"] for item in done["items"]] == ["outside"]


def test_a_directory_of_local_media_that_is_not_there_is_named(project, settings):
    settings.MEDIA_ROOT = project / "unmounted"
    submission(app_icon_url="/media/a.png")

    planned = run("migrate_media_to_r2")

    assert [item["reason"] for item in planned["items"]] == ["missing"]
    assert [note for note in planned["notes"] if f"{project / 'unmounted'}" in note]


def test_scope_limits_what_moves(project):
    for name in ("a.png", "b.png", "c.png"):
        picture(project, name)
    first = submission(app_icon_url="/media/a.png", main_image_en="/media/b.png")
    submission(app_icon_url="/media/c.png", status="rejected")

    assert run("migrate_media_to_r2", "--limit", "2")["summary"]["to_upload"] == 2
    assert run("migrate_media_to_r2", "--field", "app_icon_url")["summary"]["to_upload"] == 2
    assert run("migrate_media_to_r2", "--where", "status=rejected")["summary"]["to_upload"] == 1
    prefix = f"submissions/{first.tracking_id}/main_en/"
    assert run("migrate_media_to_r2", "--prefix", prefix)["summary"]["to_upload"] == 1


def test_addresses_inside_text_are_counted_and_left(project):
    picture(project, "a.png")
    text = (
        "See <img src='/media/a.png'> and https://apps.example.org/media/b.png, not /static/c.png."
    )
    row = submission(description_en=text)

    done = run("migrate_media_to_r2")["summary"]

    assert done["embedded_left"] == 2
    assert done["references"] == 0
    row.refresh_from_db()
    assert row.description_en == text


BODY = (
    "<p>الصورة: <img src='/media/a b.png' srcset=\"/media/c.png 1x, /media/c.png?v=2 2x\">\r\n"
    "https://apps.example.org/media/%D8%A3.png، ![x](/media/c.png) &amp; /media/a.png.bak"
    " https://apps.example.org/media/c.png</p> /media/lost.png"
)


@pytest.fixture
def texts(project, settings) -> Path:
    """Text fields whose addresses move too, and the files they name."""
    for name in ("a b.png", "c.png", "أ.png"):
        picture(project, name)
    rules = {
        "appdirectory.AppSubmission": {"description_ar": {"text": True}, "app_icon_url": {}},
        "oddities.Gallery": {"content": {"text": True}},
    }
    settings.R2MAINT = {**settings.R2MAINT, "FIELDS": rules}
    return project


def text_rows(alias: str, body: str = BODY) -> tuple[AppSubmission, Gallery]:
    content = {"blocks": [body, "/media/c.png", {"n": 1.50, "t": f"2: {body}"}]}
    row = submission(alias, description_ar=body, description_en=body)
    return row, Gallery.objects.using(alias).create(content=content)


def test_addresses_inside_text_move_and_the_undo_restores_every_byte(texts, alias, monkeypatch):
    row, gallery = text_rows(alias)
    before = dump(alias)

    done = apply("migrate_media_to_r2", exit_code=3)

    row.refresh_from_db(using=alias)
    gallery.refresh_from_db(using=alias)
    urls = {Path(item["source"]).name: item["url"] for item in done["items"]}
    expected = BODY.replace("/media/a b.png", urls["a b.png"]).replace(
        "https://apps.example.org/media/%D8%A3.png", urls["أ.png"]
    )
    for address in ("https://apps.example.org/media/c.png", "/media/c.png?v=2", "/media/c.png"):
        expected = expected.replace(address, urls["c.png"])
    assert row.description_ar == expected
    assert row.description_en == BODY
    assert gallery.content["blocks"][:2] == [expected, urls["c.png"]]
    assert gallery.content["blocks"][2]["t"] == f"2: {expected}"
    assert stored(urls["أ.png"]).startswith(PNG)
    skipped = {(Path(item["source"]).name, item["reason"]) for item in done["items"]}
    assert {("a.png.bak", "missing"), ("lost.png", "missing")} < skipped
    assert (done["summary"]["rewritten"], done["summary"]["embedded_left"]) == (16, 8)
    changes = Change.objects.using(alias).filter(kind="rewrite")
    assert not [c for c in changes if " " in c.new or "<" in c.old + c.new]

    # Of three spellings that became one URL in one text, each goes back to its own.
    monkeypatch.setattr("r2maint.runs.undo.plan.BATCH", 1)
    monkeypatch.setattr("r2maint.runs.undo.apply.BATCH", 1)
    undone = apply("r2_runs", done["run_id"], "--undo")

    assert dump(alias) == before
    assert undone["summary"]["undone"] == 16


def test_a_second_run_over_text_rewrites_nothing(texts, alias):
    text_rows(alias)
    apply("migrate_media_to_r2", exit_code=3)
    before = dump(alias)

    again = apply("migrate_media_to_r2", exit_code=3)["summary"]

    assert (again["uploaded"], again["rewritten"]) == (0, 0)
    assert dump(alias) == before


def test_an_undo_leaves_what_the_text_said_before_and_what_was_added_since(texts, alias):
    body = "See /media/c.png and https://apps.example.org/media/c.png"
    row, _ = text_rows(alias, body)
    url = run("migrate_media_to_r2")["items"][0]["url"]
    AppSubmission.objects.using(alias).update(description_ar=f"{url} {body}")
    run_id = apply("migrate_media_to_r2")["run_id"]
    every = AppSubmission.objects.using(alias)
    row.refresh_from_db(using=alias)
    assert row.description_ar == f"{url} See {url} and {url}"

    every.update(description_ar=f"{row.description_ar} {url}")
    once = apply("r2_runs", run_id, "--undo", exit_code=3)
    assert {i["reason"] for i in once["items"] if i["action"] == "skip"} == {"It was edited since."}
    row.refresh_from_db(using=alias)
    assert row.description_ar == f"{url} See {url} and {url} {url}"

    Change.objects.using(alias).filter(run_id=run_id, field="content").delete()
    every.update(description_ar=f"Edited: {url} See {url} and {url}")
    apply("r2_runs", run_id, "--undo")
    row.refresh_from_db(using=alias)
    assert row.description_ar == f"Edited: {url} {body}"


def test_an_address_in_a_text_does_not_come_back_without_its_file(texts, alias):
    row, _ = text_rows(alias, "See /media/c.png and '/media/a b.png'")
    run_id = apply("migrate_media_to_r2")["run_id"]
    (texts / "media" / "c.png").unlink()
    bucket = open_bucket(load())
    (key,) = (
        item.key
        for page in bucket.list_pages("appdirectory/")
        for item in page
        if "/c." in item.key
    )
    list(bucket.delete_many([key]))

    undone = apply("r2_runs", run_id, "--undo", exit_code=3)

    row.refresh_from_db(using=alias)
    assert row.description_ar.startswith("See https://media.example.org/")
    assert row.description_ar.endswith(" and '/media/a b.png'")
    assert undone["summary"]["failed"] == 4


def test_a_bare_name_in_a_configured_field_keeps_its_key_and_its_row(texts, alias):
    body = picture(texts, "icons/one.png")
    row = submission(alias, app_icon_url="icons/one.png", main_image_en="icons/one.png")
    before = dump(alias)

    done = apply("migrate_media_to_r2")

    assert dump(alias) == before
    (item,) = done["items"]
    assert (item["key"], done["summary"]["rewritten"]) == ("icons/one.png", 0)
    assert [(r["field"], r["pk"]) for r in item["references"]] == [("app_icon_url", str(row.pk))]
    assert get(open_bucket(load()), "icons/one.png").body == body


def test_a_plan_names_what_it_will_write(project):
    picture(project, "a.png")
    row = submission(screenshots_en=["/media/a.png"])

    (item,) = run("migrate_media_to_r2")["items"]

    (reference,) = item["references"]
    assert reference == {
        "database": "default",
        "model": "appdirectory.AppSubmission",
        "pk": str(row.pk),
        "field": "screenshots_en",
        "path": "/0",
        "value": "/media/a.png",
        "new": item["url"],
    }
    assert json.dumps(item)


def test_a_file_edited_between_plan_and_upload_moves_no_row(project):
    picture(project, "icon.png")
    row = submission(app_icon_url="/media/icon.png")
    config = load()
    addresses, bucket, control = Addresses.from_config(config), open_bucket(config), Control()
    plan = plan_migration(config, addresses, bucket, scope=Scope(), control=control)
    picture(project, "icon.png", b"edited meanwhile")

    journal = open_journal(command="migrate_media_to_r2", bucket=bucket.name, options={})
    done = apply_migration(plan, config, addresses, bucket, journal, scope=Scope(), control=control)

    row.refresh_from_db()
    assert row.app_icon_url == "/media/icon.png"
    assert [(item.action.value, item.reason) for item in done.items] == [("fail", "rejected")]
    assert list(bucket.list_pages()) == []


def test_a_stop_waits_for_no_more_than_the_uploads_under_way(project, monkeypatch):
    bodies = [picture(project, f"{number}.png") for number in range(60)]
    rows = [submission(app_icon_url=f"/media/{number}.png") for number in range(60)]
    config = load()
    addresses, bucket, control = Addresses.from_config(config), open_bucket(config), Control()
    plan = plan_migration(config, addresses, bucket, scope=Scope(), control=control)

    def put_and_stop(uploads):
        for result in DirectoryBucket.put_many(bucket, uploads):
            control.signal_code = 130
            yield result

    monkeypatch.setattr(bucket, "put_many", put_and_stop)
    journal = open_journal(command="migrate_media_to_r2", bucket=bucket.name, options={})
    done = apply_migration(plan, config, addresses, bucket, journal, scope=Scope(), control=control)

    assert done.stopped is not None
    assert 0 < done.counts["uploaded"] == len(done.items) < 60
    assert apply("migrate_media_to_r2")["run_id"] == journal.run_id
    for row, body in zip(rows, bodies, strict=True):
        row.refresh_from_db()
        assert stored(row.app_icon_url) == body


@pytest.mark.parametrize("action", ["upload", "reuse"])
def test_a_file_replaced_before_its_rows_follow_moves_no_row(project, monkeypatch, action):
    body = picture(project, "apps/icons/one.png")
    App.objects.bulk_create([App(name_en="One", application_icon="apps/icons/one.png")])
    row = submission(app_icon_url="/media/apps/icons/one.png")
    config = load()
    addresses, bucket, control = Addresses.from_config(config), open_bucket(config), Control()
    if action == "reuse":
        put(bucket, Upload(key="apps/icons/one.png", body=body))
    plan = plan_migration(config, addresses, bucket, scope=Scope(), control=control)
    assert [item.action.value for item in plan.items] == [action]

    def put_and_replace(uploads):
        yield from list(DirectoryBucket.put_many(bucket, uploads))
        picture(project, "apps/icons/one.png", b"a form that keeps its names stored another")

    monkeypatch.setattr(bucket, "put_many", put_and_replace)
    journal = open_journal(command="migrate_media_to_r2", bucket=bucket.name, options={})
    done = apply_migration(plan, config, addresses, bucket, journal, scope=Scope(), control=control)

    row.refresh_from_db()
    assert row.app_icon_url == "/media/apps/icons/one.png"
    assert [(item.action.value, item.reason) for item in done.items] == [("fail", "changed")]


def test_a_row_edited_between_plan_and_rewrite_keeps_its_editors_value(project, alias):
    picture(project, "icon.png")
    row = submission(alias, app_icon_url="/media/icon.png", screenshots_en=["/media/icon.png"])
    config = load()
    addresses, bucket, control = Addresses.from_config(config), open_bucket(config), Control()
    plan = plan_migration(config, addresses, bucket, scope=Scope(), control=control)
    AppSubmission.objects.using(alias).filter(pk=row.pk).update(app_icon_url="/media/newer.png")

    journal = open_journal(command="migrate_media_to_r2", bucket=bucket.name, options={})
    done = apply_migration(plan, config, addresses, bucket, journal, scope=Scope(), control=control)

    row.refresh_from_db(using=alias)
    assert row.app_icon_url == "/media/newer.png"
    assert row.screenshots_en[0].startswith("https://media.example.org/")
    assert (done.counts["rewritten"], done.counts["changed"]) == (1, 1)
    assert done.findings


def test_an_interrupted_run_ends_with_the_next_one_even_with_nothing_left_to_do(project):
    bucket = open_bucket(load())
    interrupted = open_journal(command="migrate_media_to_r2", bucket=bucket.name, options={})

    done = apply("migrate_media_to_r2")

    assert done["run_id"] == interrupted.run_id
    assert Run.objects.get().state == RunState.FINISHED
    assert apply("migrate_media_to_r2")["run_id"] is None


@pytest.fixture(
    params=[("private", None), ("media/private", None), ("media/private", "/documents/")],
    ids=["beside", "below", "below-with-an-address"],
)
def elsewhere(project, monkeypatch, request) -> Path:
    """A directory of private files, which the storage of `App.application_icon` keeps."""
    directory, base_url = request.param
    root = project / directory
    (root / "apps").mkdir(parents=True)
    (root / "apps" / "passport.png").write_bytes(PNG + b"passport")
    storage = FileSystemStorage(location=root, base_url=base_url)
    monkeypatch.setattr(App._meta.get_field("application_icon"), "storage", storage)
    App.objects.bulk_create([App(name_en="One", application_icon="apps/passport.png")])
    return root


def test_a_private_storage_is_left_alone(elsewhere):
    done = apply("migrate_media_to_r2")

    assert (done["summary"]["references"], done["summary"]["uploaded"]) == (0, 0)
    assert [note for note in done["notes"] if note.startswith("Left private: 1 file of storages")]
    assert not [item for page in open_bucket(load()).list_pages() for item in page]


def test_a_private_storage_moves_once_a_setting_names_its_field(elsewhere, settings):
    fields = {"appdirectory.App": {"application_icon": {}}}
    settings.R2MAINT = {**settings.R2MAINT, "FIELDS": fields}

    done = apply("migrate_media_to_r2")["summary"]

    assert done["uploaded"] == 1
    assert head(open_bucket(load()), "apps/passport.png") is not None


@pytest.mark.parametrize("base_url", ["/media/open/", "https://apps.example.org/media/open"])
def test_a_storage_of_its_own_that_local_media_serves_moves(project, monkeypatch, base_url):
    picture(project, "open/one.png")
    storage = FileSystemStorage(location=project / "media" / "open", base_url=base_url)
    monkeypatch.setattr(App._meta.get_field("application_icon"), "storage", storage)
    App.objects.bulk_create([App(name_en="One", application_icon="one.png")])

    assert apply("migrate_media_to_r2")["summary"]["uploaded"] == 1
    assert head(open_bucket(load()), "one.png") is not None


def test_a_media_root_behind_a_link_moves_all_the_same(project, settings, monkeypatch):
    picture(project, "apps/icons/one.png")
    (project / "linked").symlink_to(project / "media")
    settings.MEDIA_ROOT = project / "linked"
    storage = FileSystemStorage(location=project / "media")
    monkeypatch.setattr(App._meta.get_field("application_icon"), "storage", storage)
    App.objects.bulk_create([App(name_en="One", application_icon="apps/icons/one.png")])
    row = submission(app_icon_url="/media/apps/icons/one.png")

    apply("migrate_media_to_r2")

    row.refresh_from_db()
    assert stored(row.app_icon_url).startswith(PNG)
    assert head(open_bucket(load()), "apps/icons/one.png") is not None


def test_a_url_too_long_for_its_column_is_told_as_such_and_not_as_an_edit(project):
    name = "apps/icons/" + "a" * 190 + ".png"
    picture(project, name)
    App.objects.bulk_create([App(name_en="One", main_image_en=name)])
    row = submission(app_icon_url=f"/media/{name}"[:200])
    AppSubmission.objects.filter(pk=row.pk).update(app_icon_url=f"/media/{name}")

    done = apply("migrate_media_to_r2", exit_code=3)

    row.refresh_from_db()
    assert row.app_icon_url == f"/media/{name}"
    assert [item["reason"] for item in done["items"]] == ["too_long"]
    assert not [note for note in done["notes"] if "meanwhile" in note]
    assert [note for note in done["notes"] if "did not take" in note]


def test_json_that_a_journal_cannot_hold_stays_and_stops_nothing(project):
    picture(project, "a.png")
    stored_text = (
        '{"half \\ud800": "/media/a.png", "nul \\u0000": "/media/a.png", "c": "/media/a.png"}'
    )
    gallery = Gallery.objects.create()
    with connections["default"].cursor() as cursor:
        cursor.execute("UPDATE oddities_gallery SET content = %s", [stored_text])

    done = apply("migrate_media_to_r2")

    gallery.refresh_from_db()
    assert done["summary"]["rewritten"] == 1
    assert [*gallery.content.values()][:2] == ["/media/a.png"] * 2
    assert stored(gallery.content["c"]).startswith(PNG)


def test_a_row_deleted_while_its_source_is_planned_is_said_to_be_gone(project, monkeypatch):
    picture(project, "a.png")
    submission(app_icon_url="/media/a.png")
    monkeypatch.setattr("r2maint.migrate.new_keys.row_values", lambda *arguments: {})

    (item,) = run("migrate_media_to_r2")["items"]

    assert (item["action"], item["reason"]) == ("skip", "gone")


def test_a_database_without_a_journal_is_noticed_before_anything_is_uploaded(project):
    picture(project, "icon.png")
    submission("postgres", app_icon_url="/media/icon.png")
    with connections["postgres"].schema_editor() as editor:
        editor.delete_model(Change)
    try:
        told = apply("migrate_media_to_r2", exit_code=1)
    finally:
        with connections["postgres"].schema_editor() as editor:
            editor.create_model(Change)

    assert told["error"]["message"] == "r2maint's tables are missing: database 'postgres'."
    assert list(open_bucket(load()).list_pages()) == []


def test_the_lease_names_the_run_that_r2_runs_knows(project, monkeypatch):
    picture(project, "icon.png")
    submission(app_icon_url="/media/icon.png")
    seen = []
    holding = _base.hold_lease

    def hold(bucket, *, run_id, command):
        seen.append(run_id)
        return holding(bucket, run_id=run_id, command=command)

    monkeypatch.setattr(_base, "hold_lease", hold)

    assert [apply("migrate_media_to_r2")["run_id"]] == seen
