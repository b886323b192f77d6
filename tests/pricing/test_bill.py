"""The bill by Cloudflare's published rules, to the cent."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from r2maint.errors import ConfigError
from r2maint.pricing import (
    AWS_S3,
    CLOUDFLARE,
    GB,
    INFREQUENT_ACCESS,
    MONTH_DAYS,
    STANDARD,
    Bill,
    BreakEven,
    ClassUsage,
    Moved,
    Offer,
    Tier,
    Usage,
    bill,
    break_even,
    byte_days,
    compare,
    days_known,
    load_prices,
    month_of,
    month_of_peaks,
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


# Each rule on its edge. The rules are those of Cloudflare's page, by their headings

ROUNDING = "Billable unit rounding: usage is rounded up to the next billing unit"
FREE = "Free tier: 10 GB-months, 1 million Class A and 10 million Class B operations a month"
ONLY_STANDARD = "Free tier: only applies to Standard storage"
PEAKS = "Storage usage: a GB-month is the average of the peak of each day over 30 days"
MINIMUM = "Minimum storage duration: 30 days in Infrequent Access, none in Standard"
RETRIEVAL = "Data retrieval: $0.01 a GB of Infrequent Access, none of Standard"
RATES = "R2 pricing: the rates of each storage class"
MONTH = MONTH_DAYS * GB


def hot(**usage: int) -> Usage:
    return Usage(standard=ClassUsage(**usage))


def cold(**usage: int) -> Usage:
    return Usage(infrequent_access=ClassUsage(**usage))


def cold_for(days: int, size: int) -> Usage:
    return cold(byte_days=byte_days(size, days=days, rates=CLOUDFLARE.infrequent_access))


EDGES = [
    (RATES, "nothing", Usage(), "0"),
    (RATES, "a GB-month of Infrequent Access", cold(byte_days=MONTH), "0.01"),
    (RATES, "a million Class A of Infrequent Access", cold(class_a=1_000_000), "9.00"),
    (RATES, "a million Class B of Infrequent Access", cold(class_b=1_000_000), "0.90"),
    (RATES, "1 TB and a byte in Standard", hot(byte_days=1000 * MONTH + 1), "14.865"),
    (FREE, "all of the free storage", hot(byte_days=10 * MONTH), "0"),
    (FREE, "a byte for a day beyond it", hot(byte_days=10 * MONTH + 1), "0.015"),
    (FREE, "a whole unit beyond it", hot(byte_days=11 * MONTH), "0.015"),
    (FREE, "a unit and a byte-day beyond it", hot(byte_days=11 * MONTH + 1), "0.030"),
    (FREE, "all of the free Class A", hot(class_a=1_000_000), "0"),
    (FREE, "one Class A beyond it", hot(class_a=1_000_001), "4.50"),
    (FREE, "a whole million Class A beyond it", hot(class_a=2_000_000), "4.50"),
    (FREE, "a million and one Class A beyond it", hot(class_a=2_000_001), "9.00"),
    (FREE, "all of the free Class B", hot(class_b=10_000_000), "0"),
    (FREE, "one Class B beyond it", hot(class_b=10_000_001), "0.36"),
    (FREE, "a million and one Class B beyond it", hot(class_b=11_000_001), "0.72"),
    (
        FREE,
        "what one quantity leaves of it is no other's",
        hot(class_a=2_000_000, class_b=1),
        "4.50",
    ),
    (ONLY_STANDARD, "a byte-day in Infrequent Access", cold(byte_days=1), "0.01"),
    (ONLY_STANDARD, "one Class A in Infrequent Access", cold(class_a=1), "9.00"),
    (ONLY_STANDARD, "one Class B in Infrequent Access", cold(class_b=1), "0.90"),
    (
        ONLY_STANDARD,
        "6 GB in each class",
        Usage(
            standard=ClassUsage(byte_days=6 * MONTH),
            infrequent_access=ClassUsage(byte_days=6 * MONTH),
        ),
        "0.06",
    ),
    (ROUNDING, "one million and one operations are two million", cold(class_a=1_000_001), "18.00"),
    (ROUNDING, "the same of Class B", cold(class_b=1_000_001), "1.80"),
    (ROUNDING, "1.1 GB-month is 2", cold(byte_days=11 * MONTH // 10), "0.02"),
    (ROUNDING, "a byte-day under 2 GB-months is 2", cold(byte_days=2 * MONTH - 1), "0.02"),
    (ROUNDING, "1.1 GB retrieved is 2", cold(retrieved_bytes=1_100_000_000), "0.02"),
    (
        ROUNDING,
        "the classes are rounded apart",
        Usage(standard=ClassUsage(class_b=10_000_001), infrequent_access=ClassUsage(class_b=1)),
        "1.26",
    ),
    (RETRIEVAL, "a byte", cold(retrieved_bytes=1), "0.01"),
    (RETRIEVAL, "a GB", cold(retrieved_bytes=GB), "0.01"),
    (RETRIEVAL, "a GB and a byte", cold(retrieved_bytes=GB + 1), "0.02"),
    (RETRIEVAL, "a TB of Standard", hot(retrieved_bytes=1000 * GB), "0"),
    (MINIMUM, "100 GB for a day in Infrequent Access", cold_for(1, 100 * GB), "1.00"),
    (MINIMUM, "for 29 days", cold_for(29, 100 * GB), "1.00"),
    (MINIMUM, "for 30 days", cold_for(30, 100 * GB), "1.00"),
    (MINIMUM, "for 45 days, over two bills", cold_for(45, 100 * GB), "1.50"),
    (MINIMUM, "310 GB for a day in Standard", hot(byte_days=byte_days(310 * GB, days=1)), "0.015"),
    (PEAKS, "the page's 2.66 GB-months, billed as 3", cold(byte_days=5 * GB + 25 * 3 * GB), "0.03"),
    (PEAKS, "300 GB for one day of thirty", cold(byte_days=300 * GB), "0.10"),
]


@pytest.mark.parametrize(
    ("usage", "total"),
    [
        pytest.param(usage, total, id=f"{rule.partition(':')[0]}: {case}")
        for rule, case, usage, total in EDGES
    ],
)
def test_each_rule_holds_on_its_edge(usage, total):
    assert bill(usage).total_usd == Decimal(total)


def test_billable_units_are_whole_and_amounts_are_decimals():
    it = billed_standard(byte_days=byte_days(123_456_789_012), class_a=5, class_b=7)
    amounts = [it.storage_usd, it.class_a_usd, it.class_b_usd, it.retrieval_usd, it.total_usd]
    assert all(isinstance(amount, Decimal) for amount in amounts)
    assert all(isinstance(units, int) for units in it.billable.values())
    assert it.billable["standard_gb_months"] == 114


# Daily peaks

TODAY = date(2026, 11, 30)


def days_ago(days: int) -> date:
    return TODAY - timedelta(days=days)


@pytest.mark.parametrize(
    ("peaks", "byte_days"),
    [
        ({0: 3}, 30 * 3),
        ({29: 1, 24: 3}, 5 * 1 + 25 * 3),
        ({40: 2, 0: 5}, 29 * 2 + 5),
        ({10: 4}, 30 * 4),
        ({29: 9, 28: 0}, 9),
        ({0: 1, -1: 100}, 30 * 1),
    ],
    ids=[
        "only today is known",
        "a day without a peak counts as the one before it",
        "the last day before the period counts until the next one",
        "days before the first known one count as that one",
        "nothing is left",
        "tomorrow does not count",
    ],
)
def test_a_month_is_made_of_its_daily_peaks(peaks, byte_days):
    known = {days_ago(days): {STANDARD: size} for days, size in peaks.items()}
    assert month_of_peaks(known, until=TODAY).standard.byte_days == byte_days


def test_a_class_that_a_day_does_not_name_had_no_bytes_that_day():
    peaks = {days_ago(29): {STANDARD: 7}, days_ago(9): {INFREQUENT_ACCESS: 7}}
    month = month_of_peaks(peaks, until=TODAY)
    assert month.standard.byte_days == 20 * 7
    assert month.infrequent_access.byte_days == 10 * 7


def test_peaks_that_never_change_make_the_same_month_as_bytes_that_stay():
    stored = {STANDARD: 12 * GB, INFREQUENT_ACCESS: GB}
    peaks = {days_ago(days): stored for days in range(30)}
    assert month_of_peaks(peaks, until=TODAY, class_a=3) == month_of(stored, class_a=3)
    assert days_known(peaks, until=TODAY) == 30


def test_a_month_of_which_no_day_is_known_has_no_peaks():
    with pytest.raises(ValueError, match="no peak is known"):
        month_of_peaks({days_ago(-1): {STANDARD: 1}}, until=TODAY)


def test_only_days_with_a_peak_of_their_own_are_known():
    peaks = {days_ago(days): {STANDARD: 1} for days in (-1, 0, 3, 29, 30)}
    assert days_known(peaks, until=TODAY) == 3


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


# Amazon S3, by the billing examples of https://aws.amazon.com/s3/faqs/

S3_GB = 2**30
S3_TB = 1024 * S3_GB


def at_s3(usage: Usage, *, egress_bytes: int = 0) -> Offer:
    r2, s3 = compare(usage, egress_bytes=egress_bytes)
    assert (r2.provider, s3.provider) == ("Cloudflare R2", "Amazon S3")
    return s3


def test_the_storage_example_of_s3_is_1215_dollars():
    # 100 GB for 15 days and 100 TB for 16 days of March: 52,900 GB-months in two tiers.
    average = (15 * 100 * S3_GB + 16 * 100 * S3_TB) // 31
    assert average == 52_900 * S3_GB
    assert at_s3(month_of({STANDARD: average})).by_rules.storage_usd == Decimal("1215.00")


def test_the_transfer_example_of_s3_is_5263_27_and_less_with_what_is_free_today():
    # 62 TB, when one GB was free: 10,239 x 0.09 + 40,960 x 0.085 + 12,288 x 0.07.
    tiers = (Tier(1, Decimal(0)), *AWS_S3.egress[1:])
    prices = replace(CLOUDFLARE, aws_s3=replace(AWS_S3, egress=tiers))
    (_, then) = compare(Usage(), egress_bytes=62 * S3_TB, prices=prices)
    assert then.by_rules.egress_usd == Decimal("5263.27")
    now = at_s3(Usage(), egress_bytes=62 * S3_TB)
    assert now.by_rules.egress_usd == Decimal("5263.27") - 99 * Decimal("0.09")


def test_the_request_example_of_s3_is_1_55_and_0_25():
    assert at_s3(hot(class_a=310_000)).by_rules.operations_usd == Decimal("1.55")
    assert at_s3(hot(class_b=620_000)).by_rules.operations_usd == Decimal("0.25")


@pytest.mark.parametrize(
    ("egress", "usd"),
    [
        (0, "0.00"),
        (100 * S3_GB, "0.00"),
        (101 * S3_GB, "0.09"),
        (10 * S3_TB, "912.60"),
        (10 * S3_TB + S3_GB, "912.69"),
        (150 * S3_TB, "11562.20"),
        (151 * S3_TB, "11613.40"),
    ],
    ids=["none", "free", "a GB more", "first tier", "second tier", "fourth tier", "last tier"],
)
def test_each_tier_of_egress_holds_on_its_edge(egress, usd):
    assert at_s3(Usage(), egress_bytes=egress).by_rules.egress_usd == Decimal(usd)


def test_both_classes_of_r2_are_standard_at_s3():
    mixed = month_of({STANDARD: 100 * S3_GB, INFREQUENT_ACCESS: 100 * S3_GB})
    assert at_s3(mixed).by_rules.storage_usd == Decimal("4.60")


# The example everybody quotes: 1 TB, 100,000 calls, and on S3 1 TB of egress


def classic() -> tuple[Offer, ...]:
    """1 TB as 1,000 GB stored, and as 1,024 GB sent: so $23 and $92 come about."""
    usage = month_of({STANDARD: 1000 * GB}, class_a=100_000)
    return compare(usage, egress_bytes=1024 * GB)


def test_the_classic_example_is_the_list_price():
    r2, s3 = (offer.at_list_price for offer in classic())
    assert (r2.storage_usd, r2.operations_usd, r2.egress_usd) == (
        Decimal("15.00"),
        Decimal("0.45"),
        0,
    )
    assert (s3.storage_usd, s3.egress_usd) == (Decimal("23.00"), Decimal("92.16"))


def test_the_rules_give_other_figures_for_the_classic_example():
    r2, s3 = (offer.by_rules for offer in classic())
    assert (r2.storage_usd, r2.operations_usd) == (Decimal("14.85"), 0)
    assert (s3.storage_usd, s3.operations_usd, s3.egress_usd) == (
        Decimal("21.42"),
        Decimal("0.50"),
        Decimal("76.83"),
    )


def test_the_classic_example_is_told_what_its_calls_cost():
    r2, _ = classic()
    assert "100,000 Class A operations are inside the free tier of 1,000,000." in r2.assumptions
    (billed, _) = compare(hot(class_a=1_000_001, class_b=10_000_000))
    assert [each for each in billed.assumptions if "inside" in each] == [
        "10,000,000 Class B operations are inside the free tier of 10,000,000."
    ]


def test_calls_beyond_the_free_tier_are_billed_by_the_million():
    usage = month_of({STANDARD: 1000 * GB}, class_a=1_100_000)
    assert compare(usage)[0].by_rules.operations_usd == Decimal("4.50")


def test_an_offer_says_where_its_prices_are_from():
    for offer in classic():
        document = offer.as_dict()
        assert {"provider", "storage_usd", "egress_usd", "operations_usd"} <= set(document)
        assert document["source"].startswith("https://")
        assert document["total_usd"] == offer.by_rules.total_usd
        assert date.fromisoformat(document["as_of"]) <= date(2026, 12, 31)


def test_list_prices_of_infrequent_access_are_its_own():
    usage = cold(byte_days=100 * MONTH, class_a=500_000, retrieved_bytes=50 * GB)
    at_list = compare(usage)[0].at_list_price
    assert (at_list.storage_usd, at_list.operations_usd) == (Decimal("1.00"), Decimal("5.00"))


# Infrequent Access


def moving(moved: Moved, *, kept: int = 0, **operations: int) -> BreakEven:
    """Move it out of a bucket that keeps so many bytes, and those of the free tier, in Standard."""
    return break_even(moved, month_of({STANDARD: 10 * GB + kept + moved.bytes}, **operations))


def test_moving_large_objects_that_nobody_reads_pays_in_less_than_two_months():
    it = moving(Moved(objects=1000, bytes=1000 * GB))
    assert it.storage_usd == it.saved_usd_per_month == Decimal("5.00")
    assert it.transition_usd == Decimal("9.00")
    assert (it.days, it.months) == (54, Decimal("1.8"))


def test_reads_and_retrieval_are_taken_off():
    moved = Moved(objects=1000, bytes=1000 * GB, class_b=1000, retrieved_bytes=300 * GB)
    it = moving(moved, class_b=1000)
    assert it.reading_usd == Decimal("0.90") + Decimal("3.00")
    assert it.saved_usd_per_month == Decimal("1.10")
    assert it.days == 246


def test_what_is_read_in_full_every_month_never_pays():
    moved = Moved(objects=1000, bytes=1000 * GB, retrieved_bytes=1000 * GB)
    it = moving(moved)
    assert it.saved_usd_per_month == Decimal("-5.00")
    assert (it.days, it.months) == (None, None)


def test_many_small_objects_cost_more_to_move_than_they_save_in_years():
    it = moving(Moved(objects=10_000_000, bytes=100 * GB))
    assert it.transition_usd == Decimal("90.00")
    assert it.days == 30 * 180


def test_bytes_of_the_free_tier_are_dearer_in_infrequent_access():
    it = break_even(Moved(objects=10, bytes=8 * GB), month_of({STANDARD: 9 * GB}))
    assert it.saved_usd_per_month == Decimal("-0.08")
    assert it.days is None


def test_reads_within_the_free_tier_are_no_longer_free():
    moved = Moved(objects=1, bytes=1000 * GB, class_b=5_000_000)
    assert moving(moved, class_b=5_000_000).reading_usd == Decimal("4.50")


def test_reads_beyond_the_free_tier_cost_the_difference():
    moved = Moved(objects=1, bytes=1000 * GB, class_b=5_000_000)
    it = moving(moved, class_b=20_000_000)
    assert it.reading_usd == Decimal("4.50") - 5 * Decimal("0.36")


def test_before_the_minimum_duration_is_over_all_of_it_is_owed():
    # $1,500 a month in Standard; $1,000 for the minimum and $9 for the move are owed at once.
    it = moving(Moved(objects=100, bytes=100_000 * GB))
    assert it.days == 21
    no_minimum = replace(
        CLOUDFLARE, infrequent_access=replace(CLOUDFLARE.infrequent_access, minimum_days=0)
    )
    usage = month_of({STANDARD: 100_010 * GB})
    assert break_even(Moved(objects=100, bytes=100_000 * GB), usage, no_minimum).days == 1


def test_the_way_back_costs_the_retrieval_of_every_byte_too():
    it = moving(Moved(objects=1000, bytes=1000 * GB))
    assert it.return_usd == Decimal("9.00") + Decimal("10.00")


def test_what_infrequent_access_is_used_for_already_fills_its_units():
    usage = Usage(
        standard=ClassUsage(byte_days=1010 * MONTH),
        infrequent_access=ClassUsage(byte_days=MONTH, class_a=1, retrieved_bytes=1),
    )
    assert break_even(Moved(objects=999_999, bytes=1000 * GB), usage).transition_usd == 0
    one_more = break_even(Moved(objects=1_000_000, bytes=1000 * GB), usage)
    assert one_more.transition_usd == Decimal("9.00")


def test_moving_nothing_costs_and_saves_nothing():
    it = moving(Moved(objects=0, bytes=0))
    assert (it.saved_usd_per_month, it.transition_usd, it.days) == (0, 0, None)


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


def test_a_time_is_taken_as_its_day():
    given = datetime(2027, 1, 1, 12, tzinfo=UTC)
    assert load_prices({"as_of": given}).as_of == date(2027, 1, 1)


def test_a_date_of_ones_own_makes_the_list_ones_own():
    prices = load_prices({"as_of": "2027-01-01", "aws_s3": {"as_of": "2027-01-02"}})
    assert prices.source == prices.aws_s3.source == "R2MAINT['PRICES']"
    assert prices.aws_s3.as_of == date(2027, 1, 2)


def test_prices_of_s3_can_be_those_of_another_region():
    ours = {"storage": "0.025", "egress": [[100, 0], [None, "0.12"]], "source": "eu"}
    prices = load_prices({"aws_s3": ours})
    assert (prices.standard, prices.source) == (CLOUDFLARE.standard, CLOUDFLARE.source)
    assert prices.aws_s3.source == "eu"
    (_, s3) = compare(month_of({STANDARD: 100 * S3_GB}), egress_bytes=200 * S3_GB, prices=prices)
    assert (s3.by_rules.storage_usd, s3.by_rules.egress_usd) == (Decimal("2.50"), Decimal("12.00"))


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
        ({"standard": {"storage": "1e13"}}, "no amount"),
        ({"free": {"class_a": "1e999999"}}, "no amount"),
        ({"as_of": "yesterday"}, "no date"),
        ({"source": 5}, "one line of text"),
        ({"aws_s3": "0.023"}, "must be a dict"),
        ({"aws_s3": {"post": 1}}, "no entry 'post'"),
        ({"aws_s3": {"put": "much"}}, "no amount"),
        ({"aws_s3": {"as_of": "May"}}, r"\['aws_s3'\]\['as_of'\] is no date"),
        ({"aws_s3": {"storage": []}}, "no list of tiers"),
        ({"aws_s3": {"storage": [[100, "0.1"]]}}, "no list of tiers"),
        ({"aws_s3": {"storage": [[None, "0.1"], [None, "0.1"]]}}, "no list of tiers"),
        ({"aws_s3": {"egress": [100, [None, "0.1"]]}}, "no list of tiers"),
        ({"aws_s3": {"egress": [[100, 0], [100, 1], [None, 0]]}}, "do not rise"),
        ({"aws_s3": {"egress": [["1.5", 0], [None, 0]]}}, "no whole number"),
    ],
)
def test_a_price_that_is_none_is_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        load_prices(overrides)
