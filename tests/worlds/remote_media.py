"""What a migration of remote media stored."""

from __future__ import annotations

from tests.worlds.stored_pictures import keys as all_keys


def keys() -> list[str]:
    return [key for key in all_keys() if not key.startswith(".r2maint/")]
