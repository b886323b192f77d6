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

from killing import attack, parser_of

PICTURES = 40


def main() -> None:
    options = parser_of(__doc__, kills=20).parse_args()
    attack(options, "tests.attacks.kill_reoptimize", pictures=PICTURES, sample=PICTURES // 2)


if __name__ == "__main__":
    main()
