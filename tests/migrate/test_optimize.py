"""Pictures become smaller on their way into the bucket, and look as they did; the rest moves as it is."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest
from PIL import ExifTags, Image, ImageChops, ImageOps, ImageStat

from r2maint.bucket import head, open_bucket
from r2maint.conf import load
from r2maint.images import RECIPE_KEY, SOURCE_KEY, inspect, sniff
from r2maint.keys import Addresses
from r2maint.migrate import prepare
from r2maint.models import Change
from tests.appdirectory.models import App
from tests.commands import apply, run
from tests.conftest import DATABASES
from tests.oddities.models import Article, Gallery
from tests.pictures import PHOTOGRAPHS, animation, photo, saved
from tests.servers.websites import reply, site
from tests.worlds.local_media import dump, stored, submission

pytestmark = [pytest.mark.thorough, pytest.mark.django_db(transaction=True, databases=DATABASES)]

COMMAND = "migrate_media_to_r2"
ONE = ("--workers", "1")
"""A process to encode in takes longer to start than these pictures."""


def lay(project: Path, name: str, body: bytes) -> str:
    """Write a file below MEDIA_ROOT and return its path on the site."""
    path = project / "media" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    return f"/media/{name}"


def grainy(size: tuple[int, int] = (300, 200), sigma: int = 60) -> Image.Image:
    """A picture full of detail: large, whatever encodes it."""
    return Image.merge("RGB", [Image.effect_noise(size, sigma) for _ in range(3)])


def metadata(url: str) -> dict[str, str]:
    target = Addresses.from_config(load()).locate(url)
    assert target is not None
    info = head(open_bucket(load()), target.key)
    assert info is not None
    return dict(info.headers.metadata)


def decoded(body: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(body))
    image.load()
    return image


def difference(one: Image.Image, other: Image.Image) -> float:
    """Return the mean difference of two pictures on white, of 255, apart from fine detail."""
    flat = []
    for image in (one, other):
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        flat.append(Image.alpha_composite(white, rgba).convert("RGB").resize((60, 60)))
    return max(ImageStat.Stat(ImageChops.difference(*flat)).mean)


# What becomes smaller


@pytest.mark.skipif(not PHOTOGRAPHS.is_dir(), reason="the photographs are not beside the project")
def test_photographs_become_small_webp_that_look_the_same(project):
    sources = sorted(path for path in PHOTOGRAPHS.iterdir() if path.suffix in {".jpg", ".png"})
    bodies = {path.name: path.read_bytes() for path in sources}
    urls = [lay(project, f"photos/{name}", body) for name, body in bodies.items()]
    gallery = Gallery.objects.create(content={"a": urls})
    before = dump("default")

    done = apply(COMMAND, "--optimize")

    gallery.refresh_from_db()
    for (name, body), url in zip(bodies.items(), gallery.content["a"], strict=True):
        new = stored(url)
        image, source = decoded(new), ImageOps.exif_transpose(decoded(body))
        assert len(new) < len(body)
        assert (image.format, url.rpartition(".")[2]) == ("WEBP", "webp"), name
        assert max(image.size) <= 2000
        scale = min(1, 2000 / max(source.size))
        assert image.size == tuple(round(side * scale) for side in source.size)
        assert difference(image, source) < 2, name
        assert metadata(url)[SOURCE_KEY] == hashlib.sha256(body).hexdigest()
        assert metadata(url)["sha256"] == hashlib.sha256(new).hexdigest()
    assert done["summary"]["uploaded"] == done["summary"]["rewritten"] == len(urls)
    assert done["summary"]["bytes"] < sum(map(len, bodies.values())) / 2

    again = run("reoptimize")["summary"]
    assert (again["candidates"], set(again["skipped"])) == (0, {"already"})
    assert apply(COMMAND, "--optimize")["run_id"] is None
    apply("r2_runs", done["run_id"], "--undo")
    assert dump("default") == before


def test_every_orientation_becomes_upright(project):
    upright = photo((160, 100)).resize((480, 300))
    upright.paste((200, 30, 30), (0, 0, 120, 80))
    urls = []
    for orientation in range(1, 9):
        back = {5: 5, 6: 8, 7: 7, 8: 6}.get(orientation, orientation)
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = back
        turned = ImageOps.exif_transpose(decoded(saved(upright, "JPEG", quality=95, exif=exif)))
        exif[ExifTags.Base.Orientation] = orientation
        body = saved(turned, "JPEG", quality=95, exif=exif)
        urls.append(lay(project, f"turned-{orientation}.jpg", body))
    gallery = Gallery.objects.create(content=urls)

    apply(COMMAND, "--optimize", *ONE)

    gallery.refresh_from_db()
    for url in gallery.content:
        image = decoded(stored(url))
        assert (image.size, image.format) == (upright.size, "WEBP")
        assert ExifTags.Base.Orientation not in image.getexif()
        assert difference(image, upright) < 3


def test_the_rules_of_a_field_say_how_large_and_reoptimize_agrees(project, settings):
    rules = {"appdirectory.AppSubmission": {"app_icon_url": {"max_size": [128, 64]}}}
    settings.R2MAINT = {**settings.R2MAINT, "FIELDS": rules}
    url = lay(project, "icon.png", saved(photo((400, 400))))
    row = submission(app_icon_url=url)

    (item,) = apply(COMMAND, "--optimize", *ONE)["items"]

    row.refresh_from_db()
    assert decoded(stored(row.app_icon_url)).size == (64, 64)
    assert (item["bytes"], item["sha256"]) == (
        len(stored(row.app_icon_url)),
        metadata(row.app_icon_url)["sha256"],
    )
    assert set(run("reoptimize")["summary"]["skipped"]) == {"already"}


def test_a_picture_over_its_fields_limit_is_made_to_fit_and_not_skipped(project, settings):
    rules = {"appdirectory.AppSubmission": {"app_icon_url": {"max_bytes": 512 * 1024}}}
    settings.R2MAINT = {**settings.R2MAINT, "FIELDS": rules}
    body = saved(photo((1100, 1100)))
    body = saved(ImageChops.add(decoded(body), grainy((1100, 1100), 12), 2))
    assert len(body) > 2 * 2**20
    row = submission(app_icon_url=lay(project, "icon.png", body))
    assert run(COMMAND)["items"][0]["reason"] == "too_large"

    apply(COMMAND, "--optimize", *ONE)

    row.refresh_from_db()
    image = decoded(stored(row.app_icon_url))
    assert image.format == "WEBP"
    assert len(stored(row.app_icon_url)) <= 512 * 1024


def test_a_field_that_allows_more_than_the_usual_gets_it(project, settings, monkeypatch):
    monkeypatch.setattr("r2maint.migrate.new_keys.MAX_IMAGE_BYTES", 1000)
    monkeypatch.setattr("r2maint.migrate.plan.MAX_IMAGE_BYTES", 1000)
    rules = {"appdirectory.AppSubmission": {"app_icon_url": {"max_bytes": 10**6}}}
    settings.R2MAINT = {**settings.R2MAINT, "FIELDS": rules}
    body = saved(photo(), "WEBP", quality=60)
    row = submission(app_icon_url=lay(project, "icon.webp", body))

    apply(COMMAND, "--optimize", *ONE)

    row.refresh_from_db()
    assert len(body) > 1000
    assert stored(row.app_icon_url) == body


def test_the_width_and_height_of_an_image_field_follow_and_come_back(project, alias, settings):
    rules = {"appdirectory.App": {"application_icon": {"max_size": [50, 50]}}}
    settings.R2MAINT = {**settings.R2MAINT, "FIELDS": rules}
    url = f"https://apps.example.org{lay(project, 'i.png', saved(photo((200, 100))))}"
    app = App.objects.using(alias).create(name_en="a")
    row = App.objects.using(alias).filter(pk=app.pk)
    row.update(application_icon=url, icon_width=200, icon_height=100)

    run_id = apply(COMMAND, "--optimize", *ONE)["run_id"]

    ((name, *size),) = row.values_list("application_icon", "icon_width", "icon_height")
    assert decoded(stored(name)).size == tuple(size) == (50, 25)
    apply("r2_runs", run_id, "--undo")
    names = ("application_icon", "icon_width", "icon_height")
    assert row.values_list(*names).get() == (url, 200, 100)


# What stays as it is


def test_an_animation_goes_on_moving(project):
    row = Article.objects.create(body=lay(project, "moving.gif", animation("GIF")))

    apply(COMMAND, "--optimize", *ONE)

    row.refresh_from_db()
    assert row.body.endswith(".webp")
    assert inspect(stored(row.body)).frames == 3


def test_what_does_not_get_smaller_or_may_not_be_touched_is_stored_as_it_is(project, settings):
    rules = {"oddities.Article": {"body": {}}}
    settings.R2MAINT = {**settings.R2MAINT, "FIELDS": rules}
    bodies = {
        "already.webp": saved(photo((64, 64)), "WEBP"),
        "tiny.png": saved(Image.new("RGB", (8, 8), "red")),
        "moving.webp": animation("WEBP"),
        "drawing.svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "paper.pdf": b"%PDF-1.7\n" + bytes(5000),
    }
    rows = {
        name: Article.objects.create(body=lay(project, name, body)) for name, body in bodies.items()
    }

    done = apply(COMMAND, "--optimize", *ONE)

    for name, row in rows.items():
        row.refresh_from_db()
        assert stored(row.body) == bodies[name], name
        assert row.body.endswith(Path(name).suffix)
        assert SOURCE_KEY not in metadata(row.body)
    tried = {name for name, row in rows.items() if RECIPE_KEY in metadata(row.body)}
    assert tried == {"already.webp", "tiny.png", "moving.webp"}
    assert done["summary"]["uploaded"] == len(bodies)
    assert run("reoptimize")["summary"]["candidates"] == 0


def test_a_corrupt_picture_is_skipped_and_its_row_stays(project):
    whole, torn = saved(photo()), saved(photo())[:-3000]
    row = submission(
        app_icon_url=lay(project, "whole.png", whole), main_image_en=lay(project, "torn.png", torn)
    )

    done = apply(COMMAND, "--optimize", *ONE, exit_code=3)

    row.refresh_from_db()
    assert decoded(stored(row.app_icon_url)).format == "WEBP"
    assert row.main_image_en == "/media/torn.png"
    assert [(i["action"], i["reason"]) for i in done["items"] if i["reason"]] == [
        ("skip", "corrupt")
    ]


def test_a_file_fields_name_keeps_its_bytes_and_a_url_beside_it_shares_them(project):
    body = saved(photo())
    lay(project, "apps/icons/one.png", body)
    App.objects.bulk_create([App(name_en="a", main_image_en="apps/icons/one.png")])
    row = submission(app_icon_url="/media/apps/icons/one.png")

    done = apply(COMMAND, "--optimize", *ONE)

    row.refresh_from_db()
    assert row.app_icon_url == "https://media.example.org/apps/icons/one.png"
    assert stored(row.app_icon_url) == body
    assert done["summary"]["uploaded"] == 1


def test_a_picture_edited_while_it_is_encoded_moves_no_row(project, monkeypatch):
    row = submission(app_icon_url=lay(project, "icon.png", saved(photo())))
    encode = prepare.reencode_many

    def encode_late(jobs, **options):
        for finished in encode(jobs, **options):
            lay(project, "icon.png", saved(photo((100, 100))))
            yield finished

    monkeypatch.setattr(prepare, "reencode_many", encode_late)

    (item,) = apply(COMMAND, "--optimize", *ONE, exit_code=3)["items"]

    row.refresh_from_db()
    assert row.app_icon_url == "/media/icon.png"
    assert (item["action"], item["reason"]) == ("fail", "changed")


# Together with other options


def test_the_sources_of_reencoded_pictures_stay(project):
    small = saved(photo((64, 64)), "WEBP")
    submission(
        app_icon_url=lay(project, "photos/icon.png", saved(photo())),
        main_image_en=lay(project, "photos/small.webp", small),
    )
    run_id = apply(COMMAND, "--optimize", *ONE)["run_id"]

    done = apply(COMMAND, "--remove-local", run_id, exit_code=3)

    assert {Path(item["source"]).name: item["reason"] for item in done["items"]} == {
        "icon.png": "reencoded",
        "small.webp": None,
    }
    assert [path.name for path in (project / "media" / "photos").iterdir()] == ["icon.png"]


def test_a_picture_that_another_row_names_later_keeps_its_key(project, alias):
    url = lay(project, "icon.png", saved(photo()))
    first = submission(alias, app_icon_url=url)
    apply(COMMAND, "--optimize", *ONE)
    second = submission(alias, main_image_en=url)

    again = apply(COMMAND, "--optimize", *ONE)["summary"]

    first.refresh_from_db(using=alias)
    second.refresh_from_db(using=alias)
    assert second.main_image_en == first.app_icon_url
    assert (again["uploaded"], again["already_there"]) == (0, 1)
    assert Change.objects.filter(kind="upload", state="done").count() == 1


def test_external_pictures_are_reencoded_too(project, settings):
    body = saved(photo((300, 200)), "JPEG", quality=95)
    with site(lambda request: [reply(200, body)]) as web:
        allowed = [f"127.0.0.1:{web.port}"]
        settings.R2MAINT = {**settings.R2MAINT, "FETCH_ALLOW": allowed}
        row = submission(app_icon_url=f"{web.url}/photo.jpg")

        (item,) = apply(COMMAND, "--remote", "--optimize", *ONE)["items"]

    row.refresh_from_db()
    image = decoded(stored(row.app_icon_url))
    assert (image.format, image.size) == ("WEBP", (300, 200))
    assert sniff(stored(row.app_icon_url)).ext == Path(item["key"]).suffix == ".webp"
    assert metadata(row.app_icon_url)[SOURCE_KEY] == hashlib.sha256(body).hexdigest()
