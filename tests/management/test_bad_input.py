"""Everything a user can get wrong, on every command: one sentence, the right exit code, no secret.

Each case runs twice, for a reader (text) and for a script (json); both must say the same.
"""

from __future__ import annotations

import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from r2maint.bucket import Headers, Upload, open_bucket, put
from r2maint.bucket.directory_bucket import DirectoryBucket
from r2maint.conf import load
from r2maint.errors import AccessDenied
from tests.appdirectory import drawings
from tests.appdirectory.models import App, AppSubmission
from tests.commands import apply, run
from tests.conftest import DATABASES
from tests.servers.s3_server import Answer, proxy, s3_error

ROOT = Path(__file__).resolve().parents[2]
SECRET = "5ecret-0123456789abcdef"
PLANS = ("migrate_media_to_r2", "verify_urls", "purge_orphans", "reoptimize", "usage_report")
COMMANDS = (*PLANS, "r2_runs")
LISTING = ("verify_urls", "purge_orphans", "reoptimize", "usage_report")
"""Commands that list the bucket whatever the rows hold."""

pytestmark = [pytest.mark.usefixtures("project"), pytest.mark.django_db(databases=DATABASES)]
moves_connections = pytest.mark.django_db(transaction=True, databases=DATABASES)
every_command = pytest.mark.parametrize("command", COMMANDS)
every_plan = pytest.mark.parametrize("command", PLANS)


def refused(command: str, *arguments: str, exit_code: int = 1, code: str = "") -> str:
    """Run a command that cannot do what it is asked; return the one sentence it says."""
    text, document = _ended(command, arguments, "text"), _ended(command, arguments, "json")
    said = json.loads(document.out)
    error = said["error"]
    assert text.code == document.code == said["exit_code"] == exit_code
    assert text.sentence == document.sentence == f"{error['message']} {error['hint']}".strip()
    assert text.out == text.err == document.err == ""
    assert error["code"] == code or not code
    assert (said["run_id"], said["applied"], said["complete"]) == (None, False, False)
    _require_prose(text.sentence)
    assert SECRET not in text.sentence + document.out
    return text.sentence


class _Ended:
    def __init__(self, code: int, sentence: str, out: str, err: str) -> None:
        self.code, self.sentence, self.out, self.err = code, sentence, out, err


def _ended(command: str, arguments: tuple[str, ...], format: str) -> _Ended:
    out, err = StringIO(), StringIO()
    with pytest.raises(CommandError) as raised:
        call_command(command, *arguments, "--format", format, stdout=out, stderr=err)
    return _Ended(raised.value.returncode, str(raised.value), out.getvalue(), err.getvalue())


def _require_prose(sentence: str) -> None:
    assert re.fullmatch(r"\S[^\n]*[.?]", sentence), sentence
    for word in ("Traceback", "object at 0x", "Error(", "..", " .", "  "):
        assert word not in sentence.replace("'../", ""), sentence


# No configuration, or half of one


@every_plan
def test_without_a_bucket(settings, command):
    settings.R2MAINT = {}
    sentence = refused(command, code="config")
    assert "No bucket is configured" in sentence
    assert "R2_BUCKET_NAME" in sentence


@every_plan
def test_with_half_a_connection(settings, command):
    settings.R2MAINT = {"BUCKET": "media", "ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": SECRET}
    assert "ACCOUNT_ID" in refused(command, code="config")


MALFORMED = {
    "no dict": ["BUCKET"],
    "unknown name": {"BUKCET": SECRET},
    "secret no text": {"SECRET_ACCESS_KEY": SECRET.encode()},
    "bucket name": {"BUCKET": "a bucket/"},
    "bucket no text": {"BUCKET": Path("file:var")},
    "file without a directory": {"BUCKET": "file:"},
    "endpoint": {"ENDPOINT_URL": f"https://key:{SECRET}@r2.example.org"},
    "endpoint no URL": {"ENDPOINT_URL": "r2.example.org"},
    "public URL": {"PUBLIC_URL": "media.example.org"},
    "public URL of the S3 endpoint": {"PUBLIC_URL": "https://a.r2.cloudflarestorage.com/media"},
    "public URL no text": {"PUBLIC_URL": None},
    "aliases as text": {"ALIASES": "https://pub-1.r2.dev/"},
    "local media": {"LOCAL_MEDIA": ["/media/"]},
    "local media to nothing": {"LOCAL_MEDIA": {"/media/": None}},
    "site host": {"SITE_HOSTS": ["https://example.org/"]},
    "prefix without /": {"MANAGED_PREFIXES": ["submissions"]},
    "empty prefix": {"MANAGED_PREFIXES": [""]},
    "own prefix": {"MANAGED_PREFIXES": [".r2maint/"]},
    "protected as text": {"PROTECTED": "apps/*.json"},
    "derived": {"DERIVED": ["easy-thumbnails"]},
    "extra references": {"EXTRA_REFERENCES": {"filse": ["a"]}},
    "no reason": {"NOT_REFERENCES": {"analytics.Event": ""}},
    "fields of no model": {"FIELDS": {"appdirectory.AppSubmision": {}}},
    "fields of no field": {"FIELDS": {"appdirectory.AppSubmission": {"icon": {}}}},
    "fields option": {"FIELDS": {"appdirectory.AppSubmission": {"app_icon_url": {"keys": ""}}}},
    "fields template": {"FIELDS": {"appdirectory.AppSubmission": {"app_icon_url": {"key": "{"}}}},
    "fields size": {
        "FIELDS": {"appdirectory.AppSubmission": {"app_icon_url": {"max_size": "9x9"}}}
    },
    "fields without rules": {"FIELDS": {"appdirectory.AppSubmission": ["app_icon_url"]}},
    "grace": {"GRACE": "a week"},
    "grace as a number": {"GRACE": 7},
    "undo window": {"UNDO_WINDOW": "-30d"},
    "cache control": {"CACHE_CONTROL": "public\nmax-age=1"},
    "jurisdiction": {"JURISDICTION": "eu.example"},
    "token no text": {"API_TOKEN": [SECRET]},
    "prices": {"PRICES": ["0.015"]},
}


@pytest.mark.parametrize("given", MALFORMED.values(), ids=MALFORMED)
def test_malformed_settings(settings, given):
    own = {**settings.R2MAINT, **given} if isinstance(given, dict) else given
    settings.R2MAINT = own
    sentence = refused("verify_urls", code="config")
    assert "R2MAINT" in sentence


@pytest.mark.parametrize(
    "prices",
    [{"storage": "cheap"}, {"storgae": "0.01"}, {"standard": {"storage": -1}}, {"standard": "1"}],
    ids=["no number", "unknown", "negative", "no dict"],
)
def test_malformed_prices(settings, prices):
    settings.R2MAINT = {**settings.R2MAINT, "PRICES": prices}
    assert "PRICES" in refused("usage_report", code="config")


# The server


def configure(settings, url: str, bucket: str = "media") -> None:
    settings.R2MAINT = {
        **settings.R2MAINT,
        "BUCKET": bucket,
        "ENDPOINT_URL": url,
        "ACCESS_KEY_ID": "0123456789abcdef0123456789abcdef",
        "SECRET_ACCESS_KEY": SECRET,
    }


@pytest.fixture(scope="module")
def server() -> Iterator:
    with proxy() as running:
        yield running


@pytest.fixture
def answering(server, settings):
    """Let the bucket's server answer every request the same way."""
    configure(settings, server.url)

    def answer(fault: Answer) -> None:
        server.fault = lambda request: fault

    return answer


@pytest.mark.parametrize("command", LISTING)
@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "SignatureDoesNotMatch", "Unauthorized"])
def test_wrong_keys(answering, command, code):
    answering(s3_error(401 if code == "Unauthorized" else 403, code, f"not {SECRET}"))
    sentence = refused(command, code="access_denied")
    assert "ACCESS_KEY_ID" in sentence
    assert "'media' at 127.0.0.1" in sentence


@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "SignatureDoesNotMatch"])
def test_wrong_keys_are_not_taken_for_a_read_only_token(answering, code):
    answering(s3_error(403, code))
    with pytest.raises(AccessDenied, match="Check ACCESS_KEY_ID and SECRET_ACCESS_KEY"):
        put(open_bucket(load()), Upload(key="a.png", body=b"x"))


def test_wrong_keys_when_a_file_is_to_be_moved(answering, project, settings):
    submit_icon(project)
    answering(Answer(403))
    refused("migrate_media_to_r2", code="access_denied")


@pytest.mark.parametrize("command", LISTING)
def test_a_missing_bucket(answering, command):
    answering(s3_error(404, "NoSuchBucket"))
    assert "does not exist: 'media'" in refused(command, code="no_such_bucket")


HTML = b"<html><body><h1>It works!</h1></body></html>"


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, HTML, "text/html"),
        Answer(404, HTML, "text/html"),
        Answer(405, HTML, "text/html"),
        Answer(301, HTML, "text/html"),
        Answer(200),
        Answer(200, b"{}", "application/json"),
        Answer(400, b"{}", "application/json"),
        Answer(204),
    ],
    ids=["HTML", "404", "405", "redirect", "empty", "JSON", "400", "no content"],
)
def test_an_endpoint_that_is_no_s3_server(answering, answer):
    answering(answer)
    assert "127.0.0.1" in refused("verify_urls")


@pytest.mark.parametrize("command", LISTING)
def test_a_closed_port(settings, command, no_waiting):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        configure(settings, f"http://127.0.0.1:{held.getsockname()[1]}")
        assert "does not answer: 127.0.0.1" in refused(command, code="unreachable")


def test_a_host_that_does_not_resolve(settings, no_waiting):
    configure(settings, "https://nowhere.invalid")
    assert "does not answer: nowhere.invalid" in refused("verify_urls", code="unreachable")


def test_a_server_out_of_order(answering, no_waiting):
    answering(Answer(502, HTML, "text/html"))
    refused("verify_urls", code="unreachable")


@pytest.fixture
def no_waiting(monkeypatch):
    """Let the client's pauses between attempts pass at once."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)


# The bucket in a directory


@every_plan
def test_a_bucket_whose_parent_is_missing(settings, project, command):
    settings.R2MAINT = {**settings.R2MAINT, "BUCKET": f"file:{project / 'absent' / 'bucket'}"}
    refused(command, code="no_such_bucket")


@every_plan
def test_a_bucket_that_is_a_file(project, command):
    (project / "bucket").touch()
    refused(command, code="config")


@every_plan
def test_a_bucket_of_foreign_files(project, command):
    (project / "bucket").mkdir()
    (project / "bucket" / "photo.png").touch()
    refused(command, code="config")


@pytest.mark.parametrize("content", [b"not a database" * 100, None], ids=["text", "another's"])
def test_a_foreign_index(project, content):
    (project / "bucket").mkdir()
    path = project / "bucket" / "index.sqlite3"
    if content:
        path.write_bytes(content)
    else:
        with closing(sqlite3.connect(path)) as other:
            other.execute("CREATE TABLE notes (note)")
    refused("verify_urls", code="config")


# Databases


@pytest.fixture
def elsewhere(django_db_setup, django_db_blocker, tmp_path):
    """Let "default" be another SQLite file; the connection of the tests comes back."""
    connection = connections["default"]
    known = connection.settings_dict["NAME"]

    def move(name: Path) -> None:
        connection.close()
        connection.settings_dict["NAME"] = str(name)

    yield move
    connection.close()
    connection.settings_dict["NAME"] = known


@moves_connections
@every_command
def test_tables_that_are_not_migrated(elsewhere, project, command):
    elsewhere(project / "empty.sqlite3")
    assert "Run manage.py migrate" in refused(command, code="database")


@moves_connections
@every_command
@pytest.mark.parametrize("name", ["absent/db.sqlite3", "media"], ids=["missing", "a directory"])
def test_a_database_file_that_cannot_be_opened(elsewhere, project, command, name):
    elsewhere(project / name)
    assert "unable to open database file" in refused(command, code="database")


@moves_connections
@every_command
def test_a_database_file_that_is_none(elsewhere, project, command):
    (project / "db.sqlite3").write_bytes(b"not a database" * 100)
    elsewhere(project / "db.sqlite3")
    assert "file is not a database" in refused(command, code="database")


@moves_connections
@every_command
def test_a_database_that_is_locked(command):
    connection = connections["default"]
    connection.ensure_connection()
    connection.connection.execute("PRAGMA busy_timeout = 1")
    with closing(sqlite3.connect(connection.settings_dict["NAME"], uri=True)) as other:
        other.execute("BEGIN EXCLUSIVE")
        sentence = refused(command, code="database")
        other.execute("ROLLBACK")
    connection.close()
    assert "database 'default' (database is locked). Another process holds it" in sentence


@moves_connections
@every_command
def test_postgresql_is_down(project, command):
    connection = connections["postgres"]
    known = dict(connection.settings_dict)
    connection.close()
    connection.settings_dict.update(HOST=str(project), PASSWORD=SECRET)
    try:
        if command == "r2_runs":
            run(command)
        else:
            assert "'postgres'" in refused(command, code="database")
    finally:
        connection.close()
        connection.settings_dict.update(known)


# Options


@pytest.mark.parametrize("command", [name for name in PLANS if name != "purge_orphans"])
@pytest.mark.parametrize(
    "words",
    [
        "--model appdirectory.AppSubmision",
        "--model AppSubmission",
        "--model .",
        "--field icon_url",
        "--where nothing=1",
        "--where tracking_id__nonsense=1",
        "--where id=one",
        "--where status",
        "--where =new",
        "--database nowhere",
    ],
)
def test_a_scope_that_means_nothing(command, words):
    refused_on_the_command_line(command, *words.split())


@every_command
@pytest.mark.parametrize(
    "words",
    [
        "--max-duration soon",
        "--max-duration -1s",
        "--max-duration 5",
        "--workers 0",
        "--rate nan",
        "--format yaml",
        "--nonsense",
        "--output",
    ],
)
def test_options_that_mean_nothing(command, words):
    refused_on_the_command_line(command, *words.split())


@every_command
@pytest.mark.parametrize("limit", ["0", "-1", "all"])
def test_a_limit_below_one(command, limit):
    refused_on_the_command_line(command, "--limit", limit)


@pytest.mark.parametrize(
    "options",
    [
        {"limit": 0},
        {"limit": -1},
        {"limit": True},
        {"workers": 0},
        {"rate": -1.0},
        {"max_duration": 30},
        {"where": "status"},
        {"model": "appdirectory.Nothing"},
        {"format": "yaml"},
        {"apply": True, "dry_run": True},
    ],
    ids=str,
)
def test_options_from_code_that_mean_nothing(options):
    with pytest.raises(CommandError) as raised:
        call_command("migrate_media_to_r2", stdout=StringIO(), **options)
    assert raised.value.returncode == 2
    _require_prose(str(raised.value))


def test_a_limit_that_would_be_ignored():
    assert "--limit does not go with" in refused("verify_urls", "--limit", "3", exit_code=2)


def refused_on_the_command_line(command: str, *words: str) -> str:
    """Run with words argparse may refuse before there is a format to answer in."""
    try:
        return refused(command, *words, exit_code=2, code="usage")
    except json.JSONDecodeError:
        ended = _ended(command, words, "text")
        assert (ended.code, ended.out) == (2, "")
        assert ended.sentence.startswith("Error: ")
        return ended.sentence


@pytest.mark.parametrize("command", ["migrate_media_to_r2", "purge_orphans", "reoptimize"])
def test_apply_with_dry_run(command):
    refused(command, "--apply", "--dry-run", exit_code=2, code="usage")


@every_command
def test_an_output_in_a_missing_directory(command, project):
    sentence = refused(command, "--output", str(project / "absent" / "report"), code="output")
    assert "absent" in sentence


@every_command
def test_an_output_that_is_a_directory(command, project):
    refused(command, "--output", str(project), code="output")


def test_apply_without_a_terminal(project):
    submit_icon(project)
    assert "--no-input" in refused("migrate_media_to_r2", "--apply", code="declined")


@pytest.mark.parametrize(
    "words", ["--apply", "--undo", "nothing", "nothing --undo", "nothing --undo --apply"]
)
def test_runs_that_are_not_there(words):
    refused("r2_runs", *words.split(), exit_code=2, code="usage")


@pytest.mark.parametrize(
    "words",
    [
        "--quality 0",
        "--quality fine",
        "--min-ssim 2",
        "--max-size 100",
        "--max-size 0x0",
        "--min-saving 101",
        "--sample -1",
        "--to gif",
    ],
)
def test_recipes_that_mean_nothing(words):
    refused_on_the_command_line("reoptimize", *words.split())


@pytest.mark.parametrize(
    "words",
    ["--grace soon", "--max-delete 200%", "--max-delete -1", "--override all", "--model a.B"],
)
def test_purges_that_mean_nothing(words):
    refused_on_the_command_line("purge_orphans", *words.split())


@pytest.mark.parametrize(
    "words", ["--by colour", "--depth 0", "--top 0", "--class-a -1", "--budget -1", "--budget x"]
)
def test_reports_that_mean_nothing(words):
    refused_on_the_command_line("usage_report", *words.split())


def test_outcomes_that_mean_nothing():
    refused_on_the_command_line("verify_urls", "--fail-on", "broken")


# Files


def submit_icon(project: Path, name: str = "icon.png", body: bytes | None = None) -> Path:
    """Write a local file that a row names."""
    path = project / "media" / name
    path.write_bytes(drawings.icon(1) if body is None else body)
    AppSubmission.objects.create(
        tracking_id=f"T{AppSubmission.objects.count()}", app_icon_url=f"/media/{name}"
    )
    return path


def test_local_files_that_cannot_be_read_are_skipped_and_the_rest_is_moved(project):
    submit_icon(project)
    submit_icon(project, "directory.png").unlink()
    (project / "media" / "directory.png").mkdir()
    submit_icon(project, "dangling.png").unlink()
    (project / "media" / "dangling.png").symlink_to(project / "media" / "gone.png")
    submit_icon(project, "loop.png").unlink()
    (project / "media" / "loop.png").symlink_to(project / "media" / "loop.png")
    submit_icon(project, "memory.png").unlink()
    (project / "media" / "memory.png").symlink_to("/proc/self/mem")
    submit_icon(project, "empty.png", b"")
    document = apply("migrate_media_to_r2", exit_code=3)
    reasons = {Path(item["source"]).stem: item["reason"] for item in document["items"]}
    assert reasons == {
        "icon": None,
        "directory": "missing",
        "dangling": "missing",
        "loop": "missing",
        "memory": "outside",
        "empty": "empty",
    }
    assert document["summary"]["uploaded"] == 1


def test_a_truncated_picture_fails_alone(project):
    bucket = DirectoryBucket(project / "bucket")
    whole = drawings.photograph(1)
    for name, body in (("whole", whole), ("cut", whole[: len(whole) // 2])):
        key = f"submissions/{name}.jpg"
        put(bucket, Upload(key=key, body=body, headers=Headers(content_type="image/jpeg")))
        url = f"https://media.example.org/{key}"
        AppSubmission.objects.create(tracking_id=name, app_icon_url=url)
    document = apply("reoptimize", exit_code=3)
    actions = {item["key"]: (item["action"], item["reason"]) for item in document["items"]}
    assert actions == {
        "submissions/cut.jpg": ("fail", "corrupt"),
        "submissions/whole.jpg": ("convert", None),
    }


# A real command line


TUTORIAL = """
import os
from pathlib import Path
BASE_DIR = Path(__file__).resolve().parent
SECRET_KEY = "x"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["r2maint", "submissions"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "db.sqlite3"}}
if os.getenv("R2_ACCOUNT_ID"):
    AWS_ACCESS_KEY_ID = os.getenv("R2_ACCESS_KEY_ID")
    AWS_SECRET_ACCESS_KEY = os.getenv("R2_SECRET_ACCESS_KEY")
    AWS_S3_ENDPOINT_URL = f"https://{os.getenv('R2_ACCOUNT_ID')}.r2.cloudflarestorage.com"
    AWS_STORAGE_BUCKET_NAME = os.getenv("R2_BUCKET_NAME", "quran-apps")
    AWS_S3_REGION_NAME = os.getenv("R2_REGION", "auto")
    AWS_S3_CUSTOM_DOMAIN = (
        f"{AWS_STORAGE_BUCKET_NAME}.{os.getenv('R2_ACCOUNT_ID')}.r2.cloudflarestorage.com"
    )
    AWS_S3_URL_PROTOCOL = "https"
    AWS_S3_ADDRESS_STYLE = "virtual"
    AWS_DEFAULT_ACL = "public-read"
    DEFAULT_FILE_STORAGE = "storages.backends.s3boto3.S3Boto3Storage"
else:
    MEDIA_ROOT = os.path.join(BASE_DIR, "media")
    MEDIA_URL = "/media/"
"""
MODELS = """
from django.db import models
class AppSubmission(models.Model):
    app_icon_url = models.URLField(blank=True)
    screenshots_en = models.JSONField(default=list)
"""
MANAGE = """
import sys
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
"""


class Site:
    """A project in a directory of its own, run as its owner would run it."""

    def __init__(self, place: Path) -> None:
        self.place = place
        (place / "submissions").mkdir()
        (place / "submissions" / "__init__.py").touch()
        (place / "submissions" / "models.py").write_text(MODELS)
        (place / "settings.py").write_text(TUTORIAL)
        (place / "manage.py").write_text(MANAGE)

    def manage(self, *words: str, **environment: str) -> subprocess.CompletedProcess:
        kept = {name: text for name, text in os.environ.items() if not name.startswith("R2_")}
        kept |= {"DJANGO_SETTINGS_MODULE": "settings", "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            [sys.executable, "manage.py", *words],
            cwd=self.place,
            env=kept | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Site:
    return Site(tmp_path_factory.mktemp("site"))


R2 = {
    "R2_ACCOUNT_ID": "0123456789abcdef0123456789abcdef",
    "R2_ACCESS_KEY_ID": "0123456789abcdef0123456789abcdef",
    "R2_SECRET_ACCESS_KEY": SECRET,
    "R2_BUCKET_NAME": "quran-apps-submissions",
}


@pytest.mark.parametrize(
    ("words", "environment", "code", "told"),
    [
        ("verify_urls", {}, 1, "CommandError: No bucket is configured. Set BUCKET,"),
        ("purge_orphans --apply", R2, 1, "Run manage.py migrate r2maint.\n"),
        ("reoptimize", R2, 1, "'submissions_appsubmission' in database 'default'. Run manage.py"),
        ("usage_report --limit 3", R2, 2, "a count of some objects is no count."),
        ("migrate_media_to_r2 --apply -n", R2, 2, "Pass one of them.\n"),
        ("r2_runs --nonsense", R2, 2, "unrecognized arguments: --nonsense\n"),
        ("check", R2, 0, "(r2maint.W008) No local media is known"),
    ],
    ids=["no bucket", "no own tables", "no tables", "rejected", "both", "unknown", "check"],
)
def test_the_settings_of_the_tutorial_on_a_real_command_line(site, words, environment, code, told):
    (site.place / "db.sqlite3").touch()
    ended = site.manage(*words.split(), **environment)
    assert (ended.returncode, ended.stdout.strip()) == (code, "")
    assert told in ended.stderr
    assert "Traceback" not in ended.stderr
    assert SECRET not in ended.stderr
    assert code == 0 or ended.stderr.count("CommandError") <= 1


def test_no_local_media_is_told_and_not_taken_for_nothing_to_do(settings, project):
    submit_icon(project)
    settings.R2MAINT = {**settings.R2MAINT, "LOCAL_MEDIA": {}}
    (note,) = run("migrate_media_to_r2")["notes"]
    assert "LOCAL_MEDIA" in note


def test_nothing_in_scope_is_told():
    for command in ("migrate_media_to_r2", "verify_urls", "reoptimize"):
        (note,) = run(command)["notes"]
        assert note.startswith("No value in scope names")


def test_files_of_file_fields_move_without_a_public_url(settings, project):
    settings.R2MAINT = {**settings.R2MAINT, "PUBLIC_URL": ""}
    (project / "media" / "a.png").write_bytes(drawings.icon(1))
    App.objects.create(name_en="a", application_icon="a.png")
    assert apply("migrate_media_to_r2")["summary"]["uploaded"] == 1


def test_urls_cannot_be_written_without_a_public_url(settings, project):
    settings.R2MAINT = {**settings.R2MAINT, "PUBLIC_URL": ""}
    submit_icon(project)
    assert "PUBLIC_URL" in refused("migrate_media_to_r2", code="config")
    App.objects.create(name_en="a", application_icon="icon.png")
    assert "PUBLIC_URL" in refused("migrate_media_to_r2", code="config")
