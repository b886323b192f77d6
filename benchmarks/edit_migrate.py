"""Edit a thousand cells from another process while a migration runs, and look for each of them.

    python benchmarks/edit_migrate.py [--edits 1000] [--seed N] [--database postgres]
                                      [--server rclone]

Addresses in URL columns, elements of JSON lists, text around addresses and names of files are
edited, rows are deleted, and new ones are made that name the same files. Printed are how many of
each, how many rewrites they forestalled, and what the migration told; the exit code is 1 when an
edit was lost, when the report counts otherwise than the edits do, or when running again does not
finish the rest. The servers are those of `kill_migrate.py`.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from projects import ROOT, describe_database, server

SIZES = {"singles": 420, "shared": 400, "names": 40, "texts": 60}
RATE, BATCH = 60, 100
"""The migration takes a quarter of a minute, and rows follow from its second second on."""


def main() -> None:
    options = read_options()
    with tempfile.TemporaryDirectory(prefix="r2maint-bench-") as directory:
        database = describe_database(options.database, Path(directory))
        with server(options.server, Path(directory) / "bucket") as endpoint:
            told = edited(
                {
                    "directory": directory,
                    "database": database,
                    "endpoint": endpoint,
                    "bucket": "media",
                    "edits": options.edits,
                    "seed": options.seed,
                    "sizes": SIZES,
                    "rate": RATE,
                    "batch": BATCH,
                }
            )
    print(f"seed {options.seed}, {options.database}, {options.server}")
    for name in ("edits", "lost_rewrites", "summary"):
        print(f"{name.replace('_', ' ')}: {told[name]}")
    print(f"{len(told['broken'])} promises broken", *told["broken"], sep="\n")
    if told["outlasted"]:
        sys.exit("The edits outlasted the migration: not all was proved.")
    sys.exit(bool(told["broken"]))


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--edits", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--server", choices=("moto", "rclone"), default="moto")
    return parser.parse_args()


def edited(task: dict) -> dict:
    command = [sys.executable, "-m", "tests.attacks.edit_rows", json.dumps(task)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


if __name__ == "__main__":
    main()
