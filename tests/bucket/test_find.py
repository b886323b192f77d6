"""Many keys are looked for with few requests, and found exactly where they are."""

from __future__ import annotations

import hashlib
from unicodedata import normalize

from hypothesis import example, given
from hypothesis import strategies as st

from r2maint.bucket.find import SPARSE, find_stored
from tests.fakes import R2Fake

KEYS = st.lists(st.text("aé/.ب0z", min_size=1, max_size=4), max_size=60, unique=True)


def filled(keys: list[str], *, page_size: int = 1000) -> R2Fake:
    bucket = R2Fake(page_size=page_size)
    for key in keys:
        bucket.add(key, key.encode())
    bucket.calls.clear()
    return bucket


@given(stored=KEYS, wanted=KEYS, page_size=st.integers(1, 20))
@example(stored=["0", "/"], wanted=[*"0azé", "00", "0a", "0/", "000"], page_size=1)
def test_what_is_found_is_what_is_stored(stored, wanted, page_size):
    bucket = filled(stored, page_size=page_size)

    found = find_stored(bucket, wanted)

    there = {normalize("NFC", key) for key in stored}
    assert set(found.objects) == {key for key in wanted if normalize("NFC", key) in there}
    # A page may end before the key it was asked for: that key is then asked for by a HEAD.
    assert max(found.lists, found.heads) <= len(set(wanted))


@given(stored=KEYS, wanted=KEYS)
def test_two_spellings_of_a_key_are_one_object(stored, wanted):
    bucket = filled([normalize("NFD", key) for key in stored])

    found = find_stored(bucket, [normalize("NFC", key) for key in wanted])

    there = {normalize("NFC", key) for key in stored}
    assert set(found.objects) == {normalize("NFC", key) for key in wanted} & there


def test_nothing_is_asked_about_no_keys():
    bucket = filled(["a"])
    assert find_stored(bucket, []) == ({}, 0, 0)
    assert bucket.calls == []


def test_an_empty_bucket_is_known_by_one_page():
    bucket = filled([])
    found = find_stored(bucket, [f"a/{number:04d}.png" for number in range(5000)])
    assert (found.objects, found.lists, found.heads) == ({}, 1, 0)


def test_neighbours_take_one_page_a_thousand():
    keys = [f"a/{number:04d}.png" for number in range(5000)]
    found = find_stored(filled(keys), keys)
    assert set(found.objects) == set(keys)
    assert found.lists <= 6
    assert found.heads == 0


def test_keys_far_apart_are_asked_for_one_by_one():
    stored = [f"a/{hashlib.md5(bytes([n % 250, n // 250])).hexdigest()}" for n in range(6000)]
    wanted = sorted(stored)[::300]
    found = find_stored(filled(stored, page_size=100), wanted)
    assert set(found.objects) == set(wanted)
    assert found.heads > found.lists
    assert found.lists <= -(-len(wanted) // SPARSE) + 1


def test_an_empty_page_that_is_not_the_last_decides_nothing():
    keys = [f"a/{number}.png" for number in range(2 * SPARSE)]
    found = find_stored(filled(keys, page_size=0), keys)
    assert set(found.objects) == set(keys)
