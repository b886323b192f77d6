"""Fixtures every test may ask for: databases, buckets and a project in a temporary directory."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from django.db.backends.signals import connection_created
from django.dispatch import receiver
from hypothesis import settings as hypothesis_settings

from r2maint.bucket.r2 import R2Bucket
from r2maint.conf.bucket_connection import Connection
from tests.servers import mariadb
from tests.servers.s3_server import moto_server
from tests.worlds.attacked_project import sqlite

NO_MARIADB = mariadb.missing()
DATABASES = ("default", "postgres") if NO_MARIADB else ("default", "postgres", "mariadb")
needs_mariadb = pytest.mark.skipif(bool(NO_MARIADB), reason=NO_MARIADB)

# CI tries the same examples on every run of the same code; everywhere else they are new ones.
hypothesis_settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    hypothesis_settings.load_profile("ci")


@receiver(connection_created)
def never_wait_for_the_disk(connection, **kwargs) -> None:
    if connection.vendor == "sqlite":
        connection.cursor().execute("PRAGMA synchronous = OFF")


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup, django_db_blocker):
    """Add the table of the unmanaged model, which Django does not create."""
    with django_db_blocker.unblock():
        for alias in DATABASES:
            with connections[alias].cursor() as cursor:
                cursor.execute(
                    "CREATE TABLE IF NOT EXISTS legacy_banner"
                    " (id integer PRIMARY KEY, path varchar(300) NOT NULL)"
                )


@pytest.fixture(
    params=["default", "postgres", pytest.param("mariadb", marks=needs_mariadb)],
    ids=["sqlite", "postgresql", "mariadb"],
)
def alias(request) -> str:
    """Run the test on each kind of database; mark it `django_db(databases=DATABASES)`."""
    return request.param


class Home:
    """Keeps r2maint's own tables in one database."""

    def __init__(self, alias: str) -> None:
        self.alias = alias

    def db_for_write(self, model, **hints):
        return self.alias if model._meta.app_label == "r2maint" else None


@pytest.fixture
def home(alias, settings) -> str:
    """Run the test with the home database on each kind."""
    settings.DATABASE_ROUTERS = [Home(alias)]
    return alias


@pytest.fixture(
    params=["postgres", pytest.param("mariadb", marks=needs_mariadb)],
    ids=["postgresql", "mariadb"],
)
def server(request) -> str:
    """Run the test on each database with locks of rows."""
    return request.param


@pytest.fixture
def project(settings, tmp_path, monkeypatch) -> Path:
    """A project of its own in a temporary directory: media, an empty bucket, no environment."""
    for name in [name for name in os.environ if name.startswith(("R2_", "CLOUDFLARE_"))]:
        monkeypatch.delenv(name)
    (tmp_path / "media").mkdir()
    settings.BASE_DIR = tmp_path
    settings.MEDIA_ROOT = tmp_path / "media"
    settings.R2MAINT = {**settings.R2MAINT, "BUCKET": f"file:{tmp_path / 'bucket'}"}
    return tmp_path


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The URL of an S3 server (moto) in a process of its own."""
    with moto_server() as url:
        yield url


@pytest.fixture
def s3_connection(s3_server) -> Connection:
    """How to reach that server; it knows any keys."""
    return Connection(
        source="R2MAINT",
        access_key_id="0123456789abcdef0123456789abcdef",
        secret_access_key="secret-0123456789abcdef",
        endpoint_url=s3_server,
    )


@pytest.fixture
def s3_bucket(s3_connection) -> R2Bucket:
    """An empty bucket of its own on that server."""
    bucket = R2Bucket(f"media-{uuid.uuid4().hex[:12]}", s3_connection, workers=4)
    bucket._client.create_bucket(
        Bucket=bucket.name, CreateBucketConfiguration={"LocationConstraint": "auto"}
    )
    return bucket


@pytest.fixture
def remote(project, settings, s3_bucket, s3_connection) -> Path:
    """The project on an S3 server."""
    settings.R2MAINT = {
        **settings.R2MAINT,
        "BUCKET": s3_bucket.name,
        "ENDPOINT_URL": s3_connection.endpoint_url,
        "ACCESS_KEY_ID": s3_connection.access_key_id,
        "SECRET_ACCESS_KEY": s3_connection.secret_access_key,
    }
    return project


@pytest.fixture(params=["project", "remote"], ids=["directory", "s3"])
def place(request) -> Path:
    """The project on a `file:` bucket, and on an S3 server."""
    return request.getfixturevalue(request.param)


@pytest.fixture(params=["sqlite", "postgresql"])
def task(request, tmp_path, s3_server, django_db_blocker) -> dict[str, Any]:
    """What an attack is told: a directory, an empty database and an S3 server."""
    if request.param == "sqlite":
        database = sqlite(tmp_path / "rows.sqlite3")
    else:
        with django_db_blocker.unblock():
            database = _empty_database()
    return {
        "directory": str(tmp_path),
        "database": database,
        "endpoint": s3_server,
        "bucket": f"media-{uuid.uuid4().hex[:12]}",
        "seed": 1,
    }


def _empty_database() -> dict[str, Any]:
    server = connections["postgres"]
    with server._nodb_cursor() as cursor:
        cursor.execute("DROP DATABASE IF EXISTS attacked WITH (FORCE)")
        cursor.execute("CREATE DATABASE attacked")
    given = {name: server.settings_dict[name] for name in ("ENGINE", "USER", "HOST")}
    return {**given, "NAME": "attacked"}
