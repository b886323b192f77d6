"""Migrate ten thousand files and compare it with `s5cmd cp` of the same directory.

    python benchmarks/migrate.py [--files 10000] [--bytes 30720] [--rounds 5] [--database postgres]
                                 [--keys default]

Each round starts the same S3 server (`rclone serve s3` on a directory) anew for either side, and
the sides take turns in going first: `s5cmd cp` copies the files, `migrate_media_to_r2 --apply
--no-input` moves them and rewrites the rows that name them, one row a file, as one process from the
interpreter's start to its end. Printed are seconds, CPU and peak memory of each, and the ratio of
every round with the median of them. Needs rclone and s5cmd on PATH; the PostgreSQL comes from the
test suite's wheel.

The server keeps each object as a file, and what it spends on one grows with the directories it has
to make and the names they hold; R2 has none. So both sides fill the same hundred directories,
`FIELDS` giving the key. With `--keys default` each row has a directory of its own below one that
holds all of them: what the server spends on that is counted against the migration.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1])]

KEY_ID, SECRET = "0123456789abcdef0123456789abcdef", "secret-0123456789abcdef"
KEYS = {"alike": "uploads/{app_name_en}/{stem}.{hash}{ext}", "default": ""}
"""Templates of FIELDS; "alike" puts the files where `s5cmd cp` puts them."""
PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Cost:
    seconds: float
    cpu_seconds: float
    peak_mib: int


def main() -> None:
    options = read_options()
    # Not at the top: the child that is measured needs none of it.
    from projects import describe_database

    with tempfile.TemporaryDirectory(prefix="r2maint-bench-") as directory:
        work = Path(directory)
        fill_media(work / "media" / "uploads", options.files, options.bytes)
        database = describe_database(options.database, work)
        # Sides take turns in going first: machines tire.
        ratios = [
            one_round(work, database, options, peer_first=number % 2 == 0)
            for number in range(options.rounds)
        ]
    ratios.sort()
    shown = " ".join(f"{ratio:.2f}" for ratio in ratios)
    print(
        f"ratio to s5cmd cp, {options.database}, keys {options.keys}:"
        f" median {statistics.median(ratios):.2f} ({shown})"
    )


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--bytes", type=int, default=30 * 1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--keys", choices=sorted(KEYS), default="alike")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        migrate(json.loads(options.child))
        sys.exit()
    return options


def fill_media(root: Path, files: int, size: int) -> None:
    for number in range(files):
        path = root / f"{number % 100:02d}" / f"picture-{number:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PNG + os.urandom(size - len(PNG)))


def one_round(
    work: Path, database: dict, options: argparse.Namespace, *, peer_first: bool
) -> float:
    """Time both sides, each on a server of its own, and return their ratio."""
    from projects import server

    files = options.files
    media = str(work / "media")
    child = {"database": database, "media": media, "files": files, "keys": options.keys}
    run_child({**child, "fill": True})
    seconds = {}
    for side in ("peer", "ours") if peer_first else ("ours", "peer"):
        with server("rclone", work / "server") as endpoint:
            (work / "server" / "media").mkdir(exist_ok=True)
            seconds[side] = SIDES[side](work, {**child, "endpoint": endpoint}).seconds
    run_child({**child, "check": True})
    print(f"  {files / seconds['ours']:,.0f} files/s", flush=True)
    return seconds["ours"] / seconds["peer"]


def copy(work: Path, child: dict) -> Cost:
    command = ["s5cmd", "--endpoint-url", child["endpoint"], "cp"]
    return measure([*command, f"{work}/media/*", "s3://media/"], "s5cmd cp", child["files"])


def move(work: Path, child: dict) -> Cost:
    return measure(child_command(child), "migrate", child["files"])


SIDES = {"peer": copy, "ours": move}


def measure(command: list[str], label: str, files: int) -> Cost:
    environment = {**os.environ, "AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET}
    begun = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - begun
    if process.returncode:
        raise SystemExit(f"{label} ended with {process.returncode}.")
    cost = Cost(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss // 1024)
    told = f"{cost.seconds:.2f} s, {1000 * cost.cpu_seconds / files:.2f} ms CPU a file"
    print(f"{label}: {told}, {cost.peak_mib} MiB", flush=True)
    return cost


def child_command(task: dict) -> list[str]:
    return [sys.executable, __file__, "--child", json.dumps(task)]


def run_child(task: dict) -> None:
    subprocess.run(child_command(task), check=True)


def migrate(task: dict) -> None:
    """Do one part of a round in a process of its own."""
    set_up(task)
    from django.core.management import call_command

    if task.get("fill"):
        fill_rows(task["files"])
    elif task.get("check"):
        check(task["files"])
    else:
        call_command("migrate_media_to_r2", "--apply", "--no-input", "--no-progress")


def set_up(task: dict) -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "settings_test"
    from django.conf import settings

    settings.DATABASES = {"default": task["database"]}
    settings.DEBUG = False
    settings.MEDIA_ROOT = task["media"]
    settings.R2MAINT = {
        "BUCKET": "media",
        "ENDPOINT_URL": task.get("endpoint", "http://127.0.0.1:9"),
        "ACCESS_KEY_ID": KEY_ID,
        "SECRET_ACCESS_KEY": SECRET,
        "PUBLIC_URL": "https://media.example.org/",
    }
    if template := KEYS[task["keys"]]:
        rule = {"app_icon_url": {"key": template}}
        settings.R2MAINT["FIELDS"] = {"appdirectory.AppSubmission": rule}
    import django

    django.setup()


def fill_rows(files: int) -> None:
    from django.core.management import call_command

    from r2maint.models import Change, Run

    call_command("migrate", run_syncdb=True, verbosity=0)
    from tests.appdirectory.models import AppSubmission

    for model in (AppSubmission, Change, Run):
        model.objects.all().delete()
    rows = (
        AppSubmission(
            tracking_id=f"QAD-{number:06d}",
            app_name_en=f"{number % 100:02d}",
            app_icon_url=f"/media/uploads/{number % 100:02d}/picture-{number:06d}.png",
        )
        for number in range(files)
    )
    AppSubmission.objects.bulk_create(rows, batch_size=1000)


def check(files: int) -> None:
    """Fail unless every row was rewritten and journalled."""
    from r2maint.models import Change, ChangeKind, ChangeState
    from tests.appdirectory.models import AppSubmission

    moved = AppSubmission.objects.filter(app_icon_url__startswith="https://media.example.org/")
    done = Change.objects.filter(state=ChangeState.DONE)
    counts = (
        moved.count(),
        *(done.filter(kind=k).count() for k in (ChangeKind.REWRITE, ChangeKind.UPLOAD)),
    )
    assert counts == (files, files, files), counts


if __name__ == "__main__":
    main()
