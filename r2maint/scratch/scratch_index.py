"""A temporary SQLite database for one run: what does not fit in memory, sorted and looked up."""

from __future__ import annotations

import sqlite3
import tempfile
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from r2maint.errors import R2MaintError
from r2maint.scratch.sorted_rows import Ascending

_FETCH = 5000

_PRAGMAS = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA page_size = 8192;
PRAGMA cache_size = -{cache};
"""


class ScratchIndex:
    """A context manager around the database, which ends with it. One thread at a time.

    Raises R2MaintError where it cannot be begun, and at its end where SQLite failed inside.
    """

    def __init__(self, schema: str, *, cache_kib: int = 8192) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="r2maint-", ignore_cleanup_errors=True)
        path = Path(self._directory.name) / "scratch.sqlite3"
        try:
            self._db = sqlite3.connect(path, isolation_level=None)
        except sqlite3.Error as error:
            self._directory.cleanup()
            raise _not_kept(error) from error
        try:
            self._db.executescript(_PRAGMAS.format(cache=cache_kib) + schema)
            self._db.execute("BEGIN")
        except sqlite3.Error as error:
            self.close()
            raise _not_kept(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
        if isinstance(error, sqlite3.Error):
            # Databases and buckets tell their own errors: this one is of the index.
            raise _not_kept(error) from error

    def close(self) -> None:
        """Remove the database."""
        self._db.close()
        self._directory.cleanup()

    def _ascending(self, sql: str) -> Ascending[tuple[Any, ...]]:
        """Return the rows of a query that sorts them by their first column, a text."""
        cursor = self._db.execute(sql)
        return Ascending(iter(partial(cursor.fetchmany, _FETCH), []))


def _not_kept(error: sqlite3.Error) -> R2MaintError:
    return R2MaintError(
        f"The scratch index cannot be kept: {tempfile.gettempdir()} ({error}).",
        "TMPDIR names another directory for temporary files.",
    )
