from __future__ import annotations

from dataclasses import replace

import pytest

from r2maint.errors import InvalidListing
from r2maint.journal.baselines import Baseline, last_baseline
from r2maint.models import Identity, Run, RunState, Sighting
from r2maint.purge.brakes import NAMES, Findings, MaxDelete, find_refusals
from tests.conftest import DATABASES
from tests.fakes import R2Fake
from tests.oddities.models import Article, Listing
from tests.worlds.few_objects import (
    AT_ONCE,
    HOST,
    NAMED,
    ORPHAN,
    WEEK,
    brakes,
    change_settings,
    make_bucket,
    message,
    plan,
    purge,
    urls,
)

RUN = "20261123T161200Z-ab12cd"
FINE = Findings(
    prefixes=1,
    managed=1000,
    named=980,
    absent=20,
    unnamed=0,
    orphans=0,
    names={"default.app.body": 980},
    identity_fault="",
)


def refusals(found: Findings, last: Baseline | None = None, max_delete: str = ""):
    given = MaxDelete.parse(max_delete) if max_delete else None
    before = last or Baseline(run_id=RUN)
    return {one.brake: one for one in find_refusals(found, before, max_delete=given, adopt=False)}


# Each by itself


def test_nothing_is_refused_while_all_is_as_it_was():
    assert refusals(FINE) == {}


@pytest.mark.parametrize(
    ("absent", "before", "held"),
    [(99, 0.0, False), (100, 0.0, False), (101, 0.0, True), (149, 0.05, False), (151, 0.05, True)],
)
def test_missing_holds_above_ten_points_more_than_in_the_last_run(absent, before, held):
    found = replace(FINE, absent=absent, named=1000 - absent)
    assert ("missing" in refusals(found, Baseline(missing=before, run_id=RUN))) == held


@pytest.mark.parametrize(
    ("unnamed", "before", "held"), [(100, 0.0, False), (101, 0.0, True), (151, 0.05, True)]
)
def test_ratio_holds_above_ten_points_more_than_in_the_last_run(unnamed, before, held):
    found = replace(FINE, unnamed=unnamed, orphans=1)
    assert ("ratio" in refusals(found, Baseline(orphans=before, run_id=RUN))) == held


@pytest.mark.parametrize(
    ("orphans", "given", "held"),
    [
        (250, "", False),
        (251, "", True),
        (251, "30%", False),
        (301, "30%", True),
        (300, "300", False),
        (301, "300", True),
        (1, "0", True),
    ],
)
def test_ratio_holds_above_the_limit_of_one_run(orphans, given, held):
    last = Baseline(orphans=0.9, run_id=RUN)
    found = replace(FINE, unnamed=orphans, orphans=orphans)
    assert ("ratio" in refusals(found, last, given)) == held


def test_a_limit_of_ones_own_lifts_the_rise_too():
    found = replace(FINE, unnamed=900, orphans=100)
    assert "ratio" in refusals(found)
    assert "ratio" not in refusals(found, max_delete="10%")


@pytest.mark.parametrize(("now", "held"), [(80, False), (79, True), (0, True)])
def test_source_lost_holds_under_eighty_percent_of_the_best_count(now, held):
    last = Baseline(names={"default.app.body": 100}, run_id=RUN)
    found = replace(FINE, names={"default.app.body": now, "other": 1})
    assert ("source_lost" in refusals(found, last)) == held


def test_a_source_that_is_absent_is_lost():
    last = Baseline(names={"file:a/*.ts": 3}, run_id=RUN)
    assert "source_lost" in refusals(replace(FINE, names={"other": 1}), last)


def test_messages_tell_both_numbers_the_run_and_the_limit():
    last = Baseline(missing=0.02, orphans=0.01, names={"host:m.example.org": 1200}, run_id=RUN)
    found = replace(
        FINE,
        managed=20_000,
        absent=1722,
        named=10_578,
        unnamed=4000,
        orphans=3000,
        names={"host:m.example.org": 11},
    )
    told = {name: one.message for name, one in refusals(found, last).items()}
    assert told["missing"].startswith(
        f"14.0% of 12,300 managed references have no object, 2.0% in the last accepted run ({RUN});"
        " limit +10 points."
    )
    assert told["ratio"] == (
        f"20.0% of 20,000 managed objects are named by nothing, 1.0% in the last accepted run"
        f" ({RUN}); limit +10 points."
    )
    assert told["source_lost"] == (
        "1 source of 1 name under 80% of the keys they named at best since run"
        f" {RUN}: host:m.example.org (1,200 before, 11 now)."
    )


def test_the_first_run_says_that_there_is_none_to_compare_with():
    found = replace(FINE, absent=500, named=500)
    assert "50.0% of 1,000 managed references have no object, and no run was accepted yet" in (
        refusals(found, Baseline())["missing"].message
    )


def test_each_brake_names_what_lifts_it():
    found = Findings(
        prefixes=0,
        managed=1000,
        named=0,
        absent=500,
        unnamed=1000,
        orphans=1000,
        names={"a": 0},
        identity_fault="the bucket has no marker yet",
    )
    last = Baseline(names={"a": 1}, run_id=RUN)
    assert {name: one.override for name, one in refusals(found, last).items()} == {
        "prefixes": "--override prefixes",
        "empty": "--override empty",
        "missing": "--override missing",
        "source_lost": "--override source_lost",
        "ratio": "--max-delete 1000 or --override ratio",
        "identity": "--adopt",
    }


# In a database


pytestmark = pytest.mark.django_db(databases=DATABASES)


@pytest.fixture
def bucket(project) -> R2Fake:
    bucket = make_bucket(NAMED, ORPHAN)
    Article.objects.create(body=urls([NAMED]))
    return bucket


def arrange_every_brake(bucket: R2Fake, settings) -> None:
    """Let every brake hold but `order`."""
    purge(bucket)
    names = [f"submissions/2/{number}.webp" for number in range(10)]
    Run.objects.update(
        options={"baseline": {"missing": 0, "orphans": 0, "names": {"default.gone.body": 9}}}
    )
    Identity.objects.update(owner_id="another")
    Article.objects.update(body=urls(names))
    change_settings(settings, MANAGED_PREFIXES=[])
    for number in range(10):
        bucket.add(f"avatars/{number}.webp")


@pytest.mark.parametrize("name", [name for name in NAMES if name != "order"])
def test_an_override_lifts_exactly_its_own_brake(bucket, settings, name):
    arrange_every_brake(bucket, settings)
    options = replace(AT_ONCE, adopt=False, max_delete=MaxDelete.parse("0"))
    every = set(brakes(plan(bucket, options)))
    assert every == set(NAMES) - {"order"}
    assert set(brakes(plan(bucket, options, overrides=frozenset({name})))) == every - {name}


@pytest.mark.parametrize(
    ("option", "brake"),
    [({"adopt": True}, "identity"), ({"max_delete": MaxDelete.parse("100%")}, "ratio")],
    ids=["--adopt", "--max-delete"],
)
def test_an_option_lifts_exactly_its_own_brake(bucket, settings, option, brake):
    arrange_every_brake(bucket, settings)
    options = replace(AT_ONCE, adopt=False, max_delete=MaxDelete.parse("0"))
    every = set(brakes(plan(bucket, options)))
    assert set(brakes(plan(bucket, options, **option))) == every - {brake}


def test_nothing_lifts_a_listing_out_of_order(bucket):
    def out_of_order(operation: str, key: str) -> None:
        if operation == "list":
            raise InvalidListing("The listing is out of order.")

    bucket.before = out_of_order
    planned = plan(bucket, overrides=frozenset(NAMES))
    assert brakes(planned) == ["order"]
    assert (planned.refusals[0].override, planned.has_work) == ("", False)


# What the next run is measured by


def test_a_run_is_measured_by_the_last_accepted_one(bucket):
    purge(bucket)
    run = Run.objects.get()
    last = last_baseline("purge_orphans", bucket.name)
    assert (last.run_id, last.orphans) == (run.pk, 0.5)
    assert last.names == {"default.oddities_article.body": 1, "host:media.example.org": 1}
    assert last_baseline("purge_orphans", "another") == Baseline()


@pytest.mark.parametrize("state", [RunState.FAILED, RunState.STOPPED, RunState.UNDONE])
def test_a_run_that_was_not_completed_or_was_undone_is_not_accepted(bucket, state):
    purge(bucket)
    first = Run.objects.get()
    Run.objects.create(
        id="99990101T000000Z-ffffff",
        command="purge_orphans",
        bucket=bucket.name,
        state=state,
        started_at=first.started_at,
        options={"baseline": {"missing": 0.9, "orphans": 0.9, "names": {}}},
    )
    assert last_baseline("purge_orphans", bucket.name).run_id == first.pk


def test_what_was_overridden_is_accepted(bucket):
    purge(bucket)
    Article.objects.create(body=urls(f"submissions/9/{number}.webp" for number in range(9)))
    bucket.add(ORPHAN, age=2 * WEEK)
    assert "missing" in brakes(plan(bucket))
    purge(bucket, overrides=frozenset({"missing"}))
    bucket.add(ORPHAN, age=2 * WEEK)
    assert brakes(plan(bucket)) == []


def test_a_source_is_measured_by_its_best_count_since_the_last_run(bucket):
    purge(bucket)
    keys = [f"submissions/2/{number}.webp" for number in range(9)]
    for key in keys:
        bucket.add(key, age=2 * WEEK)
    rows = [Article.objects.create(body=key) for key in keys]
    assert brakes(plan(bucket)) == []
    for row in rows[:3]:
        row.delete()
    lost = plan(bucket)
    assert "default.oddities_article.body (10 before, 7 now)" in message(lost, "source_lost")
    assert brakes(plan(bucket)) == ["source_lost"], "a lower count replaces no higher one"


def test_a_count_that_fell_a_little_is_not_forgotten_when_another_grows(bucket):
    keys = [f"submissions/2/{number}.webp" for number in range(9)]
    for key in keys:
        bucket.add(key, age=2 * WEEK)
    rows = [Article.objects.create(body=key) for key in keys]
    purge(bucket)
    rows[0].delete()
    Listing.objects.create(notes=keys[0])
    assert brakes(plan(bucket)) == []
    names = last_baseline("purge_orphans", bucket.name).names
    assert (names["default.oddities_article.body"], names["default.oddities_listing.notes"]) == (
        10,
        1,
    )


def test_a_refused_plan_raises_no_count(bucket):
    purge(bucket)
    before = last_baseline("purge_orphans", bucket.name)
    keys = [f"submissions/9/{number}.webp" for number in range(9)]
    bucket.add("submissions/2/new.webp", age=2 * WEEK)
    Article.objects.create(body=urls([*keys, "submissions/2/new.webp"]))
    assert "missing" in brakes(plan(bucket))
    assert last_baseline("purge_orphans", bucket.name) == before


def test_a_host_whose_urls_are_gone_is_lost(bucket):
    keys = [f"submissions/2/{number}.webp" for number in range(10)]
    for key in keys:
        bucket.add(key, age=2 * WEEK)
    old = [Article.objects.create(body=urls([key], "https://cdn.example.net")) for key in keys]
    purge(bucket)
    assert brakes(plan(bucket)) == []
    for row in old:
        row.body = row.body.replace("https://cdn.example.net", HOST)
        row.save()
    assert "host:cdn.example.net (10 before, 0 now)" in message(plan(bucket), "source_lost")


def test_an_extra_reference_that_names_nothing_is_told(bucket, settings, project):
    (project / "urls.ts").write_text("nothing")
    change_settings(settings, EXTRA_REFERENCES={"files": ["urls.ts"]})
    assert "EXTRA_REFERENCES names no object through 'file:urls.ts'." in plan(bucket).notes
    (project / "urls.ts").write_text(NAMED)
    assert not any("EXTRA_REFERENCES" in note for note in plan(bucket).notes)


def test_a_doubtful_reading_is_remembered_by_nobody(bucket):
    Article.objects.update(body="nothing")
    assert "empty" in brakes(plan(bucket))
    assert not Sighting.objects.exists()
