"""A value counts as written when the database gives it back, after all of its triggers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from django.db import connections

from r2maint.control import Control
from r2maint.journal.journal import Journal, open_journal
from r2maint.models import Change, ChangeState
from r2maint.references.edit_cell import Rewrite, Swapped
from r2maint.references.json_text import is_same
from r2maint.references.rewrite import swap, swap_all
from tests.appdirectory.models import AppSubmission
from tests.commands import apply, run
from tests.conftest import DATABASES
from tests.oddities.models import Gallery
from tests.worlds.local_media import picture, submission
from tests.worlds.rewriting import BASE, references, renamed, submissions, swapped

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=DATABASES),
    pytest.mark.usefixtures("project"),
]

MODEL = "appdirectory.AppSubmission"
OLD, NEW = f"{BASE}old/Photo.png", f"{BASE}new/Photo.png"


@pytest.fixture
def journal() -> Journal:
    return open_journal(command="test", bucket="quran-apps", options={})


@contextmanager
def statements(alias: str, make: list[str], drop: list[str]) -> Iterator[None]:
    with connections[alias].cursor() as cursor:
        for statement in make:
            cursor.execute(statement)
        try:
            yield
        finally:
            for statement in drop:
                cursor.execute(statement)


@contextmanager
def trigger(alias: str, when: str, body: str, *, name: str = "meddle") -> Iterator[None]:
    """Have `body` executed after each update of a row, or before it on MariaDB."""
    vendor = connections[alias].vendor
    table = "app_submissions"
    if vendor == "postgresql":
        make = [
            f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$BEGIN {body}; RETURN NULL; END$$",
            f"CREATE TRIGGER {name} AFTER UPDATE OF {when} ON {table} FOR EACH ROW"
            f" WHEN (OLD.{when} IS DISTINCT FROM NEW.{when}) EXECUTE FUNCTION {name}()",
        ]
        drop = [f"DROP TRIGGER {name} ON {table}", f"DROP FUNCTION {name}()"]
    elif vendor == "sqlite":
        make = [
            f"CREATE TRIGGER {name} AFTER UPDATE OF {when} ON {table}"
            f" WHEN OLD.{when} IS NOT NEW.{when} BEGIN {body}; END"
        ]
        drop = [f"DROP TRIGGER {name}"]
    else:
        make = [f"CREATE TRIGGER {name} BEFORE UPDATE ON {table} FOR EACH ROW {body}"]
        drop = [f"DROP TRIGGER {name}"]
    with statements(alias, make, drop):
        yield


ROW = "UPDATE app_submissions SET {} WHERE id = NEW.id"


def lowering(alias: str, condition: str = "") -> str:
    if connections[alias].vendor == "mysql":
        only = f"IF(NEW.{condition}, LOWER(NEW.app_icon_url), NEW.app_icon_url)"
        return f"SET NEW.app_icon_url = {only if condition else 'LOWER(NEW.app_icon_url)'}"
    tail = f" AND {condition}" if condition else ""
    return ROW.format("app_icon_url = lower(app_icon_url)") + tail


def icons(alias: str) -> list[str]:
    rows = AppSubmission.objects.using(alias).order_by("pk")
    return list(rows.values_list("app_icon_url", flat=True))


def details(rewrites: list[Rewrite], journal: Journal) -> list[tuple[Swapped, str]]:
    return [(each.how, each.detail) for each in swap(rewrites, journal, control=Control())]


def test_a_value_that_a_trigger_alters_is_refused_with_what_came_back(alias, journal):
    submissions(alias, 3, app_icon_url=OLD)
    rewrites = [renamed(each) for each in references(alias, MODEL)]

    with trigger(alias, "app_icon_url", lowering(alias)):
        ended = details(rewrites, journal)

    assert ended == [(Swapped.REFUSED, f"the database stored {NEW.lower()!r} instead")] * 3
    assert icons(alias) == [OLD] * 3
    assert not Change.objects.using(alias).exists()


def test_one_altered_row_does_not_keep_the_others_from_being_written(alias, journal):
    pks = submissions(alias, 5, app_icon_url=OLD)
    rewrites = [renamed(each) for each in references(alias, MODEL)]

    with trigger(alias, "app_icon_url", lowering(alias, f"id = {pks[2]}")):
        assert swapped(rewrites, journal) == {Swapped.DONE: 4, Swapped.REFUSED: 1}

    assert icons(alias) == [NEW, NEW, OLD, NEW, NEW]
    assert Change.objects.using(alias).filter(state=ChangeState.DONE).count() == 4


def test_what_came_back_is_shown_without_its_signature(alias, journal):
    submissions(alias, 1, app_icon_url=OLD)
    signed = "https://media.example.org/x.png?X-Amz-Signature=abcdef&X-Amz-Credential=who"
    if connections[alias].vendor == "mysql":
        body = f"SET NEW.app_icon_url = '{signed}'"
    else:
        body = ROW.format(f"app_icon_url = '{signed}'")
    rewrites = [renamed(each) for each in references(alias, MODEL)]

    with trigger(alias, "app_icon_url", body):
        ((how, detail),) = details(rewrites, journal)

    assert how is Swapped.REFUSED
    assert "abcdef" not in detail
    assert "x.png" in detail


def test_a_trigger_of_another_column_that_blanks_the_value_is_seen(alias, journal):
    if connections[alias].vendor == "mysql":
        pytest.skip("no trigger of MariaDB may update the table it belongs to")
    submissions(alias, 2, app_icon_url=OLD, status="approved")
    rewrites = [renamed(each) for each in references(alias, MODEL)]
    with ExitStack() as stack:
        stack.enter_context(trigger(alias, "app_icon_url", ROW.format("status = 'pending'")))
        blank = ROW.format("app_icon_url = ''")
        stack.enter_context(trigger(alias, "status", blank, name="blank"))
        ended = details(rewrites, journal)

    assert ended == [(Swapped.REFUSED, "the database stored '' instead")] * 2
    assert icons(alias) == [OLD] * 2


def test_a_trigger_that_deletes_the_row_is_seen(alias, journal):
    if connections[alias].vendor == "mysql":
        pytest.skip("no trigger of MariaDB may delete from the table it belongs to")
    submissions(alias, 2, app_icon_url=OLD)
    rewrites = [renamed(each) for each in references(alias, MODEL)]

    body = "DELETE FROM app_submissions WHERE id = NEW.id"
    with trigger(alias, "app_icon_url", body):
        ended = details(rewrites, journal)

    assert ended == [(Swapped.REFUSED, "the database removed the row")] * 2
    assert icons(alias) == [OLD] * 2


def test_a_trigger_that_blanks_other_rows_of_the_batch_is_seen(alias, journal):
    if connections[alias].vendor == "mysql":
        pytest.skip("no trigger of MariaDB may update the table it belongs to")
    submissions(alias, 3, app_icon_url=OLD)
    rewrites = [renamed(each) for each in references(alias, MODEL)]

    body = "UPDATE app_submissions SET app_icon_url = '' WHERE id <> NEW.id"
    if connections[alias].vendor == "postgresql":
        body = f"IF pg_trigger_depth() = 1 THEN {body}; END IF"
    with trigger(alias, "app_icon_url", body):
        ended = details(rewrites, journal)

    assert ended == [(Swapped.REFUSED, "the database changed another row with it")] * 3
    assert icons(alias) == [OLD] * 3


def test_a_statement_trigger_that_changes_all_rows_is_seen(journal):
    pks = submissions("postgres", 3, app_icon_url=OLD)
    make = [
        "CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN"
        " IF pg_trigger_depth() = 1 THEN"
        f" UPDATE app_submissions SET app_icon_url = '' WHERE id = {pks[0]}; END IF;"
        " RETURN NULL; END$$",
        "CREATE TRIGGER meddle AFTER UPDATE ON app_submissions"
        " FOR EACH STATEMENT EXECUTE FUNCTION meddle()",
    ]
    drop = ["DROP TRIGGER meddle ON app_submissions", "DROP FUNCTION meddle()"]
    rewrites = [renamed(each) for each in references("postgres", MODEL)]

    with statements("postgres", make, drop):
        assert swapped(rewrites, journal) == {Swapped.REFUSED: 3}

    assert icons("postgres") == [OLD] * 3


def test_a_trigger_deferred_to_the_commit_is_seen(journal):
    submissions("postgres", 2, app_icon_url=OLD)
    make = [
        "CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN"
        " IF NEW.app_icon_url <> lower(NEW.app_icon_url) THEN UPDATE app_submissions"
        " SET app_icon_url = lower(app_icon_url) WHERE id = NEW.id; END IF; RETURN NULL; END$$",
        "CREATE CONSTRAINT TRIGGER meddle AFTER UPDATE ON app_submissions"
        " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION meddle()",
    ]
    drop = ["DROP TRIGGER meddle ON app_submissions", "DROP FUNCTION meddle()"]
    rewrites = [renamed(each) for each in references("postgres", MODEL)]

    with statements("postgres", make, drop):
        assert swapped(rewrites, journal) == {Swapped.REFUSED: 2}

    assert icons("postgres") == [OLD] * 2


def test_a_rule_that_stores_something_else_is_seen(journal):
    submissions("postgres", 2, app_icon_url=OLD)
    make = [
        "CREATE RULE meddle AS ON UPDATE TO app_submissions DO ALSO"
        " DELETE FROM app_submissions WHERE id = NEW.id"
    ]
    rewrites = [renamed(each) for each in references("postgres", MODEL)]

    with statements("postgres", make, ["DROP RULE meddle ON app_submissions"]):
        assert swapped(rewrites, journal) == {Swapped.REFUSED: 2}

    assert icons("postgres") == [OLD] * 2


def test_a_generated_column_is_refused_and_other_columns_go_on(alias, journal):
    vendor = connections[alias].vendor
    table = "app_submissions"
    kind = "varchar(200)" if vendor != "sqlite" else "text"
    stored = "VIRTUAL" if vendor == "sqlite" else "STORED"
    make = [
        f"ALTER TABLE {table} DROP COLUMN main_image_en",
        f"ALTER TABLE {table} ADD COLUMN main_image_en {kind}"
        f" GENERATED ALWAYS AS (app_icon_url) {stored}",
    ]
    drop = [
        f"ALTER TABLE {table} DROP COLUMN main_image_en",
        f"ALTER TABLE {table} ADD COLUMN main_image_en varchar(200) NOT NULL DEFAULT ''",
    ]
    submissions(alias, 1, app_icon_url=OLD)
    with statements(alias, make, drop):
        found = references(alias, MODEL, "main_image_en")
        assert swapped([renamed(each) for each in found], journal) == {Swapped.REFUSED: 1}
        found = references(alias, MODEL, "app_icon_url")
        assert swapped([renamed(each) for each in found], journal) == {Swapped.DONE: 1}
        assert icons(alias) == [NEW]


def test_all_rows_stay_when_one_of_a_picture_is_altered(alias, journal):
    pks = submissions(alias, 3, app_icon_url=OLD)
    rewrites = [renamed(each) for each in references(alias, MODEL)]

    with trigger(alias, "app_icon_url", lowering(alias, f"id = {pks[2]}")):
        assert swap_all(rewrites, journal, control=Control()) is Swapped.REFUSED

    assert icons(alias) == [OLD] * 3
    assert not Change.objects.using(alias).exists()


def test_an_altered_element_of_json_is_refused(alias, journal):
    vendor = connections[alias].vendor
    submissions(alias, 2, screenshots_en=[OLD])
    lower = "lower(screenshots_en{})"
    body = {
        "postgresql": ROW.format(f"screenshots_en = {lower.format('::text')}::jsonb"),
        "sqlite": ROW.format(f"screenshots_en = {lower.format('')}"),
        "mysql": "SET NEW.screenshots_en = LOWER(NEW.screenshots_en)",
    }[vendor]
    rewrites = [renamed(each) for each in references(alias, MODEL)]

    with trigger(alias, "screenshots_en", body):
        ended = details(rewrites, journal)

    assert ended == [(Swapped.REFUSED, f"the database stored {NEW.lower()!r} instead")] * 2


def test_json_that_the_database_escapes_its_own_way_counts_as_written(alias, journal):
    Gallery.objects.using(alias).create(content={"é": f"{BASE}old é.png", "n": 1.5, "": "\t/"})
    found = references(alias, "oddities.Gallery")
    rewrites = [Rewrite(reference=each, new=f'{BASE}new é\u2028 "q".png') for each in found]

    assert swapped(rewrites, journal) == {Swapped.DONE: 1}

    content = Gallery.objects.using(alias).get().content
    assert content == {"é": f'{BASE}new é\u2028 "q".png', "n": 1.5, "": "\t/"}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ('["\\u00e9", 1]', '["é", 1]', True),
        ('{"a": "\\/"}', '{"a": "/"}', True),
        ('{"a": "b"}', '{"a":"b"}', False),
        ('{"a": "b", "n": 1.0}', '{"a": "b", "n": 1}', False),
        ('{"a": "b"}', '{"a": "c"}', False),
        ('{"a": "b"}', '{"a": "b", "c": "d"}', False),
        ("not json", '"b"', False),
    ],
)
def test_json_texts_are_the_same_when_only_escapes_differ(one, other, same):
    assert is_same(one, other) is same
    assert is_same(other, one) is same


# Through the commands


def test_a_migration_that_a_trigger_alters_fails_and_takes_nothing_away(project, alias):
    picture(project, "pictures/Photo.png")
    submission(alias, app_icon_url="/media/pictures/Photo.png")

    with trigger(alias, "app_icon_url", lowering(alias)):
        done = apply("migrate_media_to_r2", exit_code=3)

    assert (done["summary"]["rewritten"], done["summary"]["still_named"]) == (0, 1)
    reason = done["items"][0]["reason"]
    assert reason.startswith("refused: the database stored 'https://media.example.org/")
    assert icons(alias) == ["/media/pictures/Photo.png"]
    kept = apply("migrate_media_to_r2", "--remove-local", done["run_id"], exit_code=3)
    assert [item["reason"] for item in kept["items"]] == ["named"]
    assert (project / "media" / "pictures" / "Photo.png").exists()


def test_an_undo_that_a_trigger_alters_fails_and_can_be_tried_again(project, alias):
    picture(project, "pictures/Photo.png")
    submission(alias, app_icon_url="/media/pictures/Photo.png")
    run_id = apply("migrate_media_to_r2")["run_id"]
    moved = icons(alias)

    with trigger(alias, "app_icon_url", lowering(alias)):
        undone = apply("r2_runs", run_id, "--undo", exit_code=3)

    told = "The database stored '/media/pictures/photo.png' instead."
    assert [item["reason"] for item in undone["items"]] == [told]
    assert icons(alias) == moved
    assert run("r2_runs", run_id, "--undo")["summary"]["to_undo"] == 1
    apply("r2_runs", run_id, "--undo")
    assert icons(alias) == ["/media/pictures/Photo.png"]


def test_a_repair_that_a_trigger_alters_fails_with_what_came_back(project: Path, alias, settings):
    settings.R2MAINT |= {"ALIASES": ["https://Old.example.org/"]}
    picture(project, "pictures/Photo.png")
    submission(alias, app_icon_url="/media/pictures/Photo.png")
    apply("migrate_media_to_r2")
    before = icons(alias)[0].replace("media.example.org", "old.example.org")
    AppSubmission.objects.using(alias).update(app_icon_url=before)

    with trigger(alias, "app_icon_url", lowering(alias)):
        done = apply("verify_urls", "--repair", "alias", exit_code=3)

    assert "the database stored" in json.dumps(done)
    assert icons(alias) == [before]
