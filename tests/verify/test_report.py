"""What verify_urls reports as a reader sees it: groups, admin pages, cases of a CI server."""

from __future__ import annotations

import csv
import io
import sys
from collections import Counter
from io import StringIO
from xml.etree import ElementTree

import pytest
from django.core.management import CommandError, call_command
from django.urls import reverse

from r2maint.rendering.admin_links import _page_of, admin_url
from r2maint.verify import Outcome
from r2maint.verify.report import Sections
from r2maint.verify.result import GROUPS
from tests.appdirectory.models import AppSubmission
from tests.commands import run
from tests.conftest import DATABASES
from tests.worlds.local_media import submission
from tests.worlds.verified import PUBLIC, store

pytestmark = pytest.mark.django_db(databases=DATABASES)

R2_DEV = "https://pub-0123456789abcdef.r2.dev/"


@pytest.fixture
def admin(settings):
    """Install the admin, on a site of its own below /back-office/."""
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "django.contrib.admin"]
    settings.ROOT_URLCONF = "tests.rendering.admin_urls"
    _page_of.cache_clear()
    yield settings
    _page_of.cache_clear()
    sys.modules.pop("tests.rendering.admin_urls", None)


def told(*arguments: str, format: str = "text") -> str:
    """Return what the command prints, whatever it found."""
    out, code = StringIO(), 0
    try:
        call_command("verify_urls", "--format", format, *arguments, stdout=out)
    except CommandError as error:
        code = error.returncode
    assert code in (0, 3)
    return out.getvalue()


def block(text: str, heading: str) -> list[str]:
    """Return the lines of one group, after its heading."""
    lines = text.splitlines()
    after = lines[lines.index(heading) + 1 :]
    return after[: after.index("")]


# Text


def test_text_is_grouped_by_outcome_and_the_worst_comes_first(project):
    store("a.png")
    for _ in range(25):
        submission(app_icon_url=f"{R2_DEV}a.png")
    submission(app_icon_url=f"{PUBLIC}zzz.png")

    text = told()

    headings = [line for line in text.splitlines() if " reference" in line and ":" in line[:9]]
    assert headings == [
        "missing: 1 reference, no such object in the bucket",
        "alias: 25 references, another base of this bucket",
    ]
    advice, _, *rows, more = block(text, headings[1])
    assert advice == "Let --repair alias rewrite it to PUBLIC_URL."
    assert (len(rows), more) == (20, "… and 5 more")
    assert text.count(advice) == 1


def test_text_says_first_how_closely_it_looked(project):
    assert told().splitlines()[0].endswith(": every reference against the listing.")
    assert told("--level", "http").splitlines()[0].endswith("and what its URL answers.")
    assert told("--level", "content").splitlines()[0].endswith("and the file its URL serves.")


def test_the_last_sentence_counts_what_fails_worst_first(project):
    store("a.png")
    submission(app_icon_url=f"{R2_DEV}a.png", main_image_en=f"{PUBLIC}gone.png")
    with pytest.raises(CommandError) as caught:
        call_command("verify_urls", "--fail-on", "alias,missing", stdout=StringIO())
    assert str(caught.value) == "References that need mending: 1 missing, 1 alias."


def test_advice_begins_with_a_word_that_a_sheet_takes_for_text(project):
    store("a.png")
    submission(app_icon_url=f"{R2_DEV}a.png")
    (row,) = csv.DictReader(io.StringIO(told(format="csv")))
    assert row["advice"] == "Let --repair alias rewrite it to PUBLIC_URL."


def test_text_says_row_by_row_what_a_group_has_not_in_common(project):
    submission(app_icon_url="/media/a.png", main_image_en="/media/b.png")
    advice, heading, *rows = block(told(), "missing: 2 references")
    assert advice == "Put the file back, or correct the value."
    assert heading.split() == ["Model", "Row", "Field", "Value", "Detail"]
    assert all("no file at" in row for row in rows)


def test_text_says_since_when_once_something_failed_again(project):
    submission(app_icon_url=f"{PUBLIC}a.png")
    heading = "missing: 1 reference, no such object in the bucket"
    assert "First failed" not in told()
    _, titles, row = block(told(), heading)
    assert "Runs  First failed" in titles
    assert " 2  20" in row


def test_text_lists_what_is_fine_last_and_only_when_asked(project):
    store("a.png")
    submission(app_icon_url=f"{PUBLIC}a.png", main_image_en=f"{PUBLIC}b.png")
    assert "ok: 1 reference" not in told()
    lines = told("--all").splitlines()
    assert lines.index("ok: 1 reference") > lines.index(
        "missing: 1 reference, no such object in the bucket"
    )


def test_groups_have_every_outcome_once():
    assert len(GROUPS) == len(set(GROUPS)) == len(Outcome) + 2
    assert set(GROUPS) > {outcome.value for outcome in Outcome}


def test_sections_read_nothing_until_they_are_read():
    def items():
        raise AssertionError
        yield

    Sections(items(), ())


# The admin


def test_a_row_is_shown_with_its_page_in_the_admin(project, admin):
    row = submission(app_icon_url=f"{PUBLIC}a.png")
    page = f"/back-office/appdirectory/appsubmission/{row.pk}/change/"

    (item,) = run("verify_urls", exit_code=3)["items"]

    assert item["admin_url"] == page
    assert page in told()
    (line,) = csv.DictReader(io.StringIO(told(format="csv"), newline=""))
    assert line["admin_url"] == page


@pytest.mark.parametrize("pk", ["12", "a/b c", "_x_2F", "قرآن?#", 'q"%<>', "8d-4e"])
def test_a_page_is_the_one_the_admin_itself_links_to(admin, pk):
    from django.contrib.admin.utils import quote

    for model in ("AppSubmission", "Gallery"):
        app = "appdirectory" if model == "AppSubmission" else "oddities"
        page = reverse(f"admin:{app}_{model.lower()}_change", args=[quote(pk)])
        assert admin_url(f"{app}.{model}", pk) == page


def test_a_model_the_admin_does_not_show_has_no_page(admin):
    assert admin_url("appdirectory.App", "1") is None
    assert admin_url("nowhere.Model", "1") is None


@pytest.mark.parametrize("urls", ["tests.servers.websites", "tests.absent"])
def test_urls_without_the_admin_or_that_cannot_be_imported_give_no_page(project, admin, urls):
    admin.ROOT_URLCONF = urls
    submission(app_icon_url=f"{PUBLIC}a.png")
    assert run("verify_urls", exit_code=3)["items"][0]["admin_url"] is None


def test_without_the_admin_there_is_no_page_and_no_column(project):
    submission(app_icon_url=f"{PUBLIC}a.png")
    assert run("verify_urls", exit_code=3)["items"][0]["admin_url"] is None
    assert "Admin" not in told()


# JUnit


def suites(*arguments: str) -> dict[str, ElementTree.Element]:
    root = ElementTree.fromstring(told(*arguments, format="junit"))
    assert root.tag == "testsuites"
    for name in ("tests", "failures", "errors"):
        assert int(root.get(name)) == sum(int(suite.get(name)) for suite in root)
    for suite in root:
        found = Counter(each.tag for case in suite for each in case)
        assert int(suite.get("tests")) == len(suite) > 0
        assert int(suite.get("failures")) == found["failure"]
        assert int(suite.get("skipped")) == found["skipped"]
        assert suite.get("errors") == "0"
    return {suite.get("name"): suite for suite in root}


def test_junit_has_a_suite_per_outcome_and_fails_what_ends_with_exit_code_3(project):
    store("a.png")
    row = submission(
        app_icon_url=f"{R2_DEV}a.png", screenshots_ar=[f"{PUBLIC}a.png", f"{PUBLIC}قرآن<&>.png"]
    )

    found = suites("--all")

    assert list(found) == ["missing", "alias", "ok"]
    (case,) = found["missing"]
    assert case.get("classname") == "appdirectory.AppSubmission"
    assert case.get("name") == f"{row.pk} screenshots_ar/1: {PUBLIC}قرآن<&>.png"
    (failure,) = case
    assert failure.get("type") == "missing"
    assert failure.get("message") == "missing: no such object in the bucket"
    assert "key: قرآن<&>.png" in failure.text
    assert "failures: 1" in failure.text
    (skipped,) = found["alias"][0]
    assert (skipped.tag, skipped.get("message")) == (
        "skipped",
        "alias: another base of this bucket",
    )
    assert [each.tag for each in found["ok"][0]] == ["system-out"]


def test_junit_follows_fail_on(project):
    store("a.png")
    submission(app_icon_url=f"{R2_DEV}a.png", main_image_en=f"{PUBLIC}gone.png")
    found = suites("--fail-on", "alias")
    assert [each.tag for suite in found.values() for case in suite for each in case] == [
        "skipped",
        "failure",
    ]


def test_junit_passes_what_recovered_and_skips_what_is_not_confirmed(project):
    submission(app_icon_url=f"{PUBLIC}a.png", main_image_en=f"{PUBLIC}b.png")
    told("--field", "app_icon_url")
    store("a.png")

    found = suites("--all", "--confirm-after", "2")
    assert list(found) == ["unconfirmed", "ok"]
    (skipped,) = found["unconfirmed"][0]
    assert skipped.tag == "skipped"
    assert skipped.get("message") == "missing: no such object in the bucket (unconfirmed)"

    told()
    store("b.png")
    found = suites()
    assert list(found) == ["recovered"]
    assert found["recovered"].get("failures") == "0"


def test_junit_of_nothing_to_tell_is_one_case_that_passes(project):
    (suite,) = suites().values()
    assert [len(case) for case in suite] == [0]


def test_junit_tells_the_same_row_of_two_databases_apart(project):
    for alias in DATABASES:
        AppSubmission.objects.using(alias).create(pk=7, app_icon_url=f"{PUBLIC}a.png")
    names = [case.get("name") for case in suites()["missing"]]
    prefixes = ["", *(f"{alias} " for alias in DATABASES if alias != "default")]
    assert sorted(names) == sorted(f"{each}7 app_icon_url: {PUBLIC}a.png" for each in prefixes)
