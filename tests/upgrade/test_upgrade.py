"""A site and a bucket that older code made go on under this code.

`sites/` holds small sites, each one file, made by real runs of the commit that `site.json` inside
names; `make_site.py` says how. Their age must not matter: no command here depends on how long ago
a run was. Sites are asked through commands, models and `r2maint.bucket`, which stay where they are.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import PIL
import pytest
from django.core.management import call_command
from django.db import connections
from PIL import features

from r2maint.bucket import Headers, Upload, get, head, open_bucket, put
from r2maint.conf import load
from r2maint.models import Change, Encoding, Health, Identity, Run, Sighting, Snapshot
from tests.appdirectory.models import AppSubmission
from tests.upgrade import archive, small_site
from tests.upgrade.small_site import apply, run, undo

pytestmark = pytest.mark.skipif(
    not small_site.HERE.exists(), reason="Sites stand in /proc/self/cwd, which only Linux has."
)

SITES = Path(__file__).parent / "sites"
BASE = "https://media.example.org/"
KILLED = (
    "migrate_killed",
    "remove_local_killed",
    "undo_killed",
    "repair_killed",
    "purge_killed",
    "purge_killed_copying",
    "emptying_killed",
)
"""But for re-encoding, where other versions of encoders make other bytes."""
PURGES = ("purge_killed", "purge_killed_copying")
LOST = "submissions/legacy/lost.png"

Facts = dict[str, Any]


@pytest.fixture
def go_on(tmp_path, monkeypatch, settings, django_db_blocker) -> Iterator[Callable[[str], Facts]]:
    """Unpack a site by its name, stand in it, let Django migrate it, and return its facts."""
    for name in [name for name in os.environ if name.startswith(("R2_", "CLOUDFLARE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    for name, value in small_site.django_settings().items():
        setattr(settings, name, value)
    own = connections.configure_settings({"default": small_site.database()})
    shared = connections["default"]
    monkeypatch.setattr(connections, "settings", own)
    connections["default"] = connections.create_connection("default")

    def unpacked(name: str) -> Facts:
        facts = archive.unpack(SITES / f"{name}.tar.xz", tmp_path)
        settings.R2MAINT = facts["R2MAINT"]
        call_command("migrate", run_syncdb=True, verbosity=0)
        return facts

    with django_db_blocker.unblock():
        yield unpacked
        connections["default"].close()
        connections["default"] = shared


def digests(objects: Facts) -> dict[str, str]:
    return {key: each["sha256"] for key, each in objects.items()}


def finish(facts: Facts) -> Facts:
    """Run the command of a killed run again, and return its document."""
    document = apply(*facts["command"], exit_code=facts["finished"]["exit_code"])
    assert document["run_id"] == facts["run"]
    return document


def run_states() -> dict[str, str]:
    return {each["run_id"]: each["state"] for each in run("r2_runs")["items"]}


def require_objects(expected: Facts) -> None:
    """Require that these objects are there, with their bytes and all their headers."""
    found = small_site.objects()
    assert {key: found.get(key) for key in expected} == expected


def forget_everything() -> None:
    """Lose all that r2maint keeps in the database."""
    for model in (Run, Change, Sighting, Health, Encoding, Snapshot, Identity):
        model.objects.all().delete()


# Killed runs


@pytest.mark.parametrize("name", KILLED)
def test_a_run_killed_before_the_upgrade_finishes_under_its_own_id(go_on, name):
    facts = go_on(name)
    assert run_states()[facts["run"]] == "running"

    finish(facts)

    expected = facts["finished"]
    assert small_site.rows() == expected["rows"]
    assert digests(small_site.objects()) == digests(expected["objects"])
    assert small_site.files() == expected["files"]
    assert small_site.copies() == expected["copies"]
    assert run_states()[facts["run"]] == "finished"
    lines = run("r2_runs", facts["run"])["items"]
    # An upload that was under way stays as it was written down; the row names what is there.
    pending = [each for each in lines if each["state"] == "intended" and each["kind"] != "upload"]
    assert pending == []


@pytest.mark.parametrize("name", KILLED)
def test_a_run_killed_before_the_upgrade_finishes_once(go_on, name):
    facts = go_on(name)
    finish(facts)
    after = small_site.state()

    again = apply(*facts["command"], exit_code=facts["finished"]["exit_code"])

    assert again["run_id"] is None
    assert small_site.state() == after


def test_a_migration_killed_before_the_upgrade_is_undone_when_it_has_finished(go_on):
    facts = go_on("migrate_killed")
    finish(facts)
    undo(facts["run"])
    assert small_site.rows() == facts["begun"]["rows"]
    assert run_states()[facts["run"]] == "undone"


def test_files_whose_removal_was_killed_before_the_upgrade_come_back(go_on):
    facts = go_on("remove_local_killed")
    finish(facts)
    undo(facts["run"])
    assert small_site.files() == facts["begun"]["files"]
    undo(facts["moved_by"])
    assert small_site.rows() == facts["begun"]["rows"]


def test_an_undo_killed_before_the_upgrade_ends_with_the_values_of_the_beginning(go_on):
    facts = go_on("undo_killed")
    assert small_site.rows() != facts["begun"]["rows"]
    finish(facts)
    assert small_site.rows() == facts["begun"]["rows"]
    assert run_states()[facts["moved_by"]] == "undone"


def test_a_repair_killed_before_the_upgrade_is_undone_when_it_has_finished(go_on):
    facts = go_on("repair_killed")
    finish(facts)
    # What a repair replaced was at fault: it goes back whatever became of the object.
    with closing(sqlite3.connect("bucket/index.sqlite3")) as index, index:
        index.execute("DELETE FROM objects WHERE key = ?", (b"submissions/1.png",))
    undo(facts["run"])
    assert small_site.rows() == facts["begun"]["rows"]


@pytest.mark.parametrize("name", PURGES)
def test_a_purge_killed_before_the_upgrade_is_undone_when_it_has_finished(go_on, name):
    facts = go_on(name)
    finish(facts)
    assert len(small_site.objects()) < len(facts["begun"]["objects"])
    undo(facts["run"])
    require_objects(facts["begun"]["objects"])


def test_a_purge_killed_before_the_upgrade_is_undone_without_finishing_it(go_on):
    facts = go_on("purge_killed")
    assert len(small_site.objects()) < len(facts["begun"]["objects"])
    undo(facts["run"])
    require_objects(facts["begun"]["objects"])


def test_a_purge_killed_before_the_upgrade_makes_no_copy_twice(go_on):
    facts = go_on("purge_killed_copying")
    bucket = open_bucket(load())
    before = {key: head(bucket, key).modified_at for key in facts["copies"]}
    assert before
    finish(facts)
    assert {key: head(bucket, key).modified_at for key in before} == before


def test_a_run_killed_before_the_upgrade_is_not_taken_for_one_about_something_else(go_on):
    facts = go_on("remove_local_killed")
    AppSubmission.objects.create(tracking_id="QAD-99", app_icon_url="/media/app.png")

    document = apply("migrate_media_to_r2")

    assert document["run_id"] != facts["run"]
    assert run_states()[facts["run"]] == "running"


def test_a_reencoding_killed_before_the_upgrade_finishes_and_is_undone(go_on):
    facts = go_on("reoptimize_killed")
    done = {
        row[0]
        for row, before in zip(small_site.rows()["app_submissions"], _rows(facts), strict=True)
        if row != before
    }
    rows = {row[0]: row for row in small_site.rows()["app_submissions"]}

    document = finish(facts)

    assert document["summary"]["converted"] == len(rows) - len(done) > 0
    for row in small_site.rows()["app_submissions"]:
        if row[0] in done:
            assert row == rows[row[0]]
    for submission in AppSubmission.objects.all():
        assert submission.screenshots_en == ["x", submission.app_icon_url]
        key = submission.app_icon_url.removeprefix(BASE)
        assert get(open_bucket(load()), key).body[8:12] == b"WEBP"
    undo(facts["run"])
    assert small_site.rows() == facts["begun"]["rows"]


def _rows(facts: Facts) -> list[Any]:
    return facts["begun"]["rows"]["app_submissions"]


# Finished runs


def test_every_run_from_before_the_upgrade_is_listed_as_it_was(go_on):
    facts = go_on("finished")
    listed = run("r2_runs")["items"]
    assert [each["run_id"] for each in listed] == [each["run_id"] for each in facts["listed"]]
    for old, new in zip(facts["listed"], listed, strict=True):
        assert old.items() <= new.items()
    assert run_states()[facts["undone_run"]] == "undone"


def test_every_change_from_before_the_upgrade_is_shown_as_it_was(go_on):
    facts = go_on("finished")
    for run_id, items in facts["shown"].items():
        shown = run("r2_runs", run_id)["items"]
        assert len(shown) == len(items) > 0
        for old, new in zip(items, shown, strict=True):
            assert old.items() <= new.items()


def test_every_run_from_before_the_upgrade_is_undone_exactly(go_on):
    facts = go_on("finished")
    for name in reversed(facts["runs"]):
        expected = facts["undone"][name]
        document = undo(facts["runs"][name])
        actions = [item["action"] for item in document["items"]]
        assert {each: actions.count(each) for each in actions} == expected["actions"], name
        assert small_site.rows() == expected["rows"], name
        assert small_site.objects() == expected["objects"], name
        assert small_site.files() == expected["files"], name
        assert run_states()[facts["runs"][name]] == "undone"


def test_an_undo_from_before_the_upgrade_is_still_told_from_other_runs(go_on):
    facts = go_on("finished")
    [undone] = [each["run_id"] for each in facts["listed"] if each["command"] == "r2_runs"]
    undo(undone, exit_code=2)


def test_values_come_back_although_their_files_were_removed(go_on):
    facts = go_on("finished")
    undo(facts["runs"]["reoptimize"])
    undo(facts["runs"]["repair"])
    undo(facts["runs"]["migrate"])
    assert small_site.rows() == facts["undone"]["migrate"]["rows"]
    assert small_site.files() == facts["undone"]["migrate"]["files"]


def test_a_second_migration_after_the_upgrade_moves_nothing(go_on):
    facts = go_on("finished")
    document = apply("migrate_media_to_r2")
    assert document["run_id"] is None
    assert small_site.state() == facts["state"]


def test_what_was_uploaded_before_the_upgrade_keeps_its_key_for_further_rows(go_on):
    facts = go_on("migrate_killed")
    finish(facts)
    known = AppSubmission.objects.get(tracking_id="QAD-1").app_icon_url
    AppSubmission.objects.create(tracking_id="QAD-99", app_icon_url="/media/one.png")

    document = apply("migrate_media_to_r2")

    assert AppSubmission.objects.get(tracking_id="QAD-99").app_icon_url == known
    assert document["summary"]["uploaded"] == 0


# Pictures


@pytest.fixture(params=["table", "metadata"])
def remembered(go_on, request) -> Facts:
    """A site with a picture re-encoded before, known by the table or by its own metadata alone."""
    facts = go_on("finished")
    if request.param == "metadata":
        Encoding.objects.all().delete()
    else:
        with closing(sqlite3.connect("bucket/index.sqlite3")) as index, index:
            bare = "json_set(CAST(headers AS TEXT), '$.metadata', json('{}'))"
            index.execute(f"UPDATE objects SET headers = {bare}")
    return facts


def test_what_was_reencoded_before_the_upgrade_is_not_reencoded_again(remembered):
    document = apply("reoptimize", "--all")
    reasons = {item["key"]: item["reason"] for item in document["items"]}
    made = AppSubmission.objects.get(tracking_id="QAD-4").app_icon_url.removeprefix(BASE)
    assert made.endswith(".webp")
    assert document["summary"]["converted"] == 0
    assert reasons[made] == "already"
    assert reasons["submissions/legacy/small.webp"] == "already_webp"
    assert small_site.rows() == remembered["state"]["rows"]
    assert digests(small_site.objects()) == digests(remembered["state"]["objects"])


def test_pictures_left_before_the_upgrade_are_not_tried_again(go_on):
    go_on("finished")
    # Other versions of the encoders would be a reason to try again.
    written = re.escape(" pillow/") + r"\S+ webp/\S+"
    here = f" pillow/{PIL.__version__} webp/{features.version('webp')}"
    for known in Encoding.objects.all():
        known.fingerprint, changed = re.subn(written, here, known.fingerprint)
        assert changed == 1
        known.save()
    left = Encoding.objects.get(key="submissions/legacy/noise.jpg", reason="not_smaller")

    assert run("reoptimize", "--sample", "0")["summary"]["candidates"] == 0

    left.delete()
    assert run("reoptimize", "--sample", "0")["summary"]["candidates"] == 1


def test_a_stronger_recipe_is_told_from_the_one_of_before_the_upgrade(remembered):
    made = AppSubmission.objects.get(tracking_id="QAD-4").app_icon_url.removeprefix(BASE)
    for recipe, expected in ((("--quality", "90"), "skip"), (("--max-size", "40x40"), "convert")):
        items = run("reoptimize", "--all", "--sample", "0", *recipe)["items"]
        assert {item["action"] for item in items if item["key"] == made} == {expected}, recipe


# Purges


def test_an_orphan_seen_before_the_upgrade_needs_no_further_look(go_on):
    go_on("finished")
    put(open_bucket(load()), Upload(key="submissions/temp/never seen.png", body=b"new"))
    options = ("--grace", "0", "--max-delete", "100%")

    document = apply("purge_orphans", *options)

    found = {item["key"]: (item["verdict"], item["action"]) for item in document["items"]}
    assert found["submissions/temp/seen once.png"] == ("orphan", "delete")
    assert found["submissions/temp/never seen.png"] == ("waiting", "kept")
    assert document["summary"]["deleted"] == 1


def test_a_purge_is_measured_by_the_one_accepted_before_the_upgrade(go_on):
    go_on("finished")
    AppSubmission.objects.update(main_image_en="", screenshots_en=[])
    refused = {each["brake"] for each in run("purge_orphans", "--grace", "0")["refusals"]}
    assert "source_lost" in refused
    assert not refused & {"identity", "missing"}


def test_a_database_that_lost_its_mark_is_refused_the_bucket_of_before_the_upgrade(go_on):
    go_on("finished")
    Identity.objects.all().delete()
    refused = {each["brake"] for each in run("purge_orphans", "--grace", "0")["refusals"]}
    assert "identity" in refused


def test_what_became_of_an_object_before_the_upgrade_is_explained(go_on):
    facts = go_on("finished")
    purged, original = "submissions/temp/a//b 3.png", "submissions/legacy/photo.jpg"
    [gone, kept] = run("purge_orphans", "--explain", purged, "--explain", original)["items"]
    assert gone["rule"] == "absent"
    assert facts["runs"]["purge"] in str(gone)
    assert kept["rule"] == "undo_window"
    assert facts["runs"]["reoptimize"] in str(kept)


def test_the_quarantine_from_before_the_upgrade_is_emptied(go_on):
    facts = go_on("finished")
    assert len(small_site.copies()) == 5

    document = apply("purge_orphans", "--empty-quarantine", "--older-than", "0")

    assert {item["action"] for item in document["items"]} == {"delete"}
    assert not [key for key in small_site.all_keys() if key.startswith(".r2maint/quarantine/")]
    assert digests(small_site.objects()) == digests(facts["state"]["objects"])
    undo(facts["runs"]["purge"], exit_code=3)


def test_a_purge_from_before_the_upgrade_tells_how_many_of_its_copies_are_gone(go_on):
    facts = go_on("emptying_killed")
    [purge] = set(run_states()) - {facts["run"]}
    finish(facts)
    assert any(note.startswith("8 copies of this run") for note in run("r2_runs", purge)["notes"])


def test_copies_from_before_the_upgrade_stay_while_something_names_their_objects(go_on):
    go_on("finished")
    AppSubmission.objects.create(
        tracking_id="QAD-99", app_icon_url=f"{BASE}submissions/temp/plain%200.png"
    )
    apply("purge_orphans", "--empty-quarantine", "--older-than", "0", "--override", "missing")
    assert len(small_site.copies()) == 1


@pytest.mark.parametrize("name", ["finished", "purge_killed"])
def test_a_purge_from_before_the_upgrade_is_undone_from_its_manifest_alone(go_on, name):
    facts = go_on(name)
    purge = facts["runs"]["purge"] if name == "finished" else facts["run"]
    expected = facts["undone"]["purge"] if name == "finished" else facts["begun"]
    forget_everything()
    listed = run("r2_runs")["items"]
    assert [(each["run_id"], each["command"]) for each in listed] == [(purge, "purge_orphans")]

    undo(purge)

    require_objects(expected["objects"])


def test_a_value_that_names_an_object_purged_before_the_upgrade_is_mended(go_on):
    facts = go_on("finished")
    key = "submissions/temp/plain 0.png"
    url = f"{BASE}submissions/temp/plain%200.png"
    AppSubmission.objects.create(tracking_id="QAD-99", app_icon_url=url)
    apply("verify_urls", "--repair", "quarantined", exit_code=3)  # one is missing for good
    require_objects({key: facts["undone"]["purge"]["objects"][key]})


# Reports


def test_what_failed_before_the_upgrade_is_told_since_when_it_fails(go_on):
    facts = go_on("finished")
    [known] = facts["history"]
    [item] = [each for each in run("verify_urls", exit_code=3)["items"] if each["key"] == LOST]
    assert known["subject"] == LOST
    assert item["failures"] == known["failures"] + 1
    assert item["first_failed_at"] == known["first_failed_at"]


def test_what_failed_before_the_upgrade_is_told_when_it_recovers(go_on):
    go_on("finished")
    headers = Headers(content_type="image/png")
    put(open_bucket(load()), Upload(key=LOST, body=b"back", headers=headers))
    document = run("verify_urls")
    assert document["summary"]["recovered"] == 1
    assert [item["key"] for item in document["items"] if item["recovered"]] == [LOST]


def test_usage_reports_from_before_the_upgrade_are_the_history_of_later_ones(go_on):
    facts = go_on("finished")
    # A report looks back half a year: the days are moved so that yesterday is the last one.
    days = [datetime.fromisoformat(each["day"]).date() for each in facts["usage_days"]]
    moved = datetime.now(tz=UTC).date() - timedelta(days=1) - days[-1]
    for snapshot in Snapshot.objects.order_by("-day" if moved > timedelta(0) else "day"):
        Snapshot.objects.filter(pk=snapshot.pk).update(day=snapshot.day + moved)

    history = run("usage_report")["history"]

    expected = [
        ((day + moved).isoformat(), each["bytes"])
        for day, each in zip(days, facts["usage_days"], strict=True)
    ]
    assert len(expected) >= 7
    assert [(each["day"], each["bytes"]) for each in history][:-1] == expected
