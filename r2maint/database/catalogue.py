"""Which columns of a database can hold text, by its own catalogue and not by the models.

Chooses the module that reads the catalogue of this kind of database.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from django.db.backends.base.base import BaseDatabaseWrapper

from r2maint.database.connections import is_replica
from r2maint.database.mariadb import configured_source, list_mariadb
from r2maint.database.postgresql import list_postgresql, subscription
from r2maint.database.sqlite import list_sqlite
from r2maint.database.text_table import Barred, TextTable
from r2maint.errors import DatabaseError


def list_tables(connection: BaseDatabaseWrapper) -> tuple[TextTable | Barred, ...]:
    """Return every table of the database; views, which only repeat tables, are left out.

    Materialized views, attached databases and the session's temporary tables are among them.

    Raises: DatabaseError for a replica and for a database this cannot read.
    """
    if is_replica(connection):
        raise _lags(connection, "The database is a replica")
    follows = _FOLLOWS.get(connection.vendor)
    if follows is not None and (what := follows(connection)):
        raise _lags(connection, what)
    lister = _LISTERS.get(connection.vendor)
    if lister is None:
        raise DatabaseError(
            f"The database cannot be searched for references: {connection.alias!r}"
            f" ({connection.display_name}).",
            "SQLite, PostgreSQL and MariaDB can be. If no row in it names an object, give the alias"
            " and the reason in R2MAINT['NOT_REFERENCES'].",
        )
    return tuple(lister(connection))


def _lags(connection: BaseDatabaseWrapper, what: str) -> DatabaseError:
    return DatabaseError(
        f"{what}, which may lag behind: {connection.alias!r}.",
        "Run on the primary. If that is read through another alias, give this one and the reason in"
        " R2MAINT['NOT_REFERENCES']; if it follows no other any more, take its configuration away.",
    )


_FOLLOWS: dict[str, Callable[[BaseDatabaseWrapper], str]] = {
    "postgresql": subscription,
    "mysql": configured_source,
}
"""What a database that may be written to is configured to follow; "" for nothing."""
_LISTERS: dict[str, Callable[[BaseDatabaseWrapper], Iterator[TextTable | Barred]]] = {
    "sqlite": list_sqlite,
    "postgresql": list_postgresql,
    "mysql": list_mariadb,
}
