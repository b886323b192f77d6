"""Rows in the order of their keys, taken up to one key after another, as a listing comes by.

Rows are tuples that begin with a text, their key. What was added in any order is sorted in runs in
a temporary file, of which each is read from its beginning as far as the next page of a listing
goes: no run is ever merged with another, and memory stays flat.
"""

from __future__ import annotations

import pickle
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import chain
from operator import itemgetter
from typing import Any, Generic, TypeVar

from r2maint.scratch.temporary_file import close_unwritten, open_temporary_file

R = TypeVar("R", bound=tuple[Any, ...])

_RUN = 50_000
_CHUNK = 400
"""Rows read at once, of every run: ten million rows are 200 runs."""
_PIECE = 8
"""Chunks."""
_key_of = itemgetter(0)


class Ascending(Generic[R]):
    """Sorted rows, given in lists that are read when they are needed."""

    def __init__(self, chunks: Iterator[list[R]]) -> None:
        self._chunks = chunks
        self._rows: list[R] = []

    def up_to(self, key: str) -> Iterator[R]:
        """Return the rows not taken yet whose key comes before `key` or is it. All are to be read
        before the next are asked for.
        """
        return chain.from_iterable(self._lists_up_to(key))

    def rest(self) -> Iterator[R]:
        """Return the rows not taken yet."""
        taken, self._rows = self._rows, []
        return chain(taken, chain.from_iterable(self._chunks))

    def _lists_up_to(self, key: str) -> Iterator[list[R]]:
        while self._rows or self._fetch():
            end = bisect_right(self._rows, key, key=_key_of)
            taken, self._rows = self._rows[:end], self._rows[end:]
            yield taken
            if self._rows:
                return

    def _fetch(self) -> bool:
        self._rows = next(self._chunks, [])
        return bool(self._rows)


class SortedRows(Generic[R]):
    """Rows of one length, added in any order and taken once, in order; those of one key as they
    were added.

    The file has no name and ends with the object, or before it with `close`. Rows are pickled:
    they must hold values, and the file is never anybody else's.
    """

    def __init__(self) -> None:
        self._file = open_temporary_file(self)
        self._added: list[R] = []
        self._offsets: list[list[int]] = []
        self._ends: list[str] = []
        """The last key of each chunk."""
        self._runs: list[Ascending[R]] = []

    def extend(self, rows: Iterable[R]) -> None:
        """Add rows; none after the first was taken."""
        self._added += rows
        if len(self._added) >= _RUN:
            self._write_run()

    def up_to(self, key: str) -> Iterator[R]:
        """Return the rows not taken yet whose key comes before `key` or is it, by runs. All are to
        be read before the next are asked for.
        """
        return chain.from_iterable(run.up_to(key) for run in self._opened())

    def rest(self) -> Iterator[R]:
        """Return the rows not taken yet, by runs."""
        return chain.from_iterable(run.rest() for run in self._opened())

    def pieces(self) -> Iterator[Iterator[R]]:
        """Yield the rows in pieces of some thousand; all of one key are in one piece."""
        self._opened()
        for end in sorted(self._ends)[::_PIECE]:
            yield self.up_to(end)
        yield self.rest()

    def close(self) -> None:
        """Give back the room of the rows, of which none is taken any more."""
        # What was taken in part is in a cycle with its object, and would wait for the collector.
        close_unwritten(self._file)

    def _opened(self) -> list[Ascending[R]]:
        if self._added:
            self._write_run()
        self._runs = self._runs or [Ascending(self._chunks(run)) for run in self._offsets]
        return self._runs

    def _write_run(self) -> None:
        self._added.sort(key=_key_of)
        offsets = []
        for start in range(0, len(self._added), _CHUNK):
            chunk = self._added[start : start + _CHUNK]
            offsets.append(self._file.tell())
            # By columns: pickling a tuple for each row takes twice as long.
            columns = list(zip(*chunk, strict=True))
            pickle.dump(columns, self._file, protocol=pickle.HIGHEST_PROTOCOL)
            self._ends.append(chunk[-1][0])
        self._offsets.append(offsets)
        self._added = []

    def _chunks(self, offsets: list[int]) -> Iterator[list[R]]:
        for offset in offsets:
            self._file.seek(offset)
            chunk: list[Any] = list(zip(*pickle.load(self._file), strict=True))
            yield chunk
