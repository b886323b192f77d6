"""Kill purges with SIGKILL at random moments, and run them again each time.

A process of its own: `python -m tests.attacks.kill_purges TASK`, where TASK is JSON: directory, database,
endpoint, kills, seed, sizes. It prints a JSON line for each round, a bucket that is purged, killed
some times on the way: how often, and the promises that were broken.
"""

from __future__ import annotations

import json
import random
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.core.management import load_command_class

from tests.attacks.forked_children import Child, forked
from tests.worlds import attacked_project, attacked_purge

KILLS_A_ROUND = 8
BATCH = 40
"""Small, so that kills find some batches deleted and others not."""


def rounds(task: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield one line a round: the first undisturbed, the others killed at random."""
    attacked_project.configure(Path(task["directory"]), task["database"], task["endpoint"])
    forked(attacked_project.create_tables)
    load_command_class("r2maint", "purge_orphans")
    from r2maint.purge import journal_steps

    journal_steps.BATCH = BATCH
    chance, sizes = random.Random(task["seed"]), attacked_purge.Sizes(**task["sizes"])
    before = begin(sizes)
    began = time.monotonic()
    forked(attacked_purge.purge)
    seconds = time.monotonic() - began
    expected = json.loads(forked(attacked_purge.end_state))
    gone = len(before) - len(expected["objects"])
    broken = json.loads(forked(lambda: look(before)))["broken"] + (
        [] if gone == sizes.orphans else [f"{gone} objects are gone"]
    )
    yield {"round": "undisturbed", "kills": 0, "broken": broken, "seconds": seconds}
    kills = 0
    while kills < task["kills"]:
        line = killed_often(chance, sizes, seconds, expected, task["kills"] - kills)
        kills += line["kills"]
        yield line


def begin(sizes: attacked_purge.Sizes) -> dict[str, str]:
    attacked_project.begin(f"media-{uuid.uuid4().hex[:12]}")
    forked(lambda: attacked_purge.prepare(sizes))
    return json.loads(forked(attacked_purge.listed))


def killed_often(
    chance: random.Random,
    sizes: attacked_purge.Sizes,
    seconds: float,
    expected: dict[str, Any],
    most: int,
) -> dict[str, Any]:
    before, kills, broken, gone = begin(sizes), 0, [], []
    for _ in range(min(most, KILLS_A_ROUND)):
        if not Child(attacked_purge.purge).is_killed_after(chance.uniform(0, seconds)):
            break
        kills += 1
        found = json.loads(forked(lambda: look(before)))
        broken += [f"after a kill: {each}" for each in found["broken"]]
        gone.append(found["gone"])
        forked(attacked_project.end_lease)
    done = json.loads(forked(attacked_purge.purge))
    if (done["exit_code"], done["error"]) != (0, None):
        broken.append(f"the last execution ended with {done['exit_code']}: {done['error']}")
    ended = json.loads(forked(lambda: look(before)))
    broken += [f"at the end: {each}" for each in ended["broken"]]
    state = json.loads(forked(attacked_purge.end_state))
    broken += [f"{name} differ in the end" for name in expected if state[name] != expected[name]]
    return {"round": "killed", "kills": kills, "gone": gone, "broken": broken[:10]}


def look(before: dict[str, str]) -> str:
    """Return how many objects are gone, and what is amiss with them."""
    broken = list(attacked_purge.uncovered(before))[:5]
    return json.dumps(
        {"broken": broken, "gone": len(before) - len(json.loads(attacked_purge.listed()))}
    )


if __name__ == "__main__":
    for line in rounds(json.loads(sys.argv[1])):
        print(json.dumps(line), flush=True)  # noqa: T201
