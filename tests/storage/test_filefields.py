"""File fields in the bucket: names are kept exactly, nothing is overwritten, no error is absence."""

from __future__ import annotations

import io
import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from django.core.files.base import ContentFile, File
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import TemporaryUploadedFile
from django.db.migrations.writer import MigrationWriter

from r2maint.bucket import Headers, Upload, head, open_bucket, put
from r2maint.conf import load
from r2maint.errors import AccessDenied, BucketError, BucketUnreachable, ConfigError, NoSuchBucket
from r2maint.keys import Addresses
from r2maint.local_files.storage_locations import StoragePlace, storage_location
from r2maint.storage import R2Storage
from r2maint.storage.content import SMALL_BYTES
from tests.appdirectory.models import App, AppSubmission
from tests.commands import apply, run
from tests.conftest import DATABASES
from tests.odd_keys import DOTTED_KEYS, ODD_KEYS
from tests.servers.s3_server import FORWARD, proxy, s3_error
from tests.worlds.default_storage import switch
from tests.worlds.stored_pictures import picture

PUBLIC = "https://media.example.org/"


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    """Let botocore and the bulk engine try again at once."""
    monkeypatch.setattr("r2maint.http.retry.FIRST_WAIT_SECONDS", 0.0)
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda seconds: None))


@pytest.fixture(params=["project", "remote"], ids=["directory", "s3"])
def site(request):
    """A project on a `file:` bucket, and on an S3 server."""
    return request.getfixturevalue(request.param)


def keys() -> list[str]:
    return [item.key for page in open_bucket(load()).list_pages() for item in page]


def store(key: str, body: bytes = b"x") -> None:
    put(open_bucket(load()), Upload(key=key, body=body, headers=Headers()))


@pytest.mark.thorough
@pytest.mark.django_db(databases=DATABASES)
def test_a_file_field_lives_in_the_bucket(site, settings):
    switch(settings, location="media")
    body = picture(size=(60, 40))

    app = App.objects.create(name_en="One", application_icon=ContentFile(body, name="أيقونة.png"))
    app.main_image_en.save("main.png", ContentFile(body))

    app = App.objects.get(pk=app.pk)
    icon = app.application_icon
    assert icon.name == "apps/icons/أيقونة.png"
    assert keys() == ["media/apps/icons/أيقونة.png", "media/apps/main/main.png"]
    assert icon.url.startswith(f"{PUBLIC}media/apps/icons/%D8%A3")
    assert (icon.width, app.icon_height, icon.size) == (60, 40, len(body))
    for _ in range(2):
        with icon.open() as file:
            assert file.read() == body
    icon.open()
    icon.read(3)
    assert icon.open().read() == body
    assert default_storage.exists(icon.name)
    info = head(open_bucket(load()), "media/apps/icons/أيقونة.png")
    assert info is not None
    assert info.headers.content_type == "image/png"
    assert info.headers.cache_control == load().cache_control
    assert len(info.headers.metadata["sha256"]) == 64
    assert default_storage.get_modified_time(icon.name) == info.modified_at


@pytest.mark.parametrize("location", ["", "media", "a b/أ"])
def test_every_name_means_its_key_exactly(project, location):
    storage = R2Storage(location=location)
    start = f"{location}/" if location else ""
    names = [key for key in (*ODD_KEYS, *DOTTED_KEYS) if len(start + key) <= 1024]
    for name in names:
        store(start + name, name.encode())

    for name in names:
        assert storage.exists(name)
        assert storage.size(name) == len(name.encode())
        with storage.open(name) as file:
            assert file.read() == name.encode()
        target = Addresses.from_config(load()).locate(storage.url(name))
        assert target is not None
        assert target.key == start + name
    assert not storage.exists("a/c")


def test_a_taken_name_gets_another_one(site):
    storage = R2Storage()

    names = [storage.save("icons/a.png", ContentFile(bytes([n]))) for n in range(3)]

    assert names[0] == "icons/a.png"
    assert len(set(names)) == 3
    assert [storage.open(name).read() for name in names] == [b"\x00", b"\x01", b"\x02"]


def test_of_many_who_take_a_name_at_once_each_gets_one(site):
    storage = R2Storage()

    def save(number: int) -> str:
        return storage.save("a" * 40 + ".png", ContentFile(str(number)), max_length=44)

    with ThreadPoolExecutor(6) as pool:
        names = list(pool.map(save, range(6)))

    assert sorted(keys()) == sorted(names)
    assert len(set(names)) == 6
    assert all(len(name) <= 44 for name in names)
    assert [storage.open(name, "r").read() for name in names] == list("012345")


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (s3_error(403, "AccessDenied"), AccessDenied),
        (s3_error(400, "SomethingNew"), BucketError),
        (s3_error(503, "ServiceUnavailable"), BucketUnreachable),
        (s3_error(404, "NoSuchBucket"), NoSuchBucket),
    ],
    ids=["denied", "strange", "overloaded", "no bucket"],
)
def test_an_error_is_never_taken_for_absence(remote, settings, s3_server, answer, error):
    with proxy(s3_server) as between:
        settings.R2MAINT = {**settings.R2MAINT, "ENDPOINT_URL": between.url}
        storage = R2Storage()
        between.fault = lambda request: answer

        for ask in (storage.exists, storage.size, storage.open, storage.get_modified_time):
            with pytest.raises(error):
                ask("a.png")
        with pytest.raises(error):
            storage.save("a.png", ContentFile(b"x"))
        with pytest.raises(error):
            storage.listdir("")
        between.fault = lambda request: FORWARD
        assert not storage.exists("a.png")


def test_a_missing_object_is_a_missing_file(site):
    storage = R2Storage(location="media")
    store("a.png")

    assert not storage.exists("a.png")
    assert not storage.exists("")
    for ask in (storage.size, storage.open, storage.get_modified_time):
        with pytest.raises(FileNotFoundError, match=r"a\.png"):
            ask("a.png")


def test_delete_gives_up_the_name_and_deletes_nothing(site, caplog):
    caplog.set_level(logging.INFO, "r2maint.storage")
    storage = R2Storage()
    name = storage.save("a.png", ContentFile(b"old"))

    storage.delete(name)

    assert storage.open(name).read() == b"old"
    assert storage.save("a.png", ContentFile(b"new")) != name
    assert any("a.png" in record.getMessage() for record in caplog.records)
    with pytest.raises(ValueError, match="name"):
        storage.delete("")


@pytest.mark.parametrize("url", ["https://elsewhere.example/a b.png", "HTTP://x.example/y.png"])
def test_a_name_that_is_a_whole_url_comes_back_unchanged(project, url):
    storage = R2Storage(location="media")

    assert storage.url(url) == url
    assert not storage.exists(url)
    with pytest.raises(FileNotFoundError):
        storage.open(url)


def test_a_name_that_is_a_url_of_the_bucket_means_its_object(project):
    storage = R2Storage(location="media")
    store("old/a b.png", b"old")

    for url in (f"{PUBLIC}old/a%20b.png", "https://pub-0123456789abcdef.r2.dev/old/a b.png"):
        assert storage.url(url) == url
        assert storage.open(url).read() == b"old"
        assert (storage.exists(url), storage.size(url)) == (True, 3)


def test_a_directory_lists_what_is_right_below_it(site):
    for key in (
        "media/a.png",
        "media/b/c.png",
        "media/b/d/e.png",
        "media/",
        "media//x",
        "other.png",
    ):
        store(key)
    store(".r2maint/owner")

    assert R2Storage(location="media").listdir("") == (["b"], ["a.png"])
    assert R2Storage(location="media").listdir("b/") == (["d"], ["c.png"])
    assert R2Storage().listdir("") == (["media"], ["other.png"])
    assert R2Storage().listdir("nothing") == ([], [])


def test_the_time_of_an_object_follows_use_tz(project, settings):
    storage = R2Storage()
    storage.save("a.png", ContentFile(b"x"))

    aware = storage.get_modified_time("a.png")
    settings.USE_TZ, settings.TIME_ZONE = False, "Asia/Riyadh"
    naive = storage.get_modified_time("a.png")

    assert aware.tzinfo is UTC
    assert abs((datetime.now(UTC) - aware).total_seconds()) < 60
    assert naive.tzinfo is None
    assert (naive - aware.replace(tzinfo=None)).total_seconds() == 3 * 3600


@pytest.mark.parametrize("mode", ["w", "wb", "ab", "r+b", "xb"])
def test_other_modes_than_reading_are_refused(project, mode):
    R2Storage().save("a.png", ContentFile(b"x"))

    with pytest.raises(io.UnsupportedOperation, match="reading"):
        R2Storage().open("a.png", mode)

    assert keys() == ["a.png"]


def test_text_is_written_and_read_as_utf_8(project):
    name = R2Storage().save("a.txt", ContentFile("كتاب"))

    assert R2Storage().size(name) == 8
    with R2Storage().open(name, "r") as file:
        assert file.read() == "كتاب"


def test_an_empty_file_is_a_file(site):
    assert R2Storage().open(R2Storage().save("empty", ContentFile(b""))).read() == b""


class _Chunked(File):
    """Content that may only be read in pieces."""

    def read(self, size: int = -1) -> bytes:
        assert 0 <= size <= SMALL_BYTES + 1, "the whole file was asked for"
        return super().read(size)


def test_large_files_are_streamed_both_ways(site):
    body = bytes(range(256)) * (2 * SMALL_BYTES // 256)
    upload = TemporaryUploadedFile("audio.mp3", "audio/mpeg", len(body), None)
    upload.write(body)

    names = [
        R2Storage().save("audio.mp3", _Chunked(io.BytesIO(body), "audio.mp3")),
        R2Storage().save("audio.mp3", upload),
    ]

    upload.close()
    for name in names:
        with R2Storage().open(name) as file:
            assert b"".join(file.chunks()) == body
            assert isinstance(file.file.fileno(), int)


def test_it_is_known_as_the_configured_bucket(site):
    config = load()

    found = storage_location(R2Storage(location="/media/"), config)

    assert (found.place, found.prefix) == (StoragePlace.BUCKET, "media/")
    assert R2Storage().bucket_name == config.bucket


def test_the_connection_may_stay_in_the_options(remote, settings):
    given = load().connection
    bucket = settings.R2MAINT["BUCKET"]
    settings.R2MAINT = {"PUBLIC_URL": PUBLIC}
    switch(
        settings,
        bucket_name=bucket,
        access_key=given.access_key_id,
        secret_key=given.secret_access_key,
        endpoint_url=given.endpoint_url,
        region_name="auto",
    )

    assert default_storage.save("a.png", ContentFile(b"x")) == "a.png"
    assert load().connection.source == "STORAGES['default']['OPTIONS']"
    assert keys() == ["a.png"]


@pytest.mark.parametrize(
    "options", [{"bucket_name": "another"}, {"endpoint_url": "https://s3.example.org"}]
)
def test_another_bucket_than_the_configured_one_is_refused(remote, options):
    with pytest.raises(ConfigError, match="another bucket"):
        R2Storage(**options).exists("a.png")


def test_an_unknown_option_is_refused():
    with pytest.raises(ConfigError, match=r"locaton.*location"):
        R2Storage(locaton="media")


def test_a_migration_can_write_it_down():
    text, imports = MigrationWriter.serialize(R2Storage(location="media"))

    assert text == "r2maint.storage.R2Storage(location='media')"
    assert imports == {"import r2maint.storage"}


@pytest.mark.django_db(transaction=True, databases=DATABASES)
def test_the_cut_over_from_local_files_is_complete(site, settings):
    body, later = picture(1), picture(2)
    app = App.objects.create(name_en="One", application_icon=ContentFile(body, name="شعار 1.png"))
    row = AppSubmission.objects.create(tracking_id="QAD-1", app_icon_url=app.application_icon.url)
    before = app.application_icon.name

    first = apply("migrate_media_to_r2")["summary"]
    switch(settings)
    second = apply("migrate_media_to_r2")["summary"]

    assert (first["uploaded"], first["rewritten"]) == (1, 1)
    assert (second["uploaded"], second["rewritten"]) == (0, 0)
    app.refresh_from_db()
    row.refresh_from_db()
    assert app.application_icon.name == before
    assert app.application_icon.open().read() == body
    assert app.application_icon.url == row.app_icon_url
    new = App.objects.create(name_en="New", main_image_en=ContentFile(later, name="new.png"))
    assert App.objects.get(pk=new.pk).main_image_en.read() == later
    assert App.objects.get(pk=new.pk).main_image_en.url == f"{PUBLIC}apps/main/new.png"
    assert run("verify_urls")["summary"]["outcomes"]["ok"] == 3
