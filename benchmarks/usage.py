"""Report the usage of a million objects and compare it with the plan of a purge of the same bucket.

    python benchmarks/usage.py path/to/biglist.py [--objects 1000000] [--rounds 3] [--endpoint URL]

The argument is a listing-only S3 server, described in bigbucket.py; with --endpoint, one that runs
already is asked instead (its bucket is "big"). A SQLite database is filled with one AppSubmission a
submission that names five objects; every tenth names those of the row before it, so that a tenth of
the bucket is named by nothing. Then `purge_orphans` plans and `usage_report` reports in turns, each
in a process of its own; printed are seconds, the peak memory of each, and the ratio of every
round.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from bigbucket import configure, fill, print_peak, run, serve


def main() -> None:
    options = read_options()
    if options.fill:
        fill(Path(options.fill), options.objects)
    elif options.plan:
        plan(Path(options.plan), options.endpoint)
    elif options.report:
        report(Path(options.report), options.endpoint)
    else:
        compare(options)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("server", nargs="?", help="program of the listing server")
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--endpoint", help="a server that runs already")
    for part in ("fill", "plan", "report"):
        parser.add_argument(f"--{part}", metavar="DATABASE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not (options.server or options.endpoint or options.fill):
        parser.error("name a server program, or an --endpoint.")
    return options


def compare(options: argparse.Namespace) -> None:
    """Fill a database, then let both read it and the bucket, the first of a round last in the next.

    Each is timed from the start of its process to the end.
    """
    with ExitStack() as stack:
        endpoint = options.endpoint or stack.enter_context(serve(options.server, options.objects))
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        database = str(directory / "rows.sqlite3")
        command = [sys.executable, __file__, "--endpoint", endpoint]
        run([*command, "--objects", str(options.objects), "--fill", database], "rows written")
        ratios = []
        for number in range(options.rounds):
            sides = ["plan", "report"] if number % 2 == 0 else ["report", "plan"]
            took = {side: run([*command, f"--{side}", database], side) for side in sides}
            ratios.append(took["report"] / took["plan"])
        told = " ".join(f"{ratio:.2f}" for ratio in ratios)
        print(f"ratio: {sorted(ratios)[len(ratios) // 2]:.2f} of the time of the plan ({told})")


def plan(database: Path, endpoint: str) -> None:
    command(database, endpoint, "purge_orphans")


def report(database: Path, endpoint: str) -> None:
    command(database, endpoint, "usage_report")


def command(database: Path, endpoint: str, name: str) -> None:
    """Run a command as `manage.py` does and print the first line of its report."""
    configure(database, endpoint)
    from django.core.management import call_command

    with tempfile.TemporaryDirectory() as directory:
        output = Path(directory, "report.txt")
        call_command(name, "--output", str(output))
        print(output.read_text().splitlines()[0])
    print_peak()


if __name__ == "__main__":
    main()
