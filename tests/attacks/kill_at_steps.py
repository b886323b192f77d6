"""Kill commands with SIGKILL at single steps of their work, and run them again.

A process of its own: `python -m tests.attacks.kill_at_steps DIRECTORY STRIDE`. It prints a JSON line for each
command undisturbed, and one for each kill: what it left, and what the next execution made of it. A
step is a statement that writes (to the project's database or the bucket's index), or a file of the
bucket that is made, moved or removed. Processes are forked: to import Django anew for each would
take minutes.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import signal
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.core.management import load_command_class

from tests.attacks.forked_children import Child, forked

LATER_SECONDS = 120
"""A lease is over by then."""
TABLES = ("app_submissions", "appdirectory_app", "oddities_gallery", "oddities_listing")
_WRITES = ("BEGIN", "COMMIT", "INSERT", "UPDATE", "DELETE", "REPLACE")


class _Steps:
    """Counts the steps of this process below a directory; the last one is never taken."""

    def __init__(self, directory: Path, last: int | None) -> None:
        self._directory = str(directory)
        self._last = last
        self.count = 0
        self._connect = sqlite3.connect
        sqlite3.connect = sqlite3.dbapi2.connect = self._traced
        sys.addaudithook(self._audit)

    def _traced(self, database: Any, *args: Any, **options: Any) -> sqlite3.Connection:
        connection = self._connect(database, *args, **options)
        if str(database).startswith(self._directory):
            connection.set_trace_callback(self._statement)
        return connection

    def _statement(self, sql: str) -> None:
        if sql.startswith(_WRITES):
            self._step()

    def _audit(self, event: str, given: tuple[Any, ...]) -> None:
        is_change = event in ("os.rename", "os.remove", "os.mkdir")
        is_made = event == "open" and given[1] == "wb"
        if (is_change or is_made) and str(given[0]).startswith(self._directory):
            self._step()

    def _step(self) -> None:
        self.count += 1
        if self.count == self._last:
            os.kill(os.getpid(), signal.SIGKILL)


def main(directory: Path, stride: int) -> None:
    work = directory / "work"
    _configure(work, directory / "media")
    forked(lambda: _prepare(work, directory / "media"))
    _kill_often("migrate", work, directory / "first", stride)
    forked(_migrate)
    _kill_often("undo", work, directory / "second", stride)
    forked(_spoil)
    _kill_often("repair", work, directory / "third", stride)


def _kill_often(command: str, work: Path, fresh: Path, stride: int) -> None:
    """Kill one command at every `stride`-th of its steps, each time in the same project."""
    act = _COMMANDS[command]
    shutil.copytree(work, fresh)
    steps, state = json.loads(forked(lambda: _undisturbed(work, act)))
    _print({"command": command, "steps": steps, "state": state})
    for last in range(1, steps + 1, stride):
        shutil.rmtree(work)
        shutil.copytree(fresh, work)
        Child(lambda last=last: _watched(work, last, act)).require_killed()
        line = {"command": command, "killed_at": last}
        _print(line | json.loads(forked(lambda: _again(work, act))))
    shutil.rmtree(work)
    shutil.copytree(fresh, work)


def _configure(work: Path, media: Path) -> None:
    import settings_test

    given = {name: getattr(settings_test, name) for name in dir(settings_test) if name.isupper()}
    given["DATABASES"] = {
        "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": work / "rows.sqlite3"}
    }
    given["MEDIA_ROOT"] = media
    given["BASE_DIR"] = work
    given["R2MAINT"] = given["R2MAINT"] | {"BUCKET": "file:bucket"}
    settings.configure(**given)
    django.setup()
    for command in ("migrate_media_to_r2", "r2_runs", "purge_orphans", "verify_urls"):
        load_command_class("r2maint", command)  # imported once, not in every child


def _prepare(work: Path, media: Path) -> str:
    from django.core.management import call_command

    from tests.appdirectory.models import App, AppSubmission
    from tests.oddities.models import Gallery, Listing

    work.mkdir(parents=True)
    media.mkdir()
    call_command("migrate", run_syncdb=True, verbosity=0)
    for name in ("one.png", "two.png", "أيقونة.png", "app.png"):
        (media / name).write_bytes(b"\x89PNG\r\n\x1a\n" + name.encode())
    AppSubmission.objects.create(
        tracking_id="QAD-1", app_icon_url="/media/one.png", screenshots_en=["/media/two.png", "x"]
    )
    AppSubmission.objects.create(tracking_id="QAD-2", app_icon_url="/media/one.png")
    Gallery.objects.create(pk="0" * 32, content={"a": [{"ب": "/media/أيقونة.png"}], "n": None})
    Listing.objects.create(cover_url="/media/two.png")
    App.objects.bulk_create([App(name_en="a", application_icon="app.png")])
    return ""


def _migrate() -> str:
    return _called("migrate_media_to_r2", "--apply", "--no-input")


def _undo() -> str:
    from r2maint.models import Run

    run_id = Run.objects.filter(command="migrate_media_to_r2").get().pk
    return _called("r2_runs", run_id, "--undo", "--apply", "--no-input")


def _spoil() -> str:
    """Let rows name objects that a purge took, and others by an alias of the bucket."""
    from r2maint.bucket import Upload, open_bucket, put
    from r2maint.conf import load
    from tests.appdirectory.models import AppSubmission

    config = load()
    taken = [f"submissions/{number}.png" for number in range(3)]
    for key in taken:
        put(open_bucket(config), Upload(key=key, body=key.encode()))
    _called("purge_orphans", *_AT_ONCE, "--apply", "--no-input")
    for number, key in enumerate(taken):
        AppSubmission.objects.create(
            tracking_id=f"QAD-9{number}",
            app_icon_url=f"{config.aliases[0]}{key}",
            screenshots_en=[f"{config.public_url}{key}", f"{config.aliases[0]}{taken[0]}"],
        )
    return ""


def _repair() -> str:
    return _called("verify_urls", "--repair", "all", "--apply", "--no-input")


_AT_ONCE = ("--grace", "0", "--no-second-look", "--max-delete", "100%", "--adopt")
_AT_ONCE = (*_AT_ONCE, "--override", "missing", "--override", "ratio")
_COMMANDS: dict[str, Callable[[], str]] = {"migrate": _migrate, "undo": _undo, "repair": _repair}


def _called(*arguments: str) -> str:
    from django.core.management import CommandError, call_command

    out = io.StringIO()
    with contextlib.suppress(CommandError):
        call_command(*arguments, "--format", "json", stdout=out, stderr=io.StringIO())
    return out.getvalue()


def _watched(work: Path, last: int | None, act: Callable[[], str]) -> int:
    steps = _Steps(work, last)
    act()
    return steps.count


def _undisturbed(work: Path, act: Callable[[], str]) -> str:
    return json.dumps([_watched(work, None, act), _state(work)])


def _again(work: Path, act: Callable[[], str]) -> str:
    """Run the command again when the lease of the killed one has ended."""
    left = _state(work)
    index = work / "bucket" / "index.sqlite3"
    # Killed early, there is no index, or none with a table.
    with contextlib.suppress(sqlite3.OperationalError):
        _age_lease(sqlite3.connect(f"file:{index}?mode=rw", uri=True))
    printed = json.loads(act())
    return json.dumps({"left": left, "printed": printed, "state": _state(work)})


def _age_lease(index: sqlite3.Connection) -> None:
    with contextlib.closing(index), index:
        index.execute(
            "UPDATE objects SET modified_at = modified_at - ? WHERE key = ?",
            (LATER_SECONDS, b".r2maint/lease"),
        )


def _state(work: Path) -> dict[str, Any]:
    """Return every row, every object, and what the journal says of them."""
    from r2maint.bucket import get, open_bucket
    from r2maint.conf import load
    from r2maint.models import Change, Run

    bucket = open_bucket(load())
    listed = [item.key for page in bucket.list_pages() for item in page]
    with contextlib.closing(sqlite3.connect(work / "rows.sqlite3")) as database:
        rows = {t: database.execute(f"SELECT * FROM {t} ORDER BY 1").fetchall() for t in TABLES}
    changes = Change.objects.order_by("database", "model", "row", "field", "path", "key", "id")
    blobs = sum(len(files) for _, _, files in os.walk(work / "bucket" / "blobs"))
    loose = sum(len(files) for _, _, files in os.walk(work / "bucket" / "loose"))
    return {
        "rows": rows,
        "objects": {
            key: hashlib.sha256(get(bucket, key).body).hexdigest()
            for key in listed
            if not key.startswith(".r2maint/")
        },
        "unlisted": blobs + loose - len(listed),
        "runs": sorted(Run.objects.values_list("command", "state", "id")),
        "rewrites": list(
            changes.filter(kind="rewrite").values_list(
                "run_id", "state", "model", "row", "field", "path", "old", "new"
            )
        ),
        "uploads": sorted(set(changes.filter(kind="upload").values_list("key", flat=True))),
    }


def _print(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
