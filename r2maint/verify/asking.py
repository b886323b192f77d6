"""Asks every distinct URL once, at a pace its host can bear, and gives each reference the answer.

Asked are the public URLs of objects that the listing holds, and other hosts' URLs. Never what is
absent: a cache would keep the 404. Nobody is called broken by a HEAD alone, nor by a host that
answers nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import chain

from r2maint.batching import batched
from r2maint.bucket import Bucket
from r2maint.conf import Config
from r2maint.control import Control
from r2maint.errors import NoSuchKey
from r2maint.images.magic import HEAD_BYTES
from r2maint.inventory import Inventory
from r2maint.keys import host_of
from r2maint.spool import Spool
from r2maint.transfer import Answer, Engine, Failure, Guard, Limiter, Pace, Reason, Request
from r2maint.transfer import Outcome as Ended
from r2maint.transfer.pacing import is_passing
from r2maint.verify.advice import RUN_AGAIN, UPLOAD_AGAIN
from r2maint.verify.answers import SERVED, Verdict, judge_answer, judge_failure
from r2maint.verify.content import WHOLE_BYTES, judge_content
from r2maint.verify.hosts import ANSWERED, Hosts
from r2maint.verify.items import FINDING_BYTES, HELD_BYTES, Finding, Level, Outcome
from r2maint.verify.questions import Question, own_questions, set_aside, strangers_questions

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
_BATCH = 512
_HEADERS = ("Accept: image/*,*/*;q=0.5", "Accept-Encoding: identity")
_FIRST_BYTE = "Range: bytes=0-0"
_MAY_PASS = frozenset((408, 425, 429))
_UNIMPLEMENTED = 501
_DOUBTED = ANSWERED - {Outcome.UNSURE, Outcome.BLOCKED}
"""Outcomes that speak against an object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """Asks URLs at one level, and counts what their hosts answer."""

    config: Config
    bucket: Bucket
    level: Level
    control: Control
    hosts: Hosts

    def asked(self, findings: Iterable[Finding]) -> Iterator[Finding]:
        """Yield the findings with what their URLs answer, those with trouble last.

        What speaks against a reference is held back, on disk, until all hosts were heard.
        """
        held: Spool[Finding] = Spool()
        with Inventory() as strangers:
            ours = own_questions(set_aside(findings, strangers), host_of(self.config.public_url))
            others = strangers_questions(strangers)
            answered = chain(
                self._answers(ours, self._own_pace(), "Asking PUBLIC_URL"),
                self._answers(others, self._strangers_pace(), "Asking other hosts"),
            )
            for batch in batched(answered, _BATCH):
                held.extend(each for each in batch if each.outcome in ANSWERED)
                yield from (each for each in batch if each.outcome not in ANSWERED)
        yield from _as_of_now(self.hosts.tempered(iter(held)), self.bucket)

    def _own_pace(self) -> Pace:
        return self._pace(workers=self.control.workers, per_host=0)

    def _strangers_pace(self) -> Pace:
        workers = self.control.workers
        return self._pace(workers=_HOSTS_AT_ONCE * workers, per_host=min(workers, PER_STRANGER))

    def _pace(self, *, workers: int, per_host: int) -> Pace:
        return Pace(
            workers=workers,
            per_host=per_host,
            eases_off=True,
            ahead=_AHEAD,
            ahead_of_retry=_AHEAD_OF_RETRY,
            held_bytes=HELD_BYTES,
            attempts=_ATTEMPTS,
            is_passing=_may_pass,
        )

    def _answers(self, questions: Iterator[Question], pace: Pace, label: str) -> Iterator[Finding]:
        limiter, guard = Limiter(self.control.rate), Guard.from_config(self.config)
        engine = Engine(pace, limiter=limiter, guard=guard)
        verdict: Verdict | None = None
        try:
            sent = engine.send_many(
                questions,
                self._request,
                then=self._second,
                weigh=self._held,
                heed=self.control.check,
            )
            with closing(sent) as outcomes:
                for outcome in self.control.track(outcomes, label, unit="URL"):
                    verdict = self._verdict(outcome) if outcome.label.is_asked else verdict
                    yield from _answered(outcome.label, verdict)
        finally:
            engine.close()

    # Requests

    def _request(self, question: Question) -> Request | None:
        if not question.is_asked or self.hosts.is_given_up(question.host):
            return None
        if self.level is Level.CONTENT:
            return self._get(question)
        return Request(
            url=question.url,
            method="HEAD",
            headers=_HEADERS,
            seconds=_SECONDS[self.level],
            redirects=_REDIRECTS,
        )

    def _second(self, question: Question, answer: Answer) -> Request | None:
        """Return what a visitor's browser would ask where the first request does not settle it."""
        is_refused = 400 <= answer.status < 500 and answer.status not in _MAY_PASS
        is_refused = is_refused or answer.status == _UNIMPLEMENTED
        if "cf-mitigated" in answer.headers or not (is_refused or self._is_odd(question, answer)):
            return None
        referers = tuple(f"Referer: https://{host}/" for host in self.config.site_hosts[:1])
        request = self._get(question)._replace(headers=(*_HEADERS, *referers))
        if self.level is Level.CONTENT:
            return request
        return request._replace(headers=(*request.headers, _FIRST_BYTE), enough_bytes=1)

    def _is_odd(self, question: Question, answer: Answer) -> bool:
        """Tell whether what a HEAD says of a file that is served speaks against it."""
        if self.level is Level.CONTENT or answer.status not in SERVED:
            return False
        return self._judge(question, answer).outcome is not Outcome.OK

    def _get(self, question: Question) -> Request:
        return Request(
            url=question.url,
            headers=_HEADERS,
            enough_bytes=self._weigh(question) + 1,
            seconds=_SECONDS[self.level],
            redirects=_REDIRECTS,
        )

    def _weigh(self, question: Question) -> int:
        """Return how many bytes of an answer's body are read."""
        if question.stored is None:
            return STRANGER_BYTES
        size = question.stored.size
        return size if size <= WHOLE_BYTES else HEAD_BYTES

    def _held(self, question: Question) -> int:
        """Return about how many bytes of memory a question takes with its answer."""
        has_body = self.level is Level.CONTENT and question.is_asked
        body = self._weigh(question) if has_body else 0
        return body + FINDING_BYTES * len(question.findings)

    # Answers

    def _verdict(self, ended: Ended[Question]) -> Verdict:
        host = ended.label.host
        if ended.answer is not None:
            verdict = self._judge(ended.label, ended.answer)
        elif ended.failure is not None:
            verdict = judge_failure(ended.failure)
        else:
            return Verdict(Outcome.UNSURE, None, self.hosts.pass_over(host))
        if not _is_flaw(ended.failure):
            self.hosts.count(host, verdict.outcome, verdict.detail, verdict.advice)
        return verdict

    def _judge(self, question: Question, answer: Answer) -> Verdict:
        if question.judged is None or question.judged[0] is not answer:
            question.judged = answer, self._judge_anew(question, answer)
        return question.judged[1]

    def _judge_anew(self, question: Question, answer: Answer) -> Verdict:
        url, stored = question.url, question.stored
        verdict = judge_answer(answer, url=url, stored=stored)
        if self.level is Level.CONTENT and verdict.outcome is Outcome.OK:
            return judge_content(answer, url=url, stored=stored, most=self._weigh(question))
        return verdict


def _answered(question: Question, verdict: Verdict | None) -> Iterable[Finding]:
    """Return the findings with what their URL, if they have one, answers."""
    if not question.url or verdict is None:
        return question.findings
    return [each.judged(*verdict) for each in question.findings]


def _may_pass(answer: Answer) -> bool:
    return is_passing(answer) and "cf-mitigated" not in answer.headers


def _is_flaw(failure: Failure | None) -> bool:
    """Tell whether nothing was sent for what the URL itself is: that says nothing of its host."""
    return failure is not None and failure.reason is Reason.BAD_URL


# What the bucket says by now


def _as_of_now(findings: Iterable[Finding], bucket: Bucket) -> Iterator[Finding]:
    """Yield findings but compare once more what speaks against an object: it may be another now.

    One Class B request for each object.
    """
    for batch in batched(findings, _BATCH):
        doubted = [each.stored.key for each in batch if each.stored and each.outcome in _DOUBTED]
        now = {each.request: each for each in bucket.head_many(dict.fromkeys(doubted))}
        for finding in batch:
            found = now.get(finding.stored.key) if finding.stored else None
            if found is None or finding.stored is None:
                yield finding
            elif isinstance(found.error, NoSuchKey):
                detail = "the object was deleted meanwhile"
                yield finding._replace(outcome=Outcome.MISSING, detail=detail, advice=UPLOAD_AGAIN)
            elif found.value is not None and found.value.etag != finding.stored.etag:
                detail = "the object was replaced meanwhile"
                yield finding._replace(outcome=Outcome.UNSURE, detail=detail, advice=RUN_AGAIN)
            else:
                yield finding
