"""Migrations killed at any moment, and under edits of another process, on real servers."""

from __future__ import annotations

import pytest

from tests.attacks.run_attack import attack

pytestmark = pytest.mark.attack

KILLS = 4


def test_no_kill_breaks_a_promise(task):
    sizes = {"singles": 6, "shared": 30, "names": 2, "texts": 3}

    rounds = attack("tests.attacks.kill_migrations", task | {"kills": KILLS, "sizes": sizes})

    assert [each["broken"] for each in rounds] == [[] for _ in rounds]
    assert {each["round"] for each in rounds} == {"undisturbed", "last row", "random"}
    assert sum(each["kills"] for each in rounds) >= KILLS


def test_no_edit_is_lost_and_each_is_told(task):
    sizes = {"singles": 30, "shared": 32, "names": 4, "texts": 8}

    (told,) = attack(
        "tests.attacks.edit_rows", task | {"edits": 80, "sizes": sizes, "rate": 50, "batch": 10}
    )

    assert told["broken"] == []
    assert sum(told["edits"].values()) == 80
    assert told["summary"]["rewritten"] > 0
