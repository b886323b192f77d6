"""What is looked at once more under the lease, before anything is removed for good."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from r2maint.bucket import Bucket, StoredObject
from r2maint.conf import Config
from r2maint.control import Control
from r2maint.errors import Refused
from r2maint.journal import journal
from r2maint.journal.journal import Journal
from r2maint.keepset.find_keys import FoundNames
from r2maint.keepset.read_texts import KeepSet, Reading, storage_locations
from r2maint.object_index.objects import Inventory
from r2maint.purge import bucket_owner
from r2maint.rendering import Refusal
from r2maint.scratch.batches import batched

_BATCH = 1000
_KEPT_CELLS = 0.80
"""The part of the cells of the first reading that a later one must find."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifted:
    """What a caller lifts of the brakes."""

    adopt: bool = False
    """Make the bucket belong to this database."""
    overrides: frozenset[str] = frozenset()
    """Names of brakes that do not hold this time."""


def require_no_brake(refusals: Sequence[Refusal]) -> None:
    """Raise Refused when a brake holds, naming all that do."""
    if refusals:
        brakes = ", ".join(one.brake for one in refusals)
        raise Refused(f"A brake holds: {brakes}.", refusals[0].message)


def agree(
    bucket: Bucket, planned: bucket_owner.Standing, run: Journal, lifted: Lifted
) -> bucket_owner.Standing:
    """Return how bucket and database stand, with a new nonce; `bucket_owner.settle` ends it.

    Raises: Refused when they do not belong together, or the marker changed since the plan.
    """
    standing = bucket_owner.read_standing(bucket)
    if (standing.owner_id, standing.fault) != (planned.owner_id, planned.fault):
        raise Refused("The bucket's marker changed since the plan.", "Run the same command again.")
    if standing.fault and not (lifted.adopt or "identity" in lifted.overrides):
        raise Refused("A brake holds: identity.", f"It says: {standing.fault}. See --adopt.")
    run.check_lease()
    if not standing.fault:
        return bucket_owner.renew(bucket, standing)
    return bucket_owner.adopt(bucket, standing) if lifted.adopt else bucket_owner.Standing()


def read_again(
    config: Config,
    bucket: Bucket,
    inventory: Inventory,
    objects: Iterable[Sequence[StoredObject]],
    *,
    control: Control,
) -> Reading:
    """Look for these objects alone in the whole keep set; the inventory then knows their names.

    Raises: DatabaseError, ConfigError or BucketError when anything cannot be read as a whole.
    """
    inventory.add_objects(objects, control=control)

    def take(source: str, found: FoundNames) -> None:
        inventory.add_names(found.names)

    keep_set = KeepSet(config, bucket, now=journal.now())
    finder = inventory.finder(locations=storage_locations(config), absent=False)
    return keep_set.read(finder, take, object_keys=lambda: iter_keys(bucket), control=control)


def find_named(
    config: Config, bucket: Bucket, objects: Iterable[StoredObject], *, control: Control
) -> tuple[frozenset[str], Reading]:
    """Return which of these objects are named by now, and the reading that tells so.

    The keys are few, because each was named while the run was under way. Raises as `read_again`.
    """
    with Inventory() as inventory:
        pages = batched(objects, _BATCH)
        reading = read_again(config, bucket, inventory, pages, control=control)
        return frozenset(item.key for item in inventory.iter_named(("",))), reading


def iter_keys(bucket: Bucket) -> Iterator[str]:
    """Yield every key of the bucket, listed now."""
    for page in bucket.list_pages():
        yield from (item.key for item in page)


def require_same_sources(before: Reading, now: Reading) -> None:
    """Raise Refused when a source holds far less than when the plan was made."""
    for source, names in before.names.items():
        if names and now.cells.get(source, 0) < _KEPT_CELLS * before.cells[source]:
            raise Refused(
                f"A source holds far less than when the plan was made: {source}.",
                "Nothing more is removed. Find out what happened to it, then run again.",
            )
