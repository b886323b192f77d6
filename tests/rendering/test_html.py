"""The html report, as a reader's browser shows it."""

from __future__ import annotations

import io
import re
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from django.core.management import CommandError, call_command
from PIL import Image

from r2maint.bucket import Upload, open_bucket, put
from r2maint.conf import load
from r2maint.rendering import Chart, Refusal, Report, ReportColumn, Section, Unit, write
from r2maint.usage.daily_totals import Day, Snapshots
from tests.conftest import DATABASES
from tests.servers import browser

NOW = datetime(2026, 11, 27, tzinfo=UTC)
HOSTILE = (
    "<script>document.title='run'</script>/",
    '"><img src=http://127.0.0.1:9/x.png onerror=alert(1)>/',
    "' onmouseover='alert(1)/",
    "a\u202egnp.exe/",
    "]]></style></svg>{{ 7 }}{% now 'Y' %}&amp;/",
    "long" * 250 + "/",
    "no character: \uffff/",
    "صور التطبيقات (قديمة)/",
)
SIZES = (ReportColumn("bytes", "Size", Unit.BYTES), ReportColumn("usd", "USD a month", Unit.USD))
LIGHT, DARK = (0x2B, 0x6C, 0xB0), (0x63, 0xA4, 0xEC)
"""--mark of the page by day and by night."""

pytestmark = pytest.mark.thorough
needs_browser = pytest.mark.skipif(bool(browser.missing()), reason=browser.missing())


def section(*sizes: int, **values) -> Section:
    names = [*HOSTILE, "plain/"]
    rows = [
        {"name": names[at % len(names)], "bytes": size, "usd": Decimal("0.015")}
        for at, size in enumerate(sizes)
    ]
    columns = (ReportColumn("name", "Prefix"), *SIZES)
    return Section(columns=columns, rows=rows, **({"drawn": "bytes"} | values))


def history(days: int) -> Section:
    rows = [{"day": f"2026-10-{1 + at:02}", "bytes": 10**9 + at * 10**7} for at in range(days)]
    columns = (ReportColumn("day"), SIZES[0])
    return Section(title="Over time", columns=columns, rows=rows, drawn="bytes", chart=Chart.LINE)


def page(*sections: Section, **values) -> str:
    defaults = {
        "command": "usage_report",
        "bucket": HOSTILE[0],
        "started_at": NOW,
        "finished_at": NOW,
        "summary": {"objects": 1234, "bytes": 2**20, "pending_uploads": None},
        "headline": f"usage_report, bucket {HOSTILE[0]}: 1,234 objects.",
        "sections": sections or (section(*range(8_000, 0, -1_000)), history(30)),
    }
    out = io.StringIO()
    write(Report(**(defaults | values)), "html", out)
    return out.getvalue()


class Reader(HTMLParser):
    """What a document says and is made of."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.feed(document)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes.extend(attributes)

    def handle_data(self, text):
        self.texts.append(text)


def test_hostile_names_are_shown_as_they_are_and_do_nothing():
    read = Reader(page(verdict=HOSTILE[1], notes=HOSTILE))
    assert not {"script", "img", "iframe", "object", "a"} & set(read.tags)
    assert not [name for name, _ in read.attributes if name.startswith("on")]
    for name in HOSTILE:
        assert name.replace("\u202e", "\\u202e").replace("\uffff", "\\uffff") in read.texts


def test_charts_are_well_formed_whatever_the_names():
    """So that pygal draws them with lxml too, which refuses to hold anything else."""
    drawn = re.findall(r"<svg.*?</svg>", page(section(*range(8, 0, -1))), re.DOTALL)
    assert [ElementTree.fromstring(each).tag for each in drawn] == [
        "{http://www.w3.org/2000/svg}svg"
    ]


def test_nothing_in_the_file_points_outside_of_it():
    document = page()
    read = Reader(document)
    pointed = [value for name, value in read.attributes if name in ("src", "href", "xlink:href")]
    assert pointed == ["data:,"]
    assert not re.search(r"@import|url\(", document)
    assert "default-src 'none'" in document


def test_names_are_isolated_from_the_direction_of_what_is_around_them():
    document = page()
    assert "<bdi>صور التطبيقات (قديمة)/</bdi>" in document
    assert "\u2068صور ال…يقات (قديمة)/\u2069" in document


def test_every_row_is_there_folded_beyond_ten_and_counted_beyond_500():
    document = page(section(*range(1_000, 0, -1)))
    # Both tables have a head of their own: the folded one is read alone on paper and by ear.
    assert document.count("<tr>") == 502
    assert document.count('<th scope="col"') == 6
    assert "<summary>490 more</summary>" in document
    assert "… and 500 more" in document


def test_one_column_is_a_list_and_no_rows_are_no_section():
    lines = Section(columns=(ReportColumn("assumed"),), rows=[{"assumed": "Nothing else."}])
    empty = Section(title="Nothing here", columns=(ReportColumn("name"),), rows=[])
    document = page(lines, empty)
    assert "<li><bdi>Nothing else.</bdi></li>" in document
    assert "Nothing here" not in document
    assert "<table>" not in document


@pytest.mark.parametrize("sizes", [(0, 0), ()])
def test_amounts_of_nothing_draw_no_chart(sizes):
    assert "<svg" not in page(section(*sizes))


def test_a_chart_shows_the_first_ten_and_their_amounts():
    document = page(section(*range(20_000_000, 0, -1_000_000)))
    assert document.count('class="rect') == 10
    assert ">19.1 MiB</text>" in document


@pytest.mark.parametrize("days", [2, 30])
def test_a_line_tells_its_first_and_its_last_day(days):
    document = page(history(days))
    assert "2026-10-01</text>" in document
    assert f"2026-10-{days:02}</text>" in document


def test_brakes_and_errors_are_told():
    refusal = Refusal(brake="ratio", message="Too <many>.", override="--override ratio")
    error = {"code": "bucket", "message": "No <answer>.", "hint": "Wait for \u202egnp.exe."}
    document = page(refusals=(refusal,), error=error)
    assert "Refused (ratio): <bdi>Too &lt;many&gt;.</bdi>" in document
    assert "No &lt;answer&gt;. Wait for \\u202egnp.exe." in document


def test_one_day_is_no_line():
    document = page(history(1))
    assert "<svg" not in document
    assert "<summary>1 row</summary>" in document
    assert "2026-10-01" in document


# The command


@pytest.fixture
def _filled(project):
    bucket = open_bucket(load())
    for name in ("a.png", "قرآن/b.webp", "<b>/c.jpg"):
        put(bucket, Upload(key=name, body=b"x" * 5_000_000))


@pytest.mark.django_db(databases=DATABASES)
@pytest.mark.usefixtures("_filled")
def test_the_command_writes_one_document(tmp_path):
    output = tmp_path / "usage.html"
    with pytest.raises(CommandError, match="over --max-orphans 1%"):
        call_command("usage_report", format="html", output=output, max_orphans="1%")
    read = Reader(output.read_text(encoding="utf-8"))
    assert read.tags.count("html") == 1
    assert read.tags.count("svg") >= 5
    assert {"<b>/", "قرآن/", "Orphans are 100.00% of all bytes, over --max-orphans 1%."} <= set(
        read.texts
    )


@pytest.mark.django_db(databases=DATABASES)
@pytest.mark.usefixtures("_filled")
def test_kept_days_are_a_line_that_ends_today(tmp_path):
    bucket = open_bucket(load())
    days = [bucket.now() - timedelta(days=ago) for ago in range(1, 9)]
    for at in days:
        seen = Day(day=at.date(), standard=10**7, infrequent_access=0)
        Snapshots(bucket.name).keep(seen, at)
    output = tmp_path / "usage.html"
    call_command("usage_report", format="html", output=output)
    document = output.read_text(encoding="utf-8")
    assert 'aria-label="Over time: bytes"' in document
    assert f"{days[-1]:%Y-%m-%d}</text>" in document
    assert f"{bucket.now():%Y-%m-%d}</text>" in document


@pytest.mark.usefixtures("project")
def test_without_pygal_it_says_what_to_install_before_any_work(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pygal", None)
    output = tmp_path / "usage.html"
    with pytest.raises(CommandError, match=r"pip install 'r2maint\[html\]'") as caught:
        call_command("usage_report", format="html", output=output)
    assert caught.value.returncode == 1
    assert "\n" not in str(caught.value)
    assert not output.exists()


@pytest.mark.parametrize("command", ["purge_orphans", "verify_urls", "r2_runs"])
@pytest.mark.parametrize("format", ["html", "prometheus"])
def test_other_commands_refuse_the_formats_of_usage_report(command, format):
    with pytest.raises(CommandError) as caught:
        call_command(command, "--format", format)
    assert caught.value.returncode == 2


# In a browser


@pytest.fixture(scope="module")
def tab():
    with browser.open_page() as opened:
        yield opened


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    """Return the whole report, and one whose charts are taken out."""
    directory = tmp_path_factory.mktemp("html")
    document = page(verdict="The bill is over --budget.", notes=HOSTILE)
    bare = re.sub(r"<(rect|path)[^>]*class=\"[^\"]*reactive[^>]*>", "", document)
    found = {"whole": directory / "whole.html", "bare": directory / "bare.html"}
    found["whole"].write_text(document, encoding="utf-8")
    found["bare"].write_text(bare, encoding="utf-8")
    return found


def marks(picture: Image.Image, colour: tuple[int, int, int]) -> int:
    """Return how many pixels have the colour of a chart's marks."""
    return sum(count for count, seen in picture.getcolors(2**24) if seen == colour)


@needs_browser
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_asks_for_nothing_complains_of_nothing_and_fits(tab, files, width, dark):
    tab.show(files["whole"], width=width, dark=dark)
    assert tab.requests == [files["whole"].as_uri()]
    assert tab.complaints == []
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    assert tab.evaluate("document.title").startswith("usage_report, bucket <script>")


@needs_browser
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_its_charts_have_marks(tab, files, width, dark):
    colour = DARK if dark else LIGHT
    tab.show(files["whole"], width=width, dark=dark)
    whole = tab.screenshot()
    assert marks(whole, colour) > width * 5
    # The page itself has none of that colour: only marks make the difference.
    tab.show(files["bare"], width=width, dark=dark)
    assert marks(tab.screenshot(), colour) == 0


@needs_browser
def test_a_line_alone_has_marks_too(tab, tmp_path):
    alone = tmp_path / "line.html"
    alone.write_text(page(history(30)), encoding="utf-8")
    tab.show(alone, width=390)
    assert marks(tab.screenshot(), LIGHT) > 100


@needs_browser
@pytest.mark.parametrize("width", [390, 1280])
def test_every_chart_is_on_the_page_and_none_is_cut(tab, files, width):
    tab.show(files["whole"], width=width)
    boxes = tab.evaluate(
        "[...document.querySelectorAll('svg')].map(svg => {"
        " const all = svg.getBoundingClientRect();"
        " return [...svg.querySelectorAll('text, .reactive')].map(each => {"
        "  const box = each.getBoundingClientRect();"
        "  return [box.left - all.left, all.right - box.right, box.width]})})"
    )
    assert len(boxes) == 2
    for chart in boxes:
        assert max(drawn for _, _, drawn in chart) > 50
        assert min(min(left, right) for left, right, _ in chart) >= -1


@needs_browser
def test_letters_of_the_charts_are_readable_on_a_phone(tab, files):
    tab.show(files["whole"], width=390)
    height = "document.querySelector('svg text').getBoundingClientRect().height"
    assert tab.evaluate(height) > 10


@needs_browser
def test_paper_gets_dark_letters_on_white_and_the_charts(tab, files):
    tab.show(files["whole"], width=800, media="print")
    printed = tab.screenshot()
    assert printed.getpixel((2, 2)) == (255, 255, 255)
    assert marks(printed, LIGHT) > 2_000


@needs_browser
@pytest.mark.parametrize("media", ["screen", "print"])
def test_paper_gets_the_folded_rows_and_a_screen_gets_their_count(tab, tmp_path, media):
    folded = tmp_path / "folded.html"
    folded.write_text(page(section(*range(30, 0, -1)), history(5)), encoding="utf-8")
    tab.show(folded, width=800, media=media)
    shown = tab.evaluate(
        "[...document.querySelectorAll('summary, details tbody tr')].map(each =>"
        " [each.localName, each.checkVisibility() && each.getBoundingClientRect().height > 0])"
    )
    on_paper = media == "print"
    assert [is_shown for name, is_shown in shown if name == "tr"] == [on_paper] * (20 + 5)
    assert [is_shown for name, is_shown in shown if name == "summary"] == [not on_paper] * 2


@needs_browser
@pytest.mark.parametrize(("width", "cells"), [(390, 1), (1280, 2)])
def test_a_phone_shows_no_head_of_nothing(tab, tmp_path, width, cells):
    columns = (ReportColumn("key"), ReportColumn("owner"))
    rows = [{"key": "a", "owner": ""}, {"key": "b", "owner": "x"}]
    gaps = tmp_path / "gaps.html"
    gaps.write_text(page(Section(columns=columns, rows=rows)), encoding="utf-8")
    tab.show(gaps, width=width)
    shown = "[...document.querySelector('tbody tr').cells].filter(each => each.checkVisibility())"
    assert tab.evaluate(f"{shown}.length") == cells


@needs_browser
def test_a_console_that_is_not_silent_is_noticed(tab, tmp_path):
    loud = tmp_path / "loud.html"
    loud.write_text("<img src='missing.png'><script>console.error('x'); null.x</script>")
    tab.show(loud, width=390)
    assert len(tab.complaints) >= 2
    assert len(tab.requests) == 2
