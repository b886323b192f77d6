"""Copies of what is about to be deleted, a manifest of them in the bucket, and the way back.

    .r2maint/quarantine/<token>/<digest>       a copy of one version of an object, with its headers
                                               and storage class
    .r2maint/quarantine/<token>/manifest-<n>   one JSON line a copy; enough to undo without any
                                               database

The token is random, because a public bucket serves whatever somebody can name.
"""

from __future__ import annotations

import json
import secrets
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from r2maint import keys
from r2maint.bucket import (
    Bucket,
    Download,
    Headers,
    ObjectInfo,
    Result,
    StoredObject,
    Upload,
    head,
    put,
)
from r2maint.bucket.own_objects import read_json
from r2maint.bucket.r2_limits import Digest, can_exist, is_md5, measure_bytes, measure_file
from r2maint.control import Control
from r2maint.errors import BucketError, NoSuchKey, ObjectTooLarge, PreconditionFailed
from r2maint.scratch.spool import Spool

PREFIX = ".r2maint/quarantine/"
MAX_COPY_BYTES = 4_995 * 2**20
"""What one CopyObject can copy. Source: https://developers.cloudflare.com/r2/platform/limits/"""

SCHEMA = 1
MAX_MANIFEST_BYTES = 8 * 2**30
"""Ten million copies, with keys and headers of usual lengths."""
_MAX_LINE_BYTES = 2**17
"""A key of 1,024 bytes, metadata of 8,192 and some headers, all of it escaped."""
_MAX_RUN_ID = 40
_MANIFEST = Headers(content_type="application/jsonl", cache_control="no-store")
MANIFEST = "/manifest-"
_RUN = "run"
"""Metadata of a manifest: a HEAD tells whose it is."""


class Quarantined(NamedTuple):
    """One object and where its copy lies."""

    key: str
    copy: str
    """ "" when there is none (`--hard`)."""
    etag: str
    """Of the object, as listed."""
    size: int
    """Bytes."""
    modified_at: str
    """ISO 8601 UTC, as listed."""
    headers: Mapping[str, Any]

    @property
    def object(self) -> StoredObject:
        """The object as it was listed."""
        modified_at = datetime.fromisoformat(self.modified_at)
        storage_class = self.headers["storage_class"]
        return StoredObject(self.key, self.size, self.etag, modified_at, storage_class)


def new_token() -> str:
    """Return the name of a new quarantine, which nobody can guess."""
    return secrets.token_hex(16)


def copy_key(token: str, item: StoredObject) -> str:
    """Return where the copy of an object lies: the same for the same version, without its name."""
    return f"{PREFIX}{token}/{version_digest(item)}"


def version_digest(item: StoredObject) -> str:
    """Return what names the copy of one version of an object."""
    version = (item.key, item.etag, item.modified_at.isoformat(timespec="seconds"))
    return keys.digest(chr(0).join(version))


def quarantined(item: StoredObject, copy: str, headers: Headers) -> Quarantined:
    """Return the entry of one version of an object."""
    return Quarantined(
        key=item.key,
        copy=copy,
        etag=item.etag,
        size=item.size,
        modified_at=item.modified_at.isoformat(),
        headers=as_entry_headers(headers),
    )


def as_entry_headers(headers: Headers) -> dict[str, Any]:
    """Return headers as an entry has them."""
    return {**{name: getattr(headers, name) for name in _NAMES}, "metadata": dict(headers.metadata)}


_NAMES = tuple(each.name for each in fields(Headers) if each.name != "metadata")


# Manifests


def write_manifest(
    bucket: Bucket, token: str, run_id: str, entries: Spool[Quarantined] | Sequence[Quarantined]
) -> str:
    """Store a new manifest, whole or not at all, and return its key."""
    headers = replace(_MANIFEST, metadata={_RUN: run_id})
    with tempfile.TemporaryDirectory(prefix="r2maint-") as directory:
        path = Path(directory) / "manifest"
        with path.open("w", encoding="utf-8") as file:
            head_line = {"schema": SCHEMA, "run_id": run_id, "entries": len(entries)}
            file.write(json.dumps(head_line) + "\n")
            file.writelines(json.dumps(entry._asdict()) + "\n" for entry in entries)
        number = 1
        while True:
            key = f"{PREFIX}{token}{MANIFEST}{number:04d}"
            # Looked at first, too: there are servers that ignore If-None-Match.
            if head(bucket, key) is None and _is_put(bucket, key, path, headers):
                return key
            # An earlier execution of the same run wrote that one, and it stays valid.
            number += 1


def _is_put(bucket: Bucket, key: str, path: Path, headers: Headers) -> bool:
    try:
        put(bucket, Upload(key=key, body=path, headers=headers))
    except PreconditionFailed:
        return False
    return True


def list_manifests(bucket: Bucket) -> Iterator[str]:
    """Yield the keys of all manifests in the bucket. A few Class A requests a quarantine.

    The copies are leapt over: their names, hexadecimal, come before every manifest of theirs.
    """
    position = PREFIX
    while position:
        page = bucket.list_page(start_after=position)
        own = [item.key for item in page.objects if item.key.startswith(PREFIX)]
        yield from filter(is_manifest, own)
        is_last = len(own) < len(page.objects) or not page.truncated
        position = "" if is_last or not own else max(own[-1], quarantine_of(own[-1]) + MANIFEST)


def quarantine_of(key: str) -> str:
    """Return the beginning that all copies and manifests of one run share."""
    return PREFIX + key.removeprefix(PREFIX).partition("/")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A manifest, and whose it is."""

    key: str
    run_id: str
    """"" when it cannot be read."""
    written_at: datetime


def find_manifests(bucket: Bucket) -> Iterator[Manifest]:
    """Yield every manifest, in the order of its key. One Class B request each."""
    for result in bucket.head_many(list_manifests(bucket)):
        if isinstance(result.error, NoSuchKey):
            continue  # its run has just removed it
        if result.value is None:
            raise result.error or BucketError(f"A manifest gave no answer: {result.request!r}.")
        info = result.value
        run_id = info.headers.metadata.get(_RUN, "")
        yield Manifest(key=info.key, run_id=run_id, written_at=info.modified_at)


def is_manifest(key: str) -> bool:
    """Tell a manifest from the copies beside it."""
    return MANIFEST in key


def read_manifest(bucket: Bucket, key: str) -> tuple[str, Iterator[Quarantined]]:
    """Return the run a manifest belongs to and its entries, all of copies beside it.

    Whoever may write to the bucket may have written it: sizes are bounded, types are checked, and
    an entry leads from a copy of this quarantine to a key that is not r2maint's own.
    Raises: NoSuchKey; BucketError for one that is damaged, also while the entries are read.
    """
    lines = _lines(bucket, key)
    with _readable(key):
        run_id, count = _read_head(next(lines, b""))
    return run_id, _entries(lines, key, count)


def _read_head(line: bytes) -> tuple[str, int | None]:
    """Return the id of the run and the number of entries, which older manifests do not tell."""
    told = read_json(line)
    if not isinstance(told, dict) or told.get("schema") != SCHEMA:
        raise ValueError("its schema is another one")
    run_id, count = told.get("run_id"), told.get("entries")
    if not (isinstance(run_id, str) and run_id.isprintable() and 0 < len(run_id) <= _MAX_RUN_ID):
        raise ValueError("it names no run")
    if count is not None and type(count) is not int:
        raise ValueError("it does not say how many entries it has")
    return run_id, count


def _entries(lines: Iterator[bytes], key: str, count: int | None) -> Iterator[Quarantined]:
    read = 0
    with _readable(key):
        for line in lines:
            yield _read_entry(line, quarantine_of(key))
            read += 1
        if count not in (None, read):
            raise ValueError(f"{read:,} of {count:,} entries are there")


def _read_entry(line: bytes, quarantine: str) -> Quarantined:
    told = read_json(line)
    if not isinstance(told, dict) or set(told) != set(Quarantined._fields):
        raise ValueError("an entry has other fields")
    texts = (told["key"], told["copy"], told["etag"], told["modified_at"])
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("an entry has fields of other types")
    if type(told["size"]) is not int or told["size"] < 0:
        raise ValueError("an entry has no size")
    _require_headers(told["headers"])
    if datetime.fromisoformat(told["modified_at"]).tzinfo is None:
        raise ValueError("an entry has a time without its zone")
    if is_own(told["key"]) or not can_exist(told["key"]):
        raise ValueError("an entry leads to a key that no object of the bucket can have")
    folder, _, name = told["copy"].rpartition("/")
    if folder != quarantine or not name or is_manifest(told["copy"]):
        raise ValueError("an entry tells of a copy that does not lie beside it")
    return Quarantined(**told)


def _require_headers(told: object) -> None:
    if not isinstance(told, dict) or not set(told) <= {*_NAMES, "metadata"}:
        raise ValueError("an entry has other headers")
    metadata = told.get("metadata", {})
    texts = [value for name, value in told.items() if name != "metadata"]
    if not isinstance(metadata, dict):
        raise ValueError("an entry has no metadata")
    if not all(isinstance(text, str) for text in (*texts, *metadata.values())):
        raise ValueError("an entry has headers of other types")


@contextmanager
def _readable(key: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, ObjectTooLarge) as error:
        why = error.message if isinstance(error, ObjectTooLarge) else _reason(error)
        raise BucketError(
            f"A manifest cannot be read: {key!r} ({why}).",
            "It is damaged, or another version of r2maint, or somebody else, wrote it. Nothing is"
            " restored by it.",
        ) from error


def _reason(error: ValueError) -> str:
    """Return why bytes are no manifest; of errors of the JSON reader, without what it read."""
    return "it is no JSON" if type(error) is not ValueError else str(error)


def _lines(bucket: Bucket, key: str) -> Iterator[bytes]:
    with tempfile.TemporaryDirectory(prefix="r2maint-") as directory:
        path = Path(directory) / "manifest"
        bucket.download(key, path, max_bytes=MAX_MANIFEST_BYTES)
        with path.open("rb") as file:
            while line := file.readline(_MAX_LINE_BYTES + 1):
                if len(line) > _MAX_LINE_BYTES:
                    raise ValueError("a line is too long")
                yield line


# The way back

NO_COPY = "It was deleted without a copy."
GONE = "Its copy is gone from quarantine."
DIFFERS = "Its copy in quarantine does not hold the bytes that were recorded."
THERE = "It is there already."
TAKEN = "The key is taken by another object."

SMALL_BYTES = 8 * 2**20
"""Larger objects are not read into memory."""
WINDOW_BYTES = 64 * 2**20
"""In memory at once, at most."""
WINDOW_OBJECTS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """How the restoring of one object ended."""

    key: str
    size: int
    done: bool
    """The object is there, with the bytes it had."""
    reason: str
    """Why it is not, or that it was there already."""


def restore(bucket: Bucket, one: Lost) -> Restored:
    """Put a quarantined object back under its key, with metadata and type; overwrites nothing.

    Nothing is put back unless the copy holds the bytes that were recorded. One Class B request and
    one Class A; the bytes pass through a temporary file.
    """
    key = one.key
    if not one.copy:
        return Restored(key=key, size=0, done=False, reason=NO_COPY)
    with tempfile.TemporaryDirectory(prefix="r2maint-") as directory:
        path = Path(directory) / "object"
        try:
            info = bucket.download(one.copy, path)
            if not _is_recorded(one, info, measure_file(path)):
                return Restored(key=key, size=0, done=False, reason=DIFFERS)
            put(bucket, Upload(key=key, body=path, headers=_headers(one, info)))
        except NoSuchKey:
            return Restored(key=key, size=0, done=False, reason=GONE)
        except PreconditionFailed:
            return _taken(key, info, head(bucket, key))
        except BucketError as error:
            if error.ends_run:
                raise
            return Restored(key=key, size=0, done=False, reason=error.message)
    return Restored(key=key, size=info.size, done=True, reason="")


class Lost(Protocol):
    """An object that is to come back."""

    @property
    def key(self) -> str: ...
    @property
    def copy(self) -> str:
        """Where its copy lies; "" when there is none."""

    @property
    def size(self) -> int | None:
        """Bytes; None when nobody knows."""

    @property
    def etag(self) -> str:
        """As recorded; "" when nobody knows."""

    @property
    def headers(self) -> Mapping[str, Any]:
        """As recorded, see `as_entry_headers`; empty where those of the copy count."""


class LostObject(NamedTuple):
    """A `Lost` object of which no more is recorded."""

    key: str
    copy: str
    size: int | None
    etag: str
    headers: Mapping[str, Any] = {}


def restore_all(bucket: Bucket, lost: Iterable[Lost], *, control: Control) -> Iterator[Restored]:
    """Put every object back under its key, with metadata and type; yield how each ended, in order.

    One Class B request and one Class A each. Raises: BucketError that the next would meet too.
    """
    for window in _windows(control.track(lost, "Restoring")):
        if _is_small(window[0]):
            yield from _restore_window(bucket, window)
        else:
            yield from (restore(bucket, one) for one in window)


def _windows(lost: Iterable[Lost]) -> Iterator[list[Lost]]:
    """Yield what is restored at once: small objects of different keys, or a single large one."""
    window: list[Lost] = []
    names: set[str] = set()
    size = 0
    for one in lost:
        name, more = keys.identity(one.key), (one.size or 0) if _is_small(one) else WINDOW_BYTES
        is_full = len(window) == WINDOW_OBJECTS or size + more > WINDOW_BYTES
        # Of two versions of one object the first comes back, and the second finds its key taken.
        if window and (is_full or name in names):
            yield window
            window, names, size = [], set(), 0
        window.append(one)
        names.add(name)
        size += more
    if window:
        yield window


def _is_small(one: Lost) -> bool:
    return bool(one.copy) and one.size is not None and one.size <= SMALL_BYTES


def _restore_window(bucket: Bucket, window: Sequence[Lost]) -> Iterator[Restored]:
    copies = list(bucket.get_many((one.copy for one in window), max_bytes=SMALL_BYTES))
    found = [
        (one, result.value)
        for one, result in zip(window, copies, strict=True)
        if result.value is not None
        and _is_recorded(one, result.value.info, measure_bytes(result.value.body))
    ]
    uploads = (
        Upload(key=one.key, body=copy.body, headers=_headers(one, copy.info)) for one, copy in found
    )
    stored = {result.request.key: result.error for result in bucket.put_many(uploads)}
    clashes = [key for key, error in stored.items() if isinstance(error, PreconditionFailed)]
    there = {result.request: result.value for result in bucket.head_many(clashes)}
    for one, result in zip(window, copies, strict=True):
        copy, error = result.value, stored.get(one.key)
        if copy is None:
            yield _unread(one, result)
        elif one.key not in stored:
            yield Restored(key=one.key, size=0, done=False, reason=DIFFERS)
        elif isinstance(error, PreconditionFailed):
            yield _taken(one.key, copy.info, there[one.key])
        else:
            reason = error.message if error else ""
            yield Restored(key=one.key, size=copy.info.size, done=not error, reason=reason)


def _is_recorded(one: Lost, copy: ObjectInfo, read: Digest) -> bool:
    """Tell whether what was read of a copy has the recorded size, and each MD5 that is known.

    The ETag of an object sent in parts is no MD5; that of its copy may be one.
    """
    sizes = {copy.size} if one.size is None else {copy.size, one.size}
    checksums = {etag for etag in (copy.etag, one.etag) if is_md5(etag)}
    return sizes == {read.size} and checksums <= {read.md5}


def _headers(one: Lost, copy: ObjectInfo) -> Headers:
    return Headers(**one.headers) if one.headers else copy.headers


def _unread(one: Lost, result: Result[str, Download]) -> Restored:
    error = result.error or BucketError("The bucket gave no answer.")
    reason = GONE if error.code == "no_such_key" else error.message
    return Restored(key=one.key, size=0, done=False, reason=reason)


def _taken(key: str, copy: ObjectInfo, there: ObjectInfo | None) -> Restored:
    """Tell what a taken key means: the very bytes are a success, such as of an earlier attempt."""
    same = there is not None and (there.size, there.etag) == (copy.size, copy.etag)
    reason = THERE if same else TAKEN
    return Restored(key=key, size=copy.size, done=same, reason=reason)


def is_own(key: str) -> bool:
    """Tell whether a key is r2maint's own, which no prefix manages."""
    return keys.identity(key).startswith(".r2maint/")
