"""Which objects a re-encoding is about, with every reference to each and the rules that apply."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from r2maint.bucket import Bucket, StoredObject
from r2maint.conf import Config
from r2maint.control import Control
from r2maint.images import Limits, Recipe, can_write
from r2maint.images.formats import UNTOUCHED
from r2maint.images.recipe_rules import strictest
from r2maint.keys import Addresses, Kind
from r2maint.keys.key_templates import sibling_key
from r2maint.object_index.join import ReferenceIndex
from r2maint.references.column import Column, ColumnKind
from r2maint.references.discover_columns import discover
from r2maint.references.edit_cell import Rewrite
from r2maint.references.read_rows import iter_references
from r2maint.references.reference import JOINED_ON, Reference, Shape, value_for
from r2maint.references.scope import Scope

_PICTURES = {".png", ".jpg", ".jpeg", ".jfif", ".gif", ".webp", ".avif", ".bmp", ".tif", ".tiff"}
_EXT = re.compile(r"\.[a-z0-9]{1,5}$")
_ANY_SHA256 = "0" * 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected:
    """One picture of the bucket, by its key's extension, and everything that names it."""

    object: StoredObject
    references: tuple[Reference, ...]
    recipe: Recipe
    reason: str = ""
    """Why it stays as it is, as far as that is known without its bytes."""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """Knows what each reference would have to say to name another key."""

    addresses: Addresses
    columns: Mapping[tuple[str, str, str], Column]

    def column(self, reference: Reference) -> Column | None:
        return self.columns.get((reference.database, reference.model, reference.field))

    def value(self, reference: Reference, key: str) -> str | None:
        """Return the text that names `key` in this place; None when none can."""
        column = self.column(reference)
        return value_for(reference, column, key, self.addresses) if column else None

    def fits(self, reference: Reference, key: str) -> bool:
        column, value = self.column(reference), self.value(reference, key)
        if column is None or value is None:
            return False
        if column.max_length is None or column.kind is ColumnKind.JSON:
            return True
        if reference.shape is Shape.EMBEDDED:  # the rest of its text may leave no room
            return len(value) <= len(reference.value)
        return len(value) <= column.max_length

    def new_key(self, selected: Selected, *, sha256: str, ext: str) -> str:
        """Return the key of the new version. Raises: ValueError when no column has room for it."""
        references = selected.references
        return sibling_key(
            selected.object.key,
            sha256=sha256,
            ext=ext,
            fits=lambda key: all(self.fits(reference, key) for reference in references),
        )

    def rewrites(
        self, selected: Selected, key: str, sha256: str, size: tuple[int, int]
    ) -> list[Rewrite]:
        """Return the exchange of every reference; an image field's size columns follow."""
        found = []
        for reference in selected.references:
            column, value = self.column(reference), self.value(reference, key)
            assert column is not None
            assert value is not None
            names = (column.width_field, column.height_field)
            extra = {name: side for name, side in zip(names, size, strict=True) if name}
            found.append(
                Rewrite(reference=reference, new=value, key=key, sha256=sha256, extra=extra)
            )
        return found


def make_writer(config: Config, addresses: Addresses) -> Writer:
    """Return a writer that knows every column of the project that may be rewritten."""
    columns = discover(config, addresses)
    named = {(column.database, column.model, column.field): column for column in columns}
    return Writer(addresses=addresses, columns=named)


def iter_selected(
    config: Config,
    writer: Writer,
    bucket: Bucket,
    listed: ReferenceIndex,
    *,
    scope: Scope,
    recipe: Recipe,
    overrides: Collection[str],
    stored: Counter[str],
    control: Control,
) -> Iterator[Selected]:
    """Yield the pictures in scope, in key order, each with all its references, in scope or not.

    The objects listed are added to `listed`, and their bytes to `stored`, by storage class.
    Raises: UsageError, DatabaseError, BucketError, Stopped.
    """
    is_chosen = _chooser(config, writer.addresses, scope, control)
    found = iter_references(writer.columns.values(), writer.addresses, control=control)
    listed.add_references(each for each in found if each.target.kind is Kind.BUCKET)
    listed.add_objects(_weighed(bucket.list_pages(scope.prefix), stored), control=control)
    for item, references in listed.join_references():
        if item is None or not any(map(is_chosen, references)):
            continue
        if _is_picture(item.key):
            rules = [column.rule for each in references if (column := writer.column(each))]
            own = strictest(recipe, rules, overrides)
            selected = Selected(object=item, references=references, recipe=own)
            reason, detail = _reason_to_keep(selected, writer)
            yield replace(selected, reason=reason, detail=detail)


def _weighed(
    pages: Iterable[list[StoredObject]], stored: Counter[str]
) -> Iterator[list[StoredObject]]:
    for page in pages:
        for item in page:
            stored[item.storage_class] += item.size
        yield page


def _chooser(
    config: Config, addresses: Addresses, scope: Scope, control: Control
) -> Callable[[Reference], bool]:
    """Return what tells whether a reference is in scope."""
    columns = discover(config, addresses, scope)
    names = {(column.database, column.model, column.field) for column in columns}
    if not scope.where:
        return lambda each: (each.database, each.model, each.field) in names
    inside = iter_references(columns, addresses, scope, control=control)
    cells = {(each.database, each.model, each.field, each.pk) for each in inside}
    return lambda each: (each.database, each.model, each.field, each.pk) in cells


def _is_picture(key: str) -> bool:
    """Tell by the extension; an object that has none is looked into."""
    if key.startswith(".r2maint/") or key.endswith("/"):
        return False
    ext = _EXT.search(key.lower())
    return ext is None or ext[0] in _PICTURES | UNTOUCHED


def _reason_to_keep(selected: Selected, writer: Writer) -> tuple[str, str]:
    ext = _EXT.search(selected.object.key.lower())
    if ext and ext[0] in UNTOUCHED:
        return "unsupported", ""
    if not can_write(selected.recipe.to):
        return "encoder_missing", ""
    if selected.object.size > Limits().max_bytes:
        return "too_large", ""
    if selected.object.size <= selected.recipe.min_saving_bytes:
        return "too_small", ""
    if len(databases := {each.database for each in selected.references}) > 1:
        # No transaction spans them.
        return "not_swappable", f"named in several databases: {', '.join(sorted(databases))}"
    columns = map(writer.column, selected.references)
    if joined := next((c for c in columns if c and c.is_joined_on), None):
        return "not_swappable", f"{joined.model}.{joined.field}: {JOINED_ON}"
    try:
        writer.new_key(selected, sha256=_ANY_SHA256, ext=".webp")
    except ValueError:
        return "not_swappable", "a reference has no room for another address"
    return "", ""
