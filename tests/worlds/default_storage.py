"""A project whose default storage is the bucket."""

from __future__ import annotations

from typing import Any

import django
import pytest

BACKEND = "r2maint.storage.R2Storage"


def switch(settings: Any, **options: Any) -> None:
    """Make the bucket the default storage."""
    if options and django.VERSION < (5,):
        pytest.skip("Django 4.2 drops the OPTIONS of STORAGES while a test overrides it")
    settings.STORAGES = {**settings.STORAGES, "default": {"BACKEND": BACKEND, "OPTIONS": options}}
