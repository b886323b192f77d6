"""The bill by Cloudflare's published rules, to the cent."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest

from r2maint.errors import ConfigError
from r2maint.pricing import (
    CLOUDFLARE,
    GB,
    INFREQUENT_ACCESS,
    STANDARD,
    Bill,
    ClassUsage,
    Usage,
    bill,
    byte_days,
    load_prices,
    month_of,
    storage_bill,
    storage_saving,
)


def billed_standard(**usage: int) -> Bill:
    return bill(Usage(standard=ClassUsage(**usage)))


def billed_infrequent(**usage: int) -> Bill:
    return bill(Usage(infrequent_access=ClassUsage(**usage)))


# The invoices of Cloudflare's own page: https://developers.cloudflare.com/r2/pricing/


def test_the_invoice_of_1000_gb_in_standard_is_14_85():
    it = billed_standard(byte_days=byte_days(1000 * GB), class_a=1000, class_b=1_000_000)
    assert it.storage_usd == it.total_usd == Decimal("14.85")
    assert it.class_a_usd == it.class_b_usd == it.retrieval_usd == 0


def test_the_invoice_of_1000_gb_in_infrequent_access_for_5_days_is_29_90():
    it = billed_infrequent(
        byte_days=byte_days(1000 * GB, days=5, rates=CLOUDFLARE.infrequent_access),
        class_a=1000,
        class_b=1_000_000,
        retrieved_bytes=1000 * GB,
    )
    assert it.storage_usd == Decimal("10.00")
    assert it.class_a_usd == Decimal("9.00")
    assert it.class_b_usd == Decimal("0.90")
    assert it.retrieval_usd == Decimal("10.00")
    assert it.total_usd == Decimal("29.90")


def test_the_invoice_of_asset_hosting_is_104_40():
    it = billed_standard(
        byte_days=byte_days(100_000 * 100_000), class_a=100_000, class_b=10_000_000 * 30
    )
    assert (it.storage_usd, it.class_a_usd) == (0, 0)
    assert it.class_b_usd == it.total_usd == Decimal("104.40")


# Rounding and the free tier


@pytest.mark.parametrize(
    ("operations", "millions"),
    [(0, 0), (1, 1), (1_000_000, 1), (1_000_001, 2)],
    ids=["none", "one", "a million", "one more"],
)
def test_operations_are_rounded_up_to_the_next_million(operations, millions):
    it = billed_infrequent(class_a=operations, class_b=operations)
    assert it.billable["infrequent_access_class_a_millions"] == millions
    assert it.class_a_usd == millions * Decimal("9.00")
    assert it.class_b_usd == millions * Decimal("0.90")


@pytest.mark.parametrize(
    ("size", "gb_months"),
    [(0, 0), (1, 1), (GB, 1), (1_100_000_000, 2), (2 * GB + 1, 3)],
    ids=["nothing", "one byte", "1 GB", "1.1 GB", "a byte over 2 GB"],
)
def test_storage_is_rounded_up_to_the_next_gb_month(size, gb_months):
    it = billed_infrequent(byte_days=byte_days(size))
    assert it.billable["infrequent_access_gb_months"] == gb_months
    assert it.storage_usd == gb_months * Decimal("0.01")


@pytest.mark.parametrize(
    ("retrieved", "gb"), [(0, 0), (1, 1), (1_100_000_000, 2)], ids=["none", "a byte", "1.1 GB"]
)
def test_retrieval_is_rounded_up_to_the_next_gb(retrieved, gb):
    assert billed_infrequent(retrieved_bytes=retrieved).retrieval_usd == gb * Decimal("0.01")


def test_the_free_tier_exactly_used_costs_nothing():
    it = billed_standard(byte_days=byte_days(10 * GB), class_a=1_000_000, class_b=10_000_000)
    assert it.total_usd == 0


def test_one_unit_beyond_the_free_tier_costs_one_whole_unit():
    it = billed_standard(byte_days=byte_days(10 * GB) + 1, class_a=1_000_001, class_b=10_000_001)
    assert (it.storage_usd, it.class_a_usd, it.class_b_usd) == (
        Decimal("0.015"),
        Decimal("4.50"),
        Decimal("0.36"),
    )


def test_infrequent_access_has_no_free_tier():
    assert billed_infrequent(byte_days=byte_days(GB)).total_usd == Decimal("0.01")


def test_peaks_of_a_month_are_averaged_before_rounding():
    # The page's own example: 1 GB for 5 days and 3 GB for 25 days are 2.67 GB-months.
    peaks = 5 * [1 * GB] + 25 * [3 * GB]
    assert billed_infrequent(byte_days=sum(peaks)).billable["infrequent_access_gb_months"] == 3


def test_infrequent_access_removed_early_is_billed_for_thirty_days():
    rates = CLOUDFLARE.infrequent_access
    assert byte_days(GB, days=1, rates=rates) == byte_days(GB, days=30, rates=rates)
    assert byte_days(GB, days=45, rates=rates) == 45 * GB
    assert byte_days(GB, days=1) == GB


def test_no_usage_costs_nothing():
    it = bill(Usage())
    assert it.total_usd == 0
    assert set(it.billable.values()) == {0}


def test_a_bill_is_decimal_throughout():
    it = billed_standard(byte_days=byte_days(123_456_789_012), class_a=5, class_b=7)
    amounts = [it.storage_usd, it.class_a_usd, it.class_b_usd, it.retrieval_usd, it.total_usd]
    assert all(isinstance(amount, Decimal) for amount in amounts)
    assert all(isinstance(units, int) for units in it.billable.values())


# What bytes are worth


def test_a_saving_is_the_difference_of_two_bills():
    assert storage_saving({STANDARD: 100 * GB}, stored={STANDARD: 1000 * GB}) == Decimal("1.50")


@pytest.mark.parametrize(
    ("removed", "stored", "saved"),
    [
        (9 * GB, 9 * GB, "0"),
        (2 * GB, 11 * GB, "0.015"),
        (1, 20 * GB, "0"),
        (1, 20 * GB + 1, "0.015"),
        (-2 * GB, 20 * GB, "-0.030"),
        (30 * GB, 20 * GB, "0.150"),
    ],
    ids=["free tier", "partly free", "same unit", "last byte of a unit", "growth", "all of it"],
)
def test_a_saving_respects_free_tier_and_rounding(removed, stored, saved):
    assert storage_saving({STANDARD: removed}, stored={STANDARD: stored}) == Decimal(saved)


def test_storage_classes_are_billed_apart():
    both = {STANDARD: 11 * GB, INFREQUENT_ACCESS: 2 * GB}
    assert storage_bill(both) == Decimal("0.035")
    assert bill(month_of(both)).storage_by_class == {
        STANDARD: Decimal("0.015"),
        INFREQUENT_ACCESS: Decimal("0.02"),
    }


def test_operations_are_of_infrequent_access_only_when_all_bytes_are():
    cold = month_of({INFREQUENT_ACCESS: GB}, class_a=1, class_b=1)
    assert (cold.infrequent_access.class_a, cold.standard.class_a) == (1, 0)
    mixed = month_of({INFREQUENT_ACCESS: GB, STANDARD: 1}, class_a=1)
    assert (mixed.infrequent_access.class_a, mixed.standard.class_a) == (0, 1)


# R2MAINT["PRICES"]


def test_without_overrides_the_prices_are_cloudflares():
    assert load_prices({}) == CLOUDFLARE


def test_a_price_of_ones_own_replaces_one_price_and_says_so():
    prices = load_prices({"standard": {"storage": "0.012"}, "as_of": "2027-01-01"})
    assert prices.standard == replace(CLOUDFLARE.standard, storage=Decimal("0.012"))
    assert prices.infrequent_access == CLOUDFLARE.infrequent_access
    assert prices.as_of == date(2027, 1, 1)
    assert "R2MAINT['PRICES']" in bill(Usage(), prices).assumptions[0]


def test_a_float_is_taken_as_it_is_written():
    assert load_prices({"standard": {"storage": 0.015}}).standard.storage == Decimal("0.015")


def test_the_free_tier_can_be_given_to_other_buckets():
    prices = load_prices({"free": {"storage": 0}})
    assert storage_bill({STANDARD: 1}, prices) == Decimal("0.015")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"standart": {}}, "no entry 'standart'"),
        ({"standard": {"storrage": 1}}, "no entry 'storrage'"),
        ({"standard": "0.015"}, "must be a dict"),
        ({"standard": {"storage": "cheap"}}, "no amount"),
        ({"standard": {"storage": "NaN"}}, "no amount"),
        ({"standard": {"storage": -1}}, "no amount"),
        ({"standard": {"storage": True}}, "no amount"),
        ({"free": {"class_a": "1.5"}}, "no whole number"),
        ({"as_of": "yesterday"}, "no date"),
    ],
)
def test_a_price_that_is_none_is_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        load_prices(overrides)
