"""Has every distinct URL asked once, and gives each reference the answer.

Asked are the public URLs of objects that the listing holds, and other hosts' URLs. Never what is
absent: a cache would keep the 404.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import chain, groupby
from operator import itemgetter
from zlib import crc32

from r2maint.bucket import Bucket
from r2maint.control import Control
from r2maint.errors import NoSuchKey
from r2maint.http.urls import as_sent
from r2maint.keys import host_of
from r2maint.object_index.join import ReferenceIndex
from r2maint.references.reference import Reference
from r2maint.scratch.batches import batched
from r2maint.scratch.spool import Spool
from r2maint.verify.asking.asking_processes import ProbersApart
from r2maint.verify.asking.host_health import ANSWERED
from r2maint.verify.asking.host_notes import tempered
from r2maint.verify.asking.prober import Inquiry
from r2maint.verify.result import FINDING_BYTES, Finding
from r2maint.verify.verdicts.by_http import UrlVerdict
from r2maint.verify.verdicts.outcomes import RUN_AGAIN, UPLOAD_AGAIN, Outcome

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
        self, questions: Iterable[UrlQuestion], label: str, *, ours: bool
    ) -> Iterator[Finding]:
        waiting: deque[UrlQuestion] = deque()
        verdict: UrlVerdict | None = None
        inquiries = (each.inquiry for each in _kept(questions, waiting))
        answers = self.prober.verdicts(inquiries, ours=ours, heed=self.control.check)
        with closing(answers):
            for answer in self.control.track(answers, label, unit="URL"):
                question = waiting.popleft()
                verdict = answer if question.is_asked else verdict
                yield from question.answered(verdict)


def _kept(questions: Iterable[UrlQuestion], waiting: deque[UrlQuestion]) -> Iterator[UrlQuestion]:
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


@dataclass(slots=True)
class UrlQuestion:
    """One URL, and the findings that hang on its answer; with no URL, findings to pass on."""

    url: str
    host: str
    findings: list[Finding]
    is_asked: bool = True
    """False for further findings of the URL before: a million may hang on one answer."""

    @property
    def inquiry(self) -> Inquiry:
        """What is asked; nothing, where only findings are passed on."""
        held_bytes = FINDING_BYTES * len(self.findings)
        if not self.is_asked:
            return Inquiry(held_bytes=held_bytes)
        return Inquiry(self.url, self.host, self.findings[0].stored, held_bytes)

    def answered(self, verdict: UrlVerdict | None) -> Iterable[Finding]:
        """Return the findings with what their URL, if they have one, answers."""
        if not self.url or verdict is None:
            return self.findings
        return [each.judged(*verdict) for each in self.findings]


def own_questions(findings: Iterable[Finding], host: str) -> Iterator[UrlQuestion]:
    """Yield a question for each public URL; findings come with those of one object together."""
    for url, group in groupby(findings, key=_url_to_ask):
        yield from _of_one_url(url, host if url else "", group)


def _of_one_url(url: str, host: str, findings: Iterable[Finding]) -> Iterator[UrlQuestion]:
    for number, batch in enumerate(batched(findings, _BATCH)):
        yield UrlQuestion(url, host, batch, is_asked=bool(url) and not number)


def _url_to_ask(finding: Finding) -> str:
    return finding.url if finding.outcome is Outcome.OK else ""


def set_aside(findings: Iterable[Finding], strangers: ReferenceIndex) -> Iterator[Finding]:
    """Yield all findings but those of other hosts, whose references are put in order meanwhile."""
    for batch in batched(findings, _BATCH):
        strangers.add_groups(
            (_shuffled(each.reference.value), each.reference)
            for each in batch
            if each.outcome is Outcome.EXTERNAL
        )
        yield from (each for each in batch if each.outcome is not Outcome.EXTERNAL)


def _shuffled(value: str) -> str:
    """Return a name for a URL in whose order hosts take turns."""
    url = value.strip()
    url = f"https:{url}" if url.startswith("//") else url
    with suppress(ValueError):
        # What cannot be read is asked as it is, and refused.
        url = as_sent(url)
    return f"{crc32(url.encode()):08x}{url}"


def strangers_questions(strangers: ReferenceIndex) -> Iterator[UrlQuestion]:
    """Yield a question for each URL that was set aside."""
    for name, pairs in groupby(strangers.iter_grouped(), key=itemgetter(0)):
        url = name[8:]
        yield from _of_one_url(url, host_of(url), (_external(each) for _, each in pairs))


def _external(reference: Reference) -> Finding:
    return Finding(reference=reference, outcome=Outcome.EXTERNAL, url=reference.value)
