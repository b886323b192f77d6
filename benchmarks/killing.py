"""What the programs share that kill runs at random moments."""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from projects import ROOT, describe_database, server


def parser_of(
    description: str, *, kills: int, servers: tuple[str, ...] = ("moto", "rclone")
) -> argparse.ArgumentParser:
    """Return what reads the options of every such program; the first server is the default."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--kills", type=int, default=kills)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--server", choices=servers, default=servers[0])
    return parser


def attack(options: argparse.Namespace, module: str, **more: object) -> None:
    """Let a module of the tests kill, print its rounds, and exit with 1 for a broken promise."""
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
            **more,
        }
        lines = list(_killed(task, module))
    kills = sum(line["kills"] for line in lines)
    broken = [sentence for line in lines for sentence in line["broken"]]
    print(f"{kills} kills in {len(lines)} rounds, {len(broken)} promises broken")
    print("\n".join(broken[:20]))
    sys.exit(bool(broken) or kills < options.kills)


def _killed(task: dict, module: str) -> Iterator[dict]:
    command = [sys.executable, "-m", module, json.dumps(task)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as killer:
        for text in killer.stdout:
            line = json.loads(text)
            gone = f"; gone after each: {line['gone']}" if "gone" in line else ""
            told = f"  {line['round']}: {line['kills']} kills, {len(line['broken'])} broken"
            print(f"{told}{gone}", flush=True)
            yield line
    if killer.returncode:
        sys.exit(f"The killer ended with {killer.returncode}.")
