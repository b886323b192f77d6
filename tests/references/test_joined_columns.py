"""A column that other tables join on is told, and never rewritten alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import connection, models

from tests.appdirectory.models import AppSubmission
from tests.commands import apply, run
from tests.conftest import DATABASES
from tests.pictures import photo, saved
from tests.worlds.local_media import picture, submission

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=DATABASES),
    pytest.mark.usefixtures("project"),
]

LOCAL = "/media/pictures/a.png"


@contextmanager
def tables(*made: type[models.Model]) -> Iterator[None]:
    with connection.schema_editor() as editor:
        for model in made:
            editor.create_model(model)
    try:
        yield
    finally:
        with connection.schema_editor() as editor:
            for model in reversed(made):
                editor.delete_model(model)
        for model in made:
            del apps.all_models["oddities"][model._meta.model_name]
        apps.clear_cache()


@pytest.fixture(params=["foreign_key", "one_to_one", "through"])
def joined(request) -> Iterator[tuple[type[models.Model], type[models.Model]]]:
    """A model with a URL, and one that finds its rows by that."""

    class Thing(models.Model):
        url = models.CharField(max_length=300, unique=True)
        other_url = models.CharField(max_length=300, blank=True)

        class Meta:
            app_label = "oddities"

    to: dict[str, Any] = {"to_field": "url", "on_delete": models.CASCADE, "db_constraint": False}
    made: list[type[models.Model]] = [Thing]
    if request.param == "foreign_key":

        class Remark(models.Model):
            thing = models.ForeignKey(Thing, **to)

            class Meta:
                app_label = "oddities"

        made.append(Remark)
    elif request.param == "one_to_one":

        class Remark(models.Model):  # type: ignore[no-redef]
            thing = models.OneToOneField(Thing, **to)

            class Meta:
                app_label = "oddities"

        made.append(Remark)
    else:

        class Shelf(models.Model):
            things = models.ManyToManyField(Thing, through="oddities.Remark")

            class Meta:
                app_label = "oddities"

        class Remark(models.Model):  # type: ignore[no-redef]
            thing = models.ForeignKey(Thing, **to)
            shelf = models.ForeignKey(Shelf, null=True, on_delete=models.CASCADE)

            class Meta:
                app_label = "oddities"

        made += [Shelf, Remark]
    with tables(*made):
        yield Thing, made[-1]


def test_a_migration_leaves_it_and_tells_how_many_values(joined, project, capsys):
    thing, remark = joined
    picture(project, "pictures/a.png")
    row = thing.objects.create(url=LOCAL, other_url=LOCAL)
    remark.objects.create(thing=row)

    call_command("migrate_media_to_r2", "--model", "oddities.Thing")
    told = " ".join(capsys.readouterr().out.split())
    assert "Left as before: 1 value of oddities.Thing.url" in told
    done = apply("migrate_media_to_r2", "--model", "oddities.Thing")

    assert done["summary"]["rewritten"] == 1
    row.refresh_from_db()
    assert row.url == LOCAL
    assert row.other_url.startswith("https://media.example.org/")
    assert remark.objects.filter(thing__url=LOCAL).count() == 1


def test_a_field_that_fields_names_is_left_too(joined, project, settings):
    thing, _ = joined
    settings.R2MAINT |= {"FIELDS": {"oddities.Thing": {"url": {}}}}
    picture(project, "pictures/a.png")
    thing.objects.create(url=LOCAL)

    assert apply("migrate_media_to_r2", "--model", "oddities.Thing")["items"] == []
    assert thing.objects.get().url == LOCAL


def test_a_repair_of_it_fails_with_the_reason(joined, project, settings):
    thing, _ = joined
    settings.R2MAINT |= {"ALIASES": ["https://old.example.org/"]}
    picture(project, "pictures/a.png")
    submission(app_icon_url=LOCAL)
    apply("migrate_media_to_r2")
    url = AppSubmission.objects.get().app_icon_url.replace("media.", "old.")
    thing.objects.create(url=url)

    done = run("verify_urls", "--repair", "alias")

    (item,) = [each for each in done["items"] if each["reference"]["model"] == "oddities.Thing"]
    assert "to_field" in str(item)
    assert thing.objects.get().url == url


def test_a_picture_that_it_names_keeps_its_format(joined, project):
    thing, _ = joined
    path = project / "media" / "pictures" / "a.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(saved(photo((1200, 900)), "JPEG"))
    submission(app_icon_url="/media/pictures/a.jpg")
    apply("migrate_media_to_r2")
    url = AppSubmission.objects.get().app_icon_url
    thing.objects.create(url=url)

    plan = run("reoptimize", "--to", "webp", "--all")

    (item,) = plan["items"]
    assert (item["action"], item["reason"]) == ("skip", "not_swappable")
