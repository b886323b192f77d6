"""What verify_urls can mend: planned, proved, carried out, and taken back."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command

from r2maint.bucket import Headers, Upload, open_bucket, put
from r2maint.conf import load
from tests.appdirectory.models import AppSubmission
from tests.commands import apply, run
from tests.conftest import DATABASES

pytestmark = pytest.mark.django_db(transaction=True, databases=DATABASES)

PUBLIC = "https://media.example.org/"
ALIAS = "https://pub-0123456789abcdef.r2.dev/"
ALL = ("verify_urls", "--repair", "all")
PURGE = ("purge_orphans", "--grace", "0", "--no-second-look", "--max-delete", "100%", "--adopt")


def store(key: str, body: bytes = b"bytes", **headers: Any) -> None:
    put(open_bucket(load()), Upload(key=key, body=body, headers=Headers(**headers)))


def delete(*keys: str) -> None:
    list(open_bucket(load()).delete_many(keys))


def keys() -> set[str]:
    listed = (item.key for page in open_bucket(load()).list_pages() for item in page)
    return {key for key in listed if not key.startswith(".r2maint/")}


def submission(alias: str = "default", **values: object) -> AppSubmission:
    number = AppSubmission.objects.using(alias).count() + 1
    return AppSubmission.objects.using(alias).create(tracking_id=f"QAD-{number:06d}", **values)


def outcomes(document) -> dict[str, int]:
    return {name: count for name, count in document["summary"]["outcomes"].items() if count}


def repairs(document) -> list[tuple[str, str, str]]:
    mended = [item["repair"] for item in document["items"] if item["repair"]]
    return [(each["kind"], each["action"], each["new"]) for each in mended]


def counts(document) -> tuple[int, int, int]:
    summary = document["summary"]
    return summary["repairable"], summary["repaired"], summary["not_repaired"]


def icon(row: AppSubmission) -> str:
    row.refresh_from_db()
    return row.app_icon_url


def purged(*wanted: str) -> None:
    """Let a purge take these objects, which no row names yet."""
    document = apply(*PURGE)
    assert {item["key"] for item in document["items"] if item["action"] == "delete"} == {*wanted}


# Other addresses


def test_an_alias_becomes_the_public_url_and_the_rest_is_untouched(project, alias):
    store("x/a b.png")
    first = submission(alias, app_icon_url=f"{ALIAS}x/a%20b.png?v=2#top")
    second = submission(
        alias, screenshots_en=[f"{ALIAS}x/a b.png", "words", f"{PUBLIC}x/a%20b.png", 7]
    )
    submission(alias, app_icon_url=f"{ALIAS}gone.png")

    plan = run(*ALL, exit_code=3)
    assert counts(plan) == (2, 0, 0)
    assert repairs(plan)[0] == ("alias", "plan", f"{PUBLIC}x/a%20b.png?v=2#top")
    document = apply(*ALL, exit_code=3)

    assert counts(document) == (2, 2, 0)
    assert outcomes(document) == {"missing": 1, "ok": 3}
    assert icon(first) == f"{PUBLIC}x/a%20b.png?v=2#top"
    second.refresh_from_db()
    assert second.screenshots_en == [
        f"{PUBLIC}x/a%20b.png",
        "words",
        f"{PUBLIC}x/a%20b.png",
        7,
    ]
    assert outcomes(run("verify_urls", exit_code=3)) == {"missing": 1, "ok": 3}
    call_command(
        "r2_runs", document["run_id"], "--undo", "--apply", "--no-input", stdout=StringIO()
    )
    assert icon(first) == f"{ALIAS}x/a%20b.png?v=2#top"
    second.refresh_from_db()
    assert second.screenshots_en[0] == f"{ALIAS}x/a b.png"


def test_an_endpoint_and_a_presigned_url_become_public_without_the_signature(remote, s3_bucket):
    endpoint = f"{load().connection.endpoint_url}/{s3_bucket.name}/"
    store("a.png")
    signed = f"{endpoint}a.png?X-Amz-Signature=0badc0de&X-Amz-Expires=60"
    rows = [submission(app_icon_url=value) for value in (f"{endpoint}a.png", signed)]

    assert outcomes(run("verify_urls", exit_code=3)) == {"private_endpoint": 1, "presigned": 1}
    document = apply("verify_urls", "--repair", "endpoint", exit_code=3)
    assert [icon(row) for row in rows] == [f"{PUBLIC}a.png", signed]
    assert outcomes(document) == {"presigned": 1, "ok": 1}
    document = apply("verify_urls", "--repair", "presigned")

    assert icon(rows[1]) == f"{PUBLIC}a.png"
    assert "0badc0de" not in str(document)


# Another spelling


def test_another_encoding_of_an_existing_key_is_respelled(project, alias):
    store("a%20b.png")
    store("one two.png")
    raw = submission(alias, app_icon_url=f"{PUBLIC}a%20b.png")
    twice = submission(alias, app_icon_url=f"{PUBLIC}one%252520two.png")

    assert outcomes(run("verify_urls")) == {"respelled": 2}
    document = apply("verify_urls", "--repair", "respelled")

    assert counts(document) == (2, 2, 0)
    assert icon(raw) == f"{PUBLIC}a%2520b.png"
    assert icon(twice) == f"{PUBLIC}one%20two.png"
    assert outcomes(run("verify_urls")) == {"ok": 2}


def test_two_spellings_that_exist_leave_the_value_alone(project):
    store("a%20b.png")
    store("a%2520b.png")
    row = submission(app_icon_url=f"{PUBLIC}a%252520b.png")

    document = apply(*ALL, exit_code=3)

    assert icon(row) == f"{PUBLIC}a%252520b.png"
    assert document["items"][0]["repair"] is None


def test_a_key_that_differs_in_case_is_advice_until_its_bytes_prove_it(project):
    store("icons/Logo.PNG")
    row = submission(app_icon_url=f"{PUBLIC}icons/logo.png")

    document = apply(*ALL)
    (item,) = document["items"]
    assert (item["outcome"], item["repair"]) == ("respelled", None)
    assert "'icons/Logo.PNG'" in item["detail"]
    assert "Nothing proves" in item["advice"]
    assert document["run_id"] is None

    record_upload("icons/logo.png")
    document = apply(*ALL)
    assert repairs(document) == [("respelled", "done", f"{PUBLIC}icons/Logo.PNG")]
    assert icon(row) == f"{PUBLIC}icons/Logo.PNG"


def test_a_file_fields_name_stays_a_name(project, monkeypatch):
    field = App._meta.get_field("application_icon")
    monkeypatch.setattr(field, "storage", BucketStorage("site"))
    store("site/a%20b.png")
    app = App.objects.create(name_en="a")
    App.objects.update(application_icon="a b.png", icon_width=3)

    document = apply("verify_urls", "--repair", "respelled")

    assert repairs(document) == [("respelled", "done", "a%20b.png")]
    app.refresh_from_db()
    assert (app.application_icon.name, app.icon_width) == ("a%20b.png", 3)


def test_an_address_inside_text_is_rewritten_alone(project, alias, settings):
    rules = {"appdirectory.AppSubmission": {"description_en": {"text": True}}}
    settings.R2MAINT = {**settings.R2MAINT, "FIELDS": rules}
    store("a.png")
    text = f'<img src="{ALIAS}a.png?x=1&amp;y=2"> {ALIAS}gone.png, {PUBLIC}a.png'
    row = submission(alias, description_en=text)

    document = apply(*ALL, exit_code=3)

    row.refresh_from_db()
    assert row.description_en == text.replace(f"{ALIAS}a.png", f"{PUBLIC}a.png")
    call_command("r2_runs", document["run_id"], "--undo", "--apply", "--no-input", stdout=StringIO())
    row.refresh_from_db()
    assert row.description_en == text


def test_a_value_too_long_for_its_column_is_not_planned(project, settings):
    settings.R2MAINT = {**settings.R2MAINT, "PUBLIC_URL": f"https://{'m' * 60}.example.org/"}
    key = "n" * 140 + ".png"
    store(key)
    row = submission(app_icon_url=f"{ALIAS}{key}")

    document = apply(*ALL)

    (item,) = document["items"]
    assert item["repair"]["action"] == "fail"
    assert "200 characters" in item["repair"]["reason"]
    assert counts(document) == (0, 0, 1)
    assert icon(row) == f"{ALIAS}{key}"


# Quarantine


def test_a_quarantined_object_comes_back_with_its_metadata(project, alias):
    given = {"content_type": "image/png", "cache_control": "no-cache", "metadata": {"by": "me"}}
    store("submissions/a.png", **given)
    store("submissions/stays.png", b"others")
    purged("submissions/a.png", "submissions/stays.png")
    rows = [submission(alias, app_icon_url=f"{base}submissions/a.png") for base in (PUBLIC, ALIAS)]

    assert outcomes(run("verify_urls")) == {"quarantined": 2}
    assert keys() == set()
    document = apply(*ALL)

    assert counts(document) == (2, 2, 0)
    assert keys() == {"submissions/a.png"}
    info = head(open_bucket(load()), "submissions/a.png")
    assert {name: getattr(info.headers, name) for name in given} == given
    assert [icon(row) for row in rows] == [f"{PUBLIC}submissions/a.png"] * 2
    assert outcomes(run("verify_urls")) == {"ok": 2}
    (step,) = Change.objects.filter(run_id=document["run_id"], kind=ChangeKind.RESTORE)
    assert (step.key, step.state, step.bytes) == ("submissions/a.png", "done", 5)


def test_the_last_of_several_versions_in_quarantine_comes_back(project, monkeypatch):
    ticks(monkeypatch)
    for body in (b"first", b"second", b"third"):
        store("submissions/a.png", body)
        purged("submissions/a.png")
    submission(app_icon_url=f"{PUBLIC}submissions/a.png")

    apply("verify_urls", "--repair", "quarantined")

    assert head(open_bucket(load()), "submissions/a.png").size == len(b"third")


def test_a_key_taken_meanwhile_is_not_overwritten(project, monkeypatch):
    store("submissions/a.png")
    purged("submissions/a.png")
    row = submission(app_icon_url=f"{PUBLIC}submissions/a.png")
    meanwhile(monkeypatch, lambda: store("submissions/a.png", b"another"))

    document = apply("verify_urls", "--repair", "quarantined", exit_code=3)

    assert document["items"][0]["repair"]["reason"] == "The key is taken by another object."
    assert head(open_bucket(load()), "submissions/a.png").size == len(b"another")
    assert icon(row) == f"{PUBLIC}submissions/a.png"


def test_a_damaged_manifest_is_told_and_judges_nothing(project):
    store("submissions/a.png")
    purged("submissions/a.png")
    submission(app_icon_url=f"{PUBLIC}submissions/a.png")
    bucket = open_bucket(load())
    for page in bucket.list_pages(".r2maint/quarantine/"):
        for item in page:
            if "/manifest-" in item.key:
                delete(item.key)
                store(item.key, b"nonsense")

    document = run("verify_urls", exit_code=3)

    assert outcomes(document) == {"missing": 1}
    assert any("A manifest cannot be read" in note for note in document["notes"])


def test_manifests_cost_no_request_while_nothing_is_missing(project, monkeypatch):
    store("submissions/a.png")
    purged("submissions/a.png")
    store("b.png")
    submission(app_icon_url=f"{PUBLIC}b.png")
    listed = []
    list_pages = DirectoryBucket.list_pages
    monkeypatch.setattr(
        DirectoryBucket,
        "list_pages",
        lambda bucket, prefix="", **more: listed.append(prefix) or list_pages(bucket, prefix, **more),
    )
    run(*ALL)
    assert listed == [""]


def test_an_undo_leaves_a_restored_object_and_says_so(project):
    store("submissions/a.png")
    purged("submissions/a.png")
    row = submission(app_icon_url=f"{ALIAS}submissions/a.png")
    run_id = apply(*ALL)["run_id"]

    document = apply("r2_runs", run_id, "--undo")

    assert icon(row) == f"{ALIAS}submissions/a.png"
    assert keys() == {"submissions/a.png"}
    assert any("stays in the bucket: 1 object" in note for note in document["notes"])


# Moved


def record_upload(key: str, body: bytes = b"bytes") -> None:
    """Have the journal say that a run once stored these bytes under this key."""
    finished = Run.objects.create(
        id=f"earlier-{Run.objects.count()}",
        command="migrate_media_to_r2",
        bucket=open_bucket(load()).name,
        state=RunState.FINISHED,
        started_at=open_bucket(load()).now(),
    )
    Change.objects.create(
        run_id=finished.pk,
        kind=ChangeKind.UPLOAD,
        state=ChangeState.DONE,
        key=key,
        sha256=hashlib.sha256(body).hexdigest(),
        etag=hashlib.md5(body).hexdigest(),
        bytes=len(body),
        at=finished.started_at,
    )
