"""Uploads from application code: what is stored, what is refused, and what is told of it."""

from __future__ import annotations

import io
import logging
import pickle
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from django.core.files import File
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile, TemporaryUploadedFile
from PIL import Image

from r2maint.bucket import IMMUTABLE, ObjectInfo, get, open_bucket
from r2maint.conf import load
from r2maint.control import Control
from r2maint.errors import ConfigError
from r2maint.images import RECIPE_KEY, SOURCE_KEY, Recipe, inspect
from r2maint.keys import Addresses
from r2maint.references.scope import Scope
from r2maint.reoptimize.plan import plan_reoptimize
from r2maint.signals import upload_failed
from r2maint.storage import R2StorageService, StorageError, get_storage_service, optimize_and_upload
from r2maint.storage.content import SMALL_BYTES
from r2maint.storage.places import shared_bucket
from tests.appdirectory.models import AppSubmission
from tests.conftest import DATABASES
from tests.servers.s3_server import Answer, Proxy, proxy, s3_error
from tests.worlds.stored_pictures import picture

DOCS = Path(__file__).resolve().parents[2] / "docs" / "storage.md"
PUBLIC = "https://media.example.org/"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"></svg>'


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    """Let botocore and the bulk engine try again at once."""
    monkeypatch.setattr("r2maint.http.retry.FIRST_WAIT_SECONDS", 0.0)
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda seconds: None))


@pytest.fixture
def web(project, settings) -> Iterator[Proxy]:
    """A web server of this machine that the project may fetch from; it answers with a picture."""
    with proxy() as state:
        host = state.url.removeprefix("http://")
        settings.R2MAINT = {**settings.R2MAINT, "FETCH_ALLOW": [host]}
        answer_with(state, picture())
        yield state


@pytest.fixture
def between(remote, settings, s3_server) -> Iterator[Proxy]:
    """The project on an S3 server, through a proxy."""
    with proxy(s3_server) as state:
        settings.R2MAINT = {**settings.R2MAINT, "ENDPOINT_URL": state.url}
        yield state


def answer_with(
    web: Proxy,
    body: bytes,
    *,
    status: int = 200,
    content_type: str = "text/plain",
    location: str = "",
) -> None:
    web.fault = lambda request: Answer(status, body, content_type, location)


def stored(url: str) -> tuple[ObjectInfo, bytes]:
    """Return what the bucket holds behind a URL of the service."""
    config = load()
    target = Addresses.from_config(config).locate(url)
    assert target is not None
    found = get(open_bucket(config), target.key)
    return found.info, found.body


def keys() -> list[str]:
    return [item.key for page in open_bucket(load()).list_pages() for item in page]


def failure(call: Callable[[], object]) -> StorageError:
    with pytest.raises(StorageError) as caught:
        call()
    return caught.value


# What is stored


def test_a_url_becomes_an_object_of_its_own_that_a_row_can_name(web):
    body = picture()

    url = get_storage_service().upload_from_url(f"{web.url}/a/Icon%20One.JPEG?v=2", "icons/")

    assert re.fullmatch(r"https://media\.example\.org/icons/Icon-One\.[0-9a-f]{16}\.png", url)
    info, found = stored(url)
    assert found == body
    assert info.headers.content_type == "image/png"
    assert info.headers.cache_control == IMMUTABLE
    assert len(info.headers.metadata["sha256"]) == 64


def test_the_same_bytes_get_a_new_key_every_time(web):
    storage = get_storage_service()

    urls = {storage.upload_from_url(f"{web.url}/icon.png", "icons") for _ in range(3)}

    assert len(urls) == len(keys()) == 3


def test_a_long_arabic_name_is_cut_until_the_url_fits_the_column(web):
    name = quote("أيقونة التطبيق " * 12)

    url = get_storage_service().upload_from_url(f"{web.url}/{name}.png", "submissions/QAD-1/icons")
    long = get_storage_service().upload_from_url(f"{web.url}/{name}.png", "icons", max_length=None)

    assert len(url) <= 200 < len(long)
    assert url.isascii()
    assert stored(url)[1] == stored(long)[1] == picture()


def test_a_redirect_is_followed_and_the_first_url_names_the_file(web):
    def answer(request):
        found = request.target == "/final.png"
        return Answer(200, picture()) if found else Answer(302, location="/final.png")

    web.fault = answer
    assert "/icons/first." in get_storage_service().upload_from_url(f"{web.url}/first", "icons")


def test_other_files_pass_where_they_are_meant(web):
    answer_with(web, b"%PDF-1.7 and so on", content_type="image/png")
    storage = get_storage_service()

    pdf = storage.upload_from_url(f"{web.url}/form.png", "forms", images_only=False)
    answer_with(web, b"<html>plain words</html>", content_type="text/html")
    words = storage.upload_from_url(f"{web.url}/form.html", "forms", images_only=False)

    assert pdf.endswith(".pdf")
    assert stored(pdf)[0].headers.content_type == "application/pdf"
    # No page of a stranger becomes a page of this site.
    assert stored(words)[0].headers.content_type == "application/octet-stream"
    assert not words.endswith(".html")


def _temporary(body: bytes) -> TemporaryUploadedFile:
    file = TemporaryUploadedFile("icon one.png", "text/html", len(body), None)
    file.write(body)
    file.flush()
    return file


FILES: dict[str, Callable[[Path, bytes], Any]] = {
    "path": lambda path, body: path,
    "text path": lambda path, body: str(path),
    "bytes": lambda path, body: body,
    "bytearray": lambda path, body: bytearray(body),
    "file": lambda path, body: path.open("rb"),
    "stream": lambda path, body: io.BytesIO(body),
    "django file": lambda path, body: File(path.open("rb")),
    "content": lambda path, body: ContentFile(body, name="icon one.png"),
    "upload": lambda path, body: SimpleUploadedFile("icon one.png", body, "text/html"),
    "large upload": lambda path, body: _temporary(body),
}


@pytest.mark.parametrize("kind", FILES)
def test_every_kind_of_file_is_stored_whole_from_its_beginning(project, kind):
    body = picture()
    (project / "icon one.png").write_bytes(body)
    file = FILES[kind](project / "icon one.png", body)
    try:
        if hasattr(file, "read"):
            file.seek(7)
        url = get_storage_service().upload_file(file, "icons")
    finally:
        getattr(file, "close", lambda: None)()

    nameless = kind in ("bytes", "bytearray", "stream")
    assert re.search(r"/icons/[0-9a-f]{16}\.png$" if nameless else r"/icons/icon-one\.", url)
    assert stored(url)[1] == body


def test_a_name_given_stands_before_the_files_own(project):
    url = get_storage_service().upload_file(picture(), "icons", name="C:\\logos\\شعار.gif")

    assert url.startswith(f"{PUBLIC}icons/{quote('شعار')}.")
    assert url.endswith(".png")


class _Pipe(io.RawIOBase):
    """A stream that cannot go back, gives a little at a time, and knows its longest read."""

    def __init__(self, body: bytes) -> None:
        self._body = io.BytesIO(body)
        self.longest = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        assert size >= 0, "the whole file was asked for"
        self.longest = max(self.longest, size)
        return self._body.read(min(size, 100_000))


def test_a_large_file_is_streamed(project):
    body = b"fLaC" + bytes(range(256)) * (3 * SMALL_BYTES // 256)
    pipe = _Pipe(body)

    url = get_storage_service().upload_file(pipe, "audio", name="sura.mp3", images_only=False)

    assert pipe.longest <= SMALL_BYTES + 1
    assert url.endswith(".flac")
    assert stored(url)[1] == body


def test_a_file_that_is_no_image_is_not_read_to_its_end(project):
    pipe = _Pipe(b"fLaC" + bytes(2 * SMALL_BYTES))

    error = failure(
        lambda: get_storage_service().upload_file(
            pipe, "audio", images_only=False, max_bytes=SMALL_BYTES
        )
    )

    assert error.reason == "too_large"
    assert keys() == []


def test_a_temporary_copy_is_removed(project, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "media"))

    get_storage_service().upload_file(_Pipe(bytes(SMALL_BYTES + 9)), "x", images_only=False)

    assert list((tmp_path / "media").iterdir()) == []


def test_an_s3_server_gets_the_same(remote, web, s3_bucket):
    url = optimize_and_upload(f"{web.url}/photo.png", (100, 100))

    info, body = stored(url)
    assert info.headers.metadata[RECIPE_KEY] == Recipe(max_size=(100, 100)).fingerprint
    assert inspect(body).width == 100
    assert get_storage_service().bucket == s3_bucket.name
    assert get_storage_service().endpoint == load().connection.endpoint_url


def test_threads_share_one_service(remote, s3_bucket):
    storage = get_storage_service()

    with ThreadPoolExecutor(8) as pool:
        urls = list(pool.map(lambda n: storage.upload_file(picture(n), "icons"), range(24)))

    assert [stored(url)[1] for url in urls] == [picture(n) for n in range(24)]


def test_services_share_one_client_in_each_process(remote, monkeypatch):
    ours = shared_bucket(load())
    assert shared_bucket(load()) is ours

    monkeypatch.setattr("os.getpid", lambda: -1)
    assert shared_bucket(load()) is not ours


# Optimizing


@pytest.mark.django_db(transaction=True, databases=DATABASES)
def test_an_optimized_picture_is_one_that_reoptimize_has_done_already(web):
    answer_with(web, picture(size=(2400, 1600)))
    url = optimize_and_upload(f"{web.url}/photo.jpeg")
    AppSubmission.objects.create(tracking_id="QAD-1", main_image_en=url)

    plan = plan_reoptimize(
        load(),
        Addresses.from_config(load()),
        open_bucket(load()),
        scope=Scope(),
        control=Control(),
        processes=False,
    )

    assert url.startswith(f"{PUBLIC}images/photo.")
    assert url.endswith(".webp")
    info, body = stored(url)
    assert inspect(body).width == 2000
    assert len(info.headers.metadata[SOURCE_KEY]) == 64
    assert [item.reason for item in plan.items] == ["already"]


def _animation() -> bytes:
    soft = Image.radial_gradient("L").resize((64, 64))
    frames = [soft.rotate(20 * turn).convert("RGB") for turn in range(3)]
    out = io.BytesIO()
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
    return out.getvalue()


def _already_small() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "PNG")
    return out.getvalue()


def test_an_animation_is_stored_smaller_and_goes_on_moving(web):
    answer_with(web, _animation())

    url = get_storage_service().optimize_and_upload(f"{web.url}/a.gif", prefix="icons")

    _, found = stored(url)
    assert inspect(found).frames == 3
    assert len(found) < len(_animation())


def test_a_picture_that_gains_nothing_is_stored_as_it_is(web):
    body = _already_small()
    answer_with(web, body)

    url = get_storage_service().optimize_and_upload(f"{web.url}/a.png", prefix="icons")

    info, found = stored(url)
    assert found == body
    assert info.headers.metadata[RECIPE_KEY] == Recipe().fingerprint
    assert SOURCE_KEY not in info.headers.metadata


# Failures, by the words of docs/storage.md


def _configure(settings: Any, **changes: Any) -> None:
    settings.R2MAINT = {**settings.R2MAINT, **changes}


def _fetching(web: Proxy, **answer: Any) -> str:
    answer_with(web, **answer)
    return f"{web.url}/icon.png"


def _slow(web: Proxy) -> str:
    def answer(request):
        time.sleep(0.5)
        return Answer(200, picture())

    web.fault = answer
    return f"{web.url}/icon.png"


def _many_pixels() -> bytes:
    out = io.BytesIO()
    Image.new("1", (8_000, 8_000)).save(out, "PNG")
    return out.getvalue()


def _half_an_animation() -> bytes:
    """Return a picture whose first frame is whole."""
    body = _animation()
    return body[: len(body) * 5 // 6]


URLS: dict[str, Callable[[Proxy], str]] = {
    "not_http": lambda web: "ftp://media.example.org/icon.png",
    "credentials": lambda web: web.url.replace("//", "//user:pa55word@") + "/icon.png",
    "not_public": lambda web: "http://169.254.169.254/latest/meta-data/icon.png",
    "too_many_redirects": lambda web: _fetching(web, body=b"", status=302, location="/icon.png"),
    "too_slow": _slow,
    "gone": lambda web: _fetching(web, body=b"", status=410),
    "unsure": lambda web: _fetching(web, body=picture(), status=403),
    "too_large": lambda web: _fetching(web, body=picture() + bytes(10 * 2**20)),
    "empty": lambda web: _fetching(web, body=b""),
    "not_an_image": lambda web: _fetching(web, body=b"<html>", content_type="image/png"),
    "unsupported": lambda web: _fetching(web, body=SVG),
    "corrupt": lambda web: _fetching(web, body=_half_an_animation()),
    "too_many_pixels": lambda web: _fetching(web, body=_many_pixels()),
}
"""Reason -> the URL that fails for it."""

ANSWERS: dict[str, Answer] = {
    "access_denied": s3_error(403, "AccessDenied"),
    "no_such_bucket": s3_error(404, "NoSuchBucket"),
    "unreachable": s3_error(503, "ServiceUnavailable"),
    "precondition_failed": s3_error(412, "PreconditionFailed"),
    "rejected": s3_error(400, "EntityTooLarge"),
    "bucket": s3_error(400, "SomethingNew"),
}
"""Reason -> what the bucket answers to a PUT."""

SETTINGS: dict[str, dict[str, Any]] = {
    "not_configured": {"BUCKET": "media", "ACCESS_KEY_ID": "0123456789abcdef"},
    "no_public_url": {"PUBLIC_URL": ""},
    "config": {"BUCKET": "file:media"},
}
"""Reason -> what is wrong with the settings; MEDIA_ROOT holds files and is no bucket."""

ARGUMENTS: dict[str, dict[str, Any]] = {
    "bad_prefix": {"prefix": "icons/../.."},
    "bad_size": {"max_size": (0, 100)},
}
OTHERS = {"unreadable", "default_storage", "unknown_host"}


class Told:
    """What a failure was told to: the log and the signal."""

    def __init__(self, caplog) -> None:
        self.caplog = caplog
        self.signals: list[dict[str, Any]] = []

    def receive(self, sender, **details) -> None:
        assert sender is R2StorageService
        self.signals.append(details)

    def require(self, error: StorageError, url: str) -> None:
        """Assert that both were told of such a failure once, and forget it."""
        (signal,), (record,) = self.signals, self.records()
        assert signal["error"].reason == error.reason == record.reason
        assert signal["url"] == record.url == url
        assert repr(str(signal["error"])) in record.getMessage()
        self.signals.clear()
        self.caplog.clear()

    def records(self) -> list[logging.LogRecord]:
        return [
            record
            for record in self.caplog.records
            if record.name == "r2maint.storage" and record.levelno == logging.ERROR
        ]


@pytest.fixture
def told(caplog) -> Iterator[Told]:
    told = Told(caplog)
    upload_failed.connect(told.receive)
    yield told
    upload_failed.disconnect(told.receive)


def fails(told: Told, reason: str, url: str, told_url: str = "", **options: Any) -> StorageError:
    """Let an upload fail, then fall back; return the error."""
    before = keys() if reason not in (*SETTINGS, *ANSWERS) else []
    call = get_storage_service().upload_from_url
    if "max_size" in options:
        call = get_storage_service().optimize_and_upload
    options = {"prefix": "icons", "seconds": 5, **options}

    error = failure(lambda: call(url, **options))
    told.require(error, told_url or url)
    assert call(url, fallback=True, **options) == url
    told.require(error, told_url or url)

    assert error.reason == reason
    assert error.message.endswith(".")
    assert before == (keys() if reason not in (*SETTINGS, *ANSWERS) else [])
    return error


@pytest.mark.parametrize("reason", URLS)
def test_a_url_that_cannot_be_stored_is_told_and_falls_back(web, told, reason):
    url = URLS[reason](web)
    clean = url.replace("user:pa55word@", "")

    error = fails(told, reason, url, clean, seconds=0.1 if reason == "too_slow" else 5)

    assert "pa55word" not in str(error) + told.caplog.text


@pytest.mark.parametrize("reason", ANSWERS)
def test_what_the_bucket_answers_is_told_and_falls_back(between, web, told, reason):
    between.script(*[ANSWERS[reason]] * 20, method="PUT")

    fails(told, reason, f"{web.url}/icon.png")


@pytest.mark.parametrize("reason", SETTINGS)
def test_settings_that_name_no_usable_bucket_are_told_and_fall_back(web, settings, told, reason):
    (Path(settings.MEDIA_ROOT) / "icon.png").write_bytes(picture())
    _configure(settings, **SETTINGS[reason])
    web.requests.clear()

    fails(told, reason, f"{web.url}/icon.png")

    assert web.requests == []


@pytest.mark.parametrize("reason", ARGUMENTS)
def test_arguments_that_make_no_sense_are_told_and_fall_back(web, told, reason):
    fails(told, reason, f"{web.url}/icon.png", **ARGUMENTS[reason])

    assert web.requests == []


def test_a_failing_default_storage_is_told_and_falls_back(web, settings, told):
    _without_a_bucket(settings)
    settings.MEDIA_ROOT = web_root = Path(settings.MEDIA_ROOT) / "file"
    web_root.write_bytes(b"no directory")
    url = f"{web.url}/icon.png"

    error = failure(lambda: get_storage_service().upload_from_url(url, "icons"))

    assert error.reason == "default_storage"
    told.require(error, url)
    assert get_storage_service().upload_from_url(url, "icons", fallback=True) == url


@pytest.mark.parametrize(
    "file",
    ["/nowhere/icon.png", "/", object(), 3, None, io.StringIO("closed")],
    ids=["missing", "directory", "object", "number", "none", "closed"],
)
def test_a_file_that_cannot_be_read_is_told(project, told, file):
    if hasattr(file, "close"):
        file.close()

    error = failure(lambda: get_storage_service().upload_file(file, "icons"))

    assert error.reason == "unreadable"
    told.require(error, "")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "empty"),
        (b"words", "not_an_image"),
        (SVG, "unsupported"),
        (_half_an_animation(), "corrupt"),
        (picture() + bytes(10 * 2**20), "too_large"),
        (b"words" + bytes(SMALL_BYTES), "not_an_image"),
    ],
)
@pytest.mark.parametrize("kind", ["path", "stream", "bytes"])
def test_a_file_is_checked_like_a_url(project, told, body, reason, kind):
    path = project / "icon.png"
    path.write_bytes(body)

    error = failure(lambda: get_storage_service().upload_file(FILES[kind](path, body), "icons"))

    assert error.reason == reason
    told.require(error, "")
    assert keys() == []


def test_the_examples_of_the_manual_are_python():
    examples = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)

    assert len(examples) >= 5
    for example in examples:
        compile(example, DOCS.name, "exec")


def test_the_table_of_failures_is_whole(project):
    section = DOCS.read_text().partition("## Failures")[2].partition("\n## ")[0]
    documented = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)

    tested = {*URLS, *ANSWERS, *SETTINGS, *ARGUMENTS, *OTHERS}
    assert sorted(documented) == sorted(tested)


@pytest.mark.parametrize(
    "prefix",
    [
        *("", "/", "//", "..", "a/../b", ".", "a//b", ".r2maint", ".r2maint/x", "a ", "a{b}"),
        *("a?b", "a\\b", "a\nb", "x" * 300, "\ud800", "a#b", "100%"),
    ],
)
def test_a_prefix_that_says_nothing_or_leads_elsewhere_is_refused(project, prefix):
    error = failure(lambda: get_storage_service().upload_file(picture(), prefix))

    assert error.reason == "bad_prefix"
    assert keys() == []


@pytest.mark.parametrize("prefix", ["/icons/", "submissions/QAD-1/icons", "أيقونات", "a b", "x.y"])
def test_a_prefix_that_says_something_is_taken(project, prefix):
    get_storage_service().upload_file(picture(), prefix)

    (key,) = keys()
    assert key.startswith(f"{prefix.strip('/')}/")


def test_a_malformed_setting_is_said_at_once(project, settings):
    _configure(settings, BUKCET="x")

    with pytest.raises(ConfigError, match="BUCKET"):
        get_storage_service()


def test_an_error_of_the_callers_own_is_not_swallowed(web):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get_storage_service().upload_from_url(
            f"{web.url}/a.png", "icons", fallback=True, progress=stop
        )


def test_a_receiver_that_raises_stops_nothing(web, told):
    def broken(**details):
        raise RuntimeError("receiver")

    upload_failed.connect(broken)
    try:
        url = "ftp://elsewhere.example/x.png"
        assert get_storage_service().upload_from_url(url, "icons", fallback=True) == url
    finally:
        upload_failed.disconnect(broken)


def test_signatures_reach_neither_log_nor_signal_nor_error(web, told):
    answer_with(web, b"", status=403)
    url = f"{web.url}/icon.png?X-Amz-Signature=deadbeef&token=hidden\n"

    error = failure(lambda: get_storage_service().upload_from_url(url, "icons"))

    (signal,) = told.signals
    everything = f"{error} {signal['url']} {told.caplog.text} {told.records()[0].url}"
    assert "deadbeef" not in everything
    assert "hidden" not in everything
    assert "\n" not in told.records()[0].getMessage()


def test_an_error_survives_being_pickled():
    error = pickle.loads(pickle.dumps(StorageError("It failed.", "Try again.", "unsure")))

    assert (str(error), error.reason) == ("It failed. Try again.", "unsure")


# Progress


def test_progress_is_told_by_parts_on_the_callers_thread(remote, monkeypatch):
    monkeypatch.setattr("r2maint.bucket.upload_many.PARTS_ABOVE_BYTES", 6 * 2**20)
    monkeypatch.setattr("r2maint.bucket.upload_many.PART_BYTES", 5 * 2**20)
    told, threads, body = [], set(), b"fLaC" + bytes(12 * 2**20)

    def progress(done, total):
        told.append((done, total))
        threads.add(threading.current_thread())

    url = get_storage_service().upload_file(
        io.BytesIO(body), "audio", images_only=False, progress=progress
    )

    steps = [0, 5 * 2**20, 10 * 2**20, len(body), len(body)]
    assert told == [(done, len(body)) for done in steps]
    assert threads == {threading.current_thread()}
    assert stored(url)[1] == body


def test_progress_of_a_fetch_begins_without_a_total(web):
    told = []

    get_storage_service().upload_from_url(
        f"{web.url}/a.png", "icons", progress=lambda *step: told.append(step)
    )

    size = len(picture())
    assert told == [(0, None), (0, size), (size, size)]


# Giving up


@pytest.mark.parametrize(
    "form", ["{key}", f"{PUBLIC}{{key}}", "https://pub-0123456789abcdef.r2.dev/{key}?v=1"]
)
def test_delete_gives_up_the_reference_and_deletes_nothing(project, form, caplog):
    caplog.set_level(logging.INFO, "r2maint.storage")
    get_storage_service().upload_file(picture(), "icons", name="icon")
    (key,) = keys()

    assert get_storage_service().delete(form.format(key=key)) is None

    assert keys() == [key]
    assert any(key in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize(
    "value",
    [
        *("https://elsewhere.example/icon.png", "//elsewhere.example/a.png", "ftp://x/y", "", "/"),
        *("https://user:pa55word@elsewhere.example/a.png", "/media/icon.png", PUBLIC),
    ],
)
def test_delete_refuses_what_is_not_the_buckets(project, value):
    error = failure(lambda: get_storage_service().delete(value))

    assert error.reason == "unknown_host"
    assert "pa55word" not in str(error)


# Without a bucket


def _without_a_bucket(settings: Any) -> None:
    rest = {name: settings.R2MAINT[name] for name in ("FETCH_ALLOW",) if name in settings.R2MAINT}
    settings.R2MAINT = rest


def test_without_any_bucket_the_default_storage_is_used(web, settings):
    _without_a_bucket(settings)
    storage, steps = get_storage_service(), []

    url = storage.upload_from_url(
        f"{web.url}/icon.gif", "icons", progress=lambda *step: steps.append(step)
    )

    assert (storage.is_configured(), storage.bucket, storage.endpoint) == (False, "", "")
    assert re.fullmatch(r"/media/icons/icon\.[0-9a-f]{16}\.png", url)
    with default_storage.open(url.removeprefix("/media/")) as stored:
        assert stored.read() == picture()
    assert steps[-1] == (len(picture()), len(picture()))
    storage.delete(url)
    assert default_storage.exists(url.removeprefix("/media/"))


def test_a_half_configured_bucket_never_falls_to_the_default_storage(project, settings):
    settings.R2MAINT = {"BUCKET": "media", "PUBLIC_URL": PUBLIC}

    error = failure(lambda: get_storage_service().upload_file(picture(), "icons"))

    assert error.reason == "not_configured"
    assert "R2MAINT is half set" in error.message
    assert not get_storage_service().is_configured()
    assert list((project / "media").iterdir()) == []


def test_importing_it_loads_neither_the_sdk_nor_libcurl_nor_the_decoders():
    code = (
        "import sys, django; from django.conf import settings; settings.configure();"
        "import r2maint.storage; r2maint.storage.R2Storage();"
        "print(sorted({'boto3', 'botocore', 'pycurl', 'PIL'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


# What the tutorial teaches


def test_the_code_teams_already_have_works(remote, web, settings, monkeypatch, s3_bucket):
    connection = load().connection
    for name, value in {
        "R2_ENDPOINT_URL": connection.endpoint_url,
        "R2_ACCESS_KEY_ID": connection.access_key_id,
        "R2_SECRET_ACCESS_KEY": connection.secret_access_key,
        "R2_BUCKET_NAME": s3_bucket.name,
        "R2_REGION": "auto",
    }.items():
        monkeypatch.setenv(name, value)
    settings.R2MAINT = {"PUBLIC_URL": PUBLIC, "FETCH_ALLOW": settings.R2MAINT["FETCH_ALLOW"]}
    logger = logging.getLogger(__name__)

    def upload_app_icon(app_icon_url: str) -> str:
        storage = get_storage_service()

        if not storage.is_configured():
            raise ValueError("R2 storage not configured")

        try:
            return storage.upload_from_url(url=app_icon_url, prefix="icons")
        except StorageError as e:
            logger.error(f"Failed to upload icon: {e}")
            raise

    service = get_storage_service()
    assert service.is_configured()
    assert service.endpoint == connection.endpoint_url
    assert upload_app_icon(f"{web.url}/test.jpg").startswith("https://")
    assert optimize_and_upload(f"{web.url}/test.jpg").endswith(".webp")
    with pytest.raises(StorageError):
        upload_app_icon("http://169.254.169.254/x.png")


def test_the_settings_of_the_tutorial_are_told_what_they_lack(project, settings, monkeypatch):
    account = "0123456789abcdef0123456789abcdef"
    settings.R2MAINT = {}
    settings.AWS_ACCESS_KEY_ID = "0123456789abcdef"
    settings.AWS_SECRET_ACCESS_KEY = "secret"
    settings.AWS_S3_ENDPOINT_URL = f"https://{account}.r2.cloudflarestorage.com"
    settings.AWS_STORAGE_BUCKET_NAME = "quran-apps"
    settings.AWS_S3_CUSTOM_DOMAIN = f"quran-apps.{account}.r2.cloudflarestorage.com"

    storage = get_storage_service()
    error = failure(lambda: storage.upload_file(picture(), "icons"))

    assert (storage.bucket, storage.endpoint) == ("quran-apps", settings.AWS_S3_ENDPOINT_URL)
    assert not storage.is_configured()
    assert error.reason == "no_public_url"
