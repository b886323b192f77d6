"""When an orphan counts as seen before."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from django.db import connections

from r2maint import conf
from r2maint.control import Control
from r2maint.errors import BucketUnreachable, DatabaseError, InvalidListing, Stopped
from r2maint.journal import sightings
from r2maint.models import Sighting
from r2maint.purge.brakes import MaxDelete
from r2maint.purge.plan import plan_purge
from r2maint.purge.result import PurgeOptions
from tests.conftest import DATABASES
from tests.fakes import R2Fake, fail_on
from tests.oddities.models import Article
from tests.worlds.few_objects import (
    NAMED,
    ORPHAN,
    WEEK,
    change_settings,
    make_bucket,
    plan,
    urls,
    verdicts,
)
from tests.worlds.texts import dropped

pytestmark = pytest.mark.django_db(databases=DATABASES)

TWO_LOOKS = PurgeOptions()
SECOND = "submissions/2/orphan.webp"


@pytest.fixture
def bucket(project) -> R2Fake:
    bucket = make_bucket(NAMED, ORPHAN, SECOND)
    Article.objects.create(body=urls([NAMED]))
    return bucket


def look(bucket: R2Fake, **more) -> dict[str, str]:
    return verdicts(plan(bucket, TWO_LOOKS, **more))


def seen() -> dict[str, datetime]:
    return dict(Sighting.objects.values_list("key", "first_seen_at"))


SETTINGS = {
    "MANAGED_PREFIXES": ["submissions/"],
    "PROTECTED": ["submissions/*.json"],
    "DERIVED": ["{stem}__sized__*"],
    "EXTRA_REFERENCES": {"callables": ["tests.purge.test_two_looks.no_names"]},
    "NOT_REFERENCES": {"appdirectory.App": "empty"},
    "FIELDS": {"oddities.Article": {"body": {}}},
}


def no_names() -> list[str]:
    return []


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_that_decides_what_is_found_restarts_the_clock(bucket, settings, name):
    look(bucket)
    change_settings(settings, **{name: SETTINGS[name]})
    bucket.clock.move(WEEK)
    assert set(look(bucket).values()) == {"waiting"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PUBLIC_URL", "https://new.example.org/"),
        ("ALIASES", ["https://old.example.org/"]),
        ("GRACE", "6d"),
        ("UNDO_WINDOW", "1d"),
        ("MANAGED_PREFIXES", ["apps/", "submissions/"]),
    ],
)
def test_a_setting_that_finds_the_same_does_not(bucket, settings, name, value):
    look(bucket)
    change_settings(settings, **{name: value})
    bucket.clock.move(WEEK)
    assert set(look(bucket).values()) == {"orphan"}


def test_the_settings_of_an_app_that_makes_thumbnails_restart_the_clock(bucket, settings):
    change_settings(settings, DERIVED=["sorl"])
    look(bucket)
    settings.THUMBNAIL_PREFIX = "thumbs/"
    bucket.clock.move(WEEK)
    assert set(look(bucket).values()) == {"waiting"}


def test_a_new_table_restarts_the_clock(bucket, alias):
    look(bucket)
    with connections[alias].cursor() as cursor:
        cursor.execute("CREATE TABLE another_table (body text)")
    bucket.clock.move(WEEK)
    with dropped(alias, "another_table"):
        assert set(look(bucket).values()) == {"waiting"}


# Which runs count


def test_a_scoped_run_looks_at_the_whole_bucket_and_remembers_all_of_it(bucket):
    look(bucket, prefix="submissions/1/", limit=1)
    assert set(seen()) == {ORPHAN, SECOND}


@pytest.mark.parametrize(
    "overrides", [frozenset(), frozenset({"ratio"})], ids=["holding", "overridden"]
)
def test_too_many_orphans_are_remembered(bucket, overrides):
    look(bucket, max_delete=MaxDelete.parse("0"), overrides=overrides)
    assert set(seen()) == {ORPHAN, SECOND}


def _nothing_named(bucket: R2Fake) -> None:
    Article.objects.update(body="words")


def _much_missing(bucket: R2Fake) -> None:
    Article.objects.create(body=urls(f"submissions/9/{number}.webp" for number in range(9)))


@pytest.mark.parametrize("arrange", [_nothing_named, _much_missing])
def test_a_run_whose_reading_is_doubtful_remembers_nothing(bucket, arrange, monkeypatch):
    monkeypatch.setattr(sightings, "_PENDING", 1)
    look(bucket)
    before = seen()
    arrange(bucket)
    bucket.add("submissions/3/later.webp", age=4 * WEEK)
    bucket.clock.move(WEEK)
    plan(bucket, TWO_LOOKS)
    assert seen() == before


def _listing_fails(bucket: R2Fake, monkeypatch) -> None:
    bucket.page_size = 1
    bucket.before = fail_on("list", NAMED)


def _listing_lies(bucket: R2Fake, monkeypatch) -> None:
    def before(operation: str, key: str) -> None:
        if operation == "list":
            raise InvalidListing("The listing is out of order.")

    bucket.before = before


def _reading_fails(bucket: R2Fake, monkeypatch) -> None:
    def fail(connection):
        raise DatabaseError("The database is gone.")

    monkeypatch.setattr("r2maint.keepset.read_texts.list_tables", fail)


@pytest.mark.parametrize("fault", [_listing_fails, _listing_lies, _reading_fails])
def test_a_run_that_failed_remembers_nothing(bucket, monkeypatch, fault):
    fault(bucket, monkeypatch)
    with suppress(BucketUnreachable, DatabaseError):
        plan(bucket, TWO_LOOKS, adopt=True)
    assert seen() == {}


class StoppedAt(Control):
    """A control that is stopped at its nth check."""

    def __init__(self, checks: int) -> None:
        super().__init__()
        self.checks = checks

    def stop(self) -> Stopped | None:
        self.checks -= 1
        return Stopped("signal", 130) if self.checks < 0 else None


def test_an_interrupted_run_remembers_nothing(bucket):
    whole = StoppedAt(10**6)
    plan_purge(conf.load(), bucket, TWO_LOOKS, control=whole)
    Sighting.objects.all().delete()
    last = 10**6 - whole.checks - 1
    for checks in (0, 1, last // 2, last - 1, last):
        with pytest.raises(Stopped):
            plan_purge(conf.load(), bucket, TWO_LOOKS, control=StoppedAt(checks))
        assert seen() == {}


def test_what_a_killed_run_wrote_down_before_it_ended_is_what_it_saw(bucket, monkeypatch):
    monkeypatch.setattr(sightings, "_PENDING", 1)
    look(bucket)
    before = seen()
    Article.objects.create(body=ORPHAN)
    monkeypatch.setattr(sightings.Sightings, "forget_others", _killed)
    bucket.clock.move(timedelta(hours=1))
    with pytest.raises(KeyboardInterrupt):
        look(bucket)
    assert seen() == before


def _killed(self) -> None:
    raise KeyboardInterrupt


# Clocks


def test_a_clock_that_jumps_back_lets_everything_wait(bucket):
    look(bucket)
    bucket.clock.move(-3 * WEEK)
    assert set(look(bucket).values()) == {"waiting"}
    bucket.clock.move(2 * WEEK)
    assert set(look(bucket).values()) == {"waiting"}


def test_what_was_seen_by_a_clock_ahead_waits_until_that_time_has_come(bucket):
    bucket.clock.move(52 * WEEK)
    look(bucket)
    bucket.clock.move(-52 * WEEK)
    look(bucket)
    bucket.clock.move(2 * WEEK)
    assert set(look(bucket).values()) == {"waiting"}
    bucket.clock.move(51 * WEEK)
    assert set(look(bucket).values()) == {"orphan"}


def test_an_object_from_the_future_is_young(bucket):
    bucket.add(ORPHAN, age=-WEEK)
    assert look(bucket)[ORPHAN] == "too_young"


def test_a_clock_that_differs_from_this_machines_is_told(bucket, monkeypatch):
    def told() -> list[str]:
        return [note for note in plan(bucket, TWO_LOOKS).notes if "clock" in note]

    monkeypatch.setattr("r2maint.journal.journal.now", lambda: bucket.now() + timedelta(minutes=59))
    assert told() == []
    monkeypatch.setattr("r2maint.journal.journal.now", lambda: bucket.now() - timedelta(days=3))
    assert told() == [
        "The bucket's clock is 3 days ahead of this machine's; ages are counted by the bucket's."
    ]


def test_a_reason_may_be_reworded(bucket, settings):
    change_settings(settings, NOT_REFERENCES={"appdirectory.App": "a log"})
    look(bucket)
    change_settings(settings, NOT_REFERENCES={"appdirectory.App": "an append-only log"})
    bucket.clock.move(WEEK)
    assert set(look(bucket).values()) == {"orphan"}


def test_nothing_is_known_of_a_replaced_object(bucket):
    look(bucket)
    stored = bucket.objects[ORPHAN]
    bucket.objects[ORPHAN] = replace(stored, info=replace(stored.info, etag="other"))
    bucket.clock.move(WEEK)
    assert look(bucket) == {ORPHAN: "waiting", SECOND: "orphan"}
