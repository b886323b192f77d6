"""Classes of keys that were made in one way: the key with ids in it replaced by "*".

Code that computes keys (`avatars/{pk}.webp`) stores them in no row. What nothing names of such a
class says nothing about each object, but that the class is unknown to the database.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable
from functools import lru_cache
from typing import NamedTuple

from r2maint.keys import identity
from r2maint.scratch.scratch_index import ScratchIndex

LEAST = 10
"""Objects that make a class: fewer tell nothing of how their keys were made."""
REMEMBERED = 1_000
"""Classes whose names an accepted run remembers, those with most objects first."""
_ID = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{8,}|[0-9]+",
    re.IGNORECASE,
)
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,16}$")
_SCHEMA = """
CREATE TABLE classes (
    name TEXT PRIMARY KEY NOT NULL, objects INTEGER NOT NULL, due INTEGER NOT NULL,
    example TEXT NOT NULL
) WITHOUT ROWID;
"""
_COUNT = """
INSERT INTO classes VALUES (:name, :objects, :due, :example)
ON CONFLICT (name) DO UPDATE SET objects = objects + excluded.objects, due = due + excluded.due
"""
_SAMPLE = 100_000
"""Names whose classes are counted, evenly spread: 0.1 s of a plan of any size."""


class UnnamedClass(NamedTuple):
    """A class of which nothing names any object."""

    name: str
    objects: int
    example: str


def class_of(key: str) -> str:
    """Return the class of a key: "avatars/*.webp" for "avatars/17.webp".

    Runs of digits, UUIDs and hex of at least 8 digits become "*", and the last segment "*" and its
    suffix. So a folder that is named by an id is no class of its own.
    """
    directory, _, name = identity(key).rpartition("/")
    suffix = _SUFFIX.search(name)
    return f"{_folders(directory)}*{suffix[0].lower() if suffix else ''}"


@lru_cache(maxsize=4096)
def _folders(directory: str) -> str:
    return f"{_ID.sub('*', directory)}/" if directory else ""


class ClassIndex(ScratchIndex):
    """Counts keys by their class, in a temporary file: visitors may make any number of folders."""

    def __init__(self) -> None:
        super().__init__(_SCHEMA)

    def add(self, keys: Collection[str], due: Collection[str]) -> None:
        """Count some keys, and those of them that this run would delete."""
        classes = {key: class_of(key) for key in keys}
        examples = {name: key for key, name in classes.items()}
        objects, deleted = Counter(classes.values()), Counter(classes[key] for key in due)
        rows = [
            {"name": name, "objects": count, "due": deleted[name], "example": examples[name]}
            for name, count in objects.items()
        ]
        self._db.executemany(_COUNT, rows)

    def due(self) -> list[UnnamedClass]:
        """Return the classes of at least LEAST keys of which some are due, the largest first."""
        sql = (
            "SELECT name, objects, example FROM classes WHERE objects >= ? AND due > 0"
            " ORDER BY objects DESC, name"
        )
        return [UnnamedClass(*row) for row in self._db.execute(sql, (LEAST,))]


def compare_with_names(
    classes: Iterable[UnnamedClass], pages: Iterable[list[str]], count: int
) -> tuple[tuple[UnnamedClass, ...], tuple[str, ...]]:
    """Return the classes of which no name is one, and the classes most names are of.

    `pages` are all names, `count` of them. Every one is looked at while a class is in doubt; what
    names are of is counted by a sample.
    """
    doubtful = {each.name: each for each in classes}
    step, seen = max(1, count // _SAMPLE), Counter[str]()
    for page in pages:
        seen.update(map(class_of, page[::step]))
        for name in page if doubtful else ():
            doubtful.pop(class_of(name), None)
    return tuple(doubtful.values()), tuple(name for name, _ in seen.most_common(REMEMBERED))
