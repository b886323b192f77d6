"""One source, one key; one key, one content: whatever the names, the rows and the order are."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from urllib.parse import quote

import pytest

from r2maint.bucket import Headers, Upload, get, open_bucket, put
from r2maint.conf import load
from r2maint.errors import BucketError
from r2maint.keys import quote_key
from r2maint.management.commands import _base
from r2maint.migrate.apply import _Mover
from tests.appdirectory.models import App, AppSubmission
from tests.commands import apply, run
from tests.conftest import DATABASES
from tests.fakes import R2Fake
from tests.oddities.models import Gallery
from tests.worlds.local_media import picture, stored, submission

pytestmark = [pytest.mark.thorough, pytest.mark.django_db(transaction=True, databases=DATABASES)]

COMMAND = "migrate_media_to_r2"
NFD = unicodedata.normalize("NFD", "Café é")
NFC = unicodedata.normalize("NFC", NFD)


def name_in_file_field(name: str) -> App:
    app = App.objects.create(name_en="a")
    App.objects.filter(pk=app.pk).update(main_image_en=name)
    return app


# One source, one key


def test_a_source_that_another_row_names_later_keeps_its_key(project, alias):
    picture(project, "icon.png")
    first = submission(alias, app_icon_url="/media/icon.png")
    apply(COMMAND)
    second = submission(alias, main_image_en="/media/icon.png")
    gallery = Gallery.objects.using(alias).create(
        content=["https://apps.example.org/media/icon.png"]
    )

    again = apply(COMMAND)["summary"]

    for row in (first, second, gallery):
        row.refresh_from_db(using=alias)
    assert second.main_image_en == gallery.content[0] == first.app_icon_url
    assert (again["uploaded"], again["already_there"], again["rewritten"]) == (0, 1, 2)


def test_a_column_without_room_for_the_earlier_key_gets_another(project):
    name = "a" * 180 + ".png"
    body = picture(project, name)
    gallery = Gallery.objects.create(content=[f"/media/{name}"])
    apply(COMMAND)
    row = submission(app_icon_url=f"/media/{name}")

    again = apply(COMMAND)["summary"]

    gallery.refresh_from_db()
    row.refresh_from_db()
    assert len(gallery.content[0]) > 200 >= len(row.app_icon_url)
    assert stored(gallery.content[0]) == stored(row.app_icon_url) == body
    assert (again["uploaded"], again["rewritten"]) == (1, 1)


def test_an_earlier_key_whose_object_is_gone_is_not_used_again_unseen(project):
    body = picture(project, "icon.png")
    submission(app_icon_url="/media/icon.png")
    (item,) = apply(COMMAND)["items"]
    list(open_bucket(load()).delete_many([item["key"]]))
    row = submission(app_icon_url="/media/icon.png")

    again = apply(COMMAND)["summary"]

    row.refresh_from_db()
    assert (again["uploaded"], again["already_there"]) == (1, 0)
    assert stored(row.app_icon_url) == body


def test_a_source_edited_since_gets_a_key_of_its_own(project):
    old = picture(project, "icon.png", b"old")
    first = submission(app_icon_url="/media/icon.png")
    apply(COMMAND)
    new = picture(project, "icon.png", b"new")
    second = submission(app_icon_url="/media/icon.png")

    apply(COMMAND)

    first.refresh_from_db()
    second.refresh_from_db()
    assert (stored(first.app_icon_url), stored(second.app_icon_url)) == (old, new)


# One key, one content


@pytest.mark.parametrize("planned", [500, 1], ids=["one page", "pages of one"])
@pytest.mark.parametrize("moved", [500, 1], ids=["one batch", "batches of one"])
def test_sources_of_one_content_and_stem_share_their_object(place, monkeypatch, planned, moved):
    monkeypatch.setattr("r2maint.migrate.plan.BATCH", planned)
    monkeypatch.setattr("r2maint.migrate.apply.BATCH", moved)
    for directory in ("one", "two", "three"):
        body = picture(place, f"{directory}/logo.png", b"the same")
        for _ in range(2):
            submission(app_icon_url=f"/media/{directory}/logo.png")

    done = apply(COMMAND)

    urls = set(AppSubmission.objects.values_list("app_icon_url", flat=True))
    assert [stored(url) for url in urls] == [body]
    summary = done["summary"]
    assert (summary["uploaded"], summary["already_there"], summary["rewritten"]) == (1, 2, 6)
    removed = apply(COMMAND, "--remove-local", done["run_id"])["summary"]
    assert (removed["removed"], removed["kept"]) == (3, 0)


def test_a_key_that_holds_other_bytes_is_never_used(place):
    picture(place, "icon.png")
    row = submission(app_icon_url="/media/icon.png")
    (item,) = run(COMMAND)["items"]
    bucket = open_bucket(load())
    put(bucket, Upload(key=item["key"], body=b"x" * item["bytes"]))

    done = apply(COMMAND, exit_code=3)

    row.refresh_from_db()
    assert row.app_icon_url == "/media/icon.png"
    assert [(i["action"], i["reason"]) for i in done["items"]] == [("fail", "key_taken")]
    assert get(bucket, item["key"]).body == b"x" * item["bytes"]


@pytest.mark.parametrize("when", ["before the plan", "after it"])
def test_metadata_that_outlived_its_bytes_proves_nothing(place, monkeypatch, when):
    picture(place, "icon.png")
    row = submission(app_icon_url="/media/icon.png")
    (item,) = run(COMMAND)["items"]
    headers = Headers(metadata={"sha256": item["sha256"]})
    other = Upload(key=item["key"], body=b"x" * item["bytes"], headers=headers)
    if when == "before the plan":
        put(open_bucket(load()), other)
    else:
        begin = _Mover.moved

        def moved(self, items):
            put(self.bucket, other)
            return begin(self, items)

        monkeypatch.setattr(_Mover, "moved", moved)

    done = apply(COMMAND, exit_code=3)

    row.refresh_from_db()
    assert row.app_icon_url == "/media/icon.png"
    assert [(i["action"], i["reason"]) for i in done["items"]] == [("fail", "key_taken")]


def test_an_earlier_key_that_holds_other_bytes_by_now_is_left(place):
    body = picture(place, "icon.png")
    submission(app_icon_url="/media/icon.png")
    (item,) = apply(COMMAND)["items"]
    bucket = open_bucket(load())
    list(bucket.delete_many([item["key"]]))
    put(bucket, Upload(key=item["key"], body=b"x" * item["bytes"]))
    row = submission(app_icon_url="/media/icon.png")
    other = submission(app_icon_url="/media/icon.png")

    again = apply(COMMAND)["summary"]

    row.refresh_from_db()
    other.refresh_from_db()
    assert stored(row.app_icon_url) == stored(other.app_icon_url) == body
    assert (again["uploaded"], again["rewritten"]) == (1, 2)
    assert get(bucket, item["key"]).body == b"x" * item["bytes"]


def test_two_spellings_of_one_name_never_take_each_others_bytes(project, monkeypatch):
    bucket = R2Fake(name=load().bucket)
    monkeypatch.setattr(_base, "open_bucket", lambda config, **options: bucket)
    bodies = {f"apps/{name}.png": picture(project, f"apps/{name}.png") for name in (NFC, NFD)}
    for name in bodies:
        name_in_file_field(name)

    done = apply(COMMAND, exit_code=3)

    # R2 knows one object for both, so one of the two has to stay.
    ((moved, failed),) = [sorted(done["items"], key=lambda item: item["action"], reverse=True)]
    assert (moved["action"], failed["action"], failed["reason"]) == ("upload", "fail", "key_taken")
    assert bucket.body(moved["key"]) == bodies[moved["key"]]


# Odd names


def test_a_decomposed_name_keeps_its_key_and_its_urls_are_composed(place, alias):
    body = picture(place, f"apps/{NFD}.png")
    lone = picture(place, f"{NFD}.png", b"another")
    app = App.objects.using(alias).create(name_en="a")
    App.objects.using(alias).filter(pk=app.pk).update(main_image_en=f"apps/{NFD}.png")
    row = submission(
        alias, app_icon_url=f"/media/{quote(NFD)}.png", main_image_en=f"/media/apps/{NFD}.png"
    )

    apply(COMMAND)

    row.refresh_from_db(using=alias)
    assert (stored(row.app_icon_url), stored(row.main_image_en)) == (lone, body)
    assert quote_key(NFC.replace(" ", "-")) in row.app_icon_url
    assert get(open_bucket(load()), f"apps/{NFD}.png").body == body
    again = apply(COMMAND)["summary"]
    assert (again["uploaded"], again["rewritten"], again["failed"]) == (0, 0, 0)
    assert run("verify_urls")["summary"]["outcomes"]["missing"] == 0


def test_a_key_has_1024_bytes_at_most_and_its_hash_whole(place, settings):
    template = "x/{app_name_en}/{app_name_ar}/{stem}.{hash}{ext}"
    rules = {"appdirectory.AppSubmission": {"screenshots_en": {"key": template}}}
    settings.R2MAINT = {**settings.R2MAINT, "FIELDS": rules}
    name = "ص" * 120 + ".png"
    body = picture(place, name)
    row = submission(
        app_name_en="ا" * 200, app_name_ar="ب" * 200, screenshots_en=[f"/media/{name}"]
    )

    (item,) = apply(COMMAND)["items"]

    row.refresh_from_db()
    assert 1000 < len(item["key"].encode()) <= 1024
    assert item["key"].endswith(f".{item['sha256'][:16]}.png")
    assert stored(row.screenshots_en[0]) == body


def test_a_name_longer_than_a_key_may_be_is_told_and_stops_nothing(project, monkeypatch):
    def refuse_long(called: str, key: str) -> None:
        if len(key.encode()) > 1024:
            raise BucketError(f"The key is too long: {called}.")

    bucket = R2Fake(name=load().bucket)
    bucket.before = refuse_long
    monkeypatch.setattr(_base, "open_bucket", lambda config, **options: bucket)
    name = "/".join(["ص" * 100] * 5) + f"/{'ص' * 20}.png"
    picture(project, name)
    name_in_file_field(name)
    picture(project, "icon.png")
    submission(app_icon_url="/media/icon.png")

    done = apply(COMMAND, exit_code=3)

    told = {Path(item["source"]).name: (item["action"], item["reason"]) for item in done["items"]}
    assert told == {Path(name).name: ("skip", "too_long"), "icon.png": ("upload", None)}
    assert done["summary"]["rewritten"] == 1
