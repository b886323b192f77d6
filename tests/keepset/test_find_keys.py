import csv
import html
import io
import json
import quopri
import unicodedata
from base64 import b64encode, urlsafe_b64encode
from urllib.parse import quote, quote_plus

import pytest
from django.core import signing
from hypothesis import given, settings
from hypothesis import strategies as st

from r2maint.keepset.find_keys import FoundNames, KeyFilter, KeyFinder
from r2maint.keys import identity


def find(text: str, *keys: str, roots: tuple[str, ...] | None = ("submissions/",)) -> FoundNames:
    return KeyFinder([[identity(key) for key in keys]], roots).find(text)


def finds(text: str, key: str, roots: tuple[str, ...] | None = ("submissions/",)) -> bool:
    found = KeyFinder([[identity(key)]], roots)
    return identity(key) in found.find(text).names | found.certain


ICON = "submissions/QAD-000001/icon.webp"

EMBEDDINGS = {
    "alone": lambda key: key,
    "host": lambda key: f"https://media.example.org/{key}",
    "unknown host": lambda key: f"http://10.0.0.1:9000/some/bucket/{key}",
    "leading slash": lambda key: f"/{key}",
    "quoted": lambda key: f"https://media.example.org/{quote(key)}",
    "quoted with slashes": lambda key: f"https://cdn.example.org/x?url={quote(key, safe='')}",
    "quoted twice": lambda key: (
        f"https://h/?u={quote('https://m/?k=' + quote(key, safe=''), safe='')}"
    ),
    "form": lambda key: f"url={quote_plus('https://media.example.org/' + key)}&next=1",
    "json": lambda key: json.dumps({"a": [f"https://m/{key}", 1]}),
    "json unescaped": lambda key: json.dumps([key], ensure_ascii=False),
    "json with escaped slashes": lambda key: json.dumps([key]).replace("/", "\\/"),
    "json in json": lambda key: json.dumps({"a": json.dumps([key])}),
    "html": lambda key: f'<img src="https://m/{html.escape(key)}" alt="">',
    "html with quoted key": lambda key: f"<a href='/r?to={html.escape(quote(key))}&amp;x=1'>",
    "srcset": lambda key: f'srcset="https://m/{quote(key)} 1x, https://m/{quote(key)}?w=2 2x"',
    "css": lambda key: f"background: url('https://m/{quote(key)}') no-repeat",
    "markdown": lambda key: f"see ![shot](https://m/{quote(key)}) and *more*",
    "arabic prose": lambda key: f"انظر الصورة {key} هنا",
    "arabic comma": lambda key: f"الصورة https://m/{quote(key)}، ثم",
    "glued arabic": lambda key: f"بhttps://m/{quote(key)}و",
    "repr": lambda key: repr([key, "b"]),
    "final dot": lambda key: f"It is at https://m/{quote(key)}.",
    "bold": lambda key: f"**https://m/{quote(key)}**",
    "underlined": lambda key: f"_https://m/{quote(key)}_",
    "fragment": lambda key: f"https://m/{quote(key)}#top",
    "escaped line break": lambda key: json.dumps("a\n" + key + "\nb"),
    "array literal": lambda key: '{"' + key.replace("\\", "\\\\").replace('"', '\\"') + '",b}',
    "decomposed": lambda key: unicodedata.normalize("NFD", f"https://m/{key}"),
    "decomposed and quoted": lambda key: quote(unicodedata.normalize("NFD", f"https://m/{key}")),
    "csv": lambda key: as_csv("a, b", f"https://m/{key}"),
    "sql": lambda key: "INSERT INTO a VALUES ('" + key.replace("'", "''") + "')",
    "composite value": lambda key: '(1,"' + key.replace("\\", "\\\\").replace('"', '""') + '")',
    "hstore": lambda key: '"k"=>"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"',
    "xml": lambda key: f"<loc>https://m/{html.escape(key, quote=False)}</loc>",
    "bbcode": lambda key: f"[img]https://m/{quote(key)}[/img]",
    "python bytes": lambda key: repr(f"https://m/{key}".encode()),
    "mail": lambda key: quopri.encodestring(
        f'<img src="https://m/{quote(key)}">'.encode()
    ).decode(),
    "image resizing": lambda key: f"/cdn-cgi/image/width=80,quality=75/https://m/{quote(key)}",
    "thumbor": lambda key: f"http://t/unsafe/300x200/filters:blur(7)/{quote('https://m/' + key)}",
    "imgproxy": lambda key: f"http://i/x/rs:fit/{as_segment('https://m/' + quote(key))}.png",
    "cells": lambda key: f"one\0https://m/{quote(key)}\0three",
}


def as_csv(*row: str) -> str:
    written = io.StringIO()
    csv.writer(written).writerow(row)
    return written.getvalue()


def as_segment(text: str) -> str:
    """Return a URL as image proxies take it, as one segment of theirs."""
    return urlsafe_b64encode(text.encode()).decode().rstrip("=")


_CHARACTERS = st.characters(exclude_categories=("Cs",), exclude_characters="\0")
NAMES = st.text(_CHARACTERS, min_size=1, max_size=30)
USUAL = st.text(
    "abcXYZ019-_. %20+'&()[]{}<>\"\\,;?#@=:~!*$|^`/é\u0301ع😀\u200f\n", min_size=1, max_size=20
)


@pytest.mark.parametrize("embed", EMBEDDINGS.values(), ids=EMBEDDINGS.keys())
@pytest.mark.parametrize("roots", [("submissions/",), None], ids=["roots", "no roots"])
@settings(max_examples=20, deadline=None)
@given(name=NAMES | USUAL)
def test_a_key_is_found_in_every_embedding(embed, roots, name):
    key = f"submissions/{name}"
    assert finds(embed(key), key, roots)


@pytest.mark.parametrize("embed", EMBEDDINGS.values(), ids=EMBEDDINGS.keys())
@settings(max_examples=20, deadline=None)
@given(key=NAMES | USUAL)
def test_a_key_without_a_directory_is_found(embed, key):
    assert finds(embed(key), key, None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "submissions/QAD-000001/icon.webp2",
        "submissions/QAD-000001/icon",
        "submissions/QAD-000001/",
        "QAD-000001/icon.webp",
        "submissions/qad-000001/icon.webp",
        "submissions%252525252525252525252525FQAD-000001%2Ficon.webp",
    ],
    ids=repr,
)
def test_what_only_resembles_a_key_is_not_found(text):
    assert not finds(text, ICON)


def test_a_directory_is_not_named_by_what_lies_in_it():
    assert not finds("https://m/submissions/1/icon.webp", "submissions/1")


UUID = "submissions/0b7c2a90-55d1-4f2e-9a35-6f0e3f1c77aa"


@pytest.mark.parametrize(
    "text",
    [f"{UUID}{mark}more" for mark in "!$%*+-.:=@^_`|~"]
    + [f"{UUID}.Then we go", f"A={UUID}:{UUID}2", f"https://m/{UUID}@2x.png", f"{UUID}:80/x"],
)
@pytest.mark.parametrize("roots", [("submissions/",), None], ids=["roots", "no roots"])
def test_a_key_without_an_extension_ends_at_any_punctuation(text, roots):
    assert finds(text, UUID, roots)
    assert UUID in find(text, UUID, "submissions/a b.png", roots=roots).names


@pytest.mark.parametrize("text", [f"{UUID}7", f"{UUID}x", f"{UUID}/more", f"x{UUID[:-1]}:more"])
def test_a_key_without_an_extension_is_not_named_by_a_longer_word_or_path(text):
    assert not finds(text, UUID)


def test_a_key_without_an_extension_is_not_meant_where_a_longer_key_is():
    names = ["submissions/1", "submissions/1-small"]
    finder = KeyFinder([names], ("submissions/",), is_key=names.__contains__)
    assert finder.find("submissions/1-small").names == {names[1]}


def test_a_filter_that_is_wrong_about_a_word_loses_no_key_without_an_extension():
    finder = KeyFinder([[UUID]], ("submissions/",))
    finder._filter.update([f"{UUID}:80"])
    assert UUID in finder.find(f"see {UUID}:80 there").names


def test_a_path_longer_than_any_key_is_neither_named_nor_absent():
    path = f"submissions/{'a:' * 1000}b.webp"
    found = find(path, ICON)
    assert (found.names, found.absent) == (set(), set())


def test_a_root_inside_a_path_begins_a_key_too():
    text = "https://m/submissions/old/submissions/QAD-000001/icon.webp"
    assert finds(text, ICON)


def test_of_keys_that_share_a_beginning_each_is_found_where_it_ends():
    keys = ["submissions/a.webp", "submissions/a.webp (1)", "submissions/a.webp (1).bak"]
    assert find("at submissions/a.webp (1), or so", *keys).names >= set(keys[:2])


@pytest.mark.parametrize("end", [".", "_", "-", "ع", ":"])
@pytest.mark.parametrize("roots", [("submissions/",), None], ids=["roots", "no roots"])
def test_a_key_is_found_though_another_ends_like_the_sentence(end, roots):
    finder = KeyFinder([[ICON, ICON + end]], roots)
    assert finder.find(f"at https://m/{ICON}{end}").names == {ICON, ICON + end}


def test_a_key_with_a_raw_space_is_found_between_other_words():
    key = "submissions/01_App Name/main image 1.png"
    assert finds(f"from {key} on", key)


@pytest.mark.parametrize(
    "path",
    [
        "submissions//QAD-000001/icon.webp",
        "submissions/./QAD-000001/././icon.webp",
        "submissions/x/../QAD-000001/icon.webp",
        "submissions/x/y/../../QAD-000001//icon.webp",
        "submissions/x/../QAD-000001//icon%2Ewebp",
    ],
)
def test_a_path_with_detours_is_found(path):
    assert finds(path, ICON)
    assert finds(json.dumps([f"https://m/{path}?a=https://x"]), ICON)
    assert find(path, path).names >= {path}


def test_a_windows_path_is_found():
    assert finds(r"C:\media\submissions\QAD-000001\icon.webp", ICON)


PACKED = {
    "at once": lambda url: as_segment(url),
    "after a byte": lambda url: as_segment(f"a{url}"),
    "after two bytes": lambda url: as_segment(f"ab{url}"),
    "in a path": lambda url: f"https://d1.example.net/{as_segment(json.dumps({'url': url}))}/x?y=z",
    "a cache": lambda url: b64encode(b"\x80\x05\x95\x8c" + url.encode() + b"\x94.").decode(),
    "a session": lambda url: signing.dumps({"upload": url, "a": ["b"] * 90}, compress=True),
    "a short session": lambda url: signing.dumps({"upload": url}, compress=True),
    "twice": lambda url: as_segment(json.dumps(["https://m/submissions/other", "x", url])),
}


@pytest.mark.parametrize("pack", PACKED.values(), ids=PACKED.keys())
@pytest.mark.parametrize(
    "roots", [("submissions/",), None, ("s/",)], ids=["roots", "none", "short"]
)
def test_a_url_that_was_packed_is_found(pack, roots):
    key = "s/QAD-000001/صورة 1.webp" if roots == ("s/",) else "submissions/QAD-000001/صورة 1.webp"
    for url in (f"https://media.example.org/{key}", f"https://m/{quote(key)}"):
        assert finds(f"words {pack(url)} words", key, roots)
        assert not finds(pack(url), key.replace("1.webp", "2.webp"), roots)


@pytest.mark.parametrize(
    "packed", [".eJxxxxxxxxxxxxxxx", ".eJ", "c3VibWlzc2lvbnM", "c3VibWlzc2lvbnMv!", "aHR0c"]
)
def test_what_only_looks_packed_does_no_harm(packed):
    assert find(f"{packed} {ICON}", ICON).names == {ICON}


@pytest.mark.parametrize(
    "others",
    [("old/",), ("s/",), tuple(f"prefix-{number}/" for number in range(40))],
    ids=["short", "shortest", "many"],
)
@pytest.mark.parametrize("before", ["", "a", "ab", "local:///", "s3://bucket/", '{"icon": "'])
def test_further_roots_hide_no_packed_key(others, before):
    roots = ("submissions/", *others)
    for key in ("submissions/1.webp", f"{others[0]}1.webp"):
        # One letter cannot be told from chance: only addresses are looked for below it.
        if not key.startswith("s/"):
            packed = as_segment(f"{before}{key}")
            assert finds(f"words {packed} words", key, roots)
            assert finds(as_segment(f"{before}/{quote(key, safe='')}"), key, roots)
        assert finds(as_segment(f"{before}https://m/{key}"), key, roots)


def test_many_packed_keys_in_one_run_are_all_found():
    keys = [f"submissions/{number}.webp" for number in range(50)]
    assert find(b64encode("x".join(f"/{key}?" for key in keys).encode()).decode(), *keys).names >= {
        *keys
    }


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("https://m/submissions/\u200bQAD-000001/icon.webp\u200b", ICON),
        ("https://m/submissions/QAD-\u00ad000001/icon.webp", ICON),
        (json.dumps(r"C:\media\submissions\QAD-000001\icon.webp"), ICON),
        (json.dumps(json.dumps("submissions\\صورة\\a.webp")), "submissions/صورة/a.webp"),
        ("https://m/submissions/x/%2E%2E/QAD-000001/icon.webp", ICON),
        ("<img src='https://m/submissions/a&nbsp;b.webp'>", "submissions/a b.webp"),
        ('"submissions/QAD-000001/\\\n    icon.webp"', ICON),
        ("https://m/submissions/QAD-00000=\r\n1/icon.webp", ICON),
        ("https://m/submissions/%u0635.webp", "submissions/ص.webp"),
        ("\\xe9 at https://m/submissions/caf\\xe9.webp", "submissions/café.webp"),
    ],
    ids=[
        "zero width",
        "soft hyphen",
        "windows in json",
        "windows twice",
        "dots",
        "no break",
        "line",
        "mail",
        "unicode",
        "javascript",
    ],
)
def test_what_editors_and_programs_make_of_a_key_is_found(text, key):
    assert finds(text, key)
    assert finds(f"x\0{text}\0y", key)


def test_a_file_that_only_a_guess_names_is_not_absent():
    assert find(r"C:\submissions\gone.webp", ICON).absent == set()


def test_a_key_longer_than_a_line_of_cells_does_not_join_two_cells():
    assert not finds("submissions/a\0b.webp", "submissions/a b.webp")


def test_a_named_file_that_is_no_object_is_absent():
    found = find("https://m/submissions/1/gone.webp and https://m/submissions/new", ICON)
    assert found.absent == {"submissions/1/gone.webp"}


@pytest.mark.parametrize(
    "text",
    [
        quote(f"https://m/{ICON}", safe=":"),
        json.dumps(f"see {ICON}."),
        f"<a href='{ICON}?a=1&amp;b'>",
    ],
    ids=["quoted", "json", "html"],
)
def test_a_named_object_is_never_absent_too(text):
    assert find(text, ICON).absent == set()


def test_too_many_keys_that_begin_with_a_space_count_as_named():
    keys = [f" {number}" for number in range(1100)]
    finder = KeyFinder([keys], None)
    assert len(finder.certain) == 100


@given(strings=st.sets(st.text(), max_size=50))
def test_the_filter_holds_what_it_was_given(strings):
    held = KeyFilter(10)
    held.update(strings)
    assert all(string in held for string in strings)


def test_a_filter_that_is_wrong_about_a_word_loses_no_key_at_its_beginning():
    # About every 250th of these words seems to be a key.
    words = [f"submissions/1/a.webp-{number}" for number in range(3000)]
    names = ["submissions/1/a.webp"]
    finder = KeyFinder([names], ("submissions/",), expected=1)
    for number in range(3000):
        finder._filter.update([f"x{number}"])
    for word in words:
        assert names[0] in finder.find(f"see {word} there").names


def test_a_longer_key_is_meant_where_there_is_one():
    names = ["submissions/1/a.webp", "submissions/1/a.webp-old"]
    finder = KeyFinder([names], ("submissions/",), is_key=names.__contains__)
    assert finder.find("submissions/1/a.webp-old").names == {names[1]}


@given(
    st.lists(NAMES, min_size=1, max_size=4),
    st.lists(st.tuples(NAMES, st.sampled_from(sorted(EMBEDDINGS))), max_size=4),
    st.integers(0, 40),
)
@settings(max_examples=60, deadline=None)
def test_passing_over_what_names_no_key_misses_none(keys, texts, length):
    keys = [f"submissions/{'x' * length}{key}" for key in keys]
    text = " ".join(EMBEDDINGS[form](key) for key, form in texts)
    text += " ".join(EMBEDDINGS[form](key) for key, (_, form) in zip(keys, texts, strict=False))
    batch = [identity(key) for key in keys]
    slow = KeyFinder([batch], ("submissions/",)).find(text).names
    assert KeyFinder([batch], ("submissions/",), absent=False).find(text).names == slow
