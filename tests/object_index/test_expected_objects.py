"""Plain references are compared with the listing while it arrives, as exactly as all others."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2maint.bucket import StoredObject
from r2maint.keys import Kind, Target, Via, identity, order
from r2maint.object_index.expected_objects import Expected
from r2maint.references.reference import Reference, Shape

AT = datetime(2026, 1, 1, tzinfo=UTC)


def reference(key: str, *spellings: str, via: Via = Via.PUBLIC, pk: str = "1") -> Reference:
    shape = Shape.NAME if via is Via.NAME else Shape.URL
    target = Target(Kind.BUCKET, via, key, spellings=spellings)
    return Reference("default", "app.Model", pk, "icon", "", f"value of {key}", shape, target)


def stored(key: str, size: int = 1) -> StoredObject:
    return StoredObject(key, size, "etag", AT)


def pages(*objects: StoredObject, size: int = 2) -> list[list[StoredObject]]:
    listing = sorted(objects, key=lambda each: order(each.key))
    return [listing[start : start + size] for start in range(0, len(listing), size)]


def test_only_references_by_public_url_or_name_in_composed_form_are_taken():
    others = [
        reference("e\u0301.png"),
        reference("c.png", via=Via.ALIAS),
        reference("d.png", via=Via.PRESIGNED),
    ]
    with Expected({}) as expected:
        assert expected.take([reference("a.png"), *others]) == others
        plain = [reference("b.png", via=Via.NAME), reference("é.png"), reference("a b", "a%20b")]
        assert expected.take(plain) == []


def test_a_value_longer_than_its_column_is_not_taken():
    short, long = reference("a.png"), reference("aa.png")
    with Expected({("default", "app.Model", "icon"): len(short.value)}) as expected:
        assert expected.take([short, long]) == [long]


def test_what_is_absent_or_empty_is_told_in_key_order_and_the_rest_counted():
    absent, empty = reference("z.png", pk="7"), reference("e.png", via=Via.NAME)
    with Expected({}) as expected:
        expected.take([absent, reference("a.png"), empty, reference("a.png", pk="2")])
        expected.compare(pages(stored("a.png"), stored("e.png", 0), stored("unnamed.png")))

        assert expected.fine == 2
        assert list(expected.iter_told()) == [(empty, stored("e.png", 0)), (absent, None)]


def test_all_are_told_where_all_are_asked_for():
    there, absent = reference("a.png"), reference("b.png")
    with Expected({}, tells_all=True) as expected:
        expected.take([absent, there])
        expected.compare(pages(stored("a.png")))

        assert (list(expected.iter_told()), expected.fine) == (
            [(there, stored("a.png")), (absent, None)],
            0,
        )


def test_nothing_is_told_of_keys_outside_the_prefix():
    with Expected({}, "in/") as expected:
        assert expected.take([reference("out/a.png"), reference("in/a.png")]) == []
        expected.compare([])

        assert [each.target.key for each, _ in expected.iter_told()] == ["in/a.png"]


def test_the_likeliest_spelling_that_is_there_is_told_where_the_key_itself_is_absent():
    there, respelled = reference("a b", "a%20b"), reference("c d", "c+d", "c%20d")
    with Expected({}) as expected:
        expected.take([there, respelled, reference("e f", "e%20f", pk="3")])
        listing = map(stored, ["a b", "a%20b", "c%20d", "c+d"])
        expected.compare(pages(*listing))

        assert expected.fine == 1
        (first, found), (second, absent) = expected.iter_told()
        assert (first, found) == (respelled, stored("c+d"))
        assert (second.target.spellings, absent) == (("e%20f",), None)


def test_an_object_whose_key_composes_to_ascii_is_there():
    kelvin = stored("\u212a.png")
    with Expected({}) as expected:
        expected.take([reference("K.png"), reference("L.png")])
        expected.compare(pages(kelvin, stored("X.png")))

        told = {each.target.key: found for each, found in expected.iter_told()}
        assert told == {"K.png": kelvin, "L.png": None}


@pytest.mark.parametrize("in_order", [identity, str])
def test_a_page_that_ends_with_another_spelling_hides_nothing(in_order):
    """R2 lists a key as it was uploaded last, in the place of its composed form; S3 as spelled."""
    listing = [stored(key) for key in ("e\u0301.png", "f.png", "g.png")]
    listing.sort(key=lambda each: order(in_order(each.key)))
    for size in (1, 2, 3):
        with Expected({}) as expected:
            expected.take(map(reference, ("f.png", "g.png", "é.png")))
            expected.compare(listing[start : start + size] for start in range(0, 3, size))

            assert expected.fine == 2
            assert [found for _, found in expected.iter_told()] == [stored("e\u0301.png")]


@given(
    st.lists(st.text("ab/.Ké", min_size=1, max_size=3), max_size=30),
    st.sets(st.text("ab/.K\u212aé\u0301", min_size=1, max_size=3), max_size=30),
    st.integers(1, 4),
)
def test_every_reference_is_either_fine_or_told_with_what_is_stored(wanted, present, size):
    identities = {identity(key) for key in present}
    with Expected({}) as expected:
        expected.take(reference(key, pk=str(number)) for number, key in enumerate(wanted))
        expected.compare(pages(*map(stored, present), size=size))
        odd = list(expected.iter_told())

    absent = [each for each, found in odd if found is None]
    assert sorted(each.target.key for each in absent) == sorted(
        key for key in wanted if key not in identities
    )
    assert expected.fine + len(odd) == len(wanted)
    assert all(identity(found.key) == each.target.key for each, found in odd if found)
