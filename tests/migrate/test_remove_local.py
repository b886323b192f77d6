"""Local files go once a migration is done and nothing names them; every one can come back."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import FileSystemStorage, Storage

from r2maint.bucket import Headers, Upload, get, head, open_bucket, put
from r2maint.conf import load
from r2maint.control import Control
from r2maint.errors import UsageError
from r2maint.images import SOURCE_KEY
from r2maint.journal.journal import kept_values, now, open_journal
from r2maint.keepset.local_names import FileNames
from r2maint.keys import Addresses
from r2maint.local_files.restore_file import MAX_IN_MEMORY
from r2maint.migrate.remove_local import apply as remove_local
from r2maint.migrate.remove_local.apply import apply_removal
from r2maint.migrate.remove_local.plan import plan_removal
from r2maint.models import Change, ChangeKind, ChangeState, Run, RunState
from tests.appdirectory.models import App, AppSubmission
from tests.commands import apply, run
from tests.conftest import DATABASES
from tests.oddities.models import Article, Gallery, LegacyBanner
from tests.worlds.local_media import PNG, dump, picture, submission

pytestmark = [pytest.mark.thorough, pytest.mark.django_db(databases=DATABASES)]

COMMAND = "migrate_media_to_r2"
ICON = "/media/pictures/icon.png"


def removed(run_id: str, **options: Any) -> dict[str, Any]:
    return apply(COMMAND, "--remove-local", run_id, **options)


def reasons(document: dict[str, Any]) -> dict[str, str | None]:
    """Return what became of each file, by its name: "removed", or why not."""
    return {
        Path(item["source"]).name: item["reason"] or f"{item['action']}d"
        for item in document["items"]
    }


@pytest.fixture
def icon(project) -> Path:
    picture(project, "pictures/icon.png")
    return project / "media" / "pictures" / "icon.png"


@pytest.fixture
def moved(icon) -> str:
    """A finished run that moved one file one row names."""
    submission(app_icon_url=ICON)
    return apply(COMMAND)["run_id"]


def replace_object(run_id: str, body: bytes, **metadata: str) -> str:
    """Put other bytes under the key of the one file a run moved."""
    key = Change.objects.get(run_id=run_id, kind=ChangeKind.UPLOAD).key
    headers = Headers(metadata=metadata)
    put(open_bucket(load()), Upload(key=key, body=body, headers=headers, if_absent=False))
    return key


# What goes


def test_the_files_a_finished_run_moved_go_and_empty_directories_stay(project, alias):
    names = ("pictures/a.png", "pictures/b c.png", "pictures/أيقونة.png", "others/100%.png")
    for name in (*names, "others/unmoved.png"):
        picture(project, name)
    submission(
        alias, app_icon_url=f"/media/{names[0]}", screenshots_en=[f"/media/{n}" for n in names]
    )
    run_id = apply(COMMAND)["run_id"]
    size = sum((project / "media" / name).stat().st_size for name in names)

    plan = run(COMMAND, "--remove-local", run_id)
    assert (plan["summary"]["to_remove"], plan["summary"]["bytes"]) == (4, size)
    assert (project / "media" / names[0]).exists()
    done = removed(run_id)

    assert done["summary"] == {
        "sources": 4,
        "to_remove": 4,
        "removed": 4,
        "kept": 0,
        "gone": 0,
        "failed": 0,
        "bytes": size,
    }
    left = [path.name for path in (project / "media").rglob("*") if path.is_file()]
    assert left == ["unmoved.png"]
    assert (project / "media" / "pictures").is_dir()
    changes = Change.objects.filter(run_id=done["run_id"])
    assert {(c.kind, c.state) for c in changes} == {("remove", "done")}
    assert {c.old for c in changes} == {str(project / "media" / name) for name in names}


def test_a_second_removal_has_nothing_to_do(moved):
    removed(moved)

    again = removed(moved)

    assert (again["run_id"], again["summary"]["gone"], again["items"]) == (None, 1, [])


def test_the_question_names_files_and_bytes(moved, icon):
    config = load()
    at = config, Addresses.from_config(config), open_bucket(config)

    plan = plan_removal(moved, *at, control=Control())

    size = icon.stat().st_size
    assert plan.question == f"Remove 1 local file ({size} B) that run {moved} moved?"


def test_a_source_that_was_in_the_bucket_already_goes_too(project, alias):
    body = picture(project, "apps/icons/one.png")
    App.objects.bulk_create([App(name_en="One", application_icon="apps/icons/one.png")])
    submission(alias, app_icon_url="/media/apps/icons/one.png")
    put(open_bucket(load()), Upload(key="apps/icons/one.png", body=body))
    run_id = apply(COMMAND)["run_id"]
    assert not Change.objects.filter(run_id=run_id, kind=ChangeKind.UPLOAD).exists()
    App.objects.all().delete()

    assert reasons(removed(run_id)) == {"one.png": "removed"}


def test_an_upload_that_a_kill_left_half_told_counts_once(moved, icon):
    done = Change.objects.get(run_id=moved, kind=ChangeKind.UPLOAD)
    done.pk, done.state = None, ChangeState.INTENDED
    done.save()
    assert removed(moved)["summary"]["sources"] == 1
    assert not icon.exists()


def test_a_large_object_is_read_through_a_file(project, alias, monkeypatch):
    picture(project, "pictures/big.png", os.urandom(MAX_IN_MEMORY + 1))
    submission(alias, app_icon_url="/media/pictures/big.png")
    run_id = apply(COMMAND)["run_id"]

    assert reasons(removed(run_id)) == {"big.png": "removed"}


class BucketStorage(Storage):
    """A storage that keeps its files in the bucket, as django-storages' does."""

    location = ""

    def __init__(self, bucket_name: str) -> None:
        self.bucket_name = bucket_name


@pytest.fixture
def named_field(project) -> str:
    """A finished run that moved the file of a FileField."""
    picture(project, "apps/main/one two.png")
    App.objects.bulk_create([App(name_en="One", main_image_en="apps/main/one two.png")])
    return apply(COMMAND)["run_id"]


def switch_storage(monkeypatch) -> None:
    for name in ("application_icon", "main_image_en", "main_image_ar"):
        field = App._meta.get_field(name)
        monkeypatch.setattr(field, "storage", BucketStorage(load().bucket))


def test_a_file_fields_source_stays_until_its_storage_is_the_bucket(named_field, monkeypatch):
    assert reasons(removed(named_field, exit_code=3)) == {"one two.png": "named"}
    switch_storage(monkeypatch)
    assert reasons(removed(named_field)) == {"one two.png": "removed"}


@pytest.mark.parametrize("value", ["/media/apps/main/one two.png", "../apps/main/one two.png"])
def test_a_path_in_a_file_field_of_the_bucket_keeps_the_file(named_field, monkeypatch, value):
    switch_storage(monkeypatch)
    App.objects.update(main_image_ar=value)
    assert reasons(removed(named_field, exit_code=3)) == {"one two.png": "named"}


# What stays


@pytest.mark.parametrize(
    "text",
    [
        f"See https://nobody.example{ICON}.",
        "in /srv/www/media/pictures/icon.png",
        "pictures%2Ficon.png",
        '{"a": "\\u002Fmedia\\/pictures\\/icon.png"}',
        f"https://media.example.org/proxy?src={ICON}",
        "https://media.example.org/proxy/https%3A%2F%2Fapps.example.org%2Fmedia%2Fpictures%2Ficon.png",
        "https://media.example.org/cdn-cgi/image/width=80/media/pictures/icon.png",
        f"https://media.example.org/pictures/icon.png,{ICON}",
        "//media.example.org/pictures/icon.png, as https://elsewhere.example/ has it",
    ],
)
def test_a_text_that_may_name_the_file_keeps_it(moved, icon, alias, text):
    Article.objects.using(alias).create(body=text)

    assert reasons(run(COMMAND, "--remove-local", moved)) == {"icon.png": "named"}
    done = removed(moved, exit_code=3)

    assert reasons(done) == {"icon.png": "named"}
    assert icon.exists()
    assert "1 file kept: something names it" in done["notes"][0]


@pytest.mark.parametrize(
    "base",
    [
        "https://media.example.org/",
        "https://pub-0123456789abcdef.r2.dev/",
        "http://media.example.org:80/",
    ],
)
def test_a_url_of_the_bucket_names_the_object_and_not_the_file(moved, icon, alias, base):
    url = f"{base}pictures/icon.png"
    Article.objects.using(alias).create(body=f'See <img src="{url}">, or {url}?v=2 and so on.')
    Gallery.objects.using(alias).create(content=[{"a": url}])

    assert reasons(removed(moved)) == {"icon.png": "removed"}


def test_a_table_somebody_else_owns_keeps_a_file(moved, alias):
    LegacyBanner.objects.using(alias).create(id=1, path="pictures/icon.png")
    assert reasons(removed(moved, exit_code=3)) == {"icon.png": "named"}


def test_a_file_of_extra_references_keeps_a_file(moved, project, settings):
    (project / "site.ts").write_text("const icon = '/media/pictures/icon.png'")
    settings.R2MAINT = {**settings.R2MAINT, "EXTRA_REFERENCES": {"files": ["*.ts"]}}
    assert reasons(removed(moved, exit_code=3)) == {"icon.png": "named"}


def test_an_object_of_extra_references_keeps_a_file(moved, settings):
    put(open_bucket(load()), Upload(key="apps/all.json", body=f'["{ICON}"]'.encode()))
    settings.R2MAINT = {**settings.R2MAINT, "EXTRA_REFERENCES": {"objects": ["apps/*.json"]}}
    assert reasons(removed(moved, exit_code=3)) == {"icon.png": "named"}


def test_a_name_of_a_storage_below_the_media_root_keeps_a_file(project, monkeypatch):
    picture(project, "inner/icon.png")
    submission(app_icon_url="/media/inner/icon.png")
    run_id = apply(COMMAND)["run_id"]
    storage = FileSystemStorage(location=project / "media" / "inner")
    monkeypatch.setattr(App._meta.get_field("main_image_en"), "storage", storage)
    App.objects.bulk_create([App(name_en="One", main_image_en="icon.png")])

    assert reasons(removed(run_id, exit_code=3)) == {"icon.png": "named"}


def test_the_column_of_a_second_model_is_not_taken_for_names_of_the_bucket(project, monkeypatch):
    config = load()
    addresses = Addresses.from_config(config)
    switch_storage(monkeypatch)
    sources = FileNames.from_config(config, addresses).in_bucket
    assert "default.appdirectory_app.main_image_en" in sources
    assert "default.app_submissions.app_icon_url" not in sources
    monkeypatch.setattr("tests.oddities.models.LegacyBanner._meta.db_table", App._meta.db_table)
    monkeypatch.setattr(LegacyBanner._meta.get_field("path"), "column", "main_image_en")
    sources = FileNames.from_config(config, addresses).in_bucket
    assert "default.appdirectory_app.main_image_en" not in sources


def test_a_file_that_changed_stays(moved, icon):
    icon.write_bytes(icon.read_bytes()[:-1] + b"!")
    assert reasons(removed(moved, exit_code=3)) == {"icon.png": "changed"}
    assert icon.exists()


def test_a_file_whose_object_is_gone_stays(moved, icon):
    key = Change.objects.get(run_id=moved, kind=ChangeKind.UPLOAD).key
    list(open_bucket(load()).delete_many([key]))
    assert reasons(removed(moved, exit_code=3)) == {"icon.png": "object_missing"}
    assert icon.exists()


@pytest.mark.parametrize("is_known", [True, False], ids=["metadata tells", "only its bytes tell"])
def test_a_file_whose_object_holds_other_bytes_stays(moved, icon, is_known):
    digest = hashlib.sha256(icon.read_bytes()).hexdigest()
    other = icon.read_bytes()[:-1] + b"?"
    replace_object(moved, other, sha256=hashlib.sha256(other).hexdigest() if is_known else digest)

    plan = run(COMMAND, "--remove-local", moved)
    assert plan["summary"]["to_remove"] == (0 if is_known else 1)
    assert reasons(removed(moved, exit_code=3)) == {"icon.png": "object_differs"}
    assert icon.exists()


def test_a_file_whose_object_was_encoded_anew_stays(moved, icon):
    digest = hashlib.sha256(icon.read_bytes()).hexdigest()
    replace_object(moved, b"smaller", **{SOURCE_KEY: digest})
    assert reasons(removed(moved, exit_code=3)) == {"icon.png": "reencoded"}
    assert icon.exists()


def test_no_link_is_followed(moved, icon, project):
    body = icon.read_bytes()
    outside = project / "outside"
    outside.mkdir()
    (outside / "icon.png").write_bytes(body)
    icon.unlink()
    icon.parent.rmdir()
    icon.parent.symlink_to(outside)
    assert reasons(removed(moved, exit_code=3)) == {"icon.png": "outside"}

    icon.parent.unlink()
    inside = project / "media" / "real"
    inside.mkdir()
    (inside / "icon.png").write_bytes(body)
    icon.parent.symlink_to(inside)
    assert reasons(removed(moved, exit_code=3)) == {"icon.png": "linked"}
    assert (outside / "icon.png").exists()
    assert (inside / "icon.png").exists()


def test_a_file_with_a_second_name_stays(moved, icon, project):
    os.link(icon, project / "media" / "second.png")
    assert reasons(removed(moved, exit_code=3)) == {"icon.png": "linked"}


def test_a_media_root_behind_a_link_is_no_obstacle(icon, project, settings):
    (project / "linked").symlink_to(project / "media")
    settings.MEDIA_ROOT = project / "linked"
    submission(app_icon_url=ICON)
    run_id = apply(COMMAND)["run_id"]
    assert reasons(removed(run_id)) == {"icon.png": "removed"}
    assert not icon.exists()


# Which runs


@pytest.mark.parametrize("state", [RunState.RUNNING, RunState.STOPPED, RunState.UNDONE])
def test_a_run_that_is_not_finished_is_refused(moved, icon, state):
    Run.objects.filter(pk=moved).update(state=state)
    told = removed(moved, exit_code=2)["error"]
    assert told["message"] == f"The run is not finished but {state}: {moved}."
    assert icon.exists()


def test_an_undo_under_way_refuses(moved):
    bucket = open_bucket(load())
    open_journal(command="r2_runs", bucket=bucket.name, options={"undo": moved})
    assert "is being undone" in removed(moved, exit_code=2)["error"]["message"]


def test_a_run_undone_since_the_plan_removes_nothing(moved, icon):
    config = load()
    at = config, Addresses.from_config(config), open_bucket(config)
    plan = plan_removal(moved, *at, control=Control())
    Run.objects.filter(pk=moved).update(state=RunState.UNDONE)
    journal = open_journal(command=COMMAND, bucket=at[2].name, options={"remove_local": moved})

    with pytest.raises(UsageError, match="undone"):
        apply_removal(plan, *at, journal, control=Control())
    assert icon.exists()


def test_only_a_migration_into_this_bucket_has_files_to_remove(moved, icon, settings, project):
    removal_run = removed(moved)["run_id"]
    other = open_journal(command="reoptimize", bucket=open_bucket(load()).name, options={})
    for run_id, words in (
        (removal_run, "moved no local files"),
        (other.run_id, "moved no local files"),
        ("nonsense", "There is no run"),
    ):
        assert words in removed(run_id, exit_code=2)["error"]["message"]
    settings.R2MAINT = {**settings.R2MAINT, "BUCKET": f"file:{project / 'elsewhere'}"}
    assert "another bucket" in removed(moved, exit_code=2)["error"]["message"]


@pytest.mark.parametrize(
    "option",
    [("--limit", "1"), ("--prefix", "a/"), ("--model", "appdirectory.App"), ("--field", "x")],
    ids=lambda option: option[0],
)
def test_a_runs_files_are_judged_as_a_whole(moved, icon, option):
    told = apply(COMMAND, "--remove-local", moved, *option, exit_code=2)["error"]
    assert option[0] in told["message"]
    assert icon.exists()


def test_a_removal_and_a_migration_do_not_go_on_with_each_other(moved, project):
    name = open_bucket(load()).name
    unfinished = open_journal(command=COMMAND, bucket=name, options={})
    assert removed(moved)["run_id"] != unfinished.run_id
    begun = open_journal(command=COMMAND, bucket=name, options={"remove_local": moved})
    assert apply(COMMAND)["run_id"] == unfinished.run_id
    assert removed(moved)["run_id"] == begun.run_id


def test_an_empty_run_id_is_refused_and_moves_nothing(project, icon):
    submission(app_icon_url=ICON)
    assert "There is no run" in removed("", exit_code=2)["error"]["message"]
    assert not Change.objects.exists()


# In between


class Killed(BaseException):
    """Stands for SIGKILL: nobody catches it."""


@pytest.mark.parametrize("is_unlinked", [False, True], ids=["before", "after"])
def test_a_kill_around_the_unlink_is_made_good(moved, icon, monkeypatch, is_unlinked):
    unlink = remove_local._unlink

    def killed(item):
        if is_unlinked:
            unlink(item)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(remove_local, "_unlink", killed)
        with pytest.raises(Killed):
            removed(moved)
    assert icon.exists() is not is_unlinked
    assert Change.objects.get(kind=ChangeKind.REMOVE).state == ChangeState.INTENDED

    done = removed(moved)

    assert done["summary"]["removed"] == 1
    assert not icon.exists()
    assert Run.objects.get(pk=done["run_id"]).state == RunState.FINISHED
    states = set(Change.objects.filter(kind=ChangeKind.REMOVE).values_list("state", flat=True))
    assert states <= {ChangeState.DONE, ChangeState.CONFLICT}
    undone = apply("r2_runs", done["run_id"], "--undo")
    assert undone["summary"]["restored"] == 1
    assert icon.exists()


def test_a_file_written_again_between_hash_and_unlink_stays(moved, icon, monkeypatch):
    unlink = remove_local._unlink

    def edited(item):
        icon.write_bytes(b"newer, and longer than the file that was moved")
        return unlink(item)

    monkeypatch.setattr(remove_local, "_unlink", edited)
    assert reasons(removed(moved, exit_code=3)) == {"icon.png": "changed"}
    assert icon.read_bytes().startswith(b"newer")
    assert Change.objects.get(kind=ChangeKind.REMOVE).state == ChangeState.CONFLICT


def test_what_is_named_between_plan_and_removal_stays(moved, icon):
    config = load()
    at = config, Addresses.from_config(config), open_bucket(config)
    plan = plan_removal(moved, *at, control=Control())
    assert plan.has_work
    Article.objects.create(body=ICON)
    journal = open_journal(command=COMMAND, bucket=at[2].name, options={"remove_local": moved})

    done = apply_removal(plan, *at, journal, control=Control())

    assert [item.reason for item in done.items] == ["named"]
    assert icon.exists()


def test_what_is_named_while_files_go_is_brought_back(moved, icon, alias, monkeypatch):
    body = icon.read_bytes()
    unlink = remove_local._unlink

    def named_meanwhile(item):
        Article.objects.using(alias).create(body=f"new: {ICON}")
        return unlink(item)

    monkeypatch.setattr(remove_local, "_unlink", named_meanwhile)
    done = removed(moved, exit_code=3)

    assert reasons(done) == {"icon.png": "named"}
    assert icon.read_bytes() == body
    assert (done["summary"]["removed"], done["summary"]["kept"]) == (0, 1)


def test_a_purge_keeps_the_object_of_a_removed_file(moved, icon, settings):
    removed(moved)
    key = Change.objects.get(kind=ChangeKind.REMOVE).key
    assert key in set(kept_values(undo_window=load().undo_window, now=now()))


# The way back


# MariaDB takes no savepoint in a transaction that read its own tables, as the keep set does.
@pytest.mark.django_db(transaction=True, databases=DATABASES)
def test_undo_brings_the_file_back_and_then_the_values(icon, project, alias):
    body = icon.read_bytes()
    bodies = {"a b.png": picture(project, "pictures/a b.png")}
    submission(alias, app_icon_url=ICON, screenshots_en=["/media/pictures/a%20b.png", ICON])
    before = dump(alias)
    run_id = apply(COMMAND)["run_id"]
    removed(run_id)
    icon.parent.rmdir()

    plan = run("r2_runs", run_id, "--undo")
    assert plan["summary"]["to_undo"] == 3
    assert not icon.parent.exists()
    undone = apply("r2_runs", run_id, "--undo")

    assert dump(alias) == before
    assert icon.read_bytes() == body
    assert (icon.parent / "a b.png").read_bytes() == bodies["a b.png"]
    assert sorted(path.name for path in icon.parent.iterdir()) == ["a b.png", "icon.png"]
    assert undone["exit_code"] == 0
    restores = Change.objects.filter(run_id=undone["run_id"], kind=ChangeKind.RESTORE)
    assert {(c.old, c.state) for c in restores} == {
        (str(icon), "done"),
        (str(icon.parent / "a b.png"), "done"),
    }


def test_a_file_comes_back_under_the_spelling_it_was_moved_from(project):
    body = picture(project, "pictures/50%20off.png")
    row = submission(app_icon_url="/media/pictures/50%20off.png")
    run_id = apply(COMMAND)["run_id"]
    removed(run_id)

    apply("r2_runs", run_id, "--undo")

    row.refresh_from_db()
    assert row.app_icon_url == "/media/pictures/50%20off.png"
    assert (project / "media/pictures/50%20off.png").read_bytes() == body
    assert not (project / "media/pictures/50 off.png").exists()


def test_a_removal_alone_knows_the_bytes_of_a_value_without_them(moved, icon):
    body = icon.read_bytes()
    removed(moved)
    rewrites = Change.objects.filter(run_id=moved, kind=ChangeKind.REWRITE)
    assert rewrites.update(sha256="", key="") == 1

    assert apply("r2_runs", moved, "--undo")["summary"]["undone"] == 1
    assert icon.read_bytes() == body


def test_undo_of_a_removal_brings_every_file_back(project, monkeypatch):
    names = ("apps/main/one.png", "pictures/two.png")
    bodies = {name: picture(project, name) for name in names}
    App.objects.bulk_create([App(name_en="One", main_image_en=names[0])])
    submission(app_icon_url=f"/media/{names[1]}")
    run_id = apply(COMMAND)["run_id"]
    switch_storage(monkeypatch)
    removal_run = removed(run_id)["run_id"]
    assert not any((project / "media" / name).exists() for name in names)

    plan = run("r2_runs", removal_run, "--undo")
    assert (plan["summary"]["to_restore"], plan["summary"]["failed"]) == (2, 0)
    undone = apply("r2_runs", removal_run, "--undo")

    assert undone["summary"]["restored"] == 2
    assert {name: (project / "media" / name).read_bytes() for name in names} == bodies
    assert Run.objects.get(pk=removal_run).state == RunState.UNDONE
    assert Run.objects.get(pk=run_id).state == RunState.FINISHED
    assert reasons(removed(run_id)) == {"one.png": "removed", "two.png": "removed"}


@pytest.mark.parametrize("which", ["migration", "removal"])
@pytest.mark.parametrize(
    ("metadata", "words"),
    [({}, "holds other bytes"), ({"source": "yes"}, "re-encoded version only")],
    ids=["replaced", "re-encoded"],
)
def test_undo_refuses_when_the_object_no_longer_holds_the_bytes(
    moved, icon, which, metadata, words
):
    digest = hashlib.sha256(icon.read_bytes()).hexdigest()
    removal_run = removed(moved)["run_id"]
    key = replace_object(
        moved, b"another picture", sha256=digest, **dict.fromkeys(metadata and [SOURCE_KEY], digest)
    )
    before = dump("default")

    undone = apply("r2_runs", moved if which == "migration" else removal_run, "--undo", exit_code=3)

    assert [item["action"] for item in undone["items"]] == ["fail"]
    assert words in undone["items"][0]["reason"]
    assert dump("default") == before
    assert list(icon.parent.iterdir()) == []
    assert get(open_bucket(load()), key).body == b"another picture"


def test_undo_fails_in_the_plan_when_the_object_is_gone(moved, icon):
    removed(moved)
    key = Change.objects.get(kind=ChangeKind.REMOVE).key
    list(open_bucket(load()).delete_many([key]))

    plan = run("r2_runs", moved, "--undo")

    assert plan["summary"]["failed"] == 1
    assert "no longer holds" in plan["items"][0]["reason"]


def test_a_path_that_is_taken_meanwhile_is_left_alone(moved, icon):
    removal_run = removed(moved)["run_id"]
    icon.write_bytes(PNG + b"somebody else's")

    undone = apply("r2_runs", removal_run, "--undo", exit_code=3)

    assert undone["items"][0]["reason"] == f"The path of the removed file is taken: {icon}."
    assert icon.read_bytes() == PNG + b"somebody else's"


def test_a_path_that_is_taken_while_the_bytes_come_is_left_alone(moved, icon, monkeypatch):
    removal_run = removed(moved)["run_id"]
    link = os.link

    def late(source, target):
        Path(target).write_bytes(b"theirs")
        link(source, target)

    monkeypatch.setattr("r2maint.local_files.restore_file.os.link", late)
    undone = apply("r2_runs", removal_run, "--undo", exit_code=3)

    assert "is taken" in undone["items"][0]["reason"]
    assert icon.read_bytes() == b"theirs"
    assert [path.name for path in icon.parent.iterdir()] == ["icon.png"]


def test_a_file_that_is_back_already_counts_as_restored(moved, icon):
    body = icon.read_bytes()
    removal_run = removed(moved)["run_id"]
    key = Change.objects.get(kind=ChangeKind.REMOVE).key
    icon.write_bytes(body)
    list(open_bucket(load()).delete_many([key]))

    assert apply("r2_runs", removal_run, "--undo")["summary"]["restored"] == 1


@pytest.mark.parametrize("place", ["link", "root"])
def test_nothing_is_written_outside_the_root(moved, icon, project, place):
    removal_run = removed(moved)["run_id"]
    outside = project / "outside"
    outside.mkdir()
    icon.parent.rmdir()
    if place == "link":
        icon.parent.symlink_to(outside)
    else:
        (project / "media").rmdir()

    undone = apply("r2_runs", removal_run, "--undo", exit_code=3)

    words = "lay below no directory" if place == "link" else "is not there"
    assert words in undone["items"][0]["reason"]
    assert list(outside.iterdir()) == []
    assert (project / "media").exists() is (place == "link")


def test_an_undo_killed_before_its_values_is_completed(moved, icon, monkeypatch):
    removed(moved)
    before = dump("default")

    def killed(*arguments):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("r2maint.runs.undo.apply._swap_back", killed)
        with pytest.raises(Killed):
            apply("r2_runs", moved, "--undo")
    assert icon.exists()
    assert dump("default") == before

    assert apply("r2_runs", moved, "--undo")["summary"]["undone"] == 1
    assert ICON in dump("default")


@pytest.mark.django_db(transaction=True, databases=DATABASES)
def test_the_whole_way_there_and_back_on_an_s3_server(remote, alias):
    body = picture(remote, "pictures/icon.png")
    path = remote / "media" / "pictures" / "icon.png"
    submission(alias, app_icon_url=ICON)
    before = dump(alias)
    run_id = apply(COMMAND)["run_id"]
    assert reasons(removed(run_id)) == {"icon.png": "removed"}
    assert head(open_bucket(load()), Change.objects.get(kind=ChangeKind.REMOVE).key) is not None

    apply("r2_runs", run_id, "--undo")

    assert path.read_bytes() == body
    assert dump(alias) == before


# What names the object


@pytest.mark.parametrize("value", ["", "https://elsewhere.example/x.png", "LOWER"])
def test_a_file_whose_object_no_row_names_any_more_stays(moved, icon, value):
    row = AppSubmission.objects.get()
    lost = row.app_icon_url.replace("QAD", "qad").replace("icon", "ICON")
    row.app_icon_url = lost if value == "LOWER" else value
    row.save()

    assert reasons(run(COMMAND, "--remove-local", moved)) == {"icon.png": "object_unnamed"}
    done = apply(COMMAND, "--remove-local", moved, exit_code=3)

    assert reasons(done) == {"icon.png": "object_unnamed"}
    assert icon.exists()


def test_a_file_whose_row_was_removed_stays(moved, icon):
    AppSubmission.objects.all().delete()

    assert reasons(run(COMMAND, "--remove-local", moved)) == {"icon.png": "object_unnamed"}
    apply(COMMAND, "--remove-local", moved, exit_code=3)

    assert icon.exists()


def test_a_value_edited_between_plan_and_removal_keeps_its_file(moved, icon):
    config = load()
    at = config, Addresses.from_config(config), open_bucket(config)
    plan = plan_removal(moved, *at, control=Control())
    assert plan.counts["to_remove"] == 1
    AppSubmission.objects.update(app_icon_url="")
    journal = open_journal(command=COMMAND, bucket="quran-apps", options={"remove_local": moved})

    done = apply_removal(plan, *at, journal, control=Control())

    assert [item.reason for item in done.items] == ["object_unnamed"]
    assert icon.exists()


def test_another_row_that_names_the_object_lets_the_file_go(moved, icon):
    url = AppSubmission.objects.get().app_icon_url
    AppSubmission.objects.all().delete()
    Article.objects.create(body=f"See {url}?v=2 for more.")

    assert reasons(removed(moved)) == {"icon.png": "removed"}
    assert not icon.exists()


def test_a_file_of_extra_references_that_names_the_object_lets_the_file_go(
    moved, icon, project, settings
):
    key = AppSubmission.objects.get().app_icon_url.removeprefix("https://media.example.org/")
    AppSubmission.objects.all().delete()
    (project / "app.ts").write_text(f'const icon = "/{key}"')
    settings.R2MAINT |= {"EXTRA_REFERENCES": {"files": [str(project / "app.ts")]}}

    assert reasons(removed(moved)) == {"icon.png": "removed"}


def test_of_two_files_only_the_one_whose_object_is_named_goes(project):
    for name in ("a.png", "b.png"):
        picture(project, f"pictures/{name}")
        submission(app_icon_url=f"/media/pictures/{name}")
    run_id = apply(COMMAND)["run_id"]
    AppSubmission.objects.filter(app_icon_url__contains="/b.").update(app_icon_url="")

    done = apply(COMMAND, "--remove-local", run_id, exit_code=3)

    assert reasons(done) == {"a.png": "removed", "b.png": "object_unnamed"}
