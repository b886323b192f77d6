"""Restore objects from quarantine, many at once and one by one.

    PYTHONPATH=. python benchmarks/restore.py [N]

Prints ratios of wall time and of this process's CPU time, on an S3 server that answers 20 ms late.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import django

from tests.servers.s3_server import FORWARD, moto_server, proxy

LATE_SECONDS = 0.02


def main(count: int) -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings_test")
    django.setup()
    from r2maint.bucket import Upload
    from r2maint.bucket.r2 import R2Bucket
    from r2maint.conf.bucket_connection import Connection
    from r2maint.control import Control
    from r2maint.quarantine.manifest import Quarantined, restore, restore_all

    def entry(number: int, size: int) -> Quarantined:
        key, copy = f"many/{number}", f"copy/{number}"
        return Quarantined(key=key, copy=copy, etag="", size=size, modified_at="", headers={})

    connection = Connection(
        source="R2MAINT",
        access_key_id="0123456789abcdef0123456789abcdef",
        secret_access_key="secret-0123456789abcdef",
        endpoint_url="",
    )
    with moto_server() as server, proxy(server) as between:
        bucket = R2Bucket("bench", replace(connection, endpoint_url=between.url))
        place = {"LocationConstraint": "auto"}
        bucket._client.create_bucket(Bucket="bench", CreateBucketConfiguration=place)
        body = os.urandom(30_000)
        list(bucket.put_many(Upload(key=f"copy/{n}", body=body) for n in range(count)))

        def late(request: object) -> str:
            time.sleep(LATE_SECONDS)
            return FORWARD

        between.fault = late
        lost = [entry(n, len(body)) for n in range(count)]
        many = _timed(lambda: all(one.done for one in restore_all(bucket, lost, control=Control())))
        apart = [one._replace(key=f"one/{n}") for n, one in enumerate(lost)]
        single = (restore(bucket, one) for one in apart)
        one = _timed(lambda: all(ended.done for ended in single))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"one by one / many at once: wall {one[0] / many[0]:.1f}, CPU {one[1] / many[1]:.1f}")
    print(f"peak memory {peak} MiB")


def _timed(act: Callable[[], bool]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    assert act()
    return time.perf_counter() - wall, time.process_time() - cpu


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)
