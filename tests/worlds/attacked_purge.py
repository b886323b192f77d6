"""A project whose purge is attacked: orphans and named objects on an S3 server, and proofs.

All of it runs in processes of their own, as in `attacked_project`: its `configure` once,
then `forked` for each thing that is done.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.worlds import attacked_project

TYPE, METADATA = "image/webp", {"made-by": "the application"}
AT_ONCE = ("--grace", "0", "--no-second-look", "--max-delete", "100%", "--adopt")
_TABLES = ("oddities_article", "r2maint_change", "r2maint_run", "r2maint_identity")


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How many objects there are."""

    orphans: int
    named: int


def prepare(sizes: Sizes) -> None:
    """Make an empty bucket, fill it, and name some of it; nothing earlier is left."""
    from django.db import connections

    from r2maint.bucket import Headers, Upload

    with connections["default"].cursor() as cursor:
        for table in (*_TABLES, "r2maint_sighting"):
            cursor.execute(f"DELETE FROM {table}")
    bucket = attacked_project.open_bucket()
    bucket._client.create_bucket(
        Bucket=bucket.name, CreateBucketConfiguration={"LocationConstraint": "auto"}
    )
    from tests.oddities.models import Article

    named = [f"submissions/{number:05d}/named.webp" for number in range(sizes.named)]
    Article.objects.bulk_create(Article(body=f"See https://any.example/{key}") for key in named)
    doomed = [f"submissions/{number:05d}/left+{number}.webp" for number in range(sizes.orphans)]
    headers = Headers(content_type=TYPE, metadata=METADATA)
    uploads = (Upload(key=key, body=key.encode(), headers=headers) for key in (*named, *doomed))
    assert not [each.error for each in bucket.put_many(uploads) if each.error]


def purge(*arguments: str) -> str:
    return attacked_project.call("purge_orphans", *AT_ONCE, "--apply", "--no-input", *arguments)


def listed() -> str:
    """Return key -> ETag of everything that is not r2maint's own."""
    return json.dumps({key: etag for key, etag in _all() if not key.startswith(".r2maint/")})


def _all() -> Iterator[tuple[str, str]]:
    for page in attacked_project.open_bucket().list_pages():
        yield from ((item.key, item.etag) for item in page)


def uncovered(before: dict[str, str]) -> Iterator[str]:
    """Yield what is gone and in no manifest, or has no whole copy where the manifest says."""
    client, name = attacked_project.open_bucket()._client, attacked_project.open_bucket().name
    there = dict(_all())
    entries = {
        entry["key"]: entry
        for key in there
        if "/manifest-" in key
        for entry in _entries(client.get_object(Bucket=name, Key=key)["Body"].read())
    }
    for key in before.keys() - there.keys():
        if key not in entries:
            yield f"{key} is gone, and no manifest has it"
        elif entries[key]["copy"] not in there:
            yield f"{key} is gone, and its copy is not there"
        else:
            copy = client.get_object(Bucket=name, Key=entries[key]["copy"])
            is_whole = (copy["Body"].read(), copy["ContentType"]) == (key.encode(), TYPE)
            metadata = {name.lower(): value for name, value in copy["Metadata"].items()}
            if not (is_whole and METADATA.items() <= metadata.items()):
                yield f"{key} is gone, and its copy is another"
    for key in before.keys() & there.keys():
        if there[key] != before[key]:
            yield f"{key} has other bytes"


def _entries(body: bytes) -> list[dict[str, Any]]:
    _, *lines = body.decode().splitlines()
    return [json.loads(line) for line in lines]


def end_state() -> str:
    """Return what must be the same however often a purge was killed."""
    from r2maint.models import Change, Run

    lines = Change.objects.exclude(state="conflict").order_by("kind", "old")
    told = json.dumps(list(lines.values_list("kind", "state", "old", "etag")))
    return json.dumps(
        {
            "objects": json.loads(listed()),
            "steps": hashlib.sha256(told.encode()).hexdigest(),
            "runs": sorted(Run.objects.values_list("command", "state")),
        }
    )
