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

from killing import attack, parser_of

SIZES = {"orphans": 1200, "named": 20}


def main() -> None:
    parser = parser_of(__doc__, kills=50, servers=("memory", "moto", "rclone"))
    parser.add_argument("--orphans", type=int, default=SIZES["orphans"])
    options = parser.parse_args()
    attack(options, "tests.attacks.kill_purges", sizes={**SIZES, "orphans": options.orphans})


if __name__ == "__main__":
    main()
