"""Purge a hundred thousand orphans among a million objects; compare with boto3, one by one.

    python benchmarks/purge.py [--objects 1000000] [--sample 2000] [--rounds 3]
                               [--workers 32] [--database postgres]

Each round starts an S3 server in memory (memorys3.py) anew for either side. The peer is what one
would write by hand: `copy_object` to a quarantine, then `delete_object`, in a loop with one client,
for a sample of the orphans; it reads no database, verifies nothing and keeps no record. Ours is
`purge_orphans --apply --no-input` as one process on a SQLite database (or PostgreSQL) whose rows
name nine objects of ten. Printed are orphans a second: of the whole process, which lists and reads
everything first, and of the apply phase alone, which reads the database twice; the ratios
with the median of them, and our peak memory. Afterwards the bucket is looked at from outside: gone
are the orphans and nothing else, and each has its copy, with its bytes and its headers.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import quote

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1])]

from bigbucket import KINDS, fill, set_up_database  # noqa: E402
from memorys3 import original_keys  # noqa: E402

_ENTRY = re.compile(r"<Key>([^<]*)</Key>.*?<ETag>&quot;([^&]*)&quot;")
_TOKEN = re.compile(r"<NextContinuationToken>([^<]*)<")
_OWN = ".r2maint/"


def main() -> None:
    options = read_options()
    from projects import describe_database

    with tempfile.TemporaryDirectory(prefix="r2maint-bench-") as directory:
        database = describe_database(options.database, Path(directory))
        run_child("fill", {"database": database, "objects": options.objects})
        rounds = [one_round(database, options) for _ in range(options.rounds)]
    for phase in ("whole", "apply"):
        ratios = sorted(each[phase] for each in rounds)
        shown = " ".join(f"{ratio:.1f}" for ratio in ratios)
        print(f"{phase}: {statistics.median(ratios):.1f} times boto3 one by one ({shown})")


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--sample", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--workers", type=int, default=32)
    parser.add_argument("--latency-ms", type=float, default=0, help="what every answer waits")
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        CHILDREN[options.child[0]](**json.loads(options.child[1]))
        sys.exit()
    return options


def one_round(database: dict, options: argparse.Namespace) -> dict[str, float]:
    """Let both sides work, each on a server of its own; return the ratios."""
    doomed = orphans(options.objects)
    with server(options.objects, options.latency_ms) as endpoint:
        peer = run_child("boto3", {"endpoint": endpoint, "keys": doomed[: options.sample]})
    task = {"database": database, "workers": options.workers}
    with server(options.objects, options.latency_ms) as endpoint:
        ours = run_child("purge", {**task, "endpoint": endpoint})
        look(endpoint, options.objects, doomed)
    theirs = peer["count"] / peer["seconds"]
    rates = {phase: len(doomed) / ours[phase] for phase in ("whole", "apply")}
    print(
        f"  boto3 {theirs:,.0f}/s; purge_orphans {rates['whole']:,.0f}/s in {ours['whole']:.0f} s,"
        f" apply alone {rates['apply']:,.0f}/s; CPU {ours['cpu']:.0f} s; {ours['mib']} MiB",
        flush=True,
    )
    return {phase: rate / theirs for phase, rate in rates.items()}


def orphans(objects: int) -> list[str]:
    """Return the keys no row names: every tenth row names those of the row before it."""
    keys = enumerate(original_keys(objects))
    return [key for number, key in keys if (number // len(KINDS) + 1) % 10 == 0]


def run_child(name: str, task: dict) -> dict:
    """Run one side as a process of its own; return what it measured."""
    path = Path(tempfile.gettempdir()) / f"r2maint-bench-task-{os.getpid()}"
    path.write_text(json.dumps(task))
    try:
        command = [sys.executable, __file__, "--child", name, json.dumps({"task": str(path)})]
        begun = time.perf_counter()
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        seconds = time.perf_counter() - begun
    finally:
        path.unlink()
    return {"whole": seconds, **json.loads(done.stdout or "{}")}


@contextmanager
def server(objects: int, latency_ms: float) -> Iterator[str]:
    from projects import free_port, memory, running

    port = free_port()
    with running(memory(port, objects, latency_ms), port) as endpoint:
        yield endpoint


# The sides


def fill_rows(task: str) -> None:
    given = json.loads(Path(task).read_text())
    fill(given["database"], given["objects"])


def peer(task: str) -> None:
    """Copy and delete, one by one."""
    import boto3
    from botocore.config import Config

    given = json.loads(Path(task).read_text())
    client = boto3.client(
        "s3",
        endpoint_url=given["endpoint"],
        aws_access_key_id="any",
        aws_secret_access_key="any",
        region_name="auto",
        config=Config(request_checksum_calculation="when_required"),
    )
    begun = time.perf_counter()
    for key in given["keys"]:
        source = {"Bucket": "big", "Key": key}
        client.copy_object(Bucket="big", Key=f"quarantine/{key}", CopySource=source)
        client.delete_object(Bucket="big", Key=key)
    seconds = time.perf_counter() - begun
    print(json.dumps({"seconds": seconds, "count": len(given["keys"])}))


def purge(task: str) -> None:
    """Run the command as a script would, and tell what it took."""
    given = json.loads(Path(task).read_text())
    config = set_up_database(given["database"], given["endpoint"])
    from django.core.management import call_command

    from r2maint.management.commands import purge_orphans
    from r2maint.models import Change, Identity, Run, Sighting

    for model in (Change, Identity, Run, Sighting):
        model.objects.all().delete()
    assert config.managed_prefixes
    seconds = {}
    apply = purge_orphans.Command.apply

    def timed(*arguments):
        begun = time.perf_counter()
        outcome = apply(*arguments)
        seconds["apply"] = time.perf_counter() - begun
        return outcome

    purge_orphans.Command.apply = timed
    with open(os.devnull, "w") as nowhere:
        call_command(
            "purge_orphans",
            *("--grace", "0", "--no-second-look", "--adopt", "--apply", "--no-input"),
            *("--workers", str(given["workers"])),
            stdout=nowhere,
        )
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu = used.ru_utime + used.ru_stime
    print(json.dumps({**seconds, "cpu": cpu, "mib": used.ru_maxrss // 1024}))


CHILDREN = {"fill": fill_rows, "boto3": peer, "purge": purge}


# From outside


def look(endpoint: str, objects: int, doomed: list[str]) -> None:
    """Exit unless exactly the orphans are gone, and each lies in quarantine as it was."""
    connection = HTTPConnection(endpoint.removeprefix("http://"), timeout=60)
    listed = dict(listing(connection))
    left = {key for key in listed if not key.startswith(_OWN)}
    require(left == set(original_keys(objects)) - set(doomed), "other objects are left than named")
    entries = [entry for key in listed if "/manifest-" in key for entry in lines(connection, key)]
    require(
        sorted(entry["key"] for entry in entries) == sorted(doomed), "the manifest is not whole"
    )
    for number, entry in enumerate(entries):
        require(listed.get(entry["copy"]) == entry["etag"], f"{entry['key']} has no copy")
        if number % 50 == 0:
            connection.request("GET", f"/big/{entry['copy']}")
            answer = connection.getresponse()
            is_same = answer.read().decode() == entry["key"]
            served = answer.getheader("content-type")
            require(is_same and served == "image/webp", f"{entry['key']} has another copy")


def listing(connection: HTTPConnection) -> Iterator[tuple[str, str]]:
    token = ""
    while True:
        more = f"&continuation-token={quote(token, safe='')}" if token else ""
        connection.request("GET", f"/big?list-type=2{more}")
        text = connection.getresponse().read().decode()
        yield from _ENTRY.findall(text)
        found = _TOKEN.search(text)
        if found is None:
            return
        token = found[1]


def lines(connection: HTTPConnection, key: str) -> list[dict]:
    connection.request("GET", f"/big/{key}")
    _, *entries = connection.getresponse().read().decode().splitlines()
    return [json.loads(entry) for entry in entries]


def require(is_so: bool, complaint: str) -> None:
    if not is_so:
        sys.exit(f"The bucket is not as it must be: {complaint}.")


if __name__ == "__main__":
    main()
