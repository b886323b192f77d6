"""Which columns may be rewritten: found in the project's own models, or named in `FIELDS`.

Local concrete fields only: an inherited column belongs to the table that owns it; proxies own none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import django
from django.apps import apps
from django.contrib.sessions.base_session import AbstractBaseSession
from django.core.exceptions import FieldDoesNotExist, FieldError, ValidationError
from django.core.files.storage import default_storage
from django.db import connections, models, router
from django.db.models.query import QuerySet

from r2maint.conf import Config, FieldRule, setting_values
from r2maint.database.aliases import iter_aliases
from r2maint.database.connections import missing_table, reading, table_names
from r2maint.errors import ConfigError, UsageError, suggest
from r2maint.keys import Addresses
from r2maint.local_files.storage_locations import StorageLocation, StoragePlace, storage_location
from r2maint.references.column import Column, ColumnKind, Model
from r2maint.references.scope import EVERYTHING, Scope
from r2maint.scratch.batches import batched

_HISTORY = ({"history_id", "history_type"}, {"pgh_id"})
"""Columns of django-simple-history and of django-pghistory."""
_PARAMETERS = 500
"""Primary keys in one query; SQLite of old takes 999."""
_NO_RULE = FieldRule()
_NOWHERE = StorageLocation(place=StoragePlace.OTHER)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    """A field that may be rewritten wherever its table is."""

    model: Model
    field: models.Field[Any, Any]
    kind: ColumnKind
    rule: FieldRule = _NO_RULE
    is_named: bool = False
    is_joined_on: bool = False


def discover(config: Config, addresses: Addresses, scope: Scope = EVERYTHING) -> tuple[Column, ...]:
    """Return the columns that may hold references, ordered by database, model and field.

    Raises: UsageError for a model, field, database or filter that does not exist; ConfigError for
    an entry of `FIELDS` that cannot hold a reference, or one of `NOT_REFERENCES` that fits two
    things; DatabaseError for a missing table.
    """
    joined = _joined_on()
    found = [
        replace(each, is_joined_on=(each.model, each.field.name) in joined)
        for each in _narrow(list(_candidates(config)), scope)
    ]
    present = [
        (alias, candidate)
        for alias in iter_aliases(scope.databases, excluded=config.not_references)
        for candidate in _present(alias, found, scope)
    ]
    _require_one_meaning(present, config)
    columns = [
        _column(alias, candidate, _storage(candidate, config))
        for alias, candidate in present
        if not _is_excluded(alias, candidate, config)
    ]
    return tuple(sorted(columns, key=lambda c: (c.database, c.model, c.field)))


# Models and fields


def _candidates(config: Config) -> Iterator[_Candidate]:
    named = dict(_named(config))
    yield from named.values()
    for model in apps.get_models():
        if _is_own(model) and not _is_left_alone(model):
            for each in model._meta.local_concrete_fields:
                kind = _kind(each)
                if kind and (model, each.name) not in named:
                    yield _Candidate(model=model, field=each, kind=kind)


def _named(config: Config) -> Iterator[tuple[tuple[Model, str], _Candidate]]:
    for label, rules in config.fields.items():
        for name, rule in rules.items():
            each = apps.get_model(label)._meta.get_field(name)
            owner, kind = each.model, _kind(each)
            if kind is None or owner._meta.app_label == "r2maint":
                raise ConfigError(
                    f"R2MAINT['FIELDS'] names a field that holds no URL or file: {label}.{name}.",
                    "Name text, URL, file, JSON or text array fields of your own models.",
                )
            candidate = _Candidate(model=owner, field=each, kind=kind, rule=rule, is_named=True)
            yield (owner, each.name), candidate


def _joined_on() -> set[tuple[Model, str]]:
    """Return the fields that relations of any model lead to; keys of many columns too."""
    return {
        (target.model, target.name)
        for model in apps.get_models(include_auto_created=True)
        for each in model._meta.local_fields
        if isinstance(each, models.ForeignObject)
        for target in each.foreign_related_fields
    }


def _is_own(model: Model) -> bool:
    """Tell whether the project itself wrote the app: neither installed, nor Django's, nor ours."""
    app = apps.get_app_config(model._meta.app_label)
    path = Path(app.path)
    installed = {"site-packages", "dist-packages"} & set(path.parts)
    is_django = path.is_relative_to(Path(django.__file__).parent)
    return not installed and not is_django and app.label != "r2maint"


def _is_left_alone(model: Model) -> bool:
    """Tell whether a table must be named in `FIELDS` before anything in it is rewritten."""
    options = model._meta
    names = {each.name for each in options.concrete_fields}
    return (
        not options.managed
        or bool(options.proxy or options.swapped)
        or issubclass(model, AbstractBaseSession)
        or any(history <= names for history in _HISTORY)
    )


def _kind(each: Any) -> ColumnKind | None:
    """Return how a field holds text that may be a URL or a name; None when it cannot."""
    if each.primary_key or each.model._meta.pk.column is None:
        return None  # rows are found by their key again; a composite key has no column
    if isinstance(each, models.FileField):
        return ColumnKind.FILE
    if isinstance(each, models.JSONField):
        return ColumnKind.JSON
    if _is_text(each):
        return ColumnKind.TEXT
    return ColumnKind.ARRAY if _is_array(each) and _is_text(_element(each)) else None


def _is_text(each: Any) -> bool:
    no_url = isinstance(each, (models.EmailField, models.SlugField))
    return isinstance(each, (models.CharField, models.TextField)) and not no_url


def _is_array(each: Any) -> bool:
    # Known by name: django.contrib.postgres cannot be imported without psycopg.
    return any(
        base.__name__ == "ArrayField" and base.__module__.startswith("django.contrib.postgres")
        for base in type(each).__mro__
    )


def _element(each: Any) -> Any:
    return _element(each.base_field) if _is_array(each) else each


# Scope


def _narrow(found: list[_Candidate], scope: Scope) -> list[_Candidate]:
    if scope.models:
        labels = {_scoped_model(name, found) for name in scope.models}
        found = [each for each in found if each.model._meta.label in labels]
    if scope.fields:
        names = {name.lower() for name in scope.fields}
        for name in scope.fields:
            _require_field(name, found)
        found = [each for each in found if names & set(_names(each))]
    for name, value in scope.where:
        having = {each.model for each in found if _can_filter(each.model, name, value)}
        if not having:
            raise UsageError(
                f"--where names no field of the models in scope: {name!r}.",
                suggest(name, (field.name for each in found for field in each.model._meta.fields)),
            )
        found = [each for each in found if each.model in having]
    return found


def _names(candidate: _Candidate) -> tuple[str, str]:
    name = candidate.field.name.lower()
    return name, f"{candidate.model._meta.label_lower}.{name}"


def _scoped_model(name: str, found: Sequence[_Candidate]) -> str:
    try:
        model = apps.get_model(name)._meta.concrete_model
    except (LookupError, ValueError):
        known = [each._meta.label for each in apps.get_models()]
        hint = suggest(name, known) or "Write app.Model of an installed app."
        raise UsageError(f"--model names no model of this project: {name!r}.", hint) from None
    assert model is not None
    if not any(each.model is model for each in found):
        parents = ", ".join(parent._meta.label for parent in model._meta.parents)
        hint = f"Its inherited columns belong to {parents}." if parents else "Name it in FIELDS."
        raise UsageError(f"--model has no column that may be rewritten: {name!r}.", hint)
    return str(model._meta.label)


def _require_field(name: str, found: Sequence[_Candidate]) -> None:
    known = sorted({each_name for each in found for each_name in _names(each)})
    if name.lower() not in known:
        raise UsageError(
            f"--field names no column that may be rewritten: {name!r}.", suggest(name, known)
        )


def _can_filter(model: Model, name: str, value: str) -> bool:
    try:
        QuerySet(model).filter(**{name: value})
    except FieldError:
        return False
    except (TypeError, ValueError, ValidationError):
        raise UsageError(
            f"--where gives {name!r} a value its field cannot have: {value!r}."
        ) from None
    return True


# Databases


def _present(alias: str, found: Iterable[_Candidate], scope: Scope) -> Iterator[_Candidate]:
    """Yield the candidates whose table this database has.

    A router may leave a table out. Without a say of a router a table must be in the database its
    model is written to, and in no other.
    """
    tables = table_names(alias)
    for each in found:
        if not router.allow_migrate_model(alias, each.model):
            continue
        if each.kind is ColumnKind.ARRAY and connections[alias].vendor != "postgresql":
            continue
        table = each.model._meta.db_table
        if table in tables or '"' in table:  # schema"."table: not in the list
            yield each
        elif router.db_for_write(each.model) == alias or alias in scope.databases:
            raise missing_table(alias, table)


def _require_one_meaning(present: Iterable[tuple[str, _Candidate]], config: Config) -> None:
    tables = {(alias, candidate.model._meta.db_table) for alias, candidate in present}
    for entry in config.not_references:
        meanings = [f"{entry}.*"] if entry in connections else []
        meanings += sorted(f"{alias}.{table}" for alias, table in tables if table == entry)
        setting_values.require_one_meaning(entry, meanings)


def _is_excluded(alias: str, candidate: _Candidate, config: Config) -> bool:
    options = candidate.model._meta
    excluded = {name.lower() for name in config.not_references}
    table = options.db_table
    spelled = {alias, f"{alias}.*", options.label, table, f"{alias}.{table}"}
    names = {name.lower() for name in spelled}
    return not candidate.is_named and bool(names & excluded)


# Columns


def _column(alias: str, candidate: _Candidate, stored: StorageLocation) -> Column:
    each: Any = candidate.field
    options: Any = candidate.model._meta
    return Column(
        database=alias,
        model=options.label,
        table=options.db_table,
        column=each.column,
        field=each.name,
        pk_column=options.pk.column,
        kind=candidate.kind,
        max_length=_max_length(each, candidate.kind),
        rule=candidate.rule,
        is_named=candidate.is_named,
        place=stored.place,
        location=stored.prefix,
        local_root=stored.root,
        base_url=stored.base_url,
        is_joined_on=candidate.is_joined_on,
        width_field=getattr(each, "width_field", None) or "",
        height_field=getattr(each, "height_field", None) or "",
    )


def _max_length(each: Any, kind: ColumnKind) -> int | None:
    element = _element(each)
    if kind is ColumnKind.JSON or isinstance(element, models.TextField):
        return None
    length: int | None = element.max_length
    return length


def _storage(candidate: _Candidate, config: Config) -> StorageLocation:
    each: Any = candidate.field
    is_file = candidate.kind is ColumnKind.FILE
    if not is_file and not candidate.is_named:
        return _NOWHERE
    try:
        return storage_location(each.storage if is_file else default_storage, config)
    except ConfigError as error:
        what = f"{candidate.model._meta.label}.{each.name}"
        raise ConfigError(f"{what}: {error.message}", error.hint) from None


def find_column(
    database: str, model: str, name: str, config: Config | None = None
) -> Column | None:
    """Return one column as a run of long ago named it, whatever the settings say today.

    None when the model or field is gone. Without `config` nothing is said of its storage; with it
    the column counts as named, so that every old value means what it meant.
    """
    if config is None:
        return _bare_column(database, model, name)
    candidate = _candidate(model, name, is_named=True)
    return _column(database, candidate, _storage(candidate, config)) if candidate else None


@lru_cache(maxsize=1024)
def _bare_column(database: str, model: str, name: str) -> Column | None:
    candidate = _candidate(model, name, is_named=False)
    return _column(database, candidate, _NOWHERE) if candidate else None


def _candidate(model: str, name: str, *, is_named: bool) -> _Candidate | None:
    try:
        each: Any = apps.get_model(model)._meta.get_field(name)
    except (LookupError, ValueError, FieldDoesNotExist):
        return None
    kind = _kind(each)
    if kind is None:
        return None
    return _Candidate(model=each.model, field=each, kind=kind, is_named=is_named)


def row_values(
    column: Column, pks: Iterable[str], names: Sequence[str]
) -> dict[str, dict[str, str]]:
    """Return pk -> name -> text for the columns and `__` look-ups a key template names.

    Rows that are gone are absent; NULL is "". Raises: ConfigError for a name the model lacks.
    """
    model = column.model_class
    found: dict[str, dict[str, str]] = {}
    for batch in batched(pks, _PARAMETERS):
        rows: QuerySet[Any] = QuerySet(model, using=column.database).filter(pk__in=batch)
        try:
            with reading(column.database, column.table):
                values = list(rows.values_list("pk", *names))
        except FieldError:
            raise ConfigError(
                f"The key template of {column.model}.{column.field} names a column that"
                f" {column.model} does not have: {', '.join(names)}.",
                "Correct 'key' in R2MAINT['FIELDS'].",
            ) from None
        for pk, *row in values:
            texts = ("" if value is None else str(value) for value in row)
            found.setdefault(str(pk), dict(zip(names, texts, strict=True)))
    return found
