"""Columns that MariaDB sets by itself in every UPDATE of their row."""

from __future__ import annotations

from collections.abc import Collection

from django.db import connections

from r2maint.database.connections import fetch, reading


def list_on_update(alias: str, tables: Collection[str]) -> list[str]:
    """Return the columns of these tables declared ON UPDATE, as "table.column".

    Source: https://mariadb.com/kb/en/timestamp/#automatic-values
    """
    connection = connections[alias]
    if connection.vendor != "mysql" or not tables:
        return []
    names = sorted(tables)
    sql = (
        "SELECT table_name, column_name FROM information_schema.columns"
        " WHERE table_schema = DATABASE() AND extra LIKE '%%on update%%'"
        f" AND table_name IN ({', '.join(['%s'] * len(names))}) ORDER BY 1, 2"
    )
    with reading(alias):
        return [f"{table}.{column}" for table, column in fetch(connection, sql, names)]
