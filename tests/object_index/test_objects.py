from __future__ import annotations

import resource
import unicodedata
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2maint.bucket import StoredObject
from r2maint.control import Control
from r2maint.errors import InvalidListing, R2MaintError, Stopped
from r2maint.object_index.objects import Inventory, Totals, outermost
from tests.fakes import AT, stored

NFC = unicodedata.normalize("NFC", "submissions/café.png")
NFD = unicodedata.normalize("NFD", NFC)

KEYS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1)


@pytest.fixture
def inventory() -> Iterator[Inventory]:
    with Inventory() as made:
        yield made


def add(inventory: Inventory, *keys: str) -> Totals:
    return inventory.add_objects([[stored(key) for key in sorted(keys)]], control=Control())


def test_objects_come_back_exactly(inventory):
    item = StoredObject("a b", 7, "e-2", AT, "STANDARD_IA")
    inventory.add_objects([[item]], control=Control())
    assert list(inventory.iter_objects()) == [item]


@settings(max_examples=50, deadline=None)
@given(keys=st.sets(KEYS, max_size=20))
def test_keys_come_back_exactly(keys):
    with Inventory() as inventory:
        totals = add(inventory, *keys)
        assert {item.key for item in inventory.iter_objects()} == keys
        assert totals == Totals(len(keys), len(keys)) == inventory.totals()


def test_a_listing_that_fails_is_no_inventory(inventory):
    def pages():
        yield [stored("a")]
        raise InvalidListing("The listing is cut short.")

    with pytest.raises(InvalidListing):
        inventory.add_objects(pages(), control=Control())


def test_listing_stops_when_asked_to(inventory):
    control = Control(deadline=0.0)
    with pytest.raises(Stopped):
        inventory.add_objects([[stored("a")]], control=control)


def test_prefixes_are_those_of_identities(inventory):
    add(inventory, "a/1", "a0", "b/1")
    assert [item.key for item in inventory.iter_unnamed(["a/", "b/"])] == ["a/1", "b/1"]


def test_a_prefix_below_another_counts_once(inventory):
    add(inventory, "a/1", "a/b/1")
    assert inventory.totals(["a/b/", "a/", "a/"]).count == 2
    assert outermost(["a/b/", "c/", "a/"]) == ("a/", "c/")


@pytest.mark.parametrize(("listed", "named"), [(NFC, NFD), (NFD, NFC)], ids=["nfd", "nfc"])
def test_two_spellings_are_one_name(inventory, listed, named):
    add(inventory, listed, "submissions/other")
    inventory.add_names([named])
    assert [item.key for item in inventory.iter_named([""])] == [listed]
    assert [item.key for item in inventory.iter_unnamed([""])] == ["submissions/other"]
    assert inventory.is_named(listed)


def test_names_may_be_added_after_reading(inventory):
    add(inventory, "a", "b")
    inventory.add_names(["a", "a", "nothing"])
    assert inventory.totals(named=True).count == 1
    inventory.add_names(["b"])
    assert inventory.totals(named=False).count == 0


@pytest.mark.parametrize(
    ("start", "expected"),
    [("d/a", True), ("d/a.png", True), ("d/", False), ("d/b", False), ("d/a.p", False)],
    ids=repr,
)
def test_a_named_stem_is_known(inventory, start, expected):
    add(inventory, "d/a.png", "d/b.png")
    inventory.add_names(["d/a.png", "d/b"])
    assert inventory.has_named(start) is expected


@pytest.mark.parametrize(
    ("keys", "limit", "expected"),
    [
        (["a/1", "a/2", "b/1"], 2, ("a/", "b/")),
        (["a/1", "b/1", "c/1"], 2, None),
        (["a/1", "flat"], 9, None),
        (["/a", "a//b"], 9, ("/", "a/")),
        ([], 9, ()),
    ],
    ids=["two", "too many", "flat", "odd", "none"],
)
def test_roots(inventory, keys, limit, expected):
    add(inventory, *keys)
    assert inventory.roots(limit=limit) == expected


def test_the_order_is_that_of_utf8_bytes(inventory):
    keys = ["A", "a", "a-b", "a.b", "a/b", "\uff5e", "\U0001f600"]
    add(inventory, *reversed(keys))
    assert [item.key for item in inventory.iter_objects()] == keys


def test_an_index_that_finds_no_space_is_told_in_a_sentence():
    def fill():
        with Inventory() as inventory:
            inventory._db.execute("PRAGMA max_page_count = 20")
            inventory.add_names(f"{number:0200}" for number in range(10_000))

    with pytest.raises(R2MaintError, match="disk is full") as caught:
        fill()
    assert "TMPDIR" in caught.value.hint


def test_an_index_that_cannot_be_begun_says_where_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(R2MaintError, match="cannot be kept") as caught:
            Inventory()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "TMPDIR" in caught.value.hint
    assert not list(tmp_path.iterdir())
