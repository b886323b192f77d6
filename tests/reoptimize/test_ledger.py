"""What was looked at once is known, and a second run costs nothing but the listing."""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext
from PIL import Image

from r2maint import keys
from r2maint.bucket import Headers, Upload, put
from r2maint.conf import load
from r2maint.control import Control
from r2maint.images import RECIPE_KEY, SOURCE_KEY, Recipe
from r2maint.journal.journal import open_journal
from r2maint.keys import Addresses
from r2maint.models import Encoding
from r2maint.references.scope import Scope
from r2maint.reoptimize.apply import apply_reoptimize
from r2maint.reoptimize.ledger import ALREADY, Record
from r2maint.reoptimize.plan import plan_reoptimize
from r2maint.reoptimize.result import Reoptimization
from r2maint.reoptimize.skip_known import is_settled
from tests.appdirectory.models import App, AppSubmission
from tests.conftest import DATABASES
from tests.fakes import R2Fake
from tests.oddities.models import Gallery
from tests.worlds.local_media import submission
from tests.worlds.stored_pictures import BASE, BucketStorage, picture

pytestmark = [pytest.mark.thorough, pytest.mark.django_db(transaction=True, databases=DATABASES)]

READ = ("get", "head", "put", "copy", "delete")


@pytest.fixture
def fake(project) -> R2Fake:
    return R2Fake(load().bucket)


def plan(fake: R2Fake, scope: Scope | None = None, **options: Any) -> Reoptimization:
    config = load()
    return plan_reoptimize(
        config,
        Addresses.from_config(config),
        fake,
        scope=scope or Scope(),
        control=Control(),
        processes=False,
        **options,
    )


def apply(fake: R2Fake, planned: Reoptimization | None = None, **options: Any) -> Reoptimization:
    planned = planned or plan(fake, **options)
    config = load()
    journal = open_journal(command="reoptimize", bucket=fake.name, options={})
    outcome = apply_reoptimize(
        planned,
        config,
        Addresses.from_config(config),
        fake,
        journal,
        control=Control(),
        processes=False,
    )
    journal.finish(state="finished", summary={})
    return outcome


def store(fake: R2Fake, key: str, body: bytes | None = None, **metadata: str) -> None:
    headers = Headers(content_type="image/png", metadata=metadata)
    put(fake, Upload(key=key, body=body or picture(), headers=headers, if_absent=False))


def requests(fake: R2Fake) -> Counter[str]:
    """Return how many requests there were since this was last asked, but for listings."""
    found = Counter(operation for operation, _ in fake.calls if operation in READ)
    fake.calls.clear()
    return found


def noise(size: tuple[int, int] = (64, 64)) -> bytes:
    """Return a picture that no encoder makes smaller."""
    out = io.BytesIO()
    Image.effect_noise(size, 90).save(out, "JPEG", quality=20)
    return out.getvalue()


def reasons(result: Reoptimization) -> dict[str, str]:
    return {item.key: item.reason for item in result.items}


# A second run


def test_a_second_run_on_the_result_asks_and_writes_nothing(fake):
    store(fake, "a.png")
    store(fake, "b.jpg", noise())
    store(fake, "c.png", b"\x89PNG\r\n\x1a\n" + b"\0" * 5000)
    store(fake, "d.png", b"no picture " * 500)
    for name in ("a.png", "b.jpg", "c.png", "d.png"):
        submission(app_icon_url=f"{BASE}{name}")
    first = apply(fake)
    assert first.converted == 1
    made = next(item.new_key for item in first.items if item.new_key)
    requests(fake)

    with CaptureQueriesContext(connection) as queries:
        again = plan(fake)

    assert requests(fake) == {}
    verbs = {query["sql"].split()[0] for query in queries}
    assert verbs <= {"SELECT", "BEGIN", "COMMIT", "PRAGMA"}
    assert not again.has_work
    assert reasons(again) == {
        made: "already", "b.jpg": "not_smaller", "c.png": "corrupt", "d.png": "unsupported",
    }  # fmt: skip
    assert again.findings
    apply(fake, again)
    assert requests(fake) == {}


def test_a_dry_run_remembers_what_its_sample_could_not_make_smaller(fake):
    store(fake, "b.jpg", noise())
    submission(app_icon_url=f"{BASE}b.jpg")
    plan(fake)
    assert requests(fake)["get"] == 1
    assert plan(fake).summary()["skipped"] == {"not_smaller": 1}
    assert requests(fake) == {}


def test_a_sampled_picture_is_fetched_once_for_plan_and_run(fake):
    store(fake, "a.png")
    submission(app_icon_url=f"{BASE}a.png")
    requests(fake)
    apply(fake)
    found = requests(fake)
    assert (found["get"], found["put"]) == (1, 1)


def test_with_the_database_lost_metadata_tell_once_what_was_made(fake):
    store(fake, "a.png")
    submission(app_icon_url=f"{BASE}a.png")
    apply(fake)
    Encoding.objects.all().delete()
    requests(fake)
    assert plan(fake).summary()["skipped"] == {"already": 1}
    assert requests(fake) == {"head": 1}
    assert plan(fake, recipe=Recipe(quality=90)).summary()["skipped"] == {"already": 1}
    assert requests(fake) == {}


def test_an_upload_of_a_site_is_asked_about_once_however_its_key_looks(fake):
    store(fake, "a.0123456789abcdef.png")
    submission(app_icon_url=f"{BASE}a.0123456789abcdef.png")
    requests(fake)
    for _ in range(2):
        assert plan(fake, sample=0).has_work
    assert requests(fake) == {"head": 1}


def test_what_is_recorded_of_objects_that_are_gone_or_changed_is_dropped(fake):
    for name in "abc":
        store(fake, f"{name}.jpg", noise((64, 64 + ord(name))))
        submission(app_icon_url=f"{BASE}{name}.jpg")
    plan(fake)
    assert Encoding.objects.count() == 3
    list(fake.delete_many(["a.jpg"]))
    store(fake, "b.jpg")
    assert reasons(plan(fake, sample=0)) == {"b.jpg": "", "c.jpg": "not_smaller"}
    assert list(Encoding.objects.values_list("key", flat=True)) == ["c.jpg"]


def test_a_run_below_a_prefix_keeps_what_is_recorded_elsewhere(fake):
    for name in ("x/a", "y/b"):
        store(fake, f"{name}.jpg", noise())
        submission(app_icon_url=f"{BASE}{name}.jpg")
    plan(fake)
    plan(fake, Scope(prefix="x/"))
    assert Encoding.objects.count() == 2


def test_the_ledger_measures_what_was_made(fake):
    store(fake, "a.png")
    submission(app_icon_url=f"{BASE}a.png")
    (item,) = apply(fake).items
    row = Encoding.objects.get()
    assert (row.key, row.bytes_before, row.bytes_after) == (
        item.new_key, item.bytes_before, item.bytes_after,
    )  # fmt: skip
    assert (row.width, row.height, row.fingerprint) == (240, 160, Recipe().fingerprint)
    assert len(row.source_sha256) == 64


def test_without_its_table_a_plan_goes_on_and_says_so(fake):
    store(fake, "a.png")
    submission(app_icon_url=f"{BASE}a.png")
    with connections["default"].schema_editor() as editor:
        editor.delete_model(Encoding)
    try:
        planned = plan(fake)
    finally:
        with connections["default"].schema_editor() as editor:
            editor.create_model(Encoding)
    assert planned.has_work
    assert any("manage.py migrate r2maint" in note for note in planned.notes)


# Other recipes


def made(fake: R2Fake) -> str:
    """Return the key of what the default recipe made of a picture of 240 by 160."""
    store(fake, "a.png")
    submission(app_icon_url=f"{BASE}a.png")
    (item,) = apply(fake).items
    requests(fake)
    return item.new_key


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(quality=95),
        Recipe(max_size=(240, 160)),
        Recipe(max_size=None),
        Recipe(max_bytes=10**6),
        Recipe(min_ssim=0.99),
        Recipe(method=6),
        Recipe(min_saving_percent=1),
    ],
    ids=["quality", "size it has", "no size", "bytes it has", "similarity", "effort", "saving"],
)
def test_a_recipe_that_is_no_stronger_leaves_what_was_made(fake, recipe):
    key = made(fake)
    assert reasons(plan(fake, recipe=recipe, overrides={"max_size"})) == {key: "already"}
    assert requests(fake) == {}


def test_a_smaller_size_touches_only_what_it_shrinks(fake):
    small = made(fake)
    store(fake, "big.png", picture(size=(600, 400)))
    submission(main_image_en=f"{BASE}big.png")
    apply(fake)
    requests(fake)
    planned = plan(fake, recipe=Recipe(max_size=(300, 300)), overrides={"max_size"})
    assert reasons(planned).pop(small) == "already"
    (item,) = [item for item in planned.items if item.key != small]
    assert item.action.value == "convert"
    assert apply(fake, planned).converted == 1
    assert plan(fake, recipe=Recipe(max_size=(300, 300)), overrides={"max_size"}).has_work is False


MADE = Record(
    key="a.webp",
    etag="e",
    fingerprint=Recipe().fingerprint,
    reason=ALREADY,
    bytes_before=9000,
    bytes_after=4000,
    min_saving=5,
    width=240,
    height=160,
    source_sha256="0" * 64,
    made_by=Recipe().fingerprint,
)
LEFT = replace(MADE, key="a.png", reason="not_smaller", bytes_after=None, made_by="")


def made_by(recipe: Recipe) -> Record:
    return replace(MADE, fingerprint=recipe.fingerprint, made_by=recipe.fingerprint)


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        (Recipe(to="avif"), False),
        (Recipe(to="auto"), False),
        (Recipe(quality=70), False),
        (Recipe(max_size=(200, 200)), False),
        (Recipe(max_bytes=3999), False),
        (Recipe(max_bytes=4000), True),
        (Recipe(min_ssim=0.5), True),
    ],
)
def test_what_was_made_is_made_anew_by_a_stronger_recipe_alone(recipe, expected):
    assert is_settled(MADE, recipe, 4000) is expected


def test_webp_never_follows_avif_and_another_encoder_changes_nothing():
    assert is_settled(made_by(Recipe(to="avif")), Recipe(), 4000)
    older = Recipe().fingerprint.replace("pillow/", "pillow/1.")
    assert older != Recipe().fingerprint
    assert is_settled(replace(MADE, fingerprint=older, made_by=older), Recipe(), 4000)
    assert not is_settled(replace(LEFT, fingerprint=older), Recipe(), 9000)


def test_with_auto_a_lower_floor_is_stronger():
    auto = made_by(Recipe(to="auto", min_ssim=0.98))
    assert is_settled(auto, Recipe(to="auto", min_ssim=0.99), 4000)
    assert not is_settled(auto, Recipe(to="auto", min_ssim=0.95), 4000)


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        (Recipe(), True),
        (Recipe(quality=95), True),
        (Recipe(quality=80), False),
        (Recipe(max_size=(300, 300)), True),
        (Recipe(max_size=(300, 200)), False),
        (Recipe(min_saving_percent=10), True),
        (Recipe(min_saving_percent=2), False),
        (Recipe(to="auto"), False),
        (Recipe(max_bytes=5000), False),
    ],
)
def test_what_did_not_get_smaller_is_tried_again_where_it_might(recipe, expected):
    assert is_settled(LEFT, recipe, 9000) is expected


def test_what_a_stronger_recipe_failed_on_is_still_left_by_a_weaker_one(fake):
    key = made(fake)
    strict = {"recipe": Recipe(max_bytes=10)}
    assert reasons(apply(fake, **strict)) == {key: "over_max_bytes"}
    requests(fake)
    assert reasons(plan(fake, **strict)) == {key: "over_max_bytes"}
    assert not plan(fake).has_work
    assert not plan(fake, recipe=Recipe(quality=95)).has_work
    assert requests(fake) == {}


def test_what_the_bytes_are_is_no_matter_of_quality_or_size():
    for reason in ("animated", "corrupt", "unsupported"):
        record = replace(LEFT, reason=reason, width=0, height=0)
        assert is_settled(record, Recipe(quality=5, max_size=(9, 9)), 9000)
        assert not is_settled(record, Recipe(to="auto"), 9000)


def test_a_lossy_picture_is_tried_again_when_it_is_to_shrink():
    record = replace(LEFT, reason="already_webp")
    assert is_settled(record, Recipe(quality=5), 9000)
    assert not is_settled(record, Recipe(max_size=(200, 200)), 9000)
    assert not is_settled(record, Recipe(max_bytes=8999), 9000)


def test_a_fingerprint_nobody_can_read_settles_nothing_but_itself():
    strange = replace(LEFT, fingerprint="from the future")
    assert not is_settled(strange, Recipe(), 9000)


def test_metadata_of_a_picture_kept_by_a_migration_settle_the_same_recipe(fake):
    tried = {RECIPE_KEY: Recipe().fingerprint}
    store(fake, "a.0123456789abcdef.jpg", noise(), **tried)
    store(fake, "b.0123456789abcdef.jpg", noise((80, 80)), **tried, **{SOURCE_KEY: "0" * 64})
    for name in "ab":
        submission(app_icon_url=f"{BASE}{name}.0123456789abcdef.jpg")
    requests(fake)
    assert plan(fake).summary()["skipped"] == {"already": 2}
    assert requests(fake) == {"head": 2}


# Named by many


@pytest.fixture
def named_fifty_times(fake, alias, monkeypatch) -> str:
    """A picture that fifty references name: by URL, path, JSON element and a file's name."""
    icon = App._meta.get_field("application_icon")
    monkeypatch.setattr(icon, "storage", BucketStorage(fake.name, "media"))
    store(fake, "media/icons/a.png")
    url = f"{BASE}media/icons/a.png"
    for number in range(10):
        submission(alias, app_icon_url=url, screenshots_en=["x", url])
        Gallery.objects.using(alias).create(content={str(number): {"pic": [url]}})
        App.objects.using(alias).create(name_en="a")
    App.objects.using(alias).update(application_icon="icons/a.png", icon_width=240, icon_height=160)
    pks = list(AppSubmission.objects.using(alias).values_list("pk", flat=True))
    rest = AppSubmission.objects.using(alias).filter(pk__in=pks)
    rest.update(main_image_en=f"{BASE}media/icons/a.png?v=2#top")
    requests(fake)
    return alias


def texts(alias: str) -> list[Any]:
    rows = AppSubmission.objects.using(alias).order_by("pk")
    fields = ("app_icon_url", "main_image_en", "screenshots_en")
    names = App.objects.using(alias).order_by("pk")
    return [
        *rows.values_list(*fields),
        *Gallery.objects.using(alias).order_by("pk").values_list("content"),
        *names.values_list("application_icon", "icon_width", "icon_height"),
    ]


def test_fifty_references_cost_one_get_and_one_put_and_all_follow(fake, named_fifty_times):
    (item,) = apply(fake, recipe=Recipe(max_size=(120, 120)), overrides={"max_size"}).items
    assert (len(item.references), item.rewritten) == (50, 50)
    found = requests(fake)
    assert (found["get"], found["put"]) == (1, 1)
    told = str(texts(named_fifty_times))
    assert "a.png" not in told
    assert told.count(keys.quote_key(item.new_key)) == 40
    assert told.count(f"('{item.new_key.removeprefix('media/')}', 120, 80)") == 10


def test_or_none_of_fifty_follows(fake, named_fifty_times):
    planned = plan(fake)
    last = AppSubmission.objects.using(named_fifty_times).last()
    AppSubmission.objects.using(named_fifty_times).filter(pk=last.pk).update(
        screenshots_en=["mine"]
    )
    before = texts(named_fifty_times)
    (item,) = apply(fake, planned).items
    assert (item.reason, item.rewritten) == ("changed", 0)
    assert texts(named_fifty_times) == before
    assert apply(fake).converted == 1
    assert "icons/a.png" not in str(texts(named_fifty_times))


# Named elsewhere


def test_a_picture_named_in_two_databases_stays(fake):
    store(fake, "a.png")
    for alias in DATABASES:
        submission(alias, app_icon_url=f"{BASE}a.png")
    (item,) = apply(fake).items
    assert (item.reason, item.as_dict()["detail"]) == (
        "not_swappable", f"named in several databases: {', '.join(sorted(DATABASES))}",
    )  # fmt: skip


def test_a_picture_named_in_a_text_that_is_not_rewritten_stays(fake, alias):
    store(fake, "a.png")
    store(fake, "b.png", picture(1))
    text = f"See {BASE}a.png for more."
    row = submission(alias, app_icon_url=f"{BASE}a.png", description_en=text)
    submission(alias, app_icon_url=f"{BASE}b.png")
    before = fake.keys()
    outcome = apply(fake)
    told = {item.key: (item.reason, item.detail) for item in outcome.items}
    assert told["a.png"] == (
        "not_swappable", f"also named in {alias}.app_submissions.description_en",
    )  # fmt: skip
    assert outcome.converted == 1
    row.refresh_from_db()
    assert row.app_icon_url == f"{BASE}a.png"
    assert len(fake.keys()) == len(before) + 1


def test_a_picture_a_source_file_or_object_names_stays(fake, project, settings):
    settings.R2MAINT = {
        **settings.R2MAINT,
        "EXTRA_REFERENCES": {"files": ["src/*.ts"], "objects": ["apps/*.json"]},
    }
    (project / "src").mkdir()
    (project / "src" / "a.ts").write_text(f"export const icon = '{BASE}x/a.png'")
    store(fake, "x/a.png")
    store(fake, "x/b.png", picture(1))
    store(fake, "apps/list.json", b'{"icon": "/x/b.png"}')
    for name in "ab":
        submission(app_icon_url=f"{BASE}x/{name}.png")
    assert plan(fake).summary()["skipped"] == {"not_swappable": 2}
    below = plan(fake, Scope(prefix="x/"))
    details = {item.key: item.detail for item in below.items}
    assert "src/*.ts" in details["x/a.png"]
    assert "apps/*.json" in details["x/b.png"]


def test_what_the_journal_names_stays_swappable(fake):
    store(fake, "a.png")
    row = submission(app_icon_url=f"{BASE}a.png")
    apply(fake)
    AppSubmission.objects.filter(pk=row.pk).update(app_icon_url=f"{BASE}a.png")
    assert apply(fake).converted == 1


def test_the_database_is_read_once_and_only_when_there_is_something_to_convert(fake):
    store(fake, "a.png")
    submission(app_icon_url=f"{BASE}a.png")
    with CaptureQueriesContext(connection) as queries:
        apply(fake)
    assert (
        sum("table_xinfo" in each["sql"] and "app_submissions" in each["sql"] for each in queries)
        == 1
    )
    with CaptureQueriesContext(connection) as queries:
        plan(fake)
    assert not any("table_xinfo" in each["sql"] for each in queries)
