from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from r2maint import conf
from r2maint.bucket import DirectoryBucket, open_bucket
from r2maint.models import Run, Sighting
from r2maint.quarantine.manifest import PREFIX
from tests.appdirectory.models import AppSubmission
from tests.commands import apply, run
from tests.conftest import DATABASES
from tests.worlds.command_runs import AT_ONCE, NAMED, SETTINGS, fill, media

pytestmark = pytest.mark.django_db(databases=DATABASES)

ORPHAN = "submissions/QAD-1/old.webp"


@pytest.fixture
def bucket(project) -> DirectoryBucket:
    made = open_bucket(conf.load())
    fill(made, NAMED, ORPHAN, "elsewhere/a.txt")
    AppSubmission.objects.create(
        tracking_id="QAD-1", screenshots_en=[f"https://old.example.net/{NAMED}"]
    )
    return made


def test_a_plan_changes_nothing_and_prints_its_brakes(bucket):
    document = run("purge_orphans")
    assert document["summary"]["too_young"] == 1
    assert {one["brake"] for one in document["refusals"]} == {"identity"}
    (item,) = document["items"]
    assert (item["key"], item["verdict"], item["action"]) == (ORPHAN, "too_young", "kept")
    assert item["due_at"] > item["modified_at"]
    assert [item.key for page in bucket.list_pages() for item in page] == [
        "elsewhere/a.txt",
        NAMED,
        ORPHAN,
    ]
    assert Sighting.objects.count() == 1


def test_apply_without_adoption_is_refused(bucket):
    document = apply("purge_orphans", *AT_ONCE, exit_code=4)
    assert document["stopped_by"] == "identity"
    assert document["refusals"][0]["override"] == "--adopt"
    assert ORPHAN in media(bucket)


def test_apply_removes_exactly_the_orphans(bucket):
    document = apply("purge_orphans", *AT_ONCE, "--adopt")
    assert media(bucket) == ["elsewhere/a.txt", NAMED]
    assert [(item["key"], item["action"]) for item in document["items"]] == [(ORPHAN, "delete")]
    assert document["summary"]["deleted"] == 1
    assert Run.objects.get().options["max_delete"] == "100%"


def test_a_second_run_has_nothing_to_do(bucket):
    apply("purge_orphans", *AT_ONCE, "--adopt")
    document = apply("purge_orphans", *AT_ONCE)
    assert (document["run_id"], document["summary"]["orphans"]) == (None, 0)


def test_check_finds_work(bucket):
    run("purge_orphans", *AT_ONCE, "--check", exit_code=3)


def test_fine_items_are_listed_on_request(bucket):
    fill(bucket, "apps/1.json")
    verdicts = {item["key"]: item["verdict"] for item in run("purge_orphans", "--all")["items"]}
    assert verdicts == {
        ORPHAN: "too_young",
        "apps/1.json": "protected",
        "elsewhere/a.txt": "unmanaged",
    }


@pytest.mark.parametrize("option", ["--model", "--field", "--where", "--database"])
def test_options_that_would_narrow_the_references_are_usage_errors(bucket, option):
    value = {"--where": "a=b", "--database": "default"}.get(option, "appdirectory.App")
    with pytest.raises(CommandError, match="every reference counts") as raised:
        call_command("purge_orphans", option, value, stdout=StringIO(), stderr=StringIO())
    assert raised.value.returncode == 2


@pytest.mark.parametrize("value", ["-1", "101%", "many", ""])
def test_a_limit_that_is_none_is_a_usage_error(bucket, value):
    with pytest.raises(CommandError) as raised:
        call_command("purge_orphans", f"--max-delete={value}", stdout=StringIO(), stderr=StringIO())
    assert raised.value.returncode == 2


def test_the_text_report_names_key_count_and_bytes(bucket):
    out = StringIO()
    call_command("purge_orphans", *AT_ONCE, stdout=out, stderr=StringIO())
    assert ORPHAN in out.getvalue()
    assert "To delete: 1 object, 26 B (50.0% of 2 managed objects)" in out.getvalue()


# A process that is killed

PROGRAM = """
import os, signal, sys
sys.path.insert(0, {root!r})
os.environ["DJANGO_SETTINGS_MODULE"] = "killed_settings"
sys.path.insert(0, {directory!r})
import django
django.setup()
from django.core.management import call_command
from r2maint.bucket import directory_bucket

left = int(sys.argv[1])

def counted(method):
    def call(*arguments, **options):
        global left
        for result in method(*arguments, **options):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            yield result
    return call

for name in ("put_many", "copy_many", "delete_many"):
    bucket = directory_bucket.DirectoryBucket
    setattr(bucket, name, counted(getattr(bucket, name)))
import r2maint.purge.journal_steps
r2maint.purge.journal_steps.BATCH = 2
call_command("purge_orphans", "--grace=0", "--no-second-look", "--max-delete=100%", "--adopt",
             "--apply", "--no-input", "--format=json")
"""


class Site:
    """A project in files, whose commands run in processes of their own."""

    def __init__(self, directory: Path) -> None:
        root = str(Path(__file__).resolve().parents[2])
        names = {"root": root, "directory": str(directory)}
        names |= {"database": str(directory / "db.sqlite3"), "bucket": str(directory / "bucket")}
        (directory / "killed_settings.py").write_text(SETTINGS.format(**names), encoding="utf-8")
        (directory / "purge.py").write_text(PROGRAM.format(**names), encoding="utf-8")
        self.directory = directory
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("R2_")},
            "PYTHONPATH": f"{directory}{os.pathsep}{root}",
            "DJANGO_SETTINGS_MODULE": "killed_settings",
        }
        self.run("-m", "django", "migrate", "--run-syncdb", "-v0")
        self.run(
            "-c",
            "import django; django.setup();"
            "from tests.appdirectory.models import AppSubmission as A;"
            "A.objects.create(tracking_id='1', app_icon_url='/submissions/1/named.webp')",
        )

    def run(self, *arguments: str, exit_code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == exit_code, done.stderr
        return done.stdout

    def purge(self, *, killed_at: int = 0) -> str:
        code = -signal.SIGKILL if killed_at else 0
        return self.run("purge.py", str(killed_at), exit_code=code)


@pytest.mark.thorough
def test_a_purge_killed_at_several_points_ends_in_the_same_state(tmp_path):
    site = Site(tmp_path)
    bucket = DirectoryBucket(tmp_path / "bucket")
    doomed = [f"submissions/2/{number}.webp" for number in range(5)]
    fill(bucket, "submissions/1/named.webp", *doomed)
    for moment in (2, 4, 6, 7):
        site.purge(killed_at=moment)
        release(bucket)
        assert "submissions/1/named.webp" in media(bucket)
    document = json.loads(site.purge())
    assert media(bucket) == ["submissions/1/named.webp"]
    summary = document["summary"]
    assert (summary["deleted"], summary["quarantined"], summary["failed"]) == (5, 5, 0)
    assert json.loads(site.purge())["summary"]["orphans"] == 0


def release(bucket: DirectoryBucket) -> None:
    """Let the lease of the killed process pass, as a minute would."""
    list(bucket.delete_many([".r2maint/lease"]))


# The quarantine


def test_the_quarantine_is_emptied_on_every_kind_of_bucket(place):
    bucket = open_bucket(conf.load())
    fill(bucket, NAMED, ORPHAN)
    AppSubmission.objects.create(tracking_id="QAD-1", app_icon_url=f"https://m/{NAMED}")
    purged = apply("purge_orphans", *AT_ONCE, "--adopt")["run_id"]
    assert run("purge_orphans", "--empty-quarantine")["summary"]["kept"] == 1
    plan = run("purge_orphans", "--empty-quarantine", "--older-than", "0", "--check", exit_code=3)
    assert [(item["key"], item["run"]) for item in plan["items"]] == [(ORPHAN, purged)]
    assert plan["runs"][0]["to_remove_bytes"] == len(ORPHAN)
    document = apply("purge_orphans", "--empty-quarantine", "--older-than", "0")
    assert (document["summary"]["removed"], document["items"][0]["action"]) == (1, "delete")
    assert [key for page in bucket.list_pages(PREFIX) for key in page] == []
    assert apply("purge_orphans", "--empty-quarantine", "--older-than", "0")["run_id"] is None


def test_the_text_of_an_emptying_names_runs_and_copies(bucket):
    apply("purge_orphans", *AT_ONCE, "--adopt")
    out = StringIO()
    options = ("--empty-quarantine", "--older-than", "0")
    call_command("purge_orphans", *options, stdout=out, stderr=StringIO())
    assert f"{Run.objects.get().pk}" in out.getvalue()
    assert ORPHAN in out.getvalue()
