"""Runs that this database does not know, by what the bucket's manifests say of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from itertools import count

from r2maint.bucket import Bucket
from r2maint.errors import BucketError
from r2maint.models import Change, ChangeKind, ChangeState
from r2maint.quarantine.manifest import Manifest, find_manifests, read_manifest

HEADERS = "headers"
"""In `Change.extra` of a deletion that a manifest tells of: the recorded headers of the object."""


def find_lost_runs(bucket: Bucket, known: Collection[str]) -> list[Manifest]:
    """Return the first manifest of each run that is not `known`, newest first.

    A run that was interrupted before its manifest is told of by none. Raises: BucketError.
    """
    first: dict[str, Manifest] = {}
    for manifest in (_named(bucket, one) for one in find_manifests(bucket)):
        if manifest.run_id not in known:
            first.setdefault(manifest.run_id, manifest)
    return sorted(first.values(), key=lambda one: one.run_id, reverse=True)


def iter_lost_changes(bucket: Bucket, run_id: str) -> Iterator[Change]:
    """Yield the deletions that the manifests of a run tell of, the last manifest first.

    They are in no database: their ids count from 1. A manifest holds what the run was about to
    delete, and some of that may never have been. Raises: BucketError for a damaged manifest.
    """
    numbers = count(1)
    manifests = [one for one in find_manifests(bucket) if _named(bucket, one).run_id == run_id]
    for manifest in reversed(manifests):
        told, entries = read_manifest(bucket, manifest.key)
        if told != run_id:
            raise BucketError(
                f"A manifest names one run in its metadata and another inside: {manifest.key!r}.",
                "It was changed since it was written. Nothing is restored by it.",
            )
        for entry in entries:
            yield Change(
                id=next(numbers),
                run_id=run_id,
                kind=ChangeKind.DELETE,
                state=ChangeState.DONE,
                old=entry.key,
                new=entry.copy,
                key=entry.key,
                etag=entry.etag,
                bytes=entry.size,
                extra={HEADERS: dict(entry.headers)},
                at=manifest.written_at,
            )


def _named(bucket: Bucket, manifest: Manifest) -> Manifest:
    """Return the manifest with the id of its run, read where its metadata do not tell it."""
    if manifest.run_id:
        return manifest
    run_id, _ = read_manifest(bucket, manifest.key)
    return replace(manifest, run_id=run_id)
