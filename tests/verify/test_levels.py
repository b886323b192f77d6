"""Every reference is compared with the listing, and what is wrong is said by name."""

from __future__ import annotations

import contextlib
import random
import unicodedata

import pytest
from django.core.management import CommandError, call_command

from r2maint.bucket import DirectoryBucket, Upload, open_bucket, put
from r2maint.conf import load
from r2maint.control import Control
from r2maint.errors import BucketError
from r2maint.keys import Addresses
from r2maint.references import Scope
from r2maint.verify import Look, Verification, verify_urls
from tests.appdirectory.models import App, AppSubmission
from tests.commands import run
from tests.conftest import DATABASES
from tests.fakes import R2Fake
from tests.oddities.models import SoftDeleted

pytestmark = pytest.mark.django_db(transaction=True, databases=DATABASES)

PUBLIC = "https://media.example.org/"


def store(*keys: str, body: bytes = b"bytes") -> None:
    bucket = open_bucket(load())
    for key in keys:
        put(bucket, Upload(key=key, body=body))


def submission(alias: str = "default", **values: object) -> AppSubmission:
    number = AppSubmission.objects.using(alias).count() + 1
    return AppSubmission.objects.using(alias).create(tracking_id=f"QAD-{number:06d}", **values)


def outcomes(document) -> dict[str, int]:
    return {name: count for name, count in document["summary"]["outcomes"].items() if count}


def test_what_the_bucket_holds_is_ok_and_not_listed(project, alias):
    store("a b.png", "x/y.png")
    submission(alias, app_icon_url=f"{PUBLIC}a%20b.png", screenshots_en=[f"{PUBLIC}x/y.png"] * 2)

    document = run("verify_urls")

    assert outcomes(document) == {"ok": 3}
    assert document["items"] == []
    assert document["summary"]["references"] == document["summary"]["checked"] == 3
    assert len(run("verify_urls", "--all")["items"]) == 3


def test_addresses_inside_text_are_compared_where_a_rule_says_so(project, alias, settings):
    rules = {"appdirectory.AppSubmission": {"description_en": {"text": True}}}
    settings.R2MAINT = {**settings.R2MAINT, "FIELDS": rules}
    store("a.png")
    submission(alias, description_en=f"{PUBLIC}a.png, {PUBLIC}b.png. /media/c.png {PUBLIC}")

    document = run("verify_urls", exit_code=3)

    assert outcomes(document) == {"ok": 1, "missing": 2}
    values = {item["reference"]["value"] for item in document["items"]}
    assert values == {f"{PUBLIC}b.png", "/media/c.png"}


def test_an_absent_object_is_missing_and_its_row_is_named(project, alias):
    row = submission(alias, screenshots_ar=[f"{PUBLIC}a.png", f"{PUBLIC}b.png"])
    store("a.png")

    document = run("verify_urls", exit_code=3)

    (item,) = document["items"]
    assert item["outcome"] == "missing"
    assert item["key"] == "b.png"
    assert item["reference"] == {
        "database": alias,
        "model": "appdirectory.AppSubmission",
        "pk": str(row.pk),
        "field": "screenshots_ar",
        "path": "/1",
        "value": f"{PUBLIC}b.png",
    }


@pytest.mark.parametrize(
    ("value", "outcome", "exit_code"),
    [
        ("https://pub-0123456789abcdef.r2.dev/a.png", "alias", 0),
        (f"{PUBLIC}empty.png", "empty", 3),
        (f"{PUBLIC}gone.png", "missing", 3),
        ("/media/here.png", "skipped", 0),
        ("/media/nowhere.png", "missing", 3),
        ("https://elsewhere.example/a.png", "external", 0),
        (f"{PUBLIC}a.png?version=2#top", "ok", 0),
    ],
    ids=["alias", "empty", "gone", "local", "local and gone", "external", "with a query"],
)
def test_each_disagreement_has_its_name(project, value, outcome, exit_code):
    store("a.png")
    store("empty.png", body=b"")
    (project / "media" / "here.png").write_bytes(b"x")
    submission(app_icon_url=value)

    assert outcomes(run("verify_urls", exit_code=exit_code)) == {outcome: 1}


def test_a_name_in_either_unicode_form_is_one_object(project):
    composed = "café.png"
    store(unicodedata.normalize("NFD", composed))
    submission(app_icon_url=f"{PUBLIC}{composed}")

    assert outcomes(run("verify_urls")) == {"ok": 1}


def test_a_key_stored_under_its_encoded_spelling_is_respelled(project):
    store("a%20b.png")
    submission(app_icon_url=f"{PUBLIC}a%20b.png")

    document = run("verify_urls")

    assert outcomes(document) == {"respelled": 1}
    assert "a%20b.png" in document["items"][0]["detail"]


def test_a_file_fields_name_is_looked_up_in_the_bucket_then_on_the_disk(project):
    (project / "media" / "local.png").write_bytes(b"x")
    store("moved.png")
    for name in ("local.png", "moved.png", "lost.png"):
        app = App.objects.create(name_en=name)
        App.objects.filter(pk=app.pk).update(application_icon=name)

    document = run("verify_urls", exit_code=3)

    assert outcomes(document) == {"ok": 1, "skipped": 1, "missing": 1}


def test_rows_that_managers_hide_are_verified_too(project):
    SoftDeleted(picture_url=f"{PUBLIC}gone.png", deleted=True).save()

    assert outcomes(run("verify_urls", exit_code=3)) == {"missing": 1}


def test_page_links_are_never_judged(project):
    submission(
        google_play_link="https://play.google.com/store/apps/details?id=x",
        website_link="https://apps.example.org/about/",
        description_en="words / with a slash",
    )

    assert outcomes(run("verify_urls")) == {}


def test_fail_on_decides_what_ends_with_exit_code_3(project):
    store("a.png")
    submission(app_icon_url="https://pub-0123456789abcdef.r2.dev/a.png")

    run("verify_urls")
    run("verify_urls", "--fail-on", "alias,missing", exit_code=3)


def test_an_unknown_outcome_is_a_usage_error(project):
    with pytest.raises(CommandError, match="'gone' is none of missing") as caught:
        call_command("verify_urls", "--fail-on", "gone")
    assert caught.value.returncode == 2


@pytest.mark.parametrize("option", ["--fail-on", "--url", "--key"])
def test_an_option_that_came_out_empty_is_a_usage_error(project, option):
    with pytest.raises(CommandError, match=f"{option}.*(empty|none of missing)") as caught:
        call_command("verify_urls", f"{option}=")
    assert caught.value.returncode == 2


def test_scope_narrows_the_rows_that_are_judged(project):
    submission(app_icon_url=f"{PUBLIC}a.png", status="rejected")
    submission(main_image_en=f"{PUBLIC}x/b.png")

    assert outcomes(run("verify_urls", "--where", "status=pending", exit_code=3)) == {"missing": 1}
    assert outcomes(run("verify_urls", "--field", "app_icon_url", exit_code=3)) == {"missing": 1}
    assert outcomes(run("verify_urls", "--prefix", "x/", exit_code=3)) == {"missing": 1}
    assert outcomes(run("verify_urls", exit_code=3)) == {"missing": 2}


def test_what_names_no_key_is_outside_every_prefix(project):
    submission(
        app_icon_url="https://elsewhere.example/x/a.png",
        main_image_en="/media/x/b.png",
        main_image_ar="no address",
    )

    assert outcomes(run("verify_urls", "--prefix", "x/")) == {}
    assert outcomes(run("verify_urls", "--prefix", "x/", "--all")) == {}
    assert sum(outcomes(run("verify_urls", exit_code=3)).values()) == 3


def test_a_name_without_a_file_is_missing_in_the_bucket_too(project):
    app = App.objects.create(name_en="lost")
    App.objects.filter(pk=app.pk).update(application_icon="icons/lost.png")

    (item,) = run("verify_urls", exit_code=3)["items"]
    assert item["detail"].startswith("no file at ")
    assert item["detail"].endswith("icons/lost.png, and no such object in the bucket")


def test_a_value_edited_while_the_bucket_is_listed_raises_no_alarm(project, alias, monkeypatch):
    store("old.png", "new.png")
    row = submission(alias, screenshots_en=[f"{PUBLIC}old.png"], app_icon_url=f"{PUBLIC}gone.png")
    list_pages = DirectoryBucket.list_pages

    def replaced_meanwhile(bucket, *arguments, **options):
        every = AppSubmission.objects.using(alias).filter(pk=row.pk)
        every.update(screenshots_en=[f"{PUBLIC}new.png"])
        list(bucket.delete_many(["old.png"]))
        return list_pages(bucket, *arguments, **options)

    monkeypatch.setattr(DirectoryBucket, "list_pages", replaced_meanwhile)
    document = run("verify_urls", exit_code=3)

    assert [item["key"] for item in document["items"]] == ["gone.png"]
    assert outcomes(document) == {"missing": 1}


def test_a_local_file_is_found_by_any_spelling_that_migrate_would_take(project):
    (project / "media" / "50%20off.png").write_bytes(b"bytes")
    submission(app_icon_url="/media/50%20off.png")
    assert outcomes(run("verify_urls")) == {"skipped": 1}


def test_the_outcomes_are_the_same_whether_or_not_every_item_is_shown(project, alias):
    store("a.png", "a b.png", "é.png", "a%2Bb.png", "name.png")
    store("empty.png", body=b"")
    names = ["a.png", "a%20b.png", "a b.png", "%C3%A9.png", "e\u0301.png", "a%2Bb.png", "A.png"]
    names += ["empty.png", "gone.png", "gone%20too.png", "a.png?v=1", ".hidden", "a//b.png"]
    submission(alias, screenshots_en=[PUBLIC + name for name in names])

    brief, whole = (run("verify_urls", *all_, exit_code=3) for all_ in ((), ("--all",)))

    assert brief["summary"] == whole["summary"]
    assert brief["summary"]["references"] == len(names)
    fine = [each for each in whole["items"] if each["outcome"] == "ok"]
    assert len(brief["items"]) + len(fine) == len(whole["items"])


def test_what_is_no_address_is_invalid_only_where_a_column_is_configured_as_media(
    project, alias, settings
):
    values = {"main_image_en": "book", "screenshots_en": ["star", "", "data:image/png;base64,AA"]}
    submission(alias, app_icon_url="moon", **values)
    settings.R2MAINT = {**settings.R2MAINT, "FIELDS": {}}
    assert outcomes(run("verify_urls")) == {}

    fields = {"app_icon_url": {}, "screenshots_en": {}, "screenshots_ar": {}}
    settings.R2MAINT = {
        **settings.R2MAINT,
        "FIELDS": {"appdirectory.AppSubmission": fields},
    }
    document = run("verify_urls")

    assert outcomes(document) == {"invalid": 2}
    assert [each["reference"]["value"] for each in document["items"]] == ["moon", "star"]
    assert document["items"][0]["advice"]


def test_members_of_a_document_that_are_no_addresses_are_not_invalid(project, settings):
    fields = {"appdirectory.AppSubmission": {"screenshots_en": {}}}
    settings.R2MAINT = {**settings.R2MAINT, "FIELDS": fields}
    store("a.png")
    submission(screenshots_en=[{"url": f"{PUBLIC}a.png", "caption": "The first page"}])

    assert outcomes(run("verify_urls")) == {"ok": 1}


def test_a_rewriting_that_would_not_fit_its_column_is_too_long(project):
    key = "é" * 40 + ".png"
    store(key)
    submission(app_icon_url=f"https://pub-0123456789abcdef.r2.dev/{key}")

    document = run("verify_urls")

    assert outcomes(document) == {"too_long": 1}
    assert (
        "its public URL has 270 characters and the column takes 200"
        in (document["items"][0]["detail"])
    )


def test_a_value_longer_than_its_column_is_too_long_though_the_object_is_there(project):
    key = "a" * 200 + ".png"
    store(key)
    submission(app_icon_url=f"{PUBLIC}{key}")  # SQLite takes it

    assert outcomes(run("verify_urls")) == {"too_long": 1}


def test_a_missing_value_that_fills_its_column_may_be_cut_off(project):
    submission(app_icon_url=PUBLIC + "a" * (200 - len(PUBLIC)))

    document = run("verify_urls", exit_code=3)

    assert "may be cut off" in document["items"][0]["detail"]


@pytest.mark.parametrize("more", [(), ("--all",)])
def test_a_prefix_hides_no_other_spelling_outside_it(project, more):
    store("a%20b/x.png", "a b/y.png")
    submission(screenshots_en=[f"{PUBLIC}a%20b/{name}.png" for name in "xyz"])

    document = run("verify_urls", "--prefix", "a b/", *more, exit_code=3)

    assert outcomes(document) == {"respelled": 1, "ok": 1, "missing": 1}


@pytest.mark.parametrize("seed", range(12))
def test_every_reference_is_judged_alike_whether_or_not_all_are_told(project, settings, seed):
    chance = random.Random(seed)

    def key() -> str:
        return "".join(chance.choices(PIECES, k=chance.randint(1, 2)))

    rules = {"appdirectory.AppSubmission": {"screenshots_en": {}}}
    settings.R2MAINT = {**settings.R2MAINT, "FIELDS": rules}
    bucket = R2Fake(page_size=chance.choice([1, 2, 3])) if seed % 2 else open_bucket(load())
    for name in sorted({key() for _ in range(30)}):
        # Where two spellings are one object, the second finds it there.
        with contextlib.suppress(BucketError):
            put(bucket, Upload(key=name, body=chance.choice([b"", b"bytes", b"bytes"])))
    for _ in range(6):
        bases = chance.choices(
            [PUBLIC, PUBLIC, PUBLIC, "https://pub-0123456789abcdef.r2.dev/"], k=6
        )
        submission(screenshots_en=[*(base + key() for base in bases), f"{key()}.png"])
    config, scope = load(), Scope(prefix=chance.choice(["", "a"]))

    short, full = (
        verify_urls(
            config,
            Addresses.from_config(config),
            bucket,
            scope=scope,
            control=Control(),
            look=Look(show_all=show_all),
        )
        for show_all in (False, True)
    )

    assert +short.outcomes == +full.outcomes
    assert told(short) == told(full)


PIECES = ("a", "b", "é", "e\u0301", "K", "\u212a", " ", "+", "%20", "%2B", "%25", "%C3%A9", "?x=1")
PIECES = (*PIECES, "#f", "/", "//", ".", "..", "\\", ".png")


def told(result: Verification) -> list[tuple[object, ...]]:
    """Return what is said of everything that is not fine."""
    return sorted(
        (each.reference[:7], each.outcome.value, each.key, each.detail, str(each.stored))
        for each in result.items
        if not each.is_fine
    )
