"""A swap and its undo leave the stored bytes of a cell as they were."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.apps import apps
from django.contrib.postgres.fields import ArrayField
from django.db import connections, models

from r2maint.control import Control
from r2maint.journal.journal import Journal, open_journal
from r2maint.models import Change
from r2maint.references.edit_cell import Rewrite, Swapped
from r2maint.references.reference import Reference
from r2maint.references.rewrite import swap
from r2maint.runs.undo.judge_changes import way_back
from tests.conftest import DATABASES
from tests.oddities.models import Gallery
from tests.worlds.rewriting import BASE, references, swapped

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=DATABASES),
    pytest.mark.usefixtures("project"),
]

ESCAPED = BASE.replace("/", "\\/")


@pytest.fixture
def journal() -> Journal:
    return open_journal(command="test", bucket="quran-apps", options={})


@pytest.fixture
def raw_json(alias) -> Iterator[str]:
    """A database whose JSON columns keep the text as it is given."""
    with connections[alias].cursor() as cursor:
        if connections[alias].vendor == "postgresql":
            cursor.execute("ALTER TABLE oddities_gallery ALTER content TYPE json")
        yield alias
        if connections[alias].vendor == "postgresql":
            cursor.execute("ALTER TABLE oddities_gallery ALTER content TYPE jsonb")


def store(alias: str, text: str) -> None:
    Gallery.objects.using(alias).create(content={})
    with connections[alias].cursor() as cursor:
        cursor.execute("UPDATE oddities_gallery SET content = %s", [text])


def stored(alias: str) -> str:
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT content FROM oddities_gallery")
        if connections[alias].vendor == "postgresql":
            cursor.execute("SELECT content::text FROM oddities_gallery")
        return str(cursor.fetchone()[0])


def renamed(reference: Reference) -> Rewrite:
    """Give it an address of plain ASCII, as r2maint makes them."""
    return Rewrite(reference=reference, new=f"{BASE}new{reference.path.replace('/', '-')}.png")


def undo(alias: str, journal: Journal) -> list[Swapped]:
    back = [way_back(change) for change in Change.objects.using(alias).order_by("-pk")]
    return [each.how for each in swap(back, journal, control=Control())]


TEXTS = [
    f'["{BASE}old.png"]',
    f'["{ESCAPED}old.png"]',
    f'["https:\\/\\/media.example.org/old.png", "{BASE}b.png"]',
    f'["{BASE}\\u00e9\\u00C9.png", "{BASE}é.png"]',
    f'{{"z": "{BASE}é\\u00e9.png", "a": 1.0, "a": 1e2, "a": 12345678901234567890.10}}',
    f'{{"u": "{BASE}old.png", "u": "{ESCAPED}old.png", "u": "\\u0068ttps://media.example.org/old.png"}}',
    f'{{ "b" :\t["{BASE}\\ud83d\\ude00.png" ],\n "a": {{"c": "{BASE}\\u0061.png", "": null}} }}',
]


@pytest.mark.parametrize("text", TEXTS)
def test_an_undo_gives_json_its_own_spelling_back(raw_json, journal, text):
    store(raw_json, text)
    assert stored(raw_json) == text
    rewrites = [renamed(each) for each in references(raw_json, "oddities.Gallery")]
    assert set(swapped(rewrites, journal)) == {Swapped.DONE}
    assert stored(raw_json) != text

    assert set(undo(raw_json, journal)) == {Swapped.DONE}

    assert stored(raw_json) == text


def test_a_spelling_that_no_longer_fits_is_not_used(raw_json, journal):
    store(raw_json, '{"u": "https:\\/\\/media.example.org/old.png", "n": 1}')
    rewrites = [renamed(each) for each in references(raw_json, "oddities.Gallery")]
    swapped(rewrites, journal)
    change = Change.objects.using(raw_json).get()
    change.extra = {"": [['"something else"'], []]}
    change.save(using=raw_json)

    assert undo(raw_json, journal) == [Swapped.DONE]

    assert json.loads(stored(raw_json)) == {"u": f"{BASE}old.png", "n": 1}


def test_the_journal_holds_a_spelling_only_where_it_would_be_lost(raw_json, journal):
    store(raw_json, f'{{"a": "{BASE}old.png", "b": "{ESCAPED}old.png", "secret": "\\/"}}')
    swapped([renamed(each) for each in references(raw_json, "oddities.Gallery")], journal)

    assert [change.extra for change in Change.objects.using(raw_json)] == [{}, {}]


# Arrays


@contextmanager
def array_table() -> Iterator[type[models.Model]]:
    class Arrays(models.Model):
        urls = ArrayField(models.URLField(), default=list)
        grid = ArrayField(ArrayField(models.TextField()), default=list)

        class Meta:
            app_label = "oddities"
            managed = False
            db_table = "legacy_arrays"

    with connections["postgres"].cursor() as cursor:
        cursor.execute(
            "CREATE TABLE legacy_arrays (id int PRIMARY KEY, urls varchar(200)[], grid text[])"
        )
        try:
            yield Arrays
        finally:
            cursor.execute("DROP TABLE legacy_arrays")
            del apps.all_models["oddities"]["arrays"]
            apps.clear_cache()


ARRAYS = [
    f"{{{BASE}old.png,b}}",
    f"[0:1]={{{BASE}old.png,b}}",
    f'[-3:-1]={{{BASE}old.png,NULL,"NULL"}}',
    f'[5:6]={{{BASE}old.png,"q\\"\\\\ , {{}}"}}',
]


@pytest.mark.parametrize("text", ARRAYS)
def test_an_array_keeps_its_bounds(settings, journal, text):
    grid = f"[0:0][2:3]={{{{x,{BASE}old.png}}}}"
    settings.R2MAINT |= {"FIELDS": {"oddities.Arrays": {"urls": {}, "grid": {}}}}
    with array_table(), connections["postgres"].cursor() as cursor:
        cursor.execute("INSERT INTO legacy_arrays VALUES (1, %s, %s)", [text, grid])
        show = "SELECT urls::text, grid::text FROM legacy_arrays"
        cursor.execute(show)
        before = cursor.fetchone()
        found = references("postgres", "oddities.Arrays")
        rewrites = [Rewrite(reference=each, new=f"{BASE}new.png") for each in found]

        assert swapped(rewrites, journal) == {Swapped.DONE: 2}
        cursor.execute(show)
        assert cursor.fetchone() == tuple(each.replace("old", "new") for each in before)

        assert undo("postgres", journal) == [Swapped.DONE] * 2
        cursor.execute(show)
        assert cursor.fetchone() == before


def test_an_element_too_long_for_its_array_is_not_cut(settings, journal):
    settings.R2MAINT |= {"FIELDS": {"oddities.Arrays": {"urls": {}}}}
    with array_table(), connections["postgres"].cursor() as cursor:
        cursor.execute("INSERT INTO legacy_arrays VALUES (1, %s, '{}')", [f"{{{BASE}old.png}}"])
        cursor.execute("ALTER TABLE legacy_arrays ALTER urls TYPE varchar(40)[]")
        (found,) = references("postgres", "oddities.Arrays")
        rewrite = Rewrite(reference=found, new=f"{BASE}{'n' * 40}.png")

        assert swapped([rewrite], journal) == {Swapped.TOO_LONG: 1}
