"""Which columns are read, and which values in them name a key or a file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import apps
from django.contrib.postgres.fields import ArrayField
from django.db import connections, models

from r2maint.conf import load
from r2maint.control import Control
from r2maint.errors import ConfigError, DatabaseError, Stopped, UsageError
from r2maint.journal.journal import open_journal
from r2maint.keys import Addresses, Kind
from r2maint.local_files.storage_locations import StoragePlace
from r2maint.references import read_rows
from r2maint.references.column import Column, ColumnKind
from r2maint.references.discover_columns import discover, row_values
from r2maint.references.edit_cell import Rewrite, Swapped
from r2maint.references.read_rows import iter_references, still_named
from r2maint.references.reference import Reference, Shape
from r2maint.references.rewrite import swap
from r2maint.references.scope import Scope
from tests.appdirectory.models import App, AppSubmission
from tests.conftest import DATABASES
from tests.oddities.models import Article, Gallery, LegacyBanner, PromotedListing, SoftDeleted
from tests.worlds.texts import another_alias

pytestmark = [
    pytest.mark.django_db(databases=DATABASES),
    pytest.mark.usefixtures("project"),
]
BASE = "https://media.example.org/"


def columns(alias: str, *models: str, **scope: Any) -> tuple[Column, ...]:
    config = load()
    chosen = Scope(databases=(alias,), models=models, **scope)
    return discover(config, Addresses.from_config(config), chosen)


def found(alias: str, *models: str, **scope: Any) -> list[Reference]:
    config = load()
    chosen = Scope(databases=(alias,), models=models, **scope)
    addresses = Addresses.from_config(config)
    return list(
        iter_references(discover(config, addresses, chosen), addresses, chosen, control=Control())
    )


def named(settings: Any, **fields: dict[str, dict[str, Any]]) -> None:
    rules = {label.replace("__", "."): rule for label, rule in fields.items()}
    settings.R2MAINT = {**settings.R2MAINT, "FIELDS": rules}


def test_columns_are_found_once_on_the_table_that_owns_them(alias):
    names = {(column.model, column.field) for column in columns(alias)}
    assert {
        ("appdirectory.App", "application_icon"),
        ("appdirectory.AppSubmission", "screenshots_ar"),
        ("appdirectory.AppSubmission", "website_link"),
        ("oddities.Article", "body"),
        ("oddities.Gallery", "content"),
        ("oddities.Listing", "cover_url"),
        ("oddities.PromotedListing", "banner_url"),
        ("oddities.SoftDeleted", "picture_url"),
    } <= names
    models_found = {model for model, _ in names}
    assert not models_found & {"oddities.ListingProxy", "oddities.LegacyBanner", "auth.User"}
    assert not any(model.startswith("r2maint.") for model in models_found)
    assert ("oddities.PromotedListing", "cover_url") not in names
    assert ("appdirectory.AppSubmission", "submitter_email") not in names


@pytest.mark.parametrize(
    ("scope", "message"),
    [
        ({"models": ("oddities.Galery",)}, "Did you mean 'oddities.Gallery'"),
        ({"models": ("nonsense",)}, "names no model"),
        ({"models": ("auth.Group",)}, "no column that may be rewritten"),
        ({"fields": ("screenshot_en",)}, "Did you mean 'screenshots_en'"),
        ({"models": ("oddities.Gallery",), "fields": ("body",)}, "--field"),
        ({"databases": ("defalt",)}, "Did you mean 'default'"),
        ({"where": (("no_such", "1"),)}, "--where names no field"),
        ({"where": (("created_at", "yesterday"),)}, "cannot have"),
    ],
    ids=str,
)
def test_a_scope_that_names_nothing_is_a_usage_error(scope, message):
    config = load()
    with pytest.raises(UsageError, match=message):
        discover(config, Addresses.from_config(config), Scope(**scope))


def test_a_child_without_columns_of_its_own_points_to_its_parent(alias):
    PromotedListing.objects.using(alias).create(cover_url=f"{BASE}a.png", banner_url=f"{BASE}b.png")
    assert [r.field for r in found(alias, "oddities.PromotedListing")] == ["banner_url"]
    assert [r.field for r in found(alias, "oddities.ListingProxy")] == ["cover_url"]


def test_values_are_references_by_what_they_say(alias):
    AppSubmission.objects.using(alias).create(
        tracking_id="QAD-1",
        app_name_en="https and / in a name",
        app_icon_url="/media/icons/a b.png",
        main_image_en="https://pub-0123456789abcdef.r2.dev/submissions/1.png",
        main_image_ar="https://elsewhere.example.net/x.png",
        website_link="https://elsewhere.example.net/",
        screenshots_en=["plain", {"url": f"{BASE}s/%D9%82.png"}, [[f"{BASE}deep.png"]]],
    )
    rows = {(r.field, r.path): r for r in found(alias, "appdirectory.AppSubmission")}
    told = {at: (r.shape, r.target.kind, r.target.key) for at, r in rows.items()}
    assert told == {
        ("app_icon_url", ""): (Shape.PATH, Kind.LOCAL, "icons/a b.png"),
        ("main_image_en", ""): (Shape.URL, Kind.BUCKET, "submissions/1.png"),
        ("main_image_ar", ""): (Shape.URL, Kind.EXTERNAL, ""),
        ("screenshots_en", "/1/url"): (Shape.URL, Kind.BUCKET, "s/ق.png"),
        ("screenshots_en", "/2/0/0"): (Shape.URL, Kind.BUCKET, "deep.png"),
    }


def test_credentials_do_not_reach_a_report(alias):
    Article.objects.using(alias).create(body=f"{BASE}a.png?X-Amz-Signature=abc123&v=1")
    (reference,) = found(alias, "oddities.Article")
    shown = reference.as_dict()
    assert "abc123" not in shown.pop("value")
    assert shown == {
        "database": alias,
        "model": "oddities.Article",
        "pk": reference.pk,
        "field": "body",
        "path": "",
    }


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("apps/icons/a.png", (Shape.NAME, Kind.LOCAL, "apps/icons/a.png")),
        (f"{BASE}apps/b.png", (Shape.URL, Kind.BUCKET, "apps/b.png")),
        ("https://elsewhere.example.net/x.png", None),
        ("", None),
    ],
    ids=["name", "whole-url", "external", "empty"],
)
def test_a_file_field_holds_names_and_sometimes_urls(alias, value, expected):
    App.objects.using(alias).bulk_create([App(name_en="a", main_image_en=value)])
    told = [(r.shape, r.target.kind, r.target.key) for r in found(alias, "appdirectory.App")]
    assert told == ([expected] if expected else [])


def test_names_under_a_bucket_storage_are_keys_below_its_location(alias, monkeypatch):
    class BucketStorage:
        bucket_name = load().bucket
        location = "media/"

    class OtherBucket:
        bucket_name = "another"

    monkeypatch.setattr(App._meta.get_field("main_image_en"), "storage", BucketStorage())
    monkeypatch.setattr(App._meta.get_field("main_image_ar"), "storage", OtherBucket())
    App.objects.using(alias).bulk_create(
        [App(name_en="a", main_image_en="x/a.png", main_image_ar="x/b.png")]
    )
    (reference,) = found(alias, "appdirectory.App")
    assert (reference.field, reference.target.key) == ("main_image_en", "media/x/a.png")
    column = next(c for c in columns(alias, "appdirectory.App") if c.field == "main_image_en")
    assert (column.place, column.location) == (StoragePlace.BUCKET, "media/")
    assert column.name_of("media/y.png") == "y.png"
    assert column.name_of("elsewhere/y.png") is None


def test_a_name_that_leaves_its_directory_is_no_reference(alias, project):
    App.objects.using(alias).bulk_create([App(name_en="a", main_image_en="../../etc/passwd")])
    assert found(alias, "appdirectory.App") == []


@pytest.mark.parametrize("stored", ["text", "json"])
def test_addresses_inside_text_are_references_where_a_rule_says_so(alias, settings, stored):
    text = f"<p>/media/a.png, <img src='{BASE}b%20c.png'> /media/a.png, https://elsewhere.example/x.png"
    if stored == "text":
        model, path = "oddities.Article", ""
        Article.objects.using(alias).create(body=text)
    else:
        model, path = "oddities.Gallery", "/blocks/0"
        Gallery.objects.using(alias).create(content={"blocks": [text, "plain / text"]})
    assert found(alias, model) == []
    name = "body" if stored == "text" else "content"
    named(settings, **{model.replace(".", "__"): {name: {"text": True}}})
    assert [
        (r.path, r.value, r.shape, r.target.kind, r.target.key) for r in found(alias, model)
    ] == [
        (path, "/media/a.png", Shape.EMBEDDED, Kind.LOCAL, "a.png"),
        (path, f"{BASE}b%20c.png", Shape.EMBEDDED, Kind.BUCKET, "b c.png"),
    ]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (" /media/a.png ", [(Shape.PATH, Kind.LOCAL)]),
        ("/media/a b.png", [(Shape.PATH, Kind.LOCAL)]),
        ("/media/folder", [(Shape.PATH, Kind.LOCAL)]),
        ("https://elsewhere.example/x.png", [(Shape.URL, Kind.EXTERNAL)]),
        ("/media/a.png and /media/b.png", [(Shape.EMBEDDED, Kind.LOCAL)] * 2),
        ("https://elsewhere.example/x.png is not /media/a.png", [(Shape.EMBEDDED, Kind.LOCAL)]),
        ("https://elsewhere.example/x.png is not here", []),
        ("icons/a.png", [(Shape.NAME, Kind.LOCAL)]),
        ("my icons/a.png", []),
    ],
)
def test_a_whole_value_in_a_text_field_stays_what_it_is(alias, settings, value, expected):
    named(settings, oddities__Article={"body": {"text": True}})
    Article.objects.using(alias).create(body=value)
    references = found(alias, "oddities.Article")
    assert [(r.shape, r.target.kind) for r in references] == expected
    assert still_named(references) == set(references)


def test_an_address_is_still_named_while_it_stands_in_its_text(alias, settings):
    named(settings, oddities__Gallery={"content": {"text": True}})
    row = Gallery.objects.using(alias).create(content=["see /media/a.png", "and /media/b.png"])
    references = found(alias, "oddities.Gallery")
    row.content = ["see /media/a.png.bak", "now /media/b.png"]
    row.save(using=alias)
    assert [r.value for r in still_named(references)] == ["/media/b.png"]


NAMES = [
    "icons/a.png",
    "a.png",
    "أيقونات/أ ب.webp",
    "icon@2x.png",
    "2024/v1.2/film.mp4",
    "a+b (1).7z",
]
NO_NAMES = [
    "book",
    "fa-home",
    "About page.html",
    "www.example.com/a.png",
    "cdn.example.com/a.png",
    "example.com",
    "someone@example.sa",
    "mailto:a@b.png",
    "data:image/png;base64,a.png",
    "C:\\icons\\a.png",
    "./a.png",
    "../a.png",
    "~/a.png",
    "#a.png",
    " a.png",
    "a.png ",
    "a.png\nb.png",
    "A sentence.",
    "1.25",
    ".png",
    "icons/.png",
    "a.longextension",
    "<img src=a.png",
    "https:a.png",
]


@pytest.mark.parametrize("value", NAMES + NO_NAMES)
@pytest.mark.parametrize("field", ["app_icon_url", "screenshots_en"])
def test_a_bare_name_counts_in_configured_fields_alone(alias, field, value):
    stored = ["x", value] if field == "screenshots_en" else value
    AppSubmission.objects.using(alias).bulk_create(
        [AppSubmission(tracking_id="Q", description_en=value, **{field: stored})]
    )
    path = "/1" if field == "screenshots_en" else ""
    expected = [(field, path, Shape.NAME, Kind.LOCAL, value)] if value in NAMES else []
    references = found(alias, "appdirectory.AppSubmission")
    told = [(r.field, r.path, r.shape, r.target.kind, r.target.key) for r in references]
    assert told == expected
    assert still_named(references) == set(references)


def test_a_bare_name_means_what_the_default_storage_says_of_it(alias, monkeypatch):
    class BucketStorage:
        bucket_name = load().bucket
        location = "media/"

    class OtherBucket:
        bucket_name = "another"

    AppSubmission.objects.using(alias).create(tracking_id="Q", app_icon_url="x/a.png")
    monkeypatch.setattr("r2maint.references.discover_columns.default_storage", BucketStorage())
    (reference,) = found(alias, "appdirectory.AppSubmission")
    assert (reference.shape, reference.target.key) == (Shape.NAME, "media/x/a.png")
    (column,) = columns(alias, "appdirectory.AppSubmission", fields=("app_icon_url",))
    assert column.name_of("media/y.png") == "y.png"
    monkeypatch.setattr("r2maint.references.discover_columns.default_storage", OtherBucket())
    assert found(alias, "appdirectory.AppSubmission") == []


def test_rows_that_managers_hide_are_read(alias):
    SoftDeleted(deleted=True, picture_url=f"{BASE}a.png").save(using=alias, force_insert=True)
    assert [r.value for r in found(alias, "oddities.SoftDeleted")] == [f"{BASE}a.png"]


def test_an_unmanaged_table_is_read_when_it_is_named(alias, settings):
    LegacyBanner.objects.using(alias).create(pk=1, path="/media/banner.png")
    try:
        with pytest.raises(UsageError):
            found(alias, "oddities.LegacyBanner")
        named(settings, oddities__LegacyBanner={"path": {}})
        (reference,) = found(alias, "oddities.LegacyBanner")
        assert reference.target.key == "banner.png"
    finally:
        LegacyBanner.objects.using(alias).all().delete()


def test_a_rule_for_an_inherited_field_is_one_for_the_table_that_owns_it(alias, settings):
    named(settings, oddities__PromotedListing={"cover_url": {"key": "covers/{stem}.{hash}{ext}"}})
    (column,) = columns(alias, "oddities.Listing", fields=("cover_url",))
    assert column.is_named
    assert column.rule.key == "covers/{stem}.{hash}{ext}"


def test_a_rule_for_a_field_without_text_is_a_configuration_error(settings):
    named(settings, oddities__SoftDeleted={"deleted": {}})
    with pytest.raises(ConfigError, match=r"oddities\.SoftDeleted\.deleted"):
        columns("default")


def test_what_not_references_names_is_left_alone(alias, settings):
    settings.R2MAINT = {**settings.R2MAINT, "NOT_REFERENCES": {"oddities.Article": "drafts"}}
    assert "oddities.Article" not in {column.model for column in columns(alias)}


def test_where_keeps_the_rows_and_the_models_it_speaks_of(alias):
    rows = AppSubmission.objects.using(alias)
    for status in ("approved", "pending"):
        rows.create(tracking_id=status, status=status, app_icon_url=f"{BASE}{status}.png")
    Article.objects.using(alias).create(body=f"{BASE}a.png")
    values = [r.value for r in found(alias, where=(("status", "approved"),))]
    assert values == [f"{BASE}approved.png"]


def test_rows_are_read_in_pages_without_losing_or_repeating_one(alias, monkeypatch):
    monkeypatch.setattr(read_rows, "_FIRST_PAGE", 2)
    monkeypatch.setattr(read_rows, "_PAGE", 3)
    rows = [Gallery(content=[f"{BASE}{n}.png"]) for n in range(20)]
    Gallery.objects.using(alias).bulk_create(rows)
    values = [r.value for r in found(alias, "oddities.Gallery")]
    assert sorted(values) == sorted(f"{BASE}{n}.png" for n in range(20))


def test_large_cells_make_small_pages(monkeypatch):
    monkeypatch.setattr(read_rows, "_PAGE_CHARACTERS", 5000)
    Article.objects.bulk_create(Article(body=f"{BASE}{n}.png\n" + "x" * 2000) for n in range(210))
    (column,) = columns("default", "oddities.Article")
    sizes = [len(page) for page in read_rows._pages([column], Scope())]
    assert sizes == [200, 2, 2, 2, 2, 2]


def test_a_stop_is_heard_while_reading():
    Article.objects.create(body=f"{BASE}a.png")
    config = load()
    addresses = Addresses.from_config(config)
    control = Control(deadline=0)
    with pytest.raises(Stopped):
        list(iter_references(columns("default"), addresses, control=control))


@pytest.mark.parametrize("stored", ["not json /", '["\\ud800/x"]', '["/media/\\u0000"]'])
def test_json_that_cannot_be_a_reference_is_passed_over(stored):
    Gallery.objects.create()
    with connections["default"].cursor() as cursor:
        cursor.execute("PRAGMA ignore_check_constraints = ON")
        cursor.execute("UPDATE oddities_gallery SET content = %s", [stored])
        cursor.execute("PRAGMA ignore_check_constraints = OFF")
    assert found("default", "oddities.Gallery") == []


def test_a_missing_table_is_named_with_the_command_that_makes_it():
    with connections["default"].cursor() as cursor:
        cursor.execute("ALTER TABLE oddities_article RENAME TO elsewhere")
        try:
            with pytest.raises(DatabaseError, match="'oddities_article'") as caught:
                columns("default")
        finally:
            cursor.execute("ALTER TABLE elsewhere RENAME TO oddities_article")
    assert caught.value.hint == "Run manage.py migrate."


def test_a_router_may_keep_a_model_out_of_a_database(settings):
    class Router:
        def allow_migrate(self, db, app_label, **hints):
            return not (db == "postgres" and app_label == "oddities")

    settings.DATABASE_ROUTERS = [Router()]
    apps_read = {column.model.partition(".")[0] for column in columns("postgres")}
    assert apps_read == {"appdirectory"}


def test_the_same_database_under_two_aliases_is_read_once(django_db_blocker):
    given = connections["default"].settings_dict
    with django_db_blocker.unblock(), another_alias("again", given):
        config = load()
        found_in = {c.database for c in discover(config, Addresses.from_config(config))}
    assert found_in == set(DATABASES)


def test_values_for_key_templates_come_through_the_orm(alias):
    rows = AppSubmission.objects.using(alias)
    pks = [str(rows.create(tracking_id=f"QAD-{n}").pk) for n in range(3)]
    column = columns(alias, "appdirectory.AppSubmission")[0]
    assert row_values(column, [*pks, "999999"], ("tracking_id", "app__name_en")) == {
        pk: {"tracking_id": f"QAD-{n}", "app__name_en": ""} for n, pk in enumerate(pks)
    }
    with pytest.raises(ConfigError, match="no_such"):
        row_values(column, pks, ("no_such",))


@pytest.fixture
def tags() -> Iterator[type[models.Model]]:
    """A table of arrays on PostgreSQL, and a model of it for one test."""

    class Tags(models.Model):
        urls = ArrayField(models.URLField(), default=list)
        grid = ArrayField(ArrayField(models.TextField()), default=list)

        class Meta:
            app_label = "oddities"
            managed = False
            db_table = "legacy_tags"

    with connections["postgres"].cursor() as cursor:
        cursor.execute(
            "CREATE TABLE legacy_tags (id int PRIMARY KEY, urls varchar(200)[], grid text[][])"
        )
        yield Tags
        cursor.execute("DROP TABLE legacy_tags")
    del apps.all_models["oddities"]["tags"]
    apps.clear_cache()


def test_elements_of_arrays_are_read_and_rewritten(tags, settings):
    named(settings, oddities__Tags={"urls": {}, "grid": {}})
    odd = ['comma,"quote"\\', "NULL", "{ق}"]
    rows = tags.objects.using("postgres")
    rows.create(pk=1, urls=[f"{BASE}a.png", *odd], grid=[["x", f"{BASE}b.png"], ["y", "z"]])
    rewrites = [
        Rewrite(reference=r, new=f'{BASE}n,{{"}}.png') for r in found("postgres", "oddities.Tags")
    ]
    assert [r.reference.path for r in rewrites] == ["/0/1", "/0"]
    assert {c.kind for c in columns("postgres", "oddities.Tags")} == {ColumnKind.ARRAY}
    journal = open_journal(command="test", bucket="b", options={})
    outcomes = [each.how for each in swap(rewrites, journal, control=Control())]
    assert outcomes == [Swapped.DONE] * 2
    row = rows.get()
    assert row.urls == [f'{BASE}n,{{"}}.png', *odd]
    assert row.grid == [["x", f'{BASE}n,{{"}}.png'], ["y", "z"]]


def test_apps_that_were_installed_are_not_the_projects_own(monkeypatch):
    monkeypatch.setattr(
        apps.get_app_config("oddities"), "path", "/venv/lib/python3.12/site-packages/oddities"
    )
    assert {c.model.partition(".")[0] for c in columns("default")} == {"appdirectory"}
