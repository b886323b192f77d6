"""Compare-and-swap of cells: a concurrent edit wins, and nothing else is lost."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections, transaction
from django.db.models import signals as model_signals
from django.test.utils import CaptureQueriesContext

from r2maint.control import Control
from r2maint.database import connections as databases
from r2maint.errors import DatabaseError, LeaseHeld
from r2maint.journal.journal import Journal, open_journal
from r2maint.models import Change, ChangeState
from r2maint.references.edit_cell import Rewrite, Swapped
from r2maint.references.reference import Reference
from r2maint.references.rewrite import swap_all
from r2maint.signals import rows_rewritten
from tests.appdirectory.models import App, AppSubmission
from tests.conftest import DATABASES
from tests.oddities.models import Gallery, Listing, PromotedListing
from tests.worlds.rewriting import BASE, references, renamed, submissions, swapped

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=DATABASES),
    pytest.mark.usefixtures("project"),
]


@pytest.fixture
def journal() -> Journal:
    return open_journal(command="test", bucket="quran-apps", options={})


@contextmanager
def editor(alias: str) -> Iterator[Callable[..., None]]:
    """Somebody else at work: SQL through a connection of their own, committed at once."""
    other = connections[alias].copy()

    def edit(statement: str, *params: Any) -> None:
        with other.cursor() as cursor:
            cursor.execute(statement, params)
            assert cursor.rowcount == 1

    try:
        yield edit
    finally:
        other.close()


@contextmanager
def before_each_update(
    alias: str, table: str, pks: list[Any], edit: Callable[[Any], None]
) -> Iterator[list[Any]]:
    """Run `edit(pk)` for every row after it was read and before its UPDATE; gives the pks edited.

    On a server: right before the UPDATE itself. SQLite: at the last moment another writer can
    commit, before the first statement of our transaction takes the database's only write lock.
    """
    edited: list[Any] = []

    def hook(execute, sql, params, many, context):
        due = []
        if alias == "default" and sql.startswith('INSERT INTO "r2maint_change"'):
            due = pks
        elif alias != "default" and sql.replace("`", '"').startswith(f'UPDATE "{table}"'):
            # One row's UPDATE, or one of many rows at once.
            written = params[0] if isinstance(params[0], list) else params
            due = [pk for pk in pks if pk in written]
        for pk in due:
            if pk not in edited:
                edited.append(pk)
                edit(pk)
        return execute(sql, params, many, context)

    with connections[alias].execute_wrapper(hook):
        yield edited


def test_an_edit_of_a_url_between_read_and_update_wins(alias, journal):
    pks = submissions(alias, 110, app_icon_url=f"{BASE}old.png")
    rewrites = [renamed(r) for r in references(alias, "appdirectory.AppSubmission")]
    with ExitStack() as stack:
        sql = stack.enter_context(editor(alias))
        edited = stack.enter_context(
            before_each_update(
                alias,
                "app_submissions",
                pks,
                lambda pk: sql(
                    "UPDATE app_submissions SET app_icon_url = %s WHERE id = %s", f"theirs {pk}", pk
                ),
            )
        )
        assert swapped(rewrites, journal) == {Swapped.CHANGED: 110}
    assert len(edited) == 110
    rows = AppSubmission.objects.using(alias).values_list("pk", "app_icon_url")
    assert dict(rows) == {pk: f"theirs {pk}" for pk in pks}
    assert not Change.objects.using(alias).exclude(state=ChangeState.CONFLICT).exists()


def test_an_edit_of_a_json_element_between_read_and_update_wins(alias, journal):
    pks = submissions(alias, 110, screenshots_en=[f"{BASE}a.png", f"{BASE}old.png"])
    found = references(alias, "appdirectory.AppSubmission")
    rewrites = [renamed(r) for r in found if r.path == "/1"]
    with ExitStack() as stack:
        sql = stack.enter_context(editor(alias))
        edited = stack.enter_context(
            before_each_update(
                alias,
                "app_submissions",
                pks,
                lambda pk: sql(
                    "UPDATE app_submissions SET screenshots_en = %s WHERE id = %s",
                    json.dumps([f"{BASE}a.png", "theirs"]),
                    pk,
                ),
            )
        )
        assert swapped(rewrites, journal) == {Swapped.CHANGED: 110}
    assert len(edited) == 110
    rows = AppSubmission.objects.using(alias).values_list("screenshots_en", flat=True)
    assert list(rows) == [[f"{BASE}a.png", "theirs"]] * 110


def test_an_edit_of_an_inherited_column_between_read_and_update_wins(alias, journal):
    with transaction.atomic(using=alias):
        for _ in range(110):
            PromotedListing.objects.using(alias).create(cover_url=f"{BASE}old.png", notes="n")
    pks = list(Listing.objects.using(alias).values_list("pk", flat=True))
    rewrites = [renamed(r) for r in references(alias, "oddities.Listing", "cover_url")]
    with ExitStack() as stack:
        sql = stack.enter_context(editor(alias))
        edited = stack.enter_context(
            before_each_update(
                alias,
                "oddities_listing",
                pks,
                lambda pk: sql(
                    "UPDATE oddities_listing SET cover_url = %s WHERE id = %s", "theirs", pk
                ),
            )
        )
        assert swapped(rewrites, journal) == {Swapped.CHANGED: 110}
    assert len(edited) == 110
    rows = PromotedListing.objects.using(alias).values_list("cover_url", flat=True)
    assert list(rows) == ["theirs"] * 110


def test_edits_beside_the_rewritten_element_and_the_rewrite_are_both_kept(alias, journal):
    pks = submissions(
        alias, 40, app_icon_url=f"{BASE}old.png", screenshots_en=["a", f"{BASE}old.png"]
    )
    rewrites = [renamed(r) for r in references(alias, "appdirectory.AppSubmission")]
    statement = "UPDATE app_submissions SET status = 'mine', screenshots_en = %s WHERE id = %s"
    with ExitStack() as stack:
        sql = stack.enter_context(editor(alias))
        edited = stack.enter_context(
            before_each_update(
                alias,
                "app_submissions",
                pks,
                lambda pk: sql(statement, f'[ "theirs" , "{BASE}old.png" ]', pk),
            )
        )
        assert swapped(rewrites, journal) == {Swapped.DONE: 80}
    assert len(edited) == 40
    rows = AppSubmission.objects.using(alias).values_list(
        "status", "app_icon_url", "screenshots_en"
    )
    assert list(rows) == [("mine", f"{BASE}new.png", ["theirs", f"{BASE}new.png"])] * 40
    states = Change.objects.using(alias).values_list("state", flat=True)
    assert list(states) == [ChangeState.DONE] * 80


def test_an_edit_that_is_committed_while_the_update_waits_for_it_wins(server, journal):
    pks = submissions(server, 5, app_icon_url=f"{BASE}old.png")
    rewrites = [renamed(r) for r in references(server, "appdirectory.AppSubmission")]
    other = connections[server].copy()
    other.set_autocommit(False)
    other.inc_thread_sharing()
    committing = threading.Timer(0.3, other.commit)

    def edit_and_commit_later(pk):
        with other.cursor() as cursor:
            cursor.execute("UPDATE app_submissions SET app_icon_url = 'theirs' WHERE id = %s", [pk])
        committing.start()

    with before_each_update(server, "app_submissions", pks[2:3], edit_and_commit_later):
        found = swapped(rewrites, journal)
    committing.join()
    other.close()

    assert found == {Swapped.CHANGED: 1, Swapped.DONE: 4}
    values = (
        AppSubmission.objects.using(server).order_by("pk").values_list("app_icon_url", flat=True)
    )
    assert list(values) == [f"{BASE}new.png"] * 2 + ["theirs"] + [f"{BASE}new.png"] * 2
    lines = Change.objects.using(server).order_by("pk").values_list("row", "state")
    assert dict(lines)[str(pks[2])] == ChangeState.CONFLICT


def test_a_row_deleted_meanwhile_is_gone(alias, journal):
    pks = submissions(alias, 3, app_icon_url=f"{BASE}old.png")
    rewrites = [renamed(r) for r in references(alias, "appdirectory.AppSubmission")]
    AppSubmission.objects.using(alias).filter(pk=pks[0]).delete()
    with ExitStack() as stack:
        sql = stack.enter_context(editor(alias))
        stack.enter_context(
            before_each_update(
                alias,
                "app_submissions",
                pks[1:2],
                lambda pk: sql("DELETE FROM app_submissions WHERE id = %s", pk),
            )
        )
        assert swapped(rewrites, journal) == {Swapped.GONE: 2, Swapped.DONE: 1}


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        pytest.param(
            '[  "https:\\/\\/media.example.org\\/old.png" ]',
            '[  "https:\\/\\/media.example.org\\/new.png" ]',
            id="escaped-slashes-and-spacing",
        ),
        pytest.param(
            '{"صورة": "https://media.example.org/old.png", "n": 1.1000000000000000000000000001}',
            '{"صورة": "https://media.example.org/new.png", "n": 1.1000000000000000000000000001}',
            id="raw-arabic-and-a-long-decimal",
        ),
        pytest.param(
            '{"u":"https://media.example.org/old.png","u":"https://media.example.org/old.png"}',
            '{"u":"https://media.example.org/new.png","u":"https://media.example.org/new.png"}',
            id="duplicate-keys",
        ),
        pytest.param(
            '["https://media.example.org/old%20\\u0642.png"]',
            '["https://media.example.org/new%20\\u0642.png"]',
            id="escaped-arabic",
        ),
    ],
)
@pytest.mark.parametrize("column_type", ["json", "jsonb"])
def test_only_the_characters_of_the_token_change(alias, journal, stored, expected, column_type):
    if alias != "postgres" and column_type == "jsonb":
        pytest.skip("only PostgreSQL has two JSON column types")
    row = Gallery.objects.using(alias).create()
    with connections[alias].cursor() as cursor:
        if alias == "postgres":
            cursor.execute(f"ALTER TABLE oddities_gallery ALTER content TYPE {column_type}")
        cursor.execute("UPDATE oddities_gallery SET content = %s", [stored])
    rewrites = [renamed(r) for r in references(alias, "oddities.Gallery")]
    assert set(swapped(rewrites, journal)) == {Swapped.DONE}
    with connections[alias].cursor() as cursor:
        text = "content::text" if alias == "postgres" else "content"
        cursor.execute(f"SELECT {text} FROM oddities_gallery")
        ((now,),) = cursor.fetchall()
        if column_type == "jsonb":
            cursor.execute("SELECT %s::jsonb::text", [expected])  # jsonb keeps no spelling
            ((expected,),) = cursor.fetchall()
        if alias == "postgres":
            cursor.execute("ALTER TABLE oddities_gallery ALTER content TYPE jsonb")
    assert now == expected
    assert Change.objects.using(alias).first().row == str(row.pk)


def test_values_that_differ_only_in_case_are_not_the_same(alias, journal):
    (pk,) = submissions(alias, 1, app_icon_url=f"{BASE}old.png")
    rewrites = [renamed(r) for r in references(alias, "appdirectory.AppSubmission")]
    row = AppSubmission.objects.using(alias).filter(pk=pk)
    row.update(app_icon_url=f"{BASE}OLD.png")
    assert swapped(rewrites, journal) == {Swapped.CHANGED: 1}
    assert row.get().app_icon_url == f"{BASE}OLD.png"


@pytest.fixture
def texts(settings) -> None:
    """Addresses inside longer text count in these columns."""
    rules = {
        "oddities.Gallery": {"content": {"text": True}},
        "appdirectory.AppSubmission": {
            "description_en": {"text": True},
            "app_name_en": {"text": True},
        },
    }
    settings.R2MAINT = {**settings.R2MAINT, "FIELDS": rules}


TEXT = (
    "<img src='/media/old.png'> /media/old.png, /media/old.png.bak /other/media/old.png"
    f" ![](/media/second.png) {BASE}media/new.png"
)
SWAPPED = (
    f"<img src='{BASE}media/new.png'> {BASE}media/new.png, /media/old.png.bak"
    f" /other/media/old.png ![]({BASE}media/second.png) {BASE}media/new.png"
)


def uploaded(reference: Reference) -> Rewrite:
    """Point a reference at what a migration would have stored."""
    key = f"media/{reference.target.key}".replace("old", "new")
    return Rewrite(reference=reference, new=BASE + key, key=key)


def local(alias: str, model: str) -> list[Rewrite]:
    found = references(alias, model)
    return [uploaded(r) for r in found if r.value in ("/media/old.png", "/media/second.png")]


@pytest.mark.usefixtures("texts")
def test_addresses_inside_a_text_are_exchanged_in_one_update_and_nothing_else_is(alias, journal):
    (pk,) = submissions(alias, 1, description_en=TEXT)
    rewrites = local(alias, "appdirectory.AppSubmission")
    updates = []

    def count(execute, sql, params, many, context):
        updates.append(sql.replace("`", '"').startswith('UPDATE "app_submissions"'))
        return execute(sql, params, many, context)

    with connections[alias].execute_wrapper(count):
        assert swapped(rewrites, journal) == {Swapped.DONE: 2}
    assert sum(updates) == 1
    assert AppSubmission.objects.using(alias).get(pk=pk).description_en == SWAPPED
    lines = Change.objects.using(alias).values_list("shape", "old", "new", "made", "path")
    assert list(lines) == [
        ("embedded", "/media/old.png", f"{BASE}media/new.png", [True, True, False], ""),
        ("embedded", "/media/second.png", f"{BASE}media/second.png", [True], ""),
    ]


@pytest.mark.usefixtures("texts")
@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (
            '{"a":[ "<b>\\u003c\\/b> \\/media\\/old.png \\ud83d\\ude00 \\u0642" ]}',
            '{"a":[ "<b>\\u003c\\/b> https:\\/\\/media.example.org\\/media\\/new.png'
            ' \\ud83d\\ude00 \\u0642" ]}',
        ),
        (
            '{"ق":"صورة /media/old.png \\"/media/old.png\\" \\t"}',
            f'{{"ق":"صورة {BASE}media/new.png \\"{BASE}media/new.png\\" \\t"}}',
        ),
        (
            '{"u":"at /media/old.png","u":"see /media/old.png"}',
            f'{{"u":"at {BASE}media/new.png","u":"see {BASE}media/new.png"}}',
        ),
    ],
    ids=["escapes", "raw-arabic", "duplicate-keys"],
)
def test_only_the_characters_of_the_address_change_inside_json(alias, journal, stored, expected):
    Gallery.objects.using(alias).create()
    with connections[alias].cursor() as cursor:
        if alias == "postgres":
            cursor.execute("ALTER TABLE oddities_gallery ALTER content TYPE json")
        cursor.execute("UPDATE oddities_gallery SET content = %s", [stored])
    rewrites = dict.fromkeys(uploaded(r) for r in references(alias, "oddities.Gallery"))
    assert set(swapped(list(rewrites), journal)) == {Swapped.DONE}
    with connections[alias].cursor() as cursor:
        text = "content::text" if alias == "postgres" else "content"
        cursor.execute(f"SELECT {text} FROM oddities_gallery")
        ((now,),) = cursor.fetchall()
        if alias == "postgres":
            cursor.execute("ALTER TABLE oddities_gallery ALTER content TYPE jsonb")
    assert now == expected


@pytest.mark.usefixtures("texts")
@pytest.mark.parametrize(
    ("theirs", "after", "outcomes", "made"),
    [
        (
            f"Now {BASE}media/new.png and /media/old.png; /media/second.png",
            f"Now {BASE}media/new.png and {BASE}media/new.png; {BASE}media/second.png",
            {Swapped.DONE: 2},
            [[False, True], [True]],
        ),
        (
            "Now /media/theirs.png; /media/second.png",
            f"Now /media/theirs.png; {BASE}media/second.png",
            {Swapped.DONE: 1, Swapped.CHANGED: 1},
            [[True], [True]],
        ),
    ],
    ids=["beside", "of-the-address"],
)
def test_an_edit_of_an_address_wins_and_one_beside_it_is_kept(
    alias, journal, theirs, after, outcomes, made
):
    (pk,) = submissions(alias, 1, description_en="At /media/old.png and /media/second.png")
    rewrites = local(alias, "appdirectory.AppSubmission")
    statement = "UPDATE app_submissions SET description_en = %s WHERE id = %s"
    with ExitStack() as stack:
        sql = stack.enter_context(editor(alias))
        stack.enter_context(
            before_each_update(
                alias, "app_submissions", [pk], lambda pk: sql(statement, theirs, pk)
            )
        )
        assert swapped(rewrites, journal) == outcomes
    assert AppSubmission.objects.using(alias).get(pk=pk).description_en == after
    lines = Change.objects.using(alias).order_by("pk")
    assert [line.made for line in lines] == made
    lost = [line.old for line in lines if line.state == ChangeState.CONFLICT]
    assert lost == (["/media/old.png"] if Swapped.CHANGED in outcomes else [])


@pytest.mark.usefixtures("texts")
def test_the_whole_text_must_fit_its_column(alias, journal):
    fits, too_long = "x /media/old.png", "x" * 180 + " /media/old.png"
    rows = [
        AppSubmission(tracking_id=f"QAD-{number}", app_name_en=name)
        for number, name in enumerate((fits, too_long))
    ]
    AppSubmission.objects.using(alias).bulk_create(rows)
    rewrites = local(alias, "appdirectory.AppSubmission")
    assert swapped(rewrites, journal) == {Swapped.DONE: 1, Swapped.TOO_LONG: 1}
    names = AppSubmission.objects.using(alias).order_by("pk").values_list("app_name_en", flat=True)
    assert list(names) == [f"x {BASE}media/new.png", too_long]
    assert Change.objects.using(alias).count() == 1


@pytest.mark.usefixtures("texts")
def test_an_address_that_its_text_would_swallow_is_refused(alias, journal):
    text = "![](/media/old.png)"
    submissions(alias, 1, description_en=text)
    (reference,) = references(alias, "appdirectory.AppSubmission")
    rewrites = [Rewrite(reference=reference, new=f"{BASE}a b).png")]
    assert swapped(rewrites, journal) == {Swapped.REFUSED: 1}
    assert AppSubmission.objects.using(alias).get().description_en == text
    assert not Change.objects.using(alias).exists()


@pytest.mark.usefixtures("texts")
def test_swapping_addresses_inside_text_again_does_nothing(alias, journal):
    submissions(alias, 1, description_en=TEXT)
    rewrites = local(alias, "appdirectory.AppSubmission")
    assert swapped(rewrites, journal) == {Swapped.DONE: 2}
    assert swapped(rewrites, journal) == {Swapped.DONE: 2}
    assert Change.objects.using(alias).count() == 2


def test_a_value_longer_than_its_column_writes_nothing(alias, journal):
    submissions(alias, 1, app_icon_url=f"{BASE}old.png")
    (reference,) = references(alias, "appdirectory.AppSubmission")
    rewrites = [Rewrite(reference=reference, new=BASE + "x" * 200)]
    assert swapped(rewrites, journal) == {Swapped.TOO_LONG: 1}
    assert not Change.objects.using(alias).exists()


def test_swapping_again_does_nothing_and_journals_nothing(alias, journal):
    submissions(alias, 2, app_icon_url=f"{BASE}old.png")
    rewrites = [renamed(r) for r in references(alias, "appdirectory.AppSubmission")]
    assert swapped(rewrites, journal) == {Swapped.DONE: 2}
    assert swapped(rewrites, journal) == {Swapped.DONE: 2}
    assert Change.objects.using(alias).count() == 2


def test_width_and_height_follow_and_their_old_values_are_journalled(alias, journal):
    App.objects.using(alias).bulk_create([App(name_en="a")])
    App.objects.using(alias).update(application_icon="old.png", icon_width=1, icon_height=2)
    (reference,) = references(alias, "appdirectory.App", "application_icon")
    extra = {"icon_width": 10, "icon_height": 20}
    rewrites = [Rewrite(reference=reference, new="new.webp", extra=extra)]
    assert swapped(rewrites, journal) == {Swapped.DONE: 1}
    row = App.objects.using(alias).values_list("application_icon", "icon_width", "icon_height")
    assert row.get() == ("new.webp", 10, 20)
    assert Change.objects.using(alias).get().extra == {
        "icon_width": [1, 10],
        "icon_height": [2, 20],
    }


def test_a_locked_row_does_not_stop_the_others(server, journal, monkeypatch):
    monkeypatch.setattr(databases, "LOCK_TIMEOUT", timedelta(milliseconds=50))
    pks = submissions(server, 3, app_icon_url=f"{BASE}old.png")
    rewrites = [renamed(r) for r in references(server, "appdirectory.AppSubmission")]
    other = connections[server].copy()
    try:
        other.set_autocommit(False)
        with other.cursor() as cursor:
            cursor.execute("SELECT 1 FROM app_submissions WHERE id = %s FOR UPDATE", [pks[1]])
        assert swapped(rewrites, journal) == {Swapped.DONE: 2, Swapped.BUSY: 1}
    finally:
        other.close()
    assert Change.objects.using(server).count() == 2


@contextmanager
def new_url_only_once(alias: str) -> Iterator[None]:
    """Let the database refuse a second submission whose icon is the new one."""
    make, drop = (
        "CREATE UNIQUE INDEX once ON app_submissions (app_icon_url)"
        f" WHERE app_icon_url = '{BASE}new.png'",
        "DROP INDEX once",
    )
    if alias == "mariadb":
        url = f"IF(app_icon_url = '{BASE}new.png', app_icon_url, NULL)"
        make = f"ALTER TABLE app_submissions ADD once varchar(200) AS ({url}) STORED UNIQUE"
        drop = "ALTER TABLE app_submissions DROP once"
    with connections[alias].cursor() as cursor:
        cursor.execute(make)
        try:
            yield
        finally:
            cursor.execute(drop)


def test_a_value_the_database_refuses_does_not_stop_the_others(alias, journal):
    pks = submissions(alias, 3, app_icon_url=f"{BASE}old.png")
    rewrites = [renamed(r) for r in references(alias, "appdirectory.AppSubmission")]
    with new_url_only_once(alias):
        assert swapped(rewrites, journal) == {Swapped.DONE: 1, Swapped.REFUSED: 2}
    values = AppSubmission.objects.using(alias).order_by("pk").values_list("app_icon_url")
    assert list(values) == [(f"{BASE}new.png",), *[(f"{BASE}old.png",)] * (len(pks) - 1)]


@contextmanager
def forbidding_trigger(alias: str, pk: int, how: str) -> Iterator[None]:
    """Let the database itself refuse every update of one submission: aloud, or without a word."""
    if alias == "postgres":
        act = "RAISE EXCEPTION 'no'" if how == "raises" else "RETURN NULL"
        make = [
            "CREATE FUNCTION forbid() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$ BEGIN IF OLD.id = {pk} THEN {act}; END IF; RETURN NEW; END $$",
            "CREATE TRIGGER forbid BEFORE UPDATE ON app_submissions"
            " FOR EACH ROW EXECUTE FUNCTION forbid()",
        ]
        drop = ["DROP TRIGGER forbid ON app_submissions", "DROP FUNCTION forbid()"]
    elif alias == "mariadb":
        if how == "ignores":
            pytest.skip("no trigger of MariaDB can pass over a row")
        act = "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no'"
        make = [
            "CREATE TRIGGER forbid BEFORE UPDATE ON app_submissions"
            f" FOR EACH ROW BEGIN IF OLD.id = {pk} THEN {act}; END IF; END"
        ]
        drop = ["DROP TRIGGER forbid"]
    else:
        act = "RAISE(ABORT, 'no')" if how == "raises" else "RAISE(IGNORE)"
        make = [
            "CREATE TRIGGER forbid BEFORE UPDATE ON app_submissions"
            f" WHEN OLD.id = {pk} BEGIN SELECT {act}; END"
        ]
        drop = ["DROP TRIGGER forbid"]
    with connections[alias].cursor() as cursor:
        for statement in make:
            cursor.execute(statement)
        try:
            yield
        finally:
            for statement in drop:
                cursor.execute(statement)


@pytest.mark.parametrize("how", ["raises", "ignores"])
def test_a_trigger_that_forbids_one_row_does_not_stop_the_others(alias, journal, how):
    pks = submissions(alias, 3, app_icon_url=f"{BASE}old.png")
    rewrites = [renamed(r) for r in references(alias, "appdirectory.AppSubmission")]
    with forbidding_trigger(alias, pks[1], how):
        assert swapped(rewrites, journal) == {Swapped.DONE: 2, Swapped.REFUSED: 1}
    values = AppSubmission.objects.using(alias).order_by("pk").values_list("app_icon_url")
    assert list(values) == [(f"{BASE}new.png",), (f"{BASE}old.png",), (f"{BASE}new.png",)]
    done = Change.objects.using(alias).filter(state=ChangeState.DONE)
    assert sorted(done.values_list("row", flat=True)) == sorted([str(pks[0]), str(pks[2])])


def test_an_open_transaction_is_refused(alias, journal):
    submissions(alias, 1, app_icon_url=f"{BASE}old.png")
    rewrites = [renamed(r) for r in references(alias, "appdirectory.AppSubmission")]
    with transaction.atomic(using=alias), pytest.raises(DatabaseError, match="transaction is open"):
        swapped(rewrites, journal)


def test_the_lease_is_asked_before_each_transaction(alias, journal):
    class LostLease:
        def check(self) -> None:
            raise LeaseHeld("The lease is somebody else's.")

    submissions(alias, 1, app_icon_url=f"{BASE}old.png")
    rewrites = [renamed(r) for r in references(alias, "appdirectory.AppSubmission")]
    journal.lease = LostLease()
    with pytest.raises(LeaseHeld):
        swapped(rewrites, journal)
    assert AppSubmission.objects.using(alias).get().app_icon_url == f"{BASE}old.png"


def test_rows_are_announced_after_commit_and_no_model_signal_is_sent(alias, journal):
    pks = submissions(alias, 2, app_icon_url=f"{BASE}old.png")
    rewrites = [renamed(r) for r in references(alias, "appdirectory.AppSubmission")]
    heard: list[dict[str, Any]] = []

    def listen(sender, signal, **facts):
        facts["open"] = connections[alias].in_atomic_block
        heard.append({"sender": sender, **facts})

    def forbid(sender, **facts):
        raise AssertionError("a model signal was sent")

    rows_rewritten.connect(listen)
    model_signals.pre_save.connect(forbid, sender=AppSubmission)
    try:
        swapped(rewrites, journal)
    finally:
        rows_rewritten.disconnect(listen)
        model_signals.pre_save.disconnect(forbid, sender=AppSubmission)
    assert heard == [
        {
            "sender": AppSubmission,
            "using": alias,
            "pks": tuple(pks),
            "fields": ("app_icon_url",),
            "run_id": journal.run_id,
            "open": False,
        }
    ]


def test_nothing_reaches_the_rows_when_the_journal_cannot_be_written(alias, journal):
    submissions(alias, 1, app_icon_url=f"{BASE}old.png")
    rewrites = [renamed(r) for r in references(alias, "appdirectory.AppSubmission")]
    with connections[alias].cursor() as cursor:
        cursor.execute("ALTER TABLE r2maint_change RENAME TO elsewhere")
        try:
            with pytest.raises(DatabaseError, match="tables are missing"):
                swapped(rewrites, journal)
        finally:
            cursor.execute("ALTER TABLE elsewhere RENAME TO r2maint_change")
    assert AppSubmission.objects.using(alias).get().app_icon_url == f"{BASE}old.png"


@contextmanager
def typed_as(table: str, column: str, kind: str) -> Iterator[None]:
    """A column that was made by other means than Django's migrations."""
    with connections["postgres"].cursor() as cursor:
        cursor.execute(
            "SELECT format_type(atttypid, atttypmod) FROM pg_attribute"
            " WHERE attrelid = %s::regclass AND attname = %s",
            [table, column],
        )
        (before,) = cursor.fetchone()
        change = f"ALTER TABLE {table} ALTER {column} TYPE"
        cursor.execute(f"{change} {kind} USING {column}::{kind}")
        try:
            yield
        finally:
            cursor.execute(f"{change} {before} USING {column}::text::{before}")


def test_rows_that_swap_the_same_cells_are_updated_in_one_statement_if_that_tells_which(
    alias, journal
):
    shots = [f"{BASE}old-1.png", f"{BASE}b.png"]
    submissions(alias, 3, app_icon_url=f"{BASE}old.png", screenshots_en=shots)
    rewrites = [renamed(r) for r in references(alias, "appdirectory.AppSubmission")]
    with CaptureQueriesContext(connections[alias]) as queries:
        assert swapped([r for r in rewrites if "new" in r.new], journal) == {Swapped.DONE: 6}
    updates = [query["sql"].replace("`", '"') for query in queries]
    # No UPDATE of MariaDB tells which rows it found as they were.
    count = 3 if alias == "mariadb" else 1
    assert sum('UPDATE "app_submissions"' in sql for sql in updates) == count
    rows = AppSubmission.objects.using(alias).values_list("app_icon_url", "screenshots_en")
    assert list(rows) == [(f"{BASE}new.png", [f"{BASE}new-1.png", f"{BASE}b.png"])] * 3


def test_a_json_column_of_postgresql_keeps_its_spelling_in_many_rows(journal):
    raw = '{"a":1,  "a":2.50, "url": "' + BASE + 'old.png"}'
    pks = submissions("postgres", 2)
    with (
        typed_as("app_submissions", "screenshots_en", "json"),
        connections["postgres"].cursor() as cursor,
    ):
        cursor.execute("UPDATE app_submissions SET screenshots_en = %s", [raw])
        found = references("postgres", "appdirectory.AppSubmission", "screenshots_en")

        assert swapped([renamed(each) for each in found], journal) == {Swapped.DONE: 2}

        cursor.execute("SELECT id, screenshots_en::text FROM app_submissions")
        assert dict(cursor.fetchall()) == dict.fromkeys(pks, raw.replace("old", "new"))


def test_values_are_never_cut_to_what_a_column_takes(journal, monkeypatch):
    field: Any = AppSubmission._meta.get_field("app_icon_url")
    monkeypatch.setattr(field, "db_type", lambda connection: "varchar(40)")
    submissions("postgres", 2, app_icon_url=f"{BASE}old.png")
    with typed_as("app_submissions", "app_icon_url", "varchar(40)"):
        found = references("postgres", "appdirectory.AppSubmission", "app_icon_url")
        rewrites = [Rewrite(reference=each, new=f"{BASE}{'a' * 40}.png") for each in found]

        assert swapped(rewrites, journal) == {Swapped.TOO_LONG: 2}

    urls = AppSubmission.objects.using("postgres").values_list("app_icon_url", flat=True)
    assert list(urls) == [f"{BASE}old.png"] * 2


def test_rows_go_one_by_one_where_a_column_has_a_type_of_its_own(journal):
    enum = "ENUM ('https://media.example.org/old.png', 'https://media.example.org/new.png', '')"
    with connections["postgres"].cursor() as cursor:
        cursor.execute(f"CREATE TYPE icon AS {enum}")
        try:
            submissions("postgres", 2, app_icon_url=f"{BASE}old.png")
            with typed_as("app_submissions", "app_icon_url", "icon"):
                found = references("postgres", "appdirectory.AppSubmission", "app_icon_url")
                ended = swapped([renamed(each) for each in found], journal)
        finally:
            cursor.execute("DROP TYPE icon")
    assert ended == {Swapped.DONE: 2}
    urls = AppSubmission.objects.using("postgres").values_list("app_icon_url", flat=True)
    assert list(urls) == [f"{BASE}new.png"] * 2


# All or none


def test_all_elements_are_exchanged_in_one_transaction(alias, journal):
    submissions(alias, 201, app_icon_url=f"{BASE}old.png", screenshots_en=[f"{BASE}old.png"])
    Listing.objects.using(alias).create(cover_url=f"{BASE}old.png")
    labels = ("appdirectory.AppSubmission", "oddities.Listing")
    rewrites = [renamed(each) for label in labels for each in references(alias, label)]
    announced: list[str] = []

    def hear(**facts: Any) -> None:
        announced.append(facts["sender"]._meta.label)

    rows_rewritten.connect(hear)
    try:
        with CaptureQueriesContext(connections[alias]) as queries:
            assert swap_all(rewrites, journal, control=Control()) is Swapped.DONE
    finally:
        rows_rewritten.disconnect(hear)

    assert sum(each["sql"].startswith("BEGIN") for each in queries) == 1
    urls = AppSubmission.objects.using(alias).values_list("app_icon_url", flat=True)
    assert set(urls) == {f"{BASE}new.png"}
    assert Listing.objects.using(alias).get().cover_url == f"{BASE}new.png"
    assert Change.objects.using(alias).filter(state="done").count() == 403
    assert announced == list(labels)


def test_one_element_edited_meanwhile_keeps_all_others_as_they_are(alias, journal):
    pks = submissions(alias, 3, app_icon_url=f"{BASE}old.png", screenshots_en=[f"{BASE}old.png"])
    rewrites = [renamed(each) for each in references(alias, "appdirectory.AppSubmission")]
    with editor(alias) as edit:

        def edit_row(pk: Any) -> None:
            edit("UPDATE app_submissions SET app_icon_url = 'mine' WHERE id = %s", pk)

        with before_each_update(alias, "app_submissions", pks[-1:], edit_row) as edited:
            assert swap_all(rewrites, journal, control=Control()) is Swapped.CHANGED

    assert edited == pks[-1:]
    rows = AppSubmission.objects.using(alias).order_by("pk")
    icons = [row.app_icon_url for row in rows]
    assert icons == [f"{BASE}old.png", f"{BASE}old.png", "mine"]
    assert all(row.screenshots_en == [f"{BASE}old.png"] for row in rows)
    assert not Change.objects.using(alias).exists()


def test_a_row_gone_keeps_all_others_as_they_are(alias, journal):
    pks = submissions(alias, 3, app_icon_url=f"{BASE}old.png")
    rewrites = [renamed(each) for each in references(alias, "appdirectory.AppSubmission")]
    AppSubmission.objects.using(alias).filter(pk=pks[1]).delete()
    assert swap_all(rewrites, journal, control=Control()) is Swapped.GONE
    urls = AppSubmission.objects.using(alias).values_list("app_icon_url", flat=True)
    assert set(urls) == {f"{BASE}old.png"}
    assert not Change.objects.using(alias).exists()


def test_a_locked_row_keeps_all_others_as_they_are(server, journal, monkeypatch):
    monkeypatch.setattr(databases, "LOCK_TIMEOUT", timedelta(milliseconds=20))
    pks = submissions(server, 3, app_icon_url=f"{BASE}old.png")
    rewrites = [renamed(each) for each in references(server, "appdirectory.AppSubmission")]
    other = connections[server].copy()
    try:
        other.set_autocommit(False)
        with other.cursor() as cursor:
            cursor.execute("SELECT 1 FROM app_submissions WHERE id = %s FOR UPDATE", [pks[1]])
        assert swap_all(rewrites, journal, control=Control()) is Swapped.BUSY
    finally:
        other.close()
    assert not Change.objects.using(server).exists()
    assert swap_all(rewrites, journal, control=Control()) is Swapped.DONE


def test_a_value_the_database_refuses_keeps_all_others_as_they_are(alias, journal):
    submissions(alias, 3, app_icon_url=f"{BASE}old.png")
    rewrites = [renamed(each) for each in references(alias, "appdirectory.AppSubmission")]
    with new_url_only_once(alias):
        assert swap_all(rewrites, journal, control=Control()) is Swapped.REFUSED
    urls = AppSubmission.objects.using(alias).values_list("app_icon_url", flat=True)
    assert set(urls) == {f"{BASE}old.png"}
    assert not Change.objects.using(alias).exists()


def test_what_is_exchanged_already_counts_as_done(alias, journal):
    submissions(alias, 3, app_icon_url=f"{BASE}old.png")
    rewrites = [renamed(each) for each in references(alias, "appdirectory.AppSubmission")]
    assert swapped(rewrites[:1], journal) == {Swapped.DONE: 1}
    assert swap_all(rewrites, journal, control=Control()) is Swapped.DONE
    assert Change.objects.using(alias).count() == 3
