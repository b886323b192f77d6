from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from r2maint.bucket import StoredObject
from r2maint.control import Control
from r2maint.keys import Kind, Target, Via
from r2maint.object_index.join import ReferenceIndex
from r2maint.references.reference import Reference, Shape

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
NFC = unicodedata.normalize("NFC", "submissions/café.png")
NFD = unicodedata.normalize("NFD", NFC)


def reference(key: str, *spellings: str, pk: str = "1") -> Reference:
    return Reference(
        database="default",
        model="appdirectory.AppSubmission",
        pk=pk,
        field="app_icon_url",
        path="",
        value=key,
        shape=Shape.URL,
        target=Target(Kind.BUCKET, Via.PUBLIC, key, None, spellings),
    )


@pytest.fixture
def index() -> Iterator[ReferenceIndex]:
    with ReferenceIndex() as made:
        yield made


def add(index: ReferenceIndex, *keys: str) -> None:
    page = [StoredObject(key, 1, f"etag of {key}", AT) for key in sorted(keys)]
    index.add_objects([page], control=Control())


def test_every_object_meets_its_references(index):
    add(index, "a", "b", "c")
    counted = index.add_references(
        [reference("c"), reference("a", pk="1"), reference("a", pk="2"), reference("x")]
    )
    joined = [
        (item.key if item else None, [(one.target.key, one.pk) for one in references])
        for item, references in index.join_references()
    ]
    assert counted == 4
    assert joined == [
        ("a", [("a", "1"), ("a", "2")]),
        ("b", []),
        ("c", [("c", "1")]),
        (None, [("x", "1")]),
    ]


def test_a_reference_counts_for_the_first_spelling_that_exists(index):
    add(index, "a b", "a+b")
    index.add_references([reference("a%20b", "a  b", "a b", "a+b")])
    named = [item.key for item, references in index.join_references() if references and item]
    assert named == ["a b"]


def test_objects_of_one_identity_share_their_references(index):
    add(index, NFC, NFD)
    index.add_references([reference(NFC, pk="1"), reference(NFD, pk="2")])
    joined = {
        item.key: [one.pk for one in references] for item, references in index.join_references()
    }
    assert joined == {NFC: ["1"], NFD: ["2"]}


def test_each_reference_meets_its_object_one_by_one_too(index):
    add(index, "a", NFC, NFD)
    index.add_references([reference(key) for key in (NFD, "a", "a", "x", NFC)])
    joined = [(item and item.key, one.target.key) for item, one in index.join_each_reference()]
    assert joined == [("a", "a"), ("a", "a"), (NFC, NFC), (NFD, NFD), (None, "x")]


def test_references_by_names_of_the_callers_own_come_back_together(index):
    index.add_groups((name, reference(name, pk=pk)) for name, pk in ("b1", "a2", "b3"))
    groups = {name: [one.pk for one in found] for name, found in index.iter_groups()}
    assert list(groups.items()) == [("a", ["2"]), ("b", ["1", "3"])]
    assert [name for name, _ in index.iter_grouped()] == ["a", "b", "b"]


def test_the_keys_that_references_could_mean_are_told_while_they_are_few(index):
    index.add_references([reference("a%20b", "a b"), reference("c")])
    assert index.wanted(limit=3) == {"a%20b", "a b", "c"}
    assert index.wanted(limit=2) is None
