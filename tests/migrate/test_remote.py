"""External pictures follow into the bucket with --remote: fetched once, proved, or left with a reason."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from urllib.parse import quote

import pytest
from django.core.management import CommandError, call_command
from PIL import Image

from r2maint.bucket import get, head, open_bucket
from r2maint.conf import load
from r2maint.control import Control
from r2maint.http import FetchLimits
from r2maint.migrate.prepare import Preparer
from r2maint.models import Change, Run
from tests.appdirectory.models import App, AppSubmission
from tests.commands import apply, run
from tests.conftest import DATABASES
from tests.oddities.models import Gallery
from tests.servers.websites import BREAK, Site, drip, reply, site
from tests.worlds.local_media import dump, stored, submission
from tests.worlds.local_media import picture as local_picture
from tests.worlds.remote_media import keys
from tests.worlds.stored_pictures import picture

pytestmark = [pytest.mark.thorough, pytest.mark.django_db(transaction=True, databases=DATABASES)]

COMMAND = "migrate_media_to_r2"
RULES = {
    "appdirectory.AppSubmission": {
        "app_icon_url": {"key": "submissions/{tracking_id}/icons/{stem}.{hash}{ext}"},
        "main_image_en": {"key": "submissions/{tracking_id}/main_en/{stem}.{hash}{ext}"},
        "screenshots_en": {"key": "submissions/{tracking_id}/screens_en/{stem}.{hash}{ext}"},
    }
}


@dataclass
class Web:
    """A web site of other people's pictures: what it answers by path, and what it was asked."""

    site: Site
    answers: dict[str, Callable[[], Iterable[bytes]]]

    @property
    def url(self) -> str:
        return self.site.url

    def asked(self) -> list[str]:
        return sorted(request.target for request in self.site.requests)


@pytest.fixture
def web(project, settings, monkeypatch) -> Iterator[Web]:
    """Another site, on a private address that FETCH_ALLOW names."""
    monkeypatch.setattr("r2maint.http.retry.FIRST_WAIT_SECONDS", 0.0)
    answers: dict[str, Callable[[], Iterable[bytes]]] = {}
    absent = partial(list, [reply(404)])
    with site(lambda request: answers.get(request.target, absent)()) as running:
        allowed = [f"127.0.0.1:{running.port}"]
        settings.R2MAINT = {**settings.R2MAINT, "FETCH_ALLOW": allowed, "FIELDS": RULES}
        yield Web(running, answers)


def publish(web: Web, path: str, body: bytes | None = None, number: int = 0) -> bytes:
    """Let the site have a picture, and return its bytes."""
    body = picture(number) if body is None else body
    web.answers[path] = lambda: [reply(200, body, "Content-Type: text/html")]
    return body


def by_reason(document) -> dict[str, str]:
    """Return why each source stayed, by the last segment of its URL."""
    return {item["source"].rpartition("/")[2]: item["reason"] for item in document["items"]}


# What is fetched


def test_a_plan_counts_external_pictures_and_asks_nobody(web):
    publish(web, "/icon.png")
    submission(app_icon_url=f"{web.url}/icon.png")

    left = run(COMMAND)
    plan = run(COMMAND, "--remote")

    assert (left["summary"]["external_left"], left["summary"]["references"]) == (1, 0)
    assert [note for note in left["notes"] if "--remote" in note]
    (item,) = plan["items"]
    assert (item["action"], item["key"], item["url"], item["sha256"]) == ("upload", *[None] * 3)
    assert item["source"] == f"{web.url}/icon.png"
    assert (plan["summary"]["to_upload"], plan["summary"]["to_rewrite"]) == (1, 1)
    assert plan["summary"]["external_left"] == 0
    assert web.site.connections() == 0


def test_without_remote_an_apply_leaves_external_pictures_alone(web):
    publish(web, "/icon.png")
    local_picture(load().local_media[0][1].parent, "local.png")
    row = submission(app_icon_url=f"{web.url}/icon.png", main_image_en="/media/local.png")

    done = apply(COMMAND)

    row.refresh_from_db()
    assert row.app_icon_url == f"{web.url}/icon.png"
    assert (done["summary"]["uploaded"], done["summary"]["external_left"]) == (1, 1)
    assert web.site.connections() == 0


def test_external_pictures_move_under_the_template_and_the_undo_restores_every_url(web, alias):
    bodies = {
        "/icon.php?id=3&size=%20big": publish(web, "/icon.php?id=3&size=%20big", picture(1)),
        "/a%20b/%D8%A3%D9%8A.png": publish(web, "/a%20b/%D8%A3%D9%8A.png", picture(2)),
        "/photo.png": publish(web, "/photo.png", picture(3, name="JPEG")),
    }
    urls = [f"{web.url}{path}" for path in bodies]
    urls[1] = f"{web.url}/a b/أي.png"
    row = submission(alias, app_icon_url=urls[0], screenshots_en=[urls[1], urls[2], "a.png?"])
    before = dump(alias)

    done = apply(COMMAND, "--remote", exit_code=0)

    row.refresh_from_db(using=alias)
    values = [row.app_icon_url, *row.screenshots_en[:2]]
    assert [stored(value) for value in values] == list(bodies.values())
    start = f"https://media.example.org/submissions/{row.tracking_id}"
    assert row.app_icon_url.startswith(f"{start}/icons/icon.")
    assert values[1].startswith(f"{start}/screens_en/{quote('أي')}.")
    assert values[2].endswith(".jpg")
    assert (done["summary"]["uploaded"], done["summary"]["rewritten"]) == (3, 3)
    info = head(open_bucket(load()), done["items"][-1]["key"])
    assert info is not None
    assert info.headers.content_type in ("image/png", "image/jpeg")
    assert info.headers.cache_control == "public, max-age=31536000, immutable"
    assert info.headers.metadata["sha256"] == done["items"][-1]["sha256"]
    again = apply(COMMAND, "--remote")
    assert (again["run_id"], again["summary"]["references"]) == (None, 0)

    apply("r2_runs", done["run_id"], "--undo")
    assert dump(alias) == before


def test_one_url_is_fetched_once_however_many_rows_name_it(web, alias):
    publish(web, "/shared.png")
    url = f"{web.url}/shared.png"
    rows = [submission(alias, app_icon_url=url, screenshots_en=[url, url]) for _ in range(4)]

    done = apply(COMMAND, "--remote")

    (item,) = done["items"]
    assert web.asked() == ["/shared.png"]
    assert not any(row.tracking_id in item["key"] for row in rows)
    assert (done["summary"]["uploaded"], done["summary"]["rewritten"]) == (1, 12)
    assert {AppSubmission.objects.using(alias).get(pk=r.pk).app_icon_url for r in rows} == {
        item["url"]
    }


def test_pictures_of_one_content_and_stem_share_their_object(web):
    for path in ("/one/logo.png", "/two/logo.png"):
        publish(web, path)
        urls = [f"{web.url}{path}"] * 2
        submission(app_icon_url=urls[0])
        submission(app_icon_url=urls[1])

    done = apply(COMMAND, "--remote")["summary"]

    assert (done["uploaded"], done["already_there"], done["rewritten"]) == (1, 1, 4)
    assert len(keys()) == 1


def test_a_url_that_another_row_names_later_keeps_its_key(web):
    publish(web, "/icon.png")
    first = submission(app_icon_url=f"{web.url}/icon.png")
    apply(COMMAND, "--remote")
    second = submission(main_image_en=f"{web.url}/icon.png")

    again = apply(COMMAND, "--remote")["summary"]

    first.refresh_from_db()
    second.refresh_from_db()
    assert second.main_image_en == first.app_icon_url
    assert (again["uploaded"], again["already_there"], again["rewritten"]) == (0, 1, 1)


def test_page_links_in_fields_nobody_named_are_never_fetched(web):
    publish(web, "/page.png")
    url = f"{web.url}/page.png"
    row = submission(website_link=url, description_en=f"{url} and {url}", main_image_ar=url)
    Gallery.objects.create(content={"a": url})

    done = apply(COMMAND, "--remote")

    row.refresh_from_db()
    assert (done["run_id"], done["summary"]["references"]) == (None, 0)
    assert row.website_link == row.main_image_ar == url
    assert web.site.connections() == 0


def test_a_file_field_that_holds_a_url_follows_where_fields_names_it(web, settings):
    settings.R2MAINT = {
        **settings.R2MAINT,
        "FIELDS": {"appdirectory.App": {"application_icon": {}}},
    }
    body = publish(web, "/icon.png")
    app = App.objects.create(name_en="a")
    App.objects.update(application_icon=f"{web.url}/icon.png")

    apply(COMMAND, "--remote")

    ((name, width),) = App.objects.values_list("application_icon", "icon_width")
    assert (stored(name), width) == (body, app.icon_width)


def test_a_url_without_a_scheme_is_fetched_by_https(web):
    submission(app_icon_url="//images.example/icon.png")

    (item,) = run(COMMAND, "--remote")["items"]

    assert item["source"] == "https://images.example/icon.png"
    assert item["references"][0]["value"] == "//images.example/icon.png"


@pytest.mark.parametrize("options", [(), ("--optimize", "--workers", "1")], ids=["as-is", "small"])
def test_few_fetched_pictures_are_in_memory_at_once(web, monkeypatch, options):
    paths = [f"/{number:02}.png" for number in range(40)]
    for path in paths:
        publish(web, path, picture(int(path[1:3]), size=(60, 40)))
    submission(screenshots_en=[f"{web.url}{path}" for path in paths])
    asked: list[int] = []
    write = Preparer._file

    def count_and_write(preparer: Preparer, body: bytes) -> Path:
        asked.append(len(web.site.requests))
        return write(preparer, body)

    monkeypatch.setattr(Preparer, "_file", count_and_write)

    apply(COMMAND, "--remote", *options)

    # Of forty no more than half were asked for when the first was laid on the disk.
    assert asked[0] < 20
    assert len(asked) == 40


# What is not


MIB = 2**20


def animation() -> bytes:
    frames = [Image.effect_noise((64, 64), 20 + 40 * n).convert("P") for n in range(6)]
    out = io.BytesIO()
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
    return out.getvalue()


def redirect(location: str) -> bytes:
    return reply(302, b"", f"Location: {location}")


@pytest.mark.parametrize("options", [(), ("--optimize",)], ids=["as-it-is", "optimized"])
def test_what_cannot_be_proved_a_picture_is_skipped_with_a_reason(web, options):
    unusable = {
        "gone.png": [reply(404)],
        "away.png": [reply(410)],
        "broken.png": [reply(500)],
        "forbidden.png": [reply(403)],
        "reset.png": [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", BREAK],
        "empty.png": [reply(200, b"")],
        "page.png": [reply(200, b"<!doctype html>", "Content-Type: image/png")],
        "torn.png": [reply(200, picture()[:-400])],
        "torn.gif": [reply(200, animation()[:-1500])],
        "drawing.svg": [reply(200, b"<svg xmlns='http://www.w3.org/2000/svg'/>")],
        "claims.png": [reply(200, b"x", length=11 * MIB)],
        "endless.png": [b"HTTP/1.1 200 OK\r\n\r\n", *[picture() + bytes(MIB)] * 64, BREAK],
        "loop.png": [redirect("/loop.png")],
        "inside.png": [redirect("http://169.254.169.254/latest/meta-data/")],
        "file.png": [redirect("file:///etc/passwd")],
        "moved.png": [redirect("/ok.png")],
        "ok.png": [reply(200, picture())],
    }
    web.answers.update({f"/{name}": partial(iter, said) for name, said in unusable.items()})
    urls = [f"{web.url}{path}" for path in web.answers]
    private = "http://10.0.0.1/private.png"
    secret = f"http://user:hunter2@127.0.0.1:{web.site.port}/secret.png"
    row = submission(screenshots_en=[*urls, private, secret])

    done = apply(COMMAND, "--remote", *options, exit_code=3)

    row.refresh_from_db()
    moved_urls = {f"{web.url}/ok.png", f"{web.url}/moved.png"}
    for old, new in zip([*urls, private, secret], row.screenshots_en, strict=True):
        assert new.startswith("https://media.example.org/") if old in moved_urls else new == old
    assert {name: why for name, why in by_reason(done).items() if why} == {
        "gone.png": "gone",
        "away.png": "gone",
        "broken.png": "unsure",
        "forbidden.png": "unsure",
        "reset.png": "unsure",
        "empty.png": "empty",
        "page.png": "not_an_image",
        "torn.png": "corrupt",
        "torn.gif": "corrupt",
        "drawing.svg": "unsupported",
        "claims.png": "too_large",
        "endless.png": "too_large",
        "loop.png": "too_many_redirects",
        "inside.png": "not_public",
        "file.png": "not_http",
        "private.png": "not_public",
        "secret.png": "credentials",
    }
    assert done["summary"]["skipped"] == 17
    assert {item["action"] for item in done["items"] if item["reason"]} == {"skip"}


def test_a_site_that_takes_too_long_is_given_up(web, monkeypatch):
    limits = partial(FetchLimits, seconds=0.3, attempts=2)
    monkeypatch.setattr("r2maint.migrate.prepare.FetchLimits", limits)
    web.answers["/slow.png"] = lambda: chain([reply(200, b"", length=999)], drip(b"x"))
    row = submission(app_icon_url=f"{web.url}/slow.png")

    done = apply(COMMAND, "--remote", exit_code=3)

    row.refresh_from_db()
    assert row.app_icon_url == f"{web.url}/slow.png"
    assert by_reason(done) == {"slow.png": "too_slow"}


def test_a_url_with_a_nul_byte_stops_nothing(web):
    publish(web, "/icon.png")
    odd = f"{web.url}/a\0b.png"
    submission(app_icon_url=odd, screenshots_en=[f"{web.url}/icon.png"])

    done = apply(COMMAND, "--remote", exit_code=3)

    assert AppSubmission.objects.get().app_icon_url == odd
    assert (done["summary"]["rewritten"], done["summary"]["skipped"]) == (1, 1)


def test_a_picture_larger_than_its_field_allows_is_skipped(web, settings):
    rules = {"appdirectory.AppSubmission": {"app_icon_url": {"max_bytes": 1000}}}
    settings.R2MAINT = {**settings.R2MAINT, "FIELDS": rules}
    publish(web, "/icon.png")
    row = submission(app_icon_url=f"{web.url}/icon.png")

    done = apply(COMMAND, "--remote", exit_code=3)

    row.refresh_from_db()
    assert row.app_icon_url == f"{web.url}/icon.png"
    assert by_reason(done) == {"icon.png": "too_large"}


@pytest.mark.parametrize("format", ["text", "json", "jsonl", "csv"])
def test_no_secret_of_a_url_is_in_any_output(web, format, caplog):
    publish(web, "/icon.png?X-Amz-Signature=5ecre7&Signature=5ecre7&token=5ecre7")
    host = f"127.0.0.1:{web.site.port}"
    submission(
        app_icon_url=f"{web.url}/icon.png?X-Amz-Signature=5ecre7&Signature=5ecre7&token=5ecre7",
        screenshots_en=[f"http://user:5ecre7@{host}/a.png", f"{web.url}/b.png?Signature=5ecre7"],
    )
    out, err = io.StringIO(), io.StringIO()

    told = []
    for words in ((COMMAND, "--remote"), (COMMAND, "--remote", "--apply", "--no-input")):
        try:
            call_command(*words, "--all", "--format", format, stdout=out, stderr=err)
        except CommandError as error:
            told.append(str(error))
    run_id = Run.objects.get().pk
    call_command("r2_runs", run_id, "--all", "--format", format, stdout=out, stderr=err)

    assert Change.objects.filter(kind="rewrite", state="done").count() == 1
    assert "icon.png" in out.getvalue()
    for text in (out.getvalue(), err.getvalue(), caplog.text, *told):
        assert "5ecre7" not in text


def test_the_csv_report_names_every_source(web):
    publish(web, "/icon.png")
    submission(app_icon_url=f"{web.url}/icon.png")
    out = io.StringIO()

    call_command(COMMAND, "--remote", "--format", "csv", stdout=out)

    (row,) = csv.DictReader(io.StringIO(out.getvalue()))
    assert (row["source"], row["key"]) == (f"{web.url}/icon.png", "")


# Which of them


def test_where_and_limit_choose_external_sources_too(web):
    for number in range(3):
        publish(web, f"/{number}.png", number=number)
        submission(
            app_icon_url=f"{web.url}/{number}.png", status="pending" if number else "approved"
        )

    done = apply(COMMAND, "--remote", "--where", "status=approved")
    assert web.asked() == ["/0.png"]
    assert done["summary"]["uploaded"] == 1

    done = apply(COMMAND, "--remote", "--limit", "1")
    assert (done["summary"]["uploaded"], len(web.asked())) == (1, 2)
    assert apply(COMMAND, "--remote")["summary"]["uploaded"] == 1


@pytest.mark.parametrize("option", ["--remote", "--optimize"])
def test_a_prefix_of_keys_nobody_knows_yet_is_refused(web, option):
    told = run(COMMAND, option, "--prefix", "submissions/", exit_code=2)

    assert told["error"]["code"] == "usage"
    assert "--prefix" in told["error"]["message"]
    assert "--where" in told["error"]["hint"]


# Stopped


def test_a_stopped_run_rewrites_what_it_fetched_and_the_next_one_goes_on(web, monkeypatch, alias):
    monkeypatch.setattr("r2maint.migrate.apply.BATCH", 40)  # four that are to be fetched
    paths = [f"/{number:02}.png" for number in range(12)]
    bodies = {path: publish(web, path, number=n) for n, path in enumerate(paths)}
    rows = [submission(alias, app_icon_url=f"{web.url}{path}") for path in paths]
    answer, control = web.answers[paths[-1]], Control()

    def stop_and_answer():
        control.signal_code = 130
        return answer()

    web.answers[paths[-1]] = stop_and_answer
    monkeypatch.setattr("r2maint.management.commands._base.Control", lambda: control)

    stopped = apply(COMMAND, "--remote", exit_code=130)

    # The first batch's rows followed; of the second one, the uploads under way ended.
    assert stopped["summary"]["rewritten"] == 4
    assert 4 <= stopped["summary"]["uploaded"] <= 8
    control.signal_code, web.answers[paths[-1]] = 0, answer
    done = apply(COMMAND, "--remote")
    assert done["run_id"] == stopped["run_id"]
    for row, body in zip(rows, bodies.values(), strict=True):
        row.refresh_from_db(using=alias)
        assert stored(row.app_icon_url) == body
    assert len(keys()) == 12
    changes = Change.objects.using(alias).filter(kind="rewrite", state="done")
    assert changes.count() == 12


@pytest.mark.parametrize(
    "step",
    [
        "r2maint.journal.journal.Journal.intend",
        "r2maint.bucket.DirectoryBucket.put_many",
        "r2maint.journal.journal.Journal.settle",
        "r2maint.migrate.apply.swap",
    ],
)
def test_a_run_killed_at_any_step_finds_its_key_again(web, monkeypatch, step):
    body = publish(web, "/icon.png")
    row = submission(app_icon_url=f"{web.url}/icon.png")

    def killed(*args, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(step, killed)
        apply(COMMAND, "--remote", exit_code=130)
    other = submission(main_image_en=f"{web.url}/icon.png")

    done = apply(COMMAND, "--remote")

    row.refresh_from_db()
    other.refresh_from_db()
    assert row.app_icon_url == other.main_image_en
    assert get(open_bucket(load()), keys()[0]).body == body
    assert (len(keys()), Run.objects.count()) == (1, 1)
    assert done["summary"]["rewritten"] == 2
