"""The cut-over: migrate, switch STORAGES, migrate again, and then let the local files go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage

from r2maint.bucket import get, head, open_bucket
from r2maint.conf import load
from r2maint.storage import R2Storage
from tests.appdirectory.models import App
from tests.commands import apply, run
from tests.conftest import DATABASES
from tests.worlds.default_storage import switch
from tests.worlds.local_media import PNG, dump, picture, stored, submission
from tests.worlds.remote_media import keys

pytestmark = [pytest.mark.thorough, pytest.mark.django_db(transaction=True, databases=DATABASES)]

COMMAND = "migrate_media_to_r2"


@pytest.fixture(params=["", "media"], ids=["no location", "location"])
def location(request) -> str:
    """What R2Storage puts before every name."""
    return request.param


def upload(name: str, body: bytes) -> App:
    """Save a file as a form of the application does, to whatever the default storage is."""
    app = App(name_en=name)
    app.main_image_en.save(name, ContentFile(PNG + body))
    return app


def cut_over(settings: Any, location: str) -> None:
    switch(settings, **({"location": location} if location else {}))


def opened(app: App) -> bytes:
    with App.objects.get(pk=app.pk).main_image_en.open() as file:
        return file.read()


def on_disk(place: Path) -> dict[str, bytes]:
    """Return every local file by its path."""
    return {str(p): p.read_bytes() for p in (place / "media").rglob("*") if p.is_file()}


def modified() -> dict[str, object]:
    pages = open_bucket(load()).list_pages()
    return {item.key: item.modified_at for page in pages for item in page if item.key[0] != "."}


def test_the_documented_way_from_local_files_to_the_bucket(place, settings, location):
    before = {name: PNG + name.encode() for name in ("one.png", "two words.png", "أيقونة.png")}
    apps = {name: upload(name, name.encode()) for name in before}
    shared = picture(place, "shared.png")
    rows = [submission(app_icon_url="/media/shared.png") for _ in range(2)]
    beside = submission(main_image_en=f"/media/apps/main/{apps['one.png'].name_en}")

    first = apply(COMMAND)
    assert (first["summary"]["uploaded"], first["summary"]["rewritten"]) == (4, 3)

    # Requests under way, and servers that were not restarted yet, still write to the disk.
    late = upload("late.png", b"late")
    submission(app_icon_url="/media/shared.png")
    assert (place / "media" / "apps" / "main" / "late.png").is_file()
    cut_over(settings, location)
    fresh = upload("fresh.png", b"fresh")
    assert not (place / "media" / "apps" / "main" / "fresh.png").exists()
    there = modified()

    second = apply(COMMAND)

    again = len(before) if location else 0
    assert second["summary"]["uploaded"] == 1 + again
    assert second["summary"]["rewritten"] == 1
    assert {key: at for key, at in modified().items() if key in there} == there
    assert {name: opened(app) for name, app in apps.items()} == before
    assert (opened(late), opened(fresh)) == (PNG + b"late", PNG + b"fresh")
    for row in rows:
        row.refresh_from_db()
        assert stored(row.app_icon_url) == shared
    beside.refresh_from_db()
    assert stored(beside.main_image_en) == before["one.png"]
    found = run("verify_urls")["summary"]["outcomes"]
    assert found == {name: (9 if name == "ok" else 0) for name in found}
    third = apply(COMMAND)["summary"]
    assert (third["uploaded"], third["rewritten"]) == (0, 0)

    for done in (first, second):
        apply(COMMAND, "--remove-local", done["run_id"])
    assert on_disk(place) == {}
    assert {name: opened(app) for name, app in apps.items()} == before
    assert run("verify_urls")["summary"]["outcomes"]["ok"] == 9


def test_the_way_back_leads_to_the_disk_as_it_was(place, settings):
    before = settings.STORAGES
    apps = [upload(name, name.encode()) for name in ("one.png", "أيقونة.png")]
    picture(place, "shared.png")
    submission(app_icon_url="/media/shared.png", screenshots_en=["/media/apps/main/one.png"])
    rows, files = dump("default"), on_disk(place)
    runs = [apply(COMMAND)["run_id"]]
    cut_over(settings, "")
    runs += [apply(COMMAND, "--remove-local", runs[0])["run_id"]]
    assert on_disk(place) == {}
    assert dump("default") != rows

    settings.STORAGES = before
    for run_id in reversed(runs):
        apply("r2_runs", run_id, "--undo")

    assert on_disk(place) == files
    assert dump("default") == rows
    assert [opened(app) for app in apps] == [PNG + b"one.png", PNG + "أيقونة.png".encode()]


def test_an_object_the_application_wrote_since_is_left_alone(place, settings, location):
    old = upload("same.png", b"old")
    picture(place, "apps/main/new.png", b"an old file of that name, which no row means")
    apply(COMMAND)
    cut_over(settings, location)
    new = upload("new.png", b"new")
    # The same name as the file on the disk, other bytes: what the row means is the object.
    assert new.main_image_en.name == "apps/main/new.png"

    second = apply(COMMAND)

    key = f"{location}/apps/main/new.png" if location else "apps/main/new.png"
    assert get(open_bucket(load()), key).body == opened(new) == PNG + b"new"
    assert opened(old) == PNG + b"old"
    assert [item for item in second["items"] if item["key"] == key] == []
    assert second["summary"]["failed"] == 0


def test_a_row_that_names_the_old_file_by_its_path_gets_a_key_of_its_own(place, settings, location):
    body = picture(place, "apps/main/new.png", b"old")
    cut_over(settings, location)
    new = upload("new.png", b"new")
    row = submission(app_icon_url="/media/apps/main/new.png")

    done = apply(COMMAND)["summary"]

    row.refresh_from_db()
    assert (done["uploaded"], done["rewritten"], done["failed"]) == (1, 1, 0)
    assert stored(row.app_icon_url) == body
    assert opened(new) == PNG + b"new"


def test_a_name_whose_local_file_is_no_picture_resolves_to_its_object(project, settings):
    cut_over(settings, "")
    app = App(name_en="a")
    app.main_image_en.save("paper.pdf", ContentFile(b"%PDF-1.7"))
    (project / "media" / "apps" / "main").mkdir(parents=True)
    (project / "media" / "apps" / "main" / "paper.pdf").write_bytes(b"%PDF-1.4")

    done = apply(COMMAND)

    assert (done["run_id"], done["summary"]["sources"]) == (None, 0)


def test_a_private_storage_stays_private_through_the_switch(project, settings, monkeypatch):
    root = project / "media" / "private"
    storage = FileSystemStorage(location=root)
    monkeypatch.setattr(App._meta.get_field("application_icon"), "storage", storage)
    (root / "apps").mkdir(parents=True)
    (root / "apps" / "passport.png").write_bytes(PNG + b"passport")
    app = upload("open.png", b"open")
    App.objects.filter(pk=app.pk).update(application_icon="apps/passport.png")
    apply(COMMAND)
    cut_over(settings, "")

    done = apply(COMMAND)

    assert [note for note in done["notes"] if note.startswith("Left private: 1 file of storages")]
    assert keys() == ["apps/main/open.png"]
    app.refresh_from_db()
    with app.application_icon.open() as file:
        assert file.read() == PNG + b"passport"


def test_a_storage_of_its_own_never_takes_a_public_file_of_the_same_name(
    project, settings, monkeypatch
):
    picture(project, "apps/one.png", b"a public one; the private one was elsewhere")
    storage = R2Storage(location="private")
    monkeypatch.setattr(App._meta.get_field("main_image_en"), "storage", storage)
    app = App.objects.create(name_en="a")
    App.objects.filter(pk=app.pk).update(main_image_en="apps/one.png")
    cut_over(settings, "")

    assert apply(COMMAND)["run_id"] is None
    assert run("verify_urls", exit_code=3)["summary"]["outcomes"]["missing"] == 1

    fields = {"appdirectory.App": {"main_image_en": {}}}
    settings.R2MAINT = {**settings.R2MAINT, "FIELDS": fields}
    assert [item["key"] for item in apply(COMMAND)["items"]] == ["private/apps/one.png"]


def test_the_first_run_may_be_missing_altogether(place, settings, location):
    """Whoever switched first migrates once, and every file is where its name leads."""
    app = upload("one.png", b"one")
    cut_over(settings, location)
    with pytest.raises(FileNotFoundError):
        opened(app)

    done = apply(COMMAND)

    assert opened(app) == PNG + b"one"
    assert done["summary"]["rewritten"] == 0
    info = head(open_bucket(load()), done["items"][0]["key"])
    assert info is not None
    assert info.headers.content_type == "image/png"
