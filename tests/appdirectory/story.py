"""Fill the example project with two hundred submissions and everything that goes wrong in years."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

from r2maint.bucket import Headers, Upload
from r2maint.bucket.directory_bucket import DirectoryBucket
from tests.appdirectory import drawings
from tests.appdirectory.models import App, AppSubmission

SUBMISSIONS = 200
APPS = 24
ICONS = 60
ICON_SIZE = 256
PHOTOGRAPHS = 12
SCREENSHOTS = 24
ABANDONED = 12
"""Objects that nothing names: uploads whose row was never saved."""
ALIAS = "https://pub-0123456789abcdef.r2.dev/"
SITE = "https://apps.example.org"
NAMES_AR = ("القرآن الكريم", "أذكار", "مواقيت الصلاة", "تفسير", "حفظ")
NAMES_EN = ("Quran", "Adhkar", "Prayer Times", "Tafsir", "Memorise")


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What was drawn and written."""

    submissions: int
    apps: int
    files: int
    objects: int


def tell(media: Path, bucket: DirectoryBucket) -> Story:
    """Draw the files, store the older objects, write the rows."""
    files = list(_draw(media))
    objects = list(_old_objects())
    for result in bucket.put_many(objects):
        if result.error:
            raise result.error
    AppSubmission.objects.bulk_create(_submissions())
    App.objects.bulk_create(_apps())
    return Story(submissions=SUBMISSIONS, apps=APPS, files=len(files), objects=len(objects))


# Files


def icon_name(number: int) -> str:
    """Names as people give them: spaces, Arabic, a percent sign."""
    styles = ("icon {}.png", "أيقونة {}.png", "100% icon {}.png", "icon-{}.png")
    return "uploads/icons/" + styles[number % len(styles)].format(number)


def photograph_name(number: int) -> str:
    return f"uploads/main/main image {number}.jpg"


def screenshot_name(number: int) -> str:
    return f"uploads/screens/{'شاشة' if number % 2 else 'screen'}-{number}.png"


def app_icon_name(number: int) -> str:
    return f"apps/icons/app-{number}.png"


def _draw(media: Path) -> Iterator[Path]:
    for number in range(ICONS):
        yield _write(media / icon_name(number), drawings.icon(number, ICON_SIZE))
    for number in range(PHOTOGRAPHS):
        yield _write(media / photograph_name(number), drawings.photograph(number))
    for number in range(SCREENSHOTS):
        rtl = bool(number % 2)
        yield _write(media / screenshot_name(number), drawings.screenshot(number, rtl=rtl))
    for number in range(APPS):
        yield _write(media / app_icon_name(number), drawings.icon(1000 + number, ICON_SIZE))


def _write(path: Path, body: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    return path


# Objects that were in the bucket before


def _old_objects() -> Iterator[Upload]:
    for number in range(ABANDONED):
        key = f"submissions/temp-anon/{number:02d} upload.png"
        yield _image(key, drawings.icon(2000 + number, ICON_SIZE))
    for number in range(10):
        yield _image(
            f"submissions/legacy/icon {number}.png", drawings.icon(3000 + number, ICON_SIZE)
        )
    for number in range(3):
        key = f"apps/{number}.json"
        yield Upload(
            key=key, body=b'{"name": "app"}', headers=Headers(content_type="application/json")
        )
    yield _image("12_By Hand/banner.png", drawings.icon(4000, ICON_SIZE))


def _image(key: str, body: bytes) -> Upload:
    return Upload(key=key, body=body, headers=Headers(content_type="image/png"))


# Rows


def _submissions() -> Iterator[AppSubmission]:
    statuses = AppSubmission.Status.values
    for number in range(SUBMISSIONS):
        yield AppSubmission(
            tracking_id=f"QAD-{number:06d}",
            status=statuses[number % len(statuses)],
            app_name_en=f"{NAMES_EN[number % len(NAMES_EN)]} {number}",
            app_name_ar=f"{NAMES_AR[number % len(NAMES_AR)]} {number}",
            google_play_link=f"https://play.google.com/store/apps/details?id=org.example.a{number}",
            website_link=f"{SITE}/apps/{number}/",
            app_icon_url=_icon_url(number),
            main_image_en=_photograph_url(number),
            main_image_ar=_photograph_url(number + 1) if number % 3 else "",
            screenshots_en=_screenshot_urls(number, rtl=False),
            screenshots_ar=_screenshot_urls(number, rtl=True),
        )


def _icon_url(number: int) -> str:
    if number % 25 == 3:
        return f"/media/uploads/icons/lost {number}.png"
    if number % 20 == 5:
        return f"{ALIAS}submissions/legacy/icon%20{number // 20}.png"
    path = f"/media/{quote(icon_name(number % ICONS))}"
    return SITE + path if number % 4 == 1 else path


def _photograph_url(number: int) -> str:
    return f"/media/{photograph_name(number % PHOTOGRAPHS)}"


def _screenshot_urls(number: int, *, rtl: bool) -> list[str]:
    urls = [
        f"{SITE}/media/{quote(screenshot_name((2 * (number + step) + rtl) % SCREENSHOTS))}"
        for step in range(number % 4)
    ]
    if number % 50 == 11:
        urls.append(f"{SITE}/media/uploads/screens/never-uploaded-{number}.png")
    return urls


def _apps() -> Iterator[App]:
    for number in range(APPS):
        yield App(
            name_en=f"{NAMES_EN[number % len(NAMES_EN)]} {number}",
            name_ar=NAMES_AR[number % len(NAMES_AR)],
            application_icon=app_icon_name(number),
        )


def past(days: int) -> datetime:
    """Return a time this many days ago, aware UTC."""
    return datetime.now(tz=UTC) - timedelta(days=days)


def drop_dead_values(references: Iterable[dict[str, str]]) -> int:
    """Remove what leads nowhere, as an editor of the directory would; return how many values."""
    dropped = 0
    for reference in references:
        row = AppSubmission.objects.get(pk=reference["pk"])
        value = getattr(row, reference["field"])
        kept = (
            [url for url in value if url != reference["value"]]
            if value != reference["value"]
            else ""
        )
        setattr(row, reference["field"], kept)
        row.save(update_fields=[reference["field"]])
        dropped += 1
    return dropped
