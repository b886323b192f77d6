"""Edit rows from another process while a migration runs, and see that every edit is still there.

A process of its own: `python -m tests.attacks.edit_rows TASK`, where TASK is JSON: directory, database,
endpoint, edits, seed, sizes, rate (requests a second of the migration), batch (sources whose rows
follow together). It prints one JSON line: what was edited, what the migration told of it, and the
promises that were broken.
"""

from __future__ import annotations

import json
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.attacks.forked_children import Child, forked
from tests.worlds import attacked_project
from tests.worlds.attacked_project import LOCAL, Contents, Sizes

SHARED = f"{LOCAL}shared/cover.png"
READING_SECONDS = 0.1
_CHANGED = re.compile(r"([\d,]+) values? changed meanwhile")


@dataclass(frozen=True, kw_only=True)
class Edit:
    """One cell that was edited, once; of a row that came or went, all of them."""

    kind: str
    model: str
    pk: int
    field: str
    before: Any
    """What the editor saw; None of a row that it made."""
    after: Any
    """What the editor left; None of a row that it deleted."""

    @property
    def lost_rewrites(self) -> int:
        """How many rewrites that the migration planned this edit forestalled."""
        if self.kind == "delete":
            return sum(_is_local(value) for value in self.before)
        if self.kind == "url":
            return int(_is_local(self.before))
        if self.kind == "list":
            return int(_is_local(self.before[1]) and self.after[1] != self.before[1])
        if self.kind == "text":
            return sum(address not in self.after for address in _local_in(self.before))
        return 0


def _is_local(value: str) -> bool:
    return value.startswith(LOCAL)


def _local_in(text: str) -> list[str]:
    return re.findall(rf"(?<![\w.]){LOCAL}[\w/.%-]+\w", text)


# The editor


def edit_all(count: int, seed: int, seconds: float) -> str:
    """Make so many edits, evenly, as soon as a migration has planned and begins to write."""
    chance = random.Random(seed)
    cells = list(_cells(count, chance))
    _wait_for_run()
    began, edits = time.monotonic(), []
    for number, (model, pk, act) in enumerate(cells):
        time.sleep(max(0.0, began + seconds * number / count - time.monotonic()))
        edits.append(asdict(act(model, pk, number, chance)))
    return json.dumps({"edits": edits, "ended_at": datetime.now(UTC).isoformat()})


Act = Callable[[Any, int, int, random.Random], Edit]


def _cells(count: int, chance: random.Random) -> Iterator[tuple[Any, int, Act]]:
    """Yield what to edit, in any order: each cell once, and no cell of a row to be deleted."""
    from tests.appdirectory.models import App, AppSubmission
    from tests.oddities.models import Article, Listing

    submissions = _shuffled(AppSubmission, chance)
    listings = _shuffled(Listing, chance)
    doomed, kept = submissions[::10], [pk for at, pk in enumerate(submissions) if at % 10]
    cells: list[tuple[Any, int, Act]] = [
        *((AppSubmission, pk, _delete) for pk in doomed),
        *((AppSubmission, pk, _edit_url) for pk in kept),
        *((AppSubmission, pk, _edit_list) for pk in kept),
        *((Listing, pk, _insert) for pk in listings[::4]),
        *((Listing, pk, _edit_cover) for pk in listings[::2]),
        *((Article, pk, _edit_text) for pk in _shuffled(Article, chance)),
        *((App, pk, _edit_name) for pk in _shuffled(App, chance)),
    ]
    chance.shuffle(cells)
    if len(cells) < count:
        raise SystemExit(f"There are only {len(cells)} cells to edit, and not {count}.")
    yield from cells[:count]


def _shuffled(model: Any, chance: random.Random) -> list[int]:
    pks = list(model.objects.order_by("pk").values_list("pk", flat=True))
    chance.shuffle(pks)
    return pks


def _wait_for_run() -> None:
    from r2maint.models import Run

    while not Run.objects.filter(command="migrate_media_to_r2").exists():
        time.sleep(0.005)


def _edited(kind: str, model: Any, pk: int, field: str, change: Callable[[Any], Any]) -> Edit:
    """Read, change and write one cell while nobody else may write its row."""
    from django.db import transaction
    from django.db.models import F

    row = model.objects.filter(pk=pk)
    with transaction.atomic():
        row.update(**{field: F(field)})  # takes the lock before anything is read
        before = row.values_list(field, flat=True).get()
        after = change(before)
        row.update(**{field: after})
    name = model._meta.label
    return Edit(kind=kind, model=name, pk=pk, field=field, before=before, after=after)


def _edit_url(model: Any, pk: int, number: int, chance: random.Random) -> Edit:
    new = chance.choice([f"https://elsewhere.example/{number}.png", SHARED, ""])
    return _edited("url", model, pk, "app_icon_url", lambda before: new)


def _edit_cover(model: Any, pk: int, number: int, chance: random.Random) -> Edit:
    new = chance.choice([f"https://elsewhere.example/{number}.png", f"{LOCAL}icons/00000.png"])
    return _edited("url", model, pk, "cover_url", lambda before: new)


def _edit_list(model: Any, pk: int, number: int, chance: random.Random) -> Edit:
    mine = f"https://elsewhere.example/{number}.png"
    change = chance.choice(
        [
            lambda before: [before[0], mine],
            lambda before: [mine, *before],
            lambda before: [mine, before[1]],
            lambda before: [*before, SHARED],
        ]
    )
    return _edited("list", model, pk, "screenshots_en", change)


def _edit_text(model: Any, pk: int, number: int, chance: random.Random) -> Edit:
    change = chance.choice(
        [
            lambda before: f"Edit {number}. {before}",
            lambda before: re.sub(r"src='[^']*'", f"src='/elsewhere/{number}.png'", before),
        ]
    )
    return _edited("text", model, pk, "body", change)


def _edit_name(model: Any, pk: int, number: int, chance: random.Random) -> Edit:
    return _edited("name", model, pk, "application_icon", lambda before: "icons/00000.png")


def _delete(model: Any, pk: int, number: int, chance: random.Random) -> Edit:
    from django.db import transaction
    from django.db.models import F

    row = model.objects.filter(pk=pk)
    with transaction.atomic():
        row.update(app_icon_url=F("app_icon_url"))
        icon, screens = row.values_list("app_icon_url", "screenshots_en").get()
        row.delete()
    before = [icon, *screens]
    return Edit(kind="delete", model=model._meta.label, pk=pk, field="", before=before, after=None)


def _insert(model: Any, pk: int, number: int, chance: random.Random) -> Edit:
    value = chance.choice([SHARED, f"{LOCAL}icons/00001.png"])
    made = model.objects.create(cover_url=value)
    return Edit(
        kind="insert",
        model=model._meta.label,
        pk=made.pk,
        field="cover_url",
        before=None,
        after=value,
    )


# Proofs


def lost(edits: list[Edit], *, moved_later: bool) -> Iterator[str]:
    """Yield every edit that is not there any more.

    After the migration that ran meanwhile, only an element that the editor left as it was may have
    been rewritten; `moved_later`, all may lead to their bytes by another address.
    """
    contents = Contents.read()
    for edit in edits:
        now = _value_now(edit)
        if not _is_there(edit, now, contents, moved_later):
            yield f"{edit} became {now}"


def _value_now(edit: Edit) -> Any:
    from django.apps import apps

    row = apps.get_model(edit.model).objects.filter(pk=edit.pk)
    return row.values_list(edit.field or "pk", flat=True).first()


def _is_there(edit: Edit, now: Any, contents: Contents, moved_later: bool) -> bool:
    if edit.kind == "delete" or now is None:
        return now is edit.after
    if edit.kind in ("list", "text") or moved_later:
        same = contents.resolve(json.dumps(now)) == contents.resolve(json.dumps(edit.after))
    else:
        same = now == edit.after
    if edit.kind != "list" or moved_later:
        return same
    pairs = zip(now, edit.after, [*edit.before, *edit.after], strict=False)
    return same and all(new == after or after == before for new, after, before in pairs)


def count_still_named() -> str:
    """Count the values that name a local file of the project, without the names of FileFields."""
    from tests.appdirectory.models import AppSubmission
    from tests.oddities.models import Article, Listing

    values = [
        *AppSubmission.objects.values_list("app_icon_url", flat=True),
        *Listing.objects.values_list("cover_url", flat=True),
    ]
    for screens in AppSubmission.objects.values_list("screenshots_en", flat=True):
        values += screens
    for body in Article.objects.values_list("body", flat=True):
        values += set(_local_in(body))
    return str(sum(map(_is_local, values)))


def last_rewrite_at() -> str:
    from r2maint.models import Change

    return Change.objects.filter(kind="rewrite").latest("at").at.isoformat()


def attack(task: dict[str, Any]) -> dict[str, Any]:
    """Migrate while somebody edits; return what came of it."""
    attacked_project.configure(Path(task["directory"]), task["database"], task["endpoint"])
    forked(attacked_project.create_tables)
    attacked_project.begin(task["bucket"])
    forked(lambda: attacked_project.prepare(Sizes(**task["sizes"])))
    sources = sum(task["sizes"].values()) + task["sizes"]["singles"] - task["sizes"]["shared"]
    migration = Child(lambda: _migrate(task["batch"], "--rate", str(task["rate"])))
    editor = Child(lambda: edit_all(task["edits"], task["seed"], 0.6 * sources / task["rate"]))
    first, edited = json.loads(migration.result()), json.loads(editor.result())
    edits = [Edit(**each) for each in edited["edits"]]
    outlasted = forked(last_rewrite_at) < edited["ended_at"]
    broken = list(_misjudged(first, edits, count_still=not outlasted))
    broken += json.loads(forked(lambda: json.dumps(list(lost(edits, moved_later=False)))))
    second = json.loads(forked(attacked_project.migrate))
    if (second["exit_code"], second["summary"]["still_named"]) != (0, 0):
        broken.append(f"the second migration ended with {second['exit_code']}: {second['notes']}")
    later = lambda: lost(edits, moved_later=True)  # noqa: E731
    broken += json.loads(forked(lambda: json.dumps([*later(), *_left_behind()])))
    codes = json.loads(forked(attacked_project.undo_all))
    broken += json.loads(forked(lambda: json.dumps(list(later()))))
    return {
        "edits": Counter(edit.kind for edit in edits),
        "lost_rewrites": sum(edit.lost_rewrites for edit in edits),
        "outlasted": outlasted,
        "summary": first["summary"],
        "undo": codes,
        "broken": broken[:10],
    }


def _migrate(batch: int, *options: str) -> str:
    """Migrate in small batches, slow between reading rows and writing them: edits come there too."""
    from r2maint.migrate import apply
    from r2maint.references import rewrite

    read = rewrite._read

    def read_slowly(database: str, rows: Any) -> None:
        read(database, rows)
        time.sleep(READING_SECONDS)

    apply.BATCH, rewrite._read = batch, read_slowly
    return attacked_project.migrate(*options)


def _left_behind() -> Iterator[str]:
    return attacked_project.left_behind(Contents.read())


def _misjudged(first: dict[str, Any], edits: list[Edit], *, count_still: bool) -> Iterator[str]:
    """Yield what the migration told wrongly of the edits.

    When edits outlasted it, nobody knows how many it could see when it looked once more.
    """
    summary = first["summary"]
    changed = sum(int(n.replace(",", "")) for n in _CHANGED.findall(" ".join(first["notes"])))
    expected = sum(edit.lost_rewrites for edit in edits)
    if changed != expected:
        yield f"{changed} values were told to have changed, not {expected}"
    if summary["rewritten"] + changed != summary["to_rewrite"]:
        yield f"{summary['to_rewrite']} rewrites planned, {summary['rewritten']} made"
    still = int(forked(count_still_named)) if count_still else summary["still_named"]
    if summary["still_named"] != still:
        yield f"{summary['still_named']} values were told to name what was moved, not {still}"
    if first["exit_code"] != (3 if changed or still else 0):
        yield f"the exit code was {first['exit_code']}: {first['error']}"


if __name__ == "__main__":
    print(json.dumps(attack(json.loads(sys.argv[1]))), flush=True)  # noqa: T201
