"""What a migration says: what it will cost, what is left to do, and how far it has come."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import termios
import threading
from functools import partial
from io import StringIO

import pytest
from django.core.management import call_command
from tqdm import tqdm

from r2maint.signals import rows_rewritten
from tests.appdirectory.models import App, AppSubmission
from tests.commands import apply, run
from tests.conftest import DATABASES
from tests.servers.s3_server import proxy
from tests.servers.websites import reply, site
from tests.worlds.local_media import PNG, picture, submission

pytestmark = pytest.mark.django_db(transaction=True, databases=DATABASES)

COMMAND = "migrate_media_to_r2"


def name_files(project, count: int, size: int) -> None:
    """Let as many rows name a file each, as file fields do."""
    App.objects.bulk_create(App(name_en="a", main_image_en=f"apps/{n}.png") for n in range(count))
    for number in range(count):
        picture(project, f"apps/{number}.png", bytes([number]) * (size - len(PNG)))


# What it costs


@pytest.mark.parametrize(
    ("count", "class_a", "class_b", "usd"),
    [
        # A HEAD and a PUT each: 3 x $4.50 and 3 x $0.36 a million.
        (3, 3, 3, "0.00001458"),
        # A LIST for all of them, and a PUT each: 21 x $4.50 a million.
        (20, 21, 0, "0.0000945"),
    ],
    ids=["few", "a page"],
)
def test_the_forecast_is_the_bill_by_hand_in_exact_decimals(project, count, class_a, class_b, usd):
    name_files(project, count, size=100_000)

    forecast = run(COMMAND)["forecast"]

    assert (forecast["class_a"], forecast["class_b"], forecast["usd"]) == (class_a, class_b, usd)
    # 0.1 MB each at $0.015 a GB-month.
    assert forecast["storage_usd_per_month"] == {3: "0.0000045", 20: "0.00003"}[count]
    assert [line for line in forecast["assumptions"] if "List prices" in line]


def test_prices_of_the_settings_are_those_of_the_forecast(project, settings):
    settings.R2MAINT = {
        **settings.R2MAINT,
        "PRICES": {"standard": {"class_a": "9", "class_b": "0"}},
    }
    name_files(project, 3, size=1000)

    assert run(COMMAND)["forecast"]["usd"] == "0.000027"


@pytest.mark.parametrize("count", [3, 20])
def test_an_apply_asks_the_bucket_what_was_forecast(remote, settings, s3_server, count):
    name_files(remote, count, size=100)
    again = submission(main_image_en="/media/apps/0.png")

    def spent(seen) -> tuple[int, int]:
        """Return Class A and Class B requests, but for those about the lease and the time."""
        own = ("/.r2maint/", "max-keys=1&")
        asked = [r for r in seen.requests if not any(part in r.target for part in own)]
        reading = sum(each.method == "HEAD" for each in asked)
        return len(asked) - reading, reading

    for _ in range(2):
        with proxy(s3_server) as seen:
            settings.R2MAINT = {**settings.R2MAINT, "ENDPOINT_URL": seen.url}
            forecast = apply(COMMAND)["forecast"]
        assert (forecast["class_a"], forecast["class_b"]) == spent(seen)
        AppSubmission.objects.filter(pk=again.pk).update(main_image_ar="/media/apps/1.png")


def test_sources_whose_bytes_are_not_known_are_told_in_the_forecast(project, settings):
    rules = {"appdirectory.AppSubmission": {"app_icon_url": {}}}
    settings.R2MAINT = {**settings.R2MAINT, "FIELDS": rules}
    submission(app_icon_url="https://elsewhere.example/icon.png")

    forecast = run(COMMAND, "--remote")["forecast"]

    assert (forecast["class_a"], forecast["usd"]) == (1, "0.0000045")
    assert [line for line in forecast["assumptions"] if line.startswith("1 source counted as one")]


def test_the_plan_says_in_a_sentence_what_it_costs(project):
    name_files(project, 3, size=1000)
    out = StringIO()

    call_command(COMMAND, stdout=out)

    assert "It takes about 3 Class A and 3 Class B requests: $0.0000" in out.getvalue()


# What is left


def test_a_value_written_meanwhile_is_counted_and_the_next_run_ends_it(project, alias):
    picture(project, "icon.png")
    submission(alias, app_icon_url="/media/icon.png")

    def name_it_again(sender, **signal):
        if AppSubmission.objects.using(alias).count() == 1:
            submission(alias, app_icon_url="https://apps.example.org/media/icon.png")

    rows_rewritten.connect(name_it_again)
    try:
        first = apply(COMMAND, exit_code=3)
    finally:
        rows_rewritten.disconnect(name_it_again)

    assert (first["summary"]["still_named"], first["summary"]["rewritten"]) == (1, 1)
    assert [
        note
        for note in first["notes"]
        if note.startswith("Still named although it was moved: by 1 value,")
    ]
    second = apply(COMMAND)["summary"]
    assert (second["still_named"], second["already_there"], second["rewritten"]) == (0, 1, 1)
    urls = set(AppSubmission.objects.using(alias).values_list("app_icon_url", flat=True))
    assert len(urls) == 1


def test_names_that_keep_their_value_and_rows_out_of_scope_are_not_still_named(project):
    picture(project, "apps/icon.png")
    App.objects.bulk_create([App(name_en="a", main_image_en="apps/icon.png")])
    submission(app_icon_url="/media/apps/icon.png")
    submission(main_image_en="/media/apps/icon.png")

    done = apply(COMMAND, "--field", "app_icon_url", "--field", "main_image_en", "--limit", "1")
    assert done["summary"]["still_named"] == 0
    picture(project, "two.png")
    submission(app_icon_url="/media/two.png", main_image_ar="/media/two.png")
    assert apply(COMMAND, "--field", "app_icon_url")["summary"]["still_named"] == 0


# How far it has come


def shown(monkeypatch, *options: str) -> str:
    """Return what a terminal sees of an apply."""
    monkeypatch.setattr("tqdm.tqdm", partial(tqdm, mininterval=0))
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 24, 120, 0, 0))
    seen: list[bytes] = []
    reader = threading.Thread(target=_read_all, args=(master, seen))
    reader.start()
    with open(slave, "w", encoding="utf-8") as terminal:
        call_command(COMMAND, "--apply", "--no-input", *options, stdout=StringIO(), stderr=terminal)
    reader.join()
    os.close(master)
    return b"".join(seen).decode()


def _read_all(master: int, seen: list[bytes]) -> None:
    try:
        while chunk := os.read(master, 4096):
            seen.append(chunk)
    except OSError:  # the other end was closed
        pass


def test_a_terminal_sees_files_and_bytes(project, monkeypatch):
    name_files(project, 3, size=2048)

    seen = shown(monkeypatch)

    assert "Hashing: 3 file" in seen
    assert "Migrating:" in seen
    assert " 3/3 " in seen
    assert "2.0 KiB of 6.0 KiB, " in seen
    assert "6.0 KiB of 6.0 KiB, " in seen
    assert "KiB/s" in seen


def test_a_terminal_sees_bytes_also_where_their_total_is_not_known(project, settings, monkeypatch):
    body = PNG + bytes(2040)
    monkeypatch.setattr("r2maint.migrate.prepare.inspect", lambda data: None)
    with site(lambda request: [reply(200, body)]) as web:
        rules = {"appdirectory.AppSubmission": {"app_icon_url": {}}}
        allowed = [f"127.0.0.1:{web.port}"]
        settings.R2MAINT = {**settings.R2MAINT, "FETCH_ALLOW": allowed, "FIELDS": rules}
        submission(app_icon_url=f"{web.url}/icon.png", main_image_en="/media/apps/0.png")
        name_files(project, 1, size=1024)

        seen = shown(monkeypatch, "--remote")

    assert " 2/2 " in seen
    assert "3.0 KiB, " in seen
    assert " of " not in seen


def test_no_terminal_and_no_progress_see_nothing(project, monkeypatch):
    name_files(project, 1, size=1024)
    assert shown(monkeypatch, "--no-progress") == ""
    err = StringIO()
    call_command(COMMAND, stdout=StringIO(), stderr=err)
    assert err.getvalue() == ""
