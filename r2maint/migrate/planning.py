"""What a migration would do: every source read once and hashed, and looked for in the bucket."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from r2maint.batching import batched
from r2maint.bucket import Bucket, StoredObject, head
from r2maint.bucket.lookup import find_stored
from r2maint.conf import Config
from r2maint.control import Control
from r2maint.errors import UsageError
from r2maint.images import Recipe
from r2maint.inventory import Inventory
from r2maint.journal import uploads_of
from r2maint.keys import Addresses, Kind
from r2maint.migrate.embedded import count_embedded
from r2maint.migrate.forecast import Forecast
from r2maint.migrate.gathering import Gatherer, Origin, origin_of
from r2maint.migrate.items import Action, Item, Migration, count_item
from r2maint.migrate.naming import Namer, RowValues
from r2maint.pricing import load_prices
from r2maint.references.columns import discover
from r2maint.references.reading import Reference, Scope, Shape, iter_references
from r2maint.reoptimize.recipes import strictest
from r2maint.sources import MAX_IMAGE_BYTES, Locator, Source, UnusableSource, md5_of, read_source
from r2maint.spool import Spool
from r2maint.templates import MAX_KEY_BYTES

Group = tuple[str, tuple[Reference, ...]]
"""An origin as text, and every reference that names it."""

BATCH = 500
"""Sources looked for in the bucket together."""
_NOT_REENCODED = (".svg", ".ico", ".heic", ".heif", ".jxl")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Draft:
    """A source and the references that name it, read but not compared with the bucket."""

    path: str
    references: tuple[Reference, ...]
    source: Source | None = None
    reason: str = ""
    """Why it must stay."""
    recipe: Recipe | None = None
    keys: tuple[str, ...] = ()
    """Where its bytes may be already, likeliest first; the last one is its own."""

    @property
    def by_name(self) -> dict[str, tuple[Reference, ...]]:
        """Return the references that are names, by the key each name means."""
        found: dict[str, tuple[Reference, ...]] = {}
        for each in self.references:
            if each.shape is Shape.NAME:
                found[each.target.key] = (*found.get(each.target.key, ()), each)
        return dict(sorted(found.items()))

    @property
    def others(self) -> tuple[Reference, ...]:
        return tuple(each for each in self.references if each.shape is not Shape.NAME)


@dataclass(slots=True, kw_only=True)
class _Planner:
    """Decides what becomes of each source; reads files and looks for keys, writes nothing."""

    namer: Namer
    bucket: Bucket
    recipe: Recipe | None
    overrides: frozenset[str]
    requests: Counter[str] = field(default_factory=Counter)
    locator: Locator = field(default_factory=Locator)

    def plan(self, groups: Sequence[Group]) -> Iterator[Item]:
        """Yield the items of some sources: one query per column, a LIST per thousand keys."""
        drafts = self._named([self._read(*group) for group in groups])
        found = find_stored(self.bucket, {key for draft in drafts for key in _looked_for(draft)})
        self.requests["class_a"] += found.lists
        self.requests["class_b"] += found.heads
        taken: dict[str, str] = {}
        for draft in drafts:
            for item in self._items(draft, found.objects):
                yield _once(item, taken)

    # Reading

    def _read(self, name: str, group: tuple[Reference, ...]) -> _Draft:
        origin = Origin.parse(name)
        recipe, limit = self._recipe(group), self.namer.max_bytes(group)
        draft = _Draft(path=origin.source, references=tuple(map(_without_root, group)))
        if not origin.root:
            return replace(draft, recipe=recipe)
        columns = [self.namer.column(reference) for reference in group]
        try:
            source = read_source(
                self.locator.locate(*origin),
                images_only=not any(column.is_named for column in columns),
                # What is to be made smaller need not be small before.
                max_bytes=max(limit, MAX_IMAGE_BYTES) if recipe else limit,
            )
        except UnusableSource as unusable:
            return replace(draft, reason=unusable.reason)
        return replace(draft, source=source, recipe=recipe if _is_picture(source) else None)

    def _recipe(self, group: Iterable[Reference]) -> Recipe | None:
        """Return how a picture is re-encoded; None for one whose name keeps its key."""
        if self.recipe is None or any(each.shape is Shape.NAME for each in group):
            return None
        rules = [self.namer.column(reference).rule for reference in group]
        return strictest(self.recipe, rules, self.overrides)

    # Naming

    def _named(self, drafts: list[_Draft]) -> list[_Draft]:
        """Return the drafts with the keys of what is stored as it is."""
        plain = [d for d in drafts if d.source is not None and d.recipe is None and d.others]
        values = self.namer.row_values(draft.others for draft in plain)
        hashes = {draft.source.sha256 for draft in plain if draft.source}
        earlier = uploads_of(hashes, self.bucket.name)
        return [
            self._with_keys(draft, values, earlier)
            if draft.source is not None and draft.recipe is None and draft.others
            else draft
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
            return replace(draft, reason=unusable.reason)
        # A source that an earlier run stored keeps its key, whatever rows have come since.
        known = earlier.get((draft.path, source.sha256), own)
        first = (known,) if known != own and self.namer.fits(draft.others, known) else ()
        return replace(draft, keys=(*first, own))

    # Comparing

    def _items(self, draft: _Draft, stored: Mapping[str, StoredObject]) -> Iterator[Item]:
        """Yield one item, or one for each name when fields know a file by several."""
        base = _item_of(draft)
        if draft.source is None or draft.recipe is not None:
            if not (draft.reason and _resolves(draft, stored)):
                yield base
            return
        others = draft.others
        for key, own in draft.by_name.items():
            there = stored.get(key)
            same = there is None or self._holds(there, draft.source)
            references = own if there is None or own[0].target.kind is Kind.LOCAL else ()
            if same:
                references, others = references + others, ()
            if references:
                yield self._compared(_of(base, references), key, draft, stored)
        if others and draft.reason:
            yield replace(base, action=Action.SKIP, reason=draft.reason, references=others)
        elif others:
            key = next((key for key in draft.keys[:-1] if key in stored), draft.keys[-1])
            yield self._compared(_of(base, others), key, draft, stored)

    def _compared(
        self, item: Item, key: str, draft: _Draft, stored: Mapping[str, StoredObject]
    ) -> Item:
        source, there = draft.source, stored.get(key)
        assert source is not None
        if _is_too_long(key):
            return replace(item, action=Action.SKIP, reason="too_long")
        named = self.namer.named(item, key, source.type, hashed=key in draft.keys)
        if there is None:
            return named
        if self._holds(there, source):
            return replace(named, action=Action.REUSE)
        return replace(named, action=Action.FAIL, reason="key_taken", rewrites=())

    def _holds(self, there: StoredObject, source: Source) -> bool:
        """Tell whether an object is the source: by MD5 where its ETag is one, else by SHA-256."""
        if there.size != source.size:
            return False
        if there.etag == md5_of(source.path):
            return True
        self.requests["class_b"] += 1
        info = head(self.bucket, there.key)
        return info is not None and info.headers.metadata.get("sha256") == source.sha256


def _of(item: Item, references: tuple[Reference, ...]) -> Item:
    """Return the item for some of its references."""
    return item if references == item.references else replace(item, references=references)


def _without_root(reference: Reference) -> Reference:
    """Return the reference without its directory: a Path takes longer to spool than the rest."""
    return reference._replace(target=reference.target._replace(root=None))


def _item_of(draft: _Draft) -> Item:
    source = draft.source
    return Item(
        action=Action.SKIP if draft.reason and source is None else Action.UPLOAD,
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


def _once(item: Item, taken: dict[str, str]) -> Item:
    """Return the item; of several with the same bytes under one key, only the first uploads."""
    if item.action is not Action.UPLOAD or not item.key:
        return item
    first = taken.setdefault(item.key, item.sha256)
    if first is item.sha256:
        return item
    if first == item.sha256:
        return replace(item, action=Action.REUSE)
    return replace(item, action=Action.FAIL, reason="key_taken", rewrites=())


def _is_picture(source: Source) -> bool:
    kind = source.type
    return kind is not None and kind.is_image and kind.ext not in _NOT_REENCODED


def make_namer(config: Config, addresses: Addresses, scope: Scope) -> Namer:
    """Return a namer that knows the columns in scope. Raises: UsageError, DatabaseError."""
    columns = discover(config, addresses, scope)
    named = {(column.database, column.model, column.field): column for column in columns}
    return Namer(config=config, addresses=addresses, columns=named)


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
    counts, databases = Counter[str](), set[str]()
    with Inventory() as inventory:
        references = iter_references(columns, addresses, scope, control=control)
        inventory.add_references(gatherer.gather(references), by=lambda each: str(origin_of(each)))
        chosen = _in_scope(planner, inventory.iter_groups(), scope, control)
        items = Spool.of(_counted(chosen, counts, databases))
    counts.update(gatherer.left)
    counts["embedded_left"] = count_embedded(columns, config, addresses, scope, control=control)
    return Migration(
        items=items,
        counts=counts,
        forecast=_forecast(counts, planner.requests, config),
        databases=frozenset(databases),
        local_media=tuple(prefix for prefix, _ in config.local_media),
    )


def _counted(items: Iterable[Item], counts: Counter[str], databases: set[str]) -> Iterator[Item]:
    for item in items:
        count_item(counts, item, applied=False)
        counts["open"] += item.is_open
        if item.to_rewrite:
            databases.update(reference.database for reference in item.references)
        yield item


def _forecast(counts: Mapping[str, int], spent: Mapping[str, int], config: Config) -> Forecast:
    return Forecast(
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
) -> Iterator[Item]:
    left = scope.limit
    for batch in batched(control.track(groups, "Hashing", unit="file"), BATCH):
        for item in planner.plan(batch):
            if not item.key.startswith(scope.prefix):
                continue
            if left is not None and item.has_work:
                if not left:
                    return
                left -= 1
            yield item
