"""What a report makes of hosts that say nothing: each is named once, and nobody is blamed."""

from __future__ import annotations

from collections.abc import Iterator

from r2maint.keys import host_of
from r2maint.rendering import format_count
from r2maint.verify.asking.host_health import ANSWERED, Hosts, HostTally
from r2maint.verify.result import Finding
from r2maint.verify.verdicts.outcomes import RUN_AGAIN, Outcome

_MOST_NOTES = 10
_R2_DEV = ".r2.dev"


def tempered(findings: Iterator[Finding], hosts: Hosts) -> Iterator[Finding]:
    """Yield findings, unsure where their host cannot be judged: it may be the network.

    To be asked when every answer was counted.
    """
    silent = frozenset(hosts.cannot_judge)
    for finding in findings:
        if finding.outcome in ANSWERED and host_of(finding.url.strip()) in silent:
            is_unsure = finding.outcome is Outcome.UNSURE
            advice = (is_unsure and finding.advice) or RUN_AGAIN
            yield finding._replace(outcome=Outcome.UNSURE, advice=advice, of_host=True)
        else:
            yield finding


def notes(hosts: Hosts) -> Iterator[str]:
    """Yield what is to be said of whole hosts."""
    silent = hosts.cannot_judge
    if len(silent) > 1 and len(silent) == len(hosts.tallies):
        yield "None of the hosts can be judged: is this machine's network up?"
    for host in silent[:_MOST_NOTES]:
        yield _note(host, hosts.tallies[host])
    if len(silent) > _MOST_NOTES:
        more = format_count(len(silent) - _MOST_NOTES, "more host")
        yield f"Cannot judge {more}: --format json names them."
    for host, tally in sorted(hosts.tallies.items()):
        if tally.says_no:
            yield (
                f"{host} has none of the {format_count(tally.gone, 'URL')} it was asked for:"
                " look for one cause, such as a domain or path that moved."
            )


def _note(host: str, tally: HostTally) -> str:
    left = f", {tally.not_asked:,} were not asked" if tally.not_asked else ""
    hint = tally.advice
    if host.endswith(_R2_DEV):
        hint = "r2.dev is rate limited: set PUBLIC_URL to a custom domain."
    return (
        f"Cannot judge {host}: {tally.unsure:,} of {format_count(tally.asked, 'URL')} said"
        f" nothing{left} ({tally.why}). Nothing on it is called broken. {hint}".rstrip()
    )
