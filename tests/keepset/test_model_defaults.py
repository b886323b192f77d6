from __future__ import annotations

import enum

import pytest
from django.db import models

from r2maint.errors import ConfigError
from tests.appdirectory.models import App, AppSubmission
from tests.conftest import DATABASES
from tests.oddities.models import Article
from tests.worlds.texts import KEY, OTHER, read

pytestmark = pytest.mark.django_db(databases=DATABASES)


@pytest.fixture(autouse=True)
def _in_project(project):
    """Every test reads the settings of a project of its own."""


class Theme(models.TextChoices):
    A = f"/{KEY}", "A"


class Plain(enum.Enum):
    A = KEY


@pytest.mark.parametrize(
    "default",
    [KEY, f"https://m/{KEY}", [KEY], {"icon": {"url": KEY}}, KEY.encode(), Theme.A, Plain.A],
    ids=repr,
)
def test_a_default_keeps_what_it_names(monkeypatch, default):
    monkeypatch.setattr(Article._meta.get_field("body"), "default", default)
    found, reading = read(KEY, OTHER)
    assert (found, reading.names["model defaults"]) == ({KEY}, 1)


@pytest.mark.parametrize("default", [KEY, models.Value(KEY)], ids=repr)
def test_a_default_of_the_database_keeps_what_it_names(monkeypatch, default):
    monkeypatch.setattr(Article._meta.get_field("body"), "db_default", default, raising=False)
    assert read(KEY, OTHER)[0] == {KEY}


@pytest.mark.parametrize(
    "choices",
    [[(KEY, "A")], [("Group", [(KEY, "A"), ("b", "B")])], Theme.choices, [("a", f"<img {KEY}>")]],
    ids=["flat", "grouped", "enum", "label"],
)
def test_choices_keep_what_they_name(monkeypatch, choices):
    monkeypatch.setattr(Article._meta.get_field("body"), "choices", choices)
    assert read(KEY, OTHER)[0] == {KEY}


def test_a_default_name_of_a_file_counts_below_the_location_of_its_storage(monkeypatch):
    class Located:
        location = "submissions"

    field = App._meta.get_field("main_image_en")
    monkeypatch.setattr(field, "storage", Located())
    monkeypatch.setattr(field, "default", KEY.removeprefix("submissions/"))
    assert read(KEY, OTHER)[0] == {KEY}


def test_a_default_that_is_called_is_not_called(monkeypatch):
    def fail() -> str:
        raise AssertionError

    monkeypatch.setattr(AppSubmission._meta.get_field("app_icon_url"), "default", fail)
    assert read(KEY)[0] == set()


def test_choices_that_fail_refuse_with_their_field(monkeypatch):
    def fail() -> list[tuple[str, str]]:
        raise RuntimeError("secret")

    monkeypatch.setattr(Article._meta.get_field("body"), "choices", fail)
    with pytest.raises(ConfigError, match=r"body \(") as caught:
        read(KEY)
    assert "secret" not in str(caught.value)
