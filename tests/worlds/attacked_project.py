"""A project whose migration is attacked: media, rows of every form that name them, and proofs.

All of it runs in processes of their own, on any database and S3 server: `configure` once, then
`forked` for each thing that is done.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import django
from django.conf import settings
from django.core.management import load_command_class

KEY_ID, SECRET = "0123456789abcdef0123456789abcdef", "secret-0123456789abcdef"
PNG = b"\x89PNG\r\n\x1a\n"
PUBLIC, LOCAL = "https://media.example.org/", "/media/"
TABLES = ("app_submissions", "appdirectory_app", "oddities_listing", "oddities_article")
COMMANDS = ("migrate_media_to_r2", "r2_runs")
_ADDRESS = re.compile(rf"(?:{re.escape(PUBLIC)}|(?<![\w.]){LOCAL})[^\s\"'<>()\[\]\\]+")

Rows = dict[str, list[list[str | None]]]


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How many rows of each form there are."""

    singles: int
    """Each names two files of its own, one by URL and one in a JSON list."""
    shared: int
    """All name the same file."""
    names: int
    """Each has a file of its own by a FileField's name."""
    texts: int
    """Each names two files inside a text: one of its own, and the shared one."""


def configure(directory: Path, database: Mapping[str, Any], endpoint: str) -> None:
    """Set Django up for a project in a directory, with a bucket of any name on an S3 server."""
    import settings_test

    given = {name: getattr(settings_test, name) for name in dir(settings_test) if name.isupper()}
    given["DATABASES"] = {"default": dict(database)}
    given["DEBUG"] = False
    given["BASE_DIR"] = directory
    given["MEDIA_ROOT"] = directory / "media"
    given["R2MAINT"] = {
        **with_text(given["R2MAINT"]),
        "BUCKET": "media",
        "ENDPOINT_URL": endpoint,
        "ACCESS_KEY_ID": KEY_ID,
        "SECRET_ACCESS_KEY": SECRET,
    }
    settings.configure(**given)
    django.setup()
    # Imported and read once, not in every child.
    for command in COMMANDS:
        load_command_class("r2maint", command)
    open_bucket()


def with_text(r2maint: Mapping[str, Any]) -> dict[str, Any]:
    """Return the setting with addresses inside the text of articles to be moved, too."""
    fields = {**r2maint["FIELDS"], "oddities.Article": {"body": {"text": True}}}
    return {**r2maint, "FIELDS": fields}


def sqlite(path: Path) -> dict[str, Any]:
    """Return the entry of a SQLite file for `DATABASES`, for two processes at once."""
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(path), "OPTIONS": {"timeout": 30}}


# Before


def begin(bucket: str) -> None:
    """Let all later processes use this bucket, which may not exist yet."""
    settings.R2MAINT = {**settings.R2MAINT, "BUCKET": bucket}


def create_tables() -> None:
    from django.core.management import call_command

    call_command("migrate", run_syncdb=True, verbosity=0)


def prepare(sizes: Sizes) -> None:
    """Make an empty bucket, the media, and the rows that name them; nothing earlier is left."""
    from django.db import connections

    with connections["default"].cursor() as cursor:
        for table in (*reversed(TABLES), "r2maint_change", "r2maint_run"):
            cursor.execute(f"DELETE FROM {table}")
    bucket = open_bucket()
    bucket._client.create_bucket(
        Bucket=bucket.name, CreateBucketConfiguration={"LocationConstraint": "auto"}
    )
    fill(sizes)


def open_bucket() -> Any:
    from r2maint import bucket
    from r2maint.conf import load

    return bucket.open_bucket(load())


def fill(sizes: Sizes) -> None:
    """Write media, and the rows that name them."""
    from tests.appdirectory.models import App, AppSubmission
    from tests.oddities.models import Article, Listing

    shared = write("shared/cover.png")
    AppSubmission.objects.bulk_create(
        AppSubmission(
            tracking_id=f"QAD-{number:06d}",
            app_icon_url=write(f"icons/{number:05d}.png"),
            screenshots_en=["https://elsewhere.example/x.png", write(f"screens/a b {number}.png")],
        )
        for number in range(sizes.singles)
    )
    Listing.objects.bulk_create(Listing(cover_url=shared) for _ in range(sizes.shared))
    App.objects.bulk_create(
        App(name_en="One", application_icon=write(f"apps/{number}.png").removeprefix(LOCAL))
        for number in range(sizes.names)
    )
    Article.objects.bulk_create(
        Article(body=f"See <img src='{write(f'texts/{number}.png')}'>, and ({shared}).")
        for number in range(sizes.texts)
    )


def write(name: str, body: bytes = b"") -> str:
    """Write a file, by default a picture unlike any other; return its address."""
    path = Path(settings.MEDIA_ROOT) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body or PNG + name.encode())
    return LOCAL + name.replace(" ", "%20")


# Commands


def call(*arguments: str) -> str:
    """Run a command; return its document, with what it told on stderr as `told`."""
    from django.core.management import CommandError, call_command

    out, told = io.StringIO(), ""
    try:
        call_command(*arguments, "--format", "json", stdout=out, stderr=io.StringIO())
    except CommandError as error:
        told = str(error)
    return json.dumps({**json.loads(out.getvalue()), "told": told})


def migrate(*arguments: str) -> str:
    return call("migrate_media_to_r2", "--apply", "--no-input", *arguments)


def undo_all() -> str:
    """Undo every migration that is not undone, newest first; return the exit codes."""
    from r2maint.models import Run

    runs = Run.objects.filter(command="migrate_media_to_r2").exclude(state="undone")
    codes = []
    for run_id in runs.order_by("-id").values_list("pk", flat=True):
        done = json.loads(call("r2_runs", run_id, "--undo", "--apply", "--no-input"))
        codes.append(done["exit_code"])
    return json.dumps(codes)


def end_lease() -> None:
    """Mark the lease of a killed process as released: its 60 seconds, without the wait."""
    from dataclasses import replace

    from r2maint.bucket import Upload, get, put
    from r2maint.bucket.lease import KEY, Note
    from r2maint.errors import NoSuchKey

    bucket = open_bucket()
    try:
        found = get(bucket, KEY)
    except NoSuchKey:
        return
    note = replace(Note.read(found.body), released=True)
    overwriting = Upload(key=KEY, body=note.as_bytes(), if_absent=False, if_match=found.info.etag)
    put(bucket, overwriting)


# Proofs


def dump() -> str:
    """Return every row, its cells as the database stores them."""
    from django.db import connections

    rows: Rows = {}
    with connections["default"].cursor() as cursor:
        for table in TABLES:
            cursor.execute(f"SELECT * FROM {table} ORDER BY 1")
            rows[table] = [
                [None if cell is None else str(cell) for cell in row] for row in cursor.fetchall()
            ]
    return json.dumps(rows)


@dataclass(frozen=True, kw_only=True)
class Contents:
    """A digest of the bytes behind each local path and each key."""

    files: Mapping[str, str]
    objects: Mapping[str, str]

    @classmethod
    def read(cls) -> Contents:
        """Read every byte: SHA-256."""
        bucket, keys = open_bucket(), [item.key for item in _listed()]
        objects = {each.request: _sha256(each.value.body) for each in bucket.get_many(keys)}
        return cls(files=_digests(_sha256), objects=objects)

    @classmethod
    def listed(cls) -> Contents:
        """Ask the listing only: MD5, as the ETags have it."""
        return cls(files=_digests(_md5), objects={item.key: item.etag for item in _listed()})

    def resolve(self, cell: str | None) -> str | None:
        """Return a cell with every address exchanged for the bytes it leads to."""
        return None if cell is None else _ADDRESS.sub(self._behind, cell)

    def _behind(self, found: re.Match[str]) -> str:
        address = found[0]
        is_local = address.startswith(LOCAL)
        path = unquote(address.removeprefix(LOCAL if is_local else PUBLIC))
        return (self.files if is_local else self.objects).get(path, f"nothing: {address}")


def _listed() -> list[Any]:
    pages = open_bucket().list_pages()
    return [item for page in pages for item in page if not item.key.startswith(".r2maint/")]


def _digests(digest: Callable[[bytes], str]) -> dict[str, str]:
    root = Path(settings.MEDIA_ROOT)
    paths = [path for path in root.rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): digest(path.read_bytes()) for path in paths}


def _sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _md5(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


def astray(before: Rows, contents: Contents) -> Iterator[str]:
    """Yield each row that leads to other bytes than it did, or says anything else."""
    now: Rows = json.loads(dump())
    for table, rows in before.items():
        if len(rows) != len(now[table]):
            yield f"{table} has {len(now[table])} rows, and had {len(rows)}"
        for old, new in zip(rows, now[table], strict=False):
            if list(map(contents.resolve, old)) != list(map(contents.resolve, new)):
                yield f"{table}: {old} became {new}"


def left_behind(contents: Contents) -> Iterator[str]:
    """Yield each cell that names a file which is not in the bucket, or names it locally still."""
    for table, rows in json.loads(dump()).items():
        for row in rows:
            yield from (f"{table}: {cell}" for cell in row if cell and _names_local(cell, contents))
    from tests.appdirectory.models import App

    for name in App.objects.values_list("application_icon", flat=True):
        if contents.objects.get(name) != contents.files[name]:
            yield f"the bucket has other bytes, or none, under the name {name}"


def _names_local(cell: str, contents: Contents) -> bool:
    found = (match[0] for match in _ADDRESS.finditer(cell))
    paths = (unquote(each.removeprefix(LOCAL)) for each in found if each.startswith(LOCAL))
    return any(path in contents.files for path in paths)


def stored_twice(contents: Contents) -> Iterator[str]:
    """Yield each source with more than one key, in the bucket or in the journal."""
    from r2maint.models import Change

    by_bytes: dict[str, set[str]] = defaultdict(set)
    for key, sha256 in contents.objects.items():
        by_bytes[sha256].add(key)
    by_source: dict[str, set[str]] = defaultdict(set)
    for source, key in Change.objects.filter(kind="upload").values_list("old", "key"):
        by_source[source].add(key)
    for keys in (*by_bytes.values(), *by_source.values()):
        if len(keys) > 1:
            yield f"one source has {len(keys)} keys: {sorted(keys)}"


def unfinished(before: Rows) -> Iterator[str]:
    """Yield what is not as it must be when a migration is over."""
    contents = Contents.read()
    yield from astray(before, contents)
    yield from left_behind(contents)
    yield from stored_twice(contents)
