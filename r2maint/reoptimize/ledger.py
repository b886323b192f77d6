"""What earlier runs made of pictures, and found of those they left: a table of r2maint's own.

An object is known by its key and ETag, so that a second run asks the listing and this alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from types import TracebackType
from typing import Any

from r2maint import keys
from r2maint.bucket import ObjectInfo, StoredObject
from r2maint.database.connections import database_option, reading, table_names
from r2maint.database.upserts import Upsert, parameter
from r2maint.errors import DatabaseError, Stopped
from r2maint.images import RECIPE_KEY, SOURCE_KEY
from r2maint.journal import journal
from r2maint.models import Encoding
from r2maint.object_index.objects import Inventory
from r2maint.scratch.batches import batched

ALREADY = "already"
"""The reason to leave what a recipe made."""
UNTRIED = ""
"""The reason of an object that tells of no recipe."""
BROKEN = frozenset(("corrupt", "empty", "crashed", "encoder_failed", "out_of_memory", "too_slow"))
"""Reasons that are findings; the others only say that nothing is to be gained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What a recipe made, or found of a picture it left; of one version of one object."""

    key: str
    etag: str
    fingerprint: str
    """Of the recipe last tried on it; "" when none was."""
    reason: str
    bytes_before: int
    bytes_after: int | None = None
    """None unless it was made here, from `bytes_before`."""
    min_saving: float = 0
    width: int = 0
    height: int = 0
    source_sha256: str = ""
    """Of the bytes the recipe was tried on."""
    made_by: str = ""
    """The fingerprint of the recipe that made its bytes, of which another lossy pass would cost
    quality; "" for an original."""

    @classmethod
    def told_by(cls, info: ObjectInfo) -> Record:
        """Return what an object's own metadata tell."""
        metadata = info.headers.metadata
        fingerprint, source = metadata.get(RECIPE_KEY, ""), metadata.get(SOURCE_KEY, "")
        return cls(
            key=info.key,
            etag=info.etag,
            fingerprint=fingerprint,
            reason=ALREADY if fingerprint else UNTRIED,
            bytes_before=info.size,
            source_sha256=source[:64],
            made_by=fingerprint if source else "",
        )


BATCH = 500
_SECONDS = 2.0
"""Records are written so often at least: what a kill loses is looked at again."""
_RECORD = tuple(field.name for field in fields(Record))
_UPSERT = Upsert(Encoding, ("bucket", "key_digest"), (), (*_RECORD, "at"))


class Ledger:
    """The records of one bucket; a context manager, which writes the last ones at its end.

    Nothing depends on it but requests: when its table is missing or fails, a run goes on without,
    and `unremembered` says so in a sentence.
    """

    def __init__(self, bucket: str) -> None:
        self._alias, self._bucket = journal.home(), bucket
        self._fresh: dict[str, Record] = {}
        self._written_at = time.monotonic()
        self.unremembered = ""

    def __enter__(self) -> Ledger:
        try:
            if Encoding._meta.db_table not in table_names(self._alias):
                option = database_option(self._alias)
                self._go_on_without(f"Run manage.py migrate r2maint{option}.")
        except DatabaseError as error:
            self._go_on_without(str(error))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None or isinstance(error, Stopped):
            self._write()

    def read(self, objects: Sequence[StoredObject]) -> Mapping[str, Record]:
        """Return key -> record of those objects that were looked at, as they are listed now."""
        by_digest = {keys.digest(item.key): item for item in objects}
        try:
            rows = list(self._rows(by_digest))
        except DatabaseError as error:
            self._go_on_without(str(error))
            return {}
        found = {}
        for name, *values in rows:
            record = Record(**dict(zip(_RECORD, values, strict=True)))
            if record.etag == by_digest[name].etag:
                found[by_digest[name].key] = record
        return found

    def note(self, record: Record) -> None:
        """Remember a record, soon."""
        if "\0" not in record.key:  # which PostgreSQL does not store
            self._fresh[keys.digest(record.key)] = record
        if len(self._fresh) >= BATCH or time.monotonic() >= self._written_at + _SECONDS:
            self._write()

    def forget_others(self, listed: Inventory, prefix: str) -> None:
        """Forget what is recorded of objects below `prefix` that are gone, or are others now."""
        try:
            for page in self._pages():
                etags = listed.etags([key for _, key, _ in page])
                gone = [
                    pk
                    for pk, key, etag in page
                    if key.startswith(prefix) and etags.get(keys.identity(key)) != etag
                ]
                if gone:
                    with reading(self._alias, Encoding._meta.db_table):
                        Encoding.objects.using(self._alias).filter(pk__in=gone).delete()
        except DatabaseError as error:
            self._go_on_without(str(error))

    def _rows(self, digests: Iterable[str]) -> Iterator[tuple[Any, ...]]:
        if self.unremembered:
            return
        mine = Encoding.objects.using(self._alias).filter(bucket=self._bucket)
        for batch in batched(digests, BATCH):
            with reading(self._alias, Encoding._meta.db_table):
                rows = mine.filter(key_digest__in=batch)
                yield from rows.values_list("key_digest", *_RECORD)

    def _pages(self) -> Iterator[list[tuple[int, str, str]]]:
        mine = Encoding.objects.using(self._alias).filter(bucket=self._bucket).order_by("pk")
        last = 0
        while not self.unremembered:
            with reading(self._alias, Encoding._meta.db_table):
                page = list(mine.filter(pk__gt=last).values_list("pk", "key", "etag")[:BATCH])
            if not page:
                return
            yield page
            last = page[-1][0]

    def _write(self) -> None:
        fresh, self._fresh = self._fresh, {}
        self._written_at = time.monotonic()
        if not fresh or self.unremembered:
            return
        at = parameter(self._alias, journal.now())
        rows = (
            (self._bucket, name, *(getattr(record, each) for each in _RECORD), at)
            for name, record in sorted(fresh.items())
        )
        try:
            with reading(self._alias, Encoding._meta.db_table):
                _UPSERT.write(self._alias, rows)
        except DatabaseError as error:
            self._go_on_without(str(error))

    def _go_on_without(self, why: str) -> None:
        self.unremembered = f"Nothing is remembered of the pictures looked at. {why}"
