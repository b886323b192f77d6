"""A report's suites as JUnit XML, the form in which CI servers read what failed.

Output is ASCII, so that no locale makes it something else than the UTF-8 it says it is. Sources:
github.com/jenkinsci/xunit-plugin, junit-10.xsd; GitLab issue 299086, on what it reads.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping

from r2maint.rendering.cells import printable
from r2maint.rendering.document import Case, CaseResult, Report, Sink, Suite

_UNTIMED = "0"
"""Of suites and cases: what is checked is looked at together."""
_NONCHARACTERS = re.compile("[\ufffe\uffff]")
"""What XML 1.0 forbids beside control characters and surrogates."""


def write_junit(report: Report, out: Sink) -> None:
    """Write one document, its cases one at a time; of the report's items nothing is shown."""
    suites, totals = list(report.suites), Counter[CaseResult]()
    for suite in suites:
        totals.update(suite.counts)
    out.write('<?xml version="1.0" encoding="UTF-8"?>\n')
    name = f"{report.command}, bucket {report.bucket}"
    seconds = (report.finished_at - report.started_at).total_seconds()
    out.write(f"<testsuites{_attributes(name=name, **_counts(totals), time=f'{seconds:.3f}')}>\n")
    for suite in suites:
        _write_suite(suite, f"{report.started_at:%Y-%m-%dT%H:%M:%S}", out)
    out.write("</testsuites>\n")


def _write_suite(suite: Suite, timestamp: str, out: Sink) -> None:
    attributes = _attributes(
        name=suite.name,
        **_counts(suite.counts),
        skipped=str(suite.counts.get(CaseResult.SKIPPED, 0)),
        time=_UNTIMED,
        timestamp=timestamp,
    )
    out.write(f"  <testsuite{attributes}>\n")
    for case in suite.cases:
        out.write("".join(_lines(case)))
    out.write("  </testsuite>\n")


def _counts(counts: Mapping[CaseResult, int]) -> dict[str, str]:
    failures = counts.get(CaseResult.FAILED, 0)
    return {"tests": str(sum(counts.values())), "failures": str(failures), "errors": "0"}


def _lines(case: Case) -> Iterator[str]:
    yield f"    <testcase{_attributes(classname=case.place, name=case.name, time=_UNTIMED)}>"
    if case.verdict is CaseResult.FAILED:
        said = _attributes(type=case.kind, message=case.message)
        yield f"<failure{said}>{_text(case.text)}</failure>"
    elif case.verdict is CaseResult.SKIPPED:
        yield f"<skipped{_attributes(message=case.message)}/>"
    elif case.text:
        yield f"<system-out>{_text(case.text)}</system-out>"
    yield "</testcase>\n"


def _attributes(**values: str) -> str:
    from xml.sax.saxutils import quoteattr  # loads all of urllib.request: not for other formats

    return "".join(f" {name}={_ascii(quoteattr(_legal(text)))}" for name, text in values.items())


def _text(text: str) -> str:
    from xml.sax.saxutils import escape

    return _ascii(escape("\n".join(map(_legal, text.split("\n")))))


def _legal(text: str) -> str:
    """Return text with what XML cannot hold, even as a reference, written as escapes."""
    return _NONCHARACTERS.sub(lambda match: ascii(match.group())[1:-1], printable(text))


def _ascii(text: str) -> str:
    return text.encode("ascii", "xmlcharrefreplace").decode("ascii")
