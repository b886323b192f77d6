"""Kill a re-encoding with SIGKILL at twenty random moments, and run it again each time.

    python benchmarks/kill_reoptimize.py [--kills 20] [--seed N] [--database postgres]
                                         [--server rclone]

Rounds of one project each: its pictures are re-encoded, the run is killed some times on the way,
and run again until it ends. After every kill all references to one picture must name the same
object, and one that is there; in the end rows, objects and the journal's rewrites must be those of
a run that nobody disturbed, and a further run must find nothing to do. Printed are the rounds; the
exit code is 1 when a promise was broken. Servers as in `kill_migrate.py`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from kill_migrate import killed, read_options
from projects import describe_database, server

PICTURES = 40


def main() -> None:
    options = read_options(__doc__, kills=20)
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
            "pictures": PICTURES,
            "sample": PICTURES // 2,
        }
        lines = list(killed(task, "tests.picturekiller"))
    kills = sum(line["kills"] for line in lines)
    broken = [sentence for line in lines for sentence in line["broken"]]
    print(f"{kills} kills in {len(lines)} rounds, {len(broken)} promises broken")
    print("\n".join(broken[:20]))
    sys.exit(bool(broken) or kills < options.kills)


if __name__ == "__main__":
    main()
