"""What the rows say: every cell, and every element in one, that names a key or a file.

Reads raw stored text, table by table in primary-key order, past every manager: managers hide rows.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from itertools import chain, groupby
from operator import itemgetter
from typing import Any

from django.db.models.query import QuerySet

from r2maint.control import Advance, Control
from r2maint.database.connections import reading
from r2maint.keys import Addresses, Kind, Target, Via, host_of, is_bare_name
from r2maint.local_files.storage_locations import StoragePlace
from r2maint.references import json_text, urls_in_text
from r2maint.references.cell_text import StoredText
from r2maint.references.column import Column, ColumnKind
from r2maint.references.discover_columns import find_column
from r2maint.references.reference import Reference, Shape
from r2maint.references.scope import EVERYTHING, Scope

logger = logging.getLogger(__name__)
_FIRST_PAGE, _PAGE = 200, 2000
"""Rows of one query: few until their size is known."""
_PAGE_CHARACTERS = 4_000_000
# Millions of values pass here, and looking up a member of an Enum takes as long as a comparison.
_FILE, _TEXT, _EXTERNAL = ColumnKind.FILE, ColumnKind.TEXT, Kind.EXTERNAL


_URL = Shape.URL
_NOTHING = Target(Kind.NOTHING, Via.URL)
_CELLS = itemgetter(slice(1, None))
"""Gives the cells of a row of `_pages`."""
_POSITIONS = re.compile(r"(?:/\d+)*")


def iter_references(
    columns: Iterable[Column],
    addresses: Addresses,
    scope: Scope = EVERYTHING,
    *,
    control: Control,
    strict: bool = False,
) -> Iterator[Reference]:
    """Yield the references in these columns: database by database, model by model, row by row.

    Of `scope` only `where` is applied; `discover` applied the rest, and prefix and limit concern
    the items of a command. Text that leads elsewhere (EXTERNAL) counts only in columns `FIELDS`
    names; where their rule says `text`, so does each address inside longer text, once. With
    `strict` what stands in those columns in place of an address counts too (NOTHING). Lazy; one
    page of rows in memory. Raises: DatabaseError, Stopped.
    """
    ordered = sorted(columns, key=lambda c: (c.database, c.model, c.field))
    with control.progress(None, "Reading rows", "row") as advance:
        for _, table in groupby(ordered, key=lambda c: (c.database, c.model)):
            for column, pk, cell in _iter_cells(list(table), scope, control, advance):
                found = _in_cell(column, pk, cell, addresses)
                yield from found
                if strict and column.is_named and not (found and column.kind is _TEXT):
                    yield from _in_vain(column, pk, cell, addresses, found)


def still_named(references: Iterable[Reference]) -> set[Reference]:
    """Return those whose element still holds the value that was read; one query per column.

    At most a few hundred at once: their primary keys are parameters. Raises: DatabaseError.
    """
    found: set[Reference] = set()
    in_order = sorted(references, key=_cell_of)
    for (database, model, name), group in groupby(in_order, key=_cell_of):
        same = list(group)
        column = find_column(database, model, name)
        if column is not None:
            rows: QuerySet[Any] = QuerySet(column.model_class, using=database)
            rows = rows.filter(pk__in={each.pk for each in same}).order_by()
            with reading(database, column.table):
                cells = {str(pk): text for pk, text in rows.values_list("pk", StoredText(column))}
            found.update(each for each in same if _holds(column, cells.get(each.pk), each))
    return found


def _cell_of(reference: Reference) -> tuple[str, str, str]:
    return reference.database, reference.model, reference.field


def _holds(column: Column, cell: str | None, reference: Reference) -> bool:
    elements = () if cell is None else _elements(column, reference.pk, cell)
    values = (value for path, value in elements if path == reference.path)
    if reference.shape is Shape.EMBEDDED:
        return any(urls_in_text.contains(value, reference.value) for value in values)
    return reference.value in values


def target_of(column: Column, value: str, addresses: Addresses) -> tuple[Shape, Target] | None:
    """Return what one value of a column names; None when that is nothing r2maint knows."""
    is_name = _is_name(column, value)
    target = _locate_name(column, value, addresses) if is_name else addresses.locate(value)
    if target is None or (target.kind is _EXTERNAL and not column.is_named):
        return None
    if is_name:
        return Shape.NAME, target
    if value[0].isalnum():
        return _URL, target
    text = value.lstrip()
    return (Shape.PATH if text[:1] == "/" and text[:2] != "//" else _URL), target


def _is_name(column: Column, value: str) -> bool:
    """Tell whether a value is to be read as a storage's name for a file.

    Text is, in columns that `FIELDS` names, when it can hardly be anything else.
    """
    if column.kind is _FILE:
        return not host_of(value.strip())
    return column.is_named and is_bare_name(value)


def _locate_name(column: Column, value: str, addresses: Addresses) -> Target | None:
    if column.place is StoragePlace.OTHER:
        return None
    return addresses.locate_name(value, location=column.location, root=column.local_root)


def _iter_cells(
    columns: list[Column], scope: Scope, control: Control, advance: Advance
) -> Iterator[tuple[Column, str, str]]:
    """Yield (column, primary key, stored text) of each cell that may name something."""
    marked = [(column, *_marks(column)) for column in columns]
    for rows in _pages(columns, scope):
        control.check()
        for pk, *cells in rows:
            for (column, mark, other), cell in zip(marked, cells, strict=True):
                if cell and (mark in cell or other in cell):
                    yield column, str(pk), cell
        advance(len(rows))


def _marks(column: Column) -> tuple[str, str]:
    """Return two texts, one of which is in every cell that names anything; "" is in all.

    Addresses have a "/", which JSON may escape.
    """
    if column.kind is ColumnKind.FILE or column.is_named:
        return "", ""
    return "/", "/" if column.kind is ColumnKind.TEXT else "\\u"


def _pages(columns: list[Column], scope: Scope) -> Iterator[list[tuple[Any, ...]]]:
    """Yield pages of (pk, stored text of each column), cut so that large cells stay few."""
    first = columns[0]
    query: QuerySet[Any] = QuerySet(first.model_class, using=first.database)
    query = query.filter(**dict(scope.where)).order_by("pk")
    rows = query.values_list("pk", *map(StoredText, columns))
    size = _FIRST_PAGE
    last = None
    while True:
        page = rows if last is None else rows.filter(pk__gt=last)
        with reading(first.database, first.table):
            found = list(page[:size])
        if not found:
            return
        last = found[-1][0]
        yield found
        characters = sum(map(len, filter(None, chain.from_iterable(map(_CELLS, found)))))
        size = max(1, min(_PAGE, 2 * size, _PAGE_CHARACTERS * len(found) // (characters or 1)))


def _in_cell(column: Column, pk: str, cell: str, addresses: Addresses) -> list[Reference]:
    database, model, field = column.database, column.model, column.field
    if column.kind is _TEXT and not column.rule.text:
        # Most cells are one value, and most of the time goes into this line.
        named = target_of(column, cell, addresses)
        return [Reference(database, model, pk, field, "", cell, *named)] if named else []
    values = _values(column, pk, cell)
    if column.rule.text and column.kind is not _FILE:
        return [
            Reference(database, model, pk, field, path, *found)
            for path, value in values
            for found in _in_text(column, value, addresses)
        ]
    return [
        Reference(database, model, pk, field, path, value, *named)
        for path, value in values
        if (named := target_of(column, value, addresses))
    ]


def _in_vain(
    column: Column, pk: str, cell: str, addresses: Addresses, found: Iterable[Reference]
) -> Iterator[Reference]:
    """Yield what stands in place of an address: a whole text, or a member of a plain list.

    Not what was `found` to name something. Other members of a document may be anything, and a
    `data:` URL is its own picture.
    """
    if column.kind is _FILE or column.rule.text:
        return
    at = column.database, column.model, pk, column.field
    named = {(each.path, each.value) for each in found}
    for path, value in _elements(column, pk, cell):
        if (path, value) in named:
            continue
        text = value.strip()
        if not text or not _POSITIONS.fullmatch(path) or text.lower().startswith("data:"):
            continue
        if target_of(column, value, addresses) is None:
            yield Reference(*at, path, value, _URL, _NOTHING)


def _in_text(
    column: Column, text: str, addresses: Addresses
) -> Iterator[tuple[str, Shape, Target]]:
    """Yield what a text names: itself where it is one address or name, else what stands in it."""
    found = dict(urls_in_text.iter_addresses(text, addresses))
    if text.strip() in found or (not found and len(text.split()) == 1):
        whole = target_of(column, text, addresses)
        if whole is not None:
            yield text, *whole
    else:
        for address, target in found.items():
            yield address, Shape.EMBEDDED, target


def _values(column: Column, pk: str, cell: str) -> Iterable[tuple[str, str]]:
    """Return (pointer, value) of what may be an address or a name.

    Addresses have a "/"; the names that columns of `FIELDS` may hold beside them have a ".".
    """
    elements = _elements(column, pk, cell)
    if column.kind is _FILE:
        return elements
    mark = "." if column.is_named else "/"
    return [each for each in elements if "/" in each[1] or mark in each[1]]


def _elements(column: Column, pk: str, cell: str) -> Iterable[tuple[str, str]]:
    """Return (pointer, value) of every string in a cell that a journal can hold."""
    if column.kind is _TEXT or column.kind is _FILE:
        return (("", cell),)
    if cell.isascii() and (values := json_text.plain_list(cell)):
        return [(f"/{index}", value) for index, value in enumerate(values)]
    try:
        tokens = list(json_text.strings(cell))
    except ValueError:
        # SQLite keeps any text in a JSON column; what the project cannot read names nothing.
        logger.warning("Not JSON: %s.%s of row %s.", column.model, column.field, pk)
        return ()
    return [(t.pointer, t.value) for t in tokens if _is_storable(t)]


def _is_storable(token: json_text.JsonString) -> bool:
    """Tell whether a journal can hold value and place: no lone surrogate, no NUL."""
    text = token.pointer + token.value
    if text.isascii():
        return "\0" not in text
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text
