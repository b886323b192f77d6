"""A command with a literal plan, for the tests of what all commands share.

`--toy` says how it behaves: a comma-separated list of words, see `Plan` and `Command.apply`.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Any

from django.db import DataError, OperationalError

from r2maint.errors import AccessDenied, Stopped
from r2maint.management.commands._base import R2Command
from r2maint.rendering import Refusal, ReportColumn, Unit


@dataclass(frozen=True)
class Item:
    key: str
    bytes: int
    fine: bool = False

    def as_dict(self) -> dict[str, Any]:
        return {"key": self.key, "bytes": self.bytes}


@dataclass(frozen=True)
class Plan:
    words: frozenset[str]
    question: str = "Delete 2 objects (3.0 KiB)?"
    notes: tuple[str, ...] = ("This is a toy.",)

    @property
    def items(self) -> tuple[Item, ...]:
        return (Item("a.png", 1024), Item("قرآن.png", 2048), Item("fine.png", 1, fine=True))

    @property
    def has_work(self) -> bool:
        return "idle" not in self.words

    @property
    def findings(self) -> bool:
        return "findings" in self.words

    @property
    def refusals(self) -> tuple[Refusal, ...]:
        if "refuse" not in self.words:
            return ()
        return (Refusal(brake="ratio", message="Too many.", override="--override ratio"),)

    def summary(self) -> dict[str, Any]:
        return {"objects": 3, "done": 0}


@dataclass(frozen=True)
class Outcome:
    words: frozenset[str]
    done: int
    stopped: Stopped | None = None
    items: tuple[Item, ...] = ()
    refusals: tuple[Refusal, ...] = ()

    @property
    def findings(self) -> bool:
        return "failed" in self.words

    def summary(self) -> dict[str, Any]:
        return {"objects": 3, "done": self.done}


class Command(R2Command):
    help = "Do nothing, in every way a command can end."
    examples = ("manage.py toy", "manage.py toy --apply", "manage.py toy --format json")
    columns = (ReportColumn("key"), ReportColumn("bytes", "size", Unit.BYTES))
    rejects = {"--model": "toys have no models."}
    name = "toy"

    def add_own_arguments(self, parser) -> None:
        parser.add_argument("--toy", default="")

    def is_fine(self, item: Item) -> bool:
        return item.fine

    def plan(self, work, options) -> Plan:
        words = frozenset(options["toy"].split(","))
        self.seen = work, options
        if "denied" in words:
            raise AccessDenied("The bucket refuses: 'toys'.", "Check the token.")
        if "no-table" in words:
            raise OperationalError("no such table: toys_toy\nSECRET ROW")
        if "bad-row" in words:
            raise DataError("invalid value 'SECRET ROW'")
        if "disk" in words:
            raise OSError(28, "No space left on device", "/tmp/scratch")
        if "slow-plan" in words:
            work.control.check()
            say("planning")
            while True:
                work.control.check()
                time.sleep(0.01)
        if "stubborn-plan" in words:
            say("planning")
            time.sleep(60)
        return Plan(words)

    def apply(self, plan, work, journal) -> Outcome:
        if "break" in plan.words:
            raise AccessDenied("The bucket refuses: 'toys'.", "Check the token.")
        if "slow" in plan.words:
            say("applying")
            while not work.control.stop():
                time.sleep(0.01)
        if "slow-stop" in plan.words:
            say("applying")
            while not work.control.stop():
                time.sleep(0.01)
            time.sleep(1)
        if "stubborn" in plan.words:
            say("applying")
            time.sleep(60)
        return Outcome(plan.words, 2, stopped=work.control.stop())


def say(word: str) -> None:
    """Tell a test that waits for this process how far it is."""
    sys.stdout.write(word + "\n")
    sys.stdout.flush()
