"""Plan a purge of a million objects and compare it with `s5cmd ls` of the same bucket.

    python benchmarks/plan_purge.py path/to/biglist.py [--objects 1000000] [--endpoint URL]

The argument is a listing-only S3 server, described in bigbucket.py; with --endpoint, one that runs
already is asked instead (its bucket is "big"). A SQLite database is filled with one AppSubmission a
submission that names five objects; every tenth names those of the row before it, so that a tenth of
the bucket is orphaned. Then `s5cmd ls` and the plan run one after the other, alone; printed are
seconds, their ratio, and the peak memory of the plan's process. Needs s5cmd on PATH.
"""

from __future__ import annotations

import json
from pathlib import Path

from bigbucket import compare, configure, fill, print_peak, read_options


def main() -> None:
    options = read_options(__doc__.splitlines()[0])
    if options.fill:
        fill(Path(options.fill), options.objects)
    elif options.measure:
        plan(Path(options.measure), options.endpoint)
    else:
        compare(__file__, options, "purge_orphans plan")


def plan(database: Path, endpoint: str) -> None:
    """Plan the purge and print what came of it."""
    config = configure(database, endpoint)
    from r2maint.bucket import open_bucket
    from r2maint.purge.plan import plan_purge

    planned = plan_purge(config, open_bucket(config))
    print(json.dumps(planned.summary(), default=str))
    print_peak()


if __name__ == "__main__":
    main()
