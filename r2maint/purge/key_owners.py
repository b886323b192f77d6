"""Whose primary keys the ids in some keys may be: "avatars/17.webp" of accounts.User?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from uuid import UUID

from django.apps import apps
from django.db import connections, models, router
from django.db.models.query import QuerySet

from r2maint.database.connections import reading, table_names
from r2maint.errors import DatabaseError

_NUMBER = re.compile(r"[0-9]{1,18}")
_UUID = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}", re.IGNORECASE)
_TOLD = 3
Ids = set[int] | set[UUID]


def possible_owners(keys: Sequence[str]) -> str:
    """Return which models have a row for an id in each of these keys, in words; "" for none.

    A few queries by primary key for each model. A table that cannot be read has no row for any.
    """
    numbers = [{int(found) for found in _NUMBER.findall(key)} for key in keys]
    uuids = [{UUID(found) for found in _UUID.findall(key)} for key in keys]
    owners = sorted({*_owners(models.IntegerField, numbers), *_owners(models.UUIDField, uuids)})
    if not owners:
        return ""
    more = f" and {len(owners) - _TOLD} more" if len(owners) > _TOLD else ""
    return f"ids like the primary keys of {', '.join(owners[:_TOLD])}{more}"


def _owners(kind: type[models.Field[object, object]], ids: Sequence[Ids]) -> Iterator[str]:
    if not (ids and all(ids)):
        return
    wanted = set[object]().union(*ids)
    for model in apps.get_models():
        if isinstance(model._meta.pk, kind) and model._meta.app_label != "r2maint":
            known = _known(model, wanted)
            if all(known & some for some in ids):
                yield str(model._meta.label)


def _known(model: type[models.Model], wanted: set[object]) -> set[object]:
    """Return which ids are primary keys of the model, where its table is."""
    alias = router.db_for_read(model)
    if alias not in connections or model._meta.db_table not in table_names(alias):
        return set()
    rows: QuerySet[models.Model] = QuerySet(model, using=alias)
    # It is a hint: whether the tables can be read as a whole, the keep set has decided.
    with suppress(DatabaseError), reading(alias, model._meta.db_table):
        return set(rows.filter(pk__in=wanted).values_list("pk", flat=True))
    return set()
