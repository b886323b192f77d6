"""What r2maint tells the project, always after the fact; of rows, after commit.

Receivers that raise are logged by Django and stop nothing.
"""

from __future__ import annotations

from django.dispatch import Signal

rows_rewritten = Signal()
"""Cells of one model changed. sender: the model class that owns the columns; `using`: the alias of
its database; `pks`: tuple of primary keys; `fields`: tuple of field names; `run_id`. Rows are
written by UPDATE statements: no `save()`, no `pre_save`, no `post_save`."""

run_finished = Signal()
"""A writing command ended. sender: the command's name; `run_id`, `state`, `summary`."""

threshold_crossed = Signal()
"""`usage_report` found more than it was told to accept. sender: the command's name; `bucket`;
`findings`: a sentence for each limit; `crossings`: as many values with `limit`, `value`, `allowed`,
`unit` and `message`; `summary`: that of the report."""

upload_failed = Signal()
"""An upload of application code failed, whether it raised or fell back to the original URL. sender:
the class of the service; `url`: where the bytes were to come from, without credentials and
signatures, "" for a file; `prefix`; `error`: the StorageError. No transaction is waited for."""
