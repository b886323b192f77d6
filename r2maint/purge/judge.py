"""The verdict on each object that nothing names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, cast

from django.apps import apps
from django.core.files.storage import storages

from r2maint.bucket import StoredObject
from r2maint.conf import Config
from r2maint.journal.sightings import Sightings
from r2maint.keepset.read_texts import storage_locations
from r2maint.keys import identity, matches_glob
from r2maint.object_index.objects import Inventory, outermost
from r2maint.purge.result import PurgeOptions
from r2maint.purge.variants.kin import kin_starts
from r2maint.purge.variants.rendition_presets import APPS, SQUEEZING
from r2maint.purge.variants.renditions import Derivations
from r2maint.purge.verdict import PurgeAction, PurgeItem, PurgeVerdict


@dataclass(slots=True)
class PurgeJudge:
    """The rules of one plan: whoever asks about one key asks the same."""

    config: Config
    options: PurgeOptions
    now: datetime
    inventory: Inventory
    derivations: Derivations = field(init=False)
    squeezes: bool = field(init=False)
    """Renditions may be named without the spaces of their originals."""

    def __post_init__(self) -> None:
        self.derivations = derivations_of(self.config)
        presets = (*self.config.derived, *detected_presets(self.config))
        self.squeezes = not SQUEEZING.isdisjoint(presets)

    @property
    def prefixes(self) -> tuple[str, ...]:
        """The outermost managed ones; everything, where none are set."""
        return outermost(self.config.managed_prefixes or ("",))

    @property
    def grace(self) -> timedelta:
        return self.config.grace if self.options.grace is None else self.options.grace

    def judge(self, batch: Sequence[StoredObject], sightings: Sightings) -> list[PurgeItem]:
        """Return what is made of each of some unnamed objects, in order."""
        shielded = {item.key: found for item in batch if (found := self._shield(item.key))}
        shielded |= self._kin([item.key for item in batch if item.key not in shielded])
        bare = [item for item in batch if item.key not in shielded]
        seen = sightings.first_seen(bare) if self.options.second_look else {}
        return [
            PurgeItem(item, *shielded[item.key])
            if item.key in shielded
            else self._aged(item, seen.get(item.key))
            for item in batch
        ]

    def is_managed(self, key: str) -> bool:
        return identity(key).startswith(self.prefixes)

    def _shield(self, key: str) -> tuple[PurgeVerdict, PurgeAction, str] | None:
        if pattern := self.protection(key):
            return PurgeVerdict.PROTECTED, PurgeAction.KEPT, f"It matches {pattern}."
        if self.is_rendition(key):
            return (
                PurgeVerdict.DERIVED,
                PurgeAction.KEPT,
                "It is a rendition of an object that is kept.",
            )
        return None

    def _kin(self, keys: Sequence[str]) -> dict[str, tuple[PurgeVerdict, PurgeAction, str]]:
        """Return what is made of the images that lie beside a named object as a variant would."""
        if self.options.include_kin:
            return {}
        starts = {key: tuple(kin_starts(key)) for key in keys}
        named = self.inventory.named_among({each for some in starts.values() for each in some})
        return {
            key: (
                PurgeVerdict.KIN,
                PurgeAction.KEPT,
                f"It may be a variant of {start!r}, which is named: --include-kin or DERIVED"
                " decides.",
            )
            for key, some in starts.items()
            if (start := next((each for each in some if each in named), ""))
        }

    def protection(self, key: str) -> str:
        """Return the setting and the pattern that protect a key, or ""."""
        # What is read for references goes with no purge: the next one would miss what it names.
        read = self.config.extra_references.objects
        shields: Mapping[str, Iterable[str]] = {
            "PROTECTED": self.config.protected,
            "EXTRA_REFERENCES['objects']": read,
        }
        for setting, patterns in shields.items():
            for pattern in patterns:
                if matches_glob(key, pattern):
                    return f"{setting} {pattern!r}"
        return ""

    def is_rendition(self, key: str) -> bool:
        """Tell whether an object is made of another one that is kept."""
        return bool(self.derivations) and self.derivations.is_kept(key, self.has_original)

    def has_original(self, start: str) -> bool:
        """Tell whether an object stays whose key is `start`, with or without an extension."""
        if self.inventory.has_named(start):
            return True
        if self.squeezes and self.inventory.has_named_squeezed(start):
            return True
        # What is kept for another reason than a name has its renditions too.
        others = self.inventory.iter_spelled(start)
        return any(not self.is_managed(key) or self.protection(key) for key in others)

    def _aged(self, item: StoredObject, first_seen: datetime | None) -> PurgeItem:
        old_at = item.modified_at + self.grace
        seen_at = (first_seen or self.now) + self.grace if self.options.second_look else old_at
        due_at = max(old_at, seen_at)
        if old_at > self.now:
            reason = "It is younger than the grace period."
            return PurgeItem(item, PurgeVerdict.TOO_YOUNG, PurgeAction.KEPT, reason, due_at)
        if self.options.second_look and (first_seen is None or seen_at > self.now):
            reason = "First seen orphaned too recently; due once that is a grace period ago."
            return PurgeItem(item, PurgeVerdict.WAITING, PurgeAction.KEPT, reason, due_at)
        return PurgeItem(item, PurgeVerdict.ORPHAN, PurgeAction.PLAN, "Nothing names it.", due_at)


def derivations_of(config: Config) -> Derivations:
    """Return the patterns of DERIVED, and the presets of installed apps it does not mention."""
    patterns = (*config.derived, *detected_presets(config))
    if not patterns:
        return Derivations(())
    return Derivations(patterns, config.renditions, locations_of(config))


def detected_presets(config: Config) -> tuple[str, ...]:
    """Return the presets whose app is installed and which DERIVED does not mention."""
    return tuple(
        name for name, app in APPS.items() if name not in config.derived and apps.is_installed(app)
    )


def locations_of(config: Config) -> tuple[str, ...]:
    """Return the prefixes below which storages keep files, thumbnails' own storages too."""
    backends = cast(Mapping[str, Mapping[str, Any]], storages.backends)
    told = ((one.get("OPTIONS") or {}).get("location") for one in backends.values())
    named = {location for location in told if isinstance(location, str)}
    return tuple(sorted(named.union(storage_locations(config))))
