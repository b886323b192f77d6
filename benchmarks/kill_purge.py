"""Kill a purge with SIGKILL at fifty random moments, and run it again each time.

    python benchmarks/kill_purge.py [--kills 50] [--seed N] [--database postgres]
                                    [--server rclone]

Rounds of one bucket each: it is purged in batches of 40, killed up to eight times on the way, and
finished. After every kill the bucket is looked at from outside: whatever is gone must be in a
manifest, and its copy there with its bytes and headers. In the end the bucket and the journal must
be those of a purge that nobody disturbed. Printed are the rounds; the exit code is 1 when a promise
was broken.
The server is memorys3.py, moto, or `rclone serve s3` where rclone is on PATH.
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

SIZES = {"orphans": 1200, "named": 20}


def main() -> None:
    options = read_options()
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
            "sizes": {**SIZES, "orphans": options.orphans},
        }
        lines = list(killed(task))
    kills = sum(line["kills"] for line in lines)
    broken = [sentence for line in lines for sentence in line["broken"]]
    print(f"{kills} kills in {len(lines)} rounds, {len(broken)} promises broken")
    print("\n".join(broken[:20]))
    sys.exit(bool(broken) or kills < options.kills)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--orphans", type=int, default=SIZES["orphans"])
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--server", choices=("memory", "moto", "rclone"), default="memory")
    return parser.parse_args()


def killed(task: dict):
    command = [sys.executable, "-m", "tests.purgekiller", json.dumps(task)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as killer:
        for text in killer.stdout:
            line = json.loads(text)
            print(f"  {line['round']}: {line['kills']} kills, {len(line['broken'])} broken", end="")
            print(f"; gone after each: {line['gone']}" if "gone" in line else "", flush=True)
            yield line
    if killer.returncode:
        sys.exit(f"The killer ended with {killer.returncode}.")


if __name__ == "__main__":
    main()
