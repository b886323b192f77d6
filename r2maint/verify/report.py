"""Findings grouped for readers: by outcome, worst first, and what recovered after what is broken.

Nothing is read before a format asks, and then once, or once per group; no group is held.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from r2maint.rendering import Case, CaseResult, ReportColumn, Section, Suite, format_count
from r2maint.rendering.as_text import MAX_ROWS
from r2maint.verify.result import GROUPS, RECOVERED, UNCONFIRMED, Finding
from r2maint.verify.verdicts.outcomes import Outcome


@dataclass(slots=True)
class _Group:
    """What text shows of one group: a count, its first findings, and what all of it has in common.

    Iterates over its rows; the length hint is the count.
    """

    count: int = 0
    first: list[Finding] = field(default_factory=list)
    details: set[str] = field(default_factory=set)
    advice: set[str] = field(default_factory=set)
    """Of these two at most two are kept: one says it once, more say it row by row."""
    repeats: bool = False
    """Something in it failed in more than one run."""

    def add(self, finding: Finding) -> None:
        self.count += 1
        if len(self.first) < MAX_ROWS:
            self.first.append(finding)
        for seen, text in ((self.details, finding.detail), (self.advice, finding.advice)):
            if len(seen) < 2:
                seen.add(text)
        if finding.history is not None:
            self.repeats |= finding.has_recovered or finding.history.failures > 1

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return (finding.as_dict() for finding in self.first)

    def __length_hint__(self) -> int:
        return self.count


@dataclass(frozen=True, slots=True)
class Sections:
    """A table per group, as text shows them; read when iterated."""

    items: Iterable[Finding]
    columns: tuple[ReportColumn, ...]

    def __iter__(self) -> Iterator[Section]:
        groups: dict[str, _Group] = {}
        for finding in self.items:
            groups.setdefault(finding.group, _Group()).add(finding)
        yield from (_section(name, groups[name], self.columns) for name in GROUPS if name in groups)


def _section(name: str, group: _Group, columns: tuple[ReportColumn, ...]) -> Section:
    hidden = set() if name == UNCONFIRMED else {"outcome"}
    heading = f"{name}: {format_count(group.count, 'reference')}"
    lead = ""
    if len(group.details) == 1:
        hidden.add("detail")
        heading += "".join(f", {detail}" for detail in group.details if detail)
    if len(group.advice) == 1:
        (lead,) = group.advice
        hidden.add("advice")
    if not group.repeats:
        hidden |= {"failures", "first_failed_at"}
    if name == RECOVERED:
        hidden.add("failures")
    shown = tuple(column for column in columns if column.name not in hidden)
    return Section(title=heading, lead=lead, columns=shown, rows=group)


@dataclass(frozen=True, slots=True)
class Suites:
    """A suite per group, as CI servers read them; items are read once more for each."""

    items: Iterable[Finding]
    fail_on: frozenset[Outcome]

    def __iter__(self) -> Iterator[Suite]:
        counts: dict[str, Counter[CaseResult]] = {}
        for finding in self.items:
            counts.setdefault(finding.group, Counter())[self._verdict(finding)] += 1
        for name in GROUPS:
            if name in counts:
                yield Suite(name=name, cases=self._cases(name), counts=counts[name])
        if not counts:
            # Jenkins takes a report without a case for a broken build.
            case = Case(place="verify_urls", name="every reference")
            yield Suite(name="verify_urls", cases=(case,), counts={CaseResult.PASSED: 1})

    def _cases(self, group: str) -> Iterator[Case]:
        return (self._case(finding) for finding in self.items if finding.group == group)

    def _verdict(self, finding: Finding) -> CaseResult:
        if finding.group == RECOVERED or finding.outcome is Outcome.OK:
            return CaseResult.PASSED
        fails = finding.is_confirmed and finding.outcome in self.fail_on
        return CaseResult.FAILED if fails else CaseResult.SKIPPED

    def _case(self, finding: Finding) -> Case:
        shown = finding.as_dict()
        reference = shown["reference"]
        row = f"{reference['pk']} {reference['field']}{reference['path']}"
        database = reference["database"]
        return Case(
            place=reference["model"],
            name=f"{row if database == 'default' else f'{database} {row}'}: {reference['value']}",
            verdict=self._verdict(finding),
            kind=finding.outcome.value,
            message=_message(finding),
            text="\n".join(_told(shown)),
        )


def _message(finding: Finding) -> str:
    said = ": ".join(filter(None, (finding.outcome.value, finding.detail)))
    return said if finding.is_confirmed else f"{said} (unconfirmed)"


def _told(shown: Mapping[str, Any]) -> Iterator[str]:
    for name in ("key", "url", "status", "advice", "admin_url", "failures"):
        if shown[name] is not None:
            yield f"{name.replace('_', ' ')}: {shown[name]}"
    if shown["first_failed_at"] is not None:
        yield f"first failed: {shown['first_failed_at']:%Y-%m-%d %H:%M:%S} UTC"
