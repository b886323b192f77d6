"""Pictures become smaller under new keys, and every reference to each follows, or none."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from django.db import connections

from r2maint.bucket import Headers, ObjectInfo, Upload, get, head, open_bucket, put
from r2maint.conf import load
from r2maint.control import Control
from r2maint.errors import UsageError
from r2maint.images import RECIPE_KEY, SOURCE_KEY, Recipe, inspect
from r2maint.journal.journal import open_journal
from r2maint.keys import Addresses
from r2maint.models import Change, Run
from r2maint.references.scope import Scope
from r2maint.reoptimize.apply import apply_reoptimize
from r2maint.reoptimize.plan import plan_reoptimize
from r2maint.reoptimize.result import Reoptimization, ReoptimizeItem
from tests.appdirectory.models import App, AppSubmission
from tests.conftest import DATABASES
from tests.oddities.models import Gallery
from tests.worlds.local_media import submission
from tests.worlds.stored_pictures import BASE, BucketStorage, keys, picture

pytestmark = pytest.mark.django_db(transaction=True, databases=DATABASES)

ALIAS = "https://pub-0123456789abcdef.r2.dev/"


def store(key: str, body: bytes | None = None, **headers: Any) -> ObjectInfo:
    given = Headers(**{"content_type": "image/png", **headers})
    return put(open_bucket(load()), Upload(key=key, body=body or picture(), headers=given))


def plan(scope: Scope | None = None, control: Control | None = None, **options: Any):
    config = load()
    return plan_reoptimize(
        config,
        Addresses.from_config(config),
        open_bucket(config),
        scope=scope or Scope(),
        control=control or Control(),
        processes=False,
        **options,
    )


def apply(planned: Reoptimization | None = None, **options: Any) -> Reoptimization:
    """Carry out a plan, made now unless it is given, as one run."""
    control = options.pop("control", None) or Control()
    planned = planned or plan(**options)
    config = load()
    bucket = open_bucket(config)
    journal = open_journal(command="reoptimize", bucket=bucket.name, options={})
    outcome = apply_reoptimize(
        planned,
        config,
        Addresses.from_config(config),
        bucket,
        journal,
        control=control,
        processes=False,
    )
    journal.finish(state="stopped" if outcome.stopped else "finished", summary={})
    return outcome


def items(result: Reoptimization) -> dict[str, ReoptimizeItem]:
    return {item.key: item for item in result.items}


def key_of(value: str) -> str:
    target = Addresses.from_config(load()).locate(value)
    assert target is not None
    return target.key


# What is written


def test_addresses_inside_text_follow_their_picture(project, alias, settings):
    rules = {"appdirectory.AppSubmission": {"description_en": {"text": True}}}
    settings.R2MAINT = {**settings.R2MAINT, "FIELDS": rules}
    store("pictures/a.png")
    text = f"<img src='{BASE}pictures/a.png'> {ALIAS}pictures/a.png {BASE}pictures/a.png.bak"
    row = submission(alias, description_en=text)

    (item,) = apply().items

    row.refresh_from_db(using=alias)
    url = f"{BASE}{item.new_key}"
    assert row.description_en == f"<img src='{url}'> {url} {BASE}pictures/a.png.bak"
    assert item.rewritten == 2


def test_a_text_of_limited_length_keeps_its_picture_as_it_is(project, settings):
    rules = {"appdirectory.AppSubmission": {"app_name_en": {"text": True}}}
    settings.R2MAINT = {**settings.R2MAINT, "FIELDS": rules}
    store("pictures/a.png")
    submission(app_name_en=f"It is {BASE}pictures/a.png")

    (item,) = apply().items

    assert item.reason == "not_swappable"


def test_a_plan_writes_nothing(project):
    store("icons/a.png")
    row = submission(app_icon_url=f"{BASE}icons/a.png")

    planned = plan()

    assert planned.has_work
    assert planned.summary()["converted"] == 0
    assert keys() == ["icons/a.png"]
    row.refresh_from_db()
    assert row.app_icon_url == f"{BASE}icons/a.png"
    assert not Change.objects.exists()
    assert not Run.objects.exists()


def test_every_reference_follows_and_the_old_object_stays(project, alias):
    store("icons/صورة 1.png", metadata={"owner": "itqan"}, storage_class="STANDARD_IA")
    quoted = "icons/%D8%B5%D9%88%D8%B1%D8%A9%201.png"
    row = submission(
        alias,
        app_icon_url=f"{BASE}{quoted}",
        main_image_en=f"{ALIAS}icons/صورة 1.png",
        screenshots_en=["https://elsewhere.example/x.png", f"{BASE}{quoted}?v=2"],
    )
    other = Gallery.objects.using(alias).create(content={"a": [{"url": f"{BASE}{quoted}"}]})

    outcome = apply()

    row.refresh_from_db()
    other.refresh_from_db()
    assert outcome.summary()["converted"] == 1
    assert outcome.summary()["rewritten"] == 4
    assert not outcome.findings
    new = key_of(row.app_icon_url)
    assert new.startswith("icons/صورة-1.")
    assert new.endswith(".webp")
    assert row.app_icon_url.isascii()
    assert row.main_image_en == row.app_icon_url
    assert row.screenshots_en == ["https://elsewhere.example/x.png", row.app_icon_url]
    assert other.content == {"a": [{"url": row.app_icon_url}]}
    assert sorted(keys()) == sorted(["icons/صورة 1.png", new])
    assert get(open_bucket(load()), "icons/صورة 1.png").body == picture()


def test_what_is_stored_beside_the_new_bytes(project):
    old = store("a.png", metadata={"owner": "itqan"}, storage_class="STANDARD_IA")
    row = submission(app_icon_url=f"{BASE}a.png")
    apply()
    row.refresh_from_db()

    new = get(open_bucket(load()), key_of(row.app_icon_url))

    headers = new.info.headers
    assert headers.content_type == "image/webp"
    assert headers.cache_control == "public, max-age=31536000, immutable"
    assert headers.storage_class == "STANDARD_IA"
    assert headers.metadata["owner"] == "itqan"
    assert headers.metadata[RECIPE_KEY] == Recipe().fingerprint
    assert headers.metadata["sha256"][:16] in new.info.key
    assert len(headers.metadata[SOURCE_KEY]) == 64
    assert inspect(new.body).width == 240
    assert new.info.size < old.size * 0.95


@pytest.mark.parametrize(("storage_class", "told"), [("STANDARD", False), ("STANDARD_IA", True)])
def test_what_infrequent_access_costs_is_told_before_it_is_touched(project, storage_class, told):
    store("a.png", storage_class=storage_class)
    submission(app_icon_url="https://media.example.org/a.png")
    for result in (plan(), apply()):
        (note,) = [each for each in result.notes if "retrieval" in each] or [""]
        assert bool(note) is told
        assert ("billed for 30 days at least" in note) is told


@pytest.mark.parametrize(("more", "worth"), [(0, False), (12 * 10**9, True)])
def test_a_saving_that_the_rounded_bill_hides_is_said_to_be_none(project, more, worth):
    store("a.png")
    submission(app_icon_url="https://media.example.org/a.png")
    planned = plan()
    planned = replace(
        planned,
        stored={"STANDARD": planned.stored["STANDARD"] + more},
        tally=replace(planned.tally, saved={"STANDARD": more or planned.tally.saved_bytes}),
    )
    assert (planned.saved_usd_per_month > 0) is worth
    assert any("Not worth it" in note for note in planned.notes) is not worth


def test_the_journal_names_the_upload_before_it_and_every_value(project):
    store("a.png")
    row = submission(app_icon_url=f"{BASE}a.png")
    apply()
    upload, rewrite = Change.objects.order_by("pk")
    row.refresh_from_db()
    assert (upload.kind, upload.state, upload.key) == ("upload", "done", key_of(row.app_icon_url))
    assert (rewrite.old, rewrite.new) == (f"{BASE}a.png", row.app_icon_url)
    assert rewrite.old_key == "a.png"


def test_names_of_files_and_their_measures_follow(project, monkeypatch):
    each = App._meta.get_field("application_icon")
    monkeypatch.setattr(each, "storage", BucketStorage(load().bucket, "media"))
    store("media/apps/icons/a.png", picture(size=(600, 300)))
    app = App.objects.create(name_en="a")
    App.objects.update(application_icon="apps/icons/a.png", icon_width=600, icon_height=300)

    apply(recipe=Recipe(max_size=(200, 200)), overrides={"max_size"})

    values = App.objects.filter(pk=app.pk).values_list(
        "application_icon", "icon_width", "icon_height"
    )
    name, width, height = values[0]
    assert name.startswith("apps/icons/a.")
    assert (width, height) == (200, 100)
    assert head(open_bucket(load()), f"media/{name}") is not None


def test_a_second_run_converts_nothing(project):
    for number in range(3):
        store(f"{number}.png", picture(number))
        submission(app_icon_url=f"{BASE}{number}.png")
    assert apply().converted == 3
    before = keys()

    again = plan()

    assert not again.has_work
    assert again.summary()["skipped"] == {"already": 3}
    assert apply(again).converted == 0
    assert keys() == before


def test_a_new_version_replaces_the_hash_of_the_last(project):
    store("shots/1.0123456789abcdef.png")
    row = submission(app_icon_url=f"{BASE}shots/1.0123456789abcdef.png")
    apply()
    row.refresh_from_db()
    name = key_of(row.app_icon_url)
    assert name.startswith("shots/1.")
    assert name.count(".") == 2
    assert "0123456789abcdef" not in name


def test_two_pictures_that_become_the_same_bytes_share_them_safely(project):
    store("a.png", picture(name="PNG"))
    store("a.bmp", picture(name="BMP"), content_type="image/bmp")
    rows = [submission(app_icon_url=f"{BASE}a.png"), submission(app_icon_url=f"{BASE}a.bmp")]

    outcome = apply()

    assert outcome.converted == 2
    for row in rows:
        row.refresh_from_db()
    assert rows[0].app_icon_url == rows[1].app_icon_url
    assert len(keys()) == 3


# What is left alone


@pytest.mark.parametrize(
    ("key", "body", "action", "reason"),
    [
        ("a.svg", b"<svg xmlns='x'/>" * 99, "skip", "unsupported"),
        ("a.png", b"\x89PNG\r\n\x1a\n" + b"\0" * 5000, "fail", "corrupt"),
        ("a.png", b"no picture " * 500, "skip", "unsupported"),
        ("a.png", picture(size=(8, 8)), "skip", "too_small"),
        ("no extension", b"no picture " * 500, "skip", "unsupported"),
    ],
    ids=["svg", "corrupt", "text", "small", "unknown"],
)
def test_pictures_that_cannot_gain_are_skipped(project, key, body, action, reason):
    store(key, body)
    row = submission(app_icon_url=f"{BASE}{key}")
    outcome = apply()
    (item,) = outcome.items
    assert (item.action.value, item.reason) == (action, reason)
    assert outcome.findings == (action == "fail")
    row.refresh_from_db()
    assert row.app_icon_url == f"{BASE}{key}"
    assert keys() == [key]


def test_one_broken_picture_does_not_stop_the_others(project):
    store("a.png", b"\x89PNG\r\n\x1a\n" + b"\0" * 5000)
    store("b.png")
    for name in "ab":
        submission(app_icon_url=f"{BASE}{name}.png")
    outcome = apply()
    assert (outcome.converted, outcome.summary()["failed"]) == (1, 1)


def test_what_is_no_picture_or_named_by_nothing_is_not_counted(project):
    store("unnamed.png")
    store("named.mp3", b"ID3" * 999)
    store(".r2maint/x.png")
    submission(app_icon_url=f"{BASE}named.mp3", main_image_en=f"{BASE}missing.png")
    submission(app_icon_url=f"{BASE}.r2maint/x.png")
    assert plan().summary()["objects"] == 0


def test_a_picture_is_not_touched_when_one_reference_has_no_room(project):
    directory = "d" * 165
    store(f"{directory}/a.png")
    url = f"{BASE}{directory}/a.png"
    assert len(url) <= 200 < len(f"{BASE}{directory}/0123456789abcdef.webp")
    row = submission(app_icon_url=url, screenshots_en=[url])
    outcome = apply()
    assert outcome.summary()["skipped"] == {"not_swappable": 1}
    row.refresh_from_db()
    assert (row.app_icon_url, row.screenshots_en) == (url, [url])


def test_a_stem_is_cut_to_the_room_of_the_shortest_column(project):
    stem = "s" * 160
    store(f"{stem}.png")
    row = submission(app_icon_url=f"{BASE}{stem}.png")
    apply()
    row.refresh_from_db()
    assert len(row.app_icon_url) == 200
    assert key_of(row.app_icon_url).startswith("sss")


def test_urls_cannot_follow_without_a_public_url(project, settings):
    settings.R2MAINT = {**settings.R2MAINT, "PUBLIC_URL": "", "ALIASES": [BASE]}
    store("a.png")
    submission(app_icon_url=f"{BASE}a.png")
    assert plan().summary()["skipped"] == {"not_swappable": 1}


def test_an_object_replaced_since_the_plan_is_left_alone(project):
    store("a.png")
    submission(app_icon_url=f"{BASE}a.png")
    planned = plan()
    put(open_bucket(load()), Upload(key="a.png", body=picture(9), if_absent=False))
    assert apply(planned).summary()["skipped"] == {"changed": 1}
    assert keys() == ["a.png"]


def test_an_object_gone_since_the_plan_is_left_alone(project):
    store("a.png")
    submission(app_icon_url=f"{BASE}a.png")
    planned = plan()
    list(open_bucket(load()).delete_many(["a.png"]))
    assert apply(planned).summary()["skipped"] == {"gone": 1}


# What others do meanwhile


def test_an_edit_since_the_plan_leaves_every_reference_to_the_next_run(project, alias):
    store("a.png")
    edited = submission(alias, app_icon_url=f"{BASE}a.png")
    other = submission(alias, screenshots_en=[f"{BASE}a.png"])
    planned = plan()
    AppSubmission.objects.using(alias).filter(pk=edited.pk).update(app_icon_url=f"{BASE}new.png")

    (item,) = apply(planned).items

    assert (item.action.value, item.reason, item.rewritten) == ("skip", "changed", 0)
    other.refresh_from_db()
    assert other.screenshots_en == [f"{BASE}a.png"]
    (made,) = set(keys()) - {"a.png"}
    assert apply().converted == 1
    edited.refresh_from_db()
    other.refresh_from_db()
    assert edited.app_icon_url == f"{BASE}new.png"
    assert other.screenshots_en == [f"{BASE}{made}"]
    assert sorted(keys()) == sorted(["a.png", made])


def test_a_picture_replaced_under_its_key_while_it_is_encoded_wins(project, monkeypatch):
    store("a.png")
    row = submission(app_icon_url=f"{BASE}a.png")
    newer = picture(9)

    def put_and_replace(bucket, upload):
        # An upload form that keeps its names: the row stays the same, its picture does not.
        put(bucket, Upload(key="a.png", body=newer, if_absent=False))
        return put(bucket, upload)

    monkeypatch.setattr("r2maint.reoptimize.apply.put", put_and_replace)
    assert apply().summary()["skipped"] == {"changed": 1}
    row.refresh_from_db()
    assert get(open_bucket(load()), key_of(row.app_icon_url)).body == newer


def test_a_picture_nothing_names_any_more_is_not_counted_as_saved(project):
    store("a.png")
    row = submission(app_icon_url=f"{BASE}a.png")
    planned = plan()
    AppSubmission.objects.filter(pk=row.pk).update(app_icon_url="")
    outcome = apply(planned)
    assert outcome.converted == 0
    assert outcome.summary()["saved_bytes"] == 0
    assert outcome.summary()["skipped"] == {"changed": 1}


def test_a_key_taken_by_other_bytes_is_never_overwritten(project):
    store("a.png")
    row = submission(app_icon_url=f"{BASE}a.png")
    planned = plan()
    (item,) = planned.items
    store(item.new_key, b"somebody else's")

    outcome = apply(planned)

    (item,) = outcome.items
    assert (item.action.value, item.reason) == ("fail", "key_taken")
    assert outcome.findings
    row.refresh_from_db()
    assert row.app_icon_url == f"{BASE}a.png"
    assert b"somebody else's" in {get(open_bucket(load()), key).body for key in keys()}


def test_a_run_killed_between_upload_and_rewrite_is_completed_by_the_next(project, monkeypatch):
    store("a.png")
    row = submission(app_icon_url=f"{BASE}a.png")

    def killed(*args: object, **options: object):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("r2maint.reoptimize.apply.swap_all", killed)
        with pytest.raises(KeyboardInterrupt):
            apply()
    assert len(keys()) == 2
    row.refresh_from_db()
    assert row.app_icon_url == f"{BASE}a.png"

    assert apply().converted == 1

    row.refresh_from_db()
    assert row.app_icon_url.endswith(".webp")
    assert len(keys()) == 2
    assert Run.objects.count() == 1


def test_a_stop_is_heard_between_two_pictures_and_the_next_run_finishes(project):
    for number in range(6):
        store(f"{number}.png", picture(number))
        submission(app_icon_url=f"{BASE}{number}.png")
    control = Control(workers=1)
    planned = plan()

    stop_after_two(control)
    outcome = apply(planned, control=control)

    assert outcome.stopped is not None
    assert 0 < outcome.converted < 6
    assert apply().converted == 6 - outcome.converted
    urls = AppSubmission.objects.values_list("app_icon_url", flat=True)
    assert all(url.endswith(".webp") for url in urls)


def stop_after_two(control: Control) -> None:
    """Let the control hear a signal once two pictures are through."""

    @contextmanager
    def progress(total, label, unit):
        seen = 0

        def advance(count: int) -> None:
            nonlocal seen
            seen += count
            if label == "Re-encoding" and seen == 2:
                control.signal_code = 130

        yield advance

    control.progress = progress


# Scope, limits and rules


def test_a_picture_in_scope_takes_its_references_out_of_scope_along(project):
    store("a.png")
    store("b.png", picture(1))
    row = submission(app_icon_url=f"{BASE}a.png", main_image_en=f"{BASE}b.png")
    gallery = Gallery.objects.create(content=[f"{BASE}a.png"])

    apply(scope=Scope(models=("appdirectory.AppSubmission",), fields=("app_icon_url",)))

    row.refresh_from_db()
    gallery.refresh_from_db()
    assert row.app_icon_url.endswith(".webp")
    assert gallery.content == [row.app_icon_url]
    assert row.main_image_en == f"{BASE}b.png"


def test_where_and_prefix_choose_pictures(project):
    for name in ("x/a", "x/b", "y/c"):
        store(f"{name}.png", picture(ord(name[-1])))
    for name, status in (("x/a", "approved"), ("x/b", "pending"), ("y/c", "approved")):
        submission(app_icon_url=f"{BASE}{name}.png", status=status)
    approved = Scope(where=(("status", "approved"),))
    assert sorted(items(plan(approved))) == ["x/a.png", "y/c.png"]
    assert sorted(items(plan(Scope(prefix="x/")))) == ["x/a.png", "x/b.png"]


def test_an_unknown_model_is_a_usage_error(project):
    with pytest.raises(UsageError):
        plan(Scope(models=("appdirectory.Nothing",)))


def test_a_limit_counts_what_is_converted(project):
    store("0.png", b"no picture " * 500)
    submission(app_icon_url=f"{BASE}0.png")
    for number in range(1, 4):
        store(f"{number}.png", picture(number))
        submission(app_icon_url=f"{BASE}{number}.png")
    outcome = apply(scope=Scope(limit=2), sample=0)
    assert outcome.converted == 2
    assert apply(scope=Scope(limit=2)).converted == 1


def rules(settings, **rules_of_fields: dict[str, object]) -> None:
    settings.R2MAINT = {
        **settings.R2MAINT,
        "FIELDS": {"appdirectory.AppSubmission": rules_of_fields},
    }


def test_the_strictest_rule_of_the_referencing_fields_holds(project, settings):
    rules(
        settings,
        app_icon_url={"max_size": [100, 400], "max_bytes": 5000},
        main_image_en={"max_size": [300, 50], "max_bytes": 4000},
    )
    store("a.png", picture(size=(400, 400)))
    store("b.png", picture(1, size=(400, 400)))
    submission(app_icon_url=f"{BASE}a.png", main_image_en=f"{BASE}a.png")
    submission(app_icon_url=f"{BASE}b.png")
    outcome = apply()
    both, one = items(outcome)["a.png"], items(outcome)["b.png"]
    recipe = both.selected.recipe
    assert (recipe.max_size, recipe.max_bytes) == ((100, 50), 4000)
    assert (one.selected.recipe.max_size, one.selected.recipe.max_bytes) == ((100, 400), 5000)
    assert inspect(get(open_bucket(load()), both.new_key).body).width == 50


def test_the_command_line_wins_over_rules(project, settings):
    rules(settings, app_icon_url={"max_size": [10, 10], "to": "avif"})
    store("a.png")
    submission(app_icon_url=f"{BASE}a.png")
    recipe = Recipe(to="webp", max_size=(99, 99))
    (item,) = plan(recipe=recipe, overrides={"to", "max_size"}).items
    assert (item.selected.recipe.to, item.selected.recipe.max_size) == ("webp", (99, 99))


def test_fields_that_disagree_get_the_format_more_programs_read(project, settings):
    rules(settings, app_icon_url={"to": "avif"}, main_image_en={"to": "webp"})
    store("a.png")
    submission(app_icon_url=f"{BASE}a.png", main_image_en=f"{BASE}a.png")
    (item,) = plan().items
    assert item.selected.recipe.to == "webp"


# What a plan says


def test_a_plan_extrapolates_from_a_sample_and_says_so(project):
    for number in range(5):
        store(f"{number}.png", picture(number))
        submission(app_icon_url=f"{BASE}{number}.png")
    planned = plan(sample=2)
    summary = planned.summary()
    assert (summary["candidates"], summary["sampled"]) == (5, 2)
    encoded = [item for item in planned.items if item.bytes_after]
    assert len(encoded) == 2
    assert any("2 pictures of 5" in note for note in planned.notes)
    exact = plan(sample=5)
    assert not any("extrapolated" in note for note in exact.notes)
    assert abs(summary["saved_bytes"] - exact.summary()["saved_bytes"]) < (
        0.3 * exact.summary()["saved_bytes"]
    )
    assert [item.key for item in planned.items] == [f"{number}.png" for number in range(5)]


def test_an_exact_plan_is_what_happens(project):
    for number in range(3):
        store(f"{number}.png", picture(number))
        submission(app_icon_url=f"{BASE}{number}.png")
    planned = plan()
    outcome = apply(planned)
    for name in ("objects", "candidates", "bytes_before", "bytes_after", "saved_percent"):
        assert planned.summary()[name] == outcome.summary()[name]
    assert {item.new_key for item in planned.items} == {item.new_key for item in outcome.items}


def test_money_is_saved_only_beyond_the_free_tier(project):
    store("a.png")
    submission(app_icon_url=f"{BASE}a.png")
    assert plan().summary()["saved_usd_per_month"] == 0


def test_a_summary_is_json(project):
    store("a.png")
    submission(app_icon_url=f"{BASE}a.png")
    outcome = apply()
    summary = outcome.summary()
    assert summary["freed_at"] is not None
    json.dumps({**summary, "freed_at": "", "saved_usd_per_month": ""})
    (item,) = outcome.items
    document = json.loads(json.dumps(item.as_dict()))
    assert document.keys() == {
        "key",
        "new_key",
        "action",
        "reason",
        "detail",
        "format",
        "bytes_before",
        "bytes_after",
        "ssim",
        "references",
    }
    assert document["format"] == "image/webp"
    assert 0.85 < document["ssim"] <= 1
    assert document["references"][0]["field"] == "app_icon_url"


def test_rows_are_swapped_without_save(project):
    store("a.png")
    row = submission(app_icon_url=f"{BASE}a.png")
    updated_at = row.updated_at
    apply()
    row.refresh_from_db()
    assert row.updated_at == updated_at
    assert connections["default"].in_atomic_block is False
