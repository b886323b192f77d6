"""The bytes to be stored: local files as they are, remote ones fetched, pictures re-encoded."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from r2maint.bucket import Bucket, head
from r2maint.bucket.r2_limits import measure_bytes
from r2maint.control import Control
from r2maint.http import FetchError, FetchLimits, Guard, Limiter, fetch_many
from r2maint.images import (
    RECIPE_KEY,
    SOURCE_KEY,
    Encoded,
    ImageError,
    Job,
    Skip,
    inspect,
    reencode_many,
    sniff,
)
from r2maint.journal.journal import uploads_of
from r2maint.local_files.read_file import (
    MAX_IMAGE_BYTES,
    UnusableSource,
    accepted_type,
    is_as_it_was,
)
from r2maint.machine_resources import usable_cores
from r2maint.migrate.new_keys import Namer, RowValues
from r2maint.migrate.result import MigrationAction, MigrationItem

FETCHES = 4
"""Remote sources under way at once: each may be as large as the limit, several times over."""


class Ready(NamedTuple):
    """An item whose key is known, and where its bytes are; None where nothing is to be sent."""

    item: MigrationItem
    body: Path | None


class _Made(NamedTuple):
    """An item that was open, its source's bytes, and the picture made of them, if one was."""

    item: MigrationItem
    data: bytes
    encoded: Encoded | None = None


@dataclass(slots=True, kw_only=True)
class Preparer:
    """Makes items ready to be sent. Files it makes lie in `directory` until the caller's end."""

    namer: Namer
    bucket: Bucket
    directory: Path
    control: Control
    limiter: Limiter
    made: int = 0

    def ready(self, items: Sequence[MigrationItem]) -> Iterator[Ready]:
        """Yield every item, ready or settled; those that were open after the others.

        Raises: Stopped, while pictures are fetched or made.
        """
        for item in items:
            if not item.is_open:
                yield Ready(
                    item, Path(item.source) if item.action is MigrationAction.UPLOAD else None
                )
        opened = [item for item in items if item.is_open]
        if opened:
            values = self.namer.row_values(item.references for item in opened)
            made = self._opened(opened)
            if any(item.recipe for item in opened):
                made = self._encoded(made)
            with closing(made):
                for each in made:
                    yield self._stored(each, values)

    # Bytes

    def _opened(
        self, items: Sequence[MigrationItem]
    ) -> Generator[_Made | MigrationItem, None, None]:
        """Yield each open item with its bytes, or settled without them."""
        for item in items:
            if not item.is_remote:
                self.control.check()
                yield _read(item)
        remote = [item for item in items if item.is_remote]
        found = fetch_many(
            [item.source for item in remote],
            guard=Guard.from_config(self.namer.config),
            limits=FetchLimits(max_bytes=MAX_IMAGE_BYTES),
            workers=max(1, min(self.control.workers, FETCHES)),
            limiter=self.limiter,
        )
        for item, (_, fetched) in zip(remote, found, strict=True):
            self.control.check()
            if isinstance(fetched, FetchError):
                yield replace(item, action=MigrationAction.SKIP, reason=fetched.reason)
            else:
                yield _checked(item, fetched.body, decode=item.recipe is None)

    def _encoded(
        self, opened: Iterable[_Made | MigrationItem]
    ) -> Generator[_Made | MigrationItem, None, None]:
        """Yield each item with the bytes to store; pictures with a recipe re-encoded."""
        settled: deque[_Made | MigrationItem] = deque()
        jobs = self._jobs(opened, settled)
        workers = max(1, min(self.control.workers, usable_cores()))
        python = self.namer.config.python
        with closing(reencode_many(jobs, workers=workers, python=python)) as results:
            for finished in results:
                item, data = finished.label
                yield _outcome(item, data, finished.result)
                while settled:
                    yield settled.popleft()
        yield from settled

    def _jobs(
        self,
        opened: Iterable[_Made | MigrationItem],
        settled: deque[_Made | MigrationItem],
    ) -> Iterator[Job[tuple[MigrationItem, bytes]]]:
        for each in opened:
            if isinstance(each, MigrationItem) or each.item.recipe is None:
                settled.append(each)
            else:
                yield Job((each.item, each.data), each.data, each.item.recipe)

    # Keys

    def _stored(self, each: _Made | MigrationItem, values: RowValues) -> Ready:
        if isinstance(each, MigrationItem):
            return Ready(each, None)
        body = each.encoded.body if each.encoded else each.data
        try:
            return Ready(self._named(each, values), self._file(body))
        except UnusableSource as unusable:
            return Ready(
                replace(each.item, action=MigrationAction.SKIP, reason=unusable.reason), None
            )

    def _named(self, made: _Made, values: RowValues) -> MigrationItem:
        """Return the item under its key. Raises: UnusableSource."""
        item, data, encoded = made
        tried = {RECIPE_KEY: item.recipe.fingerprint} if item.recipe else {}
        if encoded is None:
            limit = self.namer.max_bytes(item.references)
            kind = accepted_type(data, len(data), images_only=False, max_bytes=limit)
            body, size, own = data, None, tried
        else:
            kind, body, size = encoded.type, encoded.body, (encoded.width, encoded.height)
            own = {**tried, SOURCE_KEY: _sha256(data)}
        sha256 = _sha256(body)
        key = self.namer.key(
            item.references,
            values,
            stem=_stem(item),
            sha256=sha256,
            ext=kind.ext if kind else "",
        )
        key = self._earlier(item, body, sha256) or key
        stored = replace(item, sha256=sha256, bytes=len(body), marks=own)
        return self.namer.named(stored, key, kind, size=size)

    def _earlier(self, item: MigrationItem, body: bytes, sha256: str) -> str:
        """Return the key under which an earlier run stored this source, if it still does; or ""."""
        known = uploads_of([sha256], self.bucket.name).get((item.source, sha256), "")
        if not known or not self.namer.fits(item.references, known):
            return ""
        found = head(self.bucket, known)
        digest = measure_bytes(body)
        same = found is not None and (found.size, found.etag) == (digest.size, digest.md5)
        return known if same else ""

    def _file(self, body: bytes) -> Path:
        self.made += 1
        path = self.directory / f"{self.made}"
        path.write_bytes(body)
        return path


def _read(item: MigrationItem) -> _Made | MigrationItem:
    """Return a local source with its bytes, if they are still those that were planned."""
    path = Path(item.source)
    try:
        data = path.read_bytes()
    except OSError:
        return replace(item, action=MigrationAction.SKIP, reason="unreadable")
    is_same = is_as_it_was(path, size=item.bytes, modified_ns=item.modified_ns)
    if not is_same or _sha256(data) != item.sha256:
        return replace(item, action=MigrationAction.FAIL, reason="changed")
    return _Made(item, data)


def _checked(item: MigrationItem, data: bytes, *, decode: bool) -> _Made | MigrationItem:
    """Return a fetched source if it is an image; every frame is decoded unless that comes next."""
    kind = sniff(data)
    if not data or kind is None or not kind.is_image:
        reason = "not_an_image" if data else "empty"
        return replace(item, action=MigrationAction.SKIP, reason=reason)
    if decode:
        try:
            inspect(data)
        except ImageError as error:
            return replace(item, action=MigrationAction.SKIP, reason=error.reason)
    return _Made(item, data)


def _outcome(
    item: MigrationItem, data: bytes, result: Encoded | Skip | ImageError
) -> _Made | MigrationItem:
    if isinstance(result, Encoded):
        return _Made(item, data, result)
    if isinstance(result, ImageError):
        return replace(item, action=MigrationAction.SKIP, reason=result.reason)
    if item.is_remote:
        # What the encoder passes over (an animation) it did not decode to the end.
        return _checked(item, data, decode=True)
    return _Made(item, data)


def _stem(item: MigrationItem) -> str:
    path = unquote(urlsplit(item.source).path) if item.is_remote else item.source
    return PurePosixPath(path).stem


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
