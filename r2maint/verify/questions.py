"""Which URLs are asked, each once, with the findings that hang on its answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from zlib import crc32

from r2maint.http.urls import as_sent
from r2maint.keys import host_of
from r2maint.object_index.join import ReferenceIndex
from r2maint.probing.answers import Verdict
from r2maint.probing.outcomes import Outcome
from r2maint.probing.prober import Inquiry
from r2maint.references.reference import Reference
from r2maint.scratch.batches import batched
from r2maint.verify.items import FINDING_BYTES, Finding

_BATCH = 512


@dataclass(slots=True)
class Question:
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

    def answered(self, verdict: Verdict | None) -> Iterable[Finding]:
        """Return the findings with what their URL, if they have one, answers."""
        if not self.url or verdict is None:
            return self.findings
        return [each.judged(*verdict) for each in self.findings]


def own_questions(findings: Iterable[Finding], host: str) -> Iterator[Question]:
    """Yield a question for each public URL; findings come with those of one object together."""
    for url, group in groupby(findings, key=_url_to_ask):
        yield from _of_one_url(url, host if url else "", group)


def _of_one_url(url: str, host: str, findings: Iterable[Finding]) -> Iterator[Question]:
    for number, batch in enumerate(batched(findings, _BATCH)):
        yield Question(url, host, batch, is_asked=bool(url) and not number)


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


def strangers_questions(strangers: ReferenceIndex) -> Iterator[Question]:
    """Yield a question for each URL that was set aside."""
    for name, pairs in groupby(strangers.iter_grouped(), key=itemgetter(0)):
        url = name[8:]
        yield from _of_one_url(url, host_of(url), (_external(each) for _, each in pairs))


def _external(reference: Reference) -> Finding:
    return Finding(reference=reference, outcome=Outcome.EXTERNAL, url=reference.value)
