"""The promise of purge, with uploads, edits, kills, resumes and undos in any order.

What was named at the last reading of a run is there when the run is over; whatever a run removed
comes back byte for byte, with its headers.
"""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from random import Random
from typing import NamedTuple
from urllib.parse import quote

import pytest
from django.db.models import QuerySet
from hypothesis import HealthCheck, note
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from r2maint import conf, journal
from r2maint.bucket import Headers
from r2maint.control import Control
from r2maint.errors import Refused
from r2maint.keepset.reading import KeepSet
from r2maint.keys import Addresses
from r2maint.models import Change, ChangeKind, Identity, Run, RunState, Sighting
from r2maint.purge.brakes import NAMES, MaxDelete
from r2maint.purge.deletion import apply_purge
from r2maint.purge.items import PurgeOptions
from r2maint.purge.plan import plan_purge
from r2maint.undo import apply_undo, plan_undo
from tests.conftest import DATABASES
from tests.fakes import FakeClock, R2Fake
from tests.oddities.models import Article

ANCHOR = "submissions/anchor.webp"
KEYS = (
    "submissions/a.webp",
    "submissions/a.webp.bak",
    "submissions/b c (1).webp",
    "submissions/café.webp",
    "submissions/d%20e.webp",
)
FORMS: dict[str, Callable[[str], str]] = {
    "plain": lambda key: key,
    "url": lambda key: f"see https://any.example/{quote(key)}?a=1.",
    "decomposed": lambda key: json.dumps([unicodedata.normalize("NFD", key)]),
}
HOUR = timedelta(hours=1)
GRACE = timedelta(hours=3)
OPERATIONS = ("delete", "delete", "put", "put", "head", "copy", "get", "list")
Moment = tuple[str, int]
"""The nth request of a kind in one execution."""


class Content(NamedTuple):
    body: bytes
    headers: Headers


class Killed(BaseException):
    """What no code catches, as no code outlives kill -9."""


def kill() -> None:
    raise Killed


class PurgeMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        for model in (Run, Change, Sighting, Identity, Article):
            model.objects.all().delete()
        self.bucket = R2Fake(clock=FakeClock())
        self.config = conf.load()
        self.expected: dict[str, Content] = {}
        """What somebody uploaded and nobody but a purge took away."""
        self.read: set[str] = set()
        """What was named at the last reading, or at a deletion after it."""
        self.versions = 0
        for key in (ANCHOR, *KEYS):
            self._upload(key, 2 * GRACE)
        self._name(ANCHOR, "plain")

    @initialize(seed=st.integers(0, 2**64))
    def begin(self, seed: int) -> None:
        self.seed, self.steps = seed, 0

    def _chance(self) -> Random:
        # One seed for all steps: Hypothesis likes to repeat the step it drew before.
        self.steps += 1
        return Random(f"{self.seed} {self.steps}")

    # What others do

    def _live(self, chance: Random) -> None:
        self.bucket.clock.move(chance.randrange(5) * HOUR)
        for key in chance.sample(KEYS, chance.randint(0, 3)):
            self._forget(key)
        for key in chance.sample(KEYS, chance.randint(0, 2)):
            self._name(key, chance.choice(sorted(FORMS)))
        for key in chance.sample(KEYS, chance.randint(1, 5)):
            self._upload(key, chance.choice((2 * GRACE, 2 * GRACE, HOUR)))
        if chance.random() < 0.2:
            taken = chance.choice(KEYS)
            self.bucket.objects.pop(taken, None)
            self.expected.pop(taken, None)

    def _upload(self, key: str, age: timedelta) -> None:
        self.versions += 1
        content = Content(f"{self.versions}".encode(), Headers(metadata={"v": str(self.versions)}))
        self.bucket.add(key, content.body, headers=content.headers, age=age)
        self.expected[key] = content

    def _name(self, key: str, form: str) -> None:
        Article.objects.create(body=FORMS[form](key))

    def _forget(self, key: str) -> None:
        Article.objects.filter(body__in=[form(key) for form in FORMS.values()]).delete()

    # What r2maint does

    @rule()
    def purge(self) -> None:
        chance = self._chance()
        self._live(chance)
        second_look, is_told = chance.random() < 0.25, chance.random() < 0.5
        killed_at, named_at = self._moment(chance), self._moment(chance)
        name, upload = chance.choice(KEYS), chance.choice(KEYS)
        # Between the last HEAD of a key and its DELETE, R2 cannot exclude another writer.
        uploaded_at = ("copy", chance.randint(1, 5))
        note(f"killed at {killed_at}, {name} named at {named_at}, {upload} replaced {uploaded_at}")
        before = dict(self.bucket.objects)
        planned = self._plan(second_look=second_look)
        assert self.bucket.objects == before, "a plan writes nothing"
        assert not planned.refusals
        named, there = self._named(), set(self.bucket.objects)
        self._arrange(
            (named_at, lambda: self._name(name, "url")),
            (uploaded_at, lambda: self._upload(upload, 2 * GRACE)),
            (killed_at, kill),
        )
        run = journal.open_journal(command="purge_orphans", bucket=self.bucket.name, options={})
        state = RunState.STOPPED
        try:
            apply_purge(planned, self.config, self.bucket, run)
            state = RunState.FINISHED
        except (Killed, Refused):
            pass
        finally:
            self.bucket.before = lambda operation, key: None
        if state == RunState.FINISHED or is_told:
            run.finish(state=state, summary={})
        if state == RunState.FINISHED:
            # Also what an earlier execution of this run deleted is back, if it is named by now.
            theirs = Change.objects.filter(run_id=run.run_id, kind=ChangeKind.DELETE)
            self._require(self.read & (there | set(theirs.values_list("old", flat=True))))
        else:
            self._require(named & there)

    @rule()
    def undo(self) -> None:
        killed_at = self._moment(self._chance())
        if run := self._runs().first():
            self._arrange((killed_at, kill))
            try:
                self._undo(run.pk)
            except Killed:
                return
            finally:
                self.bucket.before = lambda operation, key: None
            assert Run.objects.get(pk=run.pk).state == RunState.UNDONE

    @invariant()
    def what_is_gone_lies_in_quarantine(self) -> None:
        for key in self.expected.keys() - self.bucket.objects.keys():
            deleted = Change.objects.filter(kind=ChangeKind.DELETE, old=key).latest("pk")
            copy = self.bucket.objects[deleted.new]
            assert Content(copy.body, copy.info.headers) == self.expected[key]

    def teardown(self) -> None:
        for run in self._runs():
            self._undo(run.pk)
        self._require(set(self.expected))

    # Arranging and looking

    def _plan(self, *, second_look: bool):
        options = PurgeOptions(
            grace=GRACE,
            second_look=second_look,
            max_delete=MaxDelete.parse("100%"),
            adopt=True,
            overrides=frozenset(NAMES),
        )
        return plan_purge(self.config, self.bucket, options)

    def _moment(self, chance: Random) -> Moment:
        is_ever = chance.random() < 0.5
        return (chance.choice(OPERATIONS), chance.randint(1, 5)) if is_ever else ("", 0)

    def _arrange(self, *events: tuple[Moment, Callable[[], None]]) -> None:
        counts: Counter[str] = Counter()

        def before(operation: str, key: str) -> None:
            counts[operation] += 1
            for moment, happen in events:
                if moment == (operation, counts[operation]):
                    happen()
            if operation == "delete":
                self.read = self._named()

        self.bucket.before = before

    def _undo(self, run_id: str) -> None:
        arguments = (self.config, Addresses.from_config(self.config), self.bucket)
        run = journal.open_journal(
            command="r2_runs", bucket=self.bucket.name, options={"undo": run_id}
        )
        planned = plan_undo(run_id, *arguments, control=Control())
        result = apply_undo(planned, *arguments, run, control=Control())
        run.finish(state=RunState.FINISHED, summary={})
        if any(item.action == "fail" for item in result.items):
            # Somebody uploaded something else under the key: nothing is overwritten.
            Run.objects.filter(pk=run_id).update(state=RunState.UNDONE)
            failed = [item.change for item in result.items if item.action == "fail"]
            assert all("taken" in i.reason for i in result.items if i.action == "fail")
            assert all(change.old in self.bucket.objects for change in failed)

    def _runs(self) -> QuerySet[Run]:
        runs = Run.objects.filter(command="purge_orphans").exclude(state=RunState.UNDONE)
        return runs.order_by("-started_at")

    def _named(self) -> set[str]:
        bodies = set(Article.objects.values_list("body", flat=True))
        return {key for key in KEYS if bodies & {form(key) for form in FORMS.values()}}

    def _require(self, keys: set[str]) -> None:
        """Check that the bucket holds these keys as they were uploaded, if they were."""
        for key in keys & self.expected.keys():
            assert key in self.bucket.objects, f"{key!r} is lost"
        for key, content in self.expected.items():
            if stored := self.bucket.objects.get(key):
                assert Content(stored.body, stored.info.headers) == content


@pytest.mark.django_db(databases=DATABASES)
def test_nothing_named_is_lost_and_everything_removed_comes_back(project, settings, monkeypatch):
    settings.R2MAINT = {**settings.R2MAINT, "NOT_REFERENCES": {"postgres": "not of this test"}}
    machines: list[PurgeMachine] = []

    def start() -> PurgeMachine:
        machines.append(PurgeMachine())
        return machines[-1]

    read = KeepSet.read

    def watched(self, *arguments, **options):
        reading = read(self, *arguments, **options)
        machines[-1].read = machines[-1]._named()
        return reading

    monkeypatch.setattr(KeepSet, "read", watched)
    run_state_machine_as_test(
        start,
        settings=hypothesis_settings(
            max_examples=18,
            stateful_step_count=10,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
