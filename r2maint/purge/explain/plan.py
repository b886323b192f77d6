"""Why one object stays or goes: the rules of a plan, asked about single keys. Changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from r2maint.bucket import Bucket, ObjectInfo, StoredObject, head
from r2maint.conf import Config
from r2maint.control import Control
from r2maint.journal import journal
from r2maint.journal.sightings import Sightings
from r2maint.keepset.read_texts import KeepSet, Reading
from r2maint.keys import Addresses, identity, matches_glob
from r2maint.object_index.objects import Inventory
from r2maint.purge.bucket_owner import read_standing
from r2maint.purge.explain.key_history import find_history, find_sighting, known_keys
from r2maint.purge.explain.list_neighbours import (
    list_neighbours,
    needs_whole,
    originals,
    without_own,
)
from r2maint.purge.explain.naming_places import NamingPlace, Search
from r2maint.purge.explain.result import KeyExplanation
from r2maint.purge.explain.which_key import Asked, find_spellings, resolve
from r2maint.purge.judge import PurgeJudge, detected_presets, locations_of
from r2maint.purge.plan import circumstances, open_sightings, require_cells
from r2maint.purge.result import AS_CONFIGURED, PurgeOptions
from r2maint.purge.variants.renditions import Derivations
from r2maint.purge.verdict import PurgeAction, PurgeItem, PurgeVerdict
from r2maint.quarantine.manifest import is_own
from r2maint.rendering import Section, format_count


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The answers, one for each key asked about."""

    items: tuple[KeyExplanation, ...]
    notes: tuple[str, ...]

    @property
    def has_work(self) -> bool:
        return any(answer.verdict is PurgeVerdict.ORPHAN for answer in self.items)

    @property
    def headline(self) -> str:
        """The answer in a sentence; with several, each stands before its tables."""
        if len(self.items) == 1:
            return self.items[0].sentence
        return f"why {format_count(len(self.items), 'object')} stay or go."

    def sections(self) -> list[Section]:
        """Return the tables of a text report."""
        lead = len(self.items) > 1
        return [section for answer in self.items for section in answer.sections(lead=lead)]

    def summary(self) -> dict[str, Any]:
        """Return the counts by the names of the contract, and `asked` and `places`."""
        verdicts = Counter(answer.verdict for answer in self.items)
        stored = [answer.stored for answer in self.items if answer.stored]
        return {
            "asked": len(self.items),
            "objects": len(stored),
            "bytes": sum(item.size for item in stored),
            "kept": verdicts[PurgeVerdict.NAMED],
            "orphans": verdicts[PurgeVerdict.ORPHAN],
            "places": sum(len(answer.places) for answer in self.items),
        }


def explain(
    config: Config,
    addresses: Addresses,
    bucket: Bucket,
    texts: Sequence[str],
    options: PurgeOptions = AS_CONFIGURED,
    *,
    now: datetime | None = None,
    control: Control | None = None,
) -> Explanation:
    """Return for each key, URL or path what a purge makes of the object, and why.

    The verdict is that of `plan_purge` under the same options. The whole keep set is read, once for
    keys a purge may touch and once for others, and what names a key a second time; of the bucket
    only the neighbourhood of the keys is listed.
    Raises: BucketError, DatabaseError or ConfigError when anything could not be read as a whole,
    UsageError for a URL of no file, Stopped when asked to stop.
    """
    journal.require_tables([journal.home()])
    asked = [resolve(text, addresses, bucket, known_keys) for text in dict.fromkeys(texts)]
    with ExitStack() as stack:
        explainer = _Explainer(
            config=config,
            bucket=bucket,
            options=options,
            now=now or bucket.now(),
            control=control or Control(),
            inventory=stack.enter_context(Inventory()),
            others=stack.enter_context(Inventory()),
        )
        return explainer.explain(list({each.key: each for each in asked}.values()))


@dataclass(slots=True, kw_only=True)
class _Explainer:
    """One explanation on its way."""

    config: Config
    bucket: Bucket
    options: PurgeOptions
    now: datetime
    control: Control
    inventory: Inventory
    """The listing, as far as it matters: what a plan has in it."""
    others: Inventory
    """Keys that no purge looks for: they are not there, or below no managed prefix."""
    judge: PurgeJudge = field(init=False)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.judge = PurgeJudge(self.config, self.options, self.now, self.inventory)

    def explain(self, asked: list[Asked]) -> Explanation:
        self._list([each.key for each in asked])
        stored = {each.key: self._same(each.key) for each in asked}
        managed = [key for key in stored if self._exact(key, stored) and self._is_judged(key)]
        others = [key for key in stored if key not in managed]
        standing = read_standing(self.bucket)
        searches = [*self._search_managed(managed), *self._search_others(others, stored)]
        readings = [search.read() for search in searches]
        for reading in readings:
            require_cells(reading)
        places = self._places(searches)
        sources = {name: found for search in searches for name, found in search.sources.items()}
        names = circumstances(self.config, standing.owner_id, _sources(readings))
        sightings = open_sightings(self.bucket.name, names, self.now, standing, self.options)
        answers = [
            self._answer(each, stored[each.key], each.key in managed, places, sources, sightings)
            for each in asked
        ]
        # What was left out is said once, whatever was asked.
        self.notes += dict.fromkeys(note for reading in readings for note in reading.notes)
        if standing.fault:
            self.notes.append(
                f"Earlier sightings may not count, and --apply needs --adopt: {standing.fault}."
            )
        return Explanation(items=tuple(answers), notes=tuple(self.notes))

    # Looking

    def _list(self, keys: list[str]) -> None:
        if needs_whole(self.judge):
            pages: Iterable[list[StoredObject]] = self.bucket.list_pages()
        else:
            pages = list_neighbours(self.bucket, keys, self.judge)
        self.inventory.add_objects(without_own(pages), control=self.control)

    def _same(self, key: str) -> list[StoredObject]:
        """Return the objects whose keys are one to R2: more than one on other servers."""
        if is_own(key):
            info = head(self.bucket, key)
            return [_object(info)] if info else []
        below = self.inventory.iter_objects(identity(key))
        return [item for item in below if identity(item.key) == identity(key)]

    def _exact(self, key: str, stored: Mapping[str, list[StoredObject]]) -> StoredObject | None:
        same = stored[key]
        return next((item for item in same if item.key == key), same[0] if same else None)

    def _is_judged(self, key: str) -> bool:
        return self.judge.is_managed(key) and not is_own(key)

    def _search_managed(self, keys: list[str]) -> Iterator[Search]:
        if keys:
            wanted = {identity(key) for key in keys}
            for key in keys:
                wanted |= {one for start in originals(self.judge, key) for one in self._ids(start)}
            yield self._search(self.inventory, self.judge.prefixes, wanted)

    def _ids(self, start: str) -> Iterator[str]:
        """Yield the identities of the objects that are `start`, with or without an extension."""
        start = identity(start)
        for item in self.inventory.iter_objects(start):
            if identity(item.key) == start or identity(item.key).startswith(f"{start}."):
                yield identity(item.key)

    def _search_others(
        self, keys: list[str], stored: Mapping[str, list[StoredObject]]
    ) -> Iterator[Search]:
        if keys:
            absent = [StoredObject(key, 0, "", self.now) for key in keys if not stored[key]]
            there = [item for key in keys for item in stored[key]]
            longer = [o for key in keys for o in self.inventory.iter_objects(identity(key))]
            extra = filter(self._is_read, self.inventory.iter_objects())
            self.others.add_objects([[*longer, *extra, *there, *absent]], control=self.control)
            roots = {f"{key.partition('/')[0]}/" if "/" in key else key for key in keys}
            wanted = {identity(key) for key in keys}
            yield self._search(self.others, tuple(map(identity, sorted(roots))), wanted)

    def _is_read(self, item: StoredObject) -> bool:
        return any(matches_glob(item.key, one) for one in self.config.extra_references.objects)

    def _search(self, inventory: Inventory, prefixes: tuple[str, ...], wanted: set[str]) -> Search:
        return Search(
            config=self.config,
            keep_set=KeepSet(self.config, self.bucket, now=self.now),
            inventory=inventory,
            prefixes=prefixes,
            wanted=frozenset(wanted),
            now=self.now,
            control=self.control,
        )

    def _places(self, searches: list[Search]) -> dict[str, list[NamingPlace]]:
        """Return where each key is named, and, of what nothing names, where it is left out."""
        found: dict[str, list[NamingPlace]] = {}
        for search in searches:
            named = search.places()
            bare = frozenset(search.wanted - search.sources.keys())
            found |= {**search.omitted(bare, self.notes), **named}
        return found

    # Answering

    def _answer(
        self,
        asked: Asked,
        same: list[StoredObject],
        is_judged: bool,
        places: Mapping[str, list[NamingPlace]],
        sources: Mapping[str, Iterable[str]],
        sightings: Sightings,
    ) -> KeyExplanation:
        key = asked.key
        stored = self._exact(key, {key: same})
        item = self._judged(stored, same, sightings) if stored and is_judged else None
        original = self._original(key, item)
        return KeyExplanation(
            asked=asked,
            stored=stored,
            info=head(self.bucket, stored.key) if stored else None,
            item=item or self._unjudged(stored, key, is_judged),
            sources=tuple(sorted(sources.get(identity(key), ()))),
            places=tuple(places.get(identity(key), ())),
            original=original,
            original_places=tuple(places.get(original, ())),
            pattern=self._pattern(key, item),
            spellings=find_spellings(stored.key if stored else key, self.bucket),
            history=find_history(key, self.bucket),
            seen=find_sighting(
                self.bucket.name,
                key,
                etag=stored.etag if stored else "",
                modified_at=stored.modified_at if stored else None,
                circumstances=sightings.circumstances,
            ),
        )

    def _judged(
        self, stored: StoredObject, same: list[StoredObject], sightings: Sightings
    ) -> PurgeItem | None:
        """Return what a plan makes of the object; None when something names it."""
        if self.inventory.is_named(stored.key):
            return None
        return next(i for i in self.judge.judge(same, sightings) if i.object == stored)

    def _unjudged(self, stored: StoredObject | None, key: str, is_judged: bool) -> PurgeItem:
        if stored is None:
            nothing = StoredObject(key, 0, "", self.now)
            return PurgeItem(
                nothing, PurgeVerdict.ABSENT, PurgeAction.KEPT, "The bucket does not hold it."
            )
        if is_judged:
            return PurgeItem(stored, PurgeVerdict.NAMED, PurgeAction.KEPT, "Something names it.")
        reason = "It is below no managed prefix."
        if is_own(key):
            reason = "It is r2maint's own, which no prefix manages."
        return PurgeItem(stored, PurgeVerdict.UNMANAGED, PurgeAction.KEPT, reason)

    def _original(self, key: str, item: PurgeItem | None) -> str:
        """Return the named key, as an identity, of which a rendition is kept; "" for others."""
        if item is None or item.verdict is not PurgeVerdict.DERIVED:
            return ""
        named = (
            name
            for start in originals(self.judge, key)
            for name in self._ids(start)
            if self.inventory.is_named(name)
        )
        return next(named, "")

    def _pattern(self, key: str, item: PurgeItem | None) -> str:
        if item is None or item.verdict is not PurgeVerdict.DERIVED:
            return ""
        for pattern in (*self.config.derived, *detected_presets(self.config)):
            alone = Derivations((pattern,), self.config.renditions, locations_of(self.config))
            if alone.is_kept(key, self.judge.has_original):
                return pattern
        return ""


def _object(info: ObjectInfo) -> StoredObject:
    return StoredObject(
        info.key, info.size, info.etag, info.modified_at, info.headers.storage_class
    )


def _sources(readings: Iterable[Reading]) -> tuple[str, ...]:
    return next((reading.sources for reading in readings), ())
