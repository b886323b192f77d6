"""What goes to a process that asks URLs, and what comes back: plain data, checked on arrival.

What comes back is not believed: the process decodes strangers' pictures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime
from typing import Any

from r2maint.bucket.protocol import StoredObject
from r2maint.http import Guard
from r2maint.processes import FrameError
from r2maint.verify.asking.host_health import HostTally
from r2maint.verify.asking.prober import Inquiry, Prober
from r2maint.verify.verdicts.by_http import UrlVerdict
from r2maint.verify.verdicts.outcomes import Level, Outcome

_OUTCOMES = {outcome.value: outcome for outcome in Outcome}
_MOST_COUNTED = 2**53
_TALLY_TYPES = tuple((each.name, type(each.default)) for each in fields(HostTally))


def packed_prober(prober: Prober) -> dict[str, Any]:
    return {
        "level": prober.level.value,
        "private": sorted(prober.guard.private),
        "workers": prober.workers,
        "rate": prober.rate,
        "referers": prober.referers,
        "shares": prober.shares,
    }


def prober_of(told: dict[str, Any]) -> Prober:
    """Return what `packed_prober` packed."""
    return Prober(
        level=Level(told["level"]),
        guard=Guard(frozenset((host, port) for host, port in told["private"])),
        workers=told["workers"],
        rate=told["rate"],
        referers=tuple(told["referers"]),
        shares=told["shares"],
    )


def packed_inquiry(inquiry: Inquiry) -> list[Any]:
    stored = inquiry.stored
    packed = stored and [*stored[:3], stored.modified_at.timestamp(), stored.storage_class]
    return [inquiry.url, inquiry.host, packed, inquiry.held_bytes]


def inquiry_of(packed: list[Any]) -> Inquiry:
    """Return what `packed_inquiry` packed."""
    url, host, stored, held_bytes = packed
    if stored is not None:
        key, size, etag, modified_at, storage_class = stored
        modified = datetime.fromtimestamp(modified_at, UTC)
        stored = StoredObject(key, size, etag, modified, storage_class)
    return Inquiry(url, host, stored, held_bytes)


def verdicts_of(packed: object, most: int) -> Iterator[UrlVerdict | None]:
    """Yield verdicts that came as lists. Raises: FrameError for anything else, and for too many."""
    if type(packed) is not list or len(packed) > most:
        raise FrameError("no list of verdicts")
    return map(_verdict, packed)


def _verdict(packed: object) -> UrlVerdict | None:
    if packed is None:
        return None
    try:
        outcome, status, detail, advice = _list(packed)
        found = _OUTCOMES[outcome]
    except (ValueError, TypeError, KeyError) as error:
        raise FrameError("no verdict") from error
    if status is not None and not (type(status) is int and 0 <= status < 1000):
        raise FrameError("a status that is none")
    if type(detail) is not str or type(advice) is not str:
        raise FrameError("a verdict without words")
    return UrlVerdict(found, status, detail, advice)


def packed_tally(host: str, tally: HostTally) -> list[Any]:
    return [host, asdict(tally)]


def tallies_of(packed: object) -> dict[str, HostTally]:
    """Return tallies that `packed_tally` packed. Raises: FrameError for anything else."""
    found = {}
    for each in _list(packed):
        try:
            host, told = _list(each)
            values = {name: told[name] for name, _ in _TALLY_TYPES}
        except (ValueError, TypeError, KeyError) as error:
            raise FrameError("no tally") from error
        if type(host) is not str or not all(_fits(values[n], kind) for n, kind in _TALLY_TYPES):
            raise FrameError("a tally of other values")
        found[host] = HostTally(**values)
    return found


def _fits(value: object, kind: type) -> bool:
    return type(value) is kind and (type(value) is not int or 0 <= value <= _MOST_COUNTED)


def _list(value: object) -> Sequence[Any]:
    if type(value) is not list:
        raise FrameError("no list")
    return value
