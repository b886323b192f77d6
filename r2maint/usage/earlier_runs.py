"""What earlier runs found of objects: pictures re-encoded, and orphans a purge saw.

Both live in tables of r2maint's own, and nothing depends on them: where one is missing, nothing is
known.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.db.models import Count, Model, Q, QuerySet, Sum
from django.db.models.functions import Coalesce

from r2maint.database.connections import reading, table_names
from r2maint.journal import journal
from r2maint.models import Encoding, Sighting
from r2maint.usage.savings import EncodedPictures

_PAGE = 2000


def iter_encoded(bucket: str) -> Iterator[tuple[str, str]]:
    """Yield (key, ETag) of each picture a re-encoding made or left. Raises: DatabaseError."""
    return _versions(Encoding, bucket)


def iter_sighted(bucket: str) -> Iterator[tuple[str, str]]:
    """Yield (key, ETag) of what the last complete plan of a purge found orphaned.

    Raises: DatabaseError.
    """
    return _versions(Sighting, bucket)


def measure_encoded(bucket: str) -> EncodedPictures:
    """Return what re-encoding made of the originals it tried. Raises: DatabaseError."""
    rows = _rows(Encoding, bucket)
    if rows is None:
        return EncodedPictures()
    # Of what was made elsewhere its metadata tell, but not from how many bytes.
    left = Q(bytes_after=None, made_by="") & ~Q(fingerprint="") & ~Q(reason="already")
    tried = rows.filter(left | Q(bytes_after__isnull=False))
    after = Sum(Coalesce("bytes_after", "bytes_before"))
    with reading(journal.home(), Encoding._meta.db_table):
        found = tried.aggregate(pictures=Count("pk"), before=Sum("bytes_before"), after=after)
    return EncodedPictures(
        pictures=found["pictures"],
        bytes_before=int(found["before"] or 0),
        bytes_after=int(found["after"] or 0),
    )


def _rows(model: type[Model], bucket: str) -> QuerySet[Any] | None:
    if model._meta.db_table not in table_names(journal.home()):
        return None
    rows: QuerySet[Any] = QuerySet(model, using=journal.home()).filter(bucket=bucket)
    return rows


def _versions(model: type[Model], bucket: str) -> Iterator[tuple[str, str]]:
    rows = _rows(model, bucket)
    last = ""
    while rows is not None:
        # By digest: of (bucket, digest) there is an index, without which each page sorts them all.
        page = rows.filter(key_digest__gt=last).order_by("key_digest")
        with reading(journal.home(), model._meta.db_table):
            found = list(page.values_list("key_digest", "key", "etag")[:_PAGE])
        if not found:
            return
        last = found[-1][0]
        yield from ((key, etag) for _, key, etag in found)
