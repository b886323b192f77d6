"""Keys that some text of some database names, and a reading of all of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from django.db import connections

from r2maint import conf
from r2maint.control import Control
from r2maint.keepset.read_texts import KeepSet, Reading, storage_locations
from r2maint.object_index.objects import Inventory
from tests.fakes import R2Fake, stored

KEY = "submissions/QAD-000001/icons/icon.webp"
NOW = datetime(2026, 11, 23, tzinfo=UTC)
OTHER = "submissions/QAD-000002/icons/icon.webp"


def read(*keys: str, bucket: R2Fake | None = None) -> tuple[set[str], Reading]:
    """Return which of the keys something names, and the reading."""
    bucket = bucket or R2Fake()
    keep_set = KeepSet(conf.load(), bucket, now=NOW)
    with Inventory() as inventory:
        inventory.add_objects([[stored(key) for key in sorted(keys)]], control=Control())
        reading = keep_set.read(
            inventory.finder(locations=storage_locations(conf.load())),
            lambda source, found: inventory.add_names(found.names),
            object_keys=bucket.keys,
            control=Control(),
        )
        return {item.key for item in inventory.iter_named([""])}, reading


def named(*keys: str, **options) -> set[str]:
    return read(*keys, **options)[0]


def change_settings(settings, **values) -> None:
    settings.R2MAINT = {**settings.R2MAINT, **values}


@contextmanager
def another_alias(name: str, given: dict[str, Any]) -> Iterator[Any]:
    """Let DATABASES have one more entry, and give its connection."""
    connections.databases[name] = given
    connections[name] = connection = connections.create_connection(name)
    connection.inc_thread_sharing()
    try:
        yield connection
    finally:
        connection.dec_thread_sharing()
        raw, connection.connection = connection.connection, None
        if raw is not None:
            raw.close()
        del connections[name], connections.databases[name]


@contextmanager
def dropped(alias: str, *tables: str) -> Iterator[None]:
    """Drop tables at the end: on MariaDB no rollback does, and a DROP commits what is pending."""
    try:
        yield
    finally:
        raw = connections[alias].connection
        if alias == "mariadb" and raw is not None:
            raw.rollback()
        with connections[alias].cursor() as cursor:
            for table in tables:
                cursor.execute(f"DROP TABLE IF EXISTS {table}")
