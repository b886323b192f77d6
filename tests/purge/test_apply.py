from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connections
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from r2maint import conf
from r2maint.bucket import Headers
from r2maint.control import Control
from r2maint.errors import (
    AccessDenied,
    BucketError,
    BucketUnreachable,
    DatabaseError,
    InvalidListing,
    LeaseHeld,
    ObjectLocked,
    Refused,
    Stopped,
)
from r2maint.journal import journal
from r2maint.journal.journal import Journal
from r2maint.models import Change, ChangeState, Identity, Run, RunState, Sighting
from r2maint.pricing import GB
from r2maint.purge import bucket_owner
from r2maint.purge.apply import apply_purge
from r2maint.purge.brakes import MaxDelete
from r2maint.purge.plan import plan_purge
from r2maint.purge.result import PurgeOptions, PurgeOutcome, PurgePlan
from r2maint.purge.verdict import PurgeVerdict
from r2maint.quarantine.manifest import (
    MAX_COPY_BYTES,
    PREFIX,
    list_manifests,
    read_manifest,
    restore_all,
)
from tests.conftest import DATABASES
from tests.fakes import FakeClock, LostLease, R2Fake, fail_on
from tests.oddities.models import Article
from tests.worlds.texts import dropped

pytestmark = pytest.mark.django_db(databases=DATABASES)

NAMED = "submissions/1/named.webp"
ORPHAN = "submissions/1/orphan.webp"
WEEK = timedelta(days=7)
NOW_OR_NEVER = PurgeOptions(
    grace=timedelta(0), second_look=False, max_delete=MaxDelete.parse("100%"), adopt=True
)
IN_ANY_CASE = replace(NOW_OR_NEVER, overrides=frozenset({"missing"}))


@pytest.fixture
def bucket(project) -> R2Fake:
    """A bucket of two objects below a managed prefix, of which a row names one; others outside."""
    made = R2Fake(clock=FakeClock())
    for key in (NAMED, ORPHAN, "elsewhere/a.txt"):
        made.add(key, key.encode(), age=timedelta(days=30))
    Article.objects.create(body=f"https://media.example.org/{NAMED}")
    return made


def plan(bucket: R2Fake, options: PurgeOptions = NOW_OR_NEVER, **more) -> PurgePlan:
    return plan_purge(conf.load(), bucket, options, **more)


def open_run(bucket: R2Fake) -> Journal:
    return journal.open_journal(command="purge_orphans", bucket=bucket.name, options={})


def purge(bucket: R2Fake, options: PurgeOptions = NOW_OR_NEVER, **more) -> PurgeOutcome:
    """Plan and apply, and close the run as the command does."""
    planned = plan(bucket, options)
    run = open_run(bucket)
    state = RunState.STOPPED
    try:
        outcome = apply_purge(planned, conf.load(), bucket, run, **more)
        state = RunState.STOPPED if outcome.stopped else RunState.FINISHED
    finally:
        run.finish(state=state, summary={})
    return outcome


def verdicts(result: PurgePlan) -> dict[str, str]:
    return {item.object.key: item.verdict.value for item in result.items}


def actions(result: PurgeOutcome) -> dict[str, str]:
    return {item.object.key: item.action.value for item in result.items}


def media(bucket: R2Fake) -> list[str]:
    listed = bucket.keys()
    return [key for key in listed if not key.startswith(".r2maint/")]


def brakes(result: PurgePlan) -> list[str]:
    return [refusal.brake for refusal in result.refusals]


def change_settings(settings, **values) -> None:
    settings.R2MAINT = {**settings.R2MAINT, **values}


# Planning


def test_a_plan_names_what_nothing_names_and_deletes_nothing(bucket):
    planned = plan(bucket)
    assert verdicts(planned) == {ORPHAN: "orphan"}
    assert planned.has_work
    assert planned.question == "Quarantine and delete 1 object (25 B)?"
    assert [name for name, _ in bucket.calls if name in ("put", "copy", "delete")] == []


def test_the_summary_has_the_names_of_the_contract(bucket):
    assert plan(bucket).summary() == {
        "objects": 3,
        "bytes": 24 + 25 + 15,
        "kept": 1,
        "orphans": 1,
        "orphan_bytes": 25,
        "too_young": 0,
        "waiting": 0,
        "protected": 0,
        "derived": 0,
        "kin": 0,
        "unmanaged": 1,
        "quarantined": 0,
        "deleted": 0,
        "restored": 0,
        "failed": 0,
        "cache_purged": 0,
        "cache_failed": 0,
        "saved_usd_per_month": Decimal(0),
    }


def test_the_saving_is_what_the_bill_falls_by(bucket):
    arrange_sizes(bucket, {NAMED: 40 * GB, ORPHAN: 5 * GB, "elsewhere/a.txt": GB})
    assert plan(bucket).saved_usd_per_month == 5 * Decimal("0.015")
    arrange_sizes(bucket, {NAMED: 9 * GB, ORPHAN: GB, "elsewhere/a.txt": 0})
    assert plan(bucket).saved_usd_per_month == 0, "all of it is within the free tier"
    cold = Headers(storage_class="STANDARD_IA")
    bucket.add(ORPHAN, headers=cold, age=2 * WEEK)
    arrange_sizes(bucket, {NAMED: 40 * GB, ORPHAN: 5 * GB})
    assert plan(bucket).saved_usd_per_month == 5 * Decimal("0.010")


def test_what_is_in_quarantine_already_counts_as_stored(bucket):
    bucket.add(".r2maint/quarantine/x/y")
    arrange_sizes(bucket, {".r2maint/quarantine/x/y": 10 * GB, ORPHAN: GB})
    assert plan(bucket).saved_usd_per_month == Decimal("0.015")


def test_what_was_not_deleted_saves_nothing(bucket):
    arrange_sizes(bucket, {NAMED: 40 * GB, ORPHAN: 4 * GB})
    bucket.before = fail_on("delete", ORPHAN, error=lambda: ObjectLocked("A bucket lock."))
    hard = replace(NOW_OR_NEVER, hard=True)
    assert purge(bucket, hard).saved_usd_per_month == 0
    bucket.before = lambda operation, key: None
    assert purge(bucket, hard).saved_usd_per_month == 4 * Decimal("0.015")


def arrange_sizes(bucket: R2Fake, sizes: dict[str, int]) -> None:
    """Say that objects are as large as nobody would store in a test."""
    for key, size in sizes.items():
        stored = bucket.objects[key]
        bucket.objects[key] = replace(stored, info=replace(stored.info, size=size))


def test_the_note_says_that_copies_cost_too(bucket):
    assert any("quarantine are stored" in note for note in plan(bucket).notes)
    hard = replace(NOW_OR_NEVER, hard=True)
    assert not any("quarantine are stored" in note for note in plan(bucket, hard).notes)


def test_the_bucket_is_listed_before_anything_is_read(bucket):
    def upload_with_its_row(operation: str, key: str) -> None:
        bucket.before = lambda operation, key: None
        Article.objects.create(body=f"https://media.example.org/{ORPHAN}")

    bucket.before = upload_with_its_row
    assert not plan(bucket).has_work


def test_an_upload_during_the_plan_is_no_orphan(bucket):
    bucket.page_size = 1

    def upload(operation: str, key: str) -> None:
        if (operation, key) == ("list", ORPHAN):
            bucket.add("submissions/1/later.webp")

    bucket.before = upload
    assert "submissions/1/later.webp" not in verdicts(plan(bucket))


def test_a_listing_that_fails_on_its_second_page_decides_nothing(bucket):
    bucket.page_size = 2
    bucket.before = fail_on("list", NAMED)
    with pytest.raises(BucketUnreachable):
        plan(bucket)
    assert not Sighting.objects.exists()


def test_a_listing_out_of_order_is_a_brake_nothing_lifts(bucket):
    def out_of_order(operation: str, key: str) -> None:
        raise InvalidListing("The listing is out of order.")

    bucket.before = out_of_order
    planned = plan(bucket, now=bucket.now())
    assert (brakes(planned), planned.refusals[0].override, planned.has_work) == (
        ["order"],
        "",
        False,
    )


def test_r2maints_own_objects_are_never_managed(bucket, settings):
    change_settings(settings, MANAGED_PREFIXES=[])
    bucket.add(".r2maint/quarantine/x/y", age=2 * WEEK)
    planned = plan(bucket)
    assert brakes(planned) == ["prefixes"]
    assert set(verdicts(planned)) == {ORPHAN, "elsewhere/a.txt"}


def test_protected_and_derived_objects_are_kept(bucket, settings):
    change_settings(
        settings, PROTECTED=["submissions/*.json"], DERIVED=["{stem}__sized__*", "easy_thumbnails"]
    )
    kept = [
        "submissions/1/a.json",
        "submissions/1/named__sized__9x9.webp",
        "submissions/1/named.webp.9x9.jpg",
    ]
    for key in (*kept, "submissions/1/orphan__sized__9x9.webp"):
        bucket.add(key, age=2 * WEEK)
    found = verdicts(plan(bucket))
    assert [found[key] for key in kept] == ["protected", "derived", "derived"]
    assert found["submissions/1/orphan__sized__9x9.webp"] == "orphan"


def test_an_object_that_is_read_for_references_is_kept(bucket, settings):
    change_settings(settings, EXTRA_REFERENCES={"objects": ["submissions/*/index.txt"]})
    bucket.add("submissions/1/index.txt", ORPHAN.encode(), age=2 * WEEK)
    assert verdicts(plan(bucket)) == {"submissions/1/index.txt": "protected"}


def test_unmanaged_objects_are_listed_on_request(bucket):
    assert verdicts(plan(bucket, PurgeOptions(everything=True)))["elsewhere/a.txt"] == "unmanaged"


def test_a_prefix_limits_what_is_acted_on_and_not_what_counts(bucket):
    bucket.add("submissions/2/orphan.webp", age=2 * WEEK)
    planned = plan(
        bucket, PurgeOptions(prefix="submissions/2/", grace=timedelta(0), second_look=False)
    )
    assert verdicts(planned) == {"submissions/2/orphan.webp": "orphan"}
    assert planned.summary()["kept"] == 1


def test_what_the_next_run_is_measured_by_is_the_whole_bucket(bucket):
    bucket.add("submissions/2/orphan.webp", age=2 * WEEK)
    whole = plan(bucket).baseline
    assert plan(bucket, replace(NOW_OR_NEVER, prefix="submissions/2/")).baseline == whole
    assert plan(bucket, replace(NOW_OR_NEVER, limit=1)).baseline == whole


def test_a_limit_keeps_the_rest(bucket):
    bucket.add("submissions/2/orphan.webp", age=2 * WEEK)
    planned = plan(bucket, PurgeOptions(limit=1, grace=timedelta(0), second_look=False))
    assert [item.key for item in planned.orphans()] == [ORPHAN]


# Grace and two looks


def test_a_young_object_is_kept(bucket):
    bucket.add("submissions/1/young.webp", age=timedelta(days=6))
    planned = plan(bucket, PurgeOptions(second_look=False))
    assert verdicts(planned) == {ORPHAN: "orphan", "submissions/1/young.webp": "too_young"}
    young = next(item for item in planned.items if item.verdict is PurgeVerdict.TOO_YOUNG)
    assert young.due_at == bucket.now() + timedelta(days=1)


def test_an_orphan_waits_for_a_second_look_a_grace_period_later(bucket):
    assert verdicts(plan(bucket, PurgeOptions())) == {ORPHAN: "waiting"}
    bucket.clock.move(WEEK - timedelta(seconds=1))
    waiting = plan(bucket, PurgeOptions())
    assert verdicts(waiting) == {ORPHAN: "waiting"}
    assert next(iter(waiting.items)).due_at == bucket.now() + timedelta(seconds=1)
    bucket.clock.move(timedelta(seconds=1))
    assert verdicts(plan(bucket, PurgeOptions())) == {ORPHAN: "orphan"}


def _replace(bucket: R2Fake, settings) -> None:
    bucket.add(ORPHAN, b"other", age=timedelta(days=30))


def _touch(bucket: R2Fake, settings) -> None:
    bucket.add(ORPHAN, ORPHAN.encode(), age=timedelta(days=29))


def _change_prefixes(bucket: R2Fake, settings) -> None:
    change_settings(settings, MANAGED_PREFIXES=["submissions/"])


def _leave_out(bucket: R2Fake, settings) -> None:
    change_settings(settings, NOT_REFERENCES={"appdirectory.App": "empty"})


def _name_for_a_while(bucket: R2Fake, settings) -> None:
    row = Article.objects.create(body=ORPHAN)
    plan(bucket, PurgeOptions())
    row.delete()


def _adopt(bucket: R2Fake, settings) -> None:
    bucket_owner.adopt(bucket, bucket_owner.read_standing(bucket))


@pytest.mark.parametrize(
    "change",
    [_replace, _touch, _change_prefixes, _leave_out, _name_for_a_while, _adopt],
    ids=lambda function: function.__name__,
)
def test_a_sighting_counts_only_while_everything_is_the_same(bucket, settings, change):
    plan(bucket, PurgeOptions())
    change(bucket, settings)
    bucket.clock.move(WEEK)
    assert verdicts(plan(bucket, PurgeOptions())) == {ORPHAN: "waiting"}
    bucket.clock.move(timedelta(hours=1))
    assert verdicts(plan(bucket, PurgeOptions())) == {ORPHAN: "waiting"}


def test_the_first_adoption_keeps_what_was_seen(bucket):
    plan(bucket, PurgeOptions())
    bucket.clock.move(WEEK)
    bucket.add("submissions/1/second.webp", age=2 * WEEK)
    options = PurgeOptions(adopt=True, max_delete=MaxDelete.parse("100%"))
    assert actions(purge(bucket, options))[ORPHAN] == "delete"
    bucket.clock.move(WEEK)
    assert verdicts(plan(bucket, options)) == {"submissions/1/second.webp": "orphan"}


def test_adopting_the_bucket_of_another_database_begins_with_the_first_look(bucket):
    purge(bucket)
    bucket.add(ORPHAN, age=5 * WEEK)
    Identity.objects.update(owner_id="another")
    adopting = PurgeOptions(adopt=True, max_delete=MaxDelete.parse("100%"))
    plan(bucket, PurgeOptions())
    bucket.clock.move(2 * WEEK)
    assert verdicts(plan(bucket, adopting)) == {ORPHAN: "waiting"}
    assert actions(purge(bucket, adopting)) == {ORPHAN: "kept"}
    assert verdicts(plan(bucket, adopting)) == {ORPHAN: "waiting"}
    bucket.clock.move(WEEK)
    assert actions(purge(bucket, adopting)) == {ORPHAN: "delete"}


def test_adopting_twice_adopts_once(bucket):
    purge(bucket)
    owner = Identity.objects.get().owner_id
    purge(bucket)
    assert Identity.objects.get().owner_id == owner


def test_a_doubtful_reading_is_not_remembered(bucket):
    Article.objects.update(body="nothing")
    assert "empty" in brakes(plan(bucket, PurgeOptions()))
    assert not Sighting.objects.exists()


# Brakes


def test_nothing_named_at_all_is_refused(bucket):
    Article.objects.update(body="words")
    assert "empty" in brakes(plan(bucket))


def test_many_missing_files_are_refused(bucket):
    Article.objects.create(body="submissions/1/gone.webp")
    assert "missing" in brakes(plan(bucket))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (PurgeOptions(adopt=True), ["ratio"]),
        (PurgeOptions(adopt=True, max_delete=MaxDelete.parse("50%")), []),
        (PurgeOptions(adopt=True, max_delete=MaxDelete.parse("1")), []),
        (PurgeOptions(adopt=True, max_delete=MaxDelete.parse("0")), ["ratio"]),
        (PurgeOptions(adopt=True, overrides=frozenset({"ratio"})), []),
        (PurgeOptions(max_delete=MaxDelete.parse("1")), ["identity"]),
    ],
    ids=["default", "half", "one", "none", "overridden", "nobody's bucket"],
)
def test_brakes_are_lifted_by_their_option_only(bucket, options, expected):
    options = PurgeOptions(
        grace=timedelta(0),
        second_look=False,
        adopt=options.adopt,
        max_delete=options.max_delete,
        overrides=options.overrides,
    )
    assert brakes(plan(bucket, options)) == expected


def test_a_source_that_lost_its_names_is_refused(bucket):
    for number in range(10):
        bucket.add(f"submissions/2/{number}.webp", age=2 * WEEK)
        Article.objects.create(body=f"submissions/2/{number}.webp")
    purge(bucket)
    assert brakes(plan(bucket)) == []
    Article.objects.filter(body__startswith="submissions/2/").delete()
    lost = next(one for one in plan(bucket).refusals if one.brake == "source_lost")
    assert "default.oddities_article.body (11 before, 1 now)" in lost.message


def test_a_plan_with_a_brake_cannot_be_applied(bucket):
    planned = plan(bucket, PurgeOptions(grace=timedelta(0), second_look=False))
    with pytest.raises(Refused):
        apply_purge(planned, conf.load(), bucket, open_run(bucket))
    assert ORPHAN in media(bucket)


# Identity


def test_another_database_is_refused(bucket):
    purge(bucket)
    Identity.objects.update(owner_id="another")
    assert "identity" in brakes(plan(bucket, PurgeOptions()))


def test_a_copy_of_the_database_that_stayed_behind_is_refused(bucket):
    purge(bucket)
    old = Identity.objects.get()
    bucket.add(ORPHAN, age=2 * WEEK)
    purge(bucket)
    assert Identity.objects.get().nonce != old.nonce
    old.save()
    assert "identity" in brakes(plan(bucket, PurgeOptions()))


@pytest.mark.parametrize("write", [1, 2], ids=["before the database", "before it settles"])
def test_a_renewal_that_is_killed_harms_nothing(bucket, write):
    purge(bucket)
    standing = bucket_owner.read_standing(bucket)
    if write == 1:
        nonce = Identity.objects.get().nonce
        bucket_owner.renew(bucket, standing)
        Identity.objects.update(nonce=nonce)
    else:
        bucket_owner.renew(bucket, standing)
    assert bucket_owner.read_standing(bucket).fault == ""


def test_the_marker_tells_no_secret(bucket):
    purge(bucket)
    marker = json.loads(bucket.body(bucket_owner.KEY))
    assert Identity.objects.get().nonce not in marker.values()


def test_a_bucket_that_another_database_adopted_since_the_plan_is_not_taken(bucket):
    planned = plan(bucket)
    stranger = bucket_owner.Marker(owner_id="another", salt="salt", nonce="nonce")
    bucket.add(bucket_owner.KEY, json.dumps(asdict(stranger)).encode())
    with pytest.raises(Refused, match="marker changed"):
        apply_purge(planned, conf.load(), bucket, open_run(bucket))
    assert ORPHAN in media(bucket)


# Deleting


def test_exactly_the_orphans_are_deleted(bucket):
    outcome = purge(bucket)
    assert media(bucket) == ["elsewhere/a.txt", NAMED]
    assert actions(outcome) == {ORPHAN: "delete"}
    summary = outcome.summary()
    assert (summary["quarantined"], summary["deleted"], summary["failed"]) == (1, 1, 0)


def test_a_second_run_finds_nothing_to_do(bucket):
    purge(bucket)
    assert not plan(bucket).has_work


def test_the_copy_has_the_bytes_the_headers_and_the_class(bucket):
    headers = Headers(
        content_type="image/webp",
        cache_control="max-age=5",
        metadata={"a": "b"},
        storage_class="STANDARD_IA",
    )
    bucket.add(ORPHAN, b"bytes", headers=headers, age=2 * WEEK)
    purge(bucket)
    (manifest,) = list_manifests(bucket)
    run_id, entries = read_manifest(bucket, manifest)
    (entry,) = entries
    assert (run_id, entry.key) == (Run.objects.get().pk, ORPHAN)
    copy = bucket.objects[entry.copy]
    assert (copy.body, copy.info.headers) == (b"bytes", headers)
    assert "orphan" not in entry.copy


def test_a_manifest_alone_brings_everything_back(bucket):
    before = bucket.objects[ORPHAN]
    purge(bucket)
    Change.objects.all().delete()
    for manifest in list_manifests(bucket):
        _, entries = read_manifest(bucket, manifest)
        assert all(one.done for one in restore_all(bucket, entries, control=Control()))
    assert bucket.objects[ORPHAN].body == before.body
    assert bucket.objects[ORPHAN].info.headers == before.info.headers


@pytest.mark.parametrize(
    "damage",
    [
        lambda body: b"",
        lambda body: body[: len(body) - 9],
        lambda body: body.replace(b'"run_id"', b'"id"'),
        lambda body: body.replace(b'"etag"', b'"tag"'),
        lambda body: body + b"\xff\n",
    ],
    ids=["empty", "cut", "no run", "no etag", "no text"],
)
def test_a_damaged_manifest_is_an_error_that_names_it(bucket, damage):
    purge(bucket)
    (manifest,) = list_manifests(bucket)
    bucket.add(manifest, damage(bucket.body(manifest)))
    with pytest.raises(BucketError, match=f"manifest cannot be read: '{manifest}'"):
        list(read_manifest(bucket, manifest)[1])


def test_restoring_overwrites_nothing(bucket):
    purge(bucket)
    bucket.add(ORPHAN, b"something new")
    (manifest,) = list_manifests(bucket)
    (result,) = restore_all(bucket, read_manifest(bucket, manifest)[1], control=Control())
    assert not result.done
    assert bucket.body(ORPHAN) == b"something new"


def test_every_step_is_written_down_before_it_is_taken(bucket):
    seen: dict[str, list[str]] = {}

    def look(operation: str, key: str) -> None:
        if key == ORPHAN and operation in ("copy", "delete"):
            rows = Change.objects.order_by("pk").values_list("kind", "state")
            seen[operation] = [f"{kind} {state}" for kind, state in rows]

    bucket.before = look
    purge(bucket)
    assert seen == {
        "copy": ["quarantine intended"],
        "delete": ["quarantine done", "delete intended"],
    }
    assert set(Change.objects.values_list("state", flat=True)) == {ChangeState.DONE}


def test_without_copies_nothing_is_quarantined(bucket):
    options = PurgeOptions(
        grace=timedelta(0),
        second_look=False,
        max_delete=MaxDelete.parse("1"),
        adopt=True,
        hard=True,
    )
    outcome = purge(bucket, options)
    assert media(bucket) == ["elsewhere/a.txt", NAMED]
    assert not list(bucket.list_pages(PREFIX))
    assert outcome.summary()["quarantined"] == 0


def name_when(bucket: R2Fake, alias: str, moment: tuple[str, str], body: str) -> None:
    """Commit a row at the moment of a request."""

    def before(operation: str, key: str) -> None:
        if (operation, key) == moment:
            bucket.before = lambda operation, key: None
            Article.objects.using(alias).create(body=body)

    bucket.before = before


def test_a_row_committed_after_the_plan_keeps_its_object(bucket, alias):
    name_when(bucket, alias, ("copy", ORPHAN), f"https://m/{ORPHAN}")
    outcome = purge(bucket)
    assert actions(outcome) == {ORPHAN: "kept"}
    assert ORPHAN in media(bucket)


def test_a_row_committed_after_the_second_reading_gets_its_object_back(bucket, alias):
    headers = Headers(content_type="image/webp", metadata={"a": "b"})
    bucket.add(ORPHAN, b"bytes", headers=headers, age=2 * WEEK)
    name_when(bucket, alias, ("delete", ORPHAN), f"https://m/{ORPHAN}")
    outcome = purge(bucket)
    assert actions(outcome) == {ORPHAN: "restore"}
    assert outcome.summary()["restored"] == 1
    assert (bucket.body(ORPHAN), bucket.objects[ORPHAN].info.headers) == (b"bytes", headers)


def test_an_object_replaced_before_its_copy_is_kept(bucket):
    def replace(operation: str, key: str) -> None:
        if (operation, key) == ("copy", ORPHAN):
            bucket.add(ORPHAN, b"new bytes")

    bucket.before = replace
    assert actions(purge(bucket)) == {ORPHAN: "kept"}
    assert bucket.body(ORPHAN) == b"new bytes"


def test_an_object_replaced_after_its_copy_is_kept(bucket):
    def replace(operation: str, key: str) -> None:
        if operation == "put" and "/manifest-" in key:
            bucket.add(ORPHAN, ORPHAN.encode())

    bucket.before = replace
    assert actions(purge(bucket)) == {ORPHAN: "kept"}
    assert ORPHAN in media(bucket)


def test_an_object_that_vanishes_meanwhile_is_no_failure(bucket):
    def vanish(operation: str, key: str) -> None:
        if (operation, key) == ("copy", ORPHAN):
            bucket.objects.pop(ORPHAN, None)

    bucket.before = vanish
    outcome = purge(bucket)
    assert (actions(outcome), outcome.findings) == ({ORPHAN: "kept"}, False)


def test_an_object_too_large_to_copy_is_kept(bucket):
    stored = bucket.objects[ORPHAN]
    bucket.objects[ORPHAN] = replace(stored, info=replace(stored.info, size=MAX_COPY_BYTES + 1))
    assert actions(purge(bucket)) == {ORPHAN: "kept"}
    assert ORPHAN in media(bucket)


@pytest.mark.parametrize("operation", ["copy", "delete"])
def test_one_object_that_fails_is_reported_and_the_others_go_on(bucket, operation):
    second = "submissions/1/second.webp"
    bucket.add(second, age=2 * WEEK)
    bucket.before = fail_on(operation, ORPHAN, error=lambda: BucketError("InternalError."))
    outcome = purge(bucket)
    assert actions(outcome) == {ORPHAN: "fail", second: "delete"}
    assert outcome.findings
    assert outcome.summary()["failed"] == 1
    assert media(bucket) == ["elsewhere/a.txt", NAMED, ORPHAN]


def test_objects_under_a_bucket_lock_are_kept_and_no_failure(bucket):
    others = many(bucket)
    bucket.locked_prefixes = {"submissions/3/"}
    outcome = purge(bucket)
    assert actions(outcome) == {ORPHAN: "delete"} | dict.fromkeys(others, "kept")
    assert not outcome.findings
    assert {item.reason for item in outcome.items if item.action == "kept"} == {
        "A bucket lock rule keeps it; PROTECTED leaves such keys out of the next purge."
    }
    assert any("rules kept 6 objects" in note for note in outcome.notes)
    assert set(others) <= set(media(bucket))
    states = Change.objects.filter(kind="delete", old__in=others)
    assert set(states.values_list("state", flat=True)) == {ChangeState.CONFLICT}


def test_credentials_that_may_not_delete_end_the_run_and_leave_nothing_open(bucket):
    bucket.before = fail_on("delete", error=lambda: AccessDenied("DeleteObjects was refused."))
    with pytest.raises(AccessDenied):
        purge(bucket)
    assert ORPHAN in media(bucket)
    assert Change.objects.get(kind="delete").state == ChangeState.CONFLICT


def test_an_object_whose_headers_were_not_copied_is_kept(bucket):
    bucket.add(ORPHAN, headers=Headers(content_type="image/webp"), age=2 * WEEK)

    def lose_headers(operation: str, key: str) -> None:
        if operation == "head" and key == ORPHAN:
            bucket.objects[ORPHAN] = replace(
                before, info=replace(before.info, headers=Headers(content_type="image/png"))
            )

    before = bucket.objects[ORPHAN]
    bucket.before = lose_headers
    assert actions(purge(bucket)) == {ORPHAN: "fail"}
    assert ORPHAN in media(bucket)


def test_copies_that_are_there_are_not_made_again(bucket):
    many(bucket)
    planned, run = plan(bucket), open_run(bucket)

    def kill(operation: str, key: str) -> None:
        if operation == "put" and "/manifest-" in key:
            raise Killed

    bucket.before = kill
    with pytest.raises(Killed):
        apply_purge(planned, conf.load(), bucket, run)
    bucket.before, bucket.calls = lambda operation, key: None, []
    assert purge(bucket).summary()["quarantined"] == 7
    assert [key for operation, key in bucket.calls if operation == "copy"] == []


def test_a_deletion_whose_answer_was_lost_is_found_out(bucket):
    others = many(bucket)

    def lose_the_answer(operation: str, key: str) -> None:
        if operation == "delete" and key in (ORPHAN, others[0]):
            if key == ORPHAN:
                del bucket.objects[ORPHAN]
            raise BucketError("The answer cannot be read.")

    bucket.before = lose_the_answer
    outcome = purge(bucket)
    assert (actions(outcome)[ORPHAN], actions(outcome)[others[0]]) == ("delete", "fail")
    assert outcome.summary()["deleted"] == len(others)
    states = dict(Change.objects.filter(kind="delete").values_list("old", "state"))
    assert (states[ORPHAN], states[others[0]]) == ("done", "conflict")


def test_a_deletion_nobody_can_find_out_about_stays_open(bucket):
    def fail(operation: str, key: str) -> None:
        if (operation, key) == ("delete", ORPHAN):
            del bucket.objects[ORPHAN]
            bucket.before = fail_on("head", ORPHAN, error=lambda: BucketError("500"))
            raise BucketError("500")

    bucket.before = fail
    assert actions(purge(bucket)) == {ORPHAN: "fail"}
    assert Change.objects.get(kind="delete").state == ChangeState.INTENDED


@pytest.mark.parametrize(("late", "action"), [(0, "delete"), (1, "delete"), (1.5, "kept")])
def test_a_listing_that_rounds_times_up_where_a_head_cuts_them_off_is_no_change(
    bucket, monkeypatch, late, action
):
    truly = bucket.list_pages

    def listed_late(*where, **more):
        for page in truly(*where, **more):
            yield [
                item._replace(modified_at=item.modified_at + timedelta(seconds=late))
                for item in page
            ]

    monkeypatch.setattr(bucket, "list_pages", listed_late)
    assert actions(purge(bucket)) == {ORPHAN: action}


def test_what_became_of_a_killed_deletion_is_not_guessed_from_a_failed_probe(bucket):
    planned, run = plan(bucket), open_run(bucket)

    def kill_after(operation: str, key: str) -> None:
        if (operation, key) == ("delete", ORPHAN):
            del bucket.objects[ORPHAN]
            raise Killed

    bucket.before = kill_after
    with pytest.raises(Killed):
        apply_purge(planned, conf.load(), bucket, run)
    bucket.before = fail_on("head", ORPHAN, error=lambda: BucketError("500"))
    Article.objects.create(body=ORPHAN)
    assert actions(purge(bucket)) == {ORPHAN: "restore"}
    assert ORPHAN in media(bucket)


@pytest.mark.parametrize("checks", range(4))
def test_nothing_is_deleted_without_the_lease(bucket, checks):
    planned, run = plan(bucket), open_run(bucket)
    run.lease = LostLease(checks)
    with pytest.raises(LeaseHeld):
        apply_purge(planned, conf.load(), bucket, run)
    assert ORPHAN in media(bucket)


def test_a_reading_that_fails_later_deletes_nothing(bucket, settings, monkeypatch):
    planned, run = plan(bucket), open_run(bucket)

    def fail(connection):
        raise DatabaseError("The database is gone.")

    monkeypatch.setattr("r2maint.keepset.read_texts.list_tables", fail)
    with pytest.raises(DatabaseError):
        apply_purge(planned, conf.load(), bucket, run)
    assert ORPHAN in media(bucket)


def test_a_source_that_emptied_since_the_plan_deletes_nothing(bucket):
    planned, run = plan(bucket), open_run(bucket)
    Article.objects.all().delete()
    with pytest.raises(Refused, match="oddities_article"):
        apply_purge(planned, conf.load(), bucket, run)
    assert ORPHAN in media(bucket)


def test_a_source_that_emptied_at_last_does_not_keep_others_from_coming_back(bucket, alias):
    with connections[alias].cursor() as cursor:
        cursor.execute("CREATE TABLE short_lived (body text)")
        cursor.execute("INSERT INTO short_lived VALUES (%s)", [NAMED])

    def shift(operation: str, key: str) -> None:
        if (operation, key) == ("delete", ORPHAN):
            bucket.before = lambda operation, key: None
            Article.objects.using(alias).create(body=ORPHAN)
            with connections[alias].cursor() as cursor:
                cursor.execute("DELETE FROM short_lived")

    bucket.before = shift
    with dropped(alias, "short_lived"), pytest.raises(Refused, match="short_lived"):
        purge(bucket)
    assert ORPHAN in media(bucket)


# Stopping, being killed, going on


def test_stopped_while_copying_nothing_is_deleted_and_the_next_run_goes_on(bucket):
    control = Control(deadline=0.0)
    outcome = purge(bucket, control=control)
    assert isinstance(outcome.stopped, Stopped)
    assert ORPHAN in media(bucket)
    outcome = purge(bucket)
    assert (actions(outcome), Run.objects.count()) == ({ORPHAN: "delete"}, 1)


class Killed(BaseException):
    """What no code catches, as no code outlives kill -9."""


def many(bucket: R2Fake) -> list[str]:
    keys = [f"submissions/3/{number}.webp" for number in range(6)]
    for key in keys:
        bucket.add(key, key.encode(), age=2 * WEEK)
    return keys


def kill_at(bucket: R2Fake, number: int) -> Callable[[str, str], None]:
    """Return a `before` that ends the process at its nth writing request or HEAD."""
    left = number

    def before(operation: str, key: str) -> None:
        nonlocal left
        if operation in ("put", "copy", "delete", "head"):
            left -= 1
            if left < 0:
                raise Killed

    return before


@pytest.mark.parametrize("moment", range(0, 24, 3))
def test_a_run_killed_anywhere_goes_on_and_ends_in_the_same_state(bucket, moment, monkeypatch):
    monkeypatch.setattr("r2maint.purge.journal_steps.BATCH", 2)
    doomed = [*many(bucket), ORPHAN]
    planned, run = plan(bucket), open_run(bucket)
    bucket.before = kill_at(bucket, moment)
    with pytest.raises(Killed):
        apply_purge(planned, conf.load(), bucket, run)
    bucket.before = lambda operation, key: None
    outcome = purge(bucket)
    assert media(bucket) == ["elsewhere/a.txt", NAMED]
    assert Run.objects.get().state == RunState.FINISHED
    assert outcome.summary()["deleted"] == len(doomed)
    done = Change.objects.filter(state=ChangeState.DONE)
    for kind in ("quarantine", "delete"):
        assert sorted(done.filter(kind=kind).values_list("old", flat=True)) == sorted(doomed)
    restored = R2Fake()
    for manifest in list_manifests(bucket):
        for entry in read_manifest(bucket, manifest)[1]:
            assert bucket.body(entry.copy) == entry.key.encode()
            restored.add(entry.key)
    assert restored.keys() == sorted(doomed)


def test_what_a_killed_run_deleted_and_a_row_names_now_comes_back(bucket):
    doomed = many(bucket)
    planned, run = plan(bucket), open_run(bucket)

    def kill_after_deleting(operation: str, key: str) -> None:
        if operation == "delete" and key == doomed[-1]:
            raise Killed

    bucket.before = kill_after_deleting
    with pytest.raises(Killed):
        apply_purge(planned, conf.load(), bucket, run)
    bucket.before = lambda operation, key: None
    assert doomed[0] not in media(bucket)
    Article.objects.create(body=doomed[0])
    purge(bucket)
    assert doomed[0] in media(bucket)


def die(deletion: object) -> None:
    raise Killed


def test_what_was_uploaded_again_meanwhile_gets_a_copy_of_its_own(bucket, monkeypatch):
    monkeypatch.setattr("r2maint.purge.apply._Deletion._restored", die)
    for body, kind, age in [(b"first", "a/a", 9), (b"second", "b/b", 8), (b"first", "b/b", 7)]:
        bucket.add(ORPHAN, body, headers=Headers(content_type=kind), age=timedelta(days=age))
        with pytest.raises(Killed):
            purge(bucket)
        assert ORPHAN not in media(bucket)
    copies = dict(Change.objects.filter(kind="delete").values_list("new", "etag"))
    stored = [bucket.objects[copy] for copy in copies]
    assert [(one.body, one.info.headers.content_type) for one in stored] == [
        (b"first", "a/a"),
        (b"second", "b/b"),
        (b"first", "b/b"),
    ]


@pytest.mark.parametrize("bodies", [(b"old", b"new"), (b"same", b"same")])
def test_of_two_versions_that_a_killed_run_deleted_the_last_one_comes_back(
    bucket, monkeypatch, bodies
):
    with monkeypatch.context() as patch:
        patch.setattr("r2maint.purge.apply._Deletion._restored", die)
        for version, body in enumerate(bodies):
            headers = Headers(metadata={"version": str(version)})
            bucket.add(ORPHAN, body, headers=headers, age=(4 - version) * WEEK)
            with pytest.raises(Killed):
                purge(bucket)
    Article.objects.create(body=ORPHAN)
    outcome = purge(bucket, IN_ANY_CASE)
    assert (bucket.body(ORPHAN), actions(outcome)) == (bodies[1], {ORPHAN: "restore"})
    assert bucket.objects[ORPHAN].info.headers.metadata == {"version": "1"}


def test_what_comes_back_twice_is_counted_once(bucket, monkeypatch):
    name_when(bucket, "default", ("delete", ORPHAN), ORPHAN)
    settle = Journal.settle

    def killed(self, changes, state):
        if state == ChangeState.UNDONE:
            raise Killed
        settle(self, changes, state)

    monkeypatch.setattr(Journal, "settle", killed)
    with pytest.raises(Killed):
        purge(bucket)
    monkeypatch.setattr(Journal, "settle", settle)
    assert purge(bucket).summary()["restored"] == 1


def test_an_interrupted_run_says_that_it_goes_on_without_copies(bucket):
    open_run(bucket)
    assert plan(bucket, replace(NOW_OR_NEVER, hard=True)).question.endswith("(25 B) for good?")


def test_an_interrupted_run_is_work_even_with_no_orphan_left(bucket):
    planned, run = plan(bucket), open_run(bucket)
    apply_purge(planned, conf.load(), bucket, run)
    resumed = plan(bucket)
    assert (resumed.counts["orphans"], resumed.has_work) == (0, True)
    assert resumed.question.startswith(f"Go on with {run.run_id}")


# The promise


PARTS = st.text("ab1-_. %+'&()\"\\,;?#é\u0301ع", min_size=1, max_size=10)


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    named=st.sets(PARTS, min_size=3, max_size=6),
    others=st.sets(PARTS, max_size=6),
)
def test_what_is_named_outlives_any_purge(project, alias, named, others):
    bucket = R2Fake(clock=FakeClock())
    Run.objects.all().delete()
    Identity.objects.all().delete()
    Article.objects.using(alias).all().delete()
    keys = {unicodedata.normalize("NFC", f"submissions/{part}.webp") for part in named}
    for part in {*named, *others}:
        bucket.add(f"submissions/{part}.webp", age=2 * WEEK)
    Article.objects.using(alias).create(body=json.dumps([f"https://m/{key}" for key in keys]))
    purge(bucket, IN_ANY_CASE)
    left = {unicodedata.normalize("NFC", key) for key in media(bucket)}
    assert keys <= left


# Copies count when the deletion is sent


def _lose(bucket: R2Fake, copy: str) -> None:
    bucket.objects.pop(copy)


def _replace_by_another_size(bucket: R2Fake, copy: str) -> None:
    bucket.add(copy, b"x" * 999)


def _replace_by_the_same_size(bucket: R2Fake, copy: str) -> None:
    bucket.add(copy, bytes(len(bucket.body(copy))))


@pytest.mark.parametrize("spoil", [_lose, _replace_by_another_size, _replace_by_the_same_size])
def test_an_object_whose_copy_is_gone_when_it_would_be_deleted_stays(bucket, spoil):
    planned = plan(bucket)
    run = journal.open_journal(command="purge_orphans", bucket=bucket.name, options={})

    def before(operation: str, key: str) -> None:
        # The last look at the object itself: its copy was made, and the manifest written.
        if (operation, key) == ("head", ORPHAN):
            copies = [one for one in bucket.objects if one.startswith(PREFIX)]
            for copy in copies:
                if "manifest" not in copy:
                    spoil(bucket, copy)

    bucket.before = before
    outcome = apply_purge(planned, conf.load(), bucket, run)
    assert ORPHAN in bucket.objects
    assert (outcome.summary()["deleted"], outcome.summary()["failed"]) == (0, 1)
    assert outcome.findings
    (item,) = [item for item in outcome.items if item.object.key == ORPHAN]
    assert "Its copy in quarantine is gone" in item.reason
    assert not Change.objects.filter(kind="delete").exists()


def test_a_purge_that_copies_all_and_deletes_nothing_is_a_finding(bucket):
    planned = plan(bucket)
    run = journal.open_journal(command="purge_orphans", bucket=bucket.name, options={})
    whole = bucket._find

    def told(key: str):
        found = whole(key)
        if key != ORPHAN or not bucket.calls or bucket.calls[-1][0] != "head":
            return found
        return replace(found, info=replace(found.info, etag="of a proxy"))

    bucket._find = told
    outcome = apply_purge(planned, conf.load(), bucket, run)
    assert (outcome.summary()["quarantined"], outcome.summary()["deleted"]) == (1, 0)
    assert outcome.findings
    assert any("Nothing was deleted: a HEAD tells another ETag" in note for note in outcome.notes)
