"""What earlier runs saw: since when something fails, what is confirmed, rested or well again."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from r2maint.bucket import StoredObject
from r2maint.errors import DatabaseError, Stopped, UsageError
from r2maint.keys import Kind, Target, Via
from r2maint.models import Health
from r2maint.references.reference import Reference, Shape
from r2maint.verify import Finding, Level, Outcome
from r2maint.verify.failures import history as memory_of_runs
from r2maint.verify.failures.history import open_memory, subject_of
from tests.appdirectory.models import App
from tests.commands import run
from tests.conftest import DATABASES
from tests.worlds.local_media import submission
from tests.worlds.verified import PUBLIC, store

pytestmark = pytest.mark.django_db(databases=DATABASES)
needs_commits = pytest.mark.django_db(transaction=True, databases=DATABASES)

START = datetime(2026, 11, 20, 2, 0, tzinfo=UTC)
SECRET = "0123456789abcdef"


def night(number: int) -> datetime:
    return START + timedelta(days=number)


def found(outcome: Outcome, url: str = f"{PUBLIC}a.png", **values) -> Finding:
    """Return a finding about an object of the bucket, named by its public URL."""
    value = values.pop("value", url)
    target = values.pop("target", Target(Kind.BUCKET, Via.PUBLIC, url.removeprefix(PUBLIC)))
    pk = values.pop("pk", "1")
    reference = Reference("default", "app.Model", pk, "url", "", value, Shape.URL, target)
    return Finding(reference=reference, outcome=outcome, url=url, **values)


def elsewhere(outcome: Outcome, **values) -> Finding:
    """Return a finding about another host's URL."""
    target = Target(Kind.EXTERNAL, Via.URL)
    return found(outcome, "https://elsewhere.example/b.png", target=target, **values)


def look(*findings: Finding, at: datetime, level: Level = Level.HTTP, **terms) -> list[Finding]:
    """Take findings through the memory of one whole run."""
    memory = open_memory("media", level, now=at, **terms)
    told = list(memory.remembered(memory.rested(findings)))
    memory.settle()
    return told


def rows(alias: str = "default") -> list[Health]:
    return list(Health.objects.using(alias).order_by("pk"))


# Counting


def test_failures_are_counted_from_the_first_and_end_with_a_success(home):
    look(found(Outcome.OK), at=night(0))
    for number in (1, 2, 3):
        (told,) = look(found(Outcome.NOT_PUBLIC), at=night(number))
        assert told.history.failures == number
        assert told.history.first_failed_at == night(1)
        assert told.history.last_ok_at == night(0)
        assert not told.has_recovered

    (told,) = look(found(Outcome.OK), at=night(4))
    assert told.has_recovered
    assert told.history.first_failed_at == night(1)
    assert told.history.last_ok_at == night(4)

    (told,) = look(found(Outcome.OK), at=night(5))
    assert not told.has_recovered
    (row,) = rows(home)
    assert (row.failures, row.first_failed_at, row.last_ok_at) == (0, None, night(5))


def test_level_bucket_keeps_rows_of_what_fails_only(home):
    well, ill = (found(each, f"{PUBLIC}{each.value}") for each in (Outcome.OK, Outcome.MISSING))

    look(well, ill, at=night(0), level=Level.BUCKET)
    look(well, ill, at=night(1), level=Level.BUCKET)

    (row,) = rows(home)
    assert (row.subject, row.failures) == (f"{PUBLIC}missing", 2)
    healed = found(Outcome.OK, f"{PUBLIC}missing")
    assert [each.has_recovered for each in look(healed, well, at=night(2), level=Level.BUCKET)] == [
        True,
        False,
    ]
    assert rows(home) == []


@pytest.mark.parametrize("level", [Level.BUCKET, Level.HTTP])
def test_many_references_to_one_subject_count_once(level):
    many = [found(Outcome.MISSING, pk=str(pk)) for pk in range(1200)]

    look(*many, at=night(0), level=level)
    told = look(*many, at=night(1), level=level)

    assert {each.history.failures for each in told} == {2}
    (row,) = rows()
    assert row.failures == 2
    healed = [found(Outcome.OK, pk=str(pk)) for pk in range(1200)]
    assert all(each.has_recovered for each in look(*healed, at=night(2), level=level))


@pytest.mark.parametrize("level", [Level.BUCKET, Level.HTTP])
def test_what_both_fails_and_passes_in_one_run_has_failed(level):
    good, bad = found(Outcome.OK), found(Outcome.EMPTY)
    look(good, bad, at=night(0), level=level)

    told = look(good, bad, at=night(1), level=level)

    assert not told[0].has_recovered
    assert told[1].history.failures == 2
    assert rows()[0].failures == 2
    # However far apart they come.
    look(bad, *[found(Outcome.OK)] * 1000, at=night(2), level=level)
    assert rows()[0].failures == 3


def test_level_bucket_looks_up_only_what_may_have_failed(django_assert_max_num_queries):
    look(found(Outcome.MISSING), at=night(0), level=Level.BUCKET)
    well = [found(Outcome.OK, f"{PUBLIC}{number}.png") for number in range(5000)]
    with django_assert_max_num_queries(8):
        look(*well, at=night(1), level=Level.BUCKET)


def test_what_stays_fine_is_renewed_without_being_read(home, django_assert_max_num_queries):
    well = [found(Outcome.OK, f"{PUBLIC}{number}.png") for number in range(3000)]
    look(*well, at=night(0))
    with django_assert_max_num_queries(19, connection=connections[home]):
        look(*well, at=night(1))
    assert {row.last_ok_at for row in rows(home)} == {night(1)}


def test_what_is_fine_for_the_first_time_is_remembered_beside_what_was(home):
    look(found(Outcome.OK), at=night(0))
    look(found(Outcome.OK), found(Outcome.OK, f"{PUBLIC}new.png"), at=night(1))
    assert [row.last_ok_at for row in rows(home)] == [night(1)] * 2


@pytest.mark.parametrize("outcome", [Outcome.UNSURE, Outcome.BLOCKED, Outcome.EXTERNAL])
def test_what_tells_nothing_counts_neither_as_failure_nor_as_success(outcome):
    look(elsewhere(Outcome.DEAD), at=night(0))

    (told,) = look(elsewhere(outcome), at=night(1), fail_on=frozenset({outcome}))
    assert not told.has_recovered
    assert told.is_confirmed

    (told,) = look(elsewhere(Outcome.DEAD), at=night(2))
    assert (told.history.failures, told.history.first_failed_at) == (2, night(0))


def test_what_is_unsure_is_shown_with_its_last_success():
    look(elsewhere(Outcome.OK), at=night(0))
    (told,) = look(elsewhere(Outcome.UNSURE), at=night(1))
    assert told.history.last_ok_at == night(0)


def test_what_no_run_looks_at_stays_as_it_is_for_ninety_days():
    look(found(Outcome.DEAD), at=night(0))
    look(elsewhere(Outcome.OK), at=night(90))
    assert len(rows()) == 2
    look(elsewhere(Outcome.OK), at=night(90) + timedelta(seconds=1))
    assert [row.subject for row in rows()] == ["https://elsewhere.example/b.png"]


def test_levels_and_buckets_have_memories_of_their_own():
    look(found(Outcome.NOT_PUBLIC), at=night(0))
    (told,) = look(found(Outcome.OK), at=night(1), level=Level.BUCKET)
    assert not told.has_recovered

    other = open_memory("other", Level.HTTP, now=night(1))
    (told,) = other.remembered([found(Outcome.NOT_PUBLIC)])
    assert told.history.failures == 1


def test_a_run_that_was_stopped_counts_nothing_and_forgets_no_failure():
    look(found(Outcome.DEAD), elsewhere(Outcome.DEAD), at=night(0))

    def until_stopped() -> Iterator[Finding]:
        yield from [found(Outcome.DEAD), elsewhere(Outcome.OK)] * 400
        raise Stopped("signal", 130)

    memory = open_memory("media", Level.HTTP, now=night(1))
    with pytest.raises(Stopped):
        list(memory.remembered(until_stopped()))

    dead, healed = look(found(Outcome.DEAD), elsewhere(Outcome.OK), at=night(1))
    assert dead.history.failures == 2
    assert healed.has_recovered


def test_a_run_that_was_stopped_keeps_the_successes_it_saw():
    def until_stopped() -> Iterator[Finding]:
        yield from [found(Outcome.OK)] * 500
        raise Stopped("max-duration", 6)

    memory = open_memory("media", Level.HTTP, now=night(0))
    with pytest.raises(Stopped):
        list(memory.remembered(until_stopped()))

    (told,) = look(found(Outcome.OK), at=night(1), recheck=timedelta(days=7))
    assert told.outcome is Outcome.SKIPPED


# What is judged


def test_an_address_that_is_to_blame_is_told_apart_from_what_it_leads_to():
    presigned = f"https://bucket.example/a.png?X-Amz-Signature={SECRET}"
    target = Target(Kind.BUCKET, Via.PRESIGNED, "a.png")
    signed = found(Outcome.PRESIGNED, value=presigned, target=target)
    plain = found(Outcome.OK)

    for number in (0, 1):
        bad, good = look(signed, plain, at=night(number), level=Level.BUCKET)
        assert bad.history.failures == number + 1
        assert not good.has_recovered

    (row,) = rows()
    assert SECRET not in row.subject
    assert row.subject == "https://bucket.example/a.png?redacted"


def test_an_object_that_is_back_recovers_though_only_an_alias_names_it():
    alias = {"value": "https://pub-1.r2.dev/a.png", "target": Target(Kind.BUCKET, Via.ALIAS, "a")}
    look(found(Outcome.MISSING, **alias), at=night(0), level=Level.BUCKET)
    (told,) = look(found(Outcome.ALIAS, **alias), at=night(1), level=Level.BUCKET)
    assert told.has_recovered


def test_an_alias_whose_url_did_not_answer_has_not_recovered():
    alias = {"value": "https://pub-1.r2.dev/a.png", "target": Target(Kind.BUCKET, Via.ALIAS, "a")}
    look(found(Outcome.NOT_PUBLIC, status=404, **alias), at=night(0))
    (told,) = look(found(Outcome.ALIAS, **alias), at=night(1))
    assert not told.has_recovered
    (told,) = look(found(Outcome.ALIAS, status=200, **alias), at=night(2))
    assert told.has_recovered


def test_a_local_file_is_known_by_its_path(tmp_path):
    target = Target(Kind.LOCAL, Via.NAME, "icons/a.png", root=tmp_path)
    gone = found(Outcome.MISSING, "", value="icons/a.png", target=target)
    assert subject_of(gone) == f"{tmp_path}/icons/a.png"

    look(gone, at=night(0), level=Level.BUCKET)
    here = found(Outcome.SKIPPED, "", value="icons/a.png", target=target)
    (told,) = look(here, at=night(1), level=Level.BUCKET)
    assert told.has_recovered


@pytest.mark.parametrize("url", [f"{PUBLIC}\udc80.png", f"{PUBLIC}a\0b", f"{PUBLIC}{'x' * 9000}"])
def test_subjects_that_no_index_or_encoding_takes_are_remembered(home, url):
    look(found(Outcome.MISSING, url), at=night(0))
    (told,) = look(found(Outcome.MISSING, url), at=night(1))
    assert told.history.failures == 2


# Confirmation


def test_what_fails_is_confirmed_after_as_many_runs_in_a_row():
    dead, ok, unsure = Outcome.DEAD, Outcome.OK, Outcome.UNSURE
    nights = (dead, dead, ok, dead, unsure, dead, dead, ok)
    told = [
        look(found(outcome), at=night(number), confirm_after=3)[0]
        for number, outcome in enumerate(nights)
    ]
    confirmed = [number for number, each in enumerate(told) if each.is_confirmed]
    assert confirmed == [2, 4, 6, 7]
    assert [each.has_recovered for each in told] == [False] * 7 + [True]


def test_a_failure_is_reported_once_it_is_confirmed(project):
    submission(app_icon_url=f"{PUBLIC}gone.png")

    first = run("verify_urls", "--confirm-after", "2")
    assert first["items"] == []
    assert first["summary"]["unconfirmed"] == {"missing": 1}
    assert first["summary"]["outcomes"]["missing"] == 0
    assert first["summary"]["references"] == 1
    assert "1 reference failed, but not yet" in first["notes"][0]

    second = run("verify_urls", "--confirm-after", "2", exit_code=3)
    (item,) = second["items"]
    assert (item["outcome"], item["failures"], item["confirmed"]) == ("missing", 2, True)
    assert item["first_failed_at"] == rows()[0].first_failed_at.isoformat()
    assert item["last_ok_at"] is None
    assert second["summary"]["unconfirmed"] == {}


def test_all_lists_what_is_not_confirmed_yet(project):
    submission(app_icon_url=f"{PUBLIC}gone.png")
    (item,) = run("verify_urls", "--confirm-after", "2", "--all")["items"]
    assert (item["failures"], item["confirmed"]) == (1, False)


@pytest.mark.parametrize("show_all", [False, True])
def test_all_is_advised_to_who_did_not_ask_for_it(project, show_all):
    submission(app_icon_url=f"{PUBLIC}gone.png")
    out = StringIO()
    call_command("verify_urls", confirm_after=2, all=show_all, stdout=out)
    assert "not yet in as many runs" in out.getvalue()
    assert ("--all lists them" in out.getvalue()) is not show_all


def test_what_recovered_is_said_by_name(project):
    submission(app_icon_url=f"{PUBLIC}a.png")
    run("verify_urls", exit_code=3)
    store("a.png")
    out = StringIO()

    document = run("verify_urls", "--prefix", "elsewhere/")
    assert document["summary"]["recovered"] == 0
    call_command("verify_urls", stdout=out)

    heading = out.getvalue().splitlines().index("recovered: 1 reference")
    assert f"{PUBLIC}a.png" in out.getvalue().splitlines()[heading + 2]
    assert run("verify_urls")["items"] == []


def test_a_recovered_reference_is_an_item_of_every_format(project):
    submission(app_icon_url=f"{PUBLIC}a.png")
    run("verify_urls", exit_code=3)
    store("a.png")
    document = run("verify_urls")
    (item,) = document["items"]
    assert (item["outcome"], item["recovered"], item["failures"]) == ("ok", True, 0)
    assert document["summary"]["recovered"] == 1


def test_scope_leaves_the_memory_of_everything_else_alone(project):
    submission(app_icon_url=f"{PUBLIC}a.png", status="rejected")
    submission(app_icon_url=f"{PUBLIC}b.png")
    run("verify_urls", exit_code=3)

    run("verify_urls", "--where", "status=pending", exit_code=3)

    assert {row.subject: row.failures for row in rows()} == {
        "a.png": 1,
        "b.png": 2,
    }


def test_a_file_that_reached_the_bucket_recovers(project):
    app = App.objects.create(name_en="lost")
    App.objects.filter(pk=app.pk).update(application_icon="icons/lost.png")
    run("verify_urls", exit_code=3)
    store("icons/lost.png")
    assert run("verify_urls")["summary"]["recovered"] == 1


# Rest


def test_a_url_that_was_fine_lately_is_not_asked_again():
    look(elsewhere(Outcome.OK), found(Outcome.NOT_PUBLIC), at=night(0))

    week = {"recheck": timedelta(days=7)}
    memory = open_memory("media", Level.HTTP, now=night(6), **week)
    rested, asked = memory.rested([elsewhere(Outcome.EXTERNAL), found(Outcome.OK)])
    assert (rested.outcome, rested.detail) == (Outcome.SKIPPED, "fine on 2026-11-20")
    assert rested.is_rested
    assert asked.outcome is Outcome.OK

    # What rested is no success: a week after the last answer it is asked again.
    look(elsewhere(Outcome.EXTERNAL), at=night(6), **week)
    memory = open_memory("media", Level.HTTP, now=night(7), **week)
    (asked,) = memory.rested([elsewhere(Outcome.EXTERNAL)])
    assert asked.outcome is Outcome.EXTERNAL


def test_a_rest_is_no_success_of_a_name_either():
    target = Target(Kind.LOCAL, Via.URL, "a.png", root=Path("/media"))
    stored = StoredObject(
        key="a.png", size=1, etag="e", modified_at=night(-9), storage_class="STANDARD"
    )
    icon = found(Outcome.OK, target=target, stored=stored)
    look(icon, at=night(0))

    (told,) = look(icon, at=night(6), recheck=timedelta(days=7))

    assert told.is_rested
    assert rows()[0].last_ok_at == night(0)


def test_an_object_stored_since_its_url_was_fine_is_asked_again():
    def listed(at: datetime) -> Finding:
        stored = StoredObject(
            key="a.png", size=1, etag="e", modified_at=at, storage_class="STANDARD"
        )
        return found(Outcome.OK, stored=stored)

    look(listed(night(-9)), at=night(0))
    memory = open_memory("media", Level.CONTENT, now=night(1), recheck=timedelta(days=7))
    assert next(memory.rested([listed(night(-9))])).outcome is Outcome.OK
    memory = open_memory("media", Level.HTTP, now=night(1), recheck=timedelta(days=7))
    assert next(memory.rested([listed(night(-9))])).outcome is Outcome.SKIPPED
    assert next(memory.rested([listed(night(0) + timedelta(hours=1))])).outcome is Outcome.OK


def test_what_was_fine_by_a_clock_that_went_ahead_is_asked_again(home):
    look(found(Outcome.OK), at=night(9))
    (told,) = look(found(Outcome.OK), at=night(1), recheck=timedelta(days=7))
    assert told.outcome is Outcome.OK


def test_recheck_needs_a_level_that_asks(project):
    with pytest.raises(CommandError, match="--recheck does not go with --level bucket") as caught:
        call_command("verify_urls", "--recheck", "7d")
    assert caught.value.returncode == 2
    with pytest.raises(UsageError):
        open_memory("media", Level.BUCKET, recheck=timedelta(days=7))


# Without tables


@pytest.fixture
def changeable(home) -> str:
    if home == "mariadb":
        pytest.skip("changing a table of MariaDB would commit what the test should roll back")
    return home


@pytest.fixture
def without_table(changeable) -> Iterator[str]:
    home = changeable
    with connections[home].cursor() as cursor:
        cursor.execute("ALTER TABLE r2maint_health RENAME TO elsewhere")
        yield home
        cursor.execute("ALTER TABLE elsewhere RENAME TO r2maint_health")


def test_without_the_table_it_judges_and_says_what_is_missing(project, without_table):
    submission(app_icon_url=f"{PUBLIC}gone.png")
    document = run("verify_urls", exit_code=3)
    (item,) = document["items"]
    assert item["failures"] is item["first_failed_at"] is None
    assert document["notes"] == [
        "Nothing is remembered of this run. Run manage.py migrate r2maint"
        + (" --database postgres." if without_table == "postgres" else ".")
    ]


def test_without_the_table_confirmation_is_an_error(project, without_table):
    with pytest.raises(CommandError, match="r2maint's tables are missing") as caught:
        call_command("verify_urls", "--confirm-after", "2")
    assert caught.value.returncode == 1


@pytest.fixture
def read_only(changeable) -> Iterator[str]:
    """Let nobody write to the table."""
    home = changeable
    sqlite = home == "default"
    with connections[home].cursor() as cursor:
        for event in ("INSERT", "UPDATE", "DELETE"):
            cursor.execute(
                f"CREATE TRIGGER refuse_{event} BEFORE {event} ON r2maint_health"
                " BEGIN SELECT RAISE(ABORT, 'refused'); END"
                if sqlite
                else f"CREATE RULE refuse_{event} AS ON {event} TO r2maint_health"
                " DO INSTEAD SELECT 1/0"
            )
        yield home
        for event in ("INSERT", "UPDATE", "DELETE"):
            kind = "TRIGGER" if sqlite else "RULE"
            on = "" if sqlite else " ON r2maint_health"
            cursor.execute(f"DROP {kind} refuse_{event}{on}")


def test_a_memory_that_cannot_be_written_spoils_no_report(read_only):
    memory = open_memory("media", Level.HTTP, now=night(0))
    told = list(memory.remembered([found(Outcome.MISSING), elsewhere(Outcome.OK)] * 300))
    memory.settle()
    assert len(told) == 600
    assert memory.unremembered.startswith("Nothing is remembered of this run. Cannot be read")


def test_a_memory_that_cannot_be_written_confirms_nothing(read_only):
    memory = open_memory("media", Level.BUCKET, now=night(0), confirm_after=2)
    assert not next(memory.remembered([found(Outcome.MISSING)])).is_confirmed
    with pytest.raises(DatabaseError):
        memory.settle()


# Limits


@needs_commits
def test_a_project_without_time_zones_is_remembered_in_utc(home, settings):
    settings.USE_TZ, settings.TIME_ZONE = False, "Asia/Riyadh"
    connections[home].close()  # what it converts was decided when it was opened
    try:
        look(found(Outcome.OK), at=night(0))
        look(found(Outcome.DEAD), at=night(1))
        (told,) = look(found(Outcome.DEAD), at=night(2))
    finally:
        connections[home].close()
    assert (told.history.first_failed_at, told.history.last_ok_at) == (night(1), night(0))


@pytest.mark.thorough
@pytest.mark.parametrize("level", [Level.BUCKET, Level.HTTP])
@pytest.mark.parametrize("outcome", [Outcome.OK, Outcome.MISSING])
def test_memory_stays_flat(level, outcome, monkeypatch):
    monkeypatch.setattr(memory_of_runs, "_MOST_FRESH", 1000)

    def many(count: int) -> Iterator[Finding]:
        return (found(outcome, f"{PUBLIC}{number}.png") for number in range(count))

    def peak(count: int) -> int:
        memory = open_memory("media", level, now=night(0))
        tracemalloc.start()
        for _ in memory.remembered(many(count)):
            pass
        memory.settle()
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    peak(600)
    assert peak(6000) < peak(1200) + 600_000


def test_items_hold_no_credentials(project, settings):
    settings.R2MAINT = {
        **settings.R2MAINT,
        "FIELDS": {"appdirectory.AppSubmission": {"app_icon_url": {}}},
    }
    submission(app_icon_url=f"https://user:{SECRET}@elsewhere.example/a.png?token={SECRET}")
    document = run("verify_urls", "--all")
    assert document["items"][0]["outcome"] == "external"
    assert SECRET not in json.dumps(document)


def test_a_look_up_counts_as_no_run(project):
    submission(app_icon_url=f"{PUBLIC}a.png")
    run("verify_urls", exit_code=3)

    for _ in range(2):
        run("verify_urls", "--key", "a.png", exit_code=3)

    assert [row.failures for row in rows()] == [1]
