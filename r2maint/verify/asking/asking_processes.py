"""Probers in processes of their own: rows are read and remembered while answers come in.

A core can ask no more than some ten thousand URLs a second, and pictures are decoded on it too.
What goes through a pipe: to the process a bool, whose URLs follow; batches of them; and an empty
one for their end. Back come batches of verdicts, and the hosts' tallies at the end.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from queue import Empty, SimpleQueue
from typing import Any
from zlib import crc32

from r2maint.bucket.protocol import StoredObject
from r2maint.control import STOP_SIGNALS
from r2maint.errors import R2MaintError
from r2maint.machine_resources import collecting_rarely, machine_memory, usable_cores
from r2maint.verify.asking.host_health import Hosts
from r2maint.verify.asking.prober import HELD_BYTES, Inquiry, Prober
from r2maint.verify.verdicts.by_http import UrlVerdict
from r2maint.verify.verdicts.outcomes import Level

_MOST_PROCESSES = 4
_PROCESS_BYTES = {Level.HTTP: 2**27, Level.CONTENT: 2**30}
"""Of the machine's memory that make room for one process: pictures are decoded whole."""
_BATCH = 256
_HEED_SECONDS = 1.0
_HELD_BACK_SECONDS = 0.05
"""How long a verdict may wait for others to go with it."""


class ProbersApart:
    """Ask as one prober does; from `start` on in other processes, which share what it may take."""

    def __init__(self, prober: Prober, processes: int | None = None) -> None:
        """Take as many processes as there are cores and memory for, unless told otherwise."""
        self._prober = prober
        self._processes = processes
        self._children: list[_Child] = []

    @property
    def hosts(self) -> Hosts:
        """What the hosts answered, once all verdicts were yielded."""
        return self._prober.hosts

    @property
    def count(self) -> int:
        """How many processes there will be."""
        room = _room(self._prober.level)
        return self._processes or min(room, _MOST_PROCESSES, self._prober.workers)

    def start(self) -> None:
        """Start the processes, which takes each a fifth of a second on a core of its own.

        Does nothing where there can be none: in a daemon, as workers of task queues may be.
        """
        if self._children or multiprocessing.current_process().daemon:
            return
        share = replace(self._prober, shares=self.count)
        try:
            for _ in range(share.shares):
                self._children.append(_Child(share))
        except OSError:
            # The system gives no more processes.
            self.close()

    def verdicts(
        self, inquiries: Iterable[Inquiry], *, ours: bool, heed: Callable[[], object]
    ) -> Generator[UrlVerdict | None, None, None]:
        """Yield what `Prober.verdicts` does. Raises: R2MaintError when a process died."""
        if not self._children:
            yield from self._prober.verdicts(inquiries, ours=ours, heed=heed)
            return
        pace = self._prober.pace(ours=ours)
        most = 2 * max(pace.ahead * pace.workers, pace.ahead_of_retry)
        exchange = _Exchange(self._children, most, ours, heed)
        yield from exchange.verdicts(iter(inquiries))
        self._prober.hosts = Hosts.of_all(exchange.hosts)

    def close(self) -> None:
        """End the processes, whatever they are doing."""
        children, self._children = self._children, []
        for child in children:
            child.end()


def _room(level: Level) -> int:
    """Return for how many processes there are cores and memory; one at least."""
    cores, memory = usable_cores(), machine_memory()
    return cores if memory is None else max(1, min(cores, memory // _PROCESS_BYTES[level]))


class _Child:
    """One process, and this end of its pipe."""

    def __init__(self, prober: Prober) -> None:
        # Spawned, not forked: a fork would carry database connections and locks along.
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(
            target=_serve, args=(theirs, prober), daemon=True
        )
        with _deaf():
            self.process.start()
        theirs.close()
        self.verdicts: deque[UrlVerdict | None] = deque()
        """Those that came, and were not taken yet."""

    def send(self, message: object) -> None:
        try:
            self._pipe.send_bytes(pickle.dumps(message, pickle.HIGHEST_PROTOCOL))
        except OSError as error:
            raise _dead() from error

    def receive(self, heed: Callable[[], object]) -> Any:
        """Return the next message; call `heed` about once a second until it is there."""
        try:
            while not self._pipe.poll(_HEED_SECONDS):
                heed()
            return pickle.loads(self._pipe.recv_bytes())
        except (EOFError, OSError) as error:
            # A stop that ends the processes too is a stop.
            heed()
            raise _dead() from error

    @property
    def has_news(self) -> bool:
        try:
            return bool(self.verdicts) or self._pipe.poll(0)
        except OSError as error:
            raise _dead() from error

    def end(self) -> None:
        self._pipe.close()
        self.process.kill()
        self.process.join()
        self.process.close()


@contextmanager
def _deaf() -> Iterator[None]:
    """Let processes that start meanwhile hear no stop, until they ignore them: see `_serve`."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # Started with the first process otherwise, which lets signals through again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _dead() -> R2MaintError:
    return R2MaintError(
        "A process that asks URLs ended before it had all answers.",
        "Where memory is short, pass fewer --workers. A script that is the main module must call"
        ' this below `if __name__ == "__main__":`.',
    )


@dataclass(slots=True)
class _Exchange:
    """One call of `ProbersApart.verdicts`.

    Twice as many inquiries are on their way as the probers look ahead: they have enough to ask
    while rows are written here. What a side holds back it sends before it waits, so that none waits
    for the other.
    """

    children: list[_Child]
    most: int
    """Inquiries on their way."""
    ours: bool
    heed: Callable[[], object]
    hosts: list[Hosts] = field(default_factory=list)
    """What each child counted, in the end."""
    waiting: deque[tuple[_Child, int]] = field(default_factory=deque)
    """Who has each inquiry whose verdict was not yielded yet, and the bytes held for it here."""
    held_bytes: int = 0
    count: int = 0
    """Inquiries sent so far."""
    is_open: bool = True
    """Whether there may be more to ask."""

    def verdicts(self, inquiries: Iterator[Inquiry]) -> Iterator[UrlVerdict | None]:
        self._tell_all(self.ours)
        while self.is_open or self.waiting:
            self.heed()
            has_room = len(self.waiting) < self.most and self.held_bytes < HELD_BYTES
            if self.is_open and has_room:
                self._send_some(inquiries)
                if not (self.waiting and self.waiting[0][0].has_news):
                    continue
            if self.waiting:
                yield from self._received()
        self.hosts = [child.receive(self.heed) for child in self.children]

    def _send_some(self, inquiries: Iterator[Inquiry]) -> None:
        batches: list[list[object]] = [[] for _ in self.children]
        for count, inquiry in enumerate(inquiries, 1):
            number = self._number(inquiry)
            self.count += 1
            # A plain tuple is pickled in a quarter of the time.
            stored = inquiry.stored and tuple(inquiry.stored)
            batches[number].append((inquiry.url, inquiry.host, stored, inquiry.held_bytes))
            self.waiting.append((self.children[number], inquiry.held_bytes))
            self.held_bytes += inquiry.held_bytes
            if count == _BATCH or self.held_bytes >= HELD_BYTES:
                break
        else:
            self.is_open = False
        for child, batch in zip(self.children, batches, strict=True):
            if batch:
                child.send(batch)
        if not self.is_open:
            self._tell_all([])

    def _number(self, inquiry: Inquiry) -> int:
        """Return which child asks: each stranger is one child's, and spared by that one alone."""
        turn = self.count if self.ours else crc32(inquiry.host.encode())
        return turn % len(self.children)

    def _received(self) -> Iterator[UrlVerdict | None]:
        """Yield the verdicts that are due and there, one at least."""
        verdicts = self.waiting[0][0].verdicts
        if not verdicts:
            verdicts.extend(self.waiting[0][0].receive(self.heed))
        while self.waiting and self.waiting[0][0].verdicts:
            child, held_bytes = self.waiting.popleft()
            self.held_bytes -= held_bytes
            yield child.verdicts.popleft()

    def _tell_all(self, message: object) -> None:
        for child in self.children:
            child.send(message)


# Inside the process


def _serve(pipe: Connection, prober: Prober) -> None:
    # Ctrl-C, and what service managers and containers send, reaches the whole process group; the
    # parent decides what it means, and its end is theirs.
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    inbox, outbox = _Inbox(pipe), _Outbox(pipe)
    with collecting_rarely():
        while True:
            ours = inbox.get()
            for verdict in prober.verdicts(inbox.inquiries(outbox), ours=ours):
                inbox.under_way -= 1
                outbox.add(verdict)
            outbox.flush()
            outbox.send(prober.hosts)


class _Inbox:
    """What the parent sends, taken in at once, so that it never waits."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._messages: SimpleQueue[Any] = SimpleQueue()
        self.get = self._messages.get
        self.under_way = 0
        """Inquiries without a verdict."""
        threading.Thread(target=self._receive, daemon=True).start()

    def inquiries(self, outbox: _Outbox) -> Iterator[Inquiry | None]:
        """Yield inquiries; None when others are under way and there is no more for now."""
        while True:
            try:
                batch = self._messages.get_nowait()
            except Empty:
                outbox.flush()
                if self.under_way:
                    yield None
                    continue
                batch = self.get()
            if not batch:
                return
            for url, host, stored, held_bytes in batch:
                self.under_way += 1
                yield Inquiry(url, host, StoredObject(*stored) if stored else None, held_bytes)

    def _receive(self) -> None:
        try:
            while True:
                self._messages.put(pickle.loads(self._pipe.recv_bytes()))
        except (EOFError, OSError):
            # The parent is gone.
            os._exit(0)


@dataclass(slots=True)
class _Outbox:
    """Verdicts on their way back, many at once while many come."""

    pipe: Connection
    verdicts: list[UrlVerdict | None] = field(default_factory=list)
    sent_at: float = 0.0

    def add(self, verdict: UrlVerdict | None) -> None:
        self.verdicts.append(verdict)
        is_late = time.monotonic() > self.sent_at + _HELD_BACK_SECONDS
        if is_late or len(self.verdicts) >= _BATCH:
            self.flush()

    def flush(self) -> None:
        if self.verdicts:
            self.send(self.verdicts)
            self.verdicts, self.sent_at = [], time.monotonic()

    def send(self, message: object) -> None:
        try:
            self.pipe.send_bytes(pickle.dumps(message, pickle.HIGHEST_PROTOCOL))
        except OSError:
            # The parent is gone.
            os._exit(0)
