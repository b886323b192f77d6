"""A network and a server that fail now and then, in every way that passes."""

from __future__ import annotations

import random
import threading
from collections import Counter

from tests.servers.s3_server import (
    CUT_BODY,
    FORWARD,
    LOSE_ANSWER,
    RESET,
    Fault,
    Proxy,
    Request,
    s3_error,
)

CUT_REQUEST = "cut request"
_FAULTS: dict[str, Fault] = {
    "500": s3_error(500, "InternalError"),
    "503": s3_error(503, "SlowDown"),
    "429": s3_error(429, "TooManyRequests"),
    RESET: RESET,
    LOSE_ANSWER: LOSE_ANSWER,
    CUT_BODY: CUT_BODY,
}
KINDS = (CUT_REQUEST, *_FAULTS)


class Flaky:
    """Breaks a share of a proxy's requests: which ones, and how, follows from the seed."""

    def __init__(self, between: Proxy, *, seed: int, share: float) -> None:
        self.met: Counter[str] = Counter()
        """How often each kind of fault was met."""
        self._seed, self._share = seed, share
        self._seen: Counter[tuple[str, ...]] = Counter()
        self._lock = threading.Lock()
        between.is_cut, between.fault = self._is_cut, self._fault

    def _is_cut(self, head: Request) -> bool:
        if self._chance("cut", head).random() >= self._share / len(KINDS):
            return False
        self._count(CUT_REQUEST)
        return True

    def _fault(self, request: Request) -> Fault:
        chance = self._chance("fault", request)
        if chance.random() >= self._share * len(_FAULTS) / len(KINDS):
            return FORWARD
        name = chance.choice(list(_FAULTS))
        self._count(name)
        return _FAULTS[name]

    def _chance(self, what: str, request: Request) -> random.Random:
        """Return what decides: the same for the same request, however many run at once."""
        # Without the bucket and the query: names of buckets and ids of uploads are never the same.
        key = request.target.partition("?")[0].strip("/").partition("/")[2]
        with self._lock:
            self._seen[what, request.method, key] += 1
            count = self._seen[what, request.method, key]
        return random.Random(f"{self._seed} {what} {request.method} {key} {count}")

    def _count(self, kind: str) -> None:
        with self._lock:
            self.met[kind] += 1
