"""The project's databases: which ones, what their catalogues list, and whole tables as text.

In: aliases of DATABASES. Out: tables with columns that can hold text, cells of one moment, and
Django's failures as `DatabaseError`. `sqlite`, `postgresql` and `mariadb` read one kind of
catalogue each; `catalogue` chooses.
"""

from r2maint.database.aliases import iter_aliases
from r2maint.database.catalogue import list_tables
from r2maint.database.connections import reading
from r2maint.database.snapshot import open_snapshot
from r2maint.database.text_table import Barred, TextTable

__all__ = ["Barred", "TextTable", "iter_aliases", "list_tables", "open_snapshot", "reading"]
