"""A migration over a network that breaks a fifth of all requests, in every way that passes."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import pytest

from r2maint.bucket import upload_many
from tests.appdirectory.models import AppSubmission
from tests.commands import apply
from tests.conftest import DATABASES
from tests.servers.faults import Flaky
from tests.servers.s3_server import FORWARD, proxy
from tests.worlds import attacked_project

pytestmark = pytest.mark.django_db(transaction=True, databases=DATABASES)


@pytest.fixture
def between(remote, settings, s3_server, monkeypatch):
    """A proxy before the project's bucket; what fails is tried again at once."""
    monkeypatch.setattr("r2maint.http.retry.FIRST_WAIT_SECONDS", 0.0)
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda seconds: None))
    with proxy(s3_server) as state:
        settings.R2MAINT = {
            **attacked_project.with_text(settings.R2MAINT),
            "ENDPOINT_URL": state.url,
        }
        yield state


def test_everything_arrives_whatever_breaks_on_the_way(between, monkeypatch):
    monkeypatch.setattr(upload_many, "PARTS_ABOVE_BYTES", 2**20)
    monkeypatch.setattr(upload_many, "PART_BYTES", 5 * 2**20)
    attacked_project.fill(attacked_project.Sizes(singles=20, shared=5, names=5, texts=5))
    large = [
        attacked_project.write(f"large/{size}.mp4", os.urandom(size * 2**20 + 1))
        for size in (1, 6, 11)
    ]
    AppSubmission.objects.create(tracking_id="large", screenshots_ar=large)
    before = json.loads(attacked_project.dump())
    flaky = Flaky(between, seed=2, share=0.2)

    done = apply("migrate_media_to_r2")

    between.is_cut, between.fault = lambda head: False, lambda request: FORWARD
    assert sum(flaky.met.values()) > 10
    assert (done["summary"]["uploaded"], done["summary"]["failed"]) == (54, 0)
    assert list(attacked_project.unfinished(before)) == []
