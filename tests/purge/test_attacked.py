"""Purges killed at any moment, on real servers; benchmarks/kill_purge.py kills more."""

from __future__ import annotations

import pytest

from tests.attacks.run_attack import attack

pytestmark = pytest.mark.attack

KILLS = 2


def test_whatever_a_killed_purge_took_is_in_a_manifest_and_the_end_is_the_same(task):
    sizes = {"orphans": 50, "named": 3}
    lines = attack("tests.attacks.kill_purges", {**task, "kills": KILLS, "sizes": sizes})
    assert sum(line["kills"] for line in lines) >= KILLS
    assert [sentence for line in lines for sentence in line["broken"]] == []
