"""Runs: listed, shown, and taken back."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from r2maint.bucket import Bucket, Headers, Upload, head, open_bucket, put
from r2maint.conf import Config, load
from r2maint.control import Control
from r2maint.errors import UsageError
from r2maint.journal.entries import Entry
from r2maint.journal.journal import Journal, iter_changes, open_journal
from r2maint.keys import Addresses
from r2maint.models import Change, ChangeKind, ChangeState, Run, RunState
from r2maint.references.discover_columns import discover
from r2maint.references.edit_cell import Rewrite, Swapped
from r2maint.references.read_rows import iter_references
from r2maint.references.reference import Reference
from r2maint.references.rewrite import swap
from r2maint.references.scope import Scope
from r2maint.runs.plan import list_runs, show_run
from r2maint.runs.undo.apply import apply_undo
from r2maint.runs.undo.plan import plan_undo
from r2maint.runs.undo.result import Only, Undo, UndoAction
from tests.appdirectory.models import App, AppSubmission
from tests.conftest import DATABASES
from tests.worlds.texts import another_alias

pytestmark = pytest.mark.django_db(databases=DATABASES)
BASE = "https://media.example.org/"
OLD = ("/media/a.png", f"{BASE}old/b.png")


@pytest.fixture
def config(project: Path) -> Config:
    (project / "media" / "a.png").write_bytes(b"a")
    config = load()
    put(open_bucket(config), Upload(key="old/b.png", body=b"b"))
    return config


@pytest.fixture
def bucket(config: Config) -> Bucket:
    return open_bucket(config)


def references(config: Config, alias: str) -> Iterator[Reference]:
    addresses = Addresses.from_config(config)
    scope = Scope(databases=(alias,))
    columns = discover(config, addresses, scope)
    return iter_references(columns, addresses, scope, control=Control())


def rows(alias: str) -> list[tuple[Any, ...]]:
    values = AppSubmission.objects.using(alias).order_by("pk")
    return list(values.values_list("app_icon_url", "screenshots_en"))


def migrated(config: Config, alias: str, count: int = 3) -> Journal:
    """A finished run that rewrote `count` rows of three references each."""
    AppSubmission.objects.using(alias).bulk_create(
        AppSubmission(tracking_id=f"Q{n}", app_icon_url=OLD[0], screenshots_en=[*OLD, "plain"])
        for n in range(count)
    )
    journal = open_journal(command="migrate_media_to_r2", bucket=config_name(config), options={})
    rewrites = [
        Rewrite(reference=r, new=f"{BASE}new/{r.target.key}", key=f"new/{r.target.key}")
        for r in references(config, alias)
    ]
    ended = [each.how for each in swap(rewrites, journal, control=Control())]
    assert ended == [Swapped.DONE] * 3 * count
    journal.finish(state=RunState.FINISHED, summary={"rewritten": len(ended)})
    return journal


def config_name(config: Config) -> str:
    return open_bucket(config).name


def planned(config: Config, run_id: str) -> Undo:
    addresses = Addresses.from_config(config)
    return plan_undo(run_id, config, addresses, open_bucket(config), control=Control())


def undone(config: Config, run_id: str, control: Control | None = None) -> Undo:
    journal = open_journal(command="r2_runs", bucket=config_name(config), options={"undo": run_id})
    outcome = apply_undo(
        planned(config, run_id),
        config,
        Addresses.from_config(config),
        open_bucket(config),
        journal,
        control=control or Control(),
    )
    state = RunState.STOPPED if outcome.stopped else RunState.FINISHED
    journal.finish(state=state, summary=outcome.summary())
    return outcome


def summary(run: str, *numbers: int, applied: bool = True) -> dict[str, Any]:
    names = ["undone", "restored"] if applied else ["to_undo", "to_restore"]
    return {"run": run, **dict(zip([*names, "skipped", "failed"], numbers, strict=True))}


def test_undo_puts_every_value_back(config, alias):
    run = migrated(config, alias).run_id
    assert rows(alias)[0][0] == f"{BASE}new/a.png"
    plan = planned(config, run)
    assert plan.summary() == summary(run, 9, 0, 0, 0, applied=False)
    assert plan.question == f"Put back 9 values and 0 objects of run {run}?"
    assert rows(alias)[0][0] == f"{BASE}new/a.png"
    assert undone(config, run).summary() == summary(run, 9, 0, 0, 0)
    assert rows(alias) == [(OLD[0], [*OLD, "plain"])] * 3
    assert Run.objects.get(pk=run).state == RunState.UNDONE


@pytest.fixture
def twin(db, alias, django_db_blocker) -> Iterator[None]:
    """A second alias of the same database, as projects have for a pool."""
    given = connections[alias].settings_dict
    with django_db_blocker.unblock(), another_alias("twin", given):
        yield


@pytest.mark.django_db(transaction=True, databases=DATABASES)
def test_a_database_with_two_aliases_is_undone_once(config, alias, twin):
    run = migrated(config, alias).run_id
    assert {change._state.db for change in iter_changes(run)} == {alias}
    assert undone(config, run).summary() == summary(run, 9, 0, 0, 0)
    assert rows(alias) == [(OLD[0], [*OLD, "plain"])] * 3


def test_a_second_undo_changes_nothing(config, alias):
    run = migrated(config, alias).run_id
    undone(config, run)
    before = Change.objects.using(alias).count()
    plan = planned(config, run)
    assert (plan.has_work, plan.findings, len(plan.items)) == (False, False, 0)
    assert undone(config, run).summary() == summary(run, 0, 0, 0, 0)
    assert Change.objects.using(alias).count() == before


def test_what_was_edited_since_stays(config, alias):
    run = migrated(config, alias).run_id
    first, second, third = AppSubmission.objects.using(alias).order_by("pk")
    every = AppSubmission.objects.using(alias)
    every.filter(pk=first.pk).update(app_icon_url="theirs")
    every.filter(pk=second.pk).update(screenshots_en=["theirs", *second.screenshots_en])
    third.delete(using=alias)
    outcome = undone(config, run)
    assert outcome.summary() == summary(run, 3, 0, 6, 0)
    reasons = {item.reason for item in outcome.items if item.action is UndoAction.SKIP}
    assert reasons == {"It was edited since.", "The row is gone."}
    assert rows(alias) == [
        ("theirs", [*OLD, "plain"]),
        (OLD[0], ["theirs", f"{BASE}new/a.png", f"{BASE}new/old/b.png", "plain"]),
    ]
    assert Run.objects.get(pk=run).state == RunState.UNDONE


def test_an_undo_that_skipped_everything_leaves_its_run_as_it_was(config, alias):
    run = migrated(config, alias, count=1).run_id
    every = AppSubmission.objects.using(alias)
    every.update(app_icon_url="theirs", screenshots_en=["theirs"])
    assert undone(config, run).summary() == summary(run, 0, 0, 3, 0)
    assert Run.objects.get(pk=run).state == RunState.FINISHED


def test_only_a_run_that_uploaded_is_told_what_stays_in_the_bucket(config, alias):
    journal = migrated(config, alias, count=1)
    assert not any("uploaded" in note for note in planned(config, journal.run_id).notes)
    upload = Entry(kind=ChangeKind.UPLOAD, key="new/a.png", state=ChangeState.DONE)
    journal.intend([upload])
    assert any("uploaded" in note for note in planned(config, journal.run_id).notes)


def test_an_undo_of_single_objects_leaves_the_rest_for_later(config, alias):
    run = migrated(config, alias).run_id
    at = config, Addresses.from_config(config), open_bucket(config)
    only = Only(keys=frozenset({"new/a.png"}))
    journal = open_journal(command="r2_runs", bucket=config_name(config), options={"undo": run})
    plan = plan_undo(run, *at, only=only, control=Control())
    outcome = apply_undo(plan, *at, journal, control=Control())
    journal.finish(state=RunState.FINISHED, summary={})
    assert outcome.summary() == summary(run, 6, 0, 0, 0)
    assert Run.objects.get(pk=run).state == RunState.FINISHED
    assert undone(config, run).summary() == summary(run, 3, 0, 0, 0)
    assert Run.objects.get(pk=run).state == RunState.UNDONE


def test_a_run_whose_copies_were_removed_says_so(config, bucket):
    purged = open_journal(command="purge_orphans", bucket=bucket.name, options={})
    copy = ".r2maint/quarantine/t/0"
    purged.intend([Entry(kind=ChangeKind.DELETE, old="gone.png", key="gone.png", new=copy)])
    purged.finish(state=RunState.FINISHED, summary={})
    assert not show_run(purged.run_id).notes
    about = {"empty_quarantine": True}
    emptied = open_journal(command="purge_orphans", bucket=bucket.name, options=about)
    lines = [
        Entry(kind=ChangeKind.DISCARD, new=name, row=purged.run_id, state=ChangeState.DONE)
        for name in (copy, ".r2maint/quarantine/t/manifest-0001")
    ]
    emptied.intend(lines)
    emptied.finish(state=RunState.FINISHED, summary={})
    (note,) = show_run(purged.run_id).notes
    assert note.startswith("1 copy of this run was removed from quarantine")
    (item,) = planned(config, purged.run_id).items
    assert (item.action, item.reason) == (UndoAction.FAIL, "Its copy is gone from quarantine.")
    with pytest.raises(UsageError, match="removed copies for good"):
        planned(config, emptied.run_id)


def test_a_value_whose_target_is_gone_does_not_come_back(config, alias, project, bucket):
    run = migrated(config, alias, count=1).run_id
    (project / "media" / "a.png").unlink()
    list(bucket.delete_many(["old/b.png"]))
    outcome = undone(config, run)
    assert outcome.summary() == summary(run, 0, 0, 0, 3)
    assert {item.reason for item in outcome.items} == {
        "There is no such local file: 'a.png'.",
        "The bucket does not hold its old object: 'old/b.png'.",
    }
    assert rows(alias)[0][0] == f"{BASE}new/a.png"
    assert Run.objects.get(pk=run).state == RunState.FINISHED


def test_a_value_that_means_nothing_today_does_not_come_back(config, alias, settings):
    run = migrated(config, alias, count=1).run_id
    settings.R2MAINT = {**settings.R2MAINT, "LOCAL_MEDIA": {}}
    (item, *_) = [i for i in planned(load(), run).items if i.change.old == OLD[0]]
    assert item.action is UndoAction.FAIL
    assert "LOCAL_MEDIA" in item.reason


def test_names_of_file_fields_and_their_dimensions_go_back(config, alias):
    App.objects.using(alias).bulk_create([App(name_en="a")])
    App.objects.using(alias).update(application_icon="a.png", icon_width=None, icon_height=2)
    (reference,) = references(config, alias)
    journal = open_journal(command="reoptimize", bucket=config_name(config), options={})
    extra = {"icon_width": 10, "icon_height": 20}
    rewrite = Rewrite(reference=reference, new="a.webp", extra=extra)
    list(swap([rewrite], journal, control=Control()))
    journal.finish(state=RunState.FINISHED, summary={})
    assert undone(config, journal.run_id).summary() == summary(journal.run_id, 1, 0, 0, 0)
    columns = ("application_icon", "icon_width", "icon_height")
    assert App.objects.using(alias).values_list(*columns).get() == ("a.png", None, 2)


def test_a_bare_name_goes_back_whether_or_not_its_field_is_still_named(config, alias, settings):
    row = AppSubmission.objects.using(alias).create(tracking_id="Q", app_icon_url="a.png")
    (reference,) = references(config, alias)
    journal = open_journal(command="reoptimize", bucket=config_name(config), options={})
    list(swap([Rewrite(reference=reference, new="a.webp")], journal, control=Control()))
    journal.finish(state=RunState.FINISHED, summary={})
    settings.R2MAINT = {**settings.R2MAINT, "FIELDS": {}}
    assert undone(load(), journal.run_id).summary() == summary(journal.run_id, 1, 0, 0, 0)
    row.refresh_from_db(using=alias)
    assert row.app_icon_url == "a.png"


def test_columns_that_are_gone_from_the_model_do_not_come_back(config, alias):
    run = migrated(config, alias, count=1).run_id
    changes = Change.objects.using(alias).filter(run_id=run)
    changes.filter(field="app_icon_url").update(extra={"a_column_of_old": [1, 2]})
    assert undone(config, run).summary() == summary(run, 3, 0, 0, 0)


def test_an_undo_killed_after_its_swap_is_completed(config, alias):
    run = migrated(config, alias).run_id
    undone(config, run)
    Change.objects.using(alias).filter(run_id=run).update(state=ChangeState.DONE)
    before = Change.objects.using(alias).count()
    assert undone(config, run).summary() == summary(run, 9, 0, 0, 0)
    assert Change.objects.using(alias).count() == before
    assert not planned(config, run).has_work


def test_a_stopped_undo_goes_on_under_its_own_id(config, alias):
    run = migrated(config, alias).run_id
    outcome = undone(config, run, Control(deadline=0))
    assert outcome.stopped.exit_code == 6
    assert outcome.summary() == summary(run, 0, 0, 0, 0)
    assert Run.objects.get(pk=run).state == RunState.FINISHED
    assert undone(config, run).summary() == summary(run, 9, 0, 0, 0)
    assert Run.objects.filter(command="r2_runs").count() == 1


def test_deleted_objects_come_back_from_quarantine(config, bucket):
    journal = open_journal(command="purge_orphans", bucket=bucket.name, options={})
    for key in ("gone.png", "taken.png", "lost.png"):
        copy = f".r2maint/quarantine/t/{key}"
        journal.intend([Entry(kind=ChangeKind.DELETE, key=key, new=copy)])
        if key != "lost.png":
            headers = Headers(content_type="image/png")
            put(bucket, Upload(key=copy, body=b"bytes", headers=headers))
    put(bucket, Upload(key="taken.png", body=b"others"))
    journal.finish(state=RunState.FINISHED, summary={})
    assert undone(config, journal.run_id).summary() == summary(journal.run_id, 0, 1, 0, 2)
    restored = head(bucket, "gone.png")
    assert (restored.size, restored.headers.content_type) == (5, "image/png")
    assert head(bucket, "taken.png").size == 6
    plan = planned(config, journal.run_id)
    assert {item.change.key for item in plan.items} == {"taken.png", "lost.png"}


@pytest.mark.parametrize(
    ("command", "bucket_name", "message"),
    [
        ("r2_runs", None, "is an undo"),
        ("migrate_media_to_r2", "elsewhere", "another bucket"),
    ],
)
def test_some_runs_cannot_be_undone(config, command, bucket_name, message):
    name = bucket_name or config_name(config)
    run = open_journal(command=command, bucket=name, options={}).run_id
    with pytest.raises(UsageError, match=message):
        planned(config, run)


def test_runs_are_listed_newest_first_and_shown_without_credentials(config):
    first = open_journal(command="migrate_media_to_r2", bucket="b", options={"limit": 3})
    signed = f"{BASE}a.png?X-Amz-Signature=abc123"
    first.intend([Entry(kind=ChangeKind.REWRITE, old=signed, new=signed)])
    first.finish(state=RunState.FINISHED, summary={"rewritten": 1})
    second = open_journal(command="reoptimize", bucket="b", options={})
    listing = list_runs()
    assert [item.run_id for item in listing.items] == [second.run_id, first.run_id]
    assert listing.summary() == {"runs": 2, "finished": 1, "running": 1}
    shown = show_run(first.run_id)
    assert (shown.summary()["options"], shown.summary()["state"]) == ({"limit": 3}, "finished")
    assert [item.as_dict()["kind"] for item in shown.items] == ["rewrite"]
    assert "abc123" not in str([item.as_dict() for item in shown.items])
    with pytest.raises(UsageError, match="There is no run: 'nonsense'"):
        show_run("nonsense")


# The command


def called(*arguments: str) -> dict[str, Any]:
    out = io.StringIO()
    call_command("r2_runs", *arguments, "--format", "json", stdout=out, stderr=io.StringIO())
    document: dict[str, Any] = json.loads(out.getvalue())
    return document


def test_the_command_lists_shows_and_undoes(config, alias):
    run = migrated(config, alias).run_id
    assert [item["run_id"] for item in called()["items"]] == [run]
    assert {item["pk"] for item in called(run)["items"]} == {
        str(row.pk) for row in AppSubmission.objects.using(alias).all()
    }
    plan = called(run, "--undo")
    assert (plan["applied"], plan["run_id"], plan["summary"]["to_undo"]) == (False, None, 9)
    done = called(run, "--undo", "--apply", "--no-input")
    assert (done["applied"], done["summary"]["undone"]) == (True, 9)
    assert rows(alias) == [(OLD[0], [*OLD, "plain"])] * 3
    assert called(run, "--undo", "--apply", "--no-input")["applied"] is False
    states = {item["run_id"]: item["state"] for item in called()["items"]}
    assert states == {run: "undone", done["run_id"]: "finished"}


@pytest.mark.parametrize(
    "arguments",
    [["--apply"], ["--undo"], ["nonsense"], ["nonsense", "--undo"], ["--model", "a.B"]],
    ids=" ".join,
)
def test_arguments_that_make_no_sense_are_usage_errors(config, arguments):
    with pytest.raises(CommandError) as caught:
        call_command("r2_runs", *arguments, stdout=io.StringIO(), stderr=io.StringIO())
    assert caught.value.returncode == 2


@pytest.mark.parametrize(
    "arguments", [[], ["RUN"], ["RUN", "--undo"]], ids=["list", "show", "undo"]
)
def test_text_is_a_table(config, arguments):
    run = migrated(config, "default").run_id
    out = io.StringIO()
    call_command("r2_runs", *[run if a == "RUN" else a for a in arguments], stdout=out)
    assert run in out.getvalue()
