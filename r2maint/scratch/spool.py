"""Rows kept on disk, so that a plan of ten million items stays flat in memory."""

from __future__ import annotations

import itertools
import os
import pickle
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from r2maint.scratch.temporary_file import open_temporary_file

T = TypeVar("T")

_BATCH = 512


class Spool(Generic[T]):
    """A sequence of rows in a temporary file: iterable again and again, with a length.

    The file has no name and ends with the object. Rows are pickled: they must be values, and the
    file is never anybody else's.
    """

    def __init__(self) -> None:
        self._file = open_temporary_file(self)
        self._offsets: list[int] = []
        self._length = 0

    @classmethod
    def of(cls, items: Iterable[T]) -> Spool[T]:
        """Return a spool of `items`, which are consumed once, in order."""
        spool = cls()
        spool.extend(items)
        return spool

    def extend(self, items: Iterable[T]) -> None:
        """Add rows at the end; best many at once, which go into the file together."""
        rest = iter(items)
        while batch := list(itertools.islice(rest, _BATCH)):
            self._append(batch)

    def _append(self, batch: list[T]) -> None:
        self._offsets.append(self._file.seek(0, os.SEEK_END))
        self._length += len(batch)
        pickle.dump(batch, self._file, protocol=pickle.HIGHEST_PROTOCOL)

    def __iter__(self) -> Iterator[T]:
        # Every batch is sought afresh, so that two iterations may run at once.
        for offset in self._offsets:
            self._file.seek(offset)
            batch: list[T] = pickle.load(self._file)
            yield from batch

    def __len__(self) -> int:
        return self._length

    def __repr__(self) -> str:
        return f"<Spool of {self._length} rows>"
