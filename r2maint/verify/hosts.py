"""What each host's answers are worth: one that says nothing is named once, and judges nobody."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from r2maint.keys import host_of
from r2maint.report import format_count
from r2maint.verify.advice import RUN_AGAIN
from r2maint.verify.items import Finding, Outcome

GIVE_UP = 10
"""URLs of a host in a row that said nothing, each tried several times: the rest is not asked."""
_ENOUGH = 5
_MOST_NOTES = 10
_GONE = frozenset((Outcome.DEAD, Outcome.NOT_PUBLIC))
ANSWERED = _GONE | {Outcome.CORRUPT, Outcome.WRONG_TYPE, Outcome.BLOCKED, Outcome.UNSURE}
"""Outcomes that come of an answer, or of none."""
_R2_DEV = ".r2.dev"


@dataclass(slots=True)
class _Tally:
    """What the URLs of one host came to, each counted once."""

    asked: int = 0
    unsure: int = 0
    gone: int = 0
    in_a_row: int = 0
    """Unsure ones up to now."""
    not_asked: int = 0
    why: str = ""
    """What the last unsure one said."""
    advice: str = ""
    """What to do about it."""

    @property
    def is_given_up(self) -> bool:
        return self.in_a_row >= GIVE_UP

    @property
    def says_nothing(self) -> bool:
        most = 2 * self.unsure > self.asked if self.asked >= _ENOUGH else self.unsure == self.asked
        return self.is_given_up or most

    @property
    def says_no(self) -> bool:
        return self.asked >= _ENOUGH and self.gone == self.asked


@dataclass(slots=True)
class Hosts:
    """The tallies of one run, by host."""

    _tallies: dict[str, _Tally] = field(default_factory=dict)

    def is_given_up(self, host: str) -> bool:
        tally = self._tallies.get(host)
        return tally is not None and tally.is_given_up

    def count(self, host: str, outcome: Outcome, detail: str, advice: str = "") -> None:
        """Count the answer about one URL."""
        tally = self._tallies.setdefault(host, _Tally())
        tally.asked += 1
        if outcome is Outcome.UNSURE:
            tally.unsure += 1
            tally.in_a_row += 1
            tally.why, tally.advice = detail, advice
        else:
            tally.in_a_row = 0
            tally.gone += outcome in _GONE

    def pass_over(self, host: str) -> str:
        """Count a URL that was not asked, and return why in words."""
        tally = self._tallies[host]
        tally.not_asked += 1
        return f"not asked: the last {GIVE_UP} URLs of its host said nothing ({tally.why})"

    @property
    def cannot_judge(self) -> tuple[str, ...]:
        """Hosts most of whose answers say nothing, in order."""
        return tuple(sorted(host for host, each in self._tallies.items() if each.says_nothing))

    def tempered(self, findings: Iterator[Finding]) -> Iterator[Finding]:
        """Yield findings, unsure where their host cannot be judged: it may be the network.

        To be asked when every answer was counted.
        """
        silent = frozenset(self.cannot_judge)
        for finding in findings:
            if finding.outcome in ANSWERED and host_of(finding.url.strip()) in silent:
                is_unsure = finding.outcome is Outcome.UNSURE
                advice = (is_unsure and finding.advice) or RUN_AGAIN
                yield finding._replace(outcome=Outcome.UNSURE, advice=advice, of_host=True)
            else:
                yield finding

    def notes(self) -> Iterator[str]:
        """Yield what is to be said of whole hosts."""
        silent = self.cannot_judge
        if len(silent) > 1 and len(silent) == len(self._tallies):
            yield "None of the hosts can be judged: is this machine's network up?"
        for host in silent[:_MOST_NOTES]:
            yield self._note(host, self._tallies[host])
        if len(silent) > _MOST_NOTES:
            more = format_count(len(silent) - _MOST_NOTES, "more host")
            yield f"Cannot judge {more}: --format json names them."
        for host, tally in sorted(self._tallies.items()):
            if tally.says_no:
                yield (
                    f"{host} has none of the {format_count(tally.gone, 'URL')} it was asked for:"
                    " look for one cause, such as a domain or path that moved."
                )

    def _note(self, host: str, tally: _Tally) -> str:
        left = f", {tally.not_asked:,} were not asked" if tally.not_asked else ""
        hint = tally.advice
        if host.endswith(_R2_DEV):
            hint = "r2.dev is rate limited: set PUBLIC_URL to a custom domain."
        return (
            f"Cannot judge {host}: {tally.unsure:,} of {format_count(tally.asked, 'URL')} said"
            f" nothing{left} ({tally.why}). Nothing on it is called broken. {hint}".rstrip()
        )
