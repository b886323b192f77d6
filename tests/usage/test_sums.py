"""The listing joined with the rows: agrees with the slow way, and sums up exactly."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2maint.bucket import StoredObject
from r2maint.control import Control
from r2maint.keys import Kind, Target, Via, identity
from r2maint.object_index.join import ReferenceIndex
from r2maint.object_index.named_objects import MAX_OWNERS, Naming
from r2maint.pricing import (
    GB,
    INFREQUENT_ACCESS,
    STANDARD,
    bill,
    load_prices,
    month_of,
    month_of_peaks,
)
from r2maint.references.column import Column, ColumnKind
from r2maint.references.reference import Reference, Shape
from r2maint.scratch.batches import batched
from r2maint.usage.attribute import Attribution
from r2maint.usage.count import UsageTally
from r2maint.usage.duplicates import MAX_COPIES
from r2maint.usage.groups import GONE, Count, GroupBy, Grouping, groups_of
from tests.worlds.listing_only import NOW, listed


def column(field: str, *, model: str = "app.Model", database: str = "default") -> Column:
    return Column(
        database=database,
        model=model,
        table="app_model",
        column=field,
        field=field,
        pk_column="id",
        kind=ColumnKind.TEXT,
    )


def reference(
    key: str, field: str = "a", *, pk: str = "1", spellings: tuple[str, ...] = (), **more
) -> Reference:
    target = Target(Kind.BUCKET, Via.PUBLIC, key, None, spellings)
    values = {"database": "default", "path": "", "shape": Shape.URL, **more}
    return Reference(model="app.Model", pk=pk, field=field, value=key, target=target, **values)


# The join

NFC = unicodedata.normalize("NFC", "é")
NFD = unicodedata.normalize("NFD", NFC)
KEYS = st.lists(st.sampled_from(["a", "+", NFC, NFD]), min_size=1, max_size=2).map("".join)
REFERENCES = st.lists(st.tuples(KEYS, st.lists(KEYS, max_size=2), st.sampled_from("abc")))


@settings(max_examples=150, deadline=None)
@given(
    found=st.sets(KEYS, max_size=8),
    named=REFERENCES,
    in_composed_order=st.booleans(),
    size=st.integers(1, 4),
)
def test_it_joins_as_the_inventory_does_whatever_the_spellings(
    found, named, in_composed_order, size
):
    references = [
        reference(key, field, pk=str(number), spellings=tuple(spellings))
        for number, (key, spellings, field) in enumerate(named)
    ]
    pages = list(batched(map(listed, in_order(found, in_composed_order)), size))
    with ReferenceIndex() as inventory:
        inventory.add_references(references)
        inventory.add_objects(pages, control=Control())
        joined = list(inventory.join_references())
    with Attribution(map(column, "cba"), narrowed=False, largest=99) as attribution:
        attribution.add_uses(references)
        counted = counted_by_key(attribution.join(pages, control=Control()))
        missing, owners = attribution.count_missing(), attribution.largest()
    expected = {
        stored.key: sorted(each.field for each in there)
        for stored, there in joined
        if stored is not None
    }
    assert {
        key: naming and ("abc"[naming.first], "abc"[naming.last], naming.count)
        for key, naming in counted.items()
    } == {
        key: (fields[0], fields[-1], len(fields)) if fields else None
        for key, fields in expected.items()
    }
    assert missing == sum(len(there) for stored, there in joined if stored is None)
    assert {each.key: [owner.pk for owner in each.owners] for each in owners} == {
        stored.key: [each.pk for each in there[:MAX_OWNERS]]
        for stored, there in joined
        if stored is not None
    }


def in_order(found, in_composed_order: bool) -> list[str]:
    """Keys as a server lists them; in the order of composed forms one has one spelling only."""
    if not in_composed_order:
        return sorted(found)
    by_identity = {identity(key): key for key in sorted(found)}
    return [by_identity[name] for name in sorted(by_identity)]


def counted_by_key(pages) -> dict[str, Naming | None]:
    counted = {}
    for rows in pages:
        for stored, naming in zip(rows.stored, rows.namings, strict=True):
            assert stored.key not in counted
            counted[stored.key] = naming
    return counted


def test_one_field_of_two_databases_is_no_sharing():
    columns = [column("a"), column("a", database="other")]
    with Attribution(columns, narrowed=False) as attribution:
        attribution.add_uses([reference("k"), reference("k", database="other")])
        tally = tally_of(attribution, [listed("k")])
    assert (tally.referenced.objects, tally.shared.objects) == (1, 0)


def tally_of(attribution: Attribution, *pages: list[StoredObject], depth: int = 1) -> UsageTally:
    tally = UsageTally(by=tuple(GroupBy), depth=depth, now=NOW, names=attribution.names)
    tally.read(attribution.join(pages, control=Control()))
    return tally


ETAGS = st.sampled_from(["", "a", "b", "c-2", NFC])
VERSIONS = st.tuples(ETAGS, st.integers(0, 2), st.sampled_from([STANDARD, INFREQUENT_ACCESS]))


@settings(max_examples=100, deadline=None)
@given(found=st.dictionaries(KEYS, VERSIONS), known=st.dictionaries(KEYS, ETAGS))
def test_what_is_remembered_counts_for_the_version_it_was_seen_of(found, known):
    pages = [
        [listed(key, size, etag=etag or key)]
        for key, (etag, size, _) in sorted(found.items(), key=lambda item: item[0])
    ]
    with Attribution((), narrowed=False) as attribution:
        attribution.add_tried(known.items())
        seen = [
            stored.key
            for rows in attribution.join(pages, control=Control())
            for stored, is_tried in zip(rows.stored, rows.tried, strict=True)
            if is_tried
        ]
    by_identity = {identity(key): etag for key, etag in known.items()}
    assert sorted(seen) == [
        stored.key for (stored,) in pages if by_identity.get(identity(stored.key)) == stored.etag
    ]


@settings(max_examples=100, deadline=None)
@given(
    versions=st.lists(st.tuples(VERSIONS, st.integers(0, 2)), max_size=30),
    run=st.integers(1, 7),
    most=st.integers(1, 3),
)
def test_of_equal_versions_all_but_one_are_copies_the_ones_in_standard_last(versions, run, most):
    page = [
        StoredObject(f"{number:02d}", size, etag, NOW, storage_class)
        for number, ((etag, size, storage_class), _) in enumerate(versions)
    ]
    uses = {stored.key: count for stored, (_, count) in zip(page, versions, strict=True)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("r2maint.scratch.sorted_rows._RUN", run)
        with Attribution([column("a")], narrowed=False, largest=most) as attribution:
            attribution.add_uses(reference(key) for key in Counter(uses).elements())
            tally_of(attribution, *batched(page, 3))
            found = attribution.duplicates()
    equal: dict[tuple[str, int], list[StoredObject]] = {}
    for stored in page:
        equal.setdefault((stored.etag, stored.size), []).append(stored)
    sets = [same for (_, size), same in equal.items() if size and len(same) > 1]
    extra = Count()
    for same in sets:
        for stored in sorted(same, key=lambda each: each.storage_class != STANDARD)[1:]:
            extra.add(1, stored.size, stored.storage_class)
    assert found.extra == extra
    sets.sort(key=lambda same: (-same[0].size * (len(same) - 1), same[0].key))
    told = [duplicate_set(same, uses) for same in sets[:most]]
    assert [each.as_dict() for each in found.largest] == told


def duplicate_set(same: list[StoredObject], uses: Mapping[str, int]) -> dict[str, Any]:
    """What a report should tell of some equal objects, by how often each key is named."""
    copies = [(each.key, each.storage_class, uses[each.key]) for each in same]
    return {
        "etag": same[0].etag,
        "object_bytes": same[0].size,
        "objects": len(same),
        "duplicate_bytes": same[0].size * (len(same) - 1),
        "referenced_objects": sum(count > 0 for _, _, count in copies),
        "objects_by_class": {
            name: sum(storage_class == name for _, storage_class, _ in copies)
            for name in (STANDARD, INFREQUENT_ACCESS)
        },
        "copies": [
            {"key": key, "storage_class": storage_class, "references": count}
            for key, storage_class, count in copies[:MAX_COPIES]
        ],
    }


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.dictionaries(KEYS, st.integers(0, 3)), count=st.integers(1, 4), page=st.integers(1, 3)
)
def test_the_largest_are_those_of_all_pages_and_late_comers(sizes, count, page):
    found = [listed(key, sizes[key]) for key in sorted(sizes)]
    with Attribution((), narrowed=False, largest=count) as attribution:
        tally_of(attribution, *batched(found, page))
        largest = [each.key for each in attribution.largest()]
    ranked = sorted(sizes, key=lambda key: (-sizes[key], identity(key), key != identity(key), key))
    assert largest == ranked[:count]


# Sums

SIZED = st.one_of(st.integers(0, 3), st.integers(0, 30 * GB))
OBJECTS = st.dictionaries(
    st.sampled_from([f"{p}/{n}{e}" for p in "abc" for n in range(4) for e in (".png", ".txt", "")]),
    st.tuples(
        SIZED, st.integers(0, 500), st.sampled_from([STANDARD, INFREQUENT_ACCESS, "GLACIER"])
    ),
)


@settings(max_examples=60, deadline=None)
@given(
    found=OBJECTS,
    named=st.lists(st.tuples(st.integers(0, 40), st.sampled_from("abc")), max_size=20),
    depth=st.integers(1, 2),
    top=st.one_of(st.none(), st.integers(1, 3)),
)
def test_every_grouping_sums_to_the_total_exactly(found, named, depth, top):
    objects = [
        listed(key, size, days=days, storage_class=storage_class)
        for key, (size, days, storage_class) in sorted(found.items())
    ]
    with Attribution(map(column, "abc"), narrowed=False) as attribution:
        attribution.add_uses(
            reference(objects[number % len(objects)].key, field)
            for number, field in named
            if objects
        )
        tally = tally_of(attribution, objects, depth=depth)
    cost = bill(month_of(tally.total.by_class))
    assert (tally.total.objects, tally.total.bytes) == (
        len(objects),
        sum(each.size for each in objects),
    )
    assert tally.referenced.objects + tally.orphans.objects == len(objects)
    for by, listing in tally.listings.items():
        groups = groups_of(listing, by, cost, tally.total.by_class, top=top)
        assert sum(group.objects for group in groups) == tally.total.objects, by
        assert sum(group.bytes for group in groups) == tally.total.bytes, by
        assert sum((group.usd_per_month for group in groups), Decimal(0)) == cost.storage_usd, by


BY_CLASS = st.dictionaries(st.sampled_from([STANDARD, INFREQUENT_ACCESS]), SIZED)


@settings(max_examples=100, deadline=None)
@given(
    now=BY_CLASS,
    before=st.lists(BY_CLASS, max_size=3),
    price=st.decimals(0, 3, places=9),
    top=st.one_of(st.none(), st.integers(1, 3)),
)
def test_shares_add_up_also_where_something_of_the_month_is_gone(now, before, price, top):
    listing = Grouping()
    for number, (storage_class, size) in enumerate(now.items()):
        listing.add("both", 1, size // 2, storage_class)
        listing.add(f"{number}", 1, size - size // 2, storage_class)
    days = {NOW.date() - timedelta(days=9 * age): peak for age, peak in enumerate([now, *before])}
    prices = load_prices({"standard": {"storage": price}, "free": {"storage": 1}})
    cost = bill(month_of_peaks(days, until=NOW.date()), prices)
    groups = groups_of(listing, GroupBy.PREFIX, cost, now, top=top)
    assert sum((group.usd_per_month for group in groups), Decimal(0)) == cost.storage_usd
    assert all(group.usd_per_month >= 0 for group in groups)
    assert sum(group.bytes for group in groups) == sum(now.values())


@pytest.mark.parametrize("by", GroupBy)
def test_a_storage_class_emptied_this_month_has_a_share_of_its_own(by):
    peaks = {NOW.date(): {STANDARD: 50 * GB, INFREQUENT_ACCESS: 30 * GB}}
    cost = bill(month_of_peaks(peaks, until=NOW.date()))
    listing = Grouping()
    listing.add("left", 1, 50 * GB, STANDARD)
    groups = groups_of(listing, by, cost, {STANDARD: 50 * GB}, top=1)
    assert [(each.name, each.objects, each.bytes, each.usd_per_month) for each in groups] == [
        ("left", 1, 50 * GB, Decimal("0.60")),
        (GONE, 0, 0, Decimal("0.30")),
    ]
