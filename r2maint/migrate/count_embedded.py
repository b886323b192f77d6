"""Addresses of local media inside longer text: counted, so that nobody thinks they moved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from django.db.models import Q
from django.db.models.query import QuerySet

from r2maint.conf import Config
from r2maint.control import Control
from r2maint.database.connections import reading
from r2maint.keys import Addresses, Kind
from r2maint.references import json_text
from r2maint.references.cell_text import StoredText
from r2maint.references.column import Column, ColumnKind
from r2maint.references.scope import Scope
from r2maint.references.urls_in_text import iter_addresses

_CHUNK = 200


def count_embedded(
    columns: Iterable[Column],
    config: Config,
    addresses: Addresses,
    scope: Scope,
    *,
    control: Control,
) -> int:
    """Return how many addresses of local media stand inside the text of these columns.

    A value that is an address as a whole is a reference and does not count, and neither does what
    stands in a column whose rule says `text`. The database picks the
    cells that hold the last segment of a LOCAL_MEDIA prefix; only those are read.
    """
    words = {prefix.strip("/").rpartition("/")[2] for prefix, _ in config.local_media}
    total = 0
    for column in columns:
        if column.kind is not ColumnKind.FILE and not column.rule.text and words:
            for cell in _cells(column, words, scope):
                control.check()
                total += sum(_embedded(text, addresses) for text in _texts(column, cell))
    return total


def _cells(column: Column, words: Iterable[str], scope: Scope) -> Iterator[str]:
    query: QuerySet[Any] = QuerySet(column.model_class, using=column.database)
    rows = query.filter(**dict(scope.where))
    stored = rows.annotate(r2maint_text=StoredText(column)).values_list("r2maint_text", flat=True)
    wanted = Q()
    for word in words:
        wanted |= Q(r2maint_text__contains=word)
    with reading(column.database, column.table):
        yield from stored.filter(wanted).iterator(chunk_size=_CHUNK)


def _texts(column: Column, cell: str) -> Iterable[str]:
    if column.kind is ColumnKind.TEXT:
        return (cell,)
    try:
        return [token.value for token in json_text.strings(cell)]
    except ValueError:
        return ()


def _embedded(text: str, addresses: Addresses) -> int:
    if addresses.locate(text) is not None:
        return 0
    return sum(target.kind is Kind.LOCAL for _, target in iter_addresses(text, addresses))
