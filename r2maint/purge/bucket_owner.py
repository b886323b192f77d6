"""Whether this database and this bucket belong together.

The bucket holds `.r2maint/owner`, the database a row: both name one random owner, and agree on a
nonce that every applied run renews. A copy of the database that stays behind, a restored backup or
another database altogether fails to agree. What the bucket holds is salted, because a public bucket
serves it.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

from django.db import connections

from r2maint.bucket import Bucket, Headers, Upload, get, head, put
from r2maint.bucket.own_objects import MAX_BYTES, read_fields
from r2maint.database.connections import reading
from r2maint.database.postgresql import system_identifier
from r2maint.errors import NoSuchKey, ObjectTooLarge
from r2maint.journal import journal
from r2maint.models import Identity

KEY = ".r2maint/owner"

_HEADERS = Headers(content_type="application/json", cache_control="no-store")
_UNREADABLE = "the bucket's marker cannot be read"


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """What the object in the bucket says."""

    owner_id: str
    salt: str
    nonce: str
    """Digest of the nonce in the database."""
    next: str = ""
    """Digest of the nonce a renewal is about to write to the database; "" between renewals."""
    system: str = ""
    """Digest of PostgreSQL's system identifier; "" elsewhere."""
    host: str = ""
    """Digest of the database's host and port, as the settings name them."""
    name: str = ""
    """Digest of the database's name."""

    def digest(self, text: str) -> str:
        return hashlib.sha256(f"{self.salt}:{text}".encode()).hexdigest() if text else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How bucket and database stand to each other."""

    owner_id: str = ""
    """The one both agree on; "" when they do not."""
    fault: str = ""
    """Why they do not, in a sentence; "" when they do."""
    is_first: bool = False
    """Neither knows of any owner."""
    warnings: tuple[str, ...] = ()
    """What changed although they agree, in sentences: nothing refuses because of it."""
    marker: Marker | None = None
    etag: str = ""
    """Of the marker; "" when there is none."""


def read_standing(bucket: Bucket, *, listed: bool = True) -> Standing:
    """Return how the bucket and the home database stand to each other; writes nothing.

    `listed` is False when a listing of the bucket has shown that there is no marker.
    """
    row = Identity.objects.using(journal.home()).filter(bucket=bucket.name).first()
    try:
        download = get(bucket, KEY, max_bytes=MAX_BYTES) if listed else None
    except NoSuchKey:
        download = None
    except ObjectTooLarge:
        there = head(bucket, KEY)
        return Standing(fault=_UNREADABLE, etag=there.etag if there else "")
    if download is None:
        fault = "the bucket's marker is gone" if row else "the bucket has no marker yet"
        return Standing(fault=fault, is_first=row is None)
    marker = _read(download.body)
    standing = Standing(marker=marker, etag=download.info.etag)
    if fault := _fault(marker, row):
        return replace(standing, fault=fault)
    assert marker is not None
    warnings = tuple(_warnings(marker))
    return replace(standing, owner_id=marker.owner_id, warnings=warnings)


def adopt(bucket: Bucket, standing: Standing) -> Standing:
    """Make the bucket belong to this database, whatever it belonged to, under a new owner id.

    Raises: PreconditionFailed when the marker changed since `standing` was read.
    """
    nonce = secrets.token_hex(16)
    marker = Marker(owner_id=secrets.token_hex(16), salt=secrets.token_hex(16), nonce="")
    marker = _placed(replace(marker, nonce=marker.digest(nonce)))
    etag = _put(bucket, marker, standing.etag)
    _store(bucket.name, marker.owner_id, nonce)
    return Standing(owner_id=marker.owner_id, marker=marker, etag=etag)


def renew(bucket: Bucket, standing: Standing) -> Standing:
    """Give the database a new nonce; the old one holds too until `settle`, so a kill harms nothing.

    Raises: PreconditionFailed when the marker changed since `standing` was read.
    """
    assert standing.marker is not None
    marker, nonce = standing.marker, secrets.token_hex(16)
    row = Identity.objects.using(journal.home()).get(bucket=bucket.name)
    marker = _placed(replace(marker, nonce=marker.digest(row.nonce), next=marker.digest(nonce)))
    etag = _put(bucket, marker, standing.etag)
    _store(bucket.name, marker.owner_id, nonce)
    return replace(standing, marker=marker, etag=etag)


def settle(bucket: Bucket, standing: Standing) -> None:
    """Let only the new nonce hold, once the run that renewed it is done."""
    if standing.marker is not None and standing.marker.next:
        marker = replace(standing.marker, nonce=standing.marker.next, next="")
        _put(bucket, marker, standing.etag)


def _fault(marker: Marker | None, row: Identity | None) -> str:
    if marker is None:
        return _UNREADABLE
    if row is None or row.owner_id != marker.owner_id:
        return "the bucket belongs to another database"
    if marker.digest(row.nonce) not in (marker.nonce, marker.next):
        return "another copy of this database has worked on the bucket since"
    return _fault_of_server(marker)


def _fault_of_server(marker: Marker) -> str:
    system = _system() if marker.system else ""
    if marker.system == marker.digest(system):
        return ""
    if not system:
        return "this role may not ask PostgreSQL which server it is (pg_control_system)"
    return "this is another database server than the one the bucket belongs to"


def _warnings(marker: Marker) -> Iterator[str]:
    """Yield what a move of the database changes too, and so proves nothing."""
    for what, before, now in zip(
        ("host", "name"), (marker.host, marker.name), _place(), strict=True
    ):
        if before and before != marker.digest(now):
            yield (
                f"The database's {what} is another than in the last applied run. The marker of the"
                " bucket still fits: this is that database, or a copy that nobody has used yet."
            )


def _placed(marker: Marker) -> Marker:
    """Return the marker with where the database is now."""
    host, name = map(marker.digest, _place())
    return replace(marker, system=marker.digest(_system()), host=host, name=name)


def _place() -> tuple[str, str]:
    given = connections[journal.home()].settings_dict
    host, port = str(given.get("HOST") or "localhost"), str(given.get("PORT") or "")
    return f"{host}:{port}", str(given["NAME"])


def _read(body: bytes) -> Marker | None:
    try:
        return read_fields(Marker, body)
    except ValueError:
        return None


def _put(bucket: Bucket, marker: Marker, etag: str) -> str:
    body = json.dumps(asdict(marker), sort_keys=True).encode()
    upload = Upload(key=KEY, body=body, headers=_HEADERS, if_absent=not etag, if_match=etag)
    return put(bucket, upload).etag


def _store(bucket: str, owner_id: str, nonce: str) -> None:
    Identity.objects.using(journal.home()).update_or_create(
        bucket=bucket,
        defaults={"owner_id": owner_id, "nonce": nonce, "renewed_at": journal.now()},
    )


def _system() -> str:
    with reading(journal.home()):
        return system_identifier(connections[journal.home()])
