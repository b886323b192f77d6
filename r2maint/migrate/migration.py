"""Move local media that rows name into the bucket, and point the rows at it.

One upload per source however many rows name it. Bytes are hashed for the plan and again when they
are sent, the server checks them, and only then do rows change: by compare-and-swap, journalled.
Nothing local is removed, nothing in the bucket is overwritten.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from r2maint.batching import batched
from r2maint.bucket import IMMUTABLE, Bucket, Headers, ObjectInfo, Upload
from r2maint.conf import Config
from r2maint.control import Control
from r2maint.errors import BucketError, PreconditionFailed, Stopped
from r2maint.inventory import Inventory
from r2maint.journal import Journal
from r2maint.keys import (
    DEFAULT_TEMPLATE,
    Addresses,
    Kind,
    key_from_template,
    row_names,
    shared_template,
)
from r2maint.locations import is_served
from r2maint.migrate.embedded import count_embedded
from r2maint.migrate.items import Action, Item, Migration, count_items, holds_same_bytes
from r2maint.models import Change, ChangeKind, ChangeState
from r2maint.references.columns import Column, discover, row_values
from r2maint.references.reading import Reference, Scope, Shape, iter_references
from r2maint.references.swap import Rewrite, Swapped, swap
from r2maint.sources import (
    MAX_IMAGE_BYTES,
    Source,
    UnusableSource,
    is_as_it_was,
    is_file,
    locate_file,
    read_source,
)
from r2maint.spool import Spool

BATCH = 100
"""Sources uploaded before their rows are rewritten."""


_Row = tuple[str, str, str]
"""Database, model and primary key."""


# Planning


@dataclass(frozen=True, slots=True, kw_only=True)
class _Planner:
    """Decides what becomes of each source; reads files and HEADs keys, writes nothing."""

    config: Config
    addresses: Addresses
    bucket: Bucket
    columns: Mapping[tuple[str, str, str], Column]
    """By database, model and field."""

    def column(self, reference: Reference) -> Column:
        return self.columns[reference.database, reference.model, reference.field]

    def plan(self, groups: Sequence[tuple[Reference, ...]]) -> Iterator[Item]:
        """Yield the items of some sources: one query per column, one HEAD per key."""
        values = self._row_values(groups)
        found = [item for group in groups for item in self._items(group, values)]
        usable = [item.key for item in found if item.action is Action.UPLOAD]
        heads = iter(self.bucket.head_many(usable))
        for item in found:
            yield self._compared(item, next(heads).value) if item.key else item

    def _row_values(self, groups: Sequence[tuple[Reference, ...]]) -> dict[_Row, dict[str, str]]:
        """Read the columns that key templates ask for, for sources that one row names."""
        wanted: dict[tuple[str, str, str], list[str]] = {}
        for group in groups:
            if len(_rows(group)) == 1:
                first = group[0]
                wanted.setdefault((first.database, first.model, first.field), []).append(first.pk)
        values: dict[_Row, dict[str, str]] = {}
        for (database, model, name), pks in wanted.items():
            column = self.columns[database, model, name]
            names = row_names(column.rule.key or DEFAULT_TEMPLATE)
            rows = row_values(column, pks, names) if names else {}
            for pk, row in rows.items():
                values.setdefault((database, model, pk), {}).update(row)
        return values

    def _items(
        self,
        group: tuple[Reference, ...],
        values: Mapping[_Row, Mapping[str, str]],
    ) -> Iterator[Item]:
        """Yield one item, or one for each name when FileFields know a file by several."""
        names = sorted({ref.target.key for ref in group if ref.shape is Shape.NAME})
        target = group[0].target
        path = str((target.root or Path()) / target.key)
        try:
            source = self._read(group)
            for name in names[1:]:
                own = tuple(
                    ref for ref in group if ref.shape is Shape.NAME and ref.target.key == name
                )
                yield self._item(path, source, own, name, hashed=False)
                group = tuple(ref for ref in group if ref not in own)
            key = names[0] if names else self._key(source, group, values)
            yield self._item(path, source, group, key, hashed=not names)
        except UnusableSource as unusable:
            yield Item(action=Action.SKIP, source=path, reason=unusable.reason, references=group)

    def _read(self, group: tuple[Reference, ...]) -> Source:
        columns = [self.column(reference) for reference in group]
        limits = [column.rule.max_bytes for column in columns if column.rule.max_bytes]
        target = group[0].target
        assert target.root is not None
        return read_source(
            locate_file(target.root, target.key),
            images_only=not any(column.is_named for column in columns),
            max_bytes=min(limits, default=MAX_IMAGE_BYTES),
        )

    def _key(
        self,
        source: Source,
        group: tuple[Reference, ...],
        values: Mapping[_Row, Mapping[str, str]],
    ) -> str:
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
        lengths = [self.column(reference).max_length for reference in group]
        room = min((length for length in lengths if length is not None), default=None)
        try:
            return key_from_template(
                template,
                named,
                stem=source.path.stem,
                sha256=source.sha256,
                ext=source.type.ext if source.type else source.path.suffix.lower(),
                fits=lambda key: room is None or len(self.addresses.url_for(key)) <= room,
            )
        except ValueError as error:
            raise UnusableSource("too_long", str(error)) from error

    def _item(
        self, path: str, source: Source, group: tuple[Reference, ...], key: str, *, hashed: bool
    ) -> Item:
        # FileField names alone need no URL, and so no public address.
        only_names = all(ref.shape is Shape.NAME for ref in group)
        without = only_names and not self.addresses.public_url
        url = "" if without else self.addresses.url_for(key)
        return Item(
            action=Action.UPLOAD,
            source=path,
            key=key,
            url=url,
            bytes=source.size,
            sha256=source.sha256,
            md5=source.md5,
            modified_ns=source.modified_ns,
            headers=Headers(
                content_type=source.type.content_type if source.type else "",
                cache_control=IMMUTABLE if hashed else self.config.cache_control,
                metadata={"sha256": source.sha256},
            ),
            references=group,
            rewrites=tuple(
                Rewrite(reference=ref, new=url, key=key, sha256=source.sha256)
                for ref in group
                if ref.shape is not Shape.NAME
            ),
        )

    def _compared(self, item: Item, stored: ObjectInfo | None) -> Item:
        if stored is None:
            return item
        return _proof(replace(item, action=Action.REUSE), stored)


def _rows(group: Iterable[Reference]) -> set[_Row]:
    return {(reference.database, reference.model, reference.pk) for reference in group}


def plan_migration(
    config: Config, addresses: Addresses, bucket: Bucket, *, scope: Scope, control: Control
) -> Migration:
    """Return what a migration would upload and rewrite.

    Reads every local source in scope once to hash it; one Class B request per usable source.
    Raises: UsageError, DatabaseError, BucketError, Stopped.
    """
    columns = discover(config, addresses, scope)
    planner = _Planner(
        config=config,
        addresses=addresses,
        bucket=bucket,
        columns={(column.database, column.model, column.field): column for column in columns},
    )
    counts = Counter[str]()
    with Inventory() as inventory:
        references = iter_references(columns, addresses, scope, control=control)
        local = (each for each in references if each.target.kind is Kind.LOCAL)
        public = _without_private(local, columns, addresses, counts)
        inventory.add_references(map(_as_spelled, public), by=_source_path)
        groups = (references for _, references in inventory.join_references())
        items = Spool.of(_in_scope(planner, groups, scope, control))
    counts.update(count_items(items, applied=False))
    counts["embedded_left"] = count_embedded(columns, config, addresses, scope, control=control)
    prefixes = tuple(prefix for prefix, _ in config.local_media)
    return Migration(items=items, counts=counts, local_media=prefixes)


def _without_private(
    references: Iterable[Reference],
    columns: Iterable[Column],
    addresses: Addresses,
    left: Counter[str],
) -> Iterator[Reference]:
    """Yield the references but for names in storages whose address LOCAL_MEDIA does not serve.

    Nothing becomes public unasked: such files move where `FIELDS` names their field. How many names
    stay is counted as "private_left".
    """
    private = {
        (column.database, column.model, column.field)
        for column in columns
        if column.local_root
        and not column.is_named
        and not is_served(column.local_root, column.base_url, addresses)
    }
    for each in references:
        if each.shape is Shape.NAME and (each.database, each.model, each.field) in private:
            left["private_left"] += 1
        else:
            yield each


def _source_path(reference: Reference) -> str:
    return f"{reference.target.root}/{reference.target.key}"


def _as_spelled(reference: Reference) -> Reference:
    """Return the reference with the one reading of its value that is a file, if any is.

    "/media/50%20off.png" may mean the file "50 off.png", or one whose name holds "%20".
    """
    target = reference.target
    for key in (target.key, *target.spellings):
        if target.root and is_file(target.root, key):
            return reference._replace(target=target._replace(key=key, spellings=()))
    return reference


def _in_scope(
    planner: _Planner,
    groups: Iterable[tuple[Reference, ...]],
    scope: Scope,
    control: Control,
) -> Iterator[Item]:
    left = scope.limit
    for batch in batched(control.track(groups, "Hashing", unit="file"), BATCH):
        for item in planner.plan(batch):
            if not item.key.startswith(scope.prefix):
                continue
            if left is not None and (item.action is Action.UPLOAD or item.rewrites):
                if not left:
                    return
                left -= 1
            yield item


# Applying


def apply_migration(
    plan: Migration, bucket: Bucket, journal: Journal, *, control: Control
) -> Migration:
    """Upload, then rewrite, batch by batch; return what happened.

    A stop request ends it between two batches; the next run takes up the rest.
    Raises: BucketError and DatabaseError that every further item would meet too; LeaseHeld.
    """
    stops: list[Stopped] = []
    items = Spool.of(_applied(plan, bucket, journal, control, stops))
    counts = count_items(items, applied=True)
    for name in ("to_upload", "to_rewrite", "embedded_left", "private_left"):
        counts[name] = plan.counts[name]
    return replace(
        plan, items=items, counts=counts, applied=True, stopped=stops[0] if stops else None
    )


def _applied(
    plan: Migration, bucket: Bucket, journal: Journal, control: Control, stops: list[Stopped]
) -> Iterator[Item]:
    try:
        tracked = control.track(plan.items, "Migrating", len(plan.items), unit="file")
        for batch in batched(tracked, BATCH):
            stored = _store(batch, bucket, journal)
            yield from _rewrite([_unless_changed(item) for item in stored], journal, control)
    except Stopped as stop:
        stops.append(stop)


def _store(batch: Sequence[Item], bucket: Bucket, journal: Journal) -> list[Item]:
    """Upload what is new and prove what is not; return each item as it stands then.

    The journal names the keys before their bytes are sent, so that no purge takes an object whose
    rows are still to be rewritten.
    """
    uploads = [item for item in batch if item.action is Action.UPLOAD]
    changes = [
        Change(kind=ChangeKind.UPLOAD, key=item.key, sha256=item.sha256, bytes=item.bytes)
        for item in uploads
    ]
    journal.intend(changes)
    results = bucket.put_many(map(_upload, uploads))
    sent = [_sent(item, result.error) for item, result in zip(uploads, results, strict=True)]
    pairs = list(zip(sent, changes, strict=True))
    for wanted, state in ((True, ChangeState.DONE), (False, ChangeState.CONFLICT)):
        ended = (change for item, change in pairs if (item.action is Action.UPLOAD) is wanted)
        journal.settle(ended, state)
    rest = [item for item in batch if item.action is not Action.UPLOAD]
    return _proved(sent + rest, bucket)


def _upload(item: Item) -> Upload:
    return Upload(key=item.key, body=Path(item.source), headers=item.headers, sha256=item.sha256)


def _sent(item: Item, error: BucketError | None) -> Item:
    if error is None:
        return item
    if isinstance(error, PreconditionFailed):
        return replace(item, action=Action.REUSE)
    return _failed(item, error.code)


def _proved(items: Sequence[Item], bucket: Bucket) -> list[Item]:
    """Fail every reused key that does not hold the item's bytes at this moment."""
    reused = [item.key for item in items if item.action is Action.REUSE]
    heads = iter(bucket.head_many(reused))
    return [
        _proof(item, next(heads).value) if item.action is Action.REUSE else item for item in items
    ]


def _proof(item: Item, stored: ObjectInfo | None) -> Item:
    if stored is None:
        return _failed(item, "gone")
    return item if holds_same_bytes(stored, item) else _failed(item, "key_taken")


def _unless_changed(item: Item) -> Item:
    """Fail an item whose file was written again: rows must go on naming the newer bytes."""
    if item.action in (Action.UPLOAD, Action.REUSE) and not is_as_it_was(
        Path(item.source), size=item.bytes, modified_ns=item.modified_ns
    ):
        return _failed(item, "changed")
    return item


def _failed(item: Item, reason: str) -> Item:
    return replace(item, action=Action.FAIL, reason=reason, rewrites=())


def _rewrite(items: Sequence[Item], journal: Journal, control: Control) -> Iterator[Item]:
    """Point the rows at what is stored; yield each item with the rewrites that were done.

    A stop is raised after the items, so that what was swapped before it is told.
    """
    wanted = [rewrite for item in items for rewrite in item.rewrites]
    outcomes: dict[Reference, Swapped] = {}
    stopped: Stopped | None = None
    try:
        for rewrite, how in swap(wanted, journal, control=control):
            outcomes[rewrite.reference] = how
    except Stopped as stop:
        stopped = stop
    yield from (_swapped(item, outcomes) for item in items)
    if stopped:
        raise stopped


def _swapped(item: Item, outcomes: Mapping[Reference, Swapped]) -> Item:
    """Return the item with what was done; rewrites a stop left undone count as nothing."""
    ended = [(r, outcomes[r.reference]) for r in item.rewrites if r.reference in outcomes]
    done = tuple(rewrite for rewrite, how in ended if how is Swapped.DONE)
    changed = sum(how in (Swapped.CHANGED, Swapped.GONE) for _, how in ended)
    refused = [how.value for _, how in ended if how in _REFUSED]
    reason = refused[0] if refused else item.reason
    return replace(item, rewrites=done, changed=changed, refused=len(refused), reason=reason)


_REFUSED = (Swapped.TOO_LONG, Swapped.BUSY, Swapped.REFUSED)
