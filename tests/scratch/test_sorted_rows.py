"""Sorted rows, taken up to one key after another."""

from __future__ import annotations

from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2maint.scratch import sorted_rows
from r2maint.scratch.sorted_rows import Ascending, SortedRows

KEYS = st.text("ab/é\U0001f600", max_size=2)
BATCHES = st.lists(st.lists(KEYS, max_size=6), max_size=8)


@pytest.fixture(autouse=True, scope="module")
def small_runs():
    """Runs and chunks small enough that a test has many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sorted_rows, "_RUN", 5)
        patch.setattr(sorted_rows, "_CHUNK", 2)
        patch.setattr(sorted_rows, "_PIECE", 2)
        yield


def numbered(batches: list[list[str]]) -> tuple[SortedRows, list[tuple[str, int]]]:
    rows: SortedRows = SortedRows()
    added = []
    for batch in batches:
        new = [(key, len(added) + number) for number, key in enumerate(batch)]
        rows.extend(new)
        added += new
    return rows, added


@settings(deadline=None)
@given(batches=BATCHES, ends=st.lists(KEYS, max_size=5))
def test_each_row_is_taken_once_with_the_first_key_that_reaches_it(batches, ends):
    rows, added = numbered(batches)
    left = added
    for end in sorted(ends):
        expected = [row for row in left if row[0] <= end]
        left = [row for row in left if row[0] > end]
        assert by_key(rows.up_to(end)) == by_key(expected)
    assert by_key(rows.rest()) == by_key(left)
    assert list(rows.rest()) == []


def by_key(rows) -> dict[str, list[tuple[str, int]]]:
    """Rows of each key, in the order they come in."""
    found = sorted(rows, key=itemgetter(0))
    return {key: list(same) for key, same in groupby(found, key=itemgetter(0))}


@settings(deadline=None)
@given(batches=BATCHES)
def test_all_rows_of_one_key_are_in_one_piece(batches):
    rows, added = numbered(batches)
    pieces = [list(piece) for piece in rows.pieces()]
    assert sorted(row for piece in pieces for row in piece) == sorted(added)
    keys = [key for piece in pieces for key in {row[0] for row in piece}]
    assert len(keys) == len(set(keys))


def test_many_rows_come_in_many_pieces():
    rows, _ = numbered([[str(number)] for number in range(10, 99)])
    assert max(len(list(piece)) for piece in rows.pieces()) < 20


def test_rows_that_reach_no_further_than_asked_are_not_read_ahead():
    read = []

    def chunks():
        for number in range(3):
            read.append(number)
            yield [(str(number), number)]

    rows = Ascending(chunks())
    assert list(rows.up_to("0")) == [("0", 0)]
    assert read == [0, 1]
    assert list(rows.rest()) == [("1", 1), ("2", 2)]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_rows_a_full_disk_could_not_take_are_given_up_without_another_error(monkeypatch):
    full = partial(open, "/dev/full", "w+b")
    monkeypatch.setattr("tempfile.TemporaryFile", full)
    rows, _ = numbered([["a", "b", "c", "d", "e"]])
    rows.close()
    assert rows._file.closed
