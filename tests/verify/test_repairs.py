"""What verify_urls can mend: planned, proved, carried out, and taken back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.files.storage import Storage
from django.core.management import CommandError, call_command

from r2maint.bucket import DirectoryBucket, Headers, Upload, head, open_bucket, put
from r2maint.conf import load
from r2maint.control import Control
from r2maint.errors import BucketError
from r2maint.keepset import source_lines
from r2maint.keys import Addresses
from r2maint.models import Change, ChangeKind, Run, RunState
from r2maint.references import Scope
from r2maint.verify import Look, RepairKind, apply_repairs, verify_urls
from r2maint.verify import apply as repairing
from tests.appdirectory.models import App, AppSubmission
from tests.commands import apply, run
from tests.conftest import DATABASES

pytestmark = pytest.mark.django_db(transaction=True, databases=DATABASES)

PUBLIC = "https://media.example.org/"
ALIAS = "https://pub-0123456789abcdef.r2.dev/"
SHA256 = hashlib.sha256(b"bytes").hexdigest()
COMMAND = "r2maint.management.commands.verify_urls"
ALL = ("verify_urls", "--repair", "all")
PURGE = ("purge_orphans", "--grace", "0", "--no-second-look", "--max-delete", "100%", "--adopt")
PURGE = (*PURGE, "--override", "empty", "--override", "missing", "--override", "source_lost")


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


class BucketStorage(Storage):
    """A storage in the bucket, below a location, as django-storages spells it."""

    location = "site"

    @property
    def bucket_name(self) -> str:
        return load().bucket


def record(key: str, by: str, body: bytes = b"bytes") -> None:
    """Have the journal say that these bytes once lay under this key."""
    bucket, number = open_bucket(load()), Run.objects.count()
    at = bucket.now() - timedelta(hours=9 - number)
    earlier = Run.objects.create(
        id=f"earlier-{number}",
        command="migrate_media_to_r2",
        bucket=bucket.name,
        state=RunState.FINISHED,
        started_at=at,
    )
    known = {"sha256": hashlib.sha256(body), "etag": hashlib.md5(body)}[by].hexdigest()
    kind = {"sha256": ChangeKind.UPLOAD, "etag": ChangeKind.DELETE}[by]
    Change.objects.create(
        run_id=earlier.pk, kind=kind, state="done", key=key, bytes=len(body), at=at, **{by: known}
    )


def meanwhile(monkeypatch, act: Callable[[], object]) -> None:
    """Let something happen between the plan and its application."""

    def late(*arguments, **options):
        act()
        return apply_repairs(*arguments, **options)

    monkeypatch.setattr(f"{COMMAND}.apply_repairs", late)


# Other addresses


def test_an_alias_becomes_the_public_url_and_the_rest_is_untouched(project, alias):
    store("x/a b.png")
    first = submission(alias, app_icon_url=f"{ALIAS}x/a%20b.png?v=2#top")
    second = submission(
        alias, screenshots_en=[f"{ALIAS}x/a b.png", {"alt": "words"}, f"{PUBLIC}x/a%20b.png", 7]
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
        {"alt": "words"},
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


def test_what_looks_like_a_query_and_is_part_of_the_key_goes_into_the_key(project):
    store("a?b.png")
    row = submission(app_icon_url=f"{ALIAS}a?b.png")

    apply("verify_urls", "--repair", "respelled")

    assert icon(row) == f"{PUBLIC}a%3Fb.png"


def test_two_spellings_that_exist_leave_the_value_alone(project):
    store("a%20b.png")
    store("a%2520b.png")
    row = submission(app_icon_url=f"{PUBLIC}a b.png")

    document = apply(*ALL, exit_code=3)

    assert icon(row) == f"{PUBLIC}a b.png"
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

    record("icons/logo.png", "etag")
    document = apply(*ALL)
    assert repairs(document) == [("respelled", "done", f"{PUBLIC}icons/Logo.PNG")]
    assert icon(row) == f"{PUBLIC}icons/Logo.PNG"


def test_a_file_fields_name_stays_a_name(project, monkeypatch):
    field = App._meta.get_field("application_icon")
    monkeypatch.setattr(field, "storage", BucketStorage())
    store("site/a%20b.png")
    App.objects.create(name_en="a")
    App.objects.update(application_icon="a b.png", icon_width=3)

    document = apply("verify_urls", "--repair", "respelled")

    assert repairs(document) == [("respelled", "done", "a%20b.png")]
    assert App.objects.values_list("application_icon", "icon_width").get() == ("a%20b.png", 3)


def test_an_address_inside_text_is_rewritten_alone(project, alias, settings):
    rules = {"appdirectory.AppSubmission": {"description_en": {"text": True}}}
    settings.R2MAINT = {**settings.R2MAINT, "FIELDS": rules}
    store("a.png")
    text = f'<img src="{ALIAS}a.png?x=1&amp;y=2"> {ALIAS}gone.png, {PUBLIC}a.png'
    row = submission(alias, description_en=text)

    document = apply(*ALL, exit_code=3)

    row.refresh_from_db()
    assert row.description_en == text.replace(f"{ALIAS}a.png", f"{PUBLIC}a.png")
    call_command(
        "r2_runs", document["run_id"], "--undo", "--apply", "--no-input", stdout=StringIO()
    )
    row.refresh_from_db()
    assert row.description_en == text


def test_a_public_url_too_long_for_its_column_is_told_and_not_planned(project, settings):
    settings.R2MAINT = {**settings.R2MAINT, "PUBLIC_URL": f"https://{'m' * 60}.example.org/"}
    key = "n" * 140 + ".png"
    store(key)
    row = submission(app_icon_url=f"{ALIAS}{key}")

    document = apply(*ALL)

    (item,) = document["items"]
    assert (item["outcome"], item["repair"]) == ("too_long", None)
    assert "the column takes 200" in item["detail"]
    assert counts(document) == (0, 0, 0)
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
    late = timedelta()
    defaults = DirectoryBucket.__init__.__kwdefaults__
    monkeypatch.setitem(defaults, "clock", lambda: datetime.now(UTC) + late)
    for body in (b"first", b"second", b"third"):
        late += timedelta(minutes=5)
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


def test_a_value_whose_own_key_is_there_meanwhile_names_no_restored_one(project, monkeypatch):
    store("submissions/a%20b.png")
    purged("submissions/a%20b.png")
    row = submission(app_icon_url=f"{PUBLIC}submissions/a%20b.png")
    meanwhile(monkeypatch, lambda: store("submissions/a b.png", b"another"))

    document = apply(*ALL, exit_code=3)

    assert counts(document) == (1, 0, 1)
    assert icon(row) == f"{PUBLIC}submissions/a%20b.png"


def test_a_reason_tells_no_secret_of_the_old_value(project, monkeypatch):
    record("old.png", "sha256")
    store("new.png", metadata={"sha256": SHA256})
    submission(app_icon_url=f"{PUBLIC}old.png?token=s3cret")
    meanwhile(monkeypatch, lambda: store("old.png?token=s3cret"))

    document = apply(*ALL, exit_code=3)

    assert "nothing proves" in document["items"][0]["repair"]["reason"]
    assert "s3cret" not in json.dumps(document)


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
        lambda bucket, prefix="", **more: (
            listed.append(prefix) or list_pages(bucket, prefix, **more)
        ),
    )
    run(*ALL)
    assert listed == [""]


def test_a_restored_object_is_told_by_how_its_value_names_it(project):
    store("submissions/a%20b.png")
    purged("submissions/a%20b.png")
    row = submission(app_icon_url=f"{PUBLIC}submissions/a%20b.png")

    document = apply("verify_urls", "--repair", "quarantined")
    assert outcomes(document) == {"respelled": 1}
    assert icon(row) == f"{PUBLIC}submissions/a%20b.png"
    assert outcomes(apply("verify_urls", "--repair", "respelled")) == {"ok": 1}


def test_a_stop_is_heard_between_two_restored_objects(project, monkeypatch):
    store("submissions/a.png")
    store("submissions/b.png", b"others")
    purged("submissions/a.png", "submissions/b.png")
    submission(screenshots_en=[f"{PUBLIC}submissions/{name}.png" for name in "ab"])
    restore_all = repairing._Repairer._restore_all

    def stopped_after_one(repairer, copies):
        for each in restore_all(repairer, copies):
            repairer.control.deadline = 0
            yield each

    monkeypatch.setattr(repairing._Repairer, "_restore_all", stopped_after_one)
    document = apply("verify_urls", "--repair", "quarantined", exit_code=6)

    assert len(keys()) == 1
    assert counts(document) == (2, 1, 0)
    assert outcomes(document) == {"ok": 1, "quarantined": 1}


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


@pytest.fixture(params=["sha256", "etag"])
def proof(request) -> str:
    """By which of both the journal knows bytes."""
    return request.param


def test_a_moved_object_is_found_by_its_recorded_bytes(project, alias, proof):
    record("old/icon.png", proof)
    store("a/stranger.png", b"other")
    store("new/icon.png", metadata={"sha256": SHA256})
    row = submission(alias, screenshots_en=[f"{ALIAS}old/icon.png?v=1", None])

    assert outcomes(run("verify_urls", exit_code=3)) == {"missing": 1}
    plan = run("verify_urls", "--repair", "moved", exit_code=3)
    assert repairs(plan) == [("moved", "plan", f"{PUBLIC}new/icon.png?v=1")]
    document = apply("verify_urls", "--repair", "moved")

    assert outcomes(document) == {"ok": 1}
    assert document["items"][0]["key"] == "new/icon.png"
    row.refresh_from_db()
    assert row.screenshots_en == [f"{PUBLIC}new/icon.png?v=1", None]
    assert outcomes(run("verify_urls")) == {"ok": 1}
    apply("r2_runs", document["run_id"], "--undo")
    row.refresh_from_db()
    assert row.screenshots_en == [f"{ALIAS}old/icon.png?v=1", None]


def test_other_bytes_of_the_same_size_prove_nothing(project, proof):
    record("old/icon.png", proof)
    store("new/icon.png", b"BYTES", metadata={"sha256": hashlib.sha256(b"BYTES").hexdigest()})
    row = submission(app_icon_url=f"{PUBLIC}old/icon.png")

    document = apply(*ALL, exit_code=3)

    (item,) = document["items"]
    assert (item["outcome"], item["repair"]) == ("missing", None)
    assert "'new/icon.png'" in item["advice"]
    assert "nothing proves that it is the same" in item["advice"]
    assert icon(row) == f"{PUBLIC}old/icon.png"
    assert document["run_id"] is None


def test_what_a_key_held_last_is_what_counts(project):
    record("old/icon.png", "etag", b"first version")
    record("old/icon.png", "etag", b"last version")
    store("new/icon.png", b"first version")
    submission(app_icon_url=f"{PUBLIC}old/icon.png")

    assert repairs(run(*ALL, exit_code=3)) == []
    store("newest/icon.png", b"last version")
    assert repairs(run(*ALL, exit_code=3)) == [("moved", "plan", f"{PUBLIC}newest/icon.png")]


def test_a_manifest_proves_what_was_moved_when_the_copy_is_gone(project):
    store("submissions/a.png")
    purged("submissions/a.png")
    bucket = open_bucket(load())
    listed = [item.key for page in bucket.list_pages(".r2maint/quarantine/") for item in page]
    delete(*(key for key in listed if "/manifest-" not in key))
    Change.objects.all().delete()
    store("elsewhere/b.png")
    submission(app_icon_url=f"{PUBLIC}submissions/a.png")

    assert repairs(run(*ALL, exit_code=3)) == [("moved", "plan", f"{PUBLIC}elsewhere/b.png")]


def test_a_sighting_proves_what_was_moved(project):
    store("submissions/a.png")
    store("submissions/named.png", b"others")
    row = submission(app_icon_url=f"{PUBLIC}submissions/named.png")
    run("purge_orphans")
    delete("submissions/a.png")
    store("elsewhere/b.png")
    AppSubmission.objects.filter(pk=row.pk).update(main_image_en=f"{PUBLIC}submissions/a.png")

    assert repairs(run(*ALL, exit_code=3)) == [("moved", "plan", f"{PUBLIC}elsewhere/b.png")]


def test_a_copy_in_quarantine_and_an_empty_object_prove_nothing(project):
    record("old/a.png", "etag", b"")
    record("old/b.png", "etag")
    store("new/a.png", b"")
    store(".r2maint/quarantine/0123/copy")
    submission(screenshots_en=[f"{PUBLIC}old/a.png", f"{PUBLIC}old/b.png"])

    document = run(*ALL, exit_code=3)

    assert outcomes(document) == {"missing": 2}
    assert repairs(document) == []


@pytest.mark.parametrize(
    ("happens", "reason"),
    [
        (lambda: store("old/icon.png", b"again"), "nothing proves that this key is absent"),
        (lambda: delete("new/icon.png"), "the bucket does not hold 'new/icon.png'"),
        (
            lambda: (delete("new/icon.png"), store("new/icon.png", b"others")),
            "the object changed since it was listed",
        ),
    ],
    ids=["the old key is back", "the new one is gone", "the new one changed"],
)
def test_the_bucket_is_asked_once_more_before_a_value_changes(
    project, monkeypatch, happens, reason
):
    record("old/icon.png", "etag")
    store("new/icon.png")
    row = submission(app_icon_url=f"{PUBLIC}old/icon.png")
    meanwhile(monkeypatch, happens)

    document = apply("verify_urls", "--repair", "moved", exit_code=3)

    assert reason in document["items"][0]["repair"]["reason"]
    assert counts(document) == (1, 0, 1)
    assert icon(row) == f"{PUBLIC}old/icon.png"


def test_an_answer_that_says_nothing_changes_nothing(project, monkeypatch):
    record("old/icon.png", "etag")
    store("new/icon.png")
    row = submission(app_icon_url=f"{PUBLIC}old/icon.png")
    head_many = DirectoryBucket.head_many

    def unsure(bucket, keys):
        for result in head_many(bucket, keys):
            is_old = result.request == "old/icon.png"
            yield replace(result, error=BucketError("503")) if is_old else result

    monkeypatch.setattr(DirectoryBucket, "head_many", unsure)
    document = apply("verify_urls", "--repair", "moved", exit_code=3)

    assert "nothing proves" in document["items"][0]["repair"]["reason"]
    assert icon(row) == f"{PUBLIC}old/icon.png"


def test_a_planned_repair_takes_the_place_of_the_advice_to_plan_it(project):
    store("a.png")
    submission(app_icon_url=f"{ALIAS}a.png")
    assert "--repair alias" in run("verify_urls")["items"][0]["advice"]
    assert run("verify_urls", "--repair", "alias")["items"][0]["advice"] is None
    assert "--repair alias" in run("verify_urls", "--repair", "moved")["items"][0]["advice"]


def test_advice_is_in_the_text_of_a_report(project):
    store("new/icon.webp", b"others")
    submission(app_icon_url=f"{PUBLIC}old/icon.png")
    out = StringIO()
    with pytest.raises(CommandError):
        call_command("verify_urls", stdout=out)
    assert "A file of that name lies at 'new/icon.webp'; nothing proves" in out.getvalue()


# The run


def test_a_plan_writes_nothing_and_asks_with_counts(project, alias):
    store("a.png")
    row = submission(alias, app_icon_url=f"{ALIAS}a.png", main_image_en=f"{PUBLIC}gone.png")

    document = run("verify_urls", "--repair", "alias", "-n", exit_code=3)
    assert counts(document) == (1, 0, 0)
    plan = verify_urls(
        load(),
        Addresses.from_config(load()),
        open_bucket(load()),
        scope=Scope(),
        control=Control(),
        look=Look(repair=frozenset(RepairKind)),
    )

    assert plan.question == "Repair 1 reference (1 alias)?"
    assert plan.databases == {alias}
    assert icon(row) == f"{ALIAS}a.png"
    assert not Run.objects.exists()
    assert not Change.objects.using(alias).exists()
    assert head(open_bucket(load()), ".r2maint/lease") is None


def test_check_finds_what_can_be_repaired(project):
    store("a.png")
    submission(app_icon_url=f"{ALIAS}a.png")
    run("verify_urls", "--check")
    run("verify_urls", "--check", "--repair", "moved")
    run("verify_urls", "--check", "--repair", "alias", exit_code=3)


def test_a_second_repair_has_nothing_to_do(project):
    store("a.png")
    submission(app_icon_url=f"{ALIAS}a.png")
    apply(*ALL)
    document = apply(*ALL)
    assert (document["run_id"], counts(document)) == (None, (0, 0, 0))
    assert Run.objects.count() == 1


def test_scope_narrows_what_is_repaired(project):
    store("a.png")
    rows = [submission(app_icon_url=f"{ALIAS}a.png", status=s) for s in ("pending", "rejected")]
    apply(*ALL, "--where", "status=pending")
    assert [icon(row) for row in rows] == [f"{PUBLIC}a.png", f"{ALIAS}a.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--apply"], "--apply needs --repair"),
        (["--repair", "dead"], "'dead' is none of alias"),
        (["--repair", ","], "names nothing"),
        (["--repair", "all", "--key", "a.png"], "neither --url nor --key"),
        (["--url", f"{PUBLIC}a.png", "--key", "a.png"], "exclude each other"),
        (["--url", "words"], "names nothing that has an address"),
    ],
)
def test_options_that_do_not_fit_together_are_usage_errors(project, arguments, message):
    with pytest.raises(CommandError, match=message) as caught:
        call_command("verify_urls", *arguments, stdout=StringIO())
    assert caught.value.returncode == 2


def test_a_concurrent_edit_wins(project, alias, monkeypatch):
    store("a.png")
    row = submission(alias, app_icon_url=f"{ALIAS}a.png", main_image_en=f"{ALIAS}a.png")
    swap = repairing.swap

    def edited_before(*arguments, **options):
        AppSubmission.objects.using(alias).update(app_icon_url=f"{ALIAS}theirs.png")
        return swap(*arguments, **options)

    monkeypatch.setattr(repairing, "swap", edited_before)
    document = apply("verify_urls", "--repair", "alias")

    assert icon(row) == f"{ALIAS}theirs.png"
    assert row.main_image_en == f"{PUBLIC}a.png"
    assert [action for _, action, _ in repairs(document)] == ["changed", "done"]
    assert counts(document) == (2, 1, 1)


def test_an_object_nobody_names_any_more_stays_in_quarantine(project, monkeypatch):
    store("submissions/a.png")
    purged("submissions/a.png")
    submission(app_icon_url=f"{PUBLIC}submissions/a.png")
    meanwhile(monkeypatch, lambda: AppSubmission.objects.update(app_icon_url=""))

    document = apply("verify_urls", "--repair", "quarantined")

    assert [action for _, action, _ in repairs(document)] == ["changed"]
    assert keys() == set()


class Killed(BaseException):
    """As a kill: nothing in the command hears it."""


def test_a_run_killed_after_a_restore_goes_on_and_restores_once(project, alias, monkeypatch):
    store("submissions/a.png")
    store("submissions/b.png", b"others")
    purged("submissions/a.png", "submissions/b.png")
    values = [f"{ALIAS}submissions/{name}.png" for name in "ab"]
    row = submission(alias, screenshots_en=values)
    with monkeypatch.context() as patched:
        restore = repairing.restore

        def killed(*arguments):
            restore(*arguments)
            raise Killed

        patched.setattr(repairing, "restore", killed)
        with pytest.raises(Killed):
            call_command(*ALL, "--apply", "--no-input", stdout=StringIO())
    assert len(keys()) == 1

    document = apply(*ALL)

    row.refresh_from_db()
    assert row.screenshots_en == [f"{PUBLIC}submissions/{name}.png" for name in "ab"]
    restored = Change.objects.filter(kind=ChangeKind.RESTORE, run_id=document["run_id"])
    assert sorted(restored.values_list("key", "state")) == [
        ("submissions/a.png", "done"),
        ("submissions/b.png", "done"),
    ]
    assert list(Run.objects.filter(command="verify_urls").values_list("pk", "state")) == [
        (document["run_id"], "finished")
    ]


def test_a_run_killed_between_batches_is_finished_by_the_next(project, alias, monkeypatch):
    monkeypatch.setattr(repairing, "_BATCH", 2)
    store("a.png")
    rows = [submission(alias, app_icon_url=f"{ALIAS}a.png") for _ in range(5)]
    look, calls = repairing._Repairer._look, []

    def killed(repairer, steps):
        calls.append(steps)
        if len(calls) == 2:
            raise Killed
        return look(repairer, steps)

    with monkeypatch.context() as patched:
        patched.setattr(repairing._Repairer, "_look", killed)
        with pytest.raises(Killed):
            call_command(*ALL, "--apply", "--no-input", stdout=StringIO())
    assert sum(icon(row).startswith(PUBLIC) for row in rows) == 2

    document = apply(*ALL)

    assert {icon(row) for row in rows} == {f"{PUBLIC}a.png"}
    changes = Change.objects.using(alias).filter(kind=ChangeKind.REWRITE)
    assert changes.filter(run_id=document["run_id"]).count() == changes.count() == 5


def test_a_stop_leaves_the_rest_planned_and_ends_with_exit_code_6(project, monkeypatch):
    monkeypatch.setattr(repairing, "_BATCH", 1)
    store("submissions/a.png")
    purged("submissions/a.png")
    store("b.png")
    rows = [
        submission(app_icon_url=f"{base}.png")
        for base in (f"{ALIAS}b", f"{PUBLIC}submissions/a", f"{ALIAS}b")
    ]
    look = repairing._Repairer._look

    def stopped_after(repairer, steps):
        repairer.control.deadline = 0
        return look(repairer, steps)

    monkeypatch.setattr(repairing._Repairer, "_look", stopped_after)
    document = apply(*ALL, exit_code=6)

    assert counts(document) == (3, 1, 0)
    assert [action for _, action, _ in repairs(document)].count("plan") == 2
    assert keys() == {"b.png"}
    monkeypatch.undo()
    assert len([row for row in rows if icon(row).startswith(PUBLIC)]) == 2


# Who names this?


def test_a_key_is_told_with_every_value_that_means_it(project, alias, settings):
    rules = {"appdirectory.AppSubmission": {"description_en": {"text": True}}}
    settings.R2MAINT = {**settings.R2MAINT, "FIELDS": rules}
    store("x/a b.png")
    store("x/other.png")
    submission(
        alias,
        app_icon_url=f"{PUBLIC}x/a%20b.png",
        main_image_en=f"{PUBLIC}x/other.png",
        screenshots_en=["words", f"{ALIAS}x/a b.png"],
        description_en=f"See {PUBLIC}x/a%20b.png?v=3 and {PUBLIC}x/other.png.",
    )
    app = App.objects.using(alias).create(name_en="a")
    App.objects.using(alias).filter(pk=app.pk).update(application_icon="x/a b.png")

    for given in (
        ("--key", "x/a b.png"),
        ("--url", f"{PUBLIC}x/a%20b.png"),
        ("--url", f"{ALIAS}x/a b.png#top"),
    ):
        document = run("verify_urls", *given)
        fields = {item["reference"]["field"] for item in document["items"]}
        assert fields == {"app_icon_url", "screenshots_en", "description_en", "application_icon"}
        assert outcomes(document) == {"ok": 3, "alias": 1}
        assert document["notes"][0].startswith("4 values name ")


def test_a_missing_key_that_is_named_ends_with_exit_code_3(project):
    submission(app_icon_url=f"{PUBLIC}gone.png")
    document = run("verify_urls", "--key", "gone.png", exit_code=3)
    assert outcomes(document) == {"missing": 1}
    assert "The bucket does not hold it." in document["notes"][-1]


def test_a_key_nobody_names_is_told_so(project):
    store("a.png")
    submission(app_icon_url=f"{PUBLIC}b.png")
    document = run("verify_urls", "--key", "a.png")
    assert document["items"] == []
    assert (
        "No value in scope names 'a.png'. The bucket holds 'a.png' (5 B)." in document["notes"][-1]
    )


def test_a_lookup_lists_no_bucket(project, monkeypatch):
    store("a.png")
    submission(app_icon_url=f"{PUBLIC}a.png")
    monkeypatch.delattr(DirectoryBucket, "list_pages")
    assert outcomes(run("verify_urls", "--key", "a.png")) == {"ok": 1}


def test_a_spelling_of_another_object_is_no_answer(project):
    store("a b.png")
    store("a%20b.png")
    submission(app_icon_url=f"{PUBLIC}a%20b.png")
    assert run("verify_urls", "--key", "a%20b.png")["items"] == []
    assert len(run("verify_urls", "--key", "a b.png")["items"]) == 1


def test_local_files_and_other_hosts_are_looked_up_too(project):
    (project / "media" / "a.png").write_bytes(b"bytes")
    submission(app_icon_url="/media/a.png", website_link="https://Elsewhere.example/p.png")
    submission(app_icon_url="/media/other.png", website_link="https://elsewhere.example/q.png")

    assert outcomes(run("verify_urls", "--url", "/media/a.png")) == {"skipped": 1}
    document = run("verify_urls", "--url", "http://elsewhere.example:443/p.png#x")
    assert outcomes(document) == {"external": 1}
    assert document["items"][0]["reference"]["field"] == "website_link"


# Files


def test_lines_of_source_files_are_told_with_what_to_write(project, settings):
    settings.R2MAINT = {
        **settings.R2MAINT,
        "EXTRA_REFERENCES": {"files": ["src/**/*.ts", "none/*.ts"]},
    }
    (project / "src").mkdir()
    source = project / "src" / "media.ts"
    source.write_text(
        f"const BASE = '{ALIAS.rstrip('/')}';\n"
        "// https://pub-ffff.r2.dev/a.png is another bucket's\n"
        f"const fine = '{PUBLIC}a.png';\n"
        f'const url = `{ALIAS}x/${{name}}.png`, json = "https:\\/\\/{ALIAS[8:-1]}\\/b.png";\n'
    )
    before = source.read_bytes()

    document = run("verify_urls")

    told = [(e["line"], e["kind"], e["new"]) for e in document["files"]]
    assert told == [
        (1, "alias", PUBLIC.rstrip("/")),
        (2, "r2.dev", None),
        (4, "alias", f"{PUBLIC}x/${{name}}.png"),
        (4, "alias", f"{PUBLIC}b.png"),
    ]
    assert {each["file"] for each in document["files"]} == {"src/media.ts"}
    assert any(note.startswith("src/media.ts:1 has ") for note in document["notes"])
    assert any("matches no file: 'none/*.ts'" in note for note in document["notes"])
    assert source.read_bytes() == before


def test_an_address_in_one_long_line_is_found_once_and_whole(project, settings, monkeypatch):
    monkeypatch.setattr(source_lines, "_CHUNK", 200)
    monkeypatch.setattr(source_lines, "OVERLAP", 60)
    settings.R2MAINT = {**settings.R2MAINT, "EXTRA_REFERENCES": {"files": ["bundle.js"]}}
    addresses = [f"{ALIAS}{'n' * (number % 17)}{number}.png" for number in range(40)]
    (project / "bundle.js").write_text("\n" + "".join(f"'{each}'," for each in addresses) + "\nend")

    found = run("verify_urls")["files"]

    assert [each["url"] for each in found] == addresses
    assert {each["line"] for each in found} == {2}


def test_no_files_are_told_where_none_are_configured(project):
    assert "files" not in run("verify_urls")
