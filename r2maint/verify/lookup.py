"""Who names this? One URL or key, and every reference that means it, in any spelling."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from r2maint.bucket import Bucket, StoredObject
from r2maint.bucket.find import find_stored
from r2maint.errors import UsageError
from r2maint.keys import Addresses, Kind, host_of, identity, order, redact
from r2maint.keys.text import URL
from r2maint.references.column import Column
from r2maint.references.reference import Reference, Shape
from r2maint.rendering import format_bytes, format_count
from r2maint.verify.result import Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is asked about: a key, a local file, or another host's URL."""

    asked: str
    kind: Kind
    keys: tuple[str, ...] = ()
    """What the text may mean, likeliest first."""
    root: Path | None = None
    """LOCAL: the directory below which the file lies."""

    @classmethod
    def of_key(cls, key: str) -> Subject:
        return cls(asked=key, kind=Kind.BUCKET, keys=(key,))

    @classmethod
    def of_url(cls, url: str, addresses: Addresses) -> Subject:
        """Raises: UsageError for what is neither a URL nor a path of local media."""
        target = addresses.locate(url)
        if target is None:
            raise UsageError(
                f"--url names nothing that has an address here: {redact(url)!r}.",
                "Give a whole URL, or a path below a prefix of LOCAL_MEDIA; --key takes a key.",
            )
        keys = (target.key, *target.spellings) if target.key else ()
        return cls(asked=url, kind=target.kind, keys=keys, root=target.root)


class Lookup:
    """One search: which references mean the subject, and what the bucket holds of it."""

    def __init__(self, subject: Subject, bucket: Bucket) -> None:
        """Sends one HEAD for each key the subject may mean; the first one there is meant."""
        self._subject = subject
        self._bucket = bucket
        self._stored: StoredObject | None = None
        self._keys = set(map(identity, subject.keys))
        self._others: set[str] = set()
        """Other keys that the references found may mean; as few as there are spellings."""
        if subject.kind is Kind.BUCKET:
            self._find()

    def _find(self) -> None:
        found = find_stored(self._bucket, self._subject.keys).objects
        key = next((key for key in self._subject.keys if key in found), self._subject.keys[0])
        self._stored = found.get(key)
        self._keys = {identity(key)}

    def columns(self, columns: Iterable[Column]) -> tuple[Column, ...]:
        """Return the columns to read: another host's URL is looked for in every one of them."""
        if self._subject.kind is not Kind.EXTERNAL:
            return tuple(columns)
        return tuple(replace(column, is_named=True) for column in columns)

    def meaning(self, references: Iterable[Reference]) -> Iterator[Reference]:
        """Yield the references that may mean the subject."""
        for reference in references:
            if self._may_mean(reference):
                target = reference.target
                self._others.update((target.key, *target.spellings) if target.key else ())
                yield reference

    def pages(self) -> Iterator[list[StoredObject]]:
        """Yield, in place of a listing, what is stored under the keys these references mean."""
        found = find_stored(self._bucket, self._others).objects.values()
        yield sorted(found, key=lambda each: order(each.key))

    def answers(self, findings: Iterable[Finding]) -> Iterator[Finding]:
        """Yield the findings about the subject, without those that mean another object by it."""
        for finding in findings:
            keys = {finding.key, finding.stored.key if finding.stored else finding.key}
            if finding.stored is None or not self._keys.isdisjoint(map(identity, keys)):
                yield finding._replace(is_answer=True)

    @property
    def asked(self) -> str:
        """What was asked about, without credentials."""
        return redact(self._subject.asked)

    def remark(self, count: int) -> str:
        """Return the answer in a sentence, `count` values having been found."""
        if count:
            names = format_count(count, "value names", "values name")
            return f"{names} {self.asked!r}.{self._held()}"
        return (
            f"No value in scope names {self.asked!r}.{self._held()} Only values that a command may"
            " rewrite are looked at; purge_orphans reads every other text too."
        )

    def _held(self) -> str:
        if self._subject.kind is not Kind.BUCKET:
            return ""
        if self._stored is None:
            return " The bucket does not hold it."
        return f" The bucket holds {self._stored.key!r} ({format_bytes(self._stored.size)})."

    def _may_mean(self, reference: Reference) -> bool:
        target = reference.target
        if self._subject.kind is Kind.EXTERNAL:
            is_url = target.kind is Kind.EXTERNAL
            return is_url and _comparable(reference.value) == _comparable(self._subject.asked)
        if self._subject.kind is Kind.LOCAL and target.root != self._subject.root:
            return False
        is_key = target.kind is Kind.BUCKET or reference.shape is Shape.NAME
        if self._subject.kind is Kind.BUCKET and not is_key:
            return False
        return any(identity(key) in self._keys for key in (target.key, *target.spellings))


def _comparable(url: str) -> str:
    """Return what two URLs share that ask the same of the same host."""
    text = url.strip().partition("#")[0]
    match = URL.match(text)
    return f"{host_of(text)}{text[match.end() :] or '/'}" if match else text
