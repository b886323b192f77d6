"""Thumbnails of objects that are kept, in a plan."""

from __future__ import annotations

import pytest
from django.apps import apps

from tests.conftest import DATABASES
from tests.fakes import R2Fake
from tests.oddities.models import Article
from tests.worlds.few_objects import (
    NAMED,
    ORPHAN,
    WEEK,
    change_settings,
    make_bucket,
    plan,
    urls,
    verdicts,
)

pytestmark = pytest.mark.django_db(databases=DATABASES)

THUMBNAIL = f"{NAMED}.9x9_q85.jpg"


@pytest.fixture
def bucket(project) -> R2Fake:
    bucket = make_bucket(NAMED, ORPHAN, THUMBNAIL, f"{ORPHAN}.9x9_q85.jpg")
    Article.objects.create(body=urls([NAMED]))
    return bucket


def install(monkeypatch, name: str) -> None:
    """Say that an app is installed, which no test environment has."""
    installed = apps.is_installed
    monkeypatch.setattr(apps, "is_installed", lambda app: app == name or installed(app))


def test_the_preset_of_an_installed_app_applies_by_itself(bucket, monkeypatch):
    assert verdicts(plan(bucket))[THUMBNAIL] == "kin"
    install(monkeypatch, "easy_thumbnails")
    planned = plan(bucket)
    assert verdicts(planned) == {
        THUMBNAIL: "derived",
        ORPHAN: "orphan",
        f"{ORPHAN}.9x9_q85.jpg": "orphan",
    }
    assert (
        "'easy_thumbnails' is installed: what it derives is kept as with DERIVED"
        " 'easy_thumbnails', by its own settings."
    ) in planned.notes


def test_a_preset_that_derived_mentions_is_not_told_again(bucket, monkeypatch, settings):
    install(monkeypatch, "easy_thumbnails")
    change_settings(settings, DERIVED=["easy_thumbnails"])
    planned = plan(bucket)
    assert verdicts(planned)[THUMBNAIL] == "derived"
    assert not any("is installed" in note for note in planned.notes)


@pytest.mark.parametrize("app", ["sorl.thumbnail", "imagekit", "versatileimagefield"])
def test_each_preset_has_its_app(bucket, monkeypatch, app):
    install(monkeypatch, app)
    assert any(f"{app!r} is installed" in note for note in plan(bucket).notes)


def test_the_settings_of_the_app_are_followed(bucket, monkeypatch, settings):
    install(monkeypatch, "easy_thumbnails")
    settings.THUMBNAIL_SUBDIR = "thumbs"
    key = "submissions/1/thumbs/named.webp.9x9.jpg"
    bucket.add(key, age=5 * WEEK)
    assert verdicts(plan(bucket))[key] == "derived"


def test_the_location_of_a_storage_is_followed(bucket, monkeypatch, settings):
    install(monkeypatch, "imagekit")
    settings.STORAGES = {
        **settings.STORAGES,
        "thumbs": {
            "BACKEND": "django.core.files.storage.InMemoryStorage",
            "OPTIONS": {"location": "submissions"},
        },
    }
    key = "submissions/CACHE/images/1/named/0123.jpg"
    bucket.add(key, age=5 * WEEK)
    assert verdicts(plan(bucket))[key] == "derived"


@pytest.mark.parametrize("kept", ["unmanaged", "protected"])
def test_what_is_kept_for_another_reason_keeps_its_renditions(bucket, settings, kept):
    original = "elsewhere/a.jpg" if kept == "unmanaged" else "submissions/9/a.jpg"
    protected = ["submissions/9/a.jpg"] if kept == "protected" else []
    change_settings(settings, DERIVED=["submissions/cache/{path}.*"], PROTECTED=protected)
    bucket.add(original, age=5 * WEEK)
    key = f"submissions/cache/{original}.9x9.jpg"
    bucket.add(key, age=5 * WEEK)
    assert verdicts(plan(bucket))[key] == "derived"


def test_versatileimagefield_leaves_spaces_out(bucket, settings):
    change_settings(settings, DERIVED=["versatileimagefield"])
    settings.VERSATILEIMAGEFIELD_SETTINGS = {"sized_directory_name": "submissions/sized"}
    original = "submissions/9 a/my photo.jpg"
    bucket.add(original, age=5 * WEEK)
    Article.objects.create(body=f'"{original}"')
    kept = "submissions/sized/submissions/9a/myphoto-thumbnail-9x9-70.jpg"
    gone = "submissions/sized/submissions/9a/other-thumbnail-9x9-70.jpg"
    for key in (kept, gone):
        bucket.add(key, age=5 * WEEK)
    found = verdicts(plan(bucket))
    assert (found[kept], found[gone]) == ("derived", "orphan")


def test_what_is_derived_from_nothing_is_an_orphan(bucket, settings):
    change_settings(settings, DERIVED=["submissions/cache/{path}.*"])
    key = "submissions/cache/elsewhere/gone.jpg.9x9.jpg"
    bucket.add(key, age=5 * WEEK)
    assert verdicts(plan(bucket))[key] == "orphan"
