"""Scanning JSON text for strings, and exchanging one without touching another character."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2maint.references.json_text import apply, replace, strings

KEYS = st.sampled_from(["a", "", "a/b", "m~n", "~1", "صورة", 'q"', "\\", "0"]) | st.text(max_size=4)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)
STYLES = st.sampled_from(
    [
        {},
        {"ensure_ascii": False},
        {"indent": 1},
        {"indent": "\t", "ensure_ascii": False},
        {"separators": (",", ":")},
        {"separators": (" , ", "\r\n:")},
    ]
)


def string_values(document: Any, pointer: str = "") -> dict[str, str]:
    """Every string value by JSON pointer, from the decoded document."""
    if isinstance(document, str):
        return {pointer: document}
    if isinstance(document, list):
        members = {str(index): item for index, item in enumerate(document)}
    elif isinstance(document, dict):
        members = {
            name.replace("~", "~0").replace("/", "~1"): item for name, item in document.items()
        }
    else:
        return {}
    found: dict[str, str] = {}
    for name, item in members.items():
        found |= string_values(item, f"{pointer}/{name}")
    return found


def with_value(document: Any, parts: list[str], new: str) -> Any:
    """A copy of the document with the element that `parts` leads to exchanged."""
    if not parts:
        return new
    name = parts[0].replace("~1", "/").replace("~0", "~")
    if isinstance(document, list):
        at = int(name)
        return [*document[:at], with_value(document[at], parts[1:], new), *document[at + 1 :]]
    return {**document, name: with_value(document[name], parts[1:], new)}


@given(DOCUMENTS, STYLES, st.booleans())
def test_every_string_value_is_found_at_its_pointer(document, style, escape_slashes):
    raw = json.dumps(document, **style)
    if escape_slashes:
        raw = raw.replace("/", "\\/")
    tokens = list(strings(raw))
    assert {token.pointer: token.value for token in tokens} == string_values(document)
    assert all(json.loads(raw[token.start : token.end]) == token.value for token in tokens)


@given(DOCUMENTS, STYLES, st.booleans(), st.text(), st.randoms())
def test_replacing_changes_one_element_and_no_other_character(
    document, style, escape_slashes, new, random
):
    raw = json.dumps(document, **style)
    if escape_slashes:
        raw = raw.replace("/", "\\/")
    tokens = list(strings(raw))
    if not tokens:
        return
    token = random.choice(tokens)
    changed = replace(raw, [(token.pointer, token.value, new)])
    assert json.loads(changed) == with_value(document, token.pointer.split("/")[1:], new)
    assert changed[: token.start] == raw[: token.start]
    assert changed[len(changed) - (len(raw) - token.end) :] == raw[token.end :]


@given(st.text(alphabet='[]{},:" \n\\u0d8"aeE+-.123tfnul/', max_size=30) | st.text(max_size=10))
def test_text_is_accepted_exactly_when_json_accepts_it(raw):
    try:
        json.loads(raw)
    except ValueError:
        with pytest.raises(ValueError):
            list(strings(raw))
    else:
        list(strings(raw))


@pytest.mark.parametrize(
    "raw",
    [
        "",
        " ",
        "[",
        "[1,]",
        '{"a":1,}',
        '{"a"}',
        "{1:2}",
        '["a" "b"]',
        "[] []",
        '["a"] x',
        "]",
        '"open',
        '"\\x"',
        '"\\ud83"',
        '"a\nb"',
        "01",
        "[1 2]",
        "{]",
        "[}",
        "\ufeff[]",
        "nul",
        '{"a":}',
        "[,1]",
        "'a'",
    ],
)
def test_text_that_is_not_json_is_refused(raw):
    with pytest.raises(ValueError):
        list(strings(raw))


@pytest.mark.parametrize(
    ("raw", "edit", "expected"),
    [
        pytest.param(
            '[ "https:\\/\\/x\\/a.png" ,"b"]',
            ("/0", "https://x/a.png", "https://y/c.png"),
            '[ "https:\\/\\/y\\/c.png" ,"b"]',
            id="escaped-slashes-stay-escaped",
        ),
        pytest.param(
            '{"صورة":"قديم/a","n":1.10000000000000000000001}',
            ("/صورة", "قديم/a", "جديد"),
            '{"صورة":"جديد","n":1.10000000000000000000001}',
            id="raw-arabic-and-long-decimals-stay",
        ),
        pytest.param(
            '["\\u0642/a"]',
            ("/0", "ق/a", "ق/b"),
            '["\\u0642/b"]',
            id="escaped-arabic-stays-escaped",
        ),
        pytest.param(
            '{"u":"a","u":"b","u":"a"}',
            ("/u", "a", "c"),
            '{"u":"c","u":"b","u":"c"}',
            id="duplicate-keys-with-the-old-value",
        ),
        pytest.param('{"a":"a"}', ("/a", "a", "b"), '{"a":"b"}', id="a-key-is-never-replaced"),
        pytest.param('"a"', ("", "a", "b"), '"b"', id="a-document-that-is-one-string"),
        pytest.param('["\\ud83d\\ude00"]', ("/0", "😀", "x"), '["x"]', id="surrogate-pair"),
        pytest.param('["\\ud83d"]', ("/0", "\ud83d", "x"), '["x"]', id="lone-surrogate"),
        pytest.param('{"":{"~1/":"v"}}', ("//~01~1", "v", "w"), '{"":{"~1/":"w"}}', id="pointer"),
    ],
)
def test_only_the_token_changes(raw, edit, expected):
    assert replace(raw, [edit]) == expected


@pytest.mark.parametrize("edit", [("/1", "a", "b"), ("/0", "x", "b"), ("", "a", "b")])
def test_an_element_that_is_not_there_is_not_replaced(edit):
    assert replace('["a"]', [edit]) is None


def test_edits_that_still_apply_are_made_beside_one_that_does_not():
    edits = [("/0", "a", "A"), ("/1", "gone", "B"), ("/2", "c", "C")]
    assert apply('["a","b","c"]', edits)[:2] == ('["A","b","C"]', [True, False, True])


def test_ten_thousand_levels_are_scanned_without_recursion():
    depth = 10_000
    raw = '[{"a":' * depth + '"leaf"' + "}]" * depth
    (token,) = strings(raw)
    assert token.pointer == "/0/a" * depth
    assert replace(raw, [(token.pointer, "leaf", "new")]) == raw.replace("leaf", "new")
