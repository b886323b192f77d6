"""Why an object is missing: in quarantine, spelled otherwise, or moved; and what nothing proves.

Looked for only when something is missing, and then by one more reading of what was listed, a LIST
of the quarantine and one GET a manifest. That names are alike proves nothing: `icon.png` may be a
stranger's. Bytes do: a SHA-256 or ETag and size, as runs, manifests or sightings recorded them.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import chain
from typing import Any, NamedTuple

from r2maint.bucket import Bucket, StoredObject
from r2maint.bucket.r2_limits import is_md5
from r2maint.control import Control
from r2maint.errors import BucketError
from r2maint.journal.journal import home, iter_stored_bytes, require_tables
from r2maint.journal.sightings import iter_seen
from r2maint.keys import identity
from r2maint.keys.text import unescaped
from r2maint.quarantine.manifest import PREFIX, is_manifest, is_own, read_manifest
from r2maint.scratch.batches import batched
from r2maint.scratch.scratch_index import ScratchIndex
from r2maint.scratch.spool import Spool
from r2maint.verify.repairs.choose import Mender
from r2maint.verify.repairs.repair import RepairKind
from r2maint.verify.result import Finding
from r2maint.verify.verdicts.outcomes import Outcome

_BATCH = 500


class _Record(NamedTuple):
    """What was written down of the bytes a key held."""

    sha256: str
    etag: str
    size: int
    """Bytes; 0 where nobody wrote it down."""


class _Copy(NamedTuple):
    """Where an object's copy lies."""

    key: str
    copy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Explainer:
    """Finds out what missing references could mean. Writes nothing."""

    bucket: Bucket
    objects: Callable[[], Iterable[StoredObject]]
    """What was listed; read once more."""
    mender: Mender
    control: Control
    remarks: list[str]
    """Told what could not be read."""

    @property
    def _proves(self) -> bool:
        """Whether bytes are compared: that takes the journal, and a HEAD where a hash is known."""
        return bool(self.mender.kinds & {RepairKind.MOVED, RepairKind.RESPELLED})

    def explained(self, findings: Iterable[Finding]) -> Iterator[Finding]:
        """Yield the findings; those of missing objects last, with what became of each."""
        lost = Spool[Finding]()
        for batch in batched(findings, _BATCH):
            yield from (each for each in batch if not _is_lost(each))
            lost.extend(each for each in batch if _is_lost(each))
        if len(lost):
            with Clues() as clues:
                self._gather(lost, clues)
                for batch in batched(lost, _BATCH):
                    yield from self._explain(batch, clues)

    # Looking

    def _gather(self, lost: Spool[Finding], clues: Clues) -> None:
        clues.want(Clue.KEY, chain.from_iterable(map(_ids, lost)))
        clues.want(Clue.SPELLING, (_loose(each.key) for each in lost))
        clues.want(Clue.STEM, (_stem(each.key) for each in lost))
        self._read_quarantine(clues)
        if self._proves:
            self._read_records(lost, clues)
        for item in self.control.track(self.objects(), "Looking for what is missing"):
            if item.size and not is_own(item.key):
                self._meet(item, clues)

    def _meet(self, item: StoredObject, clues: Clues) -> None:
        clues.add(Clue.SPELLING, _loose(item.key), item)
        clues.add(Clue.STEM, _stem(item.key), item)
        if self._proves:
            clues.add(Clue.CONTENT, f"{item.etag} {item.size}", item)
            clues.add(Clue.ETAG, item.etag, item)
            clues.add(Clue.SIZE, str(item.size), item)

    def _read_quarantine(self, clues: Clues) -> None:
        """Learn which missing keys have a copy: the newest manifest tells the last of several."""
        manifests: list[StoredObject] = []
        for page in self.bucket.list_pages(PREFIX):
            self.control.check()
            manifests += (item for item in page if is_manifest(item.key))
            clues.want(Clue.COPY, (item.key for item in page if not is_manifest(item.key)))
        for manifest in manifests:
            self.control.check()
            try:
                self._read_manifest(manifest, clues)
            except BucketError as error:
                if error.ends_run:
                    raise
                self.remarks.append(f"{error.message} What it holds counts as missing.")

    def _read_manifest(self, manifest: StoredObject, clues: Clues) -> None:
        at = manifest.modified_at.timestamp()
        _, entries = read_manifest(self.bucket, manifest.key)
        for entry in entries:
            name = identity(entry.key)
            if entry.size and clues.wants(Clue.KEY, name):
                record = _Record("", entry.etag, entry.size)
                clues.keep_newest(Clue.RECORD, name, at, record)
                if clues.wants(Clue.COPY, entry.copy):
                    clues.keep_newest(Clue.COPY, name, at, _Copy(entry.key, entry.copy))

    def _read_records(self, lost: Spool[Finding], clues: Clues) -> None:
        """Learn what bytes the missing keys held last, and look for these."""
        require_tables([home()])
        for line in self.control.track(iter_stored_bytes(self.bucket.name), "Reading the journal"):
            if clues.wants(Clue.KEY, name := identity(line.key)):
                record = _Record(line.sha256, line.etag, line.size)
                clues.keep_newest(Clue.RECORD, name, line.at.timestamp(), record)
        for batch in batched(lost, _BATCH):
            keys = chain.from_iterable(map(_ids, batch))
            for key, etag, at in iter_seen(self.bucket.name, keys):
                if is_md5(etag):  # that of a multipart upload says less without a size
                    record = _Record("", etag, 0)
                    clues.keep_newest(Clue.RECORD, identity(key), at.timestamp(), record)
        for finding in lost:
            if record := _newest(finding, clues, Clue.RECORD):
                what, value = _sought(record)
                clues.want(what, (value,))

    # Judging

    def _explain(self, batch: list[Finding], clues: Clues) -> Iterator[Finding]:
        proven = self._proven(batch, clues) if self._proves else {}
        for finding in batch:
            yield self._explain_one(finding, clues, proven.get(finding.key, []))

    def _explain_one(self, finding: Finding, clues: Clues, proven: list[StoredObject]) -> Finding:
        if copy := _newest(finding, clues, Clue.COPY):
            return self._quarantined(finding, copy)
        # What was listed under the key itself went since then.
        own = _ids(finding)
        proven = [each for each in proven if identity(each.key) not in own]
        alike = [
            each
            for each in clues.found(Clue.SPELLING, _loose(finding.key))
            if identity(each.key) not in own
        ]
        if len(alike) == 1:
            return self._respelled(finding, alike[0], is_proven=alike[0] in proven)
        if proven:
            return self._moved(finding, proven[0])
        return self._advised(finding, alike or clues.found(Clue.STEM, _stem(finding.key)))

    def _quarantined(self, finding: Finding, copy: _Copy) -> Finding:
        return finding._replace(
            outcome=Outcome.QUARANTINED,
            detail="the object was deleted, and its copy is in quarantine",
            advice="Let --repair quarantined bring it back.",
            repair=self.mender.restoring(finding.reference, copy.key, copy.copy),
        )

    def _respelled(self, finding: Finding, stored: StoredObject, *, is_proven: bool) -> Finding:
        found = finding._replace(
            outcome=Outcome.RESPELLED, detail=f"the bucket holds {stored.key!r}"
        )
        if is_proven or unescaped(stored.key) == unescaped(finding.key):
            kinds = (RepairKind.RESPELLED, *((RepairKind.MOVED,) if is_proven else ()))
            return found._replace(
                stored=stored,
                advice="Let --repair respelled name that key.",
                repair=self.mender.rewriting(finding.reference, stored, *kinds),
            )
        return found._replace(
            detail=f"{found.detail}, which differs in upper and lower case",
            advice="Nothing proves that it is the same: look at it, then correct the value.",
        )

    def _moved(self, finding: Finding, stored: StoredObject) -> Finding:
        return finding._replace(
            detail=f"no such object in the bucket; the bytes it had lie at {stored.key!r}",
            advice="Let --repair moved name that key.",
            repair=self.mender.rewriting(finding.reference, stored, RepairKind.MOVED),
        )

    def _advised(self, finding: Finding, alike: list[StoredObject]) -> Finding:
        if not alike:
            return finding
        others = " and elsewhere" if len(alike) > 1 else ""
        hint = "" if self._proves else " --repair moved looks for a proof."
        return finding._replace(
            advice=f"A file of that name lies at {alike[0].key!r}{others}; nothing proves that it"
            f" is the same.{hint}",
        )

    # Proofs

    def _proven(self, batch: list[Finding], clues: Clues) -> dict[str, list[StoredObject]]:
        """Return, by missing key, the objects that hold the bytes it held last, likeliest first."""
        records = {
            finding.key: (record, clues.found(*_sought(record)))
            for finding in batch
            if (record := _newest(finding, clues, Clue.RECORD))
        }
        hashed = {item.key for record, found in records.values() if record.sha256 for item in found}
        hashes = {
            result.request: result.value.headers.metadata.get("sha256")
            for result in self.bucket.head_many(sorted(hashed))
            if result.value is not None
        }
        return {
            key: sorted(
                (i for i in found if not record.sha256 or hashes.get(i.key) == record.sha256),
                key=lambda item: (_name(item.key) != _name(key), item.key),
            )
            for key, (record, found) in records.items()
        }


def _is_lost(finding: Finding) -> bool:
    return finding.outcome is Outcome.MISSING and bool(finding.key)


def _ids(finding: Finding) -> list[str]:
    """Return the keys a reference may mean, likeliest first, as they are compared."""
    target = finding.reference.target
    return [identity(key) for key in (target.key, *target.spellings)]


def _newest(finding: Finding, clues: Clues, what: Clue) -> Any:
    """Return what is known of the first of its keys of which anything is; None without any."""
    return next((found[0] for name in _ids(finding) if (found := clues.found(what, name))), None)


def _sought(record: _Record) -> tuple[Clue, str]:
    """Return what tells the objects that may hold these bytes."""
    if record.sha256:
        return Clue.SIZE, str(record.size)
    if record.size:
        return Clue.CONTENT, f"{record.etag} {record.size}"
    return Clue.ETAG, record.etag


def _loose(key: str) -> str:
    """Return what is the same for keys that differ in case or percent-encoding alone."""
    return unescaped(key).casefold()


def _name(key: str) -> str:
    return identity(key).rpartition("/")[2]


def _stem(key: str) -> str:
    name = _name(key)
    return name.rpartition(".")[0] or name


MAX_FOUND = 20
"""Of each value; more of them would tell no more."""
_BITS = 1 << 24
_SCHEMA = """
CREATE TABLE wanted (what INTEGER, value TEXT, PRIMARY KEY (what, value)) WITHOUT ROWID;
CREATE TABLE found (what INTEGER, value TEXT, at REAL, payload BLOB);
CREATE INDEX found_value ON found (what, value);
"""


class Clue(int, Enum):
    """What a value is."""

    KEY = 0
    """A key, by identity."""
    SPELLING = 1
    """A key without its encoding, in lower case."""
    STEM = 2
    """A key's last segment without its extension."""
    CONTENT = 3
    """ETag and size."""
    ETAG = 4
    """An MD5, of an object whose size nobody wrote down."""
    SIZE = 5
    COPY = 6
    """Wanted: a key in quarantine. Found, by the key it was deleted from: a copy."""
    RECORD = 7
    """Found: what was written down of the bytes of a key."""


class Clues(ScratchIndex):
    """A temporary index of values and what has them; a context manager. One thread at a time."""

    def __init__(self) -> None:
        super().__init__(_SCHEMA)
        self._bits = bytearray(_BITS // 8)
        """Which values may be wanted: most of a listing is not, and needs no query."""

    def want(self, what: Clue, values: Iterable[str]) -> None:
        """Look for these from now on."""
        rows = ((what, value) for value in self._marked(what, values))
        self._db.executemany("INSERT OR IGNORE INTO wanted VALUES (?, ?)", rows)

    def _marked(self, what: Clue, values: Iterable[str]) -> Iterator[str]:
        for value in values:
            place = hash((what, value)) % _BITS
            self._bits[place >> 3] |= 1 << (place & 7)
            yield value

    def wants(self, what: Clue, value: str) -> bool:
        """Tell whether a value is looked for."""
        place = hash((what, value)) % _BITS
        if not self._bits[place >> 3] & 1 << (place & 7):
            return False
        sql = "SELECT 1 FROM wanted WHERE what = ? AND value = ?"
        return self._db.execute(sql, (what, value)).fetchone() is not None

    def add(self, what: Clue, value: str, found: Any) -> None:
        """Store what has a wanted value; of each value the first twenty."""
        if self.wants(what, value):
            sql = (
                "INSERT INTO found SELECT :what, :value, 0, :found"
                " WHERE (SELECT count(*) FROM found WHERE what = :what AND value = :value) < :most"
            )
            row = {"what": what, "value": value, "found": pickle.dumps(found), "most": MAX_FOUND}
            self._db.execute(sql, row)

    def keep_newest(self, what: Clue, value: str, at: float, found: Any) -> None:
        """Store what is known of a value as of a time, in place of what is older."""
        sql = "SELECT max(at) FROM found WHERE what = ? AND value = ?"
        (newest,) = self._db.execute(sql, (what, value)).fetchone()
        if newest is None or newest <= at:
            self._db.execute("DELETE FROM found WHERE what = ? AND value = ?", (what, value))
            row = (what, value, at, pickle.dumps(found))
            self._db.execute("INSERT INTO found VALUES (?, ?, ?, ?)", row)

    def found(self, what: Clue, value: str) -> list[Any]:
        """Return what has this value, in the order it was added."""
        sql = "SELECT payload FROM found WHERE what = ? AND value = ? ORDER BY rowid"
        return [pickle.loads(row[0]) for row in self._db.execute(sql, (what, value))]
