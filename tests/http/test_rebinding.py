"""Name servers that change their minds between two looks, with the real resolver and libcurl."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

OWN_NAMESPACES = ("unshare", "-rnm")


@pytest.fixture(scope="module")
def attacks() -> dict:
    """What became of each attack in tests/servers/rebinding.py."""
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        pytest.skip("needs unshare and ip of Linux")
    if subprocess.run([*OWN_NAMESPACES, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine allows no user namespaces")
    command = [*OWN_NAMESPACES, sys.executable, "-W", "error", "-m", "tests.servers.rebinding"]
    child = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert child.returncode == 0, child.stderr
    assert child.stderr == ""
    return json.loads(child.stdout)


def test_a_name_that_turns_private_is_refused(attacks):
    assert attacks["found"] == {
        "a public address": "honest.example",
        "the first answer": "flip.example",
        "the second answer": "not_public",
        "the third answer": "not_public",
        "the first answer before IPv6": "flip6.example",
        "the second answer in IPv6": "not_public",
        "both in one answer": "both.example",
        "both, where only the private one listens": "unsure",
        "IPv6 loopback beside a public one": "mixed.example",
        "the same, where only loopback listens": "unsure",
        "a private address": "not_public",
        "IPv6 loopback": "not_public",
        "an IPv4-mapped one": "not_public",
        "an alias of localhost": "not_public",
        "the metadata service": "not_public",
        "a redirect to a name that is private": "not_public",
        "a redirect to an alias": "not_public",
        "a redirect to itself": "flip-a.example",
        "a retry": "unsure",
        "a redirect to itself, asked again": "not_public",
        "a retry, asked again": "not_public",
    }


def test_no_private_address_was_ever_connected_to(attacks):
    assert attacks["private"] == [0, 0, 0, 0]
    assert attacks["public"] > 0


def test_the_name_server_was_asked_again(attacks):
    """Otherwise nothing was shown."""
    assert attacks["asked"]["flip.example 1"] == 3
    assert attacks["asked"]["flip-c.example 1"] > 1
    assert attacks["asked"]["flip-d.example 1"] > 1
