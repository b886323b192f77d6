"""Migrate over a network that breaks a tenth of all requests, and compare every byte.

    python benchmarks/fault_migrate.py [--files 600] [--share 0.1] [--seed N] [--server rclone]

A proxy before the S3 server answers 500, 503 SlowDown or 429, resets connections, loses answers,
and cuts requests and answers half-way. Some of the files are sent in parts. Printed are seconds,
requests and faults; the exit code is 1 unless the migration exits with 0 at once and every row
leads to its bytes by SHA-256.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path

from projects import describe_database, server

from tests.servers.faults import Flaky
from tests.servers.s3_server import FORWARD, proxy
from tests.worlds import attacked_project

LARGE_MIB = (1, 3, 6, 11, 17)


def main() -> None:
    options = read_options()
    with (
        tempfile.TemporaryDirectory(prefix="r2maint-bench-") as directory,
        server(options.server, Path(directory) / "bucket") as upstream,
        proxy(upstream) as between,
    ):
        database = describe_database("sqlite", Path(directory))
        attacked_project.configure(Path(directory), database, between.url)
        broken = attack(between, options)
    print(*broken[:20], sep="\n")
    sys.exit(bool(broken))


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=600)
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--server", choices=("moto", "rclone"), default="moto")
    return parser.parse_args()


def attack(between, options: argparse.Namespace) -> list[str]:
    from r2maint.bucket import upload_many
    from tests.appdirectory.models import AppSubmission

    upload_many.PARTS_ABOVE_BYTES, upload_many.PART_BYTES = 2**20, 5 * 2**20
    attacked_project.create_tables()
    attacked_project.prepare(
        attacked_project.Sizes(singles=options.files // 2, shared=20, names=20, texts=20)
    )
    large = [
        attacked_project.write(f"large/{size}.mp4", random.Random(size).randbytes(size * 2**20 + 1))
        for size in LARGE_MIB
    ]
    AppSubmission.objects.create(tracking_id="large", screenshots_ar=large)
    before = json.loads(attacked_project.dump())
    flaky, began = Flaky(between, seed=options.seed, share=options.share), time.monotonic()
    told = json.loads(attacked_project.migrate())
    seconds, requests = time.monotonic() - began, len(between.requests)
    between.is_cut, between.fault = lambda head: False, lambda request: FORWARD
    faults = ", ".join(f"{count} {kind}" for kind, count in sorted(flaky.met.items()))
    print(f"seed {options.seed}, {options.server}: exit {told['exit_code']}, {seconds:.1f} s")
    print(f"{requests:,} requests arrived; faults: {faults}")
    print({name: told["summary"][name] for name in ("sources", "uploaded", "rewritten", "failed")})
    wrong = [f"it ended so: {told['told']}"] if told["exit_code"] else []
    pending = [each.key for each in attacked_project.open_bucket().list_uploads()]
    print(f"{len(pending)} uploads in parts were left unfinished")
    return [*wrong, *attacked_project.unfinished(before)]


if __name__ == "__main__":
    main()
