"""The rows of r2maint's own table that tell how each URL, key or file fared in earlier runs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime
from typing import Any

from django.db import connections, transaction

from r2maint.database.connections import reading, table_names
from r2maint.database.upserts import Upsert, parameter
from r2maint.journal import journal
from r2maint.keys import redact
from r2maint.models import Health
from r2maint.rendering.cells import printable
from r2maint.scratch.batches import batched
from r2maint.verify.result import History

_BATCH = 500
_STATE = ("failures", "first_failed_at", "last_ok_at", "last_seen_at")
_UPSERT = Upsert(Health, ("bucket", "level", "digest"), ("subject",), _STATE)
_SLOTS = 1 << 22


class Records:
    """What is remembered of one bucket at one level. Every method raises DatabaseError."""

    def __init__(self, bucket: str, level: str) -> None:
        self._alias = journal.home()
        self._bucket, self._level = bucket, level

    def read(self, subjects: Iterable[str]) -> dict[str, History]:
        """Return what is remembered of each; nothing of those never seen."""
        found = {}
        for batch in batched(subjects, _BATCH):
            by_digest = {digest(subject): subject for subject in batch}
            rows = self._rows().filter(digest__in=list(by_digest))
            with self._reading():
                for name, failures, first_failed_at, last_ok_at in rows.values_list(
                    "digest", *_STATE[:3]
                ):
                    found[by_digest[name]] = History(
                        failures=failures,
                        first_failed_at=first_failed_at,
                        last_ok_at=last_ok_at,
                    )
        return found

    def write(self, histories: Mapping[str, History], now: datetime) -> None:
        """Remember these, seen now, in place of what was remembered of the same subjects."""
        # In one order, so that two runs never wait for each other in a circle.
        rows = sorted((digest(subject), subject) for subject in histories)
        with self._reading():
            _UPSERT.write(
                self._alias,
                (
                    (*self._named(name, subject), *self._state(histories[subject], now))
                    for name, subject in rows
                ),
            )

    def renew(self, subjects: Iterable[str], now: datetime) -> None:
        """Remember that these are fine, as seen now; all of them or none."""
        # In one order, as in `write`: in the index they are neighbours then, too.
        named = sorted((digest(subject), subject) for subject in subjects)
        fine = self._state(History(last_ok_at=now), now)
        with self.together():
            for batch in batched(named, _BATCH):
                if self._renew_known([name for name, _ in batch], now) < len(batch):
                    _UPSERT.write(self._alias, ((*self._named(*each), *fine) for each in batch))

    def _renew_known(self, digests: list[str], now: datetime) -> int:
        """Renew what is remembered already, and return how many rows that is."""
        rows = self._rows().filter(digest__in=digests)
        if connections[self._alias].features.has_select_for_update:
            # In one order, as in `write`.
            list(rows.order_by("digest").select_for_update().values_list("pk"))
        return int(rows.update(failures=0, first_failed_at=None, last_ok_at=now, last_seen_at=now))

    def delete(self, subjects: Iterable[str]) -> None:
        """Forget these."""
        for batch in batched(map(digest, subjects), _BATCH):
            with self._reading():
                self._rows().filter(digest__in=batch).delete()

    def forget_before(self, moment: datetime) -> None:
        """Forget, at every level of the bucket, what was not seen since."""
        rows = Health.objects.using(self._alias).filter(bucket=self._bucket)
        with self._reading():
            rows.filter(last_seen_at__lt=moment).delete()

    def failing(self) -> Suspects:
        """Return those that failed when they were last seen."""
        return Suspects(self._failing_digests())

    @contextmanager
    def together(self) -> Iterator[None]:
        """Write what is written inside as a whole, or not at all."""
        with self._reading(), transaction.atomic(using=self._alias):
            yield

    def _failing_digests(self) -> Iterator[str]:
        failing, last = self._rows().filter(failures__gt=0).order_by("pk"), 0
        while True:
            with self._reading():
                page = failing.filter(pk__gt=last).values_list("pk", "digest")[: 4 * _BATCH]
                rows = list(page)
            if not rows:
                return
            last = rows[-1][0]
            yield from (name for _, name in rows)

    def _rows(self) -> Any:
        return Health.objects.using(self._alias).filter(bucket=self._bucket, level=self._level)

    def _reading(self) -> Any:
        return reading(self._alias, Health._meta.db_table)

    def _named(self, name: str, subject: str) -> tuple[str, ...]:
        return self._bucket, self._level, name, printable(redact(subject))

    def _state(self, history: History, now: datetime) -> tuple[Any, ...]:
        times = (history.first_failed_at, history.last_ok_at, now)
        return history.failures, *(parameter(self._alias, each) for each in times)


class NoRecords:
    """Remembers nothing."""

    def read(self, subjects: Iterable[str]) -> dict[str, History]:
        return {}

    def write(self, histories: Mapping[str, History], now: datetime) -> None:
        pass

    def renew(self, subjects: Iterable[str], now: datetime) -> None:
        pass

    def delete(self, subjects: Iterable[str]) -> None:
        pass

    def forget_before(self, moment: datetime) -> None:
        pass

    def failing(self) -> Suspects:
        return Suspects(())

    def together(self) -> AbstractContextManager[None]:
        return nullcontext()


class Suspects:
    """A set of subjects in four megabytes: it knows every member, and mistakes a few others."""

    def __init__(self, digests: Iterable[str]) -> None:
        self._slots = bytearray()
        for name in digests:
            self._slots = self._slots or bytearray(_SLOTS)
            self._slots[_slot(name)] = 1

    def __bool__(self) -> bool:
        return bool(self._slots)

    def among(self, subjects: Set[str]) -> Set[str]:
        """Return the members, of these."""
        return {each for each in subjects if each in self} if self else frozenset()

    def __contains__(self, subject: object) -> bool:
        return bool(self._slots and self._slots[_slot(digest(str(subject)))])


def records_exist() -> bool:
    """Tell whether there is a table to keep records in. Raises: DatabaseError."""
    return Health._meta.db_table in table_names(journal.home())


def digest(subject: str) -> str:
    """Return what a subject is looked up by: subjects are too long for an index."""
    return hashlib.sha256(subject.encode("utf-8", "surrogatepass")).hexdigest()


def _slot(name: str) -> int:
    return int(name[:8], 16) % _SLOTS
