"""Price lists: what each unit costs, since when, and who says so."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal

GB = 10**9
MONTH_DAYS = 30
MILLION = 10**6
STANDARD = "STANDARD"
INFREQUENT_ACCESS = "STANDARD_IA"
"""As the S3 API names the storage class Infrequent Access."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What one storage class of R2 costs, in US dollars."""

    storage: Decimal
    """A GB-month."""
    class_a: Decimal
    """A million operations that write or list."""
    class_b: Decimal
    """A million operations that read."""
    retrieval: Decimal = Decimal(0)
    """A GB read or copied."""
    minimum_days: int = 0
    """What is removed earlier is billed for as long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FreeTier:
    """What a month of Standard includes."""

    storage: int = 10
    """GB-months."""
    class_a: int = 1_000_000
    class_b: int = 10_000_000


@dataclass(frozen=True, slots=True)
class Tier:
    """A price that holds up to a quantity."""

    up_to: int | None
    """GB of 2^30 bytes a month, counted from 0; None for the last tier."""
    price: Decimal
    """US dollars a GB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Prices:
    """What Amazon S3 Standard costs in one region, in US dollars."""

    storage: tuple[Tier, ...]
    """By GB-months."""
    put: Decimal
    """A thousand PUT, COPY, POST or LIST requests."""
    get: Decimal
    """A thousand GET requests, and all others but DELETE, which is free."""
    egress: tuple[Tier, ...]
    """By GB sent to the internet; what is free is a tier of its own."""
    as_of: date
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """Price lists and the day they were read."""

    standard: Rates
    infrequent_access: Rates
    free: FreeTier
    as_of: date
    source: str
    aws_s3: S3Prices
    """What a month is compared with."""


# The tiers, and that the free gigabytes are the first of the first tier, are also in the billing
# examples of https://aws.amazon.com/s3/faqs/. The 100 free GB replaced 1 GB in December 2021.
AWS_S3 = S3Prices(
    storage=(
        Tier(50 * 1024, Decimal("0.023")),
        Tier(500 * 1024, Decimal("0.022")),
        Tier(None, Decimal("0.021")),
    ),
    put=Decimal("0.005"),
    get=Decimal("0.0004"),
    egress=(
        Tier(100, Decimal(0)),
        Tier(10 * 1024, Decimal("0.09")),
        Tier(50 * 1024, Decimal("0.085")),
        Tier(150 * 1024, Decimal("0.07")),
        Tier(None, Decimal("0.05")),
    ),
    as_of=date(2026, 5, 14),
    source="https://aws.amazon.com/s3/pricing/, us-east-1, as quoted by others",
)

CLOUDFLARE = Prices(
    standard=Rates(storage=Decimal("0.015"), class_a=Decimal("4.50"), class_b=Decimal("0.36")),
    infrequent_access=Rates(
        storage=Decimal("0.01"),
        class_a=Decimal("9.00"),
        class_b=Decimal("0.90"),
        retrieval=Decimal("0.01"),
        minimum_days=30,
    ),
    free=FreeTier(),
    as_of=date(2026, 10, 1),
    source="https://developers.cloudflare.com/r2/pricing/",
    aws_s3=AWS_S3,
)
