"""Read the keep set of 200,000 rows on SQLite, PostgreSQL and MariaDB, and compare what that takes.

    python benchmarks/read_keepset.py [--rows 200000] [--database sqlite|postgresql|mariadb]

Each reads in a process of its own, which prints its CPU seconds (without the server's) and its peak
memory. Needs MariaDB and its driver (`.ci/run` installs both).
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from projects import ROOT, describe_database

KINDS = ("sqlite", "postgresql", "mariadb")
URL = "https://media.example.org/submissions/QAD-{row:06d}/{part}.webp"
BATCH = 5000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--database", choices=KINDS)
    options = parser.parse_args()
    if options.database:
        measure(options.database, options.rows)
        return
    for kind in KINDS:
        command = [sys.executable, __file__, "--database", kind, "--rows", str(options.rows)]
        subprocess.run(command, cwd=ROOT, check=True)


def measure(kind: str, rows: int) -> None:
    """Fill a database, read it once, and print what that took."""
    import django
    from django.conf import settings

    import settings_test

    with tempfile.TemporaryDirectory() as directory:
        given = {
            name: getattr(settings_test, name) for name in dir(settings_test) if name.isupper()
        }
        given["DATABASES"] = {"default": describe_database(kind, Path(directory))}
        settings.configure(**given | {"BASE_DIR": Path(directory), "DEBUG": False})
        django.setup()
        fill(rows)
        read(kind)


def fill(rows: int) -> None:
    from django.core.management import call_command

    from tests.appdirectory.models import AppSubmission

    call_command("migrate", run_syncdb=True, verbosity=0)
    for start in range(0, rows, BATCH):
        AppSubmission.objects.bulk_create(
            AppSubmission(
                tracking_id=f"QAD-{row}",
                app_name_en="An app of many words",
                description_en="What it does, in some words. " * 8,
                app_icon_url=URL.format(row=row, part="icon"),
                screenshots_en=[URL.format(row=row, part=part) for part in range(3)],
            )
            for row in range(start, min(start + BATCH, rows))
        )


def read(kind: str) -> None:
    from django.db import connections

    from r2maint.database.catalogue import list_tables
    from r2maint.database.snapshot import iter_cells, open_snapshot

    connections.close_all()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began, characters = time.process_time(), 0
    with open_snapshot("default") as connection:
        for table in list_tables(connection):
            characters += sum(len(text) for _, text, _ in iter_cells(connection, table))
    spent = time.process_time() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    told = {"database": kind, "cpu_seconds": round(spent, 2), "characters": characters}
    print(json.dumps(told | {"peak_mib": peak // 1024, "grown_mib": (peak - before) // 1024}))


if __name__ == "__main__":
    main()
