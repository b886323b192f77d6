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

from killing import attack, parser_of

SIZES = {"singles": 350, "shared": 701, "names": 50, "texts": 60}
"""More sources than a batch of 500, and more rows of one source than a transaction of 200."""


def main() -> None:
    options = parser_of(__doc__, kills=50).parse_args()
    attack(options, "tests.attacks.kill_migrations", sizes=SIZES)


if __name__ == "__main__":
    main()
