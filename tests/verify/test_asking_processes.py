"""Probers in processes of their own say what one in this process says, and never hang a run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest

from r2maint.bucket import StoredObject
from r2maint.control import STOP_SIGNALS
from r2maint.errors import R2MaintError, Stopped
from r2maint.http import Guard
from r2maint.journal.journal import now
from r2maint.verify.asking import asking_processes
from r2maint.verify.asking.asking_processes import ProbersApart
from r2maint.verify.asking.prober import HELD_BYTES, PER_STRANGER, Inquiry, Prober
from r2maint.verify.verdicts.outcomes import Level, Outcome
from tests.servers.websites import BREAK, Site, reply, site
from tests.worlds.helper_processes import helpers

BODY = b"\x89PNG\r\n\x1a\n of some length"
IMAGE = "Content-Type: image/png"


@pytest.fixture
def web() -> Iterator[Site]:
    """A host that serves pictures, but for paths that name what else it does."""
    over = threading.Event()

    def answer(request):
        path = request.target
        if path.startswith("/gone"):
            return [reply(404, b"")]
        if path.startswith("/broken"):
            return [BREAK]
        if path.startswith("/stuck"):
            over.wait(60)
        return [reply(200, BODY, "Content-Type: text/html" if "page" in path else IMAGE)]

    with site(answer) as found:
        yield found
        over.set()


@pytest.fixture
def started(web) -> Iterator[ProbersApart]:
    with closing(ProbersApart(prober_of(web), processes=2)) as prober:
        prober.start()
        yield prober


def prober_of(web: Site, workers: int = 4, **options) -> Prober:
    guard = Guard(frozenset({("127.0.0.1", web.port)}))
    return Prober(level=Level.HTTP, guard=guard, workers=workers, **options)


def inquiries(web: Site, *paths: str) -> list[Inquiry]:
    return [
        Inquiry(f"{web.url}/{path}", "host", stored(path)) if path else Inquiry() for path in paths
    ]


def stored(key: str) -> StoredObject:
    return StoredObject(key=key, size=len(BODY), etag="", modified_at=now())


def ask(prober: ProbersApart | Prober, asked: list[Inquiry], *, ours: bool = True) -> list:
    return list(prober.verdicts(iter(asked), ours=ours, heed=lambda: None))


def processes_of(prober: ProbersApart):
    return [child.helper.process for child in prober._children]


PATHS = ("a.png", "", "gone.png", "page.png", "broken.png", "", "b.png", "gone-2.png")


@pytest.mark.parametrize("ours", [True, False])
def test_it_says_what_a_prober_in_this_process_says(web, started, monkeypatch, ours):
    within = prober_of(web)

    assert ask(started, inquiries(web, *PATHS), ours=ours) == ask(
        within, inquiries(web, *PATHS), ours=ours
    )
    assert started.hosts == within.hosts
    assert within.hosts.tallies["host"].asked == 6


def test_one_process_answers_again_and_again_and_remembers_hosts(web, started):
    for ours in (True, False, True):
        (verdict,) = ask(started, inquiries(web, "a.png"), ours=ours)
        assert verdict.outcome is Outcome.OK
    assert ask(started, []) == []
    assert started.hosts.tallies["host"].asked == 3


def test_verdicts_come_in_order_however_many_there_are(web, started, monkeypatch):
    monkeypatch.setattr(asking_processes, "_BATCH", 7)
    paths = [("gone.png", "a.png", "")[number % 3] for number in range(500)]

    outcomes = [each and each.outcome for each in ask(started, inquiries(web, *paths))]

    wanted = {"gone.png": Outcome.NOT_PUBLIC, "a.png": Outcome.OK, "": None}
    assert outcomes == [wanted[path] for path in paths]


def test_neighbours_that_fail_are_shared_and_no_process_gives_up_for_them(web, started):
    failing = ask(started, inquiries(web, *[f"broken-{number}.png" for number in range(16)]))
    assert {each.outcome for each in failing} == {Outcome.UNSURE}

    later = ask(started, inquiries(web, "a.png", "b.png"))

    assert [each.outcome for each in later] == [Outcome.OK, Outcome.OK]
    assert not started.hosts.is_given_up("host")


def test_what_is_passed_on_may_be_as_large_and_as_much_as_it_likes(started):
    heavy = [Inquiry(held_bytes=HELD_BYTES // 3) for _ in range(100)]
    long = [Inquiry(host="x" * 10_000) for _ in range(5000)]
    assert ask(started, [*heavy, *long]) == [None] * 5100


def test_no_more_is_taken_ahead_than_may_be_held(started):
    taken = 0

    def heavy() -> Iterator[Inquiry]:
        nonlocal taken
        for _ in range(50):
            taken += 1
            yield Inquiry(held_bytes=HELD_BYTES // 4)

    for count, _ in enumerate(started.verdicts(heavy(), ours=True, heed=lambda: None)):
        assert taken <= count + 4


def test_a_process_that_dies_is_told_in_a_sentence(web, started):
    answers = started.verdicts(
        iter(inquiries(web, "a.png", "stuck.png")),
        ours=True,
        heed=lambda: os.kill(processes_of(started)[0].pid, signal.SIGKILL),
    )
    with pytest.raises(R2MaintError, match="process that asks URLs ended"):
        list(answers)
    with pytest.raises(R2MaintError, match="process that asks URLs ended"):
        ask(started, inquiries(web, *["a.png"] * 1000))


def test_what_heed_raises_ends_it_while_a_host_is_silent(web, started):
    calls = 0

    def stop() -> None:
        nonlocal calls
        calls += 1
        if calls > 2:
            raise Stopped("signal", 130)

    with pytest.raises(Stopped):
        list(started.verdicts(iter(inquiries(web, "stuck.png")), ours=True, heed=stop))
    assert len(helpers(os.getpid())) == 2
    started.close()
    assert not helpers(os.getpid())


@pytest.mark.parametrize("number", STOP_SIGNALS)
@pytest.mark.parametrize("is_young", [True, False], ids=["starting", "at work"])
def test_a_signal_to_the_whole_group_is_left_to_the_parent(web, number, is_young):
    with closing(ProbersApart(prober_of(web), processes=2)) as started:
        started.start()
        if not is_young:
            ask(started, inquiries(web, "a.png"))
        for process in processes_of(started):
            os.kill(process.pid, number)
        (verdict,) = ask(started, inquiries(web, "b.png"))
    assert verdict.outcome is Outcome.OK
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()).isdisjoint(STOP_SIGNALS)


def test_a_stop_that_ends_the_processes_too_is_told_as_the_stop(web, started):
    is_over = threading.Event()

    def stop() -> None:
        if is_over.is_set():
            raise Stopped("signal", 143)

    def end() -> None:
        is_over.set()
        processes_of(started)[0].kill()

    answers = started.verdicts(iter(inquiries(web, "a.png", "stuck.png")), ours=True, heed=stop)
    next(answers)
    threading.Timer(0.1, end).start()
    with pytest.raises(Stopped):
        list(answers)


def test_the_process_leaves_when_its_parent_is_gone(web, started):
    asked = started.verdicts(
        iter(inquiries(web, "a.png", "stuck.png")), ours=True, heed=lambda: None
    )
    next(asked)
    for child in started._children:
        child.helper._connection.close()  # as the system does for a parent that was killed
        assert child.helper.process.wait(30) == 0


def test_a_stranger_is_asked_by_one_process_and_no_faster_than_by_one_prober(monkeypatch):
    monkeypatch.setattr(asking_processes, "_BATCH", 5)
    under_way, most = 0, 0
    lock = threading.Lock()

    def answer(_):
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        time.sleep(0.02)
        with lock:
            under_way -= 1
        return [reply(200, BODY, IMAGE)]

    with site(answer) as web, closing(ProbersApart(prober_of(web, 32), processes=2)) as started:
        started.start()
        verdicts = ask(started, inquiries(web, *["a.png"] * 100), ours=False)

    assert [each.outcome for each in verdicts] == [Outcome.OK] * 100
    assert 1 < most <= PER_STRANGER


def test_processes_share_what_one_prober_may_take():
    whole = Prober(level=Level.HTTP, guard=Guard(), workers=9)
    half = replace(whole, shares=2)
    assert whole.pace(ours=True).workers == 9
    assert half.pace(ours=True).workers == 4
    assert half.pace(ours=False).workers == whole.pace(ours=False).workers // 2
    assert half.pace(ours=True).held_bytes == HELD_BYTES // 2
    assert replace(whole, shares=20).pace(ours=True).workers == 1


def test_the_rate_is_that_of_all_processes_together(web):
    with closing(ProbersApart(prober_of(web, rate=20), processes=2)) as started:
        started.start()
        ask(started, inquiries(web, "warm.png"))
        begun = time.monotonic()
        ask(started, inquiries(web, *["a.png"] * 30))
    # Two at 10 a second each could not be quicker; two at 20 would take half.
    assert time.monotonic() - begun >= 1.4


def test_there_are_as_many_processes_as_cores_and_memory_allow(monkeypatch):
    monkeypatch.setattr(asking_processes, "usable_cores", lambda: 3)
    found = {}
    for level in (Level.HTTP, Level.CONTENT):
        for memory in (None, 2**25, 2 * 2**30, 2**40):
            monkeypatch.setattr(asking_processes, "machine_memory", lambda memory=memory: memory)
            prober = Prober(level=level, guard=Guard(), workers=32)
            found[level, memory] = ProbersApart(prober).count
    assert found == {
        (Level.HTTP, None): 3,
        (Level.HTTP, 2**25): 1,
        (Level.HTTP, 2 * 2**30): 3,
        (Level.HTTP, 2**40): 3,
        (Level.CONTENT, None): 3,
        (Level.CONTENT, 2**25): 1,
        (Level.CONTENT, 2 * 2**30): 2,
        (Level.CONTENT, 2**40): 3,
    }


def test_where_the_system_gives_no_process_it_asks_in_this_process(web, monkeypatch):
    begun = []
    begin = asking_processes.Helper

    def refused(*words):
        if begun:
            raise BlockingIOError("no more processes")
        begun.append(begin(*words))
        return begun[0]

    monkeypatch.setattr(asking_processes, "Helper", refused)
    prober = ProbersApart(prober_of(web), processes=3)
    prober.start()
    (verdict,) = ask(prober, inquiries(web, "gone.png"))
    assert verdict.outcome is Outcome.NOT_PUBLIC
    assert not helpers(os.getpid())


def test_what_a_process_imports_before_it_asks_is_little():
    program = "import sys, r2maint.verify.asking.asking_child; print({'django', 'PIL', 'boto3'} & set(sys.modules))"
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "set()"
