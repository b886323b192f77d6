"""Asks each URL once, at a pace its host can bear, and gives the verdict on it.

Nobody is called broken by a HEAD alone, nor by a host that answers nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, field

from r2maint.bucket.protocol import StoredObject
from r2maint.http import Answer, Engine, Failure, Guard, Limiter, Pace, Reason, Request
from r2maint.http import RequestOutcome as Ended
from r2maint.http.retry import is_passing
from r2maint.images.formats import HEAD_BYTES
from r2maint.verify.asking.host_health import Hosts
from r2maint.verify.verdicts.by_content import WHOLE_BYTES, judge_content
from r2maint.verify.verdicts.by_http import SERVED, UrlVerdict, judge_answer, judge_failure
from r2maint.verify.verdicts.outcomes import Level, Outcome

HELD_BYTES = 32 * 2**20
"""Of bodies and what waits for their verdicts at once in memory."""
PER_STRANGER = 8
"""Requests at once to a host that is not ours."""
STRANGER_BYTES = 10 * 2**20
"""Of a stranger's file that are read; of a longer one only the beginning is judged."""
_HOSTS_AT_ONCE = 4
_AHEAD = 16
_AHEAD_OF_RETRY = 1024
_ATTEMPTS = 4
_SECONDS = {Level.HTTP: 30.0, Level.CONTENT: 120.0}
_REDIRECTS = 5
_HEADERS = ("Accept: image/*,*/*;q=0.5", "Accept-Encoding: identity")
_FIRST_BYTE = "Range: bytes=0-0"
_MAY_PASS = frozenset((408, 425, 429))
_UNIMPLEMENTED = 501


@dataclass(slots=True)
class Inquiry:
    """One URL to ask."""

    url: str = ""
    """"" asks nothing: what has no verdict keeps its place in the order."""
    host: str = ""
    stored: StoredObject | None = None
    """The object behind one's own URL; None for a stranger's."""
    held_bytes: int = 0
    """Of memory that wait for the verdict, the body apart."""
    judged: tuple[Answer, UrlVerdict] | None = None
    """The last answer and what it says, which is asked twice: before and after it is final."""


@dataclass(slots=True, kw_only=True)
class Prober:
    """Asks URLs at one level, and counts what their hosts answer."""

    level: Level
    guard: Guard
    workers: int = 8
    """Requests at once."""
    rate: float | None = None
    """Requests a second at most; None for no limit."""
    referers: tuple[str, ...] = ()
    """Header lines for whom a host refuses without them."""
    shares: int = 1
    """Among how many probers the requests, the rate and the memory are divided."""
    hosts: Hosts = field(default_factory=Hosts)

    def verdicts(
        self,
        inquiries: Iterable[Inquiry | None],
        *,
        ours: bool,
        heed: Callable[[], object] | None = None,
    ) -> Generator[UrlVerdict | None, None, None]:
        """Yield the verdict on each URL, in order; None for what asks nothing.

        `ours` are URLs of PUBLIC_URL, which is one host that expects us. None among them says that
        there is none for now, and has no verdict. What `heed` raises ends all; it is called about
        once a second.
        """
        engine = Engine(
            self.pace(ours=ours),
            limiter=Limiter(self.rate and self.rate / self.shares),
            guard=self.guard,
        )
        try:
            sent = engine.send_many(
                inquiries, self._request, then=self._second, weigh=self.weigh, heed=heed
            )
            with closing(sent) as outcomes:
                yield from map(self._verdict, outcomes)
        finally:
            engine.close()

    def pace(self, *, ours: bool) -> Pace:
        """Return how many requests go out at once, and how often each is tried."""
        workers = self.workers if ours else _HOSTS_AT_ONCE * self.workers
        return Pace(
            workers=max(1, workers // self.shares),
            per_host=0 if ours else min(self.workers, PER_STRANGER),
            eases_off=True,
            ahead=_AHEAD,
            ahead_of_retry=_AHEAD_OF_RETRY,
            held_bytes=HELD_BYTES // self.shares,
            attempts=_ATTEMPTS,
            is_passing=_may_pass,
        )

    def weigh(self, inquiry: Inquiry) -> int:
        """Return about how many bytes of memory an inquiry takes with its answer."""
        has_body = self.level is Level.CONTENT and inquiry.url
        return inquiry.held_bytes + (self._body_bytes(inquiry) if has_body else 0)

    # Requests

    def _request(self, inquiry: Inquiry) -> Request | None:
        if not inquiry.url or self.hosts.is_given_up(inquiry.host):
            return None
        if self.level is Level.CONTENT:
            return self._get(inquiry)
        return Request(
            url=inquiry.url,
            method="HEAD",
            headers=_HEADERS,
            seconds=_SECONDS[self.level],
            redirects=_REDIRECTS,
        )

    def _second(self, inquiry: Inquiry, answer: Answer) -> Request | None:
        """Return what a visitor's browser would ask where the first request does not settle it."""
        is_refused = 400 <= answer.status < 500 and answer.status not in _MAY_PASS
        is_refused = is_refused or answer.status == _UNIMPLEMENTED
        if "cf-mitigated" in answer.headers or not (is_refused or self._is_odd(inquiry, answer)):
            return None
        request = self._get(inquiry)._replace(headers=(*_HEADERS, *self.referers))
        if self.level is Level.CONTENT:
            return request
        return request._replace(headers=(*request.headers, _FIRST_BYTE), enough_bytes=1)

    def _is_odd(self, inquiry: Inquiry, answer: Answer) -> bool:
        """Tell whether what a HEAD says of a file that is served speaks against it."""
        if self.level is Level.CONTENT or answer.status not in SERVED:
            return False
        return self._judge(inquiry, answer).outcome is not Outcome.OK

    def _get(self, inquiry: Inquiry) -> Request:
        return Request(
            url=inquiry.url,
            headers=_HEADERS,
            enough_bytes=self._body_bytes(inquiry) + 1,
            seconds=_SECONDS[self.level],
            redirects=_REDIRECTS,
        )

    def _body_bytes(self, inquiry: Inquiry) -> int:
        """Return how many bytes of an answer's body are read."""
        if inquiry.stored is None:
            return STRANGER_BYTES
        size = inquiry.stored.size
        return size if size <= WHOLE_BYTES else HEAD_BYTES

    # Answers

    def _verdict(self, ended: Ended[Inquiry]) -> UrlVerdict | None:
        inquiry = ended.label
        if ended.answer is not None:
            verdict = self._judge(inquiry, ended.answer)
        elif ended.failure is not None:
            verdict = judge_failure(ended.failure)
        elif inquiry.url:
            return UrlVerdict(Outcome.UNSURE, None, self.hosts.pass_over(inquiry.host))
        else:
            return None
        if not _is_flaw(ended.failure):
            self.hosts.count(inquiry.host, verdict.outcome, verdict.detail, verdict.advice)
        return verdict

    def _judge(self, inquiry: Inquiry, answer: Answer) -> UrlVerdict:
        if inquiry.judged is None or inquiry.judged[0] is not answer:
            inquiry.judged = answer, self._judge_anew(inquiry, answer)
        return inquiry.judged[1]

    def _judge_anew(self, inquiry: Inquiry, answer: Answer) -> UrlVerdict:
        url, stored = inquiry.url, inquiry.stored
        verdict = judge_answer(answer, url=url, stored=stored)
        if self.level is Level.CONTENT and verdict.outcome is Outcome.OK:
            return judge_content(answer, url=url, stored=stored, most=self._body_bytes(inquiry))
        return verdict


def _may_pass(answer: Answer) -> bool:
    return is_passing(answer) and "cf-mitigated" not in answer.headers


def _is_flaw(failure: Failure | None) -> bool:
    """Tell whether nothing was sent for what the URL itself is: that says nothing of its host."""
    return failure is not None and failure.reason is Reason.BAD_URL
