"""Verify a million references against a million objects; compare with `s5cmd ls` of the bucket.

    python benchmarks/verify_bucket.py path/to/biglist.py [--objects 1000000] [--endpoint URL]

The argument is a listing-only S3 server, described in bigbucket.py; with --endpoint, one that runs
already is asked instead (its bucket is "big"). A SQLite database is filled with one AppSubmission a
submission that names five objects. Then `s5cmd ls` and `verify_urls` at level bucket run one after
the other, alone; printed are seconds, their ratio, the peak memory of the process that verified,
and the list requests it sent. Needs s5cmd on PATH.
"""

from __future__ import annotations

import urllib.request
from pathlib import Path

from bigbucket import compare, configure, fill, print_peak, read_options


def main() -> None:
    options = read_options(__doc__.splitlines()[0])
    if options.fill:
        fill(Path(options.fill), options.objects)
    elif options.measure:
        verify(Path(options.measure), options.endpoint)
    else:
        compare(__file__, options, "verify_urls")


def verify(database: Path, endpoint: str) -> None:
    """Verify every reference and print what came of it."""
    configure(database, endpoint)
    from django.core.management import call_command

    before = listings(endpoint)
    call_command("verify_urls", "--format", "json")
    print(f"list requests: {listings(endpoint) - before}")
    print_peak()


def listings(endpoint: str) -> int:
    """Return how many list requests the server has answered."""
    with urllib.request.urlopen(f"{endpoint}/?stats") as answer:
        return int(answer.read())


if __name__ == "__main__":
    main()
