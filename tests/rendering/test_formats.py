"""One report value in every format."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from xml.etree import ElementTree

import pytest
from prometheus_client.parser import text_string_to_metric_families

from r2maint.rendering import (
    Case,
    CaseResult,
    Metric,
    Refusal,
    Report,
    ReportColumn,
    Section,
    Suite,
    Unit,
    format_bytes,
    format_count,
    format_money,
    format_usd,
    write,
)
from r2maint.rendering.as_text import display_width
from r2maint.rendering.output import Encodable, open_replacing, require_writable
from tests.commands import CONTRACT

START = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
REFERENCE = {
    "database": "default",
    "model": "appdirectory.AppSubmission",
    "pk": "12",
    "field": "screenshots_ar",
    "path": "/3",
    "value": "https://media.example.org/a.png",
}


class Judgement(StrEnum):
    ORPHAN = "orphan"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def report(**values) -> Report:
    defaults = {
        "command": "purge_orphans",
        "bucket": "quran-apps",
        "started_at": START,
        "finished_at": START + timedelta(seconds=2),
    }
    return Report(**(defaults | values))


def written(format: str, **values) -> str:
    out = io.StringIO()
    write(report(**values), format, out)
    return out.getvalue()


# Words


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (3_565_158, "3.4 MiB"),
        (1024**2 - 1, "1.0 MiB"),
        (1024**3, "1.0 GiB"),
        (5 * 1024**4, "5.0 TiB"),
        (2_000 * 1024**6, "2,000.0 EiB"),
        (-2048, "-2.0 KiB"),
    ],
)
def test_sizes_are_told_in_binary_units(size, text):
    assert format_bytes(size) == text


def test_counts_agree_with_their_noun():
    assert format_count(1, "file") == "1 file"
    assert format_count(0, "file") == "0 files"
    assert format_count(1234, "entry", "entries") == "1,234 entries"


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("0", "0.00"),
        ("0.000", "0.00"),
        ("14.85", "14.85"),
        ("104.4", "104.40"),
        ("0.015", "0.015"),
        ("1E+3", "1000.00"),
        ("-0.0300", "-0.03"),
    ],
)
def test_money_is_exact_with_two_decimals_or_more(amount, text):
    assert format_money(Decimal(amount)) == text


def test_dollars_are_grouped_and_signed():
    assert format_usd(Decimal("1234.5")) == "$1,234.50"
    assert format_usd("-0.015") == "-$0.015"


# JSON


def test_json_is_one_object_with_the_keys_of_the_contract_in_order():
    document = json.loads(written("json"))
    assert [name for name in document if name in CONTRACT] == CONTRACT
    assert document["schema"] == 1
    assert document["run_id"] is None
    assert document["error"] is None
    assert document["items"] == []


def test_json_writes_money_as_strings_and_times_in_utc():
    cairo = timezone(timedelta(hours=2))
    document = json.loads(
        written(
            "json",
            summary={"bytes": 2**40, "saved_usd_per_month": Decimal("0.3")},
            items=[
                {"modified_at": datetime(2026, 1, 1, 1, 30, tzinfo=cairo), "v": Judgement.ORPHAN}
            ],
            extra={"cost": {"total_usd": Decimal("104.4")}},
        )
    )
    assert document["summary"] == {"bytes": 2**40, "saved_usd_per_month": "0.30"}
    assert document["items"] == [{"modified_at": "2025-12-31T23:30:00+00:00", "v": "orphan"}]
    assert document["cost"] == {"total_usd": "104.40"}
    assert document["started_at"] == "2026-11-23T12:00:00+00:00"


def test_json_refuses_a_time_without_a_zone():
    with pytest.raises(ValueError, match="without a zone"):
        written("json", items=[{"at": datetime(2026, 1, 1)}])  # noqa: DTZ001


def test_json_lists_refusals_with_their_override():
    refusal = Refusal(brake="ratio", message="Too many.", override="--override ratio")
    document = json.loads(written("json", refusals=(refusal,)))
    assert document["refusals"] == [
        {"brake": "ratio", "message": "Too many.", "override": "--override ratio"}
    ]


@pytest.mark.parametrize("key", ["تطبيق القرآن.png", "\udc80.png", 'a"b\\c\n', "\u2028", "😀"])
@pytest.mark.parametrize("format", ["json", "jsonl"])
def test_every_key_survives_json_in_plain_ascii(key, format):
    text = written(format, items=[{"key": key}])
    text.encode("ascii")
    first = json.loads(text)["items"][0] if format == "json" else json.loads(text.split("\n")[0])
    assert first["key"] == key


def test_jsonl_is_one_item_a_line_and_ends_with_the_summary():
    lines = written("jsonl", items=[{"key": "a"}, {"key": "b"}], summary={"objects": 2})
    *items, last = map(json.loads, lines.splitlines())
    assert items == [{"type": "item", "key": "a"}, {"type": "item", "key": "b"}]
    assert last["type"] == "summary"
    assert last["summary"] == {"objects": 2}
    assert "items" not in last
    assert set(CONTRACT) - {"items"} <= last.keys()


class Many:
    """Items that exist only while they are read."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __iter__(self) -> Iterator[dict[str, object]]:
        for number in range(self.count):
            yield {"key": f"submissions/{number:09}.png", "bytes": number}


class Nowhere:
    """Takes a report and keeps nothing."""

    def write(self, text: str, /) -> None:
        pass

    def isatty(self) -> bool:
        return False


@pytest.mark.thorough
@pytest.mark.parametrize("format", ["text", "json", "jsonl", "csv"])
def test_items_stream_so_memory_stays_flat(format):
    write(report(items=Many(10)), format, Nowhere())
    tracemalloc.start()
    write(report(items=Many(20_000)), format, Nowhere())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 500_000


# CSV


def rows_of(**values) -> list[list[str]]:
    return list(csv.reader(io.StringIO(written("csv", **values), newline="")))


def test_csv_has_a_row_per_item_under_dotted_headings():
    columns = (
        ReportColumn("key"),
        ReportColumn("reference.model"),
        ReportColumn("reference.pk"),
        ReportColumn("bytes"),
    )
    item = {"key": "a,b", "reference": REFERENCE, "bytes": 1536}
    assert rows_of(columns=columns, items=[item, {"key": "c", "reference": None}]) == [
        ["key", "reference.model", "reference.pk", "bytes"],
        ["a,b", "appdirectory.AppSubmission", "12", "1536"],
        ["c", "", "", ""],
    ]


def test_csv_shows_a_list_of_references_in_short():
    item = {"references": [REFERENCE, {**REFERENCE, "pk": "13", "path": ""}]}
    assert rows_of(items=[item])[1] == [
        "appdirectory.AppSubmission 12 screenshots_ar/3;"
        " appdirectory.AppSubmission 13 screenshots_ar"
    ]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "＝"])
def test_csv_runs_no_formula_in_a_spreadsheet(start):
    assert rows_of(items=[{"key": f"{start}cmd|'/c calc'!A1"}])[1][0].startswith("'" + start)


def test_csv_leaves_negative_numbers_as_numbers():
    assert rows_of(items=[{"saved_bytes": -5, "ok": True}])[1] == ["-5", "yes"]


def test_csv_without_items_still_heads_its_columns():
    assert written("csv", columns=(ReportColumn("key"), ReportColumn("bytes"))) == "key,bytes\r\n"


# Text


def test_text_aligns_columns_and_tells_sizes():
    columns = (
        ReportColumn("key"),
        ReportColumn("bytes", "Size", Unit.BYTES),
        ReportColumn("sha256", in_text=False),
    )
    text = written(
        "text",
        headline="purge_orphans: a plan.",
        columns=columns,
        items=[{"key": "a.png", "bytes": 3_565_158}, {"key": "long/name.png", "bytes": 10}],
        summary={"objects": 1234, "orphan_bytes": 2048, "outcomes": {"ok": 3, "missing": 1}},
    )
    assert text == (
        "purge_orphans: a plan.\n"
        "\n"
        "Key               Size\n"
        "a.png          3.4 MiB\n"
        "long/name.png     10 B\n"
        "\n"
        "objects       1,234\n"
        "orphan bytes  2.0 KiB\n"
        "outcomes      ok 3, missing 1\n"
    )


@pytest.mark.parametrize(
    ("count", "more"), [(19, []), (20, []), (21, ["… and 1 more"]), (1500, ["… and 1,480 more"])]
)
@pytest.mark.parametrize("is_sized", [True, False], ids=["sized", "streamed"])
def test_text_shows_twenty_rows_and_counts_the_rest(count, more, is_sized):
    items = list(Many(count)) if is_sized else Many(count)
    heading, *lines = written("text", items=items).splitlines()
    assert heading.split() == ["Key", "Bytes"]
    assert [line for line in lines if line.startswith("…")] == more
    assert len(lines) == min(count, 20) + len(more)


def test_text_aligns_arabic_and_wide_letters_by_the_cells_they_take():
    items = [{"key": key, "n": "|"} for key in ("abc", "قُرآن", "漢字", "e\u0301")]
    lines = written(
        "text", items=items, columns=(ReportColumn("key"), ReportColumn("n"))
    ).splitlines()[1:]
    assert {display_width(line.partition("|")[0]) for line in lines} == {6}


def test_marks_for_right_to_left_text_go_to_terminals_only():
    values = report(items=[{"key": "قرآن.png", "n": 12}])
    terminal = Terminal()
    write(values, "text", terminal)
    assert "\u200e" in terminal.getvalue()
    assert "\u200e" not in written("text", items=values.items)


@pytest.mark.parametrize("sly", ["\x1b[2J", "a\nb", "\u202egnp.exe", "\x9b", "\udc80"])
def test_text_lets_nothing_through_that_moves_the_terminal(sly):
    text = written("text", items=[{"key": sly}], headline=sly, notes=(sly,))
    assert sly not in text
    text.encode("utf-8")


def test_text_prints_a_key_whole_however_long():
    key = "submissions/" + "x" * 900
    assert key in written("text", items=[{"key": key}, {"key": "b"}])


def test_text_tells_brakes_their_override_and_notes():
    refusal = Refusal(brake="ratio", message="40% are orphans.", override="--override ratio")
    text = written("text", refusals=(refusal,), notes=("Two rows changed.",))
    assert "Refused (ratio): 40% are orphans.\n  To go on all the same: --override ratio" in text
    assert "Note: Two rows changed." in text


def test_text_shows_sections_in_place_of_items():
    section = Section(title="By type", columns=(ReportColumn("name"),), rows=[{"name": "webp"}])
    text = written("text", sections=(section,), items=[{"name": "hidden"}])
    assert "By type\nName\nwebp" in text
    assert "hidden" not in text


def test_text_shows_the_lead_of_a_section_below_its_title():
    section = Section(title="alias: 1", lead="Rewrite it.", rows=[{"key": "a"}])
    assert written("text", sections=(section,)).startswith("alias: 1\nRewrite it.\nKey\na\n")


def drawn(out: io.StringIO, *sizes: int, name: str = "a/") -> list[str]:
    """Return the lines of a table whose sizes are drawn."""
    columns = (ReportColumn("name"), ReportColumn("bytes", "Size", Unit.BYTES))
    rows = [{"name": name, "bytes": size} for size in sizes]
    write(report(sections=(Section(columns=columns, rows=rows, drawn="bytes"),)), "text", out)
    return out.getvalue().splitlines()[1:]


def test_text_draws_bars_as_long_as_the_amounts():
    lines = drawn(io.StringIO(), 2048, 1024, 1, 0)
    assert [line.split("  ")[-1].strip() for line in lines] == ["█" * 30, "█" * 15, "▏", "0 B"]


def test_text_draws_no_bars_of_nothing():
    assert drawn(io.StringIO(), 0, 0) == ["a/     0 B"] * 2


@pytest.mark.parametrize(("encoding", "bar"), [("ascii", "#"), ("latin-1", "#"), ("utf-8", "█")])
def test_bars_are_plain_where_the_encoding_has_no_blocks(encoding, bar):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="")
    columns = (ReportColumn("name"), ReportColumn("bytes", "Size", Unit.BYTES))
    rows = [{"name": "a/", "bytes": 2048}, {"name": "b/", "bytes": 1}]
    section = Section(columns=columns, rows=rows, drawn="bytes")
    write(report(sections=(section,)), "text", Encodable(stream))
    stream.flush()
    text = stream.buffer.getvalue().decode(encoding)
    assert bar * 30 in text
    assert "\\u" not in text


@pytest.mark.parametrize(("columns", "length"), [("30", 15), ("200", 30), ("16", 0)])
def test_bars_take_the_room_that_a_terminal_has(monkeypatch, columns, length):
    monkeypatch.setenv("COLUMNS", columns)
    line = drawn(Terminal(), 2048)[0]
    assert line.count("█") == length
    assert display_width(line) <= int(columns)


def test_a_cell_that_pushes_its_row_aside_leaves_no_room_for_a_bar():
    lines = drawn(io.StringIO(), 2048, name="k" * 90)
    assert lines == ["k" * 90 + "  2.0 KiB"]


def test_text_leaves_out_what_only_html_has_room_for():
    section = Section(columns=(ReportColumn("day"),), rows=[{"day": "2026-11-01"}], in_text=False)
    assert "2026-11-01" not in written("text", sections=(section,))


# Prometheus


def parsed(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Return the samples of each metric, as Prometheus' own parser reads them."""
    families = list(text_string_to_metric_families(text))
    assert all(family.type == "gauge" and family.documentation for family in families)
    return {
        family.name: [(sample.labels, sample.value) for sample in family.samples]
        for family in families
    }


@pytest.mark.parametrize(
    "name", ['"', "\\", "a\nb", "\\n", '{x="1"}', "قرآن", "a\u202eb", "\r\x00", "a,b} 1", " "]
)
def test_prometheus_labels_hold_any_text(name):
    metric = Metric(name="r2maint_x_bytes", help="A\nb\\c.", samples=(({"name": name}, 2),))
    assert parsed(written("prometheus", metrics=(metric,))) == {
        "r2maint_x_bytes": [({"name": name}, 2)]
    }


def test_prometheus_tells_a_number_as_it_is():
    values = (0, 12_345_678_901_234_567, Decimal("0.00000001"), Decimal("14.850"), 1.5)
    samples = tuple(({"at": str(at)}, value) for at, value in enumerate(values))
    text = written("prometheus", metrics=(Metric(name="r2maint_x", help="X.", samples=samples),))
    assert [line.split()[-1] for line in text.splitlines()[2:]] == [
        *("0", "12345678901234567", "0.00000001", "14.850", "1.5")
    ]


def test_prometheus_stays_readable_in_an_encoding_that_lacks_letters():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", newline="")
    metric = Metric(name="r2maint_x", help="X.", samples=(({"name": "قرآن"}, 1),))
    write(report(metrics=(metric,)), "prometheus", Encodable(stream))
    stream.flush()
    (labels, _) = parsed(stream.buffer.getvalue().decode())["r2maint_x"][0]
    assert labels == {"name": "\\u0642\\u0631\\u0622\\u0646"}


def test_text_tells_what_is_unknown_apart_from_zero():
    text = written("text", summary={"orphan_bytes": None, "bytes": 0, "saved_usd": Decimal(0)})
    assert text.splitlines() == ["orphan bytes  –", "bytes         0 B", "saved USD     $0.00"]


def test_text_leaves_out_columns_that_say_nothing():
    columns = (
        ReportColumn("key", "Key"),
        ReportColumn("reason", "Reason"),
        ReportColumn("size", "Size"),
    )
    items = [{"key": "a", "reason": None, "size": 0}, {"key": "b", "reason": "", "size": None}]
    assert written("text", columns=columns, items=items).splitlines()[0] == "Key  Size"


def test_text_leaves_out_what_a_count_by_kind_has_none_of():
    kinds = {"ok": 1200, "missing": 0, "names": {"a": 1, "b": 0}}
    assert written("text", summary={"outcomes": kinds}) == "outcomes  ok 1,200, names (a 1)\n"
    assert written("text", summary={"skipped": {"gone": 0}}) == "skipped  none\n"


def test_text_tells_times_with_their_zone_and_likeness_with_four_digits():
    columns = (ReportColumn("at", "At"), ReportColumn("ssim", "SSIM", Unit.RATIO))
    text = written("text", columns=columns, items=[{"at": START, "ssim": 1.0}])
    assert text.splitlines()[1] == "2026-11-23 12:00:00 UTC  1.0000"


# JUnit


def suite(*cases: Case, name: str = "missing") -> Suite:
    counts = {verdict: sum(case.verdict is verdict for case in cases) for verdict in CaseResult}
    return Suite(name=name, cases=cases, counts=counts)


def test_junit_has_the_attributes_that_ci_servers_read():
    failed = Case(
        place="app.Model",
        name="1 url",
        verdict=CaseResult.FAILED,
        kind="missing",
        message="gone",
        text="key: a\nurl: b",
    )
    skipped = Case(place="app.Model", name="2 url", verdict=CaseResult.SKIPPED, message="later")
    passed = Case(place="app.Model", name="3 url", text="well again")
    text = written("junit", suites=(suite(failed, skipped), suite(passed, name="ok")))
    assert text == (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<testsuites name="purge_orphans, bucket quran-apps"'
        ' tests="3" failures="1" errors="0" time="2.000">\n'
        '  <testsuite name="missing" tests="2" failures="1" errors="0" skipped="1" time="0"'
        ' timestamp="2026-11-23T12:00:00">\n'
        '    <testcase classname="app.Model" name="1 url" time="0">'
        '<failure type="missing" message="gone">key: a\nurl: b</failure></testcase>\n'
        '    <testcase classname="app.Model" name="2 url" time="0">'
        '<skipped message="later"/></testcase>\n'
        "  </testsuite>\n"
        '  <testsuite name="ok" tests="1" failures="0" errors="0" skipped="0" time="0"'
        ' timestamp="2026-11-23T12:00:00">\n'
        '    <testcase classname="app.Model" name="3 url" time="0">'
        "<system-out>well again</system-out></testcase>\n"
        "  </testsuite>\n"
        "</testsuites>\n"
    )


@pytest.mark.parametrize(
    ("sly", "shown"),
    [
        ("\x00\x1b[2J", "\\x00\\x1b[2J"),
        ("\udc80", "\\udc80"),
        ("\ufffe\uffff", "\\ufffe\\uffff"),
        ("]]>", "]]>"),
        ("<a b=\"c\" d='e'>&amp;", "<a b=\"c\" d='e'>&amp;"),
        ("قرآن 😀", "قرآن 😀"),
    ],
)
def test_junit_holds_any_text_and_stays_xml(sly, shown):
    case = Case(place=sly, name=sly, verdict=CaseResult.FAILED, kind=sly, message=sly, text=sly)
    text = written("junit", bucket=sly, suites=(suite(case, name=sly),))
    text.encode("ascii")
    root = ElementTree.fromstring(text)
    (failure,) = root[0][0]
    assert root.get("name") == f"purge_orphans, bucket {shown}"
    assert root[0].get("name") == root[0][0].get("classname") == failure.text == shown
    assert failure.get("message") == shown


def test_junit_streams_its_cases_so_memory_stays_flat():
    def many(count: int) -> Suite:
        cases = (Case(place="app.Model", name=f"{number:09}") for number in range(count))
        return Suite(name="ok", cases=cases, counts={CaseResult.PASSED: count})

    write(report(suites=(many(10),)), "junit", Nowhere())
    tracemalloc.start()
    write(report(suites=(many(20_000),)), "junit", Nowhere())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 500_000


# Output


def test_a_stream_that_lacks_a_letter_gets_an_escape():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    write(report(items=[{"key": "قرآن"}] * 25), "text", Encodable(stream))
    stream.flush()
    assert b"\\u0642" in raw.getvalue()


def test_a_file_is_replaced_only_by_a_whole_report(tmp_path):
    path = tmp_path / "report.json"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), open_replacing(path) as out:
        out.write("half" * (1 // 0))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with open_replacing(path) as out:
        out.write("new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_is_followed_and_stays_a_link(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    link.symlink_to(target)
    with open_replacing(link) as out:
        out.write("new")
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_a_device_is_written_to_not_replaced():
    with open_replacing(Path("/dev/null")) as out:
        out.write("gone")
    assert Path("/dev/null").is_char_device()


def test_an_impossible_output_is_known_before_the_work(tmp_path):
    with pytest.raises(IsADirectoryError):
        require_writable(tmp_path)
    with pytest.raises(FileNotFoundError):
        require_writable(tmp_path / "absent" / "report.json")
    require_writable(tmp_path / "report.json")
