"""Has every distinct URL asked once, and gives each reference the answer.

Asked are the public URLs of objects that the listing holds, and other hosts' URLs. Never what is
absent: a cache would keep the 404.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import chain

from r2maint.bucket import Bucket
from r2maint.control import Control
from r2maint.errors import NoSuchKey
from r2maint.object_index.join import ReferenceIndex
from r2maint.probing.advice import RUN_AGAIN, UPLOAD_AGAIN
from r2maint.probing.answers import Verdict
from r2maint.probing.apart import ProbersApart
from r2maint.probing.hosts import ANSWERED
from r2maint.probing.outcomes import Outcome
from r2maint.scratch.batches import batched
from r2maint.scratch.spool import Spool
from r2maint.verify.hosts import tempered
from r2maint.verify.items import Finding
from r2maint.verify.questions import Question, own_questions, set_aside, strangers_questions

_BATCH = 512
_DOUBTED = ANSWERED - {Outcome.UNSURE, Outcome.BLOCKED}
"""Outcomes that speak against an object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """Brings findings and what their URLs answer together."""

    prober: ProbersApart
    bucket: Bucket
    control: Control
    public_host: str
    """That of PUBLIC_URL; "" for none."""

    def asked(self, findings: Iterable[Finding]) -> Iterator[Finding]:
        """Yield the findings with what their URLs answer, those with trouble last.

        What speaks against a reference is held back, on disk, until all hosts were heard.
        """
        held: Spool[Finding] = Spool()
        with ReferenceIndex() as strangers:
            ours = own_questions(set_aside(findings, strangers), self.public_host)
            others = strangers_questions(strangers)
            answered = chain(
                self._answers(ours, "Asking PUBLIC_URL", ours=True),
                self._answers(others, "Asking other hosts", ours=False),
            )
            for batch in batched(answered, _BATCH):
                held.extend(each for each in batch if each.outcome in ANSWERED)
                yield from (each for each in batch if each.outcome not in ANSWERED)
        yield from _as_of_now(tempered(iter(held), self.prober.hosts), self.bucket)

    def _answers(
        self, questions: Iterable[Question], label: str, *, ours: bool
    ) -> Iterator[Finding]:
        waiting: deque[Question] = deque()
        verdict: Verdict | None = None
        inquiries = (each.inquiry for each in _kept(questions, waiting))
        answers = self.prober.verdicts(inquiries, ours=ours, heed=self.control.check)
        with closing(answers):
            for answer in self.control.track(answers, label, unit="URL"):
                question = waiting.popleft()
                verdict = answer if question.is_asked else verdict
                yield from question.answered(verdict)


def _kept(questions: Iterable[Question], waiting: deque[Question]) -> Iterator[Question]:
    """Yield the questions, which `waiting` keeps."""
    for question in questions:
        waiting.append(question)
        yield question


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
