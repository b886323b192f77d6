"""Columns that MariaDB sets with every rewrite are told before it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import connections

from tests.commands import run
from tests.conftest import DATABASES
from tests.worlds.local_media import picture, submission

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=DATABASES),
    pytest.mark.usefixtures("project"),
]


@pytest.fixture
def touched(alias) -> Iterator[str]:
    if connections[alias].vendor != "mysql":
        pytest.skip("only MariaDB has ON UPDATE")
    with connections[alias].cursor() as cursor:
        for name in ("touched", "seen"):
            cursor.execute(
                f"ALTER TABLE app_submissions ADD {name} timestamp NOT NULL"
                " DEFAULT current_timestamp() ON UPDATE current_timestamp()"
            )
        cursor.execute("ALTER TABLE app_submissions ADD made timestamp DEFAULT now()")
        yield alias
        for name in ("touched", "seen", "made"):
            cursor.execute(f"ALTER TABLE app_submissions DROP {name}")


def told(alias: str) -> list[str]:
    plan = run("migrate_media_to_r2", "--database", alias)
    return [note for note in plan["notes"] if "ON UPDATE" in note]


def test_the_plan_names_the_columns_that_move_with_a_rewrite(touched, project):
    picture(project, "pictures/a.png")
    submission(touched, app_icon_url="/media/pictures/a.png")

    (note,) = told(touched)

    assert note.endswith("app_submissions.seen, app_submissions.touched.")


def test_a_plan_that_rewrites_no_row_of_the_table_names_none(touched):
    assert told(touched) == []


def test_a_table_without_such_columns_is_not_named(alias, project):
    picture(project, "pictures/a.png")
    submission(alias, app_icon_url="/media/pictures/a.png")

    assert told(alias) == []
