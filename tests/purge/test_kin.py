"""Images beside a named object, where its variants lie, are kept until somebody decides."""

from __future__ import annotations

from dataclasses import replace

import pytest

from r2maint.purge.variants.kin import kin_starts
from tests.conftest import DATABASES
from tests.oddities.models import Article
from tests.worlds.few_objects import AT_ONCE, make_bucket, plan, urls

pytestmark = pytest.mark.django_db(databases=DATABASES)

NAMED = "submissions/1/photo.jpg"
KIN = [
    "submissions/1/photo/800w.webp",
    "submissions/1/photo/16_9/800w.avif",
    "submissions/1/photo.large.jpg",
    "submissions/1/photo_thumb.jpg",
    "submissions/1/photo-150x150.PNG",
    "submissions/1/photo.webp",
    "submissions/1/photo_preview.jpg",
    "submissions/1/photo_1024768.jpg",
]
OTHERS = [
    "submissions/1/photo.0123456789abcdef.webp",
    "submissions/1/photo_aB3dE9x.jpg",
    "submissions/1/photos.jpg",
    "submissions/1/photo.json",
    "submissions/1/photo/notes.txt",
    "submissions/2/photo_thumb.jpg",
    "submissions/1/other.photo.jpg",
]


@pytest.fixture
def bucket(project):
    Article.objects.create(body=urls([NAMED]))
    return make_bucket(NAMED)


def verdicts(planned) -> dict[str, str]:
    return {item.object.key: item.verdict.value for item in planned.items}


@pytest.mark.parametrize("key", KIN)
def test_an_image_where_a_variant_lies_is_kin(bucket, key):
    bucket.add(key)
    planned = plan(bucket)
    assert verdicts(planned) == {key: "kin"}
    assert planned.summary()["kin"] == 1
    assert planned.summary()["orphans"] == 0


@pytest.mark.parametrize("key", OTHERS)
def test_what_is_no_variant_is_an_orphan(bucket, key):
    bucket.add(key)
    assert verdicts(plan(bucket)) == {key: "orphan"}


def test_include_kin_judges_it_like_any_other(bucket):
    bucket.add(KIN[0])
    assert verdicts(plan(bucket, replace(AT_ONCE, include_kin=True))) == {KIN[0]: "orphan"}


def test_the_original_of_a_re_encoding_is_no_kin_of_its_new_version(project):
    Article.objects.create(body=urls(["submissions/1/icon.0123456789abcdef.webp"]))
    bucket = make_bucket("submissions/1/icon.0123456789abcdef.webp")
    bucket.add("submissions/1/icon.png")
    bucket.add("submissions/1/icon.fedcba9876543210.png")
    assert set(verdicts(plan(bucket)).values()) == {"orphan"}


def test_a_variant_of_what_nothing_names_is_no_kin(bucket):
    bucket.add("submissions/3/gone.jpg")
    bucket.add("submissions/3/gone_thumb.jpg")
    assert set(verdicts(plan(bucket)).values()) == {"orphan"}


def test_kin_counts_in_no_brake(bucket):
    for number in range(30):
        bucket.add(f"submissions/1/photo/{number}w.webp")
    planned = plan(bucket, replace(AT_ONCE, max_delete=None))
    assert planned.refusals == ()
    assert planned.baseline.orphans == 0


def test_a_decomposed_key_is_kin_of_a_composed_name(project):
    Article.objects.create(body=urls(["submissions/1/caf\u00e9.jpg"]))
    bucket = make_bucket("submissions/1/caf\u00e9.jpg")
    bucket.add("submissions/1/cafe\u0301_thumb.jpg")
    assert set(verdicts(plan(bucket)).values()) == {"kin"}


def test_starts_are_stems_of_the_same_folder_or_folders_above():
    assert list(kin_starts("a/b.c/d-e_f.png")) == [
        "a/b.c/d-e_f",
        "a/b.c/d-e",
        "a/b.c/d",
        "a/b.c",
        "a",
    ]
    assert list(kin_starts("a/b.txt")) == list(kin_starts("")) == list(kin_starts("/.png")) == []
