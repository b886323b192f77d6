"""The answer about one key: a sentence, the rule, the places that name it, and its past."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from r2maint.bucket import ObjectInfo, StoredObject
from r2maint.keepset.read_texts import JOURNAL
from r2maint.models import ChangeKind
from r2maint.purge.explain.key_history import Event, Seen, stopped_naming
from r2maint.purge.explain.naming_places import NamingPlace
from r2maint.purge.explain.which_key import Asked, Spelling
from r2maint.purge.verdict import PurgeItem, PurgeVerdict
from r2maint.rendering import ReportColumn, Section, format_bytes, format_count

_PLACES = (
    ReportColumn("place", "Named in"),
    ReportColumn("text", "As"),
    ReportColumn("admin_url", "Admin"),
    ReportColumn("until", "Until"),
    ReportColumn("reason", "Left out because"),
)
_SPELLINGS = (ReportColumn("key", "Spelled alike"), ReportColumn("differs", "Differs in"))
_HISTORY = (
    ReportColumn("at", "At"),
    ReportColumn("event", "What happened"),
    ReportColumn("model", "Model"),
    ReportColumn("pk", "Row"),
    ReportColumn("field", "Field"),
    ReportColumn("new", "New value"),
)
_SHORT = "%Y-%m-%d %H:%M UTC"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyExplanation:
    """What is known of one key."""

    asked: Asked
    stored: StoredObject | None
    info: ObjectInfo | None
    """What a HEAD tells."""
    item: PurgeItem
    """What a plan makes of it."""
    sources: tuple[str, ...]
    """What names it, as plans name sources."""
    places: tuple[NamingPlace, ...]
    """Where exactly; also what NOT_REFERENCES leaves out, where nothing else names it."""
    original: str
    """Of a rendition, the named object it is kept for."""
    original_places: tuple[NamingPlace, ...]
    pattern: str
    """The one of DERIVED that says so; "" for one of a preset nobody configured."""
    spellings: tuple[Spelling, ...]
    history: tuple[Event, ...]
    seen: Seen | None

    @property
    def verdict(self) -> PurgeVerdict:
        return self.item.verdict

    @property
    def key(self) -> str:
        """The key as the bucket spells it."""
        return self.stored.key if self.stored else self.asked.key

    @property
    def rule(self) -> str:
        """What decides, in a word: that of the verdict, or of the journal where it alone names."""
        if self.verdict is not PurgeVerdict.NAMED or set(self.sources) != {JOURNAL}:
            return self.verdict.value
        return "undo_window" if any(place.until for place in self.places) else "unfinished_run"

    def as_dict(self) -> dict[str, Any]:
        stopped = stopped_naming(self.history, self.key)
        return {
            **self.item.as_dict(),
            "key": self.key,
            "bytes": self.stored.size if self.stored else None,
            "modified_at": self.stored.modified_at if self.stored else None,
            "asked": self.asked.text,
            "answer": self.sentence,
            "rule": self.rule,
            "etag": self.stored.etag if self.stored else None,
            "storage_class": self.stored.storage_class if self.stored else None,
            "content_type": self.info.headers.content_type if self.info else None,
            "pattern": self.pattern or None,
            "original": self.original or None,
            "sources": list(self.sources),
            "places": [place.as_dict() for place in self.places],
            "original_places": [place.as_dict() for place in self.original_places],
            "spellings": [each.as_dict() for each in self.spellings],
            "sightings": self.seen.as_dict() if self.seen else None,
            "history": [event.as_dict() for event in self.history],
            "stopped_naming": stopped.as_dict() if stopped else None,
            "restore": self.restore or None,
        }

    # In words

    @property
    def sentence(self) -> str:
        """The answer in one sentence."""
        told = {
            PurgeVerdict.NAMED: self._named,
            PurgeVerdict.ABSENT: self._absent,
            PurgeVerdict.UNMANAGED: self._unmanaged,
            PurgeVerdict.PROTECTED: self._shielded,
            PurgeVerdict.DERIVED: self._derived,
            PurgeVerdict.KIN: self._shielded,
        }.get(self.verdict, self._unnamed)
        return told()

    def _named(self) -> str:
        if self.rule == "unfinished_run":
            run = self.places[0].label if self.places else "a run"
            return f"{self.key!r} is kept for {run}, which has not ended yet."
        if self.rule == "undo_window":
            closing = {_time(place.until): place for place in self.places if place.until}
            until, place = max(closing.items())
            told = f"an undo of {place.label} needs it until {until}"
            return f"{self.key!r} is kept only by history: {told}."
        return f"{self.key!r} is kept: {self._namers()}."

    def _absent(self) -> str:
        told = f"{self.key!r} is not in the bucket"
        if self.sources:
            told += f", although {self._namers()}"
        if self.restore:
            told += f"; {self._taken()}, and {self.restore} brings it back"
        return f"{told}."

    def _unmanaged(self) -> str:
        told = f"{self.key!r} is never purged: {_inner(self.item.reason)}"
        return f"{told} And {self._namers()}." if self.sources else f"{told} Nothing names it."

    def _shielded(self) -> str:
        return f"{self.key!r} is kept: {_inner(self.item.reason)}"

    def _derived(self) -> str:
        pattern = f" ({self.pattern})" if self.pattern else ""
        kept = f"{self.original!r}, which is named" if self.original else "another object"
        return f"{self.key!r} is kept: it is a rendition{pattern} of {kept}."

    def _unnamed(self) -> str:
        left_out = sum(not place.counts for place in self.places)
        told = f"Nothing names {self.key!r}"
        if left_out:
            told += f" but {format_count(left_out, 'place')} that NOT_REFERENCES leaves out"
        if self.verdict is PurgeVerdict.ORPHAN:
            return f"{told}: the next purge removes it."
        return f"{told}; it is kept until {_time(self.item.due_at)}: {_inner(self.item.reason)}"

    def _namers(self) -> str:
        counted = [place for place in self.places if place.counts]
        if len(counted) == 1:
            return f"{counted[0].label} names it"
        if counted:
            return f"{len(counted):,} places name it, such as {counted[0].label}"
        told = ", ".join(filter(None, self.sources))
        return f"{told} names it" if told else "its key cannot be told from text"

    @property
    def restore(self) -> str:
        """The command that brings back what a purge took; "" where none does."""
        if self.stored is not None:
            return ""
        copies = (event for event in self.history if event.has_copy)
        copy = next((event for event in copies if event.change.key == self.key), None)
        return copy.undo if copy else ""

    def _taken(self) -> str:
        """Return what a purge did last, which the history holds where there is a copy."""
        kinds = (ChangeKind.DELETE, ChangeKind.QUARANTINE)
        event = next(event for event in self.history if event.change.kind in kinds)
        return f"{event.sentence} at {_time(event.change.at)}"

    # As tables

    def sections(self, *, lead: bool) -> Iterator[Section]:
        """Yield the tables of a text report, led by the sentence where a headline has no room."""
        columns = (ReportColumn("fact", "About"), ReportColumn("told", self.key))
        rows = [{"fact": fact, "told": told} for fact, told in self._facts() if told]
        yield Section(lead=self.sentence if lead else "", columns=columns, rows=rows)
        yield Section(columns=_PLACES, rows=[place.as_dict() for place in self.places])
        if self.original_places:
            rows = [place.as_dict() for place in self.original_places]
            yield Section(title=f"{self.original}:", columns=_PLACES, rows=rows)
        yield Section(columns=_SPELLINGS, rows=[each.as_dict() for each in self.spellings])
        yield Section(columns=_HISTORY, rows=[event.as_dict() for event in self.history])

    def _facts(self) -> Iterator[tuple[str, str]]:
        yield "asked", self.asked.remark
        if item := self.stored:
            yield "size", format_bytes(item.size)
            yield "modified", _time(item.modified_at)
            yield "type", self.info.headers.content_type if self.info else ""
            yield "class", item.storage_class
            yield "ETag", item.etag
        yield "rule", self.rule
        yield "due", _time(self.item.due_at) if self.item.due_at else ""
        yield "seen orphaned", self._sightings()
        if stopped := stopped_naming(self.history, self.key):
            change = stopped.change
            where = f"{change.model} {change.row} {change.field}"
            yield "last named", f"in {where}, rewritten by {stopped.command} {change.run_id}"
        yield "restore", self.restore

    def _sightings(self) -> str:
        if self.seen is None:
            return ""
        told = f"since {_time(self.seen.first_seen_at)}, last {_time(self.seen.last_seen_at)}"
        if self.seen.counts:
            return told
        return f"{told}; does not count: the object, the settings or the sources have changed"


def _time(time: datetime | None) -> str:
    return time.strftime(_SHORT) if time else "later"


def _inner(sentence: str) -> str:
    return sentence[0].lower() + sentence[1:]
