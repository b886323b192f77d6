"""What each host's answers are worth: one that says nothing is given up, and judges nobody."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from r2maint.verify.verdicts.outcomes import Outcome

GIVE_UP = 10
"""URLs of a host in a row that said nothing, each tried several times: the rest is not asked."""
_ENOUGH = 5
_GONE = frozenset((Outcome.DEAD, Outcome.NOT_PUBLIC))
ANSWERED = _GONE | {Outcome.CORRUPT, Outcome.WRONG_TYPE, Outcome.BLOCKED, Outcome.UNSURE}
"""Outcomes that come of an answer, or of none."""


@dataclass(slots=True)
class HostTally:
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

    def plus(self, other: HostTally) -> HostTally:
        """Return what both counted: given up only if both gave up, for one heard it answer."""
        return HostTally(
            asked=self.asked + other.asked,
            unsure=self.unsure + other.unsure,
            gone=self.gone + other.gone,
            in_a_row=min(self.in_a_row, other.in_a_row),
            not_asked=self.not_asked + other.not_asked,
            why=self.why or other.why,
            advice=self.advice or other.advice,
        )

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

    _tallies: dict[str, HostTally] = field(default_factory=dict)

    @classmethod
    def of_all(cls, parts: Iterable[Hosts]) -> Hosts:
        """Return what several counted together."""
        found = cls()
        for part in parts:
            for host, tally in part.tallies.items():
                known = found._tallies.get(host)
                found._tallies[host] = known.plus(tally) if known else tally
        return found

    @property
    def tallies(self) -> Mapping[str, HostTally]:
        return self._tallies

    @property
    def cannot_judge(self) -> tuple[str, ...]:
        """Hosts most of whose answers say nothing, in order."""
        return tuple(sorted(host for host, each in self._tallies.items() if each.says_nothing))

    def is_given_up(self, host: str) -> bool:
        tally = self._tallies.get(host)
        return tally is not None and tally.is_given_up

    def count(self, host: str, outcome: Outcome, detail: str, advice: str = "") -> None:
        """Count the answer about one URL."""
        tally = self._tallies.get(host)
        if tally is None:
            tally = self._tallies[host] = HostTally()
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
