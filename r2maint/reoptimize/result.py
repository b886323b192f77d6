"""What a re-encoding of the bucket's pictures would do, or did: items, counts, bytes, money."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from r2maint.bucket import ObjectInfo
from r2maint.errors import Stopped
from r2maint.images import Encoded
from r2maint.pricing import GB, INFREQUENT_ACCESS, Prices, storage_bill
from r2maint.references.reference import Reference
from r2maint.references.scope import Scope
from r2maint.rendering import format_bytes, format_count, format_usd
from r2maint.reoptimize.select import Selected
from r2maint.scratch.spool import Spool


class ReoptimizeAction(StrEnum):
    """What becomes of one picture."""

    CONVERT = "convert"
    SKIP = "skip"
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReoptimizeItem:
    """One picture and what becomes of it."""

    selected: Selected
    action: ReoptimizeAction
    reason: str = ""
    """Of a skip or a failure."""
    detail: str = ""
    """What the reason is about: of "not_swappable", what else names the object."""
    new_key: str = ""
    """"" in a plan for what was not sampled."""
    format: str = ""
    """The content type of the new version."""
    bytes_after: int | None = None
    ssim: float | None = None
    rewritten: int = 0

    @property
    def key(self) -> str:
        return self.selected.object.key

    @property
    def bytes_before(self) -> int:
        return self.selected.object.size

    @property
    def references(self) -> tuple[Reference, ...]:
        return self.selected.references

    def as_dict(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "new_key": self.new_key or None,
            "action": self.action.value,
            "reason": self.reason or None,
            "detail": self.detail or None,
            "format": self.format or None,
            "bytes_before": self.bytes_before,
            "bytes_after": self.bytes_after,
            "ssim": self.ssim,
            "references": [reference.as_dict() for reference in self.references],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A new version of one object, not stored yet."""

    encoded: Encoded
    source: ObjectInfo
    source_sha256: str
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReoptimizeTally:
    """Counts and bytes of a plan or an outcome."""

    objects: int
    candidates: int
    failed: int
    skipped: Mapping[str, int]
    rewritten: int
    before: int
    """Bytes of the pictures converted, or to be."""
    saved: Mapping[str, int]
    """Bytes by storage class: measured, or extrapolated."""
    retrieved: int = 0
    """Bytes of the pictures that are in Infrequent Access."""

    @property
    def saved_bytes(self) -> int:
        return sum(self.saved.values())

    def limited_to(self, limit: int | None) -> ReoptimizeTally:
        """Return what is to be expected when only `limit` pictures are converted."""
        if limit is None or limit >= self.candidates:
            return self
        return replace(
            self,
            before=self.before * limit // self.candidates,
            saved={name: size * limit // self.candidates for name, size in self.saved.items()},
            retrieved=self.retrieved * limit // self.candidates,
        )


def count_items(items: Iterable[ReoptimizeItem], remaining_share: float = 1.0) -> ReoptimizeTally:
    """Count; what was not encoded is taken to keep `remaining_share` of its bytes."""
    actions, skipped, saved = Counter[ReoptimizeAction](), Counter[str](), Counter[str]()
    before = rewritten = retrieved = 0
    for item in items:
        actions[item.action] += 1
        rewritten += item.rewritten
        if item.action is ReoptimizeAction.SKIP:
            skipped[item.reason] += 1
        elif item.action is ReoptimizeAction.CONVERT:
            size = item.bytes_before
            after = item.bytes_after
            storage_class = item.selected.object.storage_class
            before += size
            retrieved += size if storage_class == INFREQUENT_ACCESS else 0
            saved[storage_class] += size - (
                round(size * remaining_share) if after is None else after
            )
    return ReoptimizeTally(
        objects=actions.total(),
        candidates=actions[ReoptimizeAction.CONVERT],
        failed=actions[ReoptimizeAction.FAIL],
        skipped=dict(sorted(skipped.items())),
        rewritten=rewritten,
        before=before,
        saved=dict(saved),
        retrieved=retrieved,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reoptimization:
    """A re-encoding as planned, or as it went."""

    items: Spool[ReoptimizeItem]
    tally: ReoptimizeTally
    sampled: int
    """Pictures the plan encoded."""
    versions: Spool[tuple[ReoptimizeItem, Version | None]]
    """What it made of them."""
    scope: Scope
    stored: Mapping[str, int]
    """Bytes listed, by storage class."""
    prices: Prices
    freed_at: datetime
    """From when on a purge may take the old objects."""
    converted: int = 0
    applied: bool = False
    stopped: Stopped | None = None
    unremembered: str = ""
    """Why a later run has to look at all again, in a sentence; "" when it has not."""

    @property
    def has_work(self) -> bool:
        return self.tally.candidates > 0

    @property
    def findings(self) -> bool:
        return bool(self.tally.failed)

    @property
    def databases(self) -> frozenset[str]:
        """The aliases whose rows are to be rewritten."""
        wanted = (item for item in self.items if item.action is ReoptimizeAction.CONVERT)
        return frozenset(each.database for item in wanted for each in item.references)

    @property
    def question(self) -> str:
        pictures = format_count(self.tally.candidates, "picture")
        limit = self.scope.limit
        share = "" if limit is None else f", {limit:,} at most"
        size, saved = format_bytes(self.tally.before), format_bytes(self.tally.saved_bytes)
        return f"Re-encode {pictures}{share} ({size}), and save about {saved}?"

    @property
    def saved_usd_per_month(self) -> Decimal:
        """What the month's storage bill falls by once the old objects are gone."""
        left = {name: size - self.tally.saved.get(name, 0) for name, size in self.stored.items()}
        return storage_bill(self.stored, self.prices) - storage_bill(left, self.prices)

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(_notes(self))

    def summary(self) -> dict[str, Any]:
        before, saved = self.tally.before, self.tally.saved_bytes
        return {
            "objects": self.tally.objects,
            "candidates": self.tally.candidates,
            "converted": self.converted,
            "skipped": dict(self.tally.skipped),
            "failed": self.tally.failed,
            "rewritten": self.tally.rewritten,
            "sampled": self.sampled,
            "bytes_before": before,
            "bytes_after": before - saved,
            "saved_bytes": saved,
            "saved_percent": round(100 * saved / before, 1) if before else 0.0,
            "saved_usd_per_month": self.saved_usd_per_month,
            "freed_at": self.freed_at if saved else None,
        }


def _notes(result: Reoptimization) -> Iterator[str]:
    tally = result.tally
    if not tally.objects:
        yield "No value in scope names a picture in the bucket; verify_urls says what is named."
    if not result.applied and tally.candidates and result.sampled < tally.candidates:
        yield (
            f"Only {format_count(result.sampled, 'picture')} of {tally.candidates:,} encoded for"
            " this plan; bytes and savings of the others are extrapolated. --sample N encodes more."
        )
    if tally.saved_bytes:
        yield (
            "The old objects stay, so that the run can be undone; the space is free once"
            f" purge_orphans takes them, from {result.freed_at:%Y-%m-%d} on."
        )
        if not result.saved_usd_per_month:
            yield (
                "Not worth it for the bill, which is rounded up to whole GB and stays what it is;"
                " only pages load faster."
            )
    if tally.retrieved:
        yield _retrieval(result)
    if result.scope.prefix:
        yield "The saving is that of a bucket that holds only what is below --prefix."
    if result.unremembered:
        yield result.unremembered


def _retrieval(result: Reoptimization) -> str:
    """Return what reading pictures of Infrequent Access costs, by the list price of a GB."""
    rates, size = result.prices.infrequent_access, result.tally.retrieved
    cost = rates.retrieval * size / GB
    return (
        f"{format_bytes(size)} of these pictures in Infrequent Access: reading them costs"
        f" {format_usd(cost)} of retrieval, new versions stay in that class, and each"
        f" object is billed for {rates.minimum_days} days at least."
    )
