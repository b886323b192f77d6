"""The rules that refuse a purge. Pure: each looks at what a plan and the last accepted run found.

A brake is lifted by its own option or by `--override NAME`, never by `--no-input`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from r2maint.journal.baselines import Baseline
from r2maint.purge.key_classes import UnnamedClass
from r2maint.rendering import Refusal, format_count

NAMES = ("empty", "missing", "ratio", "source_lost", "class", "identity", "prefixes", "order")

UNTRUSTED = frozenset({"empty", "missing", "source_lost"})
"""Brakes that say the reading itself is doubtful: what it calls orphans is not remembered."""

SHOWN_CLASSES = 3
"""Classes that the refusal names."""
_RISE = 0.10
"""How much a share may grow from one accepted run to the next."""
_KEPT_SHARE = 0.80
"""The part of its names a source must still hold."""


@dataclass(frozen=True, slots=True)
class MaxDelete:
    """How many objects one run may delete: a count, or a share of the managed ones."""

    count: int | None = None
    share: float | None = 0.25

    @classmethod
    def parse(cls, text: str) -> MaxDelete:
        """Return the limit that "120" or "60%" means; raises ValueError."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?)%|(\d+)", text.strip())
        if match is None or (match[1] and float(match[1]) > 100):
            raise ValueError(f"{text!r} is neither a number of objects nor a percentage.")
        if match[1]:
            return cls(share=float(match[1]) / 100)
        return cls(count=int(match[2]), share=None)

    def allows(self, orphans: int, managed: int) -> bool:
        if self.count is not None:
            return orphans <= self.count
        return orphans <= (self.share or 0) * managed

    def __str__(self) -> str:
        return f"{self.count}" if self.count is not None else f"{100 * (self.share or 0):g}%"


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What one plan found, as far as brakes care."""

    prefixes: int
    managed: int
    """Objects below the managed prefixes."""
    named: int
    """Of these, how many something names."""
    absent: int
    """Files below the managed prefixes that something names and the bucket lacks."""
    unnamed: int
    """Managed objects that nothing names, protects or derives, of any age."""
    orphans: int
    """Of these, how many this run would delete."""
    names: Mapping[str, int]
    """Source, or "host:" and a host -> keys found in it."""
    identity_fault: str
    classes: tuple[UnnamedClass, ...] = ()
    """Classes of keys of which this run would delete some, and nothing names any."""
    named_classes: tuple[str, ...] = ()
    owners: Mapping[str, str] = field(default_factory=dict)
    """Class -> models whose primary keys its ids may be, in words."""

    @property
    def baseline(self) -> Baseline:
        """What the next run is measured by, once this one is applied."""
        return Baseline(
            missing=_share(self.absent, self.absent + self.named),
            orphans=_share(self.unnamed, self.managed),
            names={source: count for source, count in self.names.items() if count},
            classes=self.named_classes,
        )


def find_refusals(
    found: Findings, last: Baseline, *, max_delete: MaxDelete | None, adopt: bool
) -> Iterator[Refusal]:
    """Yield every brake that holds, none of them overridden yet."""
    if not found.prefixes:
        message = "R2MAINT['MANAGED_PREFIXES'] names 0 prefixes, so that the whole bucket"
        yield _refusal("prefixes", f"{message} would be purged: {_objects(found.managed)}.")
    if found.managed and not any(found.names.values()):
        message = f"nothing in {format_count(len(found.names), 'source')} names one of them"
        yield _refusal("empty", f"{_objects(found.managed)} are managed, and {message}.")
    yield from _missing(found, last)
    yield from _lost(found, last)
    yield from _ratio(found, last, max_delete)
    yield from _classes(found, last)
    if found.identity_fault and not adopt:
        message = f"It is not certain that this is the bucket's database: {found.identity_fault}."
        yield Refusal(brake="identity", message=message, override="--adopt")


def _missing(found: Findings, last: Baseline) -> Iterator[Refusal]:
    now = found.baseline.missing
    if now > last.missing + _RISE:
        references = format_count(found.absent + found.named, "managed reference")
        yield _refusal(
            "missing",
            f"{now:.1%} of {references} have no object, {_before(last.missing, last)};"
            f" {_LIMIT}. This looks like another bucket or another database.",
        )


def _lost(found: Findings, last: Baseline) -> Iterator[Refusal]:
    lost = [
        f"{source} ({before:,} before, {found.names.get(source, 0):,} now)"
        for source, before in sorted(last.names.items())
        if found.names.get(source, 0) < _KEPT_SHARE * before
    ]
    if lost:
        more = f" and {len(lost) - 3:,} more" if len(lost) > 3 else ""
        yield _refusal(
            "source_lost",
            f"{format_count(len(lost), 'source')} of {len(last.names):,} name under"
            f" {_KEPT_SHARE:.0%} of the keys they named at best since run {last.run_id}:"
            f" {', '.join(lost[:3])}{more}.",
        )


def _ratio(found: Findings, last: Baseline, given: MaxDelete | None) -> Iterator[Refusal]:
    limit = given or MaxDelete()
    share = found.baseline.orphans
    if not limit.allows(found.orphans, found.managed):
        message = f"{found.orphans:,} of {_objects(found.managed)} would be deleted"
        message += f" ({_share(found.orphans, found.managed):.1%}); limit {limit}."
    elif given is None and found.orphans and share > last.orphans + _RISE:
        message = f"{share:.1%} of {_objects(found.managed)} are named by nothing,"
        message += f" {_before(last.orphans, last)}; {_LIMIT}."
    else:
        return
    # A limit of one's own says how much is meant: no rise counts any more.
    yield Refusal(
        brake="ratio",
        message=message,
        override=f"--max-delete {found.orphans} or --override ratio",
    )


def _classes(found: Findings, last: Baseline) -> Iterator[Refusal]:
    """Refuse where keys look computed: neither now nor at the last accepted run is one named."""
    known = frozenset(last.classes)
    unknown = [each for each in found.classes if each.name not in known]
    if unknown:
        rest = len(unknown) - SHOWN_CLASSES
        more = f", and {rest:,} more classes" if rest > 0 else ""
        told = "; ".join(_class(each, found.owners) for each in unknown[:SHOWN_CLASSES])
        yield _refusal(
            "class",
            f"{format_count(len(unknown), 'class', 'classes')} of keys would be purged of which"
            f" nothing names any object: {told}{more}. Code may compute such keys: PROTECTED keeps"
            " them.",
        )


def _class(each: UnnamedClass, owners: Mapping[str, str]) -> str:
    owner = f", {told}" if (told := owners.get(each.name)) else ""
    return f"{each.name!r} ({format_count(each.objects, 'object')}, {each.example!r}{owner})"


_LIMIT = f"limit +{100 * _RISE:.0f} points"


def _before(share: float, last: Baseline) -> str:
    if not last.run_id:
        return "and no run was accepted yet"
    return f"{share:.1%} in the last accepted run ({last.run_id})"


def _objects(count: int) -> str:
    return format_count(count, "managed object")


def _refusal(brake: str, message: str) -> Refusal:
    return Refusal(brake=brake, message=message, override=f"--override {brake}")


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
