"""Make the small sites that `test_upgrade.py` goes on with, by real runs of the commands.

Run with the code that a site is to come from, never with the code that is to be tested. The ones
in `sites/` come from the last commit before modules of the package were moved:

    git worktree add ../before 3930588
    PYTHONPATH=../before python tests/upgrade/make_site.py

Started as a file, so that `r2maint` and `tests.appdirectory` come from PYTHONPATH and only the
modules beside this one from here. Each site is made in a directory of its own by child processes:
a killed run is a child that sends itself SIGKILL at one step of its work. What is expected of a
site afterwards is what the same code makes of a copy.
"""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import archive
import django
import small_site
from django.conf import settings
from small_site import apply, run, state, undo

SITES = Path(__file__).parent / "sites"
BASE = "https://media.example.org/"
ALIAS = "https://pub-0123456789abcdef.r2.dev/"
R2MAINT: dict[str, Any] = {
    "BUCKET": "file:bucket",
    "PUBLIC_URL": BASE,
    "ALIASES": [ALIAS],
    "MANAGED_PREFIXES": ["submissions/", "apps/"],
    "PROTECTED": ["apps/*.json"],
    # Sites are kept for years, and their runs are to stay within it.
    "UNDO_WINDOW": "36500d",
    "FIELDS": {
        "appdirectory.AppSubmission": {
            "app_icon_url": {"key": "submissions/{tracking_id}/icons/{stem}.{hash}{ext}"},
            "main_image_en": {"key": "submissions/{tracking_id}/main_en/{stem}.{hash}{ext}"},
            "screenshots_en": {"key": "submissions/{tracking_id}/screens_en/{stem}.{hash}{ext}"},
            "description_en": {"text": True},
        },
    },
}
AT_ONCE = ("--grace", "0", "--max-delete", "100%")
"""Without waiting; an earlier run must have seen the same orphans all the same."""
BATCH = 3
"""Objects that are copied, deleted or removed from quarantine together."""
LATER_SECONDS = 120
"""A lease is over by then."""
DAYS = 8
"""Of usage reports: the first number from which they tell of growth."""


# Killing


@dataclass(slots=True)
class Kill:
    """Sends this process SIGKILL at one step: the `nth` that `is_step` is true of.

    Steps are SQL statements, of the database and of the bucket's index, and paths of files that are
    removed.
    """

    is_step: Callable[[str], bool]
    nth: int

    def arm(self) -> None:
        connect = sqlite3.connect

        def traced(*args: Any, **options: Any) -> sqlite3.Connection:
            connection = connect(*args, **options)
            connection.set_trace_callback(self._seen)
            return connection

        sqlite3.connect = sqlite3.dbapi2.connect = traced
        sys.addaudithook(self._audit)

    def _audit(self, event: str, given: tuple[Any, ...]) -> None:
        if event == "os.remove":
            self._seen(f"remove {given[0]}")

    def _seen(self, step: str) -> None:
        if self.is_step(step):
            self.nth -= 1
            if not self.nth:
                os.kill(os.getpid(), signal.SIGKILL)


def before(start: str, nth: int) -> Kill:
    """Kill before the nth statement that begins so, or removal of a file."""
    return Kill(lambda step: step.startswith(start), nth)


# Sites


@dataclass(frozen=True, slots=True)
class Site:
    """One site in the making."""

    directory: Path

    def act(self, act: Callable[[], Any], kill: Kill | None = None) -> Any:
        """Call `act` in a child process that stands in the site; return what it returns."""
        return _in_child(self.directory, act, kill)

    def kill(self, act: Callable[[], Any], kill: Kill) -> None:
        """Let `act` be killed; then it is so long ago that its lease is over."""
        self.act(act, kill)
        with closing(sqlite3.connect(self.directory / "bucket" / "index.sqlite3")) as index, index:
            index.execute(
                "UPDATE objects SET modified_at = modified_at - ? WHERE key = ?",
                (LATER_SECONDS, b".r2maint/lease"),
            )

    def expect(self, act: Callable[[], Any]) -> Any:
        """Return what `act` returns in a copy of the site."""
        copy = self.directory.with_name(self.directory.name + "-copy")
        shutil.copytree(self.directory, copy)
        try:
            return Site(copy).act(act)
        finally:
            shutil.rmtree(copy)


def _in_child(directory: Path, act: Callable[[], Any], kill: Kill | None) -> Any:
    with tempfile.TemporaryFile() as answer:
        child = os.fork()
        if not child:
            code = 1
            try:
                os.chdir(directory)
                if kill is not None:
                    kill.arm()
                answer.write(json.dumps(act()).encode())
                answer.flush()
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if ended != (0 if kill is None else -signal.SIGKILL):
            raise SystemExit(f"A child ended with {ended}: {directory.name}.")
        answer.seek(0)
        return json.loads(answer.read() or b"null")


def finished() -> dict[str, Any]:
    """Make a site in which one run of each kind came to its end, one after the other."""
    site = _new("finished")
    before_all = site.act(_fill)
    aside = site.act(lambda: _run_id("migrate_media_to_r2", "--where", "tracking_id=QAD-1"))
    site.act(lambda: undo(aside) and None)
    _require(site.act(small_site.rows) == before_all["rows"], "the first undo left something")
    runs: dict[str, str] = {}
    states = [before_all]
    for name, act in _RUNS.items():
        runs[name] = site.act(lambda act=act: act(runs))
        states.append(site.act(state))
    site.act(_go_on_looking)
    facts = {
        "runs": runs,
        "undone_run": aside,
        "listed": site.act(_listed),
        "shown": {run_id: site.act(lambda r=run_id: _shown(r)) for run_id in runs.values()},
        "state": site.act(state),
        "history": site.act(_history),
        "usage_days": site.act(_usage_days),
        "undone": site.expect(lambda: _undo_all(runs)),
    }
    for name, after in facts["undone"].items():
        earlier = states[list(runs).index(name)]
        _require(after["rows"] == earlier["rows"], f"undoing {name} left other rows")
        _require(after["files"] == earlier["files"], f"undoing {name} left other files")
        _require(
            all(after["objects"].get(key) == each for key, each in earlier["objects"].items()),
            f"undoing {name} left objects out",
        )
    return facts


def _migrate(runs: dict[str, str]) -> str:
    return _run_id("migrate_media_to_r2")


def _remove_local(runs: dict[str, str]) -> str:
    return _run_id("migrate_media_to_r2", "--remove-local", runs["migrate"], exit_code=3)


def _repair(runs: dict[str, str]) -> str:
    for _ in range(2):
        run("verify_urls", exit_code=3)
    return _run_id("verify_urls", "--repair", "all", exit_code=3)


def _reoptimize(runs: dict[str, str]) -> str:
    return _run_id("reoptimize")


def _purge(runs: dict[str, str]) -> str:
    _put_orphans(5)
    # One object of eight is missing, as in many a bucket when it is purged for the first time.
    options = (*AT_ONCE, "--override", "missing")
    run("purge_orphans", *options)
    return _run_id("purge_orphans", *options, "--adopt")


_RUNS = {
    "migrate": _migrate,
    "remove_local": _remove_local,
    "repair": _repair,
    "reoptimize": _reoptimize,
    "purge": _purge,
}


def _go_on_looking() -> None:
    """See an orphan for the first time, and report the bucket on several days."""
    from r2maint.bucket.directory import DirectoryBucket

    _put("submissions/temp/seen once.png", _icon(40))
    run("purge_orphans", *AT_ONCE)
    today = datetime.now(tz=UTC)
    for day in reversed(range(DAYS)):
        DirectoryBucket.now = lambda self, day=day: today - timedelta(days=day)  # type: ignore[method-assign]
        run("usage_report")


def _undo_all(runs: dict[str, str]) -> dict[str, Any]:
    """Undo the runs, newest first, and return the state after each."""
    found = {}
    for name in reversed(runs):
        document = undo(runs[name])
        found[name] = {**state(), "actions": _count(document["items"], "action")}
    return found


def migrate_killed() -> dict[str, Any]:
    """Make a site whose migration was killed between two rows."""
    site = _new("migrate_killed")
    begun = site.act(_fill)
    site.kill(lambda: apply("migrate_media_to_r2"), before('UPDATE "app_submissions"', 3))
    return _killed_facts(site, begun, "migrate_media_to_r2")


def remove_local_killed() -> dict[str, Any]:
    """Make a site where a removal of local files was killed between two files."""
    site = _new("remove_local_killed")
    begun = site.act(_fill)
    moved = site.act(lambda: _run_id("migrate_media_to_r2"))
    command = ("migrate_media_to_r2", "--remove-local", moved)
    is_file = Kill(lambda step: step.startswith("remove ") and step.endswith(".png"), 3)
    site.kill(lambda: apply(*command), is_file)
    return _killed_facts(site, begun, *command) | {"moved_by": moved}


def undo_killed() -> dict[str, Any]:
    """Make a site where the undo of a migration was killed between two rows."""
    site = _new("undo_killed")
    begun = site.act(_fill)
    moved = site.act(lambda: _run_id("migrate_media_to_r2"))
    command = ("r2_runs", moved, "--undo")
    site.kill(lambda: apply(*command), before('UPDATE "app_submissions"', 3))
    return _killed_facts(site, begun, *command) | {"moved_by": moved}


def repair_killed() -> dict[str, Any]:
    """Make a site where a repair of URLs was killed between two rows."""
    site = _new("repair_killed")
    begun = site.act(_fill_aliases)
    command = ("verify_urls", "--repair", "all")
    site.kill(lambda: apply(*command), before('UPDATE "app_submissions"', 3))
    return _killed_facts(site, begun, *command)


def reoptimize_killed() -> dict[str, Any]:
    """Make a site whose re-encoding was killed when one picture was done and one was stored."""
    site = _new("reoptimize_killed")
    begun = site.act(_fill_pictures)
    site.kill(lambda: apply("reoptimize"), before('UPDATE "app_submissions"', 2))
    return _killed_facts(site, begun, "reoptimize")


def purge_killed() -> dict[str, Any]:
    """Make a site whose purge was killed when some objects were deleted and all were copied."""
    site = _new("purge_killed")
    begun = site.act(_fill_orphans)
    site.act(lambda: run("purge_orphans", *AT_ONCE) and None)
    kill = before("DELETE FROM objects", BATCH + 1)
    site.kill(lambda: apply("purge_orphans", *AT_ONCE, "--adopt"), kill)
    return _killed_facts(site, begun, "purge_orphans", *AT_ONCE)


def purge_killed_copying() -> dict[str, Any]:
    """Make a site whose purge was killed when some objects were copied and none deleted."""
    site = _new("purge_killed_copying")
    begun = site.act(_fill_orphans)
    site.act(lambda: run("purge_orphans", *AT_ONCE) and None)
    kill = Kill(lambda step: step.startswith("INSERT OR REPLACE INTO objects") and _COPY in step, 5)
    site.kill(lambda: apply("purge_orphans", *AT_ONCE, "--adopt"), kill)
    return _killed_facts(site, begun, "purge_orphans", *AT_ONCE)


_COPY = b".r2maint/quarantine/".hex()
"""As a trace writes the beginning of a key."""


def emptying_killed() -> dict[str, Any]:
    """Make a site where the emptying of the quarantine was killed between two batches."""
    site = _new("emptying_killed")
    site.act(_fill_orphans)
    site.act(lambda: run("purge_orphans", *AT_ONCE) and None)
    site.act(lambda: _run_id("purge_orphans", *AT_ONCE, "--adopt"))
    begun = site.act(state)
    command = ("purge_orphans", "--empty-quarantine", "--older-than", "0")
    site.kill(lambda: apply(*command), before("DELETE FROM objects", BATCH + 1))
    return _killed_facts(site, begun, *command)


def _killed_facts(site: Site, begun: dict[str, Any], *command: str) -> dict[str, Any]:
    """Return what is known of a site with a killed run, and what the next execution makes of it."""
    killed, *others = [each for each in site.act(_listed) if each["state"] == "running"]
    _require(not others, "more than one run is unfinished")
    facts = {
        "command": list(command),
        "run": killed["run_id"],
        "begun": begun,
        "killed": site.act(state),
        "copies": site.act(small_site.copies),
        "changes": site.act(lambda: _count(_shown(killed["run_id"]), "kind", "state")),
        "finished": site.expect(lambda: _finish(command, killed["run_id"])),
    }
    _require(facts["changes"], "the killed run wrote nothing down")
    return facts


def _finish(command: tuple[str, ...], run_id: str) -> dict[str, Any]:
    document = apply(*command, exit_code=_exit_code(command))
    _require(document["run_id"] == run_id, "another run finished")
    return {**state(), "copies": small_site.copies(), "exit_code": document["exit_code"]}


def _exit_code(command: tuple[str, ...]) -> int:
    """Return 3 where something stays to be told: a missing object, a file that a row names."""
    return 3 if command[0] == "verify_urls" or "--remove-local" in command else 0


SITES_TO_MAKE = (
    finished,
    migrate_killed,
    remove_local_killed,
    undo_killed,
    repair_killed,
    reoptimize_killed,
    purge_killed,
    purge_killed_copying,
    emptying_killed,
)


# What is in them


def _fill() -> dict[str, Any]:
    """Make local files, objects of the time before, and rows that name them in every shape."""
    from tests.appdirectory.models import App, AppSubmission

    for number, name in enumerate(
        ("one.png", "two words.png", "أيقونة.png", "four.png", "app.png")
    ):
        _write(name, _icon(number))
    _put("submissions/legacy/alias.png", _icon(20))
    _put("submissions/legacy/photo.jpg", _photograph(1), "image/jpeg")
    _put("submissions/legacy/small.webp", _webp(), "image/webp")
    _put("submissions/legacy/noise.jpg", _noise(), "image/jpeg")
    create = AppSubmission.objects.create
    create(tracking_id="QAD-1", app_name_en="One", app_icon_url="/media/one.png")
    create(
        tracking_id="QAD-2",
        app_name_en="Two",
        app_icon_url="/media/one.png",
        screenshots_en=["/media/two%20words.png", "x", {"url": "/media/أيقونة.png"}],
    )
    create(
        tracking_id="QAD-3",
        app_name_en="Three",
        description_en='<img src="/media/four.png"> and <img src="/media/four.png">',
        main_image_en=f"{ALIAS}submissions/legacy/alias.png",
    )
    create(
        tracking_id="QAD-4",
        app_name_en="Four",
        app_icon_url=f"{BASE}submissions/legacy/photo.jpg",
        main_image_en=f"{BASE}submissions/legacy/small.webp",
        screenshots_en=[f"{BASE}submissions/legacy/lost.png"],
    )
    url = f"{BASE}submissions/legacy/noise.jpg"
    create(tracking_id="QAD-5", app_name_en="Five", app_icon_url=url, main_image_en=url)
    App.objects.bulk_create([App(name_en="a", application_icon="app.png")])
    return state()


def _fill_aliases() -> dict[str, Any]:
    """Make rows that name objects by another base of the bucket."""
    from tests.appdirectory.models import AppSubmission

    for number in range(4):
        _put(f"submissions/{number}.png", _icon(number))
        AppSubmission.objects.create(
            tracking_id=f"QAD-{number}",
            app_icon_url=f"{ALIAS}submissions/{number}.png",
            screenshots_en=[f"{ALIAS}submissions/0.png", "x"],
        )
    AppSubmission.objects.create(tracking_id="QAD-9", app_icon_url=f"{BASE}submissions/lost.png")
    return state()


def _fill_pictures() -> dict[str, Any]:
    """Make pictures that get smaller, each named by two rows."""
    from tests.appdirectory.models import AppSubmission

    for number in range(4):
        key = f"submissions/{number}.jpg"
        _put(key, _photograph(number), "image/jpeg")
        AppSubmission.objects.create(
            tracking_id=f"QAD-{number}", app_icon_url=BASE + key, screenshots_en=["x", BASE + key]
        )
    return state()


def _fill_orphans() -> dict[str, Any]:
    """Make objects that nothing names, and some that rows name."""
    from tests.appdirectory.models import AppSubmission

    _put_orphans(8)
    for number in range(3):
        _put(f"apps/named {number}.png", _icon(30 + number))
        AppSubmission.objects.create(
            tracking_id=f"QAD-{number}", app_icon_url=f"{BASE}apps/named%20{number}.png"
        )
    _put("apps/protected.json", b"{}", "application/json")
    return state()


def _put_orphans(count: int) -> None:
    """Store objects with every header there is, under keys of every kind."""
    for number in range(count):
        name = ("plain {}.png", "أيقونة {}.png", "100% {}.png", "a//b {}.png")[number % 4]
        _put(
            f"submissions/temp/{name.format(number)}",
            _icon(50 + number),
            cache_control=f"public, max-age={number}",
            content_disposition=f'inline; filename="{number}.png"',
            content_language="ar",
            metadata={"number": str(number)},
        )


def _put(key: str, body: bytes, content_type: str = "image/png", **headers: Any) -> None:
    from r2maint.bucket import Headers, Upload, open_bucket, put
    from r2maint.conf import load

    upload = Upload(key=key, body=body, headers=Headers(content_type=content_type, **headers))
    put(open_bucket(load()), upload)


def _write(name: str, body: bytes) -> None:
    (small_site.HERE / "media" / name).write_bytes(body)


def _icon(number: int) -> bytes:
    from tests.appdirectory import drawings

    return drawings.icon(number, 24)


def _photograph(number: int) -> bytes:
    from tests.appdirectory import drawings

    return drawings.photograph(number, (160, 120))


def _webp() -> bytes:
    """Return a picture that is in the best format already."""
    from PIL import Image

    out = io.BytesIO()
    Image.open(io.BytesIO(_photograph(9))).save(out, "WEBP", quality=90)
    return out.getvalue()


def _noise() -> bytes:
    """Return a picture that any encoder makes larger."""
    from PIL import Image

    out = io.BytesIO()
    noise = Image.frombytes("L", (64, 64), random.Random(1).randbytes(64 * 64))
    noise.save(out, "JPEG", quality=20)
    return out.getvalue()


# What is known of them


def _run_id(command: str, *arguments: str, exit_code: int = 0) -> str:
    return str(apply(command, *arguments, exit_code=exit_code)["run_id"])


def _listed() -> list[dict[str, Any]]:
    return list(run("r2_runs")["items"])


def _shown(run_id: str) -> list[dict[str, Any]]:
    return list(run("r2_runs", run_id)["items"])


def _history() -> list[dict[str, Any]]:
    """Return what the memory of URLs holds of what fails."""
    from r2maint.models import Health

    return [
        {
            "subject": each.subject,
            "failures": each.failures,
            "first_failed_at": each.first_failed_at.isoformat(),
        }
        for each in Health.objects.filter(failures__gt=0)
    ]


def _usage_days() -> list[dict[str, Any]]:
    from r2maint.models import Snapshot

    days = Snapshot.objects.order_by("day").values_list("day", "standard_bytes")
    return [{"day": day.isoformat(), "bytes": size} for day, size in days]


def _count(items: list[dict[str, Any]], *names: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    for item in items:
        what = " ".join(str(item[name]) for name in names)
        counts[what] = counts.get(what, 0) + 1
    return counts


def _require(condition: object, what: str) -> None:
    if not condition:
        raise SystemExit(f"The site is not as it should be: {what}.")


# The frame


_work = Path()


def _new(name: str) -> Site:
    site = Site(_work / name)
    (site.directory / "media").mkdir(parents=True)
    site.act(_create_tables)
    return site


def _create_tables() -> None:
    from django.core.management import call_command

    call_command("migrate", run_syncdb=True, verbosity=0)


def main() -> None:
    global _work
    settings.configure(
        **small_site.django_settings(),
        SECRET_KEY="only for a small site",
        USE_TZ=True,
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        DATABASES={"default": small_site.database()},
        R2MAINT=R2MAINT,
    )
    django.setup()
    # No machine's name belongs into a fixture.
    socket.gethostname = lambda: "site"
    _shrink_batches()
    import r2maint

    source = Path(r2maint.__file__).parent.parent
    commit = subprocess.run(
        ["git", "-C", source, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    )
    made = {"commit": commit.stdout.strip(), "version": r2maint.__version__, "R2MAINT": R2MAINT}
    with tempfile.TemporaryDirectory(prefix="site-") as directory:
        _work = Path(directory)
        for make in SITES_TO_MAKE:
            target = SITES / f"{make.__name__}.tar.xz"
            facts = make()
            archive.pack(_work / make.__name__, made | facts, target)
            _require(directory not in archive.text_of(target), "it names its directory")
            print(f"{target.name}: {target.stat().st_size} bytes")  # noqa: T201


def _shrink_batches() -> None:
    """Let a kill find some batches done and others not; of the code the sites come from."""
    from r2maint import undo as undoing
    from r2maint.migrate import moving, removal
    from r2maint.purge import discarding, steps
    from r2maint.references import swap
    from r2maint.verify import repairing

    steps.BATCH = discarding.BATCH = BATCH
    moving.BATCH = removal.BATCH = 2
    swap.MAX_ROWS = undoing._BATCH = repairing._BATCH = 1


if __name__ == "__main__":
    main()
