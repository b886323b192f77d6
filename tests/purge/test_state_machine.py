"""The promise of purge, with everything that can happen around it, at any moment of it.

What is named is never lost but in the one window that the plan names, and whatever a run removed
comes back byte for byte, with its headers, overwriting nothing. Rows are committed by another
connection between any two statements and requests of r2maint; kills, failures and stops come there
too. Some seconds of it belong to the suite; a long search is

    R2MAINT_MACHINE_STEPS=20000 R2MAINT_MACHINE_SEED=1000 python -m pytest tests/purge/test_state_machine.py -n 0 -o timeout=0 -s
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, NamedTuple
from unicodedata import normalize

import pytest
from django.db import connections

from r2maint import conf
from r2maint.control import Control
from r2maint.errors import BucketError, BucketUnreachable, LeaseHeld, R2MaintError, Refused
from r2maint.journal import journal
from r2maint.keys import Addresses, identity
from r2maint.models import Change, ChangeKind, ChangeState, Identity, Run, RunState, Sighting
from r2maint.purge.apply import apply_purge
from r2maint.purge.brakes import NAMES, UNTRUSTED, MaxDelete
from r2maint.purge.plan import plan_purge
from r2maint.purge.result import PurgeOptions, PurgeOutcome, PurgePlan
from r2maint.purge.verdict import UNNAMED, PurgeAction
from r2maint.runs.undo.apply import apply_undo
from r2maint.runs.undo.plan import plan_undo
from tests.conftest import DATABASES
from tests.fakes import FakeClock, R2Fake
from tests.worlds.around_a_purge import (
    FORMS,
    HOUR,
    KEYS,
    SOURCE,
    TABLES,
    UNDO_WINDOW,
    Content,
    World,
    content,
)

STEPS = int(os.environ.get("R2MAINT_MACHINE_STEPS", "80"))
EXAMPLE = 20
"""Steps until everything begins anew."""
OWN = ".r2maint/"
KINDS = ("list", "read", "write", "lease", "copy", "put", "get", *3 * ["head"], *4 * ["delete"])
ENDS = ("kill", "kill", "kill", "fail", "lose the answer", "lose the lease", "stop", "time out")
GRACES = (timedelta(0), 3 * HOUR, 3 * HOUR)
SETTINGS: tuple[dict[str, Any], ...] = (
    {},
    {"MANAGED_PREFIXES": ["submissions/"]},
    {"PROTECTED": ["submissions/a.*"]},
    {"EXTRA_REFERENCES": {}},
    {
        "NOT_REFERENCES": {
            **dict.fromkeys(DATABASES[1:], "not of this test"),
            "nobodys": "forgotten",
        }
    },
)
SEEN: Counter[str] = Counter()
"""What happened in all machines together: a search that never deletes proves nothing."""


class Killed(BaseException):
    """What no code catches, as no code outlives kill -9."""


class Look(NamedTuple):
    """What one complete plan saw orphaned."""

    at: datetime
    circumstances: tuple[str, int]
    versions: dict[str, tuple[str, datetime]]


class Project(NamedTuple):
    """What every machine of one test shares."""

    settings: Any
    database: str
    directory: Path
    clock: list[Callable[[], datetime]]
    """Of the machine at work: what stands for the clock of this computer."""


class Moment(NamedTuple):
    """The nth request or statement of a kind, counted from the beginning of a plan, or its end."""

    kind: str
    number: int


class Moments:
    """Lets things happen at single requests and statements of r2maint."""

    def __init__(self, observe: Callable[[str, str], None]) -> None:
        self._observe = observe
        self._counts: Counter[str] = Counter()
        self.known: dict[str, int] = {}
        """How many of each kind the last disturbed stretch that had any did."""
        self.clear()

    def clear(self) -> None:
        self.known |= self._counts
        self._acts: list[tuple[Moment, Callable[[], None]]] = []
        self._due: list[Callable[[], None]] = []
        self._end: tuple[Moment, Callable[[str, str], None]] | None = None
        self._counts.clear()

    def draw(self, chance: Random) -> Moment:
        kind = chance.choice(KINDS)
        return Moment(kind, chance.randint(1, max(self.known.get(kind, 0), 2)))

    def at(self, moment: Moment, act: Callable[[], None]) -> None:
        self._acts.append((moment, act))

    def end_at(self, moment: Moment, act: Callable[[str, str], None]) -> None:
        """Let `act` be the answer to one request; it may raise."""
        self._end = (moment, act)

    def come(self, kind: str, key: str = "") -> None:
        """Take note of a request or statement that is about to take effect."""
        self._counts[kind] += 1
        now = Moment(kind, self._counts[kind])
        self._due += [act for moment, act in self._acts if moment == now]
        # Another connection has to wait for a transaction that writes; so does what it wants.
        if self._due and not connections["default"].in_atomic_block:
            due, self._due = self._due, []
            for act in due:
                act()
        is_end = self._end is not None and self._end[0] == now
        if is_end and self._end is not None:
            self._end[1](kind, key)
        self._observe(kind, key)


class PurgeMachine:
    def __init__(self, project: Project, seed: int) -> None:
        self.seed, self.steps = seed, 0
        self.told: list[str] = []
        for model in (Run, Change, Sighting, Identity):
            model.objects.all().delete()
        self.project = project
        self.bucket = R2Fake(clock=FakeClock(), page_size=3)
        self.world = World(self.bucket, project.database, project.directory / SOURCE)
        project.clock[:] = [self.world.machine_now]
        self.moments = Moments(self._observe)
        self.bucket.before = self.moments.come
        self.runs: list[str] = []
        self.looks: list[Look] = []
        self.identities = 0
        """How often it was doubted whose bucket this is: what was seen before counts no more."""
        self._configure({})

    def run(self) -> None:
        """Take some steps at random, and undo them all."""
        acts = [self.meanwhile, self.plan, self.purge, self.purge_that_is_cut_short, self.undo]
        try:
            for _ in range(EXAMPLE):
                act = Random(f"{self.seed} act {self.steps}").choice(acts)
                self.told.append(f"* {act.__name__}")
                act()
                self.every_object_is_there_or_in_quarantine()
            self._undo_all()
        except BaseException:
            print(f"seed {self.seed}", *self.told, sep="\n")  # noqa: T201
            raise
        finally:
            self.world.close()

    def _undo_all(self) -> None:
        self.moments.clear()
        while run_id := self._last_run():
            self._undo(run_id)
        for key in self.world.expected:
            self._require(key)

    def _chance(self) -> Random:
        self.steps += 1
        SEEN["steps"] += 1
        return Random(f"{self.seed} {self.steps}")

    # What others do

    def meanwhile(self) -> None:
        chance = self._chance()
        acts = (self._live, self._configure_anew, self._lose_identity, self._work, self._work)
        chance.choice(acts)(chance)

    def _live(self, chance: Random) -> None:
        self.world.file(*chance.sample(KEYS, chance.choice([0, 0, 1])))
        for _ in range(chance.randint(1, 4)):
            self.told.append(self.world.happen(chance))
        if chance.random() < 0.1:
            self.world.skew = chance.randint(-6, 6) * HOUR
        self.world.pass_time(chance.choice([-1, 0, 1, 2, 3, 4]) * HOUR)

    def _configure_anew(self, chance: Random) -> None:
        self._configure(chance.choice(SETTINGS) if chance.random() < 0.5 else {})

    def _configure(self, given: Mapping[str, Any]) -> None:
        usual = {
            "EXTRA_REFERENCES": {"files": [SOURCE]},
            "NOT_REFERENCES": dict.fromkeys(DATABASES[1:], "not of this test"),
            "UNDO_WINDOW": UNDO_WINDOW,
        }
        mine = {**self.project.settings.R2MAINT, "PROTECTED": [], **usual}
        mine["MANAGED_PREFIXES"] = ["submissions/", "apps/"]
        self.project.settings.R2MAINT = {**mine, **given}
        self.config = conf.load()
        unread = set(self.config.not_references) & TABLES.keys()
        self.world.unread = unread | (set() if self.config.extra_references.files else {"files"})
        self.world.look()

    def _lose_identity(self, chance: Random) -> None:
        """An old dump is loaded, now and then."""
        if chance.random() < 0.5 and Identity.objects.update(nonce="of long ago"):
            self.identities += 1

    def _work(self, chance: Random) -> None:
        """Another run moves a row to another object, or is killed between upload and row."""
        key, other = chance.sample(KEYS, 2)
        rows = [row for row in self.world.rows if row.key == key and row.table in TABLES]
        if self.world.in_flight:
            self._end_upload(chance)
        elif rows:
            self._journal("finished", ChangeKind.REWRITE, FORMS["url"](key), old_key=key, key=other)
            self.world.rewritten.append((self.world.machine_now(), key))
            self.world.move(rows[0], rows[0].table, "url")
            self.world.forget(key)
            self.world.name(other, rows[0].table, "url")
        else:
            self._journal("running", ChangeKind.UPLOAD, "/srv/a.webp", old_key="", key=key)
            self.world.in_flight.add(key)
            self.world.upload(key, body=b"first", age=9 * HOUR)
            self.world.look()

    def _journal(self, state: str, kind: str, old: str, **change: str) -> None:
        at = journal.now()
        run = Run.objects.create(
            id=journal.new_run_id(at), command="migrate", bucket="fake", state=state, started_at=at
        )
        Change.objects.create(run_id=run.pk, kind=kind, state="done", old=old, at=at, **change)

    def _end_upload(self, chance: Random) -> None:
        key = self.world.in_flight.pop()
        if chance.random() < 0.5:
            self.world.name(key, chance.choice([*TABLES]), "url")
        Run.objects.filter(command="migrate").update(state=RunState.FINISHED)
        self.world.look()

    # What r2maint does

    def plan(self) -> None:
        with self._disturbed(self._chance()):
            self._plan(PurgeOptions(grace=3 * HOUR, adopt=True))

    def purge(self) -> None:
        self._purge(self._chance(), ends=False)

    def purge_that_is_cut_short(self) -> None:
        self._purge(self._chance(), ends=True)

    def _purge(self, chance: Random, *, ends: bool) -> None:
        self._live(chance)
        for key in KEYS:
            if chance.random() < 0.5:
                self.world.forget(key)
        options, told = self._options(chance), chance.random() < 0.5
        self.control = Control()
        end = chance.choice(ENDS) if ends else ""
        is_early = chance.random() < 0.3
        with self._disturbed(chance if is_early else None, end=end):
            try:
                planned = self._plan(options)
                if planned.refusals:
                    self._require_refusal(planned)
                else:
                    self._disturb(None if is_early else chance, end)
                    self._apply(planned, told=told)
            except R2MaintError:
                if not self.ended:
                    raise

    def _options(self, chance: Random) -> PurgeOptions:
        strict = chance.random() < 0.15
        return PurgeOptions(
            grace=chance.choice(GRACES),
            second_look=chance.random() < 0.3,
            max_delete=None if strict else MaxDelete.parse("100%"),
            adopt=not strict or chance.random() < 0.5,
            overrides=frozenset() if strict else frozenset(NAMES) - {"identity"},
            hard=chance.random() < 0.05,
            limit=chance.choice([None, None, None, 1]),
        )

    def _plan(self, options: PurgeOptions) -> PurgePlan:
        began, self.listed, self.doomed = self.bucket.now(), 0, ()
        written = len(self._writes())
        try:
            planned = plan_purge(self.config, self.bucket, options)
        finally:
            assert len(self._writes()) == written, "a plan writes nothing"
        self._check_plan(planned, began)
        self.doomed = tuple(sorted(identity(item.key) for item in planned.orphans()))
        SEEN["planned"] += len(self.doomed)
        return planned

    def _writes(self) -> list[tuple[str, str]]:
        return [call for call in self.bucket.calls if call[0] in ("put", "copy", "delete")]

    def _require_refusal(self, planned: PurgePlan) -> None:
        before = len(self._writes())
        run = self._open_run()
        with pytest.raises(Refused):
            apply_purge(planned, self.config, self.bucket, run)
        assert len(self._writes()) == before
        run.finish(state=RunState.STOPPED, summary={})
        SEEN["refused"] += 1

    def _apply(self, planned: PurgePlan, *, told: bool) -> None:
        run = self._open_run()
        run.lease = self
        self.world.tick += 1
        self.is_hard = planned.options.hard
        self.ready = self.world.tick if self.is_hard else None
        self.last_deletion = self.world.tick
        self.headed: dict[str, tuple[int, Content]] = {}
        there = set(self.bucket.objects)
        state = RunState.STOPPED
        try:
            outcome = apply_purge(planned, self.config, self.bucket, run, control=self.control)
            state = RunState.STOPPED if outcome.stopped else RunState.FINISHED
        except Killed:
            reconnect()
            if not told:
                return
        except Refused:
            # The world emptied a source.
            SEEN["refused later"] += 1
        finally:
            if told or state == RunState.FINISHED:
                run.finish(state=state, summary={})
        if state == RunState.FINISHED:
            self._check_end(run.run_id, outcome, there)

    def check(self) -> None:
        """Be the lease of a run."""
        self.moments.come("lease")

    def undo(self) -> None:
        chance = self._chance()
        if run_id := self._last_run():
            with self._disturbed(chance, end=chance.choice(["", "kill"])):
                self._undo(run_id)

    def _undo(self, run_id: str) -> None:
        arguments = (self.config, Addresses.from_config(self.config), self.bucket)
        run = journal.open_journal(
            command="r2_runs", bucket=self.bucket.name, options={"undo": run_id}
        )
        planned = plan_undo(run_id, *arguments, control=Control())
        result = apply_undo(planned, *arguments, run, control=Control())
        run.finish(state=RunState.FINISHED, summary={})
        failed = [item for item in result.items if item.action == "fail"]
        # Somebody uploaded something else under the key, or there never was a copy.
        assert all("taken" in i.reason or "without a copy" in i.reason for i in failed)
        Run.objects.filter(pk=run_id).update(state=RunState.UNDONE)
        SEEN["undone"] += len(result.items) - len(failed)

    def _last_run(self) -> str | None:
        """Return the last purge to undo: of two versions of an object, the last one comes back."""
        known = Run.objects.filter(pk__in=self.runs).exclude(state=RunState.UNDONE)
        left = set(known.values_list("pk", flat=True))
        return next((run_id for run_id in reversed(self.runs) if run_id in left), None)

    def _open_run(self) -> journal.Journal:
        run = journal.open_journal(command="purge_orphans", bucket=self.bucket.name, options={})
        if not run.resumed:
            self.runs.append(run.run_id)
        return run

    # Disturbing

    @contextmanager
    def _disturbed(self, chance: Random | None, *, end: str = "") -> Iterator[None]:
        """Let things happen, and perhaps an end come, at moments of what r2maint does inside."""
        self.ended, self.doomed = False, ()
        self._disturb(chance, end)
        try:
            with connections["default"].execute_wrapper(self._statement):
                yield
        except Killed:
            reconnect()
        finally:
            self.moments.clear()

    def _disturb(self, chance: Random | None, end: str) -> None:
        if chance is None:
            return
        self.moments.clear()
        for _ in range(chance.randint(0, 3)):
            self.moments.at(self.moments.draw(chance), lambda: self._interfere(chance))
        if end:
            moment = self.moments.draw(chance)
            self.moments.end_at(moment, lambda kind, key: self._end(end, kind, key))

    def _interfere(self, chance: Random) -> None:
        keys = self.doomed if self.doomed and chance.random() < 0.8 else KEYS
        if self.doomed and chance.random() < 0.5:
            what = self.world.touch(chance, chance.choice(self.doomed))
        else:
            what = self.world.happen(chance, keys)
        self.told.append(f"meanwhile: {what}")
        SEEN["events"] += 1

    def _statement(self, execute: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        kind = sql.split(None, 1)[0]
        if kind == "SELECT":
            self.moments.come("read")
        elif kind in ("INSERT", "UPDATE", "DELETE"):
            self.moments.come("write")
        return execute(sql, *arguments)

    def _end(self, end: str, kind: str, key: str) -> None:
        self.ended = True
        SEEN[f"{end} at {kind}"] += 1
        self.told.append(f"{end} at {kind} {key}")
        if end == "kill":
            raise Killed
        if end == "stop":
            self.control.signal_code = 130
        elif end == "time out":
            self.control.deadline = 0.0
        elif kind == "lease":
            raise LeaseHeld("Another run holds the lease.")
        elif kind in ("read", "write"):
            raise Killed
        elif end == "lose the answer" and kind == "delete":
            self._observe(kind, key)
            del self.bucket.objects[identity(key)]
            raise BucketError("The answer cannot be read.")
        else:
            raise BucketUnreachable("No answer.") if kind == "list" else BucketError("500")

    # Looking at each step

    def _observe(self, kind: str, key: str) -> None:
        self.world.tick += 1
        stored = self.bucket.objects.get(identity(key))
        if kind == "list":
            self.listed = self.world.tick
        elif kind == "put" and "/manifest-" in key:
            self.ready = self.world.tick
        elif kind == "head" and stored:
            self.headed[identity(key)] = self.world.tick, content(stored)
        elif kind == "delete" and stored:
            self._check_deletion(identity(key), key)
            self.last_deletion = self.world.tick

    def _check_plan(self, planned: PurgePlan, began: datetime) -> None:
        named = self.world.named(self.bucket.now())
        for item in planned.items:
            if item.action is PurgeAction.PLAN:
                key, found = identity(item.object.key), item.object
                assert key.startswith(self.config.managed_prefixes)
                assert not (self.config.protected and key.startswith("submissions/a."))
                assert found.modified_at + planned.options.grace <= self.bucket.now()
                since = self.world.since.get(key, self.listed + 1)
                assert not (key in named and since <= self.listed), (
                    f"{key!r} was named all the time"
                )
                if planned.options.second_look:
                    self._check_looks(key, (found.etag, found.modified_at), planned.options.grace)
        if not UNTRUSTED & {refusal.brake for refusal in planned.refusals}:
            bare = [item.object for item in planned.items if item.verdict in UNNAMED]
            versions = {identity(one.key): (one.etag, one.modified_at) for one in bare}
            self.looks.append(Look(began, self._circumstances(), versions))

    def _circumstances(self) -> tuple[str, int]:
        given = {name: str(value) for name, value in self.project.settings.R2MAINT.items()}
        return json.dumps(given, sort_keys=True), self.identities

    def _check_looks(self, key: str, version: tuple[str, datetime], grace: timedelta) -> None:
        first = None
        for look in reversed(self.looks):
            if look.circumstances != self._circumstances() or look.versions.get(key) != version:
                break
            first = look.at
        assert first is not None, f"{key!r} was never seen orphaned before"
        assert first + grace <= self.bucket.now(), f"{key!r} was first seen at {first}"

    def _check_deletion(self, key: str, spelling: str) -> None:
        SEEN["deleted"] += 1
        assert self.ready is not None, "deleted before the manifest was there"
        assert key in self.headed, "deleted without a look"
        at, seen = self.headed[key]
        assert at > self.ready, "deleted without a last look"
        since = self.world.since.get(key)
        assert since is None or since > self.ready, f"{key!r} was named before the second reading"
        copy = self.world.committed_deletion(spelling)
        assert copy is not None, "deleted before it was written down"
        if self.is_hard:
            self.world.expected.pop(key, None)
            return
        assert content(self.bucket.objects[copy]) == seen, "the copy is of another version"
        assert (spelling, copy) in self._manifest(), "the manifest does not tell of it"
        if self.world.expected.get(key) != seen:
            # The one window: another writer replaced it after the last look.
            SEEN["lost in the window"] += 1
            self.world.expected[key] = seen

    def _manifest(self) -> set[tuple[str, str]]:
        bodies = [o.body for name, o in self.bucket.objects.items() if "/manifest-" in name]
        lines = [json.loads(line) for body in bodies for line in body.splitlines()]
        return {(line["key"], line["copy"]) for line in lines if "copy" in line}

    def _check_end(self, run_id: str, outcome: PurgeOutcome, there: set[str]) -> None:
        """Whatever was named when nothing was deleted any more is there."""
        # Also what an earlier execution of this run deleted is back, if it is named by now.
        theirs = Change.objects.filter(run_id=run_id, kind=ChangeKind.DELETE)
        there |= set(map(identity, theirs.values_list("old", flat=True)))
        failed = {identity(i.object.key) for i in outcome.items if i.action is PurgeAction.FAIL}
        SEEN["restored"] += sum(item.action is PurgeAction.RESTORE for item in outcome.items)
        for key in there & self.world.expected.keys() - failed:
            if self.world.since.get(key, self.world.tick) < self.last_deletion:
                self._require(key)

    def _require(self, key: str) -> None:
        assert key in self.bucket.objects, f"{key!r} is lost"
        assert content(self.bucket.objects[key]) == self.world.expected[key]

    def every_object_is_there_or_in_quarantine(self) -> None:
        for key in self.world.expected:
            if key in self.bucket.objects:
                self._require(key)
            else:
                spellings = [key, normalize("NFD", key)]
                deleted = Change.objects.filter(kind=ChangeKind.DELETE, old__in=spellings)
                deleted = deleted.exclude(state=ChangeState.CONFLICT).latest("pk")
                assert content(self.bucket.objects[deleted.new]) == self.world.expected[key]


def reconnect() -> None:
    """Let the database roll back what a killed process had open."""
    connections["default"].close()
    with connections["default"].cursor() as cursor:
        cursor.execute("PRAGMA synchronous = OFF")


@pytest.fixture
def machine_project(project, settings, monkeypatch) -> Iterator[Project]:
    """A project whose database lets another connection write while it is read."""
    connection = connections["default"]
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA journal_mode = WAL")
    reconnect()
    clock: list[Callable[[], datetime]] = []
    monkeypatch.setattr(journal, "now", lambda: clock[0]())
    # Small buckets of several batches.
    monkeypatch.setattr("r2maint.purge.journal_steps.BATCH", 2)
    yield Project(settings, connection.settings_dict["NAME"], project, clock)
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS nobodys")
        cursor.execute("DELETE FROM legacy_banner")
        cursor.execute("PRAGMA journal_mode = DELETE")


@pytest.mark.django_db(transaction=True, databases=DATABASES)
def test_nothing_named_is_lost_and_everything_removed_comes_back(machine_project):
    SEEN.clear()
    first = int(os.environ.get("R2MAINT_MACHINE_SEED", "1"))
    for seed in range(first, first + max(1, STEPS // EXAMPLE)):
        PurgeMachine(machine_project, seed).run()
    print(dict(SEEN))  # noqa: T201
    assert SEEN["deleted"]
    assert SEEN["restored"] + SEEN["undone"]
