"""Fetch pictures and re-encode them, in processes of their own; nothing is stored."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace

from r2maint.bucket import Bucket, ObjectInfo
from r2maint.control import Control
from r2maint.images import Encoded, ImageError, Job, Skip, reencode_many
from r2maint.machine_resources import usable_cores
from r2maint.reoptimize.ledger import Ledger, Record
from r2maint.reoptimize.result import ReoptimizeAction, ReoptimizeItem, Version
from r2maint.reoptimize.select import Writer
from r2maint.reoptimize.skip_known import judged, left

_OF_THE_MOMENT = ("crashed", "encoder_failed")
"""Failures that another machine, or more memory, may not meet."""

Tried = tuple[ReoptimizeItem, "Version | None"]
"""A picture with its new version, or left without one."""
_Label = tuple[ReoptimizeItem, ObjectInfo, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """Tries recipes on pictures; what it leaves, the ledger remembers."""

    bucket: Bucket
    writer: Writer
    ledger: Ledger
    control: Control
    processes: bool = True
    python: str = ""
    """The setting PYTHON."""

    def run(self, items: Iterable[ReoptimizeItem]) -> Generator[Tried, None, None]:
        """Yield each item with its new version, or left without one.

        One GET a picture. Lazy: about twice as many pictures as there are workers are in memory.
        """
        settled: deque[ReoptimizeItem] = deque()
        workers = max(1, min(self.control.workers, usable_cores()))
        jobs = self._jobs(items, settled)
        many = reencode_many(jobs, workers=workers, processes=self.processes, python=self.python)
        with closing(many) as results:
            for finished in results:
                yield self._tried(finished.label, finished.result)
                while settled:
                    yield settled.popleft(), None
        while settled:
            yield settled.popleft(), None

    def _jobs(
        self, items: Iterable[ReoptimizeItem], settled: deque[ReoptimizeItem]
    ) -> Iterator[Job[_Label]]:
        asked: deque[ReoptimizeItem] = deque()

        def keys() -> Iterator[str]:
            for item in items:
                asked.append(item)
                yield item.key

        for answer in self.bucket.get_many(keys()):
            found = answer.value
            info = found.info if found else None
            item = judged(asked.popleft(), answer.error, info, self.ledger)
            if found is None or item.action is not ReoptimizeAction.CONVERT:
                settled.append(item)
            else:
                label = (item, found.info, sha256_of(found.body))
                yield Job(label, found.body, item.selected.recipe)

    def _tried(self, label: _Label, result: Encoded | Skip | ImageError) -> Tried:
        item, source, sha256 = label
        if not isinstance(result, Encoded):
            if result.reason not in _OF_THE_MOMENT:
                self.ledger.note(_left_as_it_is(item, source, sha256, result))
            return left(item, result.reason), None
        fingerprint = item.selected.recipe.fingerprint
        version = Version(
            encoded=result, source=source, source_sha256=sha256, fingerprint=fingerprint
        )
        return _measured(item, version, self.writer), version


def _left_as_it_is(
    item: ReoptimizeItem, source: ObjectInfo, sha256: str, result: Skip | ImageError
) -> Record:
    recipe = item.selected.recipe
    return Record(
        key=item.key,
        etag=item.selected.object.etag,
        fingerprint=recipe.fingerprint,
        reason=result.reason,
        bytes_before=item.bytes_before,
        min_saving=recipe.min_saving_percent,
        width=result.width if isinstance(result, Skip) else 0,
        height=result.height if isinstance(result, Skip) else 0,
        source_sha256=sha256,
        made_by=Record.told_by(source).made_by,
    )


def _measured(item: ReoptimizeItem, version: Version, writer: Writer) -> ReoptimizeItem:
    """Return the item with what its new version would be, or is."""
    encoded = version.encoded
    sha256 = sha256_of(encoded.body)
    return replace(
        item,
        new_key=writer.new_key(item.selected, sha256=sha256, ext=encoded.type.ext),
        format=encoded.type.content_type,
        bytes_after=len(encoded.body),
        ssim=encoded.ssim,
    )


def unmeasured(item: ReoptimizeItem) -> ReoptimizeItem:
    """Return the item of a version that came to nothing."""
    return replace(item, new_key="", format="", bytes_after=None, ssim=None)


def sha256_of(data: bytes) -> str:
    """Return the digest in hex."""
    return hashlib.sha256(data).hexdigest()
