"""Times in r2maint's own tables: the same moments with USE_TZ and without, on every database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.apps import apps
from django.db import connections, models
from django.db.models import Max, Q

from r2maint.bucket import StoredObject
from r2maint.database.upserts import parameter
from r2maint.journal import journal
from r2maint.journal.entries import Entry, insert_entries
from r2maint.journal.sightings import Sightings
from r2maint.models import Change, ChangeKind, Identity, Run, UtcDateTimeField
from tests.commands import apply, run
from tests.conftest import DATABASES
from tests.pictures import photo, saved
from tests.worlds.command_runs import AT_ONCE
from tests.worlds.local_media import submission
from tests.worlds.verified import PUBLIC, store

pytestmark = pytest.mark.django_db(databases=DATABASES, transaction=True)
ZONES = ["Asia/Riyadh", "America/New_York", "UTC"]
AROUND_A_CHANGE = [
    *(datetime(2026, 3, 8, hour, 30, tzinfo=UTC) for hour in (1, 2, 6, 7)),
    *(datetime(2026, 11, 1, hour, 30, 0, 123456, tzinfo=UTC) for hour in (1, 5, 6, 7)),
]
"""In New York 02:30 does not exist on the first day, and 01:30 comes twice on the second."""


@pytest.fixture(params=ZONES)
def naive(settings, request) -> str:
    settings.USE_TZ, settings.TIME_ZONE = False, request.param
    return request.param


def remember(alias: str, times: list[datetime]) -> None:
    for number, time in enumerate(times):
        Identity.objects.using(alias).create(
            bucket=f"b{number}", owner_id="", nonce="", renewed_at=time
        )


def remembered(alias: str) -> list[datetime]:
    rows = Identity.objects.using(alias).order_by("pk")
    return list(rows.values_list("renewed_at", flat=True))


def test_every_time_of_every_table_says_its_zone():
    fields = [
        field
        for model in apps.get_app_config("r2maint").get_models()
        for field in model._meta.fields
    ]
    times = [field for field in fields if isinstance(field, models.DateTimeField)]
    assert len(times) > 10
    assert {type(field) for field in times} == {UtcDateTimeField}


def test_a_moment_comes_back_as_aware_utc(alias, naive):
    remember(alias, AROUND_A_CHANGE)
    assert remembered(alias) == AROUND_A_CHANGE
    assert {time.tzinfo for time in remembered(alias)} == {UTC}
    assert [
        row.renewed_at for row in Identity.objects.using(alias).order_by("pk")
    ] == AROUND_A_CHANGE


@pytest.mark.parametrize("before", [True, False], ids=["with first", "without first"])
def test_a_site_that_changes_use_tz_keeps_its_history(alias, settings, before):
    settings.USE_TZ, settings.TIME_ZONE = before, "America/New_York"
    remember(alias, AROUND_A_CHANGE)
    settings.USE_TZ = not before
    assert remembered(alias) == AROUND_A_CHANGE


def test_a_site_that_moves_to_another_zone_keeps_its_history(alias, naive, settings):
    remember(alias, AROUND_A_CHANGE)
    settings.TIME_ZONE = "Pacific/Auckland"
    assert remembered(alias) == AROUND_A_CHANGE


def test_queries_compare_moments(alias, naive):
    remember(alias, AROUND_A_CHANGE)
    rows, middle = Identity.objects.using(alias), AROUND_A_CHANGE[5]
    assert rows.filter(renewed_at__lt=middle).count() == 5
    assert rows.filter(Q(renewed_at__gte=middle)).count() == 3
    assert rows.get(renewed_at__in=[middle]).bucket == "b5"
    assert rows.aggregate(last=Max("renewed_at"))["last"] == max(AROUND_A_CHANGE)
    rows.update(renewed_at=middle - timedelta(hours=1))
    assert set(remembered(alias)) == {middle - timedelta(hours=1)}


def test_rows_written_past_the_models_hold_the_same_moments(alias, naive):
    remember(alias, AROUND_A_CHANGE[:1])
    with connections[alias].cursor() as cursor:
        for time in AROUND_A_CHANGE:
            cursor.execute("UPDATE r2maint_identity SET renewed_at = %s", [parameter(alias, time)])
            assert remembered(alias) == [time]


def test_lines_of_the_journal_hold_the_moment_they_were_written(alias, naive):
    entries = [
        Entry(kind=ChangeKind.UPLOAD, run_id="r", key=str(number), at=time)
        for number, time in enumerate(AROUND_A_CHANGE)
    ]
    insert_entries(alias, entries)
    assert [change.at for change in Change.objects.using(alias).order_by("pk")] == AROUND_A_CHANGE


def test_an_orphan_is_seen_since_the_moment_it_was_first_seen(home, naive):
    orphan = StoredObject(key="a.png", size=1, etag="e", modified_at=AROUND_A_CHANGE[1])
    for time in AROUND_A_CHANGE[4:]:
        seen = Sightings("b", "same", time)
        seen.record([orphan])
        seen.forget_others()
        assert Sightings("b", "same", time).first_seen([orphan]) == {"a.png": AROUND_A_CHANGE[4]}


@pytest.mark.thorough
@pytest.mark.parametrize("naive", ZONES[:2], indirect=True)
def test_all_commands_work_from_the_first_to_the_undo(home, naive, project, settings):
    (project / "media/icon.png").write_bytes(saved(photo()))
    row = submission(app_icon_url="/media/icon.png", main_image_en=f"{PUBLIC}submissions/gone.png")
    store("submissions/old.png", "submissions/kept.png")
    submission(app_icon_url=f"{PUBLIC}submissions/kept.png")

    began = journal.now() - timedelta(seconds=1)
    run("migrate_media_to_r2")
    moved = apply("migrate_media_to_r2")
    run("verify_urls", exit_code=3)
    apply("verify_urls", "--repair", "all", exit_code=3)
    run("usage_report")
    run("usage_report", "--forecast", "90d")
    run("reoptimize")
    shrunk = apply("reoptimize")
    run("purge_orphans")
    purged = apply("purge_orphans", *AT_ONCE, "--adopt", "--override", "missing")
    run("purge_orphans", "--explain", "submissions/old.png")
    run("purge_orphans", "--empty-quarantine", "--older-than", "30d")
    run("r2_runs")
    run("r2_runs", moved["run_id"])
    apply("r2_runs", purged["run_id"], "--undo")
    for each in (shrunk, moved):
        apply("r2_runs", each["run_id"], "--undo")
    apply("r2_runs", "--prune", "90d")

    row.refresh_from_db()
    assert row.app_icon_url == "/media/icon.png"
    for each in Run.objects.using(home):
        assert began <= each.started_at <= each.finished_at <= journal.now()
