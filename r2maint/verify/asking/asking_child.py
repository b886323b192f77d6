"""The program of a process that asks URLs: no Django, and no Pillow until a picture is decoded."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from queue import Empty

from r2maint.machine_resources import collecting_rarely
from r2maint.processes.parent import Parent
from r2maint.scratch.batches import batched
from r2maint.verify.asking.asking_messages import inquiry_of, packed_tally, prober_of
from r2maint.verify.asking.host_health import Hosts
from r2maint.verify.asking.prober import Inquiry
from r2maint.verify.verdicts.by_http import UrlVerdict

_BATCH = 256
_HELD_BACK_SECONDS = 0.05
"""How long a verdict may wait for others to go with it."""
_SIGN_SECONDS = 10.0
"""Silence after which the parent is told that there is nothing to tell yet."""


def main() -> None:
    """Ask what the parent sends, until it is gone."""
    parent = Parent()
    prober = prober_of(parent.get().told)
    inbox, outbox = _Inbox(parent), _Outbox(parent)
    with collecting_rarely():
        while True:
            ours = parent.get().told["ours"]
            verdicts = prober.verdicts(inbox.inquiries(outbox), ours=ours, heed=outbox.sign)
            for verdict in verdicts:
                inbox.under_way -= 1
                outbox.add(verdict)
            outbox.flush()
            outbox.send_hosts(prober.hosts)


@dataclass(slots=True)
class _Inbox:
    """Inquiries as they arrive."""

    parent: Parent
    under_way: int = 0
    """Inquiries without a verdict."""

    def inquiries(self, outbox: _Outbox) -> Iterator[Inquiry | None]:
        """Yield inquiries; None when others are under way and there is no more for now."""
        while True:
            try:
                frame = self.parent.get_nowait()
            except Empty:
                outbox.flush()
                if self.under_way:
                    yield None
                    continue
                frame = self.parent.get()
            if not (batch := frame.told["inquiries"]):
                return
            for packed in batch:
                self.under_way += 1
                yield inquiry_of(packed)


@dataclass(slots=True)
class _Outbox:
    """Verdicts on their way back, many at once while many come."""

    parent: Parent
    verdicts: list[UrlVerdict | None] = field(default_factory=list)
    sent_at: float = 0.0

    def add(self, verdict: UrlVerdict | None) -> None:
        self.verdicts.append(verdict)
        is_late = time.monotonic() > self.sent_at + _HELD_BACK_SECONDS
        if is_late or len(self.verdicts) >= _BATCH:
            self.flush()

    def flush(self) -> None:
        if self.verdicts:
            self._send()

    def sign(self) -> None:
        """Tell the parent now and then that this process is alive."""
        if time.monotonic() > self.sent_at + _SIGN_SECONDS:
            self._send()

    def _send(self) -> None:
        self.parent.send({"verdicts": self.verdicts})
        self.verdicts, self.sent_at = [], time.monotonic()

    def send_hosts(self, hosts: Hosts) -> None:
        """Send what was counted, and then an empty batch."""
        for batch in batched(hosts.tallies.items(), _BATCH):
            self.parent.send({"hosts": [packed_tally(*each) for each in batch]})
        self.parent.send({"hosts": []})
