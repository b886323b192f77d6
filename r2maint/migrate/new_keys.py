"""Keys, URLs and new values for sources: by the template of the field that names each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from r2maint.bucket import IMMUTABLE
from r2maint.conf import Config
from r2maint.images.formats import FileType
from r2maint.keys import DEFAULT_TEMPLATE, Addresses, key_from_template, row_names, shared_template
from r2maint.local_files.read_file import MAX_IMAGE_BYTES, UnusableSource
from r2maint.migrate.result import MigrationItem
from r2maint.references.column import Column
from r2maint.references.discover_columns import row_values
from r2maint.references.edit_cell import Rewrite
from r2maint.references.reference import Reference, Shape

Row = tuple[str, str, str]
"""Database, model and primary key."""
RowValues = Mapping[Row, Mapping[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Namer:
    """Knows what every field wants its keys to look like, and what its values may be."""

    config: Config
    addresses: Addresses
    columns: Mapping[tuple[str, str, str], Column]
    """By database, model and field."""

    def column(self, reference: Reference) -> Column:
        return self.columns[reference.database, reference.model, reference.field]

    def row_values(self, groups: Iterable[Sequence[Reference]]) -> RowValues:
        """Return what key templates ask of rows, for sources that one row alone names.

        One query per column; some hundred groups at once.
        """
        wanted: dict[tuple[str, str, str], list[str]] = {}
        for group in groups:
            if len(_rows(group)) == 1:
                first = group[0]
                wanted.setdefault((first.database, first.model, first.field), []).append(first.pk)
        values: dict[Row, dict[str, str]] = {}
        for (database, model, name), pks in wanted.items():
            column = self.columns[database, model, name]
            names = row_names(column.rule.key or DEFAULT_TEMPLATE)
            rows = row_values(column, pks, names) if names else {}
            for pk, row in rows.items():
                values.setdefault((database, model, pk), {}).update(row)
        return values

    def key(
        self,
        group: Sequence[Reference],
        values: RowValues,
        *,
        stem: str,
        sha256: str,
        ext: str,
    ) -> str:
        """Return the key of a source that these references name.

        Raises: UnusableSource "gone" when its row was deleted meanwhile, "too_long" when no key is
        short enough for a column.
        """
        first = group[0]
        template = self.column(first).rule.key or DEFAULT_TEMPLATE
        if len(_rows(group)) > 1:
            template = shared_template(template)
        app_label, _, model = first.model.partition(".")
        named = {
            **values.get((first.database, first.model, first.pk), {}),
            "app_label": app_label,
            "model": model.lower(),
            "pk": first.pk,
            "field": first.field,
        }
        if not named.keys() >= set(row_names(template)):
            raise UnusableSource("gone", "its row was deleted meanwhile")
        try:
            return key_from_template(
                template,
                named,
                stem=stem,
                sha256=sha256,
                ext=ext,
                fits=lambda key: self.fits(group, key),
            )
        except ValueError as error:
            raise UnusableSource("too_long", str(error)) from error

    def fits(self, group: Iterable[Reference], key: str) -> bool:
        """Tell whether every column has room for the URL of a key.

        Of an address inside longer text the swap decides: the text around it counts too.
        """
        whole = (each for each in group if each.shape is not Shape.EMBEDDED)
        lengths = [self.column(reference).max_length for reference in whole]
        room = min((length for length in lengths if length is not None), default=None)
        return room is None or len(self.addresses.url_for(key)) <= room

    def max_bytes(self, group: Iterable[Reference]) -> int:
        """Return how large a picture may be that all these references name."""
        limits = (self.column(reference).rule.max_bytes for reference in group)
        return min(filter(None, limits), default=MAX_IMAGE_BYTES)

    def named(
        self,
        item: MigrationItem,
        key: str,
        kind: FileType | None,
        *,
        hashed: bool = True,
        size: tuple[int, int] | None = None,
    ) -> MigrationItem:
        """Return the item under its key, with the new value of every reference.

        Names keep their value. `size` is that of a re-encoded picture: width and height columns
        follow it.
        """
        # Names alone need no URL, and so no public address.
        only_names = all(each.shape is Shape.NAME for each in item.references)
        url = "" if only_names and not self.addresses.public_url else self.addresses.url_for(key)
        return replace(
            item,
            key=key,
            url=url,
            content_type=kind.content_type if kind else "",
            cache_control=IMMUTABLE if hashed else self.config.cache_control,
            rewrites=tuple(
                Rewrite(
                    reference=each,
                    new=url,
                    key=key,
                    sha256=item.sha256,
                    extra=self._sides(each, size),
                )
                for each in item.references
                if each.shape is not Shape.NAME
            ),
        )

    def _sides(self, reference: Reference, size: tuple[int, int] | None) -> dict[str, int | None]:
        if size is None:
            return {}
        column = self.column(reference)
        names = (column.width_field, column.height_field)
        return {name: side for name, side in zip(names, size, strict=True) if name}


def _rows(group: Iterable[Reference]) -> set[Row]:
    return {(reference.database, reference.model, reference.pk) for reference in group}
