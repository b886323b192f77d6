"""A class of keys of which nothing names any object refuses: code may compute such keys."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from django.contrib.auth import get_user_model
from hypothesis import given
from hypothesis import strategies as st

from r2maint.purge.key_classes import ClassIndex, UnnamedClass, class_of, compare_with_names
from tests.conftest import DATABASES
from tests.oddities.models import Article
from tests.worlds.few_objects import AT_ONCE, make_bucket, plan, purge, urls

pytestmark = pytest.mark.django_db(databases=DATABASES)

NAMED = [f"submissions/QAD-{number}/icon.webp" for number in range(40)]
COMPUTED = [f"submissions/avatars/{number}.webp" for number in range(1, 11)]


@pytest.fixture
def bucket(project):
    Article.objects.create(body=urls(NAMED))
    return make_bucket(*NAMED)


def refusal(bucket, **options) -> str:
    """Return the message of the brake, "" where it does not hold."""
    planned = plan(bucket, replace(AT_ONCE, **options))
    return next((one.message for one in planned.refusals if one.brake == "class"), "")


def add(bucket, *keys: str) -> None:
    for key in keys:
        bucket.add(key)


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("avatars/17.webp", "avatars/*.webp"),
        ("avatars/17/large.WEBP", "avatars/*/*.webp"),
        ("u/0f8fad5b-d9cd-469f-a165-70867728950e/a.png", "u/*/*.png"),
        ("u/deadbeef01/a.png", "u/*/*.png"),
        ("u/deadbee/a.png", "u/deadbee/*.png"),
        ("QAD-000123-x/a", "QAD-*-x/*"),
        ("plain.png", "*.png"),
        ("", "*"),
    ],
)
def test_ids_and_the_last_segment_do_not_tell_classes_apart(key, name):
    assert class_of(key) == name


@given(st.text(max_size=200))
def test_every_key_has_a_class_of_no_more_than_its_length(key):
    assert len(class_of(key)) <= len(key.encode()) * 3 + 1


def test_ten_objects_of_a_class_that_nothing_names_refuse(bucket):
    add(bucket, *COMPUTED)
    message = refusal(bucket)
    assert "'submissions/avatars/*.webp' (10 objects, 'submissions/avatars/" in message
    assert refusal(bucket, overrides=frozenset({"class"})) == ""


def test_nine_objects_are_no_class(bucket):
    add(bucket, *COMPUTED[:9])
    assert refusal(bucket) == ""


def test_one_name_in_the_class_is_enough(bucket):
    add(bucket, *COMPUTED)
    Article.objects.create(body=urls(COMPUTED[3:4]))
    assert refusal(bucket) == ""


def test_folders_named_by_ids_are_no_classes_of_their_own(bucket):
    add(bucket, *[f"submissions/QAD-99/{number}.webp" for number in range(12)])
    assert refusal(bucket) == ""


def test_what_is_protected_or_kin_is_no_part_of_a_class(bucket, settings):
    settings.R2MAINT = {**settings.R2MAINT, "PROTECTED": ["submissions/avatars/*"]}
    add(bucket, *COMPUTED)
    assert refusal(bucket) == ""


def test_a_class_that_the_last_accepted_run_saw_named_may_go(bucket):
    add(bucket, *COMPUTED)
    article = Article.objects.create(body=urls(COMPUTED))
    purge(bucket)
    article.delete()
    assert refusal(bucket, overrides=frozenset({"source_lost", "ratio"})) == ""


def test_nothing_is_refused_while_nothing_of_the_class_is_due(bucket):
    add(bucket, *COMPUTED)
    assert refusal(bucket, second_look=True) == ""


def test_the_refusal_says_whose_primary_keys_the_ids_may_be(bucket):
    User = get_user_model()
    User.objects.bulk_create(User(pk=number, username=f"u{number}") for number in range(1, 11))
    add(bucket, *COMPUTED)
    assert re.search(r"ids like the primary keys of .*auth\.User", refusal(bucket))
    User.objects.filter(pk=4).delete()
    assert "auth.User" not in refusal(bucket)


def test_every_name_is_looked_at_while_a_class_is_in_doubt():
    doubtful = [UnnamedClass("a/*.png", 10, "a/1.png"), UnnamedClass("b/*.png", 10, "b/1.png")]
    pages = [[f"x/{number}.png" for number in range(1000)] for _ in range(300)]
    pages[-1].append("b/7.png")
    unnamed, named = compare_with_names(doubtful, iter(pages), 300_001)
    assert [each.name for each in unnamed] == ["a/*.png"]
    assert named[0] == "x/*.png"


def test_classes_are_counted_over_all_batches():
    with ClassIndex() as index:
        index.add([f"a/{n}.png" for n in range(6)], ["a/0.png"])
        index.add([f"a/{n}.png" for n in range(6, 12)], [])
        index.add([f"b/{n}.png" for n in range(12)], [])
        assert [(each.name, each.objects) for each in index.due()] == [("a/*.png", 12)]
