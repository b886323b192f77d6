from __future__ import annotations

import json
from io import StringIO

import pytest
from django.core.management import call_command

from r2maint import conf
from r2maint.bucket import open_bucket
from r2maint.management.commands.purge_orphans import Command
from r2maint.models import Change, Run
from r2maint.purge import cdn_cache
from tests.appdirectory.models import AppSubmission
from tests.commands import apply, run
from tests.conftest import DATABASES
from tests.servers.cloudflare_answers import DONE, TOKEN, ZONE, told
from tests.servers.s3_server import Answer, proxy
from tests.worlds.command_runs import NAMED, fill, media

pytestmark = pytest.mark.django_db(databases=DATABASES)

ORPHAN = "submissions/old (1) صورة.webp"
AT_ONCE = (
    "--grace",
    "0",
    "--no-second-look",
    "--max-delete",
    "100%",
    "--adopt",
    "--override",
    "class",
)
PURGE = (*AT_ONCE, "--purge-cache")


@pytest.fixture
def api(monkeypatch):
    """An HTTP server that answers as Cloudflare's API does."""
    with proxy() as server:
        server.fault = lambda request: DONE
        monkeypatch.setattr(Command, "api_url", server.url)
        yield server


@pytest.fixture
def bucket(project, settings):
    settings.R2MAINT = {
        **settings.R2MAINT,
        "PUBLIC_URL": "https://media.example.org/",
        "ALIASES": ["https://old.example.org/m/", "https://pub-1.r2.dev/"],
        "API_TOKEN": TOKEN,
        "ZONE_ID": ZONE,
    }
    made = open_bucket(conf.load())
    fill(made, NAMED, ORPHAN)
    AppSubmission.objects.create(tracking_id="QAD-1", app_icon_url=f"https://m/{NAMED}")
    return made


def purged(api) -> list[str]:
    return [url for request in api.requests for url in json.loads(request.body)["files"]]


def of_keys(api) -> set[str]:
    return {url for url in purged(api) if "submissions" in url}


def refusing(api, wrong: str, answer: Answer) -> None:
    """Let the server refuse every request with a URL that holds this."""
    api.fault = lambda request: answer if wrong in request.body.decode() else DONE


def test_every_cached_url_of_what_was_deleted_is_purged(bucket, api):
    document = apply("purge_orphans", *PURGE)
    path = "submissions/old%20{}1{}%20%D8%B5%D9%88%D8%B1%D8%A9.webp"
    assert of_keys(api) == {
        base + spelled
        for base in ("https://media.example.org/", "https://old.example.org/m/")
        for spelled in (path.format("(", ")"), path.format("%28", "%29"))
    }
    assert (document["summary"]["deleted"], document["summary"]["cache_purged"]) == (1, 4)
    assert TOKEN not in json.dumps(document) + str(Run.objects.get().options)


def test_a_plan_asks_nothing_and_says_what_caches_do(bucket, api):
    run("purge_orphans", *PURGE)
    assert api.requests == []
    out = StringIO()
    call_command("purge_orphans", *AT_ONCE, stdout=out, stderr=StringIO())
    assert "--purge-cache" in out.getvalue()


@pytest.mark.parametrize(
    "missing",
    [{"API_TOKEN": ""}, {"ZONE_ID": ""}, {"PUBLIC_URL": "https://pub-1.r2.dev/", "ALIASES": []}],
)
def test_what_is_missing_is_an_error_before_anything_is_deleted(bucket, api, settings, missing):
    settings.R2MAINT = {**settings.R2MAINT, **missing}
    document = apply("purge_orphans", *PURGE, exit_code=1)
    assert document["error"]["code"] == "config"
    assert ORPHAN in media(bucket)


def test_token_and_zone_are_found_in_the_environment(bucket, api, settings, monkeypatch):
    settings.R2MAINT = {**settings.R2MAINT, "API_TOKEN": "", "ZONE_ID": ""}
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", TOKEN)
    monkeypatch.setenv("CLOUDFLARE_ZONE_ID", ZONE)
    apply("purge_orphans", *PURGE)
    assert api.requests[-1].target == f"/zones/{ZONE}/purge_cache"


def test_a_token_that_is_refused_stops_the_purge_before_it_begins(bucket, api):
    refusing(api, "", told(403, (10000, "Authentication error")))
    document = apply("purge_orphans", *PURGE, exit_code=1)
    assert "Cache Purge" in document["error"]["hint"]
    assert ORPHAN in media(bucket)
    assert len(api.requests) == 1


def test_an_alias_of_another_zone_is_left_out(bucket, api):
    refusing(api, "old.example.org", told(400, (1082, "You can only purge files for this zone")))
    document = apply("purge_orphans", *PURGE)
    assert document["summary"]["cache_purged"] == 2


def test_failures_are_findings_and_the_next_run_catches_up(bucket, api):
    refusing(api, "submissions", told(403, (10000, "Authentication error")))
    document = apply("purge_orphans", *PURGE, exit_code=3)
    summary = document["summary"]
    assert (summary["deleted"], summary["cache_purged"], summary["cache_failed"]) == (1, 0, 4)
    assert media(bucket) == [NAMED]
    api.fault = lambda request: DONE
    assert apply("purge_orphans", *PURGE)["summary"]["cache_purged"] == 4
    assert apply("purge_orphans", *PURGE)["run_id"] is None


def test_one_url_that_is_refused_does_not_keep_the_others(bucket, api):
    fill(bucket, *(f"submissions/{number}.webp" for number in range(150)))
    refusing(api, "submissions/77.webp", told(400, (1012, "Invalid URL")))
    document = apply("purge_orphans", *PURGE, exit_code=3)
    assert document["summary"]["cache_failed"] == 2
    assert document["summary"]["cache_purged"] == 150 * 2 + 4 - 2
    assert max(len(json.loads(request.body)["files"]) for request in api.requests) == 100


def test_a_run_killed_before_its_caches_were_purged_purges_them_when_it_goes_on(
    bucket, api, monkeypatch
):
    def die(*given: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("r2maint.management.commands.purge_orphans.purge_runs", die)
        apply("purge_orphans", *PURGE, exit_code=130)
    assert (media(bucket), of_keys(api)) == ([NAMED], set())
    document = apply("purge_orphans", *PURGE)
    assert len(of_keys(api)) == 4
    assert document["run_id"] == Run.objects.get().pk


def test_what_was_restored_is_purged_too(bucket, api):
    apply("purge_orphans", *AT_ONCE)
    Change.objects.filter(kind="delete").update(state="undone")
    caches = cdn_cache.Caches.from_config(conf.load(), api_url=api.url)
    assert cdn_cache.purge_runs(caches, [Run.objects.get().pk]).purged == 4


def test_without_the_option_nothing_is_owed(bucket, api):
    apply("purge_orphans", *AT_ONCE)
    assert apply("purge_orphans", *PURGE)["run_id"] is None
    assert api.requests == []
