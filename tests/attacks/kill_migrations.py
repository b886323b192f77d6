"""Kill migrations, and their undos, with SIGKILL at random moments, and run them again each time.

A process of its own: `python -m tests.attacks.kill_migrations TASK`, where TASK is JSON: directory, database,
endpoint, kills, seed, sizes. It prints a JSON line for each round: a project that is migrated and
undone again, killed some times on the way, and the promises that were broken.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.attacks.forked_children import Child, forked
from tests.worlds import attacked_project
from tests.worlds.attacked_project import Rows, Sizes

KILLS_A_ROUND = 8
KILLS_OF_UNDO = 2


@dataclass(kw_only=True)
class Round:
    """One project from its beginning to its undo."""

    chance: random.Random
    before: Rows
    seconds: dict[str, float] = field(default_factory=dict)
    """What each command takes undisturbed."""
    kills: int = 0
    broken: list[str] = field(default_factory=list)

    def kill_often(self, name: str, act: Callable[[], str], most: int) -> None:
        """Kill a command at random moments until it once ends before; each time look around."""
        for _ in range(most):
            moment = self.chance.uniform(0, self.seconds[name])
            if not Child(act).is_killed_after(moment):
                return
            self.look_around(name)

    def look_around(self, name: str) -> None:
        """Count a kill, and see that every value leads to the bytes it always led to."""
        self.kills += 1
        self.expect(
            f"after {name} was killed",
            lambda: attacked_project.astray(self.before, attacked_project.Contents.listed()),
        )
        forked(attacked_project.end_lease)

    def expect(self, when: str, breaches: Callable[[], Iterator[str]]) -> None:
        told = json.loads(forked(lambda: json.dumps(list(breaches())[:5])))
        self.broken += [f"{when}: {sentence}" for sentence in told]

    def finish(self) -> None:
        """Let the migration end, and prove what it promises."""
        done = json.loads(forked(attacked_project.migrate))
        if (done["exit_code"], done["error"]) != (0, None):
            self.broken.append(f"the last execution ended with {done['exit_code']}: {done}")
        self.expect("at the end", lambda: attacked_project.unfinished(self.before))

    def finish_undo(self) -> None:
        codes = json.loads(forked(attacked_project.undo_all))
        if any(codes):
            self.broken.append(f"the undos ended with {codes}")
        after = json.loads(forked(attacked_project.dump))
        for table, rows in self.before.items():
            for old, new in zip(rows, after[table], strict=True):
                if old != new:
                    self.broken.append(f"not as before, {table}: {old} became {new}")

    def as_line(self, what: str) -> dict[str, Any]:
        return {"round": what, "kills": self.kills, "broken": self.broken[:10]}


def rounds(task: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield one line a round: one undisturbed, one killed before its last row, then random ones."""
    attacked_project.configure(Path(task["directory"]), task["database"], task["endpoint"])
    forked(attacked_project.create_tables)
    chance, sizes = random.Random(task["seed"]), Sizes(**task["sizes"])
    first = begin(chance, sizes, {})
    first.seconds["migrate"] = seconds_of(attacked_project.migrate)
    first.finish()
    first.seconds["undo"] = seconds_of(attacked_project.undo_all)
    first.finish_undo()
    yield first.as_line("undisturbed") | {"seconds": first.seconds}
    kills = 0
    for last_row in [True] + task["kills"] * [False]:
        if kills < task["kills"]:
            each = begin(chance, sizes, first.seconds)
            kill_before_last_row(each) if last_row else kill_at_random(each)
            kills += each.kills
            yield each.as_line("last row" if last_row else "random")


def begin(chance: random.Random, sizes: Sizes, seconds: dict[str, float]) -> Round:
    attacked_project.begin(f"media-{uuid.uuid4().hex[:12]}")
    forked(lambda: attacked_project.prepare(sizes))
    return Round(chance=chance, before=json.loads(forked(attacked_project.dump)), seconds=seconds)


def seconds_of(act: Callable[[], str]) -> float:
    began = time.monotonic()
    forked(act)
    return time.monotonic() - began


def kill_at_random(each: Round) -> None:
    each.kill_often("migrate", attacked_project.migrate, KILLS_A_ROUND)
    each.finish()
    each.kill_often("undo", attacked_project.undo_all, KILLS_OF_UNDO)
    each.finish_undo()


def kill_before_last_row(each: Round) -> None:
    """Kill a migration that has one row left of many that name one file.

    That row alone would give the file another key: one with the row's id.
    """
    Child(migrate_all_but_one).require_killed()
    left = json.loads(forked(count_shared_left))
    if left != 1:
        each.broken.append(f"killed with {left} rows left, not 1")
    each.look_around("migrate")
    each.finish()
    each.finish_undo()


def migrate_all_but_one() -> str:
    from r2maint.references import rewrite
    from r2maint.signals import rows_rewritten

    rewrite.MAX_ROWS = 1  # a transaction for each row, so that none takes the last two together

    def kill_in_time(**facts: object) -> None:
        if count_shared_left() == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    rows_rewritten.connect(kill_in_time)
    return attacked_project.migrate()


def count_shared_left() -> int:
    from tests.oddities.models import Listing

    return Listing.objects.filter(cover_url__startswith=attacked_project.LOCAL).count()


if __name__ == "__main__":
    for line in rounds(json.loads(sys.argv[1])):
        print(json.dumps(line), flush=True)  # noqa: T201
