import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2maint.keys import matches_glob


@pytest.mark.parametrize(
    ("pattern", "key"),
    [
        ("a/photo [1].png", "a/photo [1].png"),
        ("a/photo [1].png", "a/photo 1.png"),
        ("a/[slug].png", "a/[slug].png"),
        ("[slug]/*.png", "[slug]/a.png"),
        ("[slug]/photo-[0-9].png", "[slug]/photo-7.png"),
        ("[slug]/photo-[0-9].png", "s/photo-[0-9].png"),
        ("a[[]1].png", "a[1].png"),
        ("a[!b].png", "a[!b].png"),
        ("a[]].png", "a].png"),
        ("a[", "a["),
        ("a[]", "a[]"),
        ("[a][b][c][d][e][f][g]*", "[a][b][c][d][e][f][g].png"),
        ("cafe\u0301 [1].png", "caf\u00e9 [1].png"),
    ],
)
def test_brackets_mean_a_choice_and_themselves(pattern, key):
    assert matches_glob(key, pattern)


@pytest.mark.parametrize(
    ("pattern", "key"),
    [("a/[b].png", "a/c.png"), ("[a]/[b]", "[a]/[c]"), ("a?b", "ab"), ("*.png", "a.pngx")],
)
def test_what_neither_reading_means_does_not_match(pattern, key):
    assert not matches_glob(key, pattern)


@given(st.text("ab[]!*?-/", max_size=12), st.text("ab[]!-/", max_size=12))
def test_no_key_that_a_glob_matches_is_lost(pattern, key):
    assert matches_glob(pattern, pattern)
    assert matches_glob(key, pattern) or not fnmatch.fnmatchcase(key, pattern)
