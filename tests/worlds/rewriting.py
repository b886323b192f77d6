"""Rows with references, and rewrites of them."""

from __future__ import annotations

from collections import Counter
from typing import Any

from r2maint.conf import load
from r2maint.control import Control
from r2maint.journal.journal import Journal
from r2maint.keys import Addresses
from r2maint.references.discover_columns import discover
from r2maint.references.edit_cell import Rewrite, Swapped
from r2maint.references.read_rows import iter_references
from r2maint.references.reference import Reference
from r2maint.references.rewrite import swap
from r2maint.references.scope import Scope
from tests.appdirectory.models import AppSubmission

BASE = "https://media.example.org/"


def references(alias: str, model: str, *fields: str) -> list[Reference]:
    config = load()
    addresses = Addresses.from_config(config)
    scope = Scope(databases=(alias,), models=(model,), fields=fields)
    columns = discover(config, addresses, scope)
    return list(iter_references(columns, addresses, scope, control=Control()))


def renamed(reference: Reference) -> Rewrite:
    return Rewrite(reference=reference, new=reference.value.replace("old", "new"))


def swapped(rewrites: list[Rewrite], journal: Journal) -> Counter[Swapped]:
    return Counter(each.how for each in swap(rewrites, journal, control=Control()))


def submissions(alias: str, count: int, **values: Any) -> list[int]:
    rows = [AppSubmission(tracking_id=f"QAD-{n}", **values) for n in range(count)]
    return [row.pk for row in AppSubmission.objects.using(alias).bulk_create(rows)]
