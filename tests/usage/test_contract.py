"""The document of `usage_report`, whole: its keys are those docs/usage.md tells, and no others."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from r2maint.management.commands import _base
from r2maint.management.commands.usage_report import Command
from r2maint.pricing import GB, INFREQUENT_ACCESS
from r2maint.usage.daily_totals import Day, Snapshots
from tests.commands import CONTRACT, run
from tests.conftest import DATABASES
from tests.servers.analytics_server import analytics_server
from tests.worlds.listing_only import NOW, PUBLIC, Listed, listed, submission

pytestmark = pytest.mark.django_db(databases=DATABASES)

DOCS = (Path(__file__).resolve().parents[2] / "docs" / "usage.md").read_text()
ACCOUNT = "0123456789abcdef0123456789abcdef"
R2 = {
    "BUCKET": Listed.name,
    "ACCOUNT_ID": ACCOUNT,
    "ACCESS_KEY_ID": ACCOUNT,
    "SECRET_ACCESS_KEY": "secret",
    "API_TOKEN": "token",
}


@pytest.fixture
def document(project, settings, monkeypatch) -> Mapping[str, Any]:
    """A report that has something to tell under every key."""
    settings.R2MAINT = {**settings.R2MAINT, **R2}
    submission("A", app_icon_url=f"{PUBLIC}a.png", main_image_en=f"{PUBLIC}gone.png")
    bucket = Listed(
        listed("a.png", 20 * GB, etag="e", days=99),
        listed("b.png", 20 * GB, etag="e", storage_class=INFREQUENT_ACCESS),
    )
    monkeypatch.setattr(_base, "open_bucket", lambda config, **options: bucket)
    keep_days(bucket.name)
    counted = {"bucketName": bucket.name, "datetime": NOW - timedelta(days=2)}
    with analytics_server(account=ACCOUNT, token=R2["API_TOKEN"], now=NOW) as server:
        monkeypatch.setattr(Command, "api_url", server.url)
        of_class = counted | {"storageClass": "Standard"}
        done = {"actionType": "New", "actionStatus": "success", "responseStatusCode": 200}
        server.operations = [of_class | done | {"requests": 1}]
        server.storage = [of_class | {"payloadSize": 1, "objectCount": 1}]
        server.bandwidth = [counted | {"bytesUpload": 1, "bytesDownload": 1}]
        return run("usage_report", "--analytics", "--compare", "--max-missing", "0", exit_code=3)


def keep_days(name: str) -> None:
    """Keep snapshots of forty days on which the bucket grew."""
    for ago in range(1, 41):
        at = NOW - timedelta(days=ago)
        groups = {"type": {"png": (50 - ago) * GB}}
        seen = Day(day=at.date(), standard=(50 - ago) * GB, infrequent_access=0, groups=groups)
        Snapshots(name).keep(seen, at)


def told() -> list[str]:
    """Return where each key is, as the table of the documentation has it."""
    table = DOCS.partition("### The document\n")[2].partition("\n#")[0]
    rows = re.findall(r"^\| (?:top|`(.+?)`) \| (`.+?`) \|", table, re.MULTILINE)
    return [
        f"{place}.{name}".lstrip(".")
        for place, names in rows
        for name in re.findall("`(.+?)`", names)
    ]


def found(value: Any, place: str, maps: frozenset[str]) -> Iterator[str]:
    """Yield where everything of a document is; of `maps` the keys are names and no part of it."""
    yield place
    if isinstance(value, list):
        inside = [(f"{place}[]", each) for each in value]
        yield f"{place}[]"
    elif isinstance(value, dict) and f"{place}{{}}" in maps:
        inside = [(f"{place}{{}}", each) for each in value.values()]
    elif isinstance(value, dict):
        inside = [(f"{place}.{name}".lstrip("."), each) for name, each in value.items()]
    else:
        inside = []
    for inner, each in inside:
        yield from found(each, inner, maps)


def without_marks(place: str) -> Iterator[str]:
    """Yield "a{}[]", "a{}" and "a" of the first."""
    yield place
    while place.endswith(("[]", "{}")):
        place = place[:-2]
        yield place


def test_every_key_of_the_document_is_documented_and_every_documented_key_is_there(document):
    documented = told()
    assert len(documented) == len(set(documented))
    places = {place for each in documented for place in without_marks(each)}
    maps = frozenset(place for place in places if place.endswith("{}"))
    assert set(found(document, "", maps)) - {""} == places


def test_the_keys_every_command_has_are_among_them():
    assert set(CONTRACT) <= {each.rstrip("[]") for each in told()}
