"""Photographs under awkward names, named by five hundred rows, move to an S3 server and back."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from r2maint.bucket import Upload, get, open_bucket, put
from r2maint.conf import load
from r2maint.keys import Addresses, Kind
from tests.appdirectory.models import App, AppSubmission
from tests.commands import apply, run
from tests.conftest import DATABASES
from tests.oddities.models import Article, LegacyBanner, SoftDeleted
from tests.pictures import PHOTOGRAPHS

NAMES = (
    "صورة الشاشة {}",
    "app icon {} (final)",
    "100% {}",
    "it's & that {}",
    "50%20off {}",
    "plus+plus {}",
    "plain-{}",
    "emoji 🌙 {}",
)
ROWS = 500

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.django_db(transaction=True, databases=DATABASES),
    pytest.mark.skipif(
        not PHOTOGRAPHS.is_dir(), reason="the photographs are not beside the project"
    ),
]


def copy_photographs(media: Path) -> list[str]:
    """Put every photograph below MEDIA_ROOT and return the names, awkward ones."""
    names = []
    pictures = sorted(path for path in PHOTOGRAPHS.iterdir() if path.suffix in {".jpg", ".png"})
    for number, picture in enumerate(pictures):
        name = f"apps/{NAMES[number % len(NAMES)].format(number)}{picture.suffix}"
        (media / "apps").mkdir(exist_ok=True)
        (media / name).write_bytes(picture.read_bytes())
        names.append(name)
    return names


def fill(names: list[str], alias: str) -> dict[tuple[str, int, str, int], str]:
    """Write 500 rows and return (model, pk, field, index) -> the name each value means."""
    meant = {}
    for number in range(ROWS):
        one, two, three = (names[(number * step) % len(names)] for step in (1, 3, 7))
        if number % 5 == 4:
            # Half of the photographs are files of a field too and keep their names as keys.
            own = names[number % (len(names) // 2)]
            app = App.objects.using(alias).create(name_en=f"App {number}")
            App.objects.using(alias).filter(pk=app.pk).update(main_image_en=own)
            meant["App", app.pk, "main_image_en", 0] = own
            continue
        row = AppSubmission.objects.using(alias).create(
            tracking_id=f"QAD-{number:06d}",
            app_icon_url=f"/media/{quote(one)}",
            main_image_ar=f"https://apps.example.org/media/{quote(two)}",
            screenshots_en=[f"/media/{quote(two)}", f"/media/{quote(three)}"],
        )
        meant["AppSubmission", row.pk, "app_icon_url", 0] = one
        meant["AppSubmission", row.pk, "main_image_ar", 0] = two
        meant["AppSubmission", row.pk, "screenshots_en", 0] = two
        meant["AppSubmission", row.pk, "screenshots_en", 1] = three
    return meant


def values(alias: str) -> Iterator[tuple[tuple[str, int, str, int], str]]:
    """Yield every media value of every row."""
    for row in AppSubmission.objects.using(alias).all():
        yield ("AppSubmission", row.pk, "app_icon_url", 0), row.app_icon_url
        yield ("AppSubmission", row.pk, "main_image_ar", 0), row.main_image_ar
        for index, value in enumerate(row.screenshots_en):
            yield ("AppSubmission", row.pk, "screenshots_en", index), value
    for app in App.objects.using(alias).all():
        yield ("App", app.pk, "main_image_en", 0), app.main_image_en.name


def test_every_row_resolves_to_its_source_and_undo_restores_every_value(remote, alias):
    media = remote / "media"
    names = copy_photographs(media)
    meant = fill(names, alias)
    before = dict(values(alias))

    first = apply("migrate_media_to_r2")

    config = load()
    bucket, addresses = open_bucket(config), Addresses.from_config(config)
    digests: dict[str, str] = {}
    after = dict(values(alias))
    assert after.keys() == meant.keys()
    for place, value in after.items():
        target = addresses.locate(value) if "://" in value else None
        key = target.key if target else value
        assert target is None or target.kind is Kind.BUCKET
        if key not in digests:
            digests[key] = hashlib.sha256(get(bucket, key).body).hexdigest()
        assert digests[key] == hashlib.sha256((media / meant[place]).read_bytes()).hexdigest()
    assert first["summary"]["uploaded"] == len(names)
    assert first["summary"]["rewritten"] == sum(place[0] != "App" for place in meant)
    assert run("verify_urls")["summary"]["outcomes"]["ok"] == len(meant)

    second = apply("migrate_media_to_r2")["summary"]
    assert (second["uploaded"], second["rewritten"]) == (0, 0)
    assert dict(values(alias)) == after

    apply("r2_runs", first["run_id"], "--undo")
    assert dict(values(alias)) == before


@pytest.fixture
def unmanaged_rows(alias) -> Iterator[None]:
    """Empty the table that Django's own clean-up leaves alone."""
    yield
    LegacyBanner.objects.using(alias).all().delete()


def test_a_purge_of_that_bucket_removes_exactly_what_nothing_names(remote, alias, unmanaged_rows):
    fill(copy_photographs(remote / "media"), alias)
    apply("migrate_media_to_r2")
    bucket = open_bucket(load())
    kept = {
        "submissions/in an article.png": lambda key: Article(
            body=f"As in https://nobody-configured.example/x/{quote(key)}, before."
        ),
        "submissions/soft-deleted.png": lambda key: SoftDeleted(
            picture_url=f"https://media.example.org/{key}", deleted=True
        ),
        "submissions/unmanaged.png": lambda key: LegacyBanner(id=1, path=f"/{key}"),
    }
    for key, row in kept.items():
        put(bucket, Upload(key=key, body=b"named"))
        row(key).save(using=alias)
    unnamed = {f"submissions/temp-anon/{number} unnamed.png" for number in range(5)}
    for key in (*unnamed, "elsewhere/unmanaged prefix.png", "apps/1.json"):
        put(bucket, Upload(key=key, body=b"unnamed"))
    before = {item.key for page in bucket.list_pages() for item in page}

    options = ("--grace", "0", "--no-second-look", "--adopt", "--max-delete", "25%")
    done = apply("purge_orphans", *options)

    after = {item.key for page in bucket.list_pages() for item in page}
    assert before - after == unnamed
    assert done["summary"]["deleted"] == len(unnamed)
    assert all(key.startswith(".r2maint/") for key in after - before)
    run("verify_urls")
