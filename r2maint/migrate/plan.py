"""What a migration would do: every source read once and hashed, and looked for in the bucket."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from r2maint.bucket import Bucket, StoredObject, head
from r2maint.bucket.find import find_stored
from r2maint.bucket.parallel import run_ahead
from r2maint.bucket.r2_limits import is_md5
from r2maint.conf import Config
from r2maint.control import Control
from r2maint.database.on_update import list_on_update
from r2maint.errors import UsageError
from r2maint.images import Recipe
from r2maint.images.formats import UNTOUCHED
from r2maint.images.recipe_rules import strictest
from r2maint.journal.journal import uploads_of
from r2maint.keys import Addresses, Kind
from r2maint.keys.key_templates import MAX_KEY_BYTES
from r2maint.local_files.read_file import (
    MAX_IMAGE_BYTES,
    Locator,
    Source,
    UnusableSource,
    md5_of,
    read_source,
)
from r2maint.migrate.cost import MigrationCost
from r2maint.migrate.count_embedded import count_embedded
from r2maint.migrate.find_sources import Gatherer, Origin
from r2maint.migrate.new_keys import Namer, RowValues
from r2maint.migrate.result import Migration, MigrationAction, MigrationItem, count_item
from r2maint.object_index.join import ReferenceIndex
from r2maint.pricing import load_prices
from r2maint.references.column import Column
from r2maint.references.discover_columns import discover
from r2maint.references.read_rows import iter_references
from r2maint.references.reference import Reference, Shape
from r2maint.references.scope import Scope
from r2maint.scratch.batches import batched
from r2maint.scratch.spool import Spool

Group = tuple[str, tuple[Reference, ...]]
"""An origin as text, and every reference that names it."""

BATCH = 500
"""Sources looked for in the bucket together."""


class _Draft(NamedTuple):
    """A source and the references that name it, read but not compared with the bucket."""

    path: str
    references: tuple[Reference, ...]
    by_name: Mapping[str, tuple[Reference, ...]]
    """The references that are names, by the key each name means."""
    others: tuple[Reference, ...]
    recipe: Recipe | None
    source: Source | None = None
    reason: str = ""
    """Why it must stay."""
    keys: tuple[str, ...] = ()
    """Where its bytes may be already, likeliest first; the last one is its own."""

    @property
    def needs_key(self) -> bool:
        return self.source is not None and self.recipe is None and bool(self.others)


@dataclass(slots=True, kw_only=True)
class _Planner:
    """Decides what becomes of each source; reads files and looks for keys, writes nothing."""

    namer: Namer
    bucket: Bucket
    recipe: Recipe | None
    overrides: frozenset[str]
    requests: Counter[str] = field(default_factory=Counter)
    locator: Locator = field(default_factory=Locator)

    def plan(self, drafts: list[_Draft]) -> Iterator[MigrationItem]:
        """Yield the items of some sources: one query per column, a LIST per thousand keys."""
        drafts = self._named(drafts)
        found = find_stored(self.bucket, {key for draft in drafts for key in _looked_for(draft)})
        self.requests["class_a"] += found.lists
        self.requests["class_b"] += found.heads
        taken: dict[str, str] = {}
        for draft in drafts:
            for item in self._items(draft, found.objects):
                yield _once(item, taken)

    # Reading

    def read(self, groups: Iterable[Group]) -> list[_Draft]:
        """Return the sources of some groups, read and hashed; may be called from any thread."""
        return [self._read(Origin.parse(name), group) for name, group in groups]

    def _read(self, origin: Origin, group: tuple[Reference, ...]) -> _Draft:
        recipe, limit = self._recipe(group), self.namer.max_bytes(group)
        others = tuple(each for each in group if each.shape is not Shape.NAME)
        draft = _Draft(origin.source, group, _by_name(group), others, recipe)
        if not origin.root:
            return draft
        try:
            source = read_source(
                self.locator.locate(*origin),
                images_only=not any(self.namer.column(each).is_named for each in group),
                # What is to be made smaller need not be small before.
                max_bytes=max(limit, MAX_IMAGE_BYTES) if recipe else limit,
            )
        except UnusableSource as unusable:
            return draft._replace(reason=unusable.reason, recipe=None)
        return draft._replace(source=source, recipe=recipe if _is_picture(source) else None)

    def _recipe(self, group: Iterable[Reference]) -> Recipe | None:
        """Return how a picture is re-encoded; None for one whose name keeps its key."""
        if self.recipe is None or any(each.shape is Shape.NAME for each in group):
            return None
        rules = [self.namer.column(reference).rule for reference in group]
        return strictest(self.recipe, rules, self.overrides)

    # Naming

    def _named(self, drafts: list[_Draft]) -> list[_Draft]:
        """Return the drafts with the keys of what is stored as it is."""
        plain = [draft for draft in drafts if draft.needs_key]
        values = self.namer.row_values(draft.others for draft in plain)
        hashes = {draft.source.sha256 for draft in plain if draft.source}
        earlier = uploads_of(hashes, self.bucket.name)
        return [
            self._with_keys(draft, values, earlier) if draft.needs_key else draft
            for draft in drafts
        ]

    def _with_keys(
        self, draft: _Draft, values: RowValues, earlier: Mapping[tuple[str, str], str]
    ) -> _Draft:
        source = draft.source
        assert source is not None
        stem, suffix = os.path.splitext(os.path.basename(source.path))
        try:
            own = self.namer.key(
                draft.others,
                values,
                stem=stem,
                sha256=source.sha256,
                ext=source.type.ext if source.type else suffix.lower(),
            )
        except UnusableSource as unusable:
            return draft._replace(reason=unusable.reason)
        # A source that an earlier run stored keeps its key, whatever rows have come since.
        known = earlier.get((draft.path, source.sha256), own)
        first = (known,) if known != own and self.namer.fits(draft.others, known) else ()
        return draft._replace(keys=(*first, own))

    # Comparing

    def _items(self, draft: _Draft, stored: Mapping[str, StoredObject]) -> Iterator[MigrationItem]:
        """Yield one item, or one for each name when fields know a file by several."""
        base = _item_of(draft)
        if draft.source is None or draft.recipe is not None:
            if not (draft.reason and _resolves(draft, stored)):
                yield base
            return
        others = draft.others
        taken = self._compared_objects(draft, stored)
        for key, own in draft.by_name.items():
            references = own if key not in taken or own[0].target.kind is Kind.LOCAL else ()
            if taken.get(key, True):
                references, others = references + others, ()
            if references:
                yield self._decided(_of(base, references), key, draft, taken)
        if others and draft.reason:
            yield replace(base, action=MigrationAction.SKIP, reason=draft.reason, references=others)
        elif others:
            key = next((key for key in draft.keys[:-1] if taken.get(key)), draft.keys[-1])
            yield self._decided(_of(base, others), key, draft, taken)

    def _compared_objects(
        self, draft: _Draft, stored: Mapping[str, StoredObject]
    ) -> dict[str, bool]:
        """Return the source's keys that are taken, and whether by its own bytes; each once."""
        assert draft.source is not None
        keys = dict.fromkeys((*draft.by_name, *draft.keys))
        return {key: self._holds(stored[key], draft.source) for key in keys if key in stored}

    def _decided(
        self, item: MigrationItem, key: str, draft: _Draft, taken: Mapping[str, bool]
    ) -> MigrationItem:
        assert draft.source is not None
        if _is_too_long(key):
            return replace(item, action=MigrationAction.SKIP, reason="too_long")
        named = self.namer.named(item, key, draft.source.type, hashed=key in draft.keys)
        if key not in taken:
            return named
        if taken[key]:
            return replace(named, action=MigrationAction.REUSE)
        return replace(named, action=MigrationAction.FAIL, reason="key_taken", rewrites=())

    def _holds(self, there: StoredObject, source: Source) -> bool:
        """Tell whether an object is the source: by MD5 where its ETag is one, else by SHA-256."""
        if there.size != source.size:
            return False
        if is_md5(there.etag):
            return there.etag == md5_of(source.path)
        self.requests["class_b"] += 1
        info = head(self.bucket, there.key)
        return info is not None and info.headers.metadata.get("sha256") == source.sha256


def _of(item: MigrationItem, references: tuple[Reference, ...]) -> MigrationItem:
    """Return the item for some of its references."""
    return item if references == item.references else replace(item, references=references)


def _by_name(group: Iterable[Reference]) -> Mapping[str, tuple[Reference, ...]]:
    found: dict[str, tuple[Reference, ...]] = {}
    for each in group:
        if each.shape is Shape.NAME:
            found[each.target.key] = (*found.get(each.target.key, ()), each)
    return dict(sorted(found.items()))


def _item_of(draft: _Draft) -> MigrationItem:
    source = draft.source
    return MigrationItem(
        action=MigrationAction.SKIP if draft.reason and source is None else MigrationAction.UPLOAD,
        source=draft.path,
        is_remote=draft.references[0].target.kind is Kind.EXTERNAL,
        recipe=draft.recipe,
        bytes=source.size if source else 0,
        sha256=source.sha256 if source else "",
        modified_ns=source.modified_ns if source else 0,
        reason=draft.reason if source is None else "",
        references=draft.references,
    )


def _looked_for(draft: _Draft) -> Iterator[str]:
    yield from draft.keys
    # A server's answer to a longer one is an error, which would end the run.
    yield from (key for key in draft.by_name if not _is_too_long(key))


def _is_too_long(key: str) -> bool:
    return len(key.encode()) > MAX_KEY_BYTES


def _resolves(draft: _Draft, stored: Mapping[str, StoredObject]) -> bool:
    """Tell whether every reference is a name of the bucket's that is there."""
    return not draft.others and all(
        key in stored and own[0].target.kind is Kind.BUCKET for key, own in draft.by_name.items()
    )


def _once(item: MigrationItem, taken: dict[str, str]) -> MigrationItem:
    """Return the item; of several with the same bytes under one key, only the first uploads."""
    if item.action is not MigrationAction.UPLOAD or not item.key:
        return item
    first = taken.setdefault(item.key, item.sha256)
    if first is item.sha256:
        return item
    if first == item.sha256:
        return replace(item, action=MigrationAction.REUSE)
    return replace(item, action=MigrationAction.FAIL, reason="key_taken", rewrites=())


def _is_picture(source: Source) -> bool:
    kind = source.type
    return kind is not None and kind.is_image and kind.ext not in UNTOUCHED


def make_namer(config: Config, addresses: Addresses, scope: Scope) -> Namer:
    """Return a namer that knows the columns in scope. Raises: UsageError, DatabaseError."""
    columns = [each for each in discover(config, addresses, scope) if not each.is_joined_on]
    named = {(column.database, column.model, column.field): column for column in columns}
    return Namer(config=config, addresses=addresses, columns=named)


def _count_joined(
    config: Config, addresses: Addresses, scope: Scope, control: Control
) -> Counter[str]:
    """Return how many local files each column names that other tables join on: it stays."""
    columns = [each for each in discover(config, addresses, scope) if each.is_joined_on]
    found = iter_references(columns, addresses, scope, control=control)
    return Counter(f"{r.model}.{r.field}" for r in found if r.target.kind is Kind.LOCAL)


def plan_migration(
    config: Config,
    addresses: Addresses,
    bucket: Bucket,
    *,
    scope: Scope,
    control: Control,
    remote: bool = False,
    recipe: Recipe | None = None,
    overrides: Iterable[str] = (),
) -> Migration:
    """Return what a migration would upload and rewrite.

    Reads every local source in scope once to hash it; looks for all keys in pages of a thousand.
    With `remote`, external URLs of fields that FIELDS names are sources too, fetched only when it
    is applied. With a `recipe`, pictures are re-encoded on the way; `overrides` names the
    parameters of it ("to", "max_size") that win over FIELDS.
    Raises: UsageError, DatabaseError, BucketError, Stopped.
    """
    if scope.prefix and (remote or recipe):
        raise UsageError(
            "--prefix goes with neither --remote nor --optimize: a key is known only once its bytes"
            " are.",
            "Choose by --where, --model or --field.",
        )
    namer = make_namer(config, addresses, scope)
    columns = tuple(namer.columns.values())
    planner = _Planner(namer=namer, bucket=bucket, recipe=recipe, overrides=frozenset(overrides))
    gatherer = Gatherer(config=config, addresses=addresses, columns=columns, remote=remote)
    counts, written = Counter[str](), set[tuple[str, str]]()
    with ReferenceIndex() as inventory:
        references = iter_references(columns, addresses, scope, control=control)
        inventory.add_groups(gatherer.gather(references))
        chosen = _in_scope(planner, inventory.iter_groups(), scope, control)
        items = Spool.of(_counted(chosen, counts, written))
    counts.update(gatherer.left)
    counts["embedded_left"] = count_embedded(columns, config, addresses, scope, control=control)
    return Migration(
        items=items,
        counts=counts,
        joined=_count_joined(config, addresses, scope, control),
        set_on_update=_set_on_update(columns, written),
        forecast=_forecast(counts, planner.requests, config),
        databases=frozenset(database for database, _ in written),
        local_media=tuple(prefix for prefix, _ in config.local_media),
        absent_media=tuple(str(root) for _, root in config.local_media if not root.is_dir()),
    )


def _set_on_update(
    columns: Iterable[Column], written: Collection[tuple[str, str]]
) -> tuple[str, ...]:
    tables: dict[str, set[str]] = {}
    for each in columns:
        if (each.database, each.model) in written:
            tables.setdefault(each.database, set()).add(each.table)
    return tuple(name for alias in sorted(tables) for name in list_on_update(alias, tables[alias]))


def _counted(
    items: Iterable[MigrationItem], counts: Counter[str], written: set[tuple[str, str]]
) -> Iterator[MigrationItem]:
    """Count the items; `written` learns database and model of what is to be rewritten."""
    for item in items:
        count_item(counts, item, applied=False)
        counts["open"] += item.is_open
        if item.to_rewrite:
            written.update((each.database, each.model) for each in item.references)
        yield item


def _forecast(counts: Mapping[str, int], spent: Mapping[str, int], config: Config) -> MigrationCost:
    return MigrationCost(
        class_a=spent["class_a"] + counts["to_upload"],
        class_b=spent["class_b"] + counts["already_there"],
        stored_bytes=counts["bytes"],
        unknown=counts["open"],
        prices=load_prices(config.prices),
    )


def _in_scope(
    planner: _Planner,
    groups: Iterable[Group],
    scope: Scope,
    control: Control,
) -> Iterator[MigrationItem]:
    left = scope.limit
    for drafts in _read_ahead(planner, batched(groups, BATCH), control):
        for item in planner.plan(drafts):
            if not item.key.startswith(scope.prefix):
                continue
            if left is not None and item.has_work:
                if not left:
                    return
                left -= 1
            yield item


def _read_ahead(
    planner: _Planner, batches: Iterable[list[Group]], control: Control
) -> Iterator[list[_Draft]]:
    """Yield each batch read; the next one is being read meanwhile, by a thread of its own."""
    with (
        closing(run_ahead(planner.read, batches, workers=1)) as ahead,
        control.progress(None, "Hashing", "file") as advance,
    ):
        for batch, drafts in ahead:
            control.check()
            yield drafts.result()
            advance(len(batch))
