"""Probers in processes of their own: rows are read and remembered while answers come in.

A core can ask no more than some ten thousand URLs a second, and pictures are decoded on it too.
To each process goes the prober, once; then for each series of inquiries whose URLs follow, batches
of them, and an empty one for their end. Back come batches of verdicts, empty ones as signs of life,
and the hosts' tallies at the end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from zlib import crc32

from r2maint.errors import ConfigError, R2MaintError
from r2maint.machine_resources import machine_memory, usable_cores
from r2maint.processes import FrameError, Helper, HelperFailed
from r2maint.verify.asking.asking_messages import (
    packed_inquiry,
    packed_prober,
    tallies_of,
    verdicts_of,
)
from r2maint.verify.asking.host_health import Hosts
from r2maint.verify.asking.prober import HELD_BYTES, Inquiry, Prober
from r2maint.verify.verdicts.by_http import UrlVerdict
from r2maint.verify.verdicts.outcomes import Level

_MOST_PROCESSES = 4
_PROCESS_BYTES = {Level.HTTP: 2**27, Level.CONTENT: 2**30}
"""Of the machine's memory that make room for one process: pictures are decoded whole."""
_BATCH = 256
_PROGRAM = "r2maint.verify.asking.asking_child"
_HEED_SECONDS = 1.0
_SILENCE_SECONDS = 300.0
"""A process gives signs of life every ten seconds, but for the while it decodes one picture."""
_TOLD_BYTES = 64 * 2**20
"""Of one batch of verdicts, whose words may quote what a server says."""


class ProbersApart:
    """Ask as one prober does; from `start` on in other processes, which share what it may take."""

    def __init__(self, prober: Prober, processes: int | None = None, *, python: str = "") -> None:
        """Take as many processes as there are cores and memory for, unless told otherwise.

        `python` is the setting PYTHON.
        """
        self._prober = prober
        self._processes = processes
        self._python = python
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

        Does nothing where the system gives none, nor, where no picture is decoded, in a server
        that embeds Python. Raises: ConfigError.
        """
        if self._children:
            return
        share = replace(self._prober, shares=self.count)
        try:
            for _ in range(share.shares):
                self._children.append(_Child(share, self._python))
        except OSError:
            # The system gives no more processes.
            self.close()
        except ConfigError:
            self.close()
            if self._python or self._prober.level is Level.CONTENT:
                raise

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
            child.helper.end()


def _room(level: Level) -> int:
    """Return for how many processes there are cores and memory; one at least."""
    cores, memory = usable_cores(), machine_memory()
    return cores if memory is None else max(1, min(cores, memory // _PROCESS_BYTES[level]))


class _Child:
    """One process, and what came from it."""

    def __init__(self, prober: Prober, python: str) -> None:
        self.helper = Helper(_PROGRAM, python)
        self.verdicts: deque[UrlVerdict | None] = deque()
        """Those that came, and were not taken yet."""
        self._prober: Prober | None = prober
        self._asked = 0
        """Inquiries without a verdict here."""

    def begin(self, *, ours: bool) -> None:
        """Open a series of inquiries."""
        if self._prober is not None:
            self._send(packed_prober(self._prober))
            self._prober = None
        self._send({"ours": ours})

    def ask(self, batch: list[list[Any]]) -> None:
        """Send inquiries; none at all ends the series."""
        self._asked += len(batch)
        self._send({"inquiries": batch})

    def _send(self, told: Mapping[str, Any]) -> None:
        try:
            self.helper.send(told, seconds=_SILENCE_SECONDS)
        except HelperFailed as error:
            raise _dead() from error

    def receive(self, heed: Callable[[], object]) -> None:
        """Take in the next verdicts."""
        packed = self._received("verdicts", heed)
        try:
            new = list(verdicts_of(packed, self._asked))
        except FrameError as error:
            raise _dead() from error
        self._asked -= len(new)
        self.verdicts.extend(new)

    def hosts(self, heed: Callable[[], object]) -> Hosts:
        """Return what it counted, once the series is at its end."""
        parts: list[Hosts] = []
        try:
            while part := tallies_of(self._received("hosts", heed)):
                parts.append(Hosts(part))
        except FrameError as error:
            raise _dead() from error
        return Hosts.of_all(parts)

    def _received(self, name: str, heed: Callable[[], object]) -> Any:
        """Return a part of the next frame; call `heed` about once a second until it is there."""
        try:
            for _ in range(round(_SILENCE_SECONDS / _HEED_SECONDS)):
                if self.helper.has_news(_HEED_SECONDS):
                    frame = self.helper.receive(most_told=_TOLD_BYTES, seconds=_SILENCE_SECONDS)
                    return frame.told.get(name)
                heed()
        except HelperFailed as error:
            # A stop that ends the processes too is a stop.
            heed()
            raise _dead() from error
        raise _dead()

    @property
    def has_news(self) -> bool:
        try:
            return bool(self.verdicts) or self.helper.has_news(0)
        except HelperFailed as error:
            raise _dead() from error


def _dead() -> R2MaintError:
    return R2MaintError(
        "A process that asks URLs ended before it had all answers.",
        "Run again; where memory is short, pass fewer --workers.",
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
        for child in self.children:
            child.begin(ours=self.ours)
        while self.is_open or self.waiting:
            self.heed()
            has_room = len(self.waiting) < self.most and self.held_bytes < HELD_BYTES
            if self.is_open and has_room:
                self._send_some(inquiries)
                if not (self.waiting and self.waiting[0][0].has_news):
                    continue
            if self.waiting:
                yield from self._received()
        self.hosts = [child.hosts(self.heed) for child in self.children]

    def _send_some(self, inquiries: Iterator[Inquiry]) -> None:
        batches: list[list[list[Any]]] = [[] for _ in self.children]
        for count, inquiry in enumerate(inquiries, 1):
            number = self._number(inquiry)
            self.count += 1
            batches[number].append(packed_inquiry(inquiry))
            self.waiting.append((self.children[number], inquiry.held_bytes))
            self.held_bytes += inquiry.held_bytes
            if count == _BATCH or self.held_bytes >= HELD_BYTES:
                break
        else:
            self.is_open = False
        for child, batch in zip(self.children, batches, strict=True):
            if batch:
                child.ask(batch)
        if not self.is_open:
            for child in self.children:
                child.ask([])

    def _number(self, inquiry: Inquiry) -> int:
        """Return which child asks: each stranger is one child's, and spared by that one alone."""
        turn = self.count if self.ours else crc32(inquiry.host.encode())
        return turn % len(self.children)

    def _received(self) -> Iterator[UrlVerdict | None]:
        """Yield the verdicts that are due and there, one at least."""
        verdicts = self.waiting[0][0].verdicts
        while not verdicts:
            self.waiting[0][0].receive(self.heed)
        while self.waiting and self.waiting[0][0].verdicts:
            child, held_bytes = self.waiting.popleft()
            self.held_bytes -= held_bytes
            yield child.verdicts.popleft()
