"""Kill a migration with SIGKILL at fifty random moments, run it again each time, and undo it.

    python benchmarks/kill_migrate.py [--kills 50] [--seed N] [--database postgres]
                                      [--server rclone]

Rounds of one project each: it is migrated, killed some times on the way, finished, undone with more
kills, and finished again. After every kill each value must lead to the bytes it led to before; in
the end every row leads to its bytes in the bucket by SHA-256, no source has two keys, and the undos
leave the tables as they were, byte for byte. One of the rounds is killed when one row is left of
all that share a file. Printed are the rounds; the exit code is 1 when a promise was broken. The S3
server is moto, or `rclone serve s3` where rclone is on PATH; the PostgreSQL comes from the test
suite's wheel.
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

SIZES = {"singles": 350, "shared": 701, "names": 50, "texts": 60}
"""More sources than a batch of 500, and more rows of one source than a transaction of 200."""


def main() -> None:
    options = read_options(__doc__, kills=50)
    print(f"seed {options.seed}, {options.database}, {options.server}", flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="r2maint-bench-") as directory,
        server(options.server, Path(directory) / "bucket") as endpoint,
    ):
        task = {
            "directory": directory,
            "database": describe_database(options.database, Path(directory)),
            "endpoint": endpoint,
            "kills": options.kills,
            "seed": options.seed,
            "sizes": SIZES,
        }
        lines = list(killed(task, "tests.randomkiller"))
    kills = sum(line["kills"] for line in lines)
    broken = [sentence for line in lines for sentence in line["broken"]]
    print(f"{kills} kills in {len(lines)} rounds, {len(broken)} promises broken")
    print("\n".join(broken[:20]))
    sys.exit(bool(broken) or kills < options.kills)


def read_options(description: str, *, kills: int) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--kills", type=int, default=kills)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--server", choices=("moto", "rclone"), default="moto")
    return parser.parse_args()


def killed(task: dict, module: str):
    command = [sys.executable, "-m", module, json.dumps(task)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as killer:
        for text in killer.stdout:
            line = json.loads(text)
            print(f"  {line['round']}: {line['kills']} kills, {len(line['broken'])} broken")
            sys.stdout.flush()
            yield line
    if killer.returncode:
        sys.exit(f"The killer ended with {killer.returncode}.")


if __name__ == "__main__":
    main()
